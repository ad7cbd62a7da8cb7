//! What is wrong with branches, marks and filesystems: one clear error at mount or at the call, and never a wrong file shown.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

mod common;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use common::{View, base::*};
use rustix::fs::{FileType, Mode};
use strata_sys::xattr;
use strata_testkit::{LoopFs, Scratch, require, scratch, skip};
use strata_unionfs::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_strata-unions");

#[test]
fn what_cannot_be_opened_says_why() {
    let base = Base::new();
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = base.config();
        change(&mut config);
        Union::open(config).err().unwrap_or_else(|| panic!("opened"))
    };
    assert!(matches!(refused(&|config| config.branches.clear()), OpenError::NoBranches));
    let error = refused(&|config| config.branches[1].path = base.path("none"));
    assert!(error.to_string().contains("none") && matches!(error, OpenError::Branch { .. }), "{error}");
    base.write("file", "");
    assert!(matches!(refused(&|config| config.branches[1].path = base.path("file")), OpenError::NotADirectory { .. }));
    assert!(matches!(refused(&|config| config.branches[1].path = base.path("base")), OpenError::Twice { .. }));
    fs::create_dir(base.path("low/in")).unwrap();
    assert!(matches!(refused(&|config| config.branches[2].path = base.path("low/in")), OpenError::Overlap { .. }));
    assert!(matches!(
        refused(&|config| config.branches[2].access = Access::ReadWrite),
        OpenError::WritableBelow { .. }
    ));
    assert!(matches!(refused(&|config| config.work = None), OpenError::NoWork { .. }));
    assert!(matches!(
        refused(&|config| config.work = Some(base.path("up/work"))),
        OpenError::Overlap { .. } | OpenError::Work { .. }
    ));
    assert!(matches!(refused(&|config| config.work = Some("/proc".into())), OpenError::WorkElsewhere { .. }));
    let first = base.open();
    assert!(matches!(refused(&|_| ()), OpenError::InUse { .. }));
    drop(first);
    drop(base.open());
}

#[test]
fn a_branch_that_changes_under_the_union_is_noticed() {
    let base = Base::new();
    base.write("low/f", "old");
    let view = base.open();
    let told: Arc<Mutex<Vec<Invalidation>>> = Arc::default();
    let sink = Arc::clone(&told);
    view.union.set_notifier(Box::new(move |what| sink.lock().unwrap().push(what)));
    let before = view.node("f").unwrap();
    base.write("low/other", "new");
    fs::rename(base.path("low/other"), base.path("low/f")).unwrap();
    assert_eq!(view.union.attr(before, None), Err(Errno::STALE), "never the attributes of another file");
    assert_eq!(view.read("f").unwrap(), b"new");
    fs::remove_file(base.path("low/f")).unwrap();
    assert_eq!(view.read("f"), Err(Errno::NOENT));
    let told = told.lock().unwrap();
    assert!(told.contains(&Invalidation::Node(before)), "{told:?}");
    assert!(told.contains(&Invalidation::Entry { parent: NodeId::ROOT, name: "f".into() }), "{told:?}");
}

#[test]
fn redirects_that_are_wrong_show_nothing_wrong() {
    let base = Base::new();
    base.write("base/secret/f", "s");
    fs::create_dir(base.path("outside")).unwrap();
    base.write("outside/f", "out");
    std::os::unix::fs::symlink("../outside", base.path("base/link")).unwrap();
    for (number, (text, answer)) in [
        ("/../outside", Err(Errno::INVAL)),
        ("..", Err(Errno::INVAL)),
        ("", Err(Errno::INVAL)),
        ("a/b", Err(Errno::INVAL)),
        ("/", Err(Errno::INVAL)),
        ("/link", Ok(vec![])),
        ("/none", Ok(vec![])),
        ("/secret", Ok(vec!["f".to_owned()])),
        ("secret", Ok(vec!["f".to_owned()])),
        ("/secret/f", Ok(vec![])),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = format!("low/d{number}");
        fs::create_dir(base.path(&dir)).unwrap();
        base.mark(&dir, "redirect", text.as_bytes());
        let view = base.open();
        assert_eq!(view.list(&dir["low/".len()..]), answer, "{text:?}");
    }
    // Each redirect is followed once, in branches below its own: nothing can turn in a circle.
    fs::create_dir(base.path("low/x")).unwrap();
    fs::create_dir(base.path("base/x")).unwrap();
    base.mark("low/x", "redirect", b"/x");
    base.mark("base/x", "redirect", b"/x");
    assert_eq!(base.open().list("x").unwrap(), Vec::<String>::new());
    let mut base = base;
    base.options.redirect_dir = RedirectDir::NoFollow;
    assert_eq!(base.open().list("d7"), Err(Errno::PERM));
}

