use std::{
    fs as std_fs,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use super::*;
use crate::errno;

fn scratch() -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let dir = Dir::open(temp.path()).expect("it opens");
    (temp, dir)
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        strata_testkit::require::report_skip("needs root");
    }
    is_root
}

#[test]
fn nothing_resolves_outside() {
    let (temp, outer) = scratch();
    std_fs::write(temp.path().join("secret"), b"outside").unwrap();
    outer.create_dir("root", 0o755).unwrap();
    let root = outer.open_dir("root").unwrap();
    root.create_dir("etc", 0o755).unwrap();
    root.create_file("etc/passwd", 0o644).unwrap().write_all(b"inside").unwrap();
    for (target, name) in [
        ("/etc", "abs"),
        ("../../../etc", "up"),
        ("../secret", "escape"),
        ("/proc/self/root", "magic"),
        ("loop", "loop"),
    ] {
        root.symlink(target, name).unwrap();
    }
    let read = |fd: OwnedFd| {
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        text
    };
    for path in ["etc/passwd", "/etc/passwd", "abs/passwd", "up/passwd", "../../etc/passwd", "etc/../../../etc/passwd"]
    {
        assert_eq!(read(root.open_in_root(path, OFlags::RDONLY, 0).unwrap()), "inside", "{path}");
    }
    for path in ["escape", "../secret", "magic/etc/passwd", "loop", "etc/passwd/x"] {
        let error = root.open_in_root(path, OFlags::RDONLY, 0).expect_err(path);
        assert!(matches!(errno(&error), Some(libc::ENOENT | libc::ELOOP | libc::ENOTDIR)), "{path}: {error}");
    }
    assert_eq!(read(root.open_beneath("etc/../etc/passwd", OFlags::RDONLY, 0).unwrap()), "inside");
    for (path, expected) in
        [("/etc/passwd", libc::EXDEV), ("../secret", libc::EXDEV), ("abs/passwd", libc::ELOOP), ("escape", libc::ELOOP)]
    {
        let error = root.open_beneath(path, OFlags::RDONLY, 0).expect_err(path);
        assert_eq!(errno(&error), Some(expected), "{path}: {error}");
    }
    assert!(root.dir_in_root("abs").unwrap().exists("passwd").unwrap());
    assert!(root.dir_beneath("etc").unwrap().exists("passwd").unwrap());
    assert!(root.open_dir("abs").is_err() && root.open_file("abs").is_err(), "names are not followed");
}

