//! Roots whose images lie in a store that Strata does not write: each command says so, and changes nothing in them.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Root, root_at};
use strata_testkit::{Scratch, require, scratch};

/// A root that dockerd 29 wrote with containerd's image store.
fn recorded() -> Option<(Root, Scratch)> {
    require::root()?;
    require::device_nodes()?;
    let place = scratch();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/docker29-containerd-root/root.tar.gz");
    let status = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "-xzf"])
        .arg(archive)
        .arg("-C")
        .arg(place.path())
        .status()
        .expect("tar runs");
    assert!(status.success());
    Some((root_at(&place.join("docker"))?, place))
}

/// Every path below `root` with all that a change of it would change.
fn listing(root: &Path) -> BTreeMap<PathBuf, [i64; 7]> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let stat = path.symlink_metadata().expect("it is there");
        if stat.is_dir() {
            left.extend(fs::read_dir(&path).expect("list").map(|entry| entry.expect("an entry").path()));
        }
        let times = [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()];
        let [a, b, c, d] = times;
        found.insert(path, [a, b, c, d, stat.ino() as i64, stat.size() as i64, i64::from(stat.mode())]);
    }
    found
}

/// Commands that know no data root.
const WITHOUT_ROOT: [&str; 9] =
    ["login", "logout", "search", "registry", "version", "mount", "umount", "completion", "man"];

/// Every command that works on a data root, in every form that opens one.
fn commands(file: &str, out: &str) -> Vec<Vec<String>> {
    let lines = [
        "run busy:base true".to_owned(),
        "run --rm c1 true".into(),
        "create busy:base".into(),
        "start c1".into(),
        "ps -a".into(),
        "rm c1".into(),
        "rm -f c1".into(),
        "commit c1 new:1".into(),
        "diff c1".into(),
        format!("cp c1:/etc/passwd {out}"),
        format!("cp {file} c1:/tmp/x"),
        format!("export -o {out} c1"),
        "images".into(),
        "images -a".into(),
        format!("load -i {file}"),
        format!("save -o {out} busy:base"),
        format!("import {file} new:1"),
        "history busy:base".into(),
        "tag busy:base new:1".into(),
        "rmi busy:base".into(),
        "rmi -f busy:base".into(),
        "pull 127.0.0.1:1/a:1".into(),
        "push 127.0.0.1:1/a:1".into(),
        "inspect c1".into(),
        "explain c1".into(),
        "fsck".into(),
        "fsck --contents".into(),
        "info".into(),
        "system info".into(),
        "system df".into(),
        "system prune -f".into(),
        "system prune -a -f".into(),
        "container run busy:base true".into(),
        "container ls".into(),
        "container inspect c1".into(),
        "container prune -f".into(),
        "image ls".into(),
        "image inspect busy:base".into(),
        "image prune -f".into(),
        "image prune -a -f".into(),
    ];
    let words = |line: &String| line.split(' ').map(str::to_owned).collect();
    lines.iter().map(words).collect()
}

/// Runs every command, as it is and with each driver named, and compares the root with what it was.
fn nothing_changes(root: &Root, place: &Scratch) {
    let file = root.file("in.tar", &common::tars::archive(&[("in:1", &[common::tars::layer(1, 1000)])]));
    let out = place.join("out").display().to_string();
    let before = listing(root.path());
    for args in commands(&file, &out) {
        for driver in [None, Some("overlay2"), Some("vfs")] {
            let driver: Vec<String> =
                driver.iter().flat_map(|name| ["--storage-driver".into(), (*name).into()]).collect();
            let args: Vec<&str> = driver.iter().chain(&args).map(String::as_str).collect();
            let done = root.run(&args);
            let after = listing(root.path());
            let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            let changed: Vec<_> = paths.into_iter().filter(|path| before.get(*path) != after.get(*path)).collect();
            assert!(changed.is_empty(), "strata {args:?} changed {changed:?}");
            if driver.is_empty() {
                assert_ne!(done.code, 0, "strata {args:?}: {}", done.out);
                assert!(done.err.contains("containerd's image store"), "strata {args:?}: {}", done.err);
            }
        }
    }
    assert!(!Path::new(&out).exists(), "a refused command leaves no file");
}

#[test]
fn no_command_changes_a_root_of_containerds_image_store() {
    let Some((root, place)) = recorded() else { return };
    nothing_changes(&root, &place);
}

#[test]
fn a_root_whose_containerd_lies_elsewhere_is_known_by_each_of_its_signs() {
    let Some((root, _place)) = recorded() else { return };
    for (sign, path) in [
        ("containerd/daemon/io.containerd.snapshotter.v1.overlayfs", "containerd"),
        ("buildkit/containerd-overlayfs", "buildkit"),
        ("rootfs", "rootfs"),
        ("image/identity-cache.db", "image"),
        ("of overlayfs", "containers"),
    ] {
        let said = root.refused(1, &["images"]);
        assert!(said.contains(sign), "{sign}: {said}");
        fs::remove_dir_all(root.join(path)).expect("remove");
    }
    assert_eq!(root.ok(&["images", "-q"]), "", "nothing is left that says so");
}

#[test]
fn every_command_is_tried() {
    let help = common::strata(&["--help"]).output().expect("strata runs");
    let help = String::from_utf8(help.stdout).expect("text");
    let section = help.split("Commands:").nth(1).expect("a list of commands");
    let named: BTreeSet<&str> = section
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase()))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    let tried = commands("in", "out");
    let tried: BTreeSet<&str> =
        tried.iter().map(|args| args[0].as_str()).chain(WITHOUT_ROOT).chain(["help", "strata"]).collect();
    let missing: Vec<_> = named.difference(&tried).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
