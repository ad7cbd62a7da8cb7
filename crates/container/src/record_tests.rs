use std::{fs, path::PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::HostConfig;

fn fixtures() -> Vec<PathBuf> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/records");
    let all: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    assert!(all.len() > 10, "the fixtures are there");
    all
}

#[test]
fn what_dockerd_wrote_is_written_back_byte_for_byte() {
    for dir in fixtures() {
        let bytes = fs::read(dir.join("config.v2.json")).unwrap();
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&record.to_bytes()), String::from_utf8_lossy(&bytes), "{dir:?}");
        assert!(record.extra.is_empty() && record.state.extra.is_empty(), "{dir:?}: no field is unknown");
        assert!(record.network_settings.extra.is_empty(), "{dir:?}");

        let bytes = fs::read(dir.join("hostconfig.json")).unwrap();
        let host = HostConfig::parse(&bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&host.to_bytes()), String::from_utf8_lossy(&bytes), "{dir:?}");
        assert!(host.extra.is_empty(), "{dir:?}: no field is unknown");
    }
}

#[test]
fn fields_of_other_versions_survive() {
    let text = br#"{"ID":"x","Future":{"b":1,"a":null},"State":{"New":[1.5]},"MountPoints":{"/m":{"Odd":true}}}"#;
    let again: Value = serde_json::from_slice(&Record::parse(text).unwrap().to_bytes()).unwrap();
    assert_eq!(again["Future"], serde_json::json!({"b": 1, "a": null}));
    assert_eq!(again["State"]["New"], serde_json::json!([1.5]));
    assert_eq!(again["MountPoints"]["/m"]["Odd"], true);
    let host = HostConfig::parse(br#"{"Annotations":{"a":"b"},"ConsoleSize":null}"#).unwrap();
    let again: Value = serde_json::from_slice(&host.to_bytes()).unwrap();
    assert_eq!(again["Annotations"]["a"], "b");
}

#[test]
fn damaged_documents_are_refused() {
    for text in ["", "{", "null", "[]", r#"{"State":3}"#, r#"{"Args":"x"}"#, "{}{}"] {
        assert!(Record::parse(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn a_state_tells_its_status() {
    let mut state = State::created();
    assert_eq!(state.status(), Status::Created);
    let now = time::parse("2024-01-02T03:04:05Z").unwrap();
    state.set_running(7, now);
    assert_eq!((state.status(), state.pid, state.started()), (Status::Running, 7, Some(now)));
    state.paused = true;
    assert_eq!(state.status(), Status::Paused);
    state.set_exited(3, now);
    assert_eq!((state.status(), state.pid, state.exit_code), (Status::Exited, 0, 3));
    state.dead = true;
    assert_eq!(state.status(), Status::Dead);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_survives(name in any::<String>(), args in prop::collection::vec(any::<String>(), 0..4)) {
        let id = ContainerId::from_random([7; 32]);
        let mut record = Record::new(&id, ImageId::new(strata_spec::Digest::sha256("x")), "overlay2");
        record.name = name;
        record.args = args;
        prop_assert_eq!(Record::parse(&record.to_bytes()).unwrap(), record);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Record::parse(&bytes);
        let _ = HostConfig::parse(&bytes);
    }
}
