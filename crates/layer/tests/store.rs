//! What the layer store promises, without crashes.

mod common;

use std::{fs, io::Cursor, os::unix::fs::PermissionsExt, path::Path};

use common::*;
use strata_archive::Limits;
use strata_graphdriver::Access;
use strata_layer::{Depth, Error, Finding, Layer, Store, verify::Object};
use strata_spec::{ErrorKind, chain_ids};
use strata_testkit::{require, scratch};

macro_rules! needs_overlay {
    () => {
        let Some(()) = require::root() else { return };
        let Some(()) = require::overlay() else { return };
    };
}

#[test]
fn a_layer_comes_back_as_it_went_in() {
    needs_overlay!();
    let scratch = scratch();
    let store = open(scratch.path());
    let tars = [layer_tar(1), layer_tar(2), layer_tar(3)];
    let layers = add(&store, None, &tars, |_| {}).expect("register");
    let diffs: Vec<_> = tars.iter().map(|tar| diff_of(tar)).collect();
    assert_eq!(layers.iter().map(|l| l.chain_id).collect::<Vec<_>>(), chain_ids(&diffs).collect::<Vec<_>>());
    for (layer, tar) in layers.iter().zip(&tars) {
        assert_eq!(&store.get(layer.chain_id).expect("get"), layer);
        let mut out = Vec::new();
        store.write_tar(layer.chain_id, &mut out).expect("write the tar");
        assert_eq!(&out, tar);
    }
    let top = layers[2].chain_id;
    let chain: Vec<_> = store.chain(top).expect("chain").into_iter().rev().collect();
    assert_eq!(chain, layers);
    assert_eq!(store.find_by_diff(diffs[1]).expect("find"), [layers[1].chain_id]);
    assert_sound(&store, &"after registering");
    assert_tidy(scratch.path(), &"after registering");
}

#[test]
fn the_record_is_dockers() {
    needs_overlay!();
    let scratch = scratch();
    let store = open(scratch.path());
    let layers = add(&store, None, &[layer_tar(1), layer_tar(20)], |_| {}).expect("register");
    let container = container(1);
    let mount = store.create_mount(&container, Some(layers[1].chain_id), |_| Ok(())).expect("create");
    let db = scratch.join("image/overlay2/layerdb");
    let mode = |path: &Path| fs::metadata(path).expect("stat").permissions().mode() & 0o7777;
    let text = |path: &Path| fs::read_to_string(path).expect("read");
    for (path, expected) in [
        ("", 0o700),
        ("../..", 0o700),
        ("sha256", 0o755),
        ("mounts", 0o755),
        ("tmp", 0o755),
        (&format!("sha256/{}", layers[1].chain_id.hex()), 0o700),
        (&format!("mounts/{container}"), 0o755),
    ] {
        assert_eq!(mode(&db.join(path)), expected, "{path}");
    }
    let dir = db.join("sha256").join(layers[1].chain_id.hex());
    for (name, expected) in [
        ("diff", layers[1].diff_id.to_string()),
        ("parent", layers[0].chain_id.to_string()),
        ("cache-id", layers[1].cache_id.to_string()),
        ("size", "28".into()),
    ] {
        assert_eq!(text(&dir.join(name)), expected, "{name}");
        assert_eq!(mode(&dir.join(name)), 0o644, "{name}");
    }
    assert_eq!(mode(&dir.join("tar-split.json.gz")), 0o644);
    assert!(!db.join("sha256").join(layers[0].chain_id.hex()).join("parent").exists());
    let dir = db.join("mounts").join(container.as_str());
    for (name, expected) in [
        ("mount-id", mount.mount_id.to_string()),
        ("init-id", format!("{}-init", mount.mount_id)),
        ("parent", layers[1].chain_id.to_string()),
    ] {
        assert_eq!(text(&dir.join(name)), expected, "{name}");
        assert_eq!(mode(&dir.join(name)), 0o644, "{name}");
    }
}

#[test]
fn a_layer_that_is_there_is_not_made_twice() {
    needs_overlay!();
    let scratch = scratch();
    let store = open(scratch.path());
    let first = add(&store, None, &[layer_tar(1), layer_tar(2)], |_| {}).expect("register");
    let again = add(&store, None, &[layer_tar(1), layer_tar(2), layer_tar(3)], |_| {}).expect("register again");
    assert_eq!(again[..2], first);
    assert_eq!(store.driver().list().expect("list").len(), 3, "the second copies are gone");
    assert_sound(&store, &"after registering twice");
    let over = add(&store, Some(first[0].chain_id), &[layer_tar(2)], |_| {}).expect("register over a parent");
    assert_eq!(over[0], first[1]);
}

