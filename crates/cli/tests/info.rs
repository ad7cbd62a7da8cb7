//! What `info` says of drivers that do not work, and that those which it says work do.

mod common;

use std::{
    fs,
    os::unix::fs::chown,
    path::Path,
    process::{Command, Output},
};

use common::{Root, STRATA, root, root_at, tars};
use serde_json::Value;
use strata_testkit::{LoopFs, require, scratch};

/// Each driver that does not work, with the reason.
fn lacking(info: &str) -> Vec<(String, String)> {
    let info: Value = serde_json::from_str(info).unwrap_or_else(|_| panic!("JSON, not {info}"));
    let all = info["StorageDrivers"].as_array().expect("a list").iter().filter(|driver| driver["Works"] == false);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    all.map(|driver| (text(&driver["Name"]), text(&driver["Detail"]))).collect()
}

fn reason<'a>(lacking: &'a [(String, String)], driver: &str) -> Option<&'a str> {
    lacking.iter().find(|(name, _)| name == driver).map(|(_, why)| why.as_str())
}

/// `strata info` on `data_root`, run by a shell script, which has it as `"$@"`.
fn info_by(script: &str, data_root: &Path) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc", script, "sh", STRATA, "--data-root"]).arg(data_root);
    command.args(["info", "--format", "json"]).output().expect("unshare runs")
}

fn said(output: Output) -> Vec<(String, String)> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lacking(&String::from_utf8_lossy(&output.stdout))
}

/// An image is imported, a container of it run and committed, all of it checked.
fn does_work(root: &Root, driver: &str) {
    let on = |args: &[&str]| {
        let all: Vec<&str> = ["--storage-driver", driver].iter().chain(args).copied().collect();
        root.ok(&all)
    };
    let done = root.feed(&["--storage-driver", driver, "import", "-", "bb"], &tars::busybox().expect("busybox"));
    assert_eq!(done.code, 0, "{driver}: {}", done.err);
    on(&[
        "run",
        "--name",
        "box",
        "bb",
        "sh",
        "-c",
        "rm /bin/id && mkdir /new && echo text > /new/file && mv /etc/passwd /new",
    ]);
    on(&["commit", "box", "changed"]);
    let seen = on(&[
        "run",
        "--rm",
        "changed",
        "sh",
        "-c",
        "ls /new; cat /new/file; ls /bin/id /etc/passwd 2> /dev/null || echo gone",
    ]);
    assert_eq!(seen, "file\npasswd\ntext\ngone", "{driver}");
    on(&["fsck", "--contents"]);
    on(&["rm", "box"]);
    on(&["rmi", "changed", "bb"]);
}

#[test]
fn without_the_fuse_device_no_union_in_user_space_works() {
    let Some(root) = root() else { return };
    let found = said(info_by("mount -t tmpfs none /dev; exec \"$@\"", root.path()));
    for driver in ["aufs", "fuse-overlayfs"] {
        let why = reason(&found, driver).unwrap_or_else(|| panic!("{found:?}"));
        assert!(why.starts_with("there is no /dev/fuse; try: modprobe fuse"), "{why}");
    }
    assert_eq!(reason(&found, "overlay2"), None);
    // It is not found out at the first mount: the driver asked for is not taken.
    let there = said(info_by("exec \"$@\"", root.path()));
    assert_eq!(reason(&there, "aufs"), None, "{there:?}");
}

#[test]
fn outside_a_btrfs_the_filesystem_is_named() {
    let Some(fs) = require::root().and_then(|()| LoopFs::ext4(32 << 20)) else { return };
    let Some(root) = root_at(&fs.join("root")) else { return };
    let found = lacking(&root.ok(&["info", "--format", "json"]));
    assert_eq!(reason(&found, "btrfs"), Some("the root is on extfs"));
    assert!(root.ok(&["info"]).contains(" btrfs: does not work (the root is on extfs)"));
}

#[test]
fn without_file_types_in_directories_unions_of_ours_work_and_are_chosen() {
    let Some(fs) = require::root().and_then(|()| LoopFs::ext2_without_d_type(64 << 20)) else { return };
    let (Some(root), Some(_)) = (root_at(&fs.join("root")), tars::busybox()) else { return };
    // Of a root that is not made yet, too.
    for made in [false, true] {
        assert_eq!(root.path().exists(), made);
        let found = lacking(&root.ok(&["info", "--format", "json"]));
        for driver in ["overlay2", "overlay"] {
            let why = reason(&found, driver).unwrap_or_else(|| panic!("{found:?}"));
            assert!(why.contains("keeps no file types in directories (xfs: made with ftype=0)"), "{why}");
        }
        assert_eq!(found.len(), 3, "btrfs is the third: {found:?}");
        fs::create_dir_all(root.path()).expect("create");
    }
    for driver in ["overlay2", "overlay"] {
        let refused = root.run(&["--storage-driver", driver, "import", "/dev/null", "x"]);
        assert!(refused.code != 0 && refused.err.contains("try: --storage-driver fuse-overlayfs"), "{}", refused.err);
    }
    for driver in ["aufs", "fuse-overlayfs", "vfs"] {
        does_work(&root, driver);
    }
    let fresh = root_at(&fs.join("fresh")).expect("as before");
    fresh.import("bb", &tars::busybox().expect("busybox"));
    assert_eq!(fresh.inspect("bb")["GraphDriver"]["Name"], "fuse-overlayfs");
}

#[test]
fn without_extended_attributes_aufs_works_and_is_chosen() {
    let Some(()) = require::root() else { return };
    let place = scratch();
    let status = Command::new("mount").args(["-t", "ramfs", "none"]).arg(place.path()).status();
    assert!(status.is_ok_and(|status| status.success()));
    let found = std::panic::catch_unwind(|| {
        let root = root_at(&place.join("root"))?;
        tars::busybox()?;
        let found = lacking(&root.ok(&["info", "--format", "json"]));
        does_work(&root, "aufs");
        does_work(&root, "vfs");
        Some(found)
    });
    strata_sys::mount::unmount(place.path()).expect("unmount");
    let Some(found) = found.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) else { return };
    let why = |driver: &str| reason(&found, driver).unwrap_or_else(|| panic!("{driver}: {found:?}")).to_owned();
    assert!(
        why("overlay2").starts_with("trusted xattrs: ") && why("overlay").starts_with("trusted xattrs: "),
        "{found:?}"
    );
    assert_eq!(why("fuse-overlayfs"), "xattrs: the filesystem keeps no extended attributes");
    assert_eq!(found.len(), 4, "btrfs is the fourth: {found:?}");
}

#[test]
fn without_root_each_driver_says_so() {
    let Some(()) = require::root() else { return };
    let Some(setpriv) = require::program("setpriv") else { return };
    let place = scratch();
    let data_root = place.join("root");
    fs::create_dir(&data_root).expect("create");
    for path in [place.path(), &data_root] {
        chown(path, Some(65_534), Some(65_534)).expect("give away");
    }
    // Where anybody can run it.
    let program = place.join("strata");
    fs::copy(STRATA, &program).expect("copy");
    let output = Command::new(setpriv)
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .arg("--data-root")
        .arg(&data_root)
        .args(["info", "--format", "json"])
        .output()
        .expect("setpriv runs");
    let found = said(output);
    assert_eq!(found.len(), strata_graphdriver::DRIVERS.len(), "{found:?}");
    for (driver, why) in &found {
        assert!(
            why.starts_with("needs root, with CAP_SYS_ADMIN") && why.ends_with("this is user 65534"),
            "{driver}: {why}"
        );
    }
}
