//! What lists of containers and images select: each of Docker's filters, and the values that it refuses.

mod common;

use std::fs;

use common::{image, open, options};
use serde_json::{Value, json};
use strata_container::Request;
use strata_engine::{ContainerQuery, Filters, ImageQuery, Purpose, Root};
use strata_spec::ContainerId;
use strata_testkit::{require, scratch};

fn filters(texts: &[&str]) -> Filters {
    Filters::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).expect("filters that are right")
}

/// Makes a container and lets `change` write to its record and its host config, as another engine would have.
fn container(root: &Root, request: Request, change: impl FnOnce(&mut Value, &mut Value)) -> ContainerId {
    let request = Request { image: "one".into(), cmd: vec!["true".into()], ..request };
    let id = root.create_container(&request).expect("a container").container.id;
    let dir = root.containers().layout().container(&id);
    let read = |path| {
        let bytes = fs::read(path).expect("the record is readable");
        serde_json::from_slice::<Value>(&bytes).expect("the record is JSON")
    };
    let (mut record, mut host) = (read(dir.record()), read(dir.host_config()));
    change(&mut record, &mut host);
    fs::write(dir.record(), record.to_string()).expect("the record is written");
    fs::write(dir.host_config(), host.to_string()).expect("the record is written");
    id
}

fn named(name: &str) -> Request {
    Request { name: Some(name.to_owned()), ..Request::default() }
}

#[test]
fn containers_are_selected_by_every_filter_of_dockers() {
    let Some(()) = require::overlay() else { return };
    let dir = scratch();
    let root = open(dir.path());
    image(&root, "a", &["one"]);
    let web = container(&root, Request { labels: vec!["a=b".into()], ..named("web") }, |record, host| {
        record["State"]["Running"] = true.into();
        record["State"]["StartedAt"] = "2026-01-01T00:00:00Z".into();
        record["State"]["Health"] = json!({ "Status": "healthy", "FailingStreak": 0, "Log": [] });
        record["Config"]["ExposedPorts"] = json!({ "80/tcp": {}, "53/udp": {} });
        record["NetworkSettings"]["Networks"] = json!({ "bridge": { "NetworkID": "abc123" } });
        host["PortBindings"] = json!({ "80/tcp": [{ "HostIp": "", "HostPort": "8080" }] });
    });
    container(&root, named("job"), |record, _| {
        record["State"]["StartedAt"] = "2026-01-01T00:00:00Z".into();
        record["State"]["FinishedAt"] = "2026-01-01T00:00:01Z".into();
        record["State"]["ExitCode"] = 3.into();
    });
    let bind = format!("{}:/data", dir.path().display());
    container(&root, Request { volumes: vec![bind], ..named("new") }, |_, _| ());
    drop(root);
    // Where nothing may be changed, a container that is recorded as running is shown so.
    let root = Root::open(&options(dir.path()), Purpose::Read).expect("the record is readable");
    let listed = |query: &ContainerQuery| -> Vec<String> {
        root.list_containers(query).expect("the record is readable").rows.into_iter().map(|row| row.name).collect()
    };
    let (all, id) = (["new", "job", "web"], format!("id={}", &web.as_str()[..12]));
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &all),
        (&[&id], &["web"]),
        (&["name=we"], &["web"]),
        (&["name=^jo?b$", "name=new"], &["new", "job"]),
        (&["name=(["], &[]),
        (&["status=running"], &["web"]),
        (&["status=created", "status=exited"], &["new", "job"]),
        (&["exited=3"], &["job"]),
        (&["exited=0"], &[]),
        (&["health=healthy"], &["web"]),
        (&["health=none"], &["new", "job"]),
        (&["ancestor=one"], &all),
        (&["ancestor=nothing:1"], &[]),
        (&["before=job"], &["web"]),
        (&["since=job"], &["new"]),
        (&["volume=/data"], &["new"]),
        (&["volume=/none"], &[]),
        (&["network=bridge"], &["web"]),
        (&["network=abc"], &["web"]),
        (&["publish=80"], &["web"]),
        (&["publish=80/udp"], &[]),
        (&["expose=50-60/udp"], &["web"]),
        (&["isolation=process"], &all),
        (&["is-task=true"], &[]),
        (&["is-task=false"], &all),
        (&["label=a=b"], &["web"]),
        (&["label!=a"], &["new", "job"]),
        (&["status=exited", "label=a"], &[]),
    ];
    for (texts, expected) in cases {
        assert_eq!(
            listed(&ContainerQuery { filters: filters(texts), all: true, ..Default::default() }),
            *expected,
            "{texts:?}"
        );
    }
    assert_eq!(listed(&ContainerQuery::default()), ["web"]);
    assert_eq!(listed(&ContainerQuery { last: 2, ..Default::default() }), ["new", "job"]);
    assert_eq!(listed(&ContainerQuery { filters: filters(&["status=exited"]), ..Default::default() }), ["job"]);
    assert_eq!(listed(&ContainerQuery { filters: filters(&["exited=3"]), ..Default::default() }), [""; 0]);
    let refused = [
        ("color=red", "invalid filter 'color'"),
        ("status=up", "invalid filter 'status=up'"),
        ("health=well", "invalid filter 'health=well'"),
        ("is-task=maybe", "invalid filter 'is-task=[maybe]'"),
        ("exited=x", "invalid filter 'exited=x'"),
        ("publish=80:80", "filter for 'publish' should not contain ':': 80:80"),
        ("expose=a", "error while looking up for expose a: invalid port or range"),
        ("before=nobody", "No such container: nobody"),
    ];
    for (text, says) in refused {
        let query = ContainerQuery { filters: filters(&[text]), ..Default::default() };
        assert_eq!(root.list_containers(&query).unwrap_err().to_string(), says, "{text}");
    }
    let sizes = ContainerQuery { all: true, sizes: true, ..Default::default() };
    assert!(root.list_containers(&sizes).expect("the record is readable").rows.iter().all(|row| row.size.is_some()));
}

