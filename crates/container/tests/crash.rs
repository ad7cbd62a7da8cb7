//! After a crash at any write a container or an image is there whole or not at all, and nothing else is left.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use common::*;
use strata_container::{Base, CommitRequest, Container, RemoveOptions, Request};
use strata_graphdriver::Access;
use strata_layer::Depth;
use strata_testkit::crash;

/// Runs `run` on a root with what `prepare` made, and opens every disk that a crash may leave; then `check`.
fn survive(
    prepare: impl FnOnce(&Bench) -> Option<Container>,
    run: impl FnOnce(&Bench, Option<&Container>),
    check: impl Fn(&Stores, &Path, &crash::Image),
) {
    let Some(bench) = bench() else { return };
    let prepared = prepare(&bench);
    let root = bench.root();
    let run = crash::record(&root, || run(&bench, prepared.as_ref()));
    let mut images = 0;
    for disk in run.images() {
        let stores = open(disk.root());
        let listing = stores.containers.list().expect("list");
        assert!(listing.damaged.is_empty(), "after {disk}: {:?}", listing.damaged);
        for container in &listing.containers {
            let root =
                stores.containers.mount(container, Access::ReadOnly).unwrap_or_else(|e| panic!("after {disk}: {e}"));
            assert!(root.path().join(".dockerenv").exists(), "after {disk}");
        }
        let mounts = stores.images.layers().list_mounts().expect("list");
        assert_eq!(mounts.len(), listing.containers.len(), "after {disk}: a layer a container");
        let layers = stores.images.layers().list().expect("list").len();
        let folders = stores.images.layers().driver().list().expect("list").len();
        assert_eq!(folders, layers + 2 * mounts.len(), "after {disk}: no folder is left over");
        let left = fs::read_dir(disk.root().join("strata/journal")).into_iter().flatten().count();
        assert_eq!(left, 0, "after {disk}: the journal is settled");
        check(&stores, disk.root(), &disk);
        images += 1;
    }
    assert!(images > 10, "only {images} disks of {} writes", run.len());
}

fn volumes(root: &Path) -> usize {
    fs::read_dir(root.join("volumes")).into_iter().flatten().count()
}

#[test]
fn creating_survives_a_crash_at_any_write() {
    survive(
        |bench| {
            bench.stores.import(&bench.scratch.join("tree"), "vol", &["CMD [\"sh\"]", "VOLUME /data", "WORKDIR /w"]);
            None
        },
        |bench, _| {
            let reference = strata_spec::Reference::parse("vol").unwrap();
            let image = bench.stores.images.tags().read().unwrap().get(&reference).unwrap();
            bench.stores.create(image, &request("one", &[])).expect("create");
            crash::mark(&bench.root(), "created");
        },
        |stores, root, disk| match stores.containers.get("one") {
            Ok(container) => {
                let data = container.record.mount_points["/data"].host_path(stores.containers.layout());
                // The record says where it was recorded; the disk is elsewhere.
                assert!(data.starts_with(root));
                assert_eq!(fs::read(data.join("sub/seed")).unwrap_or_else(|e| panic!("after {disk}: {e}")), b"seed\n");
            }
            Err(_) => {
                assert!(!disk.is_after("created"), "after {disk}: lost");
                assert_eq!(volumes(root), 0, "after {disk}: a volume is left");
            }
        },
    );
}

#[test]
fn removing_survives_a_crash_at_any_write() {
    survive(
        |bench| {
            let image = bench.stores.import(&bench.scratch.join("tree"), "vol", &["CMD [\"sh\"]", "VOLUME /data"]);
            let container = bench.stores.create(image, &request("one", &[])).expect("create");
            bench.stores.images.layers().driver().sync().expect("sync");
            Some(container)
        },
        |bench, container| {
            let options = RemoveOptions { force: false, volumes: true };
            bench.stores.containers.remove(&container.unwrap().id, options).expect("remove");
            crash::mark(&bench.root(), "removed");
        },
        |stores, root, disk| {
            let there = stores.containers.get("one").is_ok();
            assert!(!there || !disk.is_after("removed"), "after {disk}: back again");
            assert_eq!(volumes(root), usize::from(there), "after {disk}");
        },
    );
}

