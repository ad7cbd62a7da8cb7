//! System calls that filesystems get wrong, on a mounted union and on the kernel's overlayfs: the same answers.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

use std::{fs, os::unix::fs::FileExt, path::Path, process::Command};

use strata_testkit::{Scratch, require, scratch, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_strata-unions");

/// Answers that are ours alone, and why.
const OURS: [(&str, &str); 1] = [
    // The crate that speaks FUSE knows no request for it yet; programs make a file with a name instead.
    ("O_TMPFILE: None", "O_TMPFILE: ENOTSUP"),
];

fn directories() -> Scratch {
    let dir = scratch();
    for name in ["lower", "lower/folder", "upper", "work", "mnt"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    for name in ["low", "low2", "low3"] {
        fs::write(dir.join("lower").join(name), [b'l'; 8192]).unwrap();
    }
    fs::write(dir.join("lower/folder/inner"), "inner").unwrap();
    fs::File::create(dir.join("lower/sparse")).unwrap().write_all_at(b"data", 1 << 20).unwrap();
    dir
}

/// What the calls answer on a mount that `command` makes, with `$D` for the directory of them all.
fn answers(command: &str) -> Vec<String> {
    let dir = directories();
    let at = dir.path().to_str().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/calls.py");
    let script = format!("{command}; python3 {} $D/mnt && umount $D/mnt", script.display());
    let done = Command::new("sh").args(["-ec", &script]).env("D", at).output().unwrap();
    assert!(done.status.success(), "{command}: {done:?}");
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn calls_answer_as_on_the_kernels_overlayfs() {
    if require::root().is_none() || require::overlay().is_none() || !Path::new("/dev/fuse").exists() {
        skip!("needs root, the kernel's overlayfs and /dev/fuse");
    }
    if require::program("python3").is_none() {
        return;
    }
    let overlay = "lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work";
    let kernel = answers(&format!("mount -t overlay -o {overlay} overlay $D/mnt"));
    for more in ["", ",passthrough=off", ",threads=1"] {
        for (words, options) in [("overlay", overlay), ("aufs", "dirs=$D/upper:$D/lower=ro+wh")] {
            let ours = answers(&format!("{PROGRAM} mount {words} {options}{more} $D/mnt"));
            assert_eq!(ours.len(), kernel.len());
            let differences: Vec<_> = kernel
                .iter()
                .zip(&ours)
                .filter(|(kernel, ours)| kernel != ours)
                .filter(|(kernel, ours)| !OURS.contains(&(kernel.as_str(), ours.as_str())))
                .collect();
            assert!(differences.is_empty(), "{words}{more}, the kernel and we: {differences:#?}");
        }
    }
}
