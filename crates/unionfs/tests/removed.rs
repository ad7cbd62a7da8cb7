//! What has lost its name and is held still: a working directory, a link or a file by `O_PATH`. It answers as on ext4.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::Read,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
};

use common::{
    base::Base,
    me,
    mounted::{Mounted, can_mount, shell},
};
use rustix::fs::{AtFlags, StatxFlags};
use strata_testkit::skip;
use strata_unionfs::{Dialect, DirEntry, Errno, Fill, NodeId, RenameFlags, SetAttr};

fn fill(dir: &std::path::Path) {
    fs::create_dir_all(dir.join("lower1/lower-dir")).unwrap();
    fs::create_dir_all(dir.join("lower1/merged")).unwrap();
    fs::create_dir_all(dir.join("upper/merged")).unwrap();
    fs::create_dir_all(dir.join("upper/upper-dir")).unwrap();
    fs::create_dir_all(dir.join("lower1/target")).unwrap();
    for branch in ["lower1/lower", "upper/upper"] {
        fs::write(dir.join(format!("{branch}-file")), "content\n").unwrap();
        std::os::unix::fs::symlink("text", dir.join(format!("{branch}-link"))).unwrap();
    }
}

fn by_path(path: &std::path::Path) -> std::fs::File {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path).unwrap()
}

#[test]
fn a_removed_working_directory_answers() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    for words in ["aufs", "overlay"] {
        let mounted = Mounted::new(words, "", fill);
        for name in ["lower-dir", "upper-dir", "merged"] {
            let said = shell(
                &mounted,
                &format!(
                    "cd $M/{name}; rmdir $M/{name}; stat -c '%F %h' . ; ls -a | wc -l; getfattr -d .; touch new 2>&1 || true"
                ),
            );
            assert!(said.starts_with("directory 0\n0\n"), "{words} {name}: {said}");
            assert!(said.contains("No such file or directory"), "{words} {name}: {said}");
        }
        // A directory that another was moved over.
        let said = shell(&mounted, "mkdir $M/new; cd $M/target; mv -T $M/new $M/target; stat -c %F .; ls -a | wc -l");
        assert_eq!(said, "directory\n0\n", "{words}");
    }
}

#[test]
fn what_is_held_by_o_path_answers_after_its_removal() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    for words in ["aufs", "overlay"] {
        let mounted = Mounted::new(words, "", fill);
        for name in ["lower-file", "upper-file"] {
            let held = by_path(&mounted.at(name));
            let ino = held.metadata().unwrap().ino();
            fs::remove_file(mounted.at(name)).unwrap();
            let now = held.metadata().unwrap();
            assert_eq!((now.ino(), now.nlink(), now.len()), (ino, 0, 8), "{words} {name}");
            let mut text = String::new();
            let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
            fs::File::open(&again).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "content\n", "{words} {name}");
            // Writing copies it up, without a name.
            fs::write(&again, "changed\n").unwrap();
            assert_eq!(fs::read_to_string(&again).unwrap(), "changed\n", "{words} {name}");
            assert!(!mounted.at(name).exists());
        }
        for name in ["lower-link", "upper-link"] {
            let held = by_path(&mounted.at(name));
            fs::remove_file(mounted.at(name)).unwrap();
            let text = rustix::fs::readlinkat(held.as_fd(), "", Vec::new()).unwrap();
            assert_eq!(text.as_bytes(), b"text", "{words} {name}");
            let stat = rustix::fs::statx(&held, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).unwrap();
            assert_eq!((stat.stx_nlink, stat.stx_size), (0, 4), "{words} {name}");
        }
        assert_eq!(fs::read_to_string(mounted.dir.join("lower1/lower-file")).unwrap(), "content\n");
    }
}

