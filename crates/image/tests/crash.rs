//! After a crash at any write, an image, a name, a load is there whole or not at all, and nothing else is left.

mod common;

use common::*;
use strata_spec::ImageConfig;
use strata_testkit::crash;

/// Records `run` on a root that `prepare` made, and checks every disk that a crash may leave: it settles, and is sound; then `check`.
fn survive(prepare: impl FnOnce(&Root), run: impl FnOnce(&Root), check: impl Fn(&strata_image::Store, &crash::Image)) {
    let Some(root) = root() else { return };
    prepare(&root);
    let recording = crash::record(root.scratch.path(), || run(&root));
    let mut images = 0;
    for disk in recording.images() {
        let store = open(disk.root());
        settle(disk.root(), &store);
        let findings = store.layers().verify(strata_layer::Depth::Contents);
        assert!(findings.is_empty(), "after {disk}: {findings:#?}");
        // A temporary file, or metadata without its image, means nothing and is found; everything else would be damage.
        let findings = store.verify();
        let strays = findings.iter().all(|finding| finding.object == strata_image::verify::Object::Stray);
        assert!(strays, "after {disk}: {findings:#?}");
        check(&store, &disk);
        images += 1;
    }
    assert!(images > 4, "{images} disks of {} writes", recording.len());
}

#[test]
fn creating_an_image_survives() {
    let layers = [layer(1)];
    let (old, new) = (config(&layers, "app:1"), config(&layers, "new"));
    let (old_id, new_id) = (id_of(&old), id_of(&new));
    survive(
        |root| drop(root.load(&docker_archive(&[("app:1", &layers)])).expect("load")),
        |root| {
            let config = ImageConfig::parse(new.clone()).expect("a config");
            root.store.create(&config, Some(old_id)).expect("create");
            crash::mark(root.scratch.path(), "created");
        },
        |store, disk| {
            assert!(store.get(old_id).is_ok(), "after {disk}");
            assert!(store.contains(new_id) || !disk.is_after("created"), "lost after {disk}");
            if store.contains(new_id) {
                assert_eq!(store.get(new_id).expect("get").raw(), new, "after {disk}");
                assert_eq!(store.parent(new_id).expect("parent"), Some(old_id), "after {disk}");
            }
        },
    );
}

#[test]
fn tagging_survives() {
    let layers = [layer(1)];
    let id = id_of(&config(&layers, "app:1"));
    survive(
        |root| drop(root.load(&docker_archive(&[("app:1", &layers)])).expect("load")),
        |root| {
            root.store.tags().set(&reference("app:2"), id, false).expect("set");
            crash::mark(root.scratch.path(), "two");
            root.store.tags().remove(&reference("app:1")).expect("remove");
            crash::mark(root.scratch.path(), "gone");
        },
        |store, disk| {
            let names: Vec<_> =
                store.tags().read().expect("read").all().iter().map(|(name, _)| name.familiar()).collect();
            let expected: &[&[&str]] = match (disk.is_after("two"), disk.is_after("gone")) {
                (_, true) => &[&["app:2"]],
                (true, _) => &[&["app:1", "app:2"], &["app:2"]],
                _ => &[&["app:1"], &["app:1", "app:2"]],
            };
            assert!(expected.iter().any(|expected| names == *expected), "after {disk}: {names:?}");
        },
    );
}

#[test]
fn deleting_an_image_survives() {
    let layers = [layer(1)];
    let (one, two) = (id_of(&config(&layers, "app:1")), id_of(&config(&layers, "app:2")));
    survive(
        |root| {
            root.load(&docker_archive(&[("app:1", &layers), ("app:2", &layers)])).expect("load");
            root.store.set_parent(two, Some(one)).expect("set");
            root.store.tags().remove_all(two).expect("remove");
        },
        |root| {
            root.store.delete(two).expect("delete");
            crash::mark(root.scratch.path(), "deleted");
        },
        |store, disk| {
            assert!(store.get(one).is_ok(), "after {disk}");
            assert!(!store.contains(two) || !disk.is_after("deleted"), "back after {disk}");
            assert!(!store.contains(two) || store.get(two).is_ok(), "after {disk}");
        },
    );
}

#[test]
fn loading_survives() {
    let base = [layer(1)];
    let app = [layer(1), layer(2)];
    let id = id_of(&config(&app, "app:2"));
    for by_stream in [false, true] {
        survive(
            |root| drop(root.load(&docker_archive(&[("app:1", &base)])).expect("load")),
            |root| {
                let archive = docker_archive(&[("app:2", &app)]);
                let loaded = if by_stream { root.load_stream(&archive) } else { root.load(&archive) };
                loaded.expect("load");
                crash::mark(root.scratch.path(), "loaded");
            },
            |store, disk| {
                assert!(store.resolve("app:1").is_ok(), "after {disk}");
                let named = store.resolve("app:2").ok();
                assert!(named.is_none() || named == Some(id), "after {disk}");
                assert!(named.is_some() || !disk.is_after("loaded"), "lost after {disk}");
                // What no image needs is gone once the journal is settled.
                let layers = store.layers().list().expect("list").len();
                assert_eq!(layers, if store.contains(id) { 2 } else { 1 }, "after {disk}");
            },
        );
    }
}