#[test]
fn committing_survives_a_crash_at_any_write() {
    survive(
        |bench| {
            let container = bench.stores.create(bench.image, &request("one", &[])).expect("create");
            let mounted = bench.stores.containers.mount(&container, Access::ReadWrite).expect("mount");
            fs::write(mounted.path().join("made"), "x").expect("write");
            drop(mounted);
            bench.stores.images.layers().driver().sync().expect("sync");
            Some(container)
        },
        |bench, container| {
            let request = CommitRequest::default();
            bench.stores.containers.commit(&bench.stores.images, container.unwrap(), &request).expect("commit");
            crash::mark(&bench.root(), "committed");
        },
        |stores, _, disk| {
            let images = stores.images.list().expect("list").len();
            let layers = stores.images.layers();
            assert_eq!(layers.list().expect("list").len(), images, "after {disk}: a layer an image");
            assert!(images == 2 || !disk.is_after("committed"), "after {disk}: lost");
            let findings = layers.verify(Depth::Contents);
            assert!(findings.is_empty(), "after {disk}: {findings:?}");
        },
    );
}

/// A container that goes at its end is never put on disk for good: a crash may keep or lose any of its writes. Its run ends
/// before the runtime is asked, at a user that the image does not know.
#[test]
fn a_passing_container_survives_no_crash_at_any_write() {
    survive(
        |bench| {
            bench.stores.import(&bench.scratch.join("tree"), "vol", &["CMD [\"sh\"]", "VOLUME /data", "WORKDIR /w"]);
            None
        },
        |bench, _| {
            let reference = strata_spec::Reference::parse("vol").unwrap();
            let id = bench.stores.images.tags().read().unwrap().get(&reference).unwrap();
            let image = bench.stores.images.get(id).unwrap();
            let base = Base { driver: "overlay2", id, config: &image };
            let asked =
                Request { auto_remove: true, user: Some("nobody-here".to_owned()), ..request("one", &["true"]) };
            let ran = bench.stores.containers.create_and_run(base, &asked, |_| ());
            ran.expect_err("there is no such user");
            crash::mark(&bench.root(), "gone");
        },
        |stores, root, disk| {
            assert!(stores.containers.all_ids().expect("list").is_empty(), "after {disk}: a container is left");
            assert_eq!(volumes(root), 0, "after {disk}: a volume is left");
            let links = fs::read_dir(root.join("overlay2/l")).expect("list");
            for link in links.map(|entry| entry.expect("entry").path()) {
                assert!(link.exists(), "after {disk}: {} leads nowhere", link.display());
            }
        },
    );
}

/// Without syncs, a power cut may keep any of the writes and lose any other, in no order, and keep names without their bytes.
#[test]
fn a_passing_container_goes_whatever_a_power_cut_kept_of_it() {
    let Some(bench) = bench() else { return };
    let image = bench.stores.images.get(bench.image).unwrap();
    let parent = strata_spec::chain_id(image.diff_ids());
    let record = "image/overlay2/layerdb/mounts/ID";
    let torn: [(&str, &[&str], &[&str]); 8] = [
        ("nothing lost", &[], &[]),
        ("no record of the layers", &[record], &[]),
        (
            "no bytes in it",
            &[],
            &["image/overlay2/layerdb/mounts/ID/mount-id", "image/overlay2/layerdb/mounts/ID/init-id"],
        ),
        ("no bytes in the driver's files", &[], &["overlay2/ID/link", "overlay2/ID/lower", "overlay2/ID-init/link"]),
        ("no init layer", &["overlay2/ID-init"], &[]),
        ("no read-write layer", &["overlay2/ID", record], &[]),
        ("no driver's files, no record", &["overlay2/ID/link", "overlay2/ID-init/link", record], &[]),
        ("no container", &["containers/ID"], &["overlay2/ID/link"]),
    ];
    for (at, (what, lost, emptied)) in torn.into_iter().enumerate() {
        let id = strata_spec::ContainerId::from_random([at as u8 + 1; 32]);
        let path = |name: &str| bench.root().join(name.replace("ID", id.as_str()));
        bench.stores.images.layers().create_mount(&id, parent, |_| Ok(())).expect("make the layers");
        let dir = path("containers/ID");
        fs::create_dir(&dir).expect("mkdir");
        fs::write(dir.join("config.v2.json"), if at % 2 == 0 { "" } else { "{\"ID\":" }).expect("write");
        for name in lost {
            let path = path(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("lose");
        }
        for name in emptied {
            fs::write(path(name), "").expect("empty");
        }
        let volume = format!("{at:064}");
        fs::create_dir_all(path("volumes").join(&volume).join("_data")).expect("mkdir");
        let notes = format!(
            "{{\"op\":\"container.create\",\"container\":\"{id}\",\"name\":\"x\",\"passing\":true}}\n\
             {{\"op\":\"container.volume\",\"name\":\"{volume}\"}}\n"
        );
        fs::write(path("strata/journal/0123456789abcdef"), notes).expect("write");
        drop(open(&bench.root()));
        println!("{what}");
        bench.assert_bare();
        assert_eq!(bench.names("overlay2/l").len(), bench.names("image/overlay2/layerdb/sha256").len(), "{what}");
    }
}
