//! Other tools read what we write, and we read what they write. Each is skipped where its program is missing.

mod common;

use std::{fs, path::Path, process::Command};

use common::*;
use strata_image::load::{Input, Options};
use strata_testkit::{Dockerd, require};

/// Runs a program and returns what it prints; panics if it fails.
fn run(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {args:?}: {text}{errors}", program.display());
    text
}

/// An archive without `manifest.json`, as Docker wrote it before 1.10.
fn legacy_archive(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<_> = (0..layers.len()).map(|at| format!("{at:x}").repeat(64)).collect();
    let mut files = Vec::new();
    for (at, tar) in layers.iter().enumerate() {
        let parent = if at > 0 { format!(r#""parent":"{}","#, ids[at - 1]) } else { String::new() };
        let json = format!(
            r#"{{"id":"{}",{parent}"created":"2016-01-02T03:04:05.600Z","container":"c","container_config":{{"Cmd":["/bin/sh","-c","a < b & step {at}"],"Unknown":1}},"docker_version":"{}","config":{{"Cmd":["sh"],"PortSpecs":null}},"architecture":"amd64","os":"linux","Size":12,"throwaway":true}}"#,
            ids[at],
            if at == 0 { "1.7.0" } else { "1.9.1" },
        );
        files.push((format!("{}/VERSION", ids[at]), Item::from("1.0")));
        files.push((format!("{}/json", ids[at]), json.as_str().into()));
        files.push((format!("{}/layer.tar", ids[at]), tar.clone().into()));
    }
    let top = ids.last().expect("a layer");
    files.push(("repositories".into(), format!(r#"{{"old":{{"1":"{top}"}}}}"#).as_str().into()));
    tar(&files)
}

#[test]
fn dockerd_reads_our_store_and_our_archives_and_we_its() {
    let Some(ours) = root() else { return };
    let Some(other) = root() else { return };
    let (one, two, legacy) = ([layer(1), layer(2)], [layer(1), layer(3), layer(1)], [layer(4), layer(5)]);
    ours.load(&docker_archive(&[("one:1", &one)])).expect("load");
    other.load(&docker_archive(&[("two:1", &two)])).expect("load");
    other.load(&legacy_archive(&legacy)).expect("load");
    let (id_one, id_two, id_old) = (ours.id_of("one:1"), other.id_of("two:1"), other.id_of("old:1"));
    let files = other.scratch.join("files");
    fs::create_dir(&files).expect("a folder");
    let path = |name: &str| files.join(name).to_string_lossy().into_owned();
    fs::write(path("two.tar"), other.save(&["two:1"])).expect("write");
    fs::write(path("old.tar"), legacy_archive(&legacy)).expect("write");

    let Some(dockerd) = Dockerd::start(ours.scratch.path()) else { return };
    // Our folder is its data root.
    assert_eq!(dockerd.docker(&["images", "-q", "--no-trunc", "one:1"]).trim(), id_one.to_string());
    // Our archive, and one of the old kind.
    assert_eq!(dockerd.docker(&["load", "-i", &path("two.tar")]).trim(), "Loaded image: two:1");
    assert_eq!(dockerd.docker(&["inspect", "-f", "{{.Id}}", "two:1"]).trim(), id_two.to_string());
    dockerd.docker(&["load", "-i", &path("old.tar")]);
    assert_eq!(dockerd.docker(&["inspect", "-f", "{{.Id}}", "old:1"]).trim(), id_old.to_string());
    let history = dockerd.docker(&["history", "--no-trunc", "--format", "{{.ID}} {{.CreatedBy}}", "old:1"]);
    let sizes = dockerd.docker(&["inspect", "-f", "{{.Size}}", "one:1"]);
    // Its archive.
    dockerd.docker(&["tag", "one:1", "registry.example:5000/x/y:z"]);
    dockerd.docker(&["save", "-o", &path("saved.tar"), "one:1", "two:1", "old:1"]);
    drop(dockerd);

    for by_stream in [false, true] {
        let Some(third) = root() else { return };
        let archive = fs::read(path("saved.tar")).expect("read");
        let loaded = if by_stream { third.load_stream(&archive) } else { third.load(&archive) };
        loaded.expect("load what dockerd saved");
        third.assert_sound(&"from dockerd");
        assert_eq!((third.id_of("one:1"), third.id_of("two:1"), third.id_of("old:1")), (id_one, id_two, id_old));
    }
    // And its data root is ours again.
    let store = open(ours.scratch.path());
    assert_sound(&store, &"after dockerd");
    assert_eq!(store.resolve("registry.example:5000/x/y:z").expect("tagged by dockerd"), id_one);
    let steps: Vec<_> = store
        .history(id_old)
        .expect("history")
        .iter()
        .map(|step| format!("{} {}", step.id.map_or("<missing>".to_owned(), |id| id.to_string()), step.created_by))
        .collect();
    assert_eq!(steps.join("\n"), history.trim());
    assert_eq!(store.summarize(id_one).expect("summarize").size.to_string(), sizes.trim());
}

#[test]
fn skopeo_reads_our_archives_and_we_its() {
    let Some(skopeo) = require::program("skopeo") else { return };
    let Some(root) = root() else { return };
    let layers = [layer(1), layer(2)];
    root.load(&docker_archive(&[("app:1", &layers)])).expect("load");
    let ours = root.scratch.join("ours.tar");
    fs::write(&ours, root.save(&["app:1"])).expect("write");
    let ours = ours.to_string_lossy();
    let diffs: Vec<_> = layers.iter().map(|tar| diff_of(tar)).collect();
    for from in [format!("docker-archive:{ours}:app:1"), format!("oci-archive:{ours}")] {
        for (to, name) in
            [("oci:DIR:app:1", "DIR"), ("oci-archive:FILE:app:1", "FILE"), ("docker-archive:FILE:app:1", "FILE")]
        {
            let scratch = strata_testkit::scratch();
            let out = scratch.join("out");
            let to = to.replace(name, &out.to_string_lossy());
            run(&skopeo, &["copy", "--insecure-policy", "-q", &from, &to]);
            let Some(other) = common::root() else { return };
            let input = Input::open(&out).expect("open");
            let loaded =
                other.store.load(input, &Options::default()).unwrap_or_else(|error| panic!("{from} {to}: {error}"));
            assert_eq!(loaded[0].lines(), ["Loaded image: app:1"], "{from} {to}");
            assert_eq!(other.store.get(loaded[0].id).expect("get").diff_ids(), diffs, "{from} {to}");
            other.assert_sound(&to);
        }
    }
}

#[test]
fn umoci_unpacks_our_archive_as_a_layout() {
    let Some(umoci) = require::program("umoci") else { return };
    let Some(root) = root() else { return };
    let layers = [layer(1), layer(2)];
    root.load(&docker_archive(&[("app:1", &layers)])).expect("load");
    fs::write(root.scratch.join("ours.tar"), root.save(&["app:1"])).expect("write");
    let layout = root.scratch.join("layout");
    fs::create_dir(&layout).expect("a folder");
    let path = |name: &str| root.scratch.join(name).to_string_lossy().into_owned();
    run(Path::new("tar"), &["-C", &path("layout"), "-xf", &path("ours.tar")]);
    run(&umoci, &["unpack", "--image", &format!("{}:1", path("layout")), &path("bundle")]);
    assert_eq!(fs::read_to_string(root.scratch.join("bundle/rootfs/etc/hosts")).expect("read"), "layer 2");
}
