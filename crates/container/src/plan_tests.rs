use std::{fs, path::PathBuf};

use super::*;
use crate::{HostConfig, Record};

fn fixture(name: &str) -> (ImageConfig, Record, HostConfig) {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/records")).join(name);
    let read = |file: &str| fs::read(dir.join(file)).unwrap();
    (
        ImageConfig::parse(read("image.json")).unwrap(),
        Record::parse(&read("config.v2.json")).unwrap(),
        HostConfig::parse(&read("hostconfig.json")).unwrap(),
    )
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn request(image: &str, cmd: &[&str]) -> Request {
    Request { image: image.into(), cmd: strings(cmd), network: Some("none".into()), ..Request::default() }
}

/// Plans the container that dockerd made in fixture `name`, and compares what both wrote.
fn same_as_docker(name: &str, request: Request) {
    let (image, theirs, mut their_host) = fixture(name);
    let id: ContainerId = theirs.id.parse().unwrap();
    let (mut ours, _) = container(&id, image.id(), &image, &request, "overlay2").unwrap();
    assert_eq!(ours.record.config, theirs.config, "{name}");
    assert_eq!((&ours.record.path, &ours.record.args), (&theirs.path, &theirs.args), "{name}");
    // What depends on the machine or on a later start.
    their_host.cgroupns_mode.clone_from(&ours.host.cgroupns_mode);
    assert_eq!(ours.host, their_host, "{name}");
    if theirs.state.finished().is_none() && theirs.log_path.is_empty() {
        ours.record.created.clone_from(&theirs.created);
        ours.record.name.clone_from(&theirs.name);
        ours.record.network_settings.is_anonymous_endpoint = name == "unnamed";
        ours.record.mount_points.clone_from(&theirs.mount_points);
        assert_eq!(
            String::from_utf8(ours.record.to_bytes()).unwrap(),
            String::from_utf8(theirs.to_bytes()).unwrap(),
            "{name}: the whole record"
        );
    }
}

#[test]
fn containers_are_what_dockerd_makes_of_the_same_flags() {
    same_as_docker("created", request("bb", &[]));
    same_as_docker("unnamed", request("bb", &["true"]));
    same_as_docker("exited", request("bb", &["sh", "-c", "exit 3"]));
    same_as_docker("rich", request("rich:1", &[]));
    let entrypoint = Some("/bin/echo".to_owned());
    same_as_docker("entrypoint", Request { entrypoint, ..request("rich:1", &["one", "two three"]) });
    same_as_docker("noentry", Request { entrypoint: Some(String::new()), ..request("rich:1", &["true"]) });
    same_as_docker("running", Request { detached: true, ..request("bb", &["sleep", "1000"]) });
    let host = strata_sys::process::hostname();
    let (_, theirs, _) = fixture("hostnet");
    let hostname = Some(theirs.config.hostname).filter(|name| *name != host);
    same_as_docker("hostnet", Request { network: Some("host".into()), hostname, ..request("bb", &["true"]) });
}

#[test]
fn flags_as_dockerd_records_them() {
    let (image, theirs, their_host) = fixture("flags");
    let id: ContainerId = theirs.id.parse().unwrap();
    let asked = Request {
        tty: true,
        interactive: true,
        auto_remove: true,
        env: strings(&["D=4", "A=9"]),
        working_dir: Some("/else".into()),
        user: Some("root:staff".into()),
        volumes: strings(&["/tmp/strata-records/bind:/mnt:ro", "/tmp/strata-records/bind:/rw"]),
        tmpfs: strings(&["/scratch", "/run:rw,size=64k,mode=1777"]),
        read_only: true,
        hostname: Some("box".into()),
        domainname: Some("example.org".into()),
        labels: strings(&["one=1", "two=<&>"]),
        stop_signal: Some("9".into()),
        cap_add: strings(&["SYS_ADMIN"]),
        cap_drop: strings(&["MKNOD"]),
        ..request("rich:1", &["echo \"\\\"quoted\\\"\""])
    };
    let (ours, _) = container(&id, image.id(), &image, &asked, "overlay2").unwrap();
    let mut config = theirs.config.clone();
    // Flags that are not offered here.
    (config.stop_timeout, config.mac_address) = (None, String::new());
    config.healthcheck.as_mut().unwrap().test = ours.record.config.healthcheck.as_ref().unwrap().test.clone();
    assert_eq!(ours.record.config, config);
    for destination in ["/mnt", "/rw"] {
        assert_eq!(ours.record.mount_points[destination], theirs.mount_points[destination]);
    }
    assert_eq!(ours.host.tmpfs, their_host.tmpfs);
    assert_eq!(ours.host.binds.unwrap(), their_host.binds.unwrap()[..2]);
    assert!(ours.host.readonly_rootfs && ours.host.auto_remove);
    assert_eq!((ours.host.cap_add, ours.host.cap_drop), (their_host.cap_add, their_host.cap_drop));
}

#[test]
fn what_cannot_be_is_refused() {
    let (image, ..) = fixture("created");
    let id = ContainerId::from_random([1; 32]);
    for (asked, why) in [
        (Request { working_dir: Some("rel".into()), ..request("x", &[]) }, "working directory 'rel' is invalid"),
        (Request { network: Some("bridge".into()), ..request("x", &[]) }, "there are `none` (the default) and `host`"),
        (Request { hostname: Some("a b".into()), ..request("x", &[]) }, "invalid hostname"),
        (Request { stop_signal: Some("NOPE".into()), ..request("x", &[]) }, "Invalid signal: NOPE"),
        (Request { labels: strings(&["=v"]), ..request("x", &[]) }, "invalid label"),
        (Request { cap_add: strings(&["FLY"]), ..request("x", &[]) }, "unknown capability"),
        (Request { volumes: strings(&["/a:b"]), ..request("x", &[]) }, "must be absolute"),
    ] {
        let error = container(&id, image.id(), &image, &asked, "overlay2").unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let bare = ImageConfig::parse(r#"{"rootfs":{"type":"layers"}}"#).unwrap();
    let error = container(&id, bare.id(), &bare, &request("x", &[]), "overlay2").unwrap_err();
    assert_eq!(error.to_string(), "No command specified");
    let error =
        container(&id, bare.id(), &bare, &Request { entrypoint: Some(String::new()), ..request("x", &[]) }, "overlay2");
    assert_eq!(error.unwrap_err().to_string(), "No command specified");
}

#[test]
fn an_image_of_another_machine_is_refused_with_the_way_out() {
    let id = ContainerId::from_random([1; 32]);
    let image = ImageConfig::parse(
        r#"{"architecture":"s390x","os":"linux","rootfs":{"type":"layers"},"config":{"Cmd":["x"]}}"#,
    )
    .unwrap();
    let plan = |asked: &Request| container(&id, image.id(), &image, asked, "overlay2");
    let error = plan(&request("big", &[])).unwrap_err().to_string();
    assert!(error.contains("image big is for linux/s390x"), "{error}");
    let asked = |platform: &str| Request { platform: Some(platform.parse().unwrap()), ..request("big", &[]) };
    plan(&asked("linux/s390x")).unwrap();
    assert!(plan(&asked("linux/arm64")).unwrap_err().to_string().contains("wanted linux/arm64"));
}
