//! Our configurations are those that dockerd 20.10 writes for the same flags, field by field, but for the differences
//! named in [`known_differences`]. Recorded by `fixtures/make_dockerd_configs.sh`.

use serde_json::{Map, Value, json};
use strata_runtime::spec::{Network, SeccompProfile, SpecBuilder};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn recorded(case: &str) -> Value {
    let all: Map<String, Value> =
        serde_json::from_str(include_str!("fixtures/dockerd-20.10.json")).expect("the fixture is JSON");
    let mut config = all["default"].clone();
    if case != "default" {
        let everyone = config["linux"]["seccomp"]["syscalls"][0].clone();
        apply(&mut config, &all[case]);
        if let Some(first) = config.pointer_mut("/linux/seccomp/syscalls/0") {
            *first = everyone;
        }
    }
    config
}

/// The fixture keeps of a case what differs from the default; `null` is what is not there.
fn apply(to: &mut Value, change: &Value) {
    match (to, change) {
        (Value::Object(to), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    to.remove(key);
                } else {
                    apply(to.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (to, change) => *to = change.clone(),
    }
}

/// Turns dockerd's configuration into what ours is meant to be.
fn known_differences(mut config: Value) -> Value {
    config["ociVersion"] = json!("1.0.2");
    config["linux"]["cgroupsPath"] = json!("/strata/ID");
    // dockerd spells out limits that are none.
    let resources = config["linux"]["resources"].as_object_mut().expect("resources");
    for empty in ["memory", "cpu", "blockIO"] {
        resources.remove(empty).expect("recorded");
    }
    // dockerd names the host's network namespace; staying in it is to name none.
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    namespaces.retain(|namespace| namespace["path"].is_null());
    config
}

/// What crate `container` adds for each container.
fn files(builder: SpecBuilder, readonly: bool) -> SpecBuilder {
    ["resolv.conf", "hostname", "hosts"]
        .into_iter()
        .fold(builder, |builder, name| builder.bind(format!("/container/{name}"), format!("/etc/{name}"), readonly))
}

fn builder() -> SpecBuilder {
    SpecBuilder::new("ID", "/rootfs").args(["/bin/sleep", "1000"]).env([PATH, "HOSTNAME=ID"]).user(0, 0, &[0, 10])
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn ours(case: &str) -> SpecBuilder {
    if let Some(added) = case.strip_prefix("cap ") {
        return files(builder().capabilities(&names(&[added]), &[]), false);
    }
    if let Some(only) = case.strip_prefix("only ") {
        return files(builder().capabilities(&names(&[only]), &names(&["ALL"])), false);
    }
    match case {
        "default" => files(builder(), false),
        "host" => files(builder().network(Network::Host).hostname("h1").env([PATH, "HOSTNAME=h1"]), false),
        "terminal" => files(builder().terminal(true).env([PATH, "HOSTNAME=ID", "TERM=xterm"]), false),
        "user" => {
            let changed = builder().user(1000, 1000, &[1000]).cwd("/tmp").hostname("h1");
            files(changed.env([PATH, "HOSTNAME=h1", "A=b"]), false)
        }
        "readonly" => {
            let mounted = builder().readonly(true).bind("/source/img/etc", "/mnt", true).tmpfs("/run", &["size=64m"]);
            files(mounted, true)
        }
        "unconfined" => files(builder().seccomp(SeccompProfile::Unconfined), false),
        "capdropall" => files(builder().capabilities(&[], &names(&["ALL"])), false),
        case => panic!("no flags for {case}"),
    }
}

#[test]
fn configurations_are_dockerds() {
    if std::env::consts::ARCH != "x86_64" || std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        strata_testkit::require::report_skip("recorded on amd64 with cgroup version 1");
        return;
    }
    let all: Map<String, Value> =
        serde_json::from_str(include_str!("fixtures/dockerd-20.10.json")).expect("the fixture is JSON");
    assert!(all.len() >= 18, "the fixture holds {} cases", all.len());
    for case in all.keys() {
        let spec = ours(case).build().expect("known capabilities");
        let ours = serde_json::to_value(&spec).expect("plain data");
        let theirs = known_differences(recorded(case));
        for key in theirs.as_object().expect("an object").keys() {
            assert_eq!(ours[key], theirs[key], "{case}: {key}");
        }
        assert_eq!(ours, theirs, "{case}");
    }
}

#[test]
fn a_configuration_survives_being_read() {
    let spec = ours("default").build().expect("known capabilities");
    let text = serde_json::to_string(&spec).expect("plain data");
    assert_eq!(serde_json::from_str::<strata_runtime::Spec>(&text).expect("our own text"), spec);
    assert_eq!(text, serde_json::to_string(&ours("default").build().expect("again")).expect("plain data"));
}