#[test]
fn a_node_without_a_name_keeps_its_attributes_until_it_is_forgotten() {
    for dialect in [Base::new().dialect, Dialect::Aufs] {
        let base = Base { dialect, ..Base::new() };
        fs::create_dir(base.path("low/dir")).unwrap();
        base.write("low/file", "below");
        let view = base.open();
        let union = &view.union;
        let (dir, file) = (view.node("dir").unwrap(), view.node("file").unwrap());
        union.rmdir(NodeId::ROOT, OsStr::new("dir")).unwrap();
        union.unlink(NodeId::ROOT, OsStr::new("file")).unwrap();
        assert_eq!(union.attr(dir, None).unwrap().nlink, 0);
        assert_eq!(union.list_xattr(dir).unwrap().len(), 0);
        union.fsync_dir(dir).unwrap();
        let mut names = 0;
        union
            .read_dir(dir, 0, &mut |_: &DirEntry| {
                names += 1;
                Fill::Taken
            })
            .unwrap();
        assert_eq!((names, union.mkdir(dir, OsStr::new("in"), 0o755, &me()).unwrap_err()), (0, Errno::NOENT));
        let change = SetAttr { size: Some(2), ..SetAttr::default() };
        assert_eq!(union.set_attr(file, None, &change).unwrap().size, 2);
        assert_eq!(fs::read(base.path("low/file")).unwrap(), b"below");
        for node in [dir, file] {
            union.forget(node, u64::MAX);
            assert_eq!(union.attr(node, None).unwrap_err(), Errno::STALE);
        }
        // Replaced by a rename.
        base.write("up/old", "");
        base.write("up/new", "");
        let (old, _) = (view.node("old").unwrap(), view.node("new").unwrap());
        union.rename(NodeId::ROOT, OsStr::new("new"), NodeId::ROOT, OsStr::new("old"), RenameFlags::empty()).unwrap();
        assert_eq!(union.attr(old, None).unwrap().nlink, 0);
    }
}

#[test]
fn a_name_that_cannot_be_looked_up_is_listed() {
    if !can_mount() || !common::base::root() {
        skip!("needs root and /dev/fuse");
    }
    let mounted = Mounted::new("overlay", "", |dir| {
        for name in ["good", "bad"] {
            fs::create_dir_all(dir.join("upper").join(name)).unwrap();
        }
        strata_sys::xattr::set(dir.join("upper/bad"), "trusted.overlay.redirect", b"a/b").unwrap();
    });
    let names = shell(&mounted, "ls -U $M | sort; ls -l $M 2>&1 >/dev/null | grep -c bad; find $M -mindepth 1 | wc -l");
    assert_eq!(names, "bad\ngood\n1\n2\n");
    assert_eq!(fs::metadata(mounted.at("bad")).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn a_name_beside_its_whiteout_is_listed_and_fails_as_aufs_recorded_it() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    let mounted = Mounted::new("aufs", "", |dir| {
        fs::write(dir.join("upper/file"), "").unwrap();
        fs::write(dir.join("upper/.wh.file"), "").unwrap();
    });
    assert_eq!(shell(&mounted, "ls $M"), "file\n");
    assert_eq!(fs::metadata(mounted.at("file")).unwrap_err().raw_os_error(), Some(libc::EIO));
}

#[test]
fn walking_a_deep_tree_takes_time_that_grows_with_its_depth() {
    let quarter = walk_up(1024);
    let whole = walk_up(4096);
    // Time that grows with the square of the depth would be 16 times as much.
    assert!(whole < quarter * 8 + std::time::Duration::from_secs(1), "{quarter:?}, {whole:?}");
}

/// Goes down a tree of so many levels, and reads each directory on the way up: far from those that were used last, as `rm -r` and
/// `find -depth` go. Returns the time that the way up takes.
fn walk_up(depth: usize) -> std::time::Duration {
    let base = Base::new();
    let mut at = rustix::fs::open(base.path("low"), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "d", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    let view = base.open();
    let mut nodes = vec![NodeId::ROOT];
    for level in 0..depth {
        nodes.push(view.union.lookup(nodes[level], OsStr::new("d")).unwrap().node);
    }
    let started = std::time::Instant::now();
    for node in nodes.iter().rev() {
        let mut names = 0;
        view.union
            .read_dir(*node, 0, &mut |_: &DirEntry| {
                names += 1;
                Fill::Taken
            })
            .unwrap();
        assert!(names <= 1);
    }
    let took = started.elapsed();
    strata_sys::tree::Dir::open(base.path("")).unwrap().remove_tree(OsStr::new("low")).unwrap();
    took
}
