//! What goes out comes in again, the same each time, and is what other tools read.

mod common;

use std::{collections::BTreeMap, fs, io::Cursor};

use common::*;
use strata_archive::{Limits, tar::Reader};
use strata_image::save::Output;
use strata_spec::progress::Silent;

/// Names and contents of a tar, in order.
fn read(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut reader = Reader::new(Cursor::new(archive), &Limits::default());
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().expect("a tar") {
        let mut bytes = vec![0; entry.stored as usize];
        reader.read_content(&mut bytes).expect("content");
        assert_eq!((entry.header.uid, entry.header.gid, entry.header.mtime.secs), (0, 0, 0));
        assert!(entry.header.uname.is_empty());
        found.push((entry.display_name().into_owned(), bytes));
    }
    found
}

#[test]
fn save_then_load_is_identity_and_the_same_bytes_each_time() {
    let Some(root) = root() else { return };
    let (one, two) = ([layer(1), layer(2), layer(1)], [layer(1), layer(3)]);
    root.load(&docker_archive(&[("one:1", &one), ("two:1", &two)])).expect("load");
    root.store.tags().set(&reference("registry.example:5000/a/b:x"), root.id_of("one:1"), false).expect("tag");
    let names = ["two:1", "one", "registry.example:5000/a/b:x"];
    let archive = root.save(&names);
    assert!(archive == root.save(&["registry.example:5000/a/b", "one:1", "two"]), "the order of names does not matter");

    for by_stream in [false, true] {
        let Some(other) = common::root() else { return };
        let loaded = if by_stream { other.load_stream(&archive) } else { other.load(&archive) };
        assert_eq!(loaded.expect("load").len(), 2);
        other.assert_sound(&"loaded again");
        for name in ["one:1", "two:1", "registry.example:5000/a/b:x"] {
            assert_eq!(other.id_of(name), root.id_of(name));
        }
        assert!(other.save(&names) == archive, "saved again");
    }
}

#[test]
fn the_archive_is_docker_and_oci_at_once() {
    let Some(root) = root() else { return };
    let layers = [layer(1), layer(2)];
    root.load(&docker_archive(&[("app:1", &layers)])).expect("load");
    let id = root.id_of("app:1");
    let entries = read(&root.save(&["app:1"]));
    let names: Vec<_> = entries.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..6], ["oci-layout", "index.json", "manifest.json", "repositories", "blobs/", "blobs/sha256/"]);
    let layer_names: Vec<_> = layers.iter().map(|tar| format!("blobs/sha256/{}", diff_of(tar).hex())).collect();
    assert_eq!(names[names.len() - 2..], layer_names);
    let files: BTreeMap<_, _> = entries.into_iter().collect();
    for (name, bytes) in files.iter().filter(|(name, _)| name.len() > 64) {
        assert_eq!(*name, format!("blobs/sha256/{}", strata_spec::Digest::sha256(bytes).hex()));
    }
    let text = |name: &str| String::from_utf8(files[name].clone()).expect("UTF-8");
    assert_eq!(
        text("manifest.json"),
        format!(
            r#"[{{"Config":"blobs/sha256/{}","RepoTags":["app:1"],"Layers":["{}","{}"]}}]"#,
            id.hex(),
            layer_names[0],
            layer_names[1]
        )
    );
    assert_eq!(text("repositories"), format!(r#"{{"app":{{"1":"{}"}}}}"#, diff_of(&layers[1]).hex()));
    assert!(text("index.json").contains(r#""io.containerd.image.name":"docker.io/library/app:1""#));
}

#[test]
fn an_image_saved_by_id_has_no_name() {
    let Some(root) = root() else { return };
    let layers = [layer(1)];
    root.load(&docker_archive(&[("app:1", &layers)])).expect("load");
    let id = root.id_of("app:1");
    let archive = root.save(&[&id.short()]);
    let files: BTreeMap<_, _> = read(&archive).into_iter().collect();
    assert!(!files.contains_key("repositories"));
    assert!(String::from_utf8_lossy(&files["manifest.json"]).contains(r#""RepoTags":null"#));
    let Some(other) = common::root() else { return };
    assert_eq!(other.load(&archive).expect("load")[0].lines(), [format!("Loaded image ID: {id}")]);
}

#[test]
fn a_damaged_layer_is_named_with_its_file() {
    let Some(root) = root() else { return };
    let layers = [layer(1), layer(2)];
    root.load(&docker_archive(&[("app:1", &layers)])).expect("load");
    let diffs: Vec<_> = layers.iter().map(|tar| diff_of(tar)).collect();
    let chain = strata_spec::chain_id(&diffs).expect("it has layers");
    let cache = root.store.layers().get(chain).expect("get").cache_id;
    fs::write(root.scratch.join("overlay2").join(cache.as_str()).join("diff/file-2"), "changed").expect("damage it");
    let selection = root.store.select(&["app:1"]).expect("select");
    let out = fs::File::create(root.scratch.join("out.tar")).expect("a file");
    let error = root.store.save(&selection, Output::File(&out), &Silent).expect_err("damaged").to_string();
    assert!(error.contains("file-2"), "{error}");
    assert!(entries(&root.scratch.join("strata/journal")).is_empty(), "the lease has ended");
}

#[test]
fn names_that_nobody_has_are_refused() {
    let Some(root) = root() else { return };
    for (name, text) in [("nosuch", "No such image: nosuch:latest"), ("sha256:0000", "No such image: sha256:0000")] {
        assert_eq!(root.store.select(&[name]).expect_err("none").to_string(), text);
    }
}