#[test]
fn many_register_the_same_at_once() {
    needs_overlay!();
    let scratch = scratch();
    let tars: Vec<_> = (0..4).map(layer_tar).collect();
    std::thread::scope(|scope| {
        for n in 0..6 {
            let (tars, root) = (&tars, scratch.path());
            scope.spawn(move || {
                let store = open(root);
                let layers = add(&store, None, &tars[..2 + n % 3], |_| {}).expect("register");
                assert_eq!(layers.len(), 2 + n % 3);
            });
        }
    });
    let store = open(scratch.path());
    assert_eq!(store.list().expect("list").len(), 4);
    assert_eq!(store.driver().list().expect("list").len(), 4);
    assert_sound(&store, &"after the race");
    assert_tidy(scratch.path(), &"after the race");
}

#[test]
fn who_waits_for_a_flight_finds_the_layer_made() {
    needs_overlay!();
    let scratch = scratch();
    let tars = [layer_tar(1), layer_tar(2)];
    let diffs: Vec<_> = tars.iter().map(|tar| diff_of(tar)).collect();
    let ids: Vec<_> = chain_ids(&diffs).collect();
    let unpacked = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (tars, ids, unpacked, root) = (&tars, &ids, &unpacked, scratch.path());
            scope.spawn(move || {
                let store = open(root);
                let mut asked = ids.clone();
                asked.rotate_left(n % 2);
                let _flight = store.flight(&asked).expect("flight");
                if store.get(ids[1]).is_err() {
                    unpacked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    add(&store, None, tars, |_| {}).expect("register");
                }
            });
        }
    });
    assert_eq!(unpacked.into_inner(), 1);
}

