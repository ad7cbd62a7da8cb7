//! After a crash at any write, a layer or a container is there whole or not at all, and nothing else is left.

mod common;

use std::path::Path;

use common::*;
use strata_layer::Store;
use strata_spec::{ChainId, chain_ids};
use strata_testkit::{crash, require, scratch};

/// Drivers that keep layers in different ways; fuse-overlayfs does as overlay2, aufs mounts by a process of the program.
const DRIVERS: [&str; 3] = ["overlay2", "overlay", "vfs"];

/// Runs `run` on the root that `prepare` made, and checks every disk that a crash may leave: it settles, is sound and tidy; then `check`.
/// With each driver.
fn survive(
    prepare: impl Fn(&Store),
    run: impl Fn(&Store, &Path),
    needed: &dyn Fn(&Path, ChainId) -> bool,
    check: impl Fn(&Store, &crash::Image),
) {
    let Some(()) = require::root() else { return };
    let Some(()) = require::overlay() else { return };
    with_each(&DRIVERS, || survive_with(&prepare, &run, needed, &check));
}

fn survive_with(
    prepare: &dyn Fn(&Store),
    run: &dyn Fn(&Store, &Path),
    needed: &dyn Fn(&Path, ChainId) -> bool,
    check: &dyn Fn(&Store, &crash::Image),
) {
    let scratch = scratch();
    let store = open(scratch.path());
    prepare(&store);
    let run = crash::record(scratch.path(), || run(&store, scratch.path()));
    let mut images = 0;
    for disk in run.images() {
        let store = open(disk.root());
        settle(disk.root(), &store, &|id| needed(disk.root(), id));
        assert_sound(&store, &format_args!("after {disk}"));
        assert_tidy(disk.root(), &format_args!("after {disk}"));
        check(&store, &disk);
        images += 1;
    }
    assert!(images > 10, "only {images} disks of {} writes", run.len());
}

/// Where the tests keep the one image's name, as the image store would.
fn name_image(root: &Path, top: ChainId) {
    strata_durable::write(&root.join("image-of-the-test"), top.to_string().as_bytes(), 0o644).expect("name the image");
}

fn named(root: &Path) -> Option<ChainId> {
    std::fs::read_to_string(root.join("image-of-the-test")).ok()?.parse().ok()
}

#[test]
fn registering_survives_a_crash_at_any_write() {
    let tars = [layer_tar(1), layer_tar(2), layer_tar(3)];
    let diffs: Vec<_> = tars.iter().map(|tar| diff_of(tar)).collect();
    let ids: Vec<_> = chain_ids(&diffs).collect();
    survive(
        |store| {
            add(store, None, &tars[..1], |_| {}).expect("register");
        },
        |store, root| {
            add(store, None, &tars, |top| name_image(root, top)).expect("register");
            crash::mark(root, "registered");
        },
        &|root, id| id == ids[0] || (named(root).is_some() && ids.contains(&id)),
        |store, disk| {
            let there = store.list().expect("list");
            assert!(there.contains(&ids[0]), "after {disk}: the layer of before is lost");
            let expected = if named(disk.root()).is_some() { 3 } else { 1 };
            assert_eq!(there.len(), expected, "after {disk}");
            assert_eq!(store.driver().list().expect("list").len(), expected, "after {disk}");
            assert!(expected == 3 || !disk.is_after("registered"), "after {disk}: what was reported done is lost");
        },
    );
}

#[test]
fn creating_a_mount_survives_a_crash_at_any_write() {
    let top = ChainId::new(diff_of(&layer_tar(1)).digest());
    survive(
        |store| {
            add(store, None, &[layer_tar(1)], |_| {}).expect("register");
        },
        |store, root| {
            let init = |root: &Path| strata_durable::write(&root.join("etc/hostname"), b"name", 0o644);
            store.create_mount(&container(1), Some(top), init).expect("create");
            crash::mark(root, "created");
        },
        &|_, _| true,
        |store, disk| {
            let mounts = store.list_mounts().expect("list");
            assert!(mounts.len() == 1 || !disk.is_after("created"), "after {disk}: lost");
            if mounts.len() == 1 {
                let mount = store.mount(&container(1)).expect("whole");
                let init = store.driver().folder(&mount.init_id.expect("has one")).expect("folder").path;
                let text =
                    std::fs::read_to_string(init.join("etc/hostname")).unwrap_or_else(|e| panic!("after {disk}: {e}"));
                assert_eq!(text, "name", "after {disk}");
            }
            assert_eq!(store.driver().list().expect("list").len(), 1 + 2 * mounts.len(), "after {disk}");
        },
    );
}

#[test]
fn removing_a_mount_survives_a_crash_at_any_write() {
    let top = ChainId::new(diff_of(&layer_tar(1)).digest());
    survive(
        |store| {
            add(store, None, &[layer_tar(1)], |_| {}).expect("register");
            store.create_mount(&container(1), Some(top), |_| Ok(())).expect("create");
            store.driver().sync().expect("sync");
        },
        |store, root| {
            store.remove_mount(&container(1)).expect("remove");
            crash::mark(root, "removed");
        },
        &|_, _| true,
        |store, disk| {
            let mounts = store.list_mounts().expect("list");
            assert!(mounts.is_empty() || !disk.is_after("removed"), "after {disk}: back again");
            assert_eq!(store.driver().list().expect("list").len(), 1 + 2 * mounts.len(), "after {disk}");
        },
    );
}

#[test]
fn releasing_survives_a_crash_at_any_write() {
    let tars = [layer_tar(1), layer_tar(2), layer_tar(3)];
    let diffs: Vec<_> = tars.iter().map(|tar| diff_of(tar)).collect();
    let ids: Vec<_> = chain_ids(&diffs).collect();
    survive(
        |store| {
            add(store, None, &tars, |_| {}).expect("register");
        },
        |store, root| {
            assert_eq!(store.release(ids[2], &|id| id == ids[0]).expect("release"), [ids[2], ids[1]]);
            crash::mark(root, "released");
        },
        &|_, id| id == ids[0],
        |store, disk| {
            let there = store.list().expect("list");
            assert!(there.contains(&ids[0]), "after {disk}: a needed layer is lost");
            assert!(there.len() == 1 || !disk.is_after("released"), "after {disk}: back again");
            assert_eq!(store.driver().list().expect("list").len(), there.len(), "after {disk}");
        },
    );
}