#[test]
fn a_full_branch_answers_so_and_stays_whole() {
    if needs_root() {
        return;
    }
    let base = Base::new();
    let full = base.path("full");
    fs::create_dir(&full).unwrap();
    let data = c"size=1m";
    if let Err(error) = rustix::mount::mount("none", &full, "tmpfs", rustix::mount::MountFlags::empty(), Some(data)) {
        strata_testkit::require::report_skip(&format!("cannot mount a tmpfs: {error}"));
        return;
    }
    fs::create_dir(full.join("up")).unwrap();
    fs::create_dir(full.join("work")).unwrap();
    let mut big = fs::File::create(base.path("low/big")).unwrap();
    big.write_all(&vec![7; 3 << 20]).unwrap();
    base.write("low/small", "s");
    let mut config = base.config();
    config.branches[0].path = full.join("up");
    config.work = Some(full.join("work"));
    let view = View::open(config);
    let write = view.write("big", b"x", OFlags::APPEND);
    let left = fs::read_dir(full.join("work/work")).unwrap().count();
    let read = view.read("big").map(|content| content.len());
    let small = view.write("small", b"x", OFlags::APPEND);
    drop(view);
    rustix::mount::unmount(&full, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!((write, left, read, small), (Err(Errno::NOSPC), 0, Ok(3 << 20), Ok(())));
}

/// `up`, `work` and `low` in a directory of some filesystem.
fn config_in(base: &Path, dialect: Dialect) -> Config {
    for name in ["up", "work", "low/d"] {
        fs::create_dir_all(base.join(name)).unwrap();
    }
    let branch = |name: &str, access| Branch { path: base.join(name), access };
    Config {
        branches: vec![branch("up", Access::ReadWrite), branch("low", Access::ReadOnlyWhiteouts)],
        dialect,
        work: Some(base.join("work")),
        options: Options::default(),
    }
}

const OVERLAY: Dialect = Dialect::Overlay { xattrs: Xattrs::Trusted };

#[test]
fn a_whiteout_beside_a_file_of_its_name_is_an_error_that_ends_when_one_goes() {
    let mut base = Base::new();
    base.dialect = Dialect::Aufs;
    base.write("base/f", "below");
    for branch in ["low", "up"] {
        base.write(&format!("{branch}/f"), "beside");
        base.write(&format!("{branch}/.wh.f"), "");
        let view = base.open();
        assert_eq!(view.read("f"), Err(Errno::IO), "neither the one nor the other is right");
        assert_eq!(view.write("f", b"x", OFlags::empty()), Err(Errno::IO));
        assert_eq!(view.unlink("f"), Err(Errno::IO));
        fs::remove_file(base.path(branch).join("f")).unwrap();
        assert_eq!(view.read("f"), Err(Errno::NOENT));
        fs::remove_file(base.path(branch).join(".wh.f")).unwrap();
        assert_eq!(view.read("f").unwrap(), b"below");
    }
}

#[test]
fn names_like_the_other_dialects_marks_are_plain_names() {
    let base = Base::new();
    base.write("base/f", "f");
    base.write("low/.wh.f", "plain");
    let view = base.open();
    assert_eq!(view.list("").unwrap(), [".wh.f", "f"]);
    assert_eq!((view.read(".wh.f").unwrap(), view.read("f").unwrap()), (b"plain".to_vec(), b"f".to_vec()));
    drop(view.create(".wh.new", 0o644).unwrap());
    drop(view);
    // And a name that would be a mark is nobody's to make.
    let mut base = base;
    base.dialect = Dialect::Aufs;
    base.write("up/.wh.new", "");
    let view = base.open();
    assert!(view.create(".wh.mine", 0o644).is_err());
    assert_eq!(view.mkdir(".wh.mine", 0o755), Err(Errno::PERM));
    assert_eq!(view.symlink("x", ".wh.mine"), Err(Errno::PERM));
    drop(view.create("f2", 0o644).unwrap());
    assert_eq!(view.link("f2", ".wh.mine"), Err(Errno::PERM));
    assert_eq!(view.rename("f2", ".wh.mine", RenameFlags::empty()), Err(Errno::PERM));
}

#[test]
fn attributes_alone_that_are_wrong_give_no_wrong_data() {
    if needs_root() {
        return;
    }
    let base = Base::new();
    base.write("base/d/inner", "inner");
    base.write("base/data", "data");
    for (name, redirect) in [
        ("nothing-below", None),
        ("d", None),
        ("to-folder", Some("/d")),
        ("to-none", Some("/none")),
        ("to-outside", Some("/../base/data")),
        ("to-itself", Some("/to-itself")),
        ("empty-redirect", Some("")),
    ] {
        fs::File::create(base.path("low").join(name)).unwrap().set_len(4).unwrap();
        base.mark(&format!("low/{name}"), "metacopy", b"");
        if let Some(redirect) = redirect {
            base.mark(&format!("low/{name}"), "redirect", redirect.as_bytes());
        }
        let answer = base.open().read(name);
        assert!(matches!(answer, Err(Errno::IO | Errno::INVAL)), "{name}: {answer:?}");
    }
}

#[test]
fn a_read_only_filesystem_is_told_at_mount_and_at_the_call() {
    let Some(disk) = LoopFs::ext4(16 << 20) else { return };
    for dialect in [OVERLAY, Dialect::Aufs] {
        let config = config_in(disk.path(), dialect);
        fs::write(disk.join("low/f"), "lower").unwrap();
        let view = View::open(config.clone());
        view.write("f", b"U", OFlags::empty()).unwrap();
        disk.remount_read_only();
        assert_eq!(view.write("f", b"x", OFlags::empty()), Err(Errno::ROFS));
        assert_eq!(view.mkdir("new", 0o755), Err(Errno::ROFS));
        assert_eq!(view.unlink("f"), Err(Errno::ROFS));
        assert_eq!(view.read("f").unwrap(), b"Uower");
        drop(view);
        let error = Union::open(config.clone()).err().unwrap();
        assert!(matches!(error, OpenError::ReadOnlyFilesystem { .. }), "{error}");
        assert!(error.to_string().contains("give the branch as read-only"), "{error}");
        disk.remount_read_write();
        assert_eq!(View::open(config).read("f").unwrap(), b"Uower");
        fs::remove_dir_all(disk.join("up")).unwrap();
    }
}

/// A directory with a filesystem of the kernel mounted on it.
struct Mounted(Scratch);

impl Mounted {
    fn new(kind: &str, data: &str) -> Option<Self> {
        require::root()?;
        let dir = scratch();
        let data = std::ffi::CString::new(data).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        match rustix::mount::mount("none", dir.path(), kind, flags, Some(data.as_c_str())) {
            Ok(()) => Some(Self(dir)),
            Err(errno) => {
                require::report_skip(&format!("cannot mount {kind}: {errno}"));
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_filesystem_without_attributes_is_refused_where_marks_are_attributes() {
    let Some(plain) = Mounted::new("ramfs", "") else { return };
    if xattr::set(plain.0.path(), "trusted.try", b"").is_ok() {
        skip!("this kernel's ramfs has extended attributes");
    }
    for xattrs in [Xattrs::Trusted, Xattrs::User] {
        let config = config_in(plain.0.path(), Dialect::Overlay { xattrs });
        let error = Union::open(config).err().unwrap();
        assert!(matches!(error, OpenError::NoXattrs { .. }), "{error}");
    }
    // AUFS's are names.
    let config = config_in(plain.0.path(), Dialect::Aufs);
    fs::write(plain.0.join("low/d/f"), "lower").unwrap();
    let view = View::open(config);
    view.write("d/f", b"U", OFlags::empty()).unwrap();
    view.rename("d/f", "g", RenameFlags::empty()).unwrap();
    assert_eq!((view.list("d").unwrap(), view.read("g").unwrap()), (vec![], b"Uower".to_vec()));
    assert_eq!(view.set_xattr("g", "user.x", b"1"), Err(Errno::OPNOTSUPP));
}

#[test]
fn a_filesystem_whose_directories_tell_no_kinds_shows_the_same() {
    if require::root().is_none() || require::program("mkfs.ext4").is_none() {
        return;
    }
    let dir = scratch();
    let script = "truncate -s 16M disk && mkfs.ext4 -q -F -O ^filetype disk && mkdir mnt && mount -o loop disk mnt";
    if !Command::new("sh").args(["-ec", script]).current_dir(dir.path()).status().unwrap().success() {
        skip!("needs loop devices");
    }
    for dialect in [OVERLAY, Dialect::Aufs] {
        let base = dir.join("mnt");
        let view = {
            let config = config_in(&base, dialect);
            fs::write(base.join("low/d/f"), "f").unwrap();
            fs::write(base.join("low/d/g"), "g").unwrap();
            std::os::unix::fs::symlink("f", base.join("low/d/link")).unwrap();
            View::open(config)
        };
        view.unlink("d/f").unwrap();
        view.mkdir("d/sub", 0o755).unwrap();
        assert_eq!(view.list("d").unwrap(), ["g", "link", "sub"]);
        let kinds: Vec<Kind> = view.tree().unwrap().into_values().map(|item| item.kind).collect();
        assert_eq!(kinds, [Kind::Dir, Kind::File, Kind::Symlink, Kind::Dir]);
        drop(view);
        assert_eq!(View::open(config_in(&base, dialect)).list("d").unwrap(), ["g", "link", "sub"]);
        for name in ["up", "low", "work"] {
            fs::remove_dir_all(base.join(name)).unwrap();
        }
    }
    assert!(Command::new("umount").arg(dir.join("mnt")).status().unwrap().success());
}

/// On the kernel's overlayfs nobody may make a device 0/0, nor rename with one left behind.
#[test]
fn a_filesystem_without_whiteout_devices_gets_attributes_instead() {
    if require::overlay().is_none() {
        return;
    }
    let below = scratch();
    for name in ["lower", "upper", "work"] {
        fs::create_dir(below.join(name)).unwrap();
    }
    let at = below.path().display();
    let options = format!("lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work,xino=off");
    let Some(nested) = Mounted::new("overlay", &options) else { return };
    let base = nested.0.path();
    let device = rustix::fs::mknodat(
        rustix::fs::CWD,
        base.join("w"),
        FileType::CharacterDevice,
        Mode::empty(),
        rustix::fs::makedev(0, 0),
    );
    assert!(device.is_err(), "the kernel's overlayfs makes no such device");
    for dialect in [OVERLAY, Dialect::Overlay { xattrs: Xattrs::User }, Dialect::Aufs] {
        let config = config_in(base, dialect);
        for name in ["f", "g", "h"] {
            fs::write(base.join("low/d").join(name), name).unwrap();
        }
        let view = match Union::open(config.clone()) {
            Ok(union) => View { union },
            // Kernels before 6.7 let nobody set overlayfs's own attributes on an overlay.
            Err(OpenError::NoXattrs { .. }) => continue,
            Err(error) => panic!("{dialect:?}: {error}"),
        };
        view.unlink("d/f").unwrap();
        view.rename("d/g", "d/moved", RenameFlags::empty()).unwrap();
        let expected = ["h", "moved"];
        assert_eq!(view.list("d").unwrap(), expected, "{dialect:?}");
        drop(view);
        let view = View::open(config);
        assert_eq!(view.list("d").unwrap(), expected, "{dialect:?}, mounted again");
        assert_eq!((view.read("d/f"), view.read("d/moved").unwrap()), (Err(Errno::NOENT), b"g".to_vec()));
        drop(view);
        for name in ["up", "low", "work"] {
            fs::remove_dir_all(base.join(name)).unwrap();
        }
    }
}

#[test]
fn without_the_device_or_the_right_to_mount_the_error_says_so() {
    if require::root().is_none() || require::program("setpriv").is_none() {
        return;
    }
    let dir = scratch();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(PROGRAM, dir.join("strata-unions")).unwrap();
    for name in ["a", "b", "mnt"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    let said = |script: &str| {
        let done = Command::new("sh").args(["-c", script]).current_dir(dir.path()).output().unwrap();
        assert!(!done.status.success(), "{script}: {done:?}");
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    let without = "unshare --mount sh -c 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && ./strata-unions mount aufs dirs=a:b mnt'";
    let message = said(without);
    assert!(message.contains("/dev/fuse") && message.contains("modprobe fuse"), "{message}");
    if Path::new("/dev/fuse").exists() {
        let user = "chown -R 1000:1000 a b mnt; setpriv --reuid 1000 --regid 1000 --clear-groups";
        let message = said(&format!("{user} ./strata-unions mount aufs dirs=a:b mnt"));
        assert!(message.contains("only root may mount") || message.contains("/dev/fuse"), "{message}");
    }
    let missing = said("./strata-unions mount aufs dirs=a:b nowhere");
    assert!(missing.contains("nowhere"), "{missing}");
}
