//! `strata mount` and `strata umount`, as a user gives them.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
};

use strata_testkit::{Scratch, require, scratch, skip};

const STRATA: &str = env!("CARGO_BIN_EXE_strata");

fn strata(dir: &Path, arguments: &str) -> Output {
    Command::new(STRATA).args(arguments.split_whitespace()).current_dir(dir).output().unwrap()
}

/// Runs a command that must succeed; returns standard output and error.
fn done(dir: &Path, arguments: &str) -> String {
    let output = strata(dir, arguments);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments}: {text}");
    text
}

fn failed(dir: &Path, arguments: &str) -> String {
    let output = strata(dir, arguments);
    assert!(!output.status.success(), "{arguments} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folders() -> Option<Scratch> {
    require::root()?;
    Path::new("/dev/fuse").exists().then_some(())?;
    let dir = scratch();
    for name in ["lower1", "lower2", "top", "upper", "work", "mnt"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    fs::write(dir.join("lower1/file"), "one\n").unwrap();
    fs::write(dir.join("lower2/file"), "two\n").unwrap();
    fs::write(dir.join("lower2/deep"), "deep\n").unwrap();
    Some(dir)
}

#[test]
fn aufs_by_hand() {
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    done(dir.path(), "mount -t aufs -o dirs=./top:./lower1 none ./mnt");
    assert_eq!(fs::read_to_string(dir.join("mnt/file")).unwrap(), "one\n");
    done(dir.path(), "mount -o remount,append:./lower2 ./mnt");
    assert_eq!(fs::read_to_string(dir.join("mnt/deep")).unwrap(), "deep\n");
    fs::remove_file(dir.join("mnt/deep")).unwrap();
    assert!(dir.join("top/.wh.deep").exists());
    let list = done(dir.path(), "mount --list");
    let top = format!("{}/top=rw", dir.path().display());
    assert!(list.contains(&top) && list.contains("/lower2=ro"), "{list}");
    let json = done(dir.path(), "mount --list --format json");
    assert!(json.contains("\"dialect\": \"aufs\"") && json.contains("\"access\": \"rw\""), "{json}");
    done(dir.path(), "umount ./mnt");
    assert!(!dir.join("mnt/file").exists());
    assert!(failed(dir.path(), "umount ./mnt").contains("no union of ours"));
}

#[test]
fn an_overlay_of_ours_mounts_in_the_kernel_and_the_reverse() {
    if require::overlay().is_none() {
        skip!("needs the kernel's overlayfs");
    }
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    let options = "-o lowerdir=lower1:lower2,upperdir=upper,workdir=work overlay ./mnt";
    done(dir.path(), &format!("mount -t overlay --fuse {options}"));
    fs::write(dir.join("mnt/file"), "ours\n").unwrap();
    fs::remove_file(dir.join("mnt/deep")).unwrap();
    done(dir.path(), "umount mnt");
    let said = done(dir.path(), &format!("mount -t overlay {options}"));
    assert!(said.contains("the kernel's overlayfs"), "{said}");
    let (file, deep) = (fs::read_to_string(dir.join("mnt/file")), dir.join("mnt/deep").exists());
    let written = fs::write(dir.join("mnt/by-kernel"), "kernel\n");
    done(dir.path(), "umount mnt");
    assert_eq!((file.unwrap().as_str(), deep), ("ours\n", false));
    written.unwrap();
    done(dir.path(), &format!("mount -t overlay --fuse {options}"));
    let by_kernel = fs::read_to_string(dir.join("mnt/by-kernel"));
    done(dir.path(), "umount mnt");
    assert_eq!(by_kernel.unwrap(), "kernel\n");
}

#[test]
fn a_mount_helper_by_name() {
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    let output = Command::new(STRATA)
        .arg0("/sbin/mount.fuse.strata")
        .args(["none", "mnt", "-o", "rw,lowerdir=lower1,upperdir=upper,workdir=work"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown = fs::read_to_string(dir.join("mnt/file"));
    done(dir.path(), "umount mnt");
    assert_eq!(shown.unwrap(), "one\n");
}

#[test]
fn what_is_not_honoured_is_refused() {
    let dir = scratch();
    fs::create_dir(dir.join("mnt")).unwrap();
    for (arguments, part) in [
        ("mount -t aufs -o dirs=a,cpup=tdp none mnt", "leftmost"),
        ("mount -t overlay --fuse -o lowerdir=a,nfs_export=on none mnt", "NFS"),
        ("mount -t overlay --fuse -o lowerdir=a,upperdir=b none mnt", "workdir"),
        ("mount -o ro none mnt", "lowerdir"),
        ("mount -t aufs -o dirs=nowhere none mnt", "nowhere"),
    ] {
        let said = failed(dir.path(), arguments);
        assert!(said.contains(part), "{arguments}: {said}");
    }
}
