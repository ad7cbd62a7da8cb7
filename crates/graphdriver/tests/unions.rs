//! What is the same in the drivers over our own union, and what aufs and fuse-overlayfs have for themselves.

mod common;

use std::{fs, path::Path};

use common::{Bench, is_mounted, read};
use strata_archive::{
    Limits,
    apply::{Options, apply},
    diff::{Change, ChangeKind},
};
use strata_graphdriver::{Access, GraphDriver, Parent, open};
use strata_spec::CacheId;

tests![
    a_container_reads_and_changes_what_lies_below,
    users_share_a_union_and_the_last_unmounts,
    a_union_whose_process_was_killed_is_mounted_anew,
    aufs_lies_as_docker_writes_it_and_is_repaired,
    fuse_overlayfs_reads_marks_of_three_sorts,
    the_program_fuse_overlayfs_reads_what_we_wrote,
];

/// Calls `test` with each driver over our own union.
fn each_union(test: impl Fn(&Bench)) {
    for name in ["aufs", "fuse-overlayfs"] {
        if let Some(bench) = Bench::new(name) {
            test(&bench);
        }
    }
}

fn id(n: u8) -> CacheId {
    CacheId::from_random([n; 32])
}

fn a_container_reads_and_changes_what_lies_below() {
    each_union(|bench| {
        let driver = &bench.driver;
        let base = bench.layer(1, Parent::Later, &[("etc/a", "base"), ("etc/b", "base"), ("dir/old", "old")]);
        let middle = bench.layer(2, Parent::Later, &[("etc/b", "middle")]);
        driver.adopt(&base, None).expect("adopt");
        driver.adopt(&middle, Some(&base)).expect("adopt");
        driver.create(&id(3), Parent::Of(&middle), Access::ReadWrite).expect("create");
        let root = driver.mount(&id(3), Access::ReadWrite).expect("mount");
        let at = |name: &str| root.path().join(name);
        assert_eq!(read(&at("etc/a")).as_deref(), Some("base"));
        assert_eq!(read(&at("etc/b")).as_deref(), Some("middle"));
        fs::write(at("etc/a"), "top").expect("write");
        fs::remove_file(at("etc/b")).expect("remove");
        fs::remove_dir_all(at("dir")).expect("remove");
        fs::create_dir(at("dir")).expect("create");
        fs::write(at("dir/new"), "new").expect("write");
        drop(root);
        if driver.name() == "aufs" {
            assert!(driver.home().join("mnt").join(id(3).as_str()).is_dir(), "Docker wants the mount point to stay");
        }
        let change = |path: &str, kind| Change { path: path.into(), kind };
        assert_eq!(
            driver.changes(&id(3), Some(&middle)).expect("changes"),
            [
                change("/dir", ChangeKind::Modified),
                change("/dir/new", ChangeKind::Added),
                change("/dir/old", ChangeKind::Deleted),
                change("/etc", ChangeKind::Modified),
                change("/etc/a", ChangeKind::Modified),
                change("/etc/b", ChangeKind::Deleted),
            ]
        );
        // As a layer over the same it shows the same.
        let mut tar = Vec::new();
        driver.diff(&id(3), Some(&middle), &mut tar).expect("diff");
        driver.create(&id(4), Parent::Of(&middle), Access::ReadOnly).expect("create");
        let folder = driver.folder(&id(4)).expect("folder");
        let options = Options { marks: folder.marks, limits: Limits::default() };
        apply(&tar[..], &folder.path, std::io::sink(), &options).expect("apply");
        for layer in [id(3), id(4)] {
            let view = driver.mount(&layer, Access::ReadOnly).expect("mount");
            assert_eq!(read(&view.path().join("etc/a")).as_deref(), Some("top"));
            assert_eq!(read(&view.path().join("etc/b")), None);
            assert_eq!(read(&view.path().join("dir/old")), None);
            assert_eq!(read(&view.path().join("dir/new")).as_deref(), Some("new"));
        }
    });
}

fn over_base(bench: &Bench) -> CacheId {
    let base = bench.layer(1, Parent::None, &[("a", "1")]);
    bench.driver.create(&id(2), Parent::Of(&base), Access::ReadWrite).expect("create");
    id(2)
}

fn users_share_a_union_and_the_last_unmounts() {
    each_union(|bench| {
        let (driver, top) = (&bench.driver, over_base(bench));
        let other = open(bench.driver.name(), &bench.root, Access::ReadWrite).expect("a second user opens the driver");
        let first = driver.mount(&top, Access::ReadWrite).expect("mount");
        let second = other.mount(&top, Access::ReadOnly).expect("mount");
        let path = first.path().to_owned();
        assert_eq!(second.path(), path);
        drop(first);
        assert!(is_mounted(&path), "the second still uses it");
        drop(second);
        assert!(!is_mounted(&path));
        let kept = driver.mount(&top, Access::ReadWrite).expect("mounts again at once").keep();
        assert!(is_mounted(&kept));
        driver.remove(&top).expect("remove");
        assert!(!is_mounted(&kept) && !kept.exists() && !driver.exists(&top));
    });
}