#[test]
fn a_layer_that_lies_is_refused_and_leaves_nothing() {
    needs_overlay!();
    let scratch = scratch();
    let store = open(scratch.path());
    let unpacked = store.unpack(Cursor::new(layer_tar(1)), None, &Limits::default()).expect("unpack");
    let error = unpacked.expect(diff_of(b"another")).err().expect("refused");
    assert!(matches!(error, Error::DiffMismatch { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let broken = &layer_tar(2)[..700];
    assert!(store.unpack(Cursor::new(broken), None, &Limits::default()).is_err());
    assert_eq!(store.driver().list().expect("list"), []);
    assert_sound(&store, &"after refusing");
    assert_tidy(scratch.path(), &"after refusing");
}

#[test]
fn release_takes_what_nobody_needs() {
    needs_overlay!();
    let scratch = scratch();
    let store = open(scratch.path());
    let ids = |layers: Vec<strata_layer::Layer>| layers.into_iter().map(|l| l.chain_id).collect::<Vec<_>>();
    let main = ids(add(&store, None, &[layer_tar(1), layer_tar(2), layer_tar(3)], |_| {}).expect("register"));
    let side = ids(add(&store, Some(main[1]), &[layer_tar(4)], |_| {}).expect("register"));
    let nobody = |_| false;

    assert_eq!(store.release(main[1], &nobody).expect("release"), [], "others stand on it");
    assert_eq!(store.release(side[0], &|id| id == side[0]).expect("release"), [], "an image names it");
    let mut lease = store.lease().expect("lease");
    lease.hold(side[0]).expect("hold");
    assert_eq!(open(scratch.path()).release(side[0], &nobody).expect("release"), [], "an operation holds it");
    lease.done().expect("done");
    store.create_mount(&container(1), Some(side[0]), |_| Ok(())).expect("create");
    assert_eq!(store.release(side[0], &nobody).expect("release"), [], "a container stands on it");
    store.remove_mount(&container(1)).expect("remove");
    assert_eq!(store.release(side[0], &nobody).expect("release"), side, "its parent has another child");
    assert_eq!(
        store.release(main[2], &|id| id == main[0]).expect("release"),
        [main[2], main[1]],
        "down to what is needed"
    );
    assert_eq!(store.release(main[2], &nobody).expect("release"), [], "what is not there is no error");
    assert_eq!(store.list().expect("list"), [main[0]]);
    assert_eq!(store.driver().list().expect("list").len(), 1);
    let mut lease = store.lease().expect("lease");
    assert!(matches!(lease.hold(main[1]), Err(Error::NotFound(_))));
    drop(lease);
    assert_sound(&store, &"after releasing");
    assert_tidy(scratch.path(), &"after releasing");
}

#[test]
fn a_container_writes_above_its_init_layer() {
    needs_overlay!();
    let scratch = scratch();
    let store = open(scratch.path());
    let layers = add(&store, None, &[layer_tar(1), layer_tar(2)], |_| {}).expect("register");
    let id = container(7);
    let init = |root: &Path| {
        assert_eq!(fs::read_to_string(root.join("etc/hosts")).expect("reads the image"), "layer 2");
        strata_durable::write(&root.join("etc/hostname"), b"", 0o755)
    };
    let made = store.create_mount(&id, Some(layers[1].chain_id), init).expect("create");
    assert_eq!(store.mount(&id).expect("look up"), made);
    assert_eq!(store.list_mounts().expect("list"), std::slice::from_ref(&id));
    let again = store.create_mount(&id, Some(layers[1].chain_id), |_| Ok(())).expect_err("it has one");
    assert!(matches!(again, Error::MountExists(_)), "{again}");
    let root = made.mount(&store, Access::ReadWrite).expect("mount");
    assert!(root.path().join("etc/hostname").exists());
    fs::write(root.path().join("etc/hosts"), "mine").expect("write");
    drop(root);
    let changes = made.changes(&store).expect("changes");
    let paths: Vec<_> = changes.iter().map(|change| change.path.to_str().expect("text")).collect();
    assert_eq!(paths, ["/etc", "/etc/hosts"], "the init layer is no change");
    assert_eq!(made.size(&store).expect("size"), 4);
    assert_sound(&store, &"with a container");

    // A commit of the container: its diff over the same parent.
    let mut tar = Vec::new();
    made.diff(&store, &mut tar).expect("diff");
    let committed = add(&store, Some(layers[1].chain_id), &[tar], |_| {}).expect("register");
    assert_eq!(store.chain(committed[0].chain_id).expect("chain").len(), 3);

    store.remove_mount(&id).expect("remove");
    store.remove_mount(&id).expect("removing what is not there is no error");
    assert!(matches!(store.mount(&id), Err(Error::MountNotFound(_))));
    assert_eq!(store.driver().list().expect("list").len(), 3);
    assert_sound(&store, &"after removing");
    assert_tidy(scratch.path(), &"after removing");
}

#[test]
fn a_container_without_layers_below() {
    needs_overlay!();
    let scratch = scratch();
    let store = open(scratch.path());
    let made = store
        .create_mount(&container(1), None, |root| strata_durable::write(&root.join("x"), b"", 0o644))
        .expect("create");
    let root = made.mount(&store, Access::ReadWrite).expect("mount");
    fs::write(root.path().join("y"), "").expect("write");
    drop(root);
    assert_eq!(made.changes(&store).expect("changes").len(), 1);
    assert_sound(&store, &"over nothing");
}

#[test]
fn an_init_that_fails_leaves_nothing() {
    needs_overlay!();
    let scratch = scratch();
    let store = open(scratch.path());
    let layers = add(&store, None, &[layer_tar(1)], |_| {}).expect("register");
    let fails = |root: &Path| strata_durable::read(&root.join("not there")).map(drop);
    let error = store.create_mount(&container(1), Some(layers[0].chain_id), fails).expect_err("init fails");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(store.list_mounts().expect("list"), []);
    assert_eq!(store.driver().list().expect("list").len(), 1);
    assert_tidy(scratch.path(), &"after failing");
}

#[test]
fn an_image_that_is_too_deep_is_refused_before_it_is_there() {
    needs_overlay!();
    let scratch = scratch();
    let store = open(scratch.path());
    let max = store.max_layers();
    // Their records are enough, and quicker than so many layers.
    let diffs: Vec<_> = (0..max).map(|n| diff_of(n.to_string().as_bytes())).collect();
    let ids: Vec<_> = chain_ids(&diffs).collect();
    for (n, id) in ids.iter().enumerate() {
        let dir = store.layout().layer(*id);
        let cache_id = strata_spec::CacheId::from_random([n as u8; 32]);
        fs::create_dir(&dir).expect("create");
        let parent = n.checked_sub(1).map(|below| ids[below].to_string());
        let record =
            [("diff", Some(diffs[n].to_string())), ("parent", parent), ("cache-id", Some(cache_id.to_string()))];
        for (name, text) in record.into_iter().filter_map(|(name, text)| Some((name, text?))) {
            fs::write(dir.join(name), text).expect("write");
        }
        fs::write(dir.join("size"), "0").expect("write");
    }
    let parent = ids.last().copied();
    let error = add(&store, parent, &[layer_tar(max)], |_| {}).expect_err("one more");
    assert!(matches!(error, Error::TooDeep(..)), "{error}");
    assert_eq!(store.list().expect("list").len(), max);
    assert_tidy(scratch.path(), &"after refusing");
}

/// What can go wrong with a layer, given layerdb, the ChainIDs of a layer and of the one below, and its folder; and what is said of it.
type Damage = (&'static str, fn(&Path, &str, &str, &str), &'static str);

const DAMAGES: [Damage; 12] = [
    (
        "an empty cache-id",
        |db, top, _, _| fs::write(db.join("sha256").join(top).join("cache-id"), "").expect("write"),
        "empty",
    ),
    (
        "a missing diff",
        |db, top, _, _| fs::remove_file(db.join("sha256").join(top).join("diff")).expect("remove"),
        "missing",
    ),
    (
        "a torn diff",
        |db, top, _, _| fs::write(db.join("sha256").join(top).join("diff"), "sha256:12").expect("write"),
        "does not hold",
    ),
    (
        "another parent",
        |db, top, _, _| fs::remove_file(db.join("sha256").join(top).join("parent")).expect("remove"),
        "make the layer",
    ),
    (
        "a missing tar-split",
        |db, top, _, _| fs::remove_file(db.join("sha256").join(top).join("tar-split.json.gz")).expect("remove"),
        "missing",
    ),
    (
        "a missing parent",
        |db, _, base, _| fs::remove_dir_all(db.join("sha256").join(base)).expect("remove"),
        "not in the store",
    ),
    (
        "a missing folder",
        |db, _, _, cache| fs::remove_dir_all(db.join("../../../overlay2").join(cache)).expect("remove"),
        "missing",
    ),
    (
        "an empty link",
        |db, _, _, cache| fs::write(db.join("../../../overlay2").join(cache).join("link"), "").expect("write"),
        "empty",
    ),
    (
        "a missing lower",
        |db, _, _, cache| fs::remove_file(db.join("../../../overlay2").join(cache).join("lower")).expect("remove"),
        "the layers below are not known",
    ),
    (
        "a changed file",
        |db, _, _, cache| {
            fs::write(db.join("../../../overlay2").join(cache).join("diff/etc/hosts"), "LAYER 2").expect("write")
        },
        "etc/hosts",
    ),
    (
        "a truncated file",
        |db, _, _, cache| {
            fs::write(db.join("../../../overlay2").join(cache).join("diff/etc/hosts"), "").expect("write")
        },
        "etc/hosts",
    ),
    (
        "a missing file",
        |db, _, _, cache| {
            fs::remove_file(db.join("../../../overlay2").join(cache).join("diff/etc/hosts")).expect("remove")
        },
        "etc/hosts",
    ),
];

#[test]
fn every_damage_is_found_and_hides_no_other() {
    needs_overlay!();
    for (what, damage, says) in DAMAGES {
        let scratch = scratch();
        let store = open(scratch.path());
        let layers = add(&store, None, &[layer_tar(1), layer_tar(2)], |_| {}).expect("register");
        let other = add(&store, None, &[layer_tar(9)], |_| {}).expect("register")[0].clone();
        assert_sound(&store, &what);
        let db = scratch.join("image/overlay2/layerdb");
        damage(&db, &layers[1].chain_id.hex(), &layers[0].chain_id.hex(), layers[1].cache_id.as_str());
        // A second damage, elsewhere, is found beside the first.
        fs::write(db.join("sha256").join(other.chain_id.hex()).join("size"), "").expect("write");
        let findings = store.verify(Depth::Contents);
        let about = |id, says: &str| {
            let hit = |f: &&Finding| f.object == Object::Layer(id) && f.to_string().contains(says);
            assert!(findings.iter().any(|f| hit(&f)), "{what}: {findings:#?}");
        };
        about(layers[1].chain_id, says);
        about(other.chain_id, "empty");

        if !matches!(what, "a changed file" | "a truncated file" | "a missing file") {
            heals(&store, &layers, what);
        }
    }
}

/// Getting the image again heals it: what is damaged stands in nobody's way.
fn heals(store: &Store, layers: &[Layer], what: &str) {
    let tars = [layer_tar(1), layer_tar(2)];
    let ids = [layers[0].chain_id, layers[1].chain_id];
    let mut lease = store.lease().expect("lease");
    let whole = lease.hold_lowest(&ids).expect("hold");
    let parent = whole.last().map(|layer| layer.chain_id);
    assert_eq!(whole.len(), if what == "a missing parent" { 0 } else { 1 }, "{what}");
    drop(lease);
    add(store, parent, &tars[whole.len()..], |_| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
    let healed = ids.map(|id| store.verify_layer(id, Depth::Contents));
    assert_eq!(healed, [vec![], vec![]], "{what}");
    let image = store.driver().mount(&store.get(ids[1]).expect("get").cache_id, Access::ReadOnly).expect("mount");
    assert!(image.path().join("file-1").exists(), "{what}");
}

#[test]
fn orphans_and_broken_containers_are_found() {
    needs_overlay!();
    let scratch = scratch();
    let store = open(scratch.path());
    let layers = add(&store, None, &[layer_tar(1), layer_tar(2)], |_| {}).expect("register");
    let ids = [container(1), container(2), container(3)];
    let mounts = ids.each_ref().map(|id| store.create_mount(id, Some(layers[1].chain_id), |_| Ok(())).expect("create"));
    let db = scratch.join("image/overlay2/layerdb");
    let orphan = strata_spec::CacheId::from_random([0xee; 32]);
    store.driver().create(&orphan, strata_graphdriver::Parent::None, Access::ReadOnly).expect("create");
    fs::remove_dir_all(scratch.join("overlay2").join(mounts[0].mount_id.as_str())).expect("remove");
    fs::write(db.join("mounts").join(ids[1].as_str()).join("mount-id"), "").expect("write");
    fs::remove_dir_all(db.join("mounts").join(ids[2].as_str())).expect("remove");

    let findings = store.verify(Depth::Metadata);
    let objects: Vec<_> = findings.iter().map(|finding| finding.object.clone()).collect();
    for expected in [
        Object::Folder(orphan.clone()),
        Object::Mount(ids[0].clone()),
        Object::Mount(ids[1].clone()),
        Object::Folder(mounts[2].mount_id.clone()),
        Object::Folder(mounts[2].mount_id.init()),
    ] {
        assert!(objects.contains(&expected), "{expected}: {findings:#?}");
    }
    assert!(!objects.iter().any(|object| matches!(object, Object::Layer(_))), "{findings:#?}");
    // The damaged container's image stays, and the container can be removed.
    assert_eq!(store.release(layers[1].chain_id, &|_| false).expect("release"), []);
    store.remove_mount(&ids[1]).expect("remove");
    assert!(!store.driver().exists(&mounts[1].mount_id.init()));
}

#[test]
fn a_read_only_root_can_be_read() {
    needs_overlay!();
    let Some(disk) = strata_testkit::LoopFs::ext4(16 << 20) else { return };
    let tar = layer_tar(1);
    let id = {
        let store = open(disk.path());
        add(&store, None, std::slice::from_ref(&tar), |_| {}).expect("register")[0].chain_id
    };
    disk.remount_read_only();
    let store = open(disk.path());
    let mut out = Vec::new();
    store.write_tar(id, &mut out).expect("write the tar");
    assert_eq!(out, tar);
    assert_eq!(store.list().expect("list"), [id]);
    assert_sound(&store, &"read-only");
    let error = store.unpack(Cursor::new(layer_tar(2)), None, &Limits::default()).err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
    let error = store.release(id, &|_| false).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
    disk.remount_read_write();
}

#[test]
fn a_full_disk_leaves_the_store_as_it_was() {
    needs_overlay!();
    let Some(disk) = strata_testkit::LoopFs::ext4(16 << 20) else { return };
    let store = open(disk.path());
    add(&store, None, &[layer_tar(1)], |_| {}).expect("register");
    disk.fill(1 << 20);
    let big = tar(&[("big", &"x".repeat(2 << 20))]);
    let error = add(&store, None, &[big], |_| {}).expect_err("no space");
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!(store.list().expect("list").len(), 1);
    assert_eq!(store.driver().list().expect("list").len(), 1);
    assert_sound(&store, &"after a full disk");
    assert_tidy(disk.path(), &"after a full disk");
}
