use std::{fs, path::Path, sync::Arc};

use serde_json::Value;
use strata_durable::Journal;
use strata_graphdriver::Access;

use super::*;
use crate::{Config, Record};

const RECORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/records");

/// The store that the fixtures say they come from; nothing of it is there.
fn store(scratch: &Path) -> Store {
    let driver = strata_graphdriver::open("overlay2", scratch, strata_graphdriver::Access::ReadWrite).unwrap();
    let journal = Journal::open(&scratch.join("strata/journal")).unwrap();
    let locks = scratch.join("strata/locks");
    let layers = strata_layer::Config { root: scratch, driver, journal: journal.clone(), locks: &locks };
    Store::open(Config {
        root: Path::new("/tmp/strata-records/root"),
        layers: vec![Arc::new(strata_layer::Store::open(layers).unwrap())],
        only: None,
        journal,
        locks: &locks,
        exec_root: scratch.join("exec"),
        access: Access::ReadOnly,
    })
    .unwrap()
}

fn fixtures() -> Vec<(String, Container, Value)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(RECORDS).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.is_dir() {
            continue;
        }
        let read = |file: &str| fs::read(dir.join(file)).unwrap();
        let record = Record::parse(&read("config.v2.json")).unwrap();
        let host = HostConfig::parse(&read("hostconfig.json")).unwrap();
        let container = Container { id: record.id.parse().unwrap(), record, host };
        let inspect = serde_json::from_slice(&read("inspect.json")).unwrap();
        all.push((dir.file_name().unwrap().to_str().unwrap().to_owned(), container, inspect));
    }
    all
}

#[test]
fn inspect_shows_what_dockerd_showed_field_by_field() {
    let scratch = strata_testkit::scratch();
    let store = store(scratch.path());
    for (name, container, mut theirs) in fixtures() {
        let data = serde_json::from_value(theirs["GraphDriver"]["Data"].clone()).unwrap();
        let mut ours = serde_json::to_value(store.inspect_record(&container, data)).unwrap();
        // dockerd shows mounts in no order.
        theirs["Mounts"].as_array_mut().unwrap().sort_by_key(|mount| mount["Destination"].as_str().unwrap().to_owned());
        // What changed in dockerd's memory after it wrote the file, or before.
        for value in [&mut ours, &mut theirs] {
            value["NetworkSettings"]["Networks"]["none"]["EndpointID"] = "".into();
            value["State"]["Health"] = Value::Null;
        }
        // As text: the order of the fields counts too.
        assert_eq!(
            serde_json::to_string_pretty(&ours).unwrap(),
            serde_json::to_string_pretty(&theirs).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn lists_show_what_dockerd_listed() {
    let scratch = strata_testkit::scratch();
    let store = store(scratch.path());
    let list: Vec<Value> = serde_json::from_slice(&fs::read(Path::new(RECORDS).join("list.json")).unwrap()).unwrap();
    let fixtures = fixtures();
    assert_eq!(list.len(), fixtures.len());
    for theirs in list {
        let (_, container, _) = fixtures.iter().find(|(_, c, _)| theirs["Id"] == c.id.as_str()).unwrap();
        let now = strata_spec::time::parse("2026-11-22T03:21:05Z").unwrap();
        let summary = store.summary(container, now, &|_| container.record.image_id());
        assert_eq!(theirs["Names"][0], format!("/{}", summary.name));
        assert_eq!(theirs["Image"], summary.image);
        assert_eq!(theirs["ImageID"], summary.image_id.unwrap().to_string());
        assert_eq!(theirs["Command"], summary.command);
        assert_eq!(theirs["Created"], summary.created.unwrap().as_second());
        assert_eq!(theirs["State"], summary.status.as_str());
        assert_eq!(theirs["Labels"], serde_json::to_value(&summary.labels).unwrap());
        let words = |text: &str| text.split(' ').take(1).collect::<String>();
        assert_eq!(words(theirs["Status"].as_str().unwrap()), words(&summary.status_text));
        let renamed = store.summary(container, now, &|_| None);
        assert_eq!(theirs["ImageID"], renamed.image, "a name that means another image is not shown");
    }
}