fn a_union_whose_process_was_killed_is_mounted_anew() {
    each_union(|bench| {
        let (driver, top) = (&bench.driver, over_base(bench));
        let path = driver.mount(&top, Access::ReadWrite).expect("mount").keep();
        fs::write(path.join("b"), "2").expect("write");
        let found = strata_unionfs::mount::find(&path).expect("the mounts").expect("is mounted");
        let strata_unionfs::mount::State::Alive { pid, .. } = found.state else { panic!("{found:?}") };
        let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill runs");
        assert!(killed.success());
        while fs::metadata(path.join("a")).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let root = driver.mount(&top, Access::ReadWrite).expect("mounts anew");
        assert_eq!(read(&root.path().join("a")).as_deref(), Some("1"));
        assert_eq!(read(&root.path().join("b")).as_deref(), Some("2"));
    });
}

fn aufs_lies_as_docker_writes_it_and_is_repaired() {
    let Some(bench) = Bench::new("aufs") else { return };
    use std::os::unix::fs::PermissionsExt;
    let driver = &bench.driver;
    let base = bench.layer(1, Parent::None, &[]);
    let middle = bench.layer(2, Parent::Of(&base), &[]);
    let top = bench.layer(3, Parent::Of(&middle), &[]);
    let mode = |path: String| fs::metadata(driver.home().join(path)).expect("stat").permissions().mode() & 0o7777;
    for (path, expected) in [
        (String::new(), 0o710),
        ("diff".into(), 0o710),
        ("layers".into(), 0o710),
        ("mnt".into(), 0o710),
        (format!("diff/{top}"), 0o755),
        (format!("layers/{top}"), 0o644),
        (format!("mnt/{top}"), 0o755),
    ] {
        assert_eq!(mode(path.clone()), expected, "{path}");
    }
    let layers = |id: &CacheId| driver.home().join("layers").join(id.as_str());
    let text = |path: &Path| fs::read_to_string(path).expect("read");
    assert_eq!(text(&layers(&base)), "");
    assert_eq!(text(&layers(&top)), format!("{middle}\n{base}\n"));
    assert_eq!(driver.parent(&top).expect("parent"), Some(middle.clone()));

    fs::write(layers(&top), "").expect("truncate");
    fs::remove_dir(driver.home().join("mnt").join(middle.as_str())).expect("remove");
    let folders = [(&base, None), (&middle, Some(&base)), (&top, Some(&middle))];
    let faults = |driver: &dyn GraphDriver| -> usize {
        folders.iter().map(|(id, parent)| driver.check(id, *parent).len()).sum()
    };
    assert_eq!(faults(&**driver), 2);
    for (id, parent) in folders {
        driver.repair(id, parent).expect("repair");
    }
    assert_eq!(faults(&**driver), 0);
    assert_eq!(text(&layers(&top)), format!("{middle}\n{base}\n"));

    fs::write(layers(&id(9)), "").expect("write");
    assert_eq!(driver.strays().expect("strays").len(), 1);
    driver.tidy().expect("tidy");
    assert_eq!(driver.strays().expect("strays"), []);
}

/// What is seen below `root`: names, and files' texts.
fn tree(root: &Path) -> Vec<(String, Option<String>)> {
    let (mut seen, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("list") {
            let path = entry.expect("entry").path();
            let name = path.strip_prefix(root).expect("below").display().to_string();
            if path.is_dir() {
                left.push(path);
                seen.push((name, None));
            } else {
                seen.push((name, read(&path)));
            }
        }
    }
    seen.sort();
    seen
}

fn shown(names: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    names.iter().map(|(name, text)| ((*name).to_owned(), text.map(str::to_owned))).collect()
}