#[test]
fn files_of_every_kind_are_made_and_described() {
    let (_temp, dir) = scratch();
    dir.create_file("file", 0o640).unwrap().write_all(b"12345").unwrap();
    assert_eq!(dir.create_file("file", 0o640).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    dir.create_dir("dir", 0o750).unwrap();
    dir.symlink("target \u{1F980}", "link").unwrap();
    dir.symlink("file", "trap").unwrap();
    assert_eq!(dir.create_file("trap", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    dir.create_node("fifo", Kind::Fifo, 0o600, Device::default()).unwrap();
    dir.create_node("socket", Kind::Socket, 0o600, Device::default()).unwrap();
    dir.hard_link("file", &dir, "again").unwrap();
    dir.hard_link("link", &dir, "link2").unwrap();
    assert!(dir.create_node("x", Kind::Dir, 0o600, Device::default()).is_err());
    let mut expected = vec![
        ("again", Kind::File),
        ("dir", Kind::Dir),
        ("fifo", Kind::Fifo),
        ("file", Kind::File),
        ("link", Kind::Symlink),
        ("link2", Kind::Symlink),
        ("socket", Kind::Socket),
        ("trap", Kind::Symlink),
    ];
    if is_root() {
        dir.create_node("null", Kind::CharDevice, 0o666, Device { major: 1, minor: 3 }).unwrap();
        dir.create_node("disk", Kind::BlockDevice, 0o600, Device { major: 259, minor: 300 }).unwrap();
        dir.create_node("whiteout", Kind::CharDevice, 0, Device::default()).unwrap();
        assert_eq!(dir.stat("disk").unwrap().rdev, Device { major: 259, minor: 300 });
        assert_eq!(dir.stat("whiteout").unwrap().rdev, Device::default());
        expected.extend([("disk", Kind::BlockDevice), ("null", Kind::CharDevice), ("whiteout", Kind::CharDevice)]);
        expected.sort_by_key(|(name, _)| *name);
    }
    let mut entries = dir.entries().unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let found: Vec<_> = entries.iter().map(|entry| (entry.name.to_str().unwrap(), entry.kind)).collect();
    assert_eq!(found, expected);
    for entry in &entries {
        let stat = dir.stat(&entry.name).unwrap();
        assert_eq!((stat.kind, stat.inode), (entry.kind, entry.inode), "{entry:?}");
    }
    let file = dir.stat("file").unwrap();
    assert_eq!((file.size, file.nlink), (5, 2));
    assert!(file.same_file(&dir.stat("again").unwrap()) && !file.same_file(&dir.stat("link").unwrap()));
    assert_eq!(dir.read_link("link2").unwrap(), "target \u{1F980}");
    assert_eq!(dir.stat("").unwrap().kind, Kind::Dir);
    assert!(dir.exists("link").unwrap() && !dir.exists("none").unwrap());
    let handle = dir.open_handle("link").unwrap();
    assert_eq!(Stat::of_fd(&handle).unwrap().kind, Kind::Symlink);
    dir.sync().unwrap();
    Dir::open_path("/proc/self").unwrap();
}

#[test]
fn a_directory_as_base_only_syncs_and_lists_too() {
    let (temp, _) = scratch();
    let dir = Dir::open_path(temp.path()).unwrap();
    dir.create_file("f", 0o600).unwrap();
    dir.sync().unwrap();
    assert_eq!(dir.entries().unwrap().len(), 1);
    assert_eq!(dir.try_clone().unwrap().entries().unwrap().len(), 1);
}

#[test]
fn a_large_directory_is_listed_whole_and_again() {
    let (_temp, dir) = scratch();
    for n in 0..3000 {
        dir.create_dir(format!("a rather long name, so that a buffer holds few {n}"), 0o700).unwrap();
    }
    for _ in 0..2 {
        let mut names: Vec<_> = dir.entries().unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 3000);
    }
}

#[test]
fn modes_owners_and_times_stay_off_links() {
    let (temp, dir) = scratch();
    dir.create_file("file", 0o600).unwrap();
    dir.symlink("file", "link").unwrap();
    dir.set_mode("file", 0o4751).unwrap();
    assert_eq!(dir.stat("file").unwrap().mode, 0o4751);
    assert!(dir.set_mode("link", 0o600).is_err());
    assert_eq!(dir.stat("file").unwrap().mode, 0o4751, "through the link");
    set_mode_of(&dir.open_handle("file").unwrap(), 0o640).unwrap();
    set_mode_of(&dir.open_file("file").unwrap(), 0o2640).unwrap();
    assert_eq!(std_fs::metadata(temp.path().join("file")).unwrap().permissions().mode() & 0o7777, 0o2640);

    let early = Time { secs: -12345, nanos: 999_999_999 };
    let late = Time { secs: 4_000_000_000, nanos: 1 };
    dir.set_times("link", Some(early), Some(late)).unwrap();
    let (link, file) = (dir.stat("link").unwrap(), dir.stat("file").unwrap());
    assert_eq!((link.accessed, link.modified), (early, late));
    assert!(file.modified != late && file.accessed != early, "through the link");
    dir.set_times("file", None, Some(early)).unwrap();
    assert_eq!(dir.stat("file").unwrap().modified, early);
    assert_eq!(dir.stat("file").unwrap().accessed, file.accessed, "left as it was");
    set_times_of(&dir.open_file("file").unwrap(), Some(late), None).unwrap();
    assert_eq!(dir.stat("file").unwrap().accessed, late);

    if is_root() {
        dir.set_owner("link", 1234, 0xffff_fff0).unwrap();
        assert_eq!((dir.stat("link").unwrap().uid, dir.stat("link").unwrap().gid), (1234, 0xffff_fff0));
        assert_eq!(dir.stat("file").unwrap().uid, 0, "through the link");
        set_owner_of(&dir.open_handle("file").unwrap(), 5, 6).unwrap();
        assert_eq!((dir.stat("file").unwrap().uid, dir.stat("file").unwrap().gid), (5, 6));
    }
}

#[test]
fn renames_replace_refuse_or_swap() {
    let (_temp, dir) = scratch();
    for name in ["a", "b", "c"] {
        dir.create_file(name, 0o600).unwrap().write_all(name.as_bytes()).unwrap();
    }
    let text = |name: &str| {
        let mut text = String::new();
        dir.open_file(name).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(dir.rename_new("a", &dir, "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    dir.exchange("a", &dir, "b").unwrap();
    assert_eq!((text("a"), text("b")), ("b".into(), "a".into()));
    dir.rename("a", &dir, "c").unwrap();
    assert_eq!((text("c"), dir.exists("a").unwrap()), ("b".into(), false));
    dir.rename_new("c", &dir, "d").unwrap();
    dir.remove_file("d").unwrap();
    dir.create_dir("e", 0o700).unwrap();
    assert!(dir.remove_file("e").is_err());
    dir.remove_dir("e").unwrap();
}

#[test]
fn a_fifo_does_not_block_opening() {
    let (_temp, dir) = scratch();
    dir.create_node("fifo", Kind::Fifo, 0o600, Device::default()).unwrap();
    dir.open_file("fifo").unwrap();
}

#[test]
fn a_tree_goes_whole_and_nothing_else() {
    let (temp, dir) = scratch();
    let outside = temp.path().join("outside");
    std_fs::create_dir(&outside).unwrap();
    std_fs::write(outside.join("keep"), b"").unwrap();
    let tree = temp.path().join("tree");
    std_fs::create_dir_all(tree.join("a/b/c")).unwrap();
    std_fs::create_dir_all(tree.join("d")).unwrap();
    for file in ["f", "a/f", "a/b/f", "a/b/c/f"] {
        std_fs::write(tree.join(file), b"").unwrap();
    }
    std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
    std::os::unix::fs::symlink("/", tree.join("d/root")).unwrap();
    std_fs::set_permissions(tree.join("a/b"), std_fs::Permissions::from_mode(0o000)).unwrap();
    dir.remove_tree("tree").unwrap();
    dir.remove_tree("tree").unwrap();
    assert!(!tree.exists() && outside.join("keep").exists());
    dir.symlink("outside", "link").unwrap();
    dir.remove_tree("link").unwrap();
    dir.create_file("file", 0o600).unwrap();
    dir.remove_tree("file").unwrap();
    assert_eq!(dir.entries().unwrap().len(), 1);
}

#[test]
fn a_tree_deeper_than_paths_and_descriptors_goes() {
    let (_temp, dir) = scratch();
    dir.create_dir("deep", 0o700).unwrap();
    let mut below = dir.open_dir("deep").unwrap();
    for n in 0..3000 {
        below.create_dir("ten.bytes.", 0o700).unwrap();
        if n % 100 == 0 {
            below.create_dir("sibling", 0o700).unwrap();
            below.create_file("file", 0o600).unwrap();
        }
        below = below.open_dir("ten.bytes.").unwrap();
    }
    dir.remove_tree("deep").unwrap();
    assert!(!dir.exists("deep").unwrap());
}

#[test]
fn several_remove_one_tree_at_once() {
    let (temp, dir) = scratch();
    for a in 0..20 {
        for b in 0..5 {
            let folder = temp.path().join(format!("tree/{a}/{b}"));
            std_fs::create_dir_all(&folder).unwrap();
            for c in 0..5 {
                std_fs::write(folder.join(c.to_string()), b"").unwrap();
            }
        }
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| dir.remove_tree("tree").unwrap());
        }
    });
    assert!(!dir.exists("tree").unwrap());
}

#[test]
fn what_is_mounted_below_is_not_entered() {
    if !is_root() {
        return;
    }
    let (temp, dir) = scratch();
    let mounted = temp.path().join("tree/a/mounted");
    std_fs::create_dir_all(&mounted).unwrap();
    if let Err(error) = crate::mount::tmpfs(&mounted, "size=1m") {
        strata_testkit::require::report_skip(&format!("{error}"));
        return;
    }
    std_fs::write(mounted.join("keep"), b"").unwrap();
    let error = dir.remove_tree("tree").unwrap_err();
    let kept = mounted.join("keep").exists();
    crate::mount::unmount(&mounted).unwrap();
    assert!(kept && error.to_string().contains("mounted is a mount point"), "{error}");
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    dir.remove_tree("tree").unwrap();
    assert_eq!(std_fs::metadata(temp.path()).unwrap().nlink(), 2);
}
