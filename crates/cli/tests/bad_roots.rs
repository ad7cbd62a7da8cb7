//! Roots in trouble: full, read-only, damaged, of a newer format, of another user. Each is said in one clear error, and nothing else suffers.

mod common;

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use common::{
    Done, STRATA, assert_clear, root_at, root_with_image,
    tars::{self, archive, layer},
};
use strata_testkit::{LoopFs, require};

#[test]
fn a_disk_that_fills_up_at_any_moment_is_said_and_left_as_it_was() {
    let Some(fs) = LoopFs::ext4(48 << 20) else { return };
    let Some(root) = root_at(&fs.join("root")) else { return };
    let Some(busybox) = tars::busybox() else { return };
    root.import("bb", &busybox);
    root.ok(&["run", "--name", "changed", "bb", "sh", "-c", "dd if=/dev/urandom of=/big bs=1024 count=600"]);
    let bad = archive(&[("bad:1", &[layer(2, 400_000), layer(3, 300_000)])]);
    let file = root.file("bad.tar", &bad);
    let before = root.listing();
    let free = fs.free_bytes();
    // From nothing to all but what is needed.
    for left in [0, 8, 24, 60, 120, 300, 500, 700].map(|kib| kib << 10) {
        fs.fill(left);
        let done = root.run(&["load", "-i", &file]);
        assert_clear(&done, 1, &["No space left on device"], &format!("load with {left} bytes left"));
        if left < 300 << 10 {
            let done = root.run(&["commit", "changed", "bad:2"]);
            assert_clear(&done, 1, &["No space left on device"], &format!("commit with {left} bytes left"));
        }
        // What is there can be used.
        assert_eq!(root.ok(&["images", "-q"]).lines().count(), 1);
        root.ok(&["history", "bb"]);
        fs::remove_file(fs.join("filler")).expect("remove the filler");
        // Settled by whoever writes next, even if that is refused.
        root.refused(1, &["rmi", "nothing"]);
        assert_eq!(root.listing(), before, "with {left} bytes left");
        root.assert_sound(&format!("with {left} bytes left"));
        let lost = free.saturating_sub(fs.free_bytes());
        assert!(lost < 64 << 10, "{lost} bytes are lost");
    }
    root.ok(&["load", "-i", &file]);
    root.ok(&["commit", "changed", "good:1"]);
    // A full disk does not keep anyone from making room.
    fs.fill(0);
    root.ok(&["rm", "changed"]);
    root.ok(&["rmi", "good:1", "bad:1"]);
    root.assert_sound(&"room was made on a full disk");
}

#[test]
fn a_read_only_root_is_read_and_not_written() {
    let Some(fs) = LoopFs::ext4(32 << 20) else { return };
    let Some(root) = root_at(&fs.join("root")) else { return };
    let Some(busybox) = tars::busybox() else { return };
    root.import("bb", &busybox);
    root.ok(&["run", "--name", "box", "bb", "touch", "/new"]);
    let saved = root.save(&["bb"]);
    fs.remount_read_only();
    for args in [
        &["images"][..],
        &["ps", "-a"],
        &["history", "bb"],
        &["inspect", "bb", "box"],
        &["diff", "box"],
        &["info"],
        &["system", "df"],
        &["explain", "bb"],
        &["fsck", "--contents"],
    ] {
        root.ok(args);
    }
    assert!(root.save(&["bb"]) == saved);
    let path = root.path().display().to_string();
    let says = [path.as_str(), "is on a read-only filesystem: it can be read, not changed"];
    for args in [
        &["tag", "bb", "other"][..],
        &["rmi", "bb"],
        &["rm", "box"],
        &["commit", "box"],
        &["create", "bb"],
        &["image", "prune", "-f"],
        &["container", "prune", "-f"],
        &["system", "prune", "-f"],
    ] {
        assert_clear(&root.run(args), 1, &says, args[0]);
    }
    assert_clear(&root.run(&["run", "bb", "true"]), 125, &says, "run");
    assert_clear(&root.run(&["start", "box"]), 1, &says, "start");
    assert_clear(&root.load(&saved), 1, &says, "load");
    fs.remount_read_write();
    root.assert_sound(&"writable again");
    root.ok(&["run", "--rm", "bb", "true"]);
}

#[test]
fn without_roots_rights_the_error_says_so() {
    let Some(root) = root_with_image() else { return };
    let Some(setpriv) = require::program("setpriv") else { return };
    for dir in [root.scratch.path(), root.path()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).expect("let others pass");
    }
    // What was built may lie where others cannot come.
    let program = root.scratch.join("strata");
    fs::copy(STRATA, &program).expect("copy the program");
    let as_nobody = |args: &[&str]| -> Done {
        let mut command = Command::new(&setpriv);
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(args);
        command.env("STRATA_DATA_ROOT", root.path()).current_dir("/").output().expect("setpriv").into()
    };
    let before = root.listing();
    let path = root.path().display().to_string();
    for (args, code) in [
        (&["rmi", "keep:1"][..], 1),
        (&["tag", "keep:1", "more"], 1),
        (&["create", "keep:1", "x"], 1),
        (&["run", "keep:1", "x"], 125),
    ] {
        assert_clear(&as_nobody(args), code, &[&path, "run as root"], args[0]);
    }
    // Nor can the stores be read.
    assert_clear(&as_nobody(&["images"]), 1, &[&path, "Permission denied"], "images");
    assert_eq!(root.listing(), before);
    assert_eq!(as_nobody(&["version"]).code, 0);
    root.assert_sound(&"afterwards");
}