/// Layers' tars mark as AUFS does, the program fuse-overlayfs in one of several ways, by its rights: all of it counts, and is no user's.
fn fuse_overlayfs_reads_marks_of_three_sorts() {
    let Some(bench) = Bench::new("fuse-overlayfs") else { return };
    let Some(()) = strata_testkit::require::device_nodes() else { return };
    let driver = &bench.driver;
    let names =
        ["file", "device", "fuse/old", "user/old", "trusted/old", "file-opq/old", "device-opq/old", "new/old", "both"];
    let base = bench.layer(1, Parent::None, &names.map(|name| (name, "below")));
    let marks: [(&str, &str); 7] = [
        (".wh.file", ""),
        ("fuse/new", "above"),
        ("file-opq/.wh..wh..opq", ""),
        (".wh.new", ""),
        ("new/new", "above"),
        (".wh.both", ""),
        ("both", "above"),
    ];
    let top = bench.layer(2, Parent::Of(&base), &marks);
    let folder = driver.folder(&top).expect("folder").path;
    let device = |name: &str| {
        let dir = strata_sys::tree::Dir::open(&folder).expect("open");
        let none = strata_sys::tree::Device::default();
        dir.create_node(name, strata_sys::tree::Kind::CharDevice, 0, none).expect("make a device");
    };
    device("device");
    for name in ["user", "trusted", "device-opq"] {
        fs::create_dir(folder.join(name)).expect("create");
    }
    device("device-opq/.wh..opq");
    for (name, attribute) in [
        ("fuse", "user.fuseoverlayfs.opaque"),
        ("user", "user.overlay.opaque"),
        ("trusted", "trusted.overlay.opaque"),
        ("both", "user.fuseoverlayfs.origin"),
    ] {
        strata_sys::xattr::set(folder.join(name), attribute, b"y").expect("set");
    }
    let expected = shown(&[
        ("both", Some("above")),
        ("device-opq", None),
        ("file-opq", None),
        ("fuse", None),
        ("fuse/new", Some("above")),
        ("new", None),
        ("new/new", Some("above")),
        ("trusted", None),
        ("user", None),
    ]);
    let view = driver.mount(&top, Access::ReadOnly).expect("mount");
    assert_eq!(tree(view.path()), expected);
    for name in ["fuse", "both"] {
        assert_eq!(strata_sys::xattr::list(view.path().join(name)).expect("list"), [""; 0], "{name}");
    }
    drop(view);

    // In what is written to, they are replaced as a whole, and a copy of a directory has none of its marks.
    let root = driver.mount(&top, Access::ReadWrite).expect("mount");
    fs::write(root.path().join("file"), "anew").expect("write");
    fs::create_dir(root.path().join("device")).expect("create");
    assert!(!folder.join(".wh.file").exists(), "else the program would not show it");
    fs::remove_dir_all(root.path().join("new")).expect("remove");
    let refused = fs::write(root.path().join(".wh.mine"), "").expect_err("it would be a mark");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    let refused = strata_sys::xattr::set(root.path().join("both"), "user.fuseoverlayfs.opaque", b"y");
    assert_eq!(refused.expect_err("it would be a mark").kind(), std::io::ErrorKind::Unsupported);
    drop(root);
    driver.create(&id(3), Parent::Of(&top), Access::ReadWrite).expect("create");
    let root = driver.mount(&id(3), Access::ReadWrite).expect("mount");
    fs::write(root.path().join("fuse/more"), "more").expect("write");
    assert_eq!(read(&root.path().join("fuse/new")).as_deref(), Some("above"));
    assert_eq!(read(&root.path().join("fuse/old")), None);
    assert_eq!(tree(&root.path().join("device")), []);
    assert_eq!(read(&root.path().join("file")).as_deref(), Some("anew"));
    assert!(!root.path().join("new").exists());
}

/// The other way round, with the real program.
fn the_program_fuse_overlayfs_reads_what_we_wrote() {
    let Some(bench) = Bench::new("fuse-overlayfs") else { return };
    let Some(_) = strata_testkit::require::program("fuse-overlayfs") else { return };
    let driver = &bench.driver;
    let names = ["a", "b", "gone/old", "replaced/old", "moved/old", "kept/old", "kept/other"];
    let base = bench.layer(1, Parent::None, &names.map(|name| (name, "below")));
    // Another name of a file that is written: it becomes a link when the union goes.
    let lower = driver.folder(&base).expect("folder").path;
    fs::hard_link(lower.join("b"), lower.join("kept/linked")).expect("link");
    driver.create(&id(2), Parent::Of(&base), Access::ReadWrite).expect("create");
    let root = driver.mount(&id(2), Access::ReadWrite).expect("mount");
    let at = |name: &str| root.path().join(name);
    fs::remove_file(at("a")).expect("remove");
    fs::write(at("b"), "changed").expect("write");
    fs::remove_dir_all(at("gone")).expect("remove");
    fs::remove_dir_all(at("replaced")).expect("remove");
    fs::create_dir(at("replaced")).expect("create");
    fs::write(at("replaced/new"), "new").expect("write");
    fs::rename(at("moved"), at("elsewhere")).expect_err("the program has no redirects");
    fs::remove_file(at("kept/old")).expect("remove");
    fs::create_dir(at("made")).expect("create");
    let ours = tree(root.path());
    assert_eq!(read(&at("kept/linked")).as_deref(), Some("changed"));
    drop(root);

    let home = driver.home();
    let mount = |options: String, target: &Path| {
        fs::create_dir_all(target).expect("create");
        let mut command = std::process::Command::new("fuse-overlayfs");
        let status = command.current_dir(home).arg("-o").arg(options).arg(target).status().expect("runs");
        assert!(status.success());
    };
    let target = bench.root.join("theirs");
    let own = home.join(id(2).as_str());
    mount(
        format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            own.join("diff").display(),
            own.join("work").display()
        ),
        &target,
    );
    let theirs = tree(&target);
    // And what the program makes of it, we read.
    fs::remove_dir_all(target.join("kept")).expect("remove");
    fs::create_dir(target.join("kept")).expect("create");
    fs::write(target.join("a"), "again").expect("write");
    fs::remove_file(target.join("b")).expect("remove");
    fs::rename(target.join("made"), target.join("elsewhere")).expect("rename");
    let changed = tree(&target);
    strata_sys::mount::unmount(&target).expect("unmount");
    assert_eq!(theirs, ours);
    let view = driver.mount(&id(2), Access::ReadOnly).expect("mount");
    assert_eq!(tree(view.path()), changed);
}