#[test]
fn images_are_selected_by_every_filter_of_dockers() {
    let Some(()) = require::overlay() else { return };
    let dir = scratch();
    let root = open(dir.path());
    let parent = image(&root, "a", &[]);
    let child = image(&root, "b", &["one:1", "one:2", "two"]);
    root.main().images().set_parent(child, Some(parent)).expect("the record is readable");
    let alone = image(&root, "c", &[]);
    let listed = |texts: &[&str], all: bool| -> Vec<String> {
        let query = ImageQuery { filters: filters(texts), all, digests: false };
        let name = |row: &strata_engine::ImageRow| match (&row.repository, &row.tag) {
            (Some(repository), Some(tag)) => format!("{repository}:{tag}"),
            _ if row.image.id == parent => "parent".to_owned(),
            _ => "alone".to_owned(),
        };
        root.list_images(&query).expect("the record is readable").rows.iter().map(name).collect()
    };
    let tags = ["one:1", "one:2", "two:latest"];
    let cases: &[(&[&str], bool, &[&str])] = &[
        (&[], false, &["alone", "one:1", "one:2", "two:latest"]),
        (&[], true, &["alone", "one:1", "one:2", "two:latest", "parent"]),
        (&["dangling=true"], false, &["alone"]),
        (&["dangling=true"], true, &["alone"]),
        (&["dangling=0"], false, &tags),
        (&["reference=one"], false, &["one:1", "one:2"]),
        (&["reference=o*:1", "reference=tw?"], false, &["one:1", "two:latest"]),
        (&["reference=none"], true, &[]),
        (&["label=a"], true, &[]),
        (&["label!=a", "dangling=false"], true, &tags),
        (&["since=two"], true, &["alone"]),
        (&["before=two"], true, &["parent"]),
        (&["until=1h"], true, &[]),
        (&["until=9999999999", "dangling=false"], true, &tags),
    ];
    for (texts, all, expected) in cases {
        assert_eq!(listed(texts, *all), *expected, "{texts:?} {all}");
    }
    let refused = [
        ("color=red", "invalid filter 'color'"),
        ("dangling=maybe", "invalid filter 'dangling=[maybe]'"),
        ("reference=[", "syntax error in pattern"),
        ("before=none", "No such image: none:latest"),
    ];
    for (text, says) in refused {
        let query = ImageQuery { filters: filters(&[text]), ..Default::default() };
        assert_eq!(root.list_images(&query).unwrap_err().to_string(), says, "{text}");
    }
    // An untagged parent is no image of its own.
    let (usage, failures) = root.usage().expect("the record is readable");
    assert!(failures.is_empty());
    let counted: Vec<_> = usage[0].images.iter().map(|image| image.summary.id).collect();
    assert_eq!((counted.len(), counted.contains(&parent), counted.contains(&alone)), (2, false, true));
}

#[test]
fn volumes_that_a_container_has_are_not_pruned() {
    let Some(()) = require::overlay() else { return };
    let dir = scratch();
    let root = open(dir.path());
    image(&root, "a", &["one"]);
    let id = container(&root, Request { volumes: vec!["/data".into()], ..named("box") }, |_, _| ());
    let unused = "ab".repeat(32);
    for name in [unused.as_str(), "named"] {
        let data = root.containers().layout().volume_data(name);
        fs::create_dir_all(&data).expect("the record is readable");
        fs::write(data.join("file"), "12345").expect("the record is readable");
    }
    let pruned = root.prune_volumes().expect("the record is readable");
    assert_eq!((pruned.items.as_slice(), pruned.reclaimed >= 5), (&[unused.clone()][..], true));
    assert_eq!(root.containers().volumes().expect("the record is readable").len(), 2);
    // A record that cannot be read may name any volume.
    fs::create_dir_all(root.containers().layout().volume_data(&unused)).expect("the record is readable");
    fs::write(root.containers().layout().container(&id).record(), "").expect("the record is readable");
    assert!(root.prune_volumes().is_err());
    assert_eq!(root.containers().volumes().expect("the record is readable").len(), 3);
}