#[test]
fn a_newer_format_is_refused() {
    let Some(root) = root_with_image() else { return };
    fs::write(root.join("strata/version"), "7\n").expect("write");
    let says = [root.path().to_str().expect("a path"), "newer", "format 7", "use that version"];
    for args in [&["images"][..], &["rmi", "keep:1"], &["fsck"]] {
        assert_clear(&root.run(args), 1, &says, args[0]);
    }
    assert_clear(&root.run(&["run", "keep:1", "x"]), 125, &says, "run");
    // `strata/` may be deleted at any time.
    fs::remove_dir_all(root.join("strata")).expect("remove");
    assert_eq!(root.lines(&["images", "-q"]).len(), 1);
    root.ok(&["tag", "keep:1", "more:1"]);
    root.assert_sound(&"without strata/");
}

#[test]
fn a_damaged_layout_is_reported_and_the_rest_works() {
    let Some(root) = root_with_image() else { return };
    let Some(busybox) = tars::busybox() else { return };
    root.import("bb", &busybox);
    assert_eq!(root.load(&archive(&[("bad:1", &[layer(5, 300)])])).code, 0);
    root.ok(&["create", "--name", "box", "bb", "true"]);
    let inspected = root.inspect("bad:1");
    let upper = inspected["GraphDriver"]["Data"]["UpperDir"].as_str().expect("a path").to_owned();
    let folder = Path::new(&upper).parent().expect("a folder").to_owned();
    let chain = inspected["RootFS"]["Layers"][0].as_str().expect("a DiffID").replace("sha256:", "");
    let config = inspected["Id"].as_str().expect("an ID").replace("sha256:", "");
    let id = root.inspect("box")["Id"].as_str().expect("an ID").to_owned();
    let layerdb = format!("image/overlay2/layerdb/sha256/{chain}");
    let files = [
        (folder.join("link"), &["bad:1"][..]),
        (root.join(format!("{layerdb}/cache-id")), &["bad:1"]),
        (root.join(format!("{layerdb}/diff")), &["bad:1"]),
        (root.join(format!("{layerdb}/size")), &["bad:1"]),
        (root.join(format!("image/overlay2/imagedb/content/sha256/{config}")), &["bad:1"]),
        (root.join(format!("containers/{id}/config.v2.json")), &["box"]),
    ];
    for (path, objects) in files {
        let whole = fs::read(&path).expect("read");
        File::create(&path).expect("empty it");
        let what = path.strip_prefix(root.path()).expect("in the root").display().to_string();
        // It is found, with the path and the way out.
        let found = root.run(&["fsck"]);
        assert_eq!(found.code, 1, "{what}: {}{}", found.out, found.err);
        assert!(found.out.contains(&what), "{what}: {}", found.out);
        // What needs it fails, and says why.
        for object in objects {
            let done = root.run(&["inspect", object]);
            let used = match *object {
                "box" => root.run(&["start", object]),
                _ => root.run(&["create", object, "true"]),
            };
            assert!(done.code != 0 || used.code != 0, "{what}: nothing minds");
        }
        // Nothing else minds.
        root.ok(&["images"]);
        root.ok(&["ps", "-a"]);
        root.ok(&["run", "--rm", "bb", "true"]);
        root.save(&["keep:1"]);
        root.ok(&["tag", "keep:1", "more:1"]);
        root.ok(&["rmi", "more:1"]);
        fs::write(&path, whole).expect("put it back");
        for name in root.lines(&["ps", "-aq", "--no-trunc"]) {
            if name != id {
                root.ok(&["rm", &name]);
            }
        }
        root.assert_sound(&format!("{what} is back"));
    }
}

#[test]
fn zero_length_names_are_reported_and_images_are_still_there() {
    let Some(root) = root_with_image() else { return };
    let path = root.join("image/overlay2/repositories.json");
    let id = root.ok(&["images", "-q", "--no-trunc"]);
    File::create(&path).expect("empty it");
    let found = root.run(&["fsck"]);
    assert_eq!(found.code, 1);
    assert!(found.out.contains("image/overlay2/repositories.json"), "{}", found.out);
    let done = root.run(&["tag", &id, "keep:1"]);
    assert!(done.code == 0 || done.err.contains("repositories.json"), "{}", done.err);
    let done = root.run(&["inspect", &id]);
    assert!(done.code == 0 || done.err.contains("repositories.json"), "{}", done.err);
}

#[test]
fn an_operation_of_another_version_is_neither_settled_nor_forgotten() {
    let Some(root) = root_with_image() else { return };
    let entry = root.join("strata/journal/0123456789abcdef");
    let written = "{\"strata\":\"9.1.0\"}\n{\"op\":\"network.create\",\"id\":\"abc\"}\n";
    fs::write(&entry, written).expect("write a journal entry");
    for args in [&["tag", "bb", "bb:2"][..], &["rmi", "bb"], &["image", "prune", "-f"]] {
        let done = root.run(args);
        assert_clear(&done, 1, &["network.create", "version 9.1.0", "run that version"], &args.join(" "));
        assert_eq!(fs::read_to_string(&entry).expect("the entry stays"), written);
    }
    // What only reads settles nothing, and needs nothing settled.
    assert_eq!(root.ok(&["images", "-q"]).lines().count(), 1);
}
