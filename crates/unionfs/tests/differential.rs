//! The same random operations on our union and on the kernel's overlayfs: the trees agree after each step, and each one's
//! directories are opened by the other, halfway and at the end.
//!
//! `STRATA_UNION_OPS` says how many operations (100,000), `STRATA_UNION_SEED` which (0).

#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

mod common;

use std::{
    collections::BTreeMap,
    ffi::CString,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use common::{Item, Tree, View, join};
use proptest::{
    prelude::*,
    test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner},
};
use rustix::{
    fs::{self, AtFlags, CWD, FileType, Mode, RenameFlags, XattrFlags},
    mount::{MountFlags, UnmountFlags, mount, unmount},
};
use strata_sys::tree::{Stat, Time};
use strata_unionfs::*;

/// Operations of one sequence: enough for things to meet, few enough to shrink.
const SEQUENCE: usize = 400;

/// Operations between two comparisons of the trees.
const STEP: usize = 25;

#[derive(Clone, Debug)]
enum Op {
    Write(String, u16, u8),
    Append(String, u8),
    Truncate(String, u16),
    Replace(String),
    Mkdir(String, u16),
    Rmdir(String),
    Unlink(String),
    RemoveAll(String),
    Rename(String, String),
    RenameNew(String, String),
    Exchange(String, String),
    Link(String, String),
    Symlink(String),
    Node(String, bool),
    Chmod(String, u16),
    Chown(String, u32),
    Touch(String),
    SetXattr(String, u8, u8),
    RemoveXattr(String, u8),
    Punch(String, u16),
    Compare,
    /// Closed and opened again.
    Reopen,
    /// The kernel's directories for us, and ours for the kernel.
    Swap,
    /// The writable branch becomes the topmost read-only one, under a new one. Once in a sequence, and where no lower file has
    /// several names: those that were not written to stay behind then, in the kernel's union and in ours, and which they are
    /// depends on the name that was written by, of which a FUSE union hears nothing.
    Turn,
}

fn path() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b", "c", "d", "e"]);
    prop_oneof![
        3 => name().prop_map(str::to_owned),
        4 => (name(), name()).prop_map(|(a, b)| format!("{a}/{b}")),
        3 => (name(), name(), name()).prop_map(|(a, b, c)| format!("{a}/{b}/{c}")),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (path(), any::<u16>(), any::<u8>()).prop_map(|(p, at, b)| Op::Write(p, at % 9000, b)),
        3 => (path(), any::<u8>()).prop_map(|(p, b)| Op::Append(p, b)),
        2 => (path(), any::<u16>()).prop_map(|(p, n)| Op::Truncate(p, n % 9000)),
        1 => path().prop_map(Op::Replace),
        7 => (path(), any::<u16>()).prop_map(|(p, m)| Op::Mkdir(p, 0o700 | m & 0o1077)),
        4 => path().prop_map(Op::Rmdir),
        6 => path().prop_map(Op::Unlink),
        2 => path().prop_map(Op::RemoveAll),
        8 => (path(), path()).prop_map(|(a, b)| Op::Rename(a, b)),
        2 => (path(), path()).prop_map(|(a, b)| Op::RenameNew(a, b)),
        2 => (path(), path()).prop_map(|(a, b)| Op::Exchange(a, b)),
        5 => (path(), path()).prop_map(|(a, b)| Op::Link(a, b)),
        2 => path().prop_map(Op::Symlink),
        2 => (path(), any::<bool>()).prop_map(|(p, d)| Op::Node(p, d)),
        3 => (path(), any::<u16>()).prop_map(|(p, m)| Op::Chmod(p, m & 0o6777 | 0o700)),
        2 => (path(), 0..3_u32).prop_map(|(p, o)| Op::Chown(p, o)),
        1 => path().prop_map(Op::Touch),
        3 => (path(), 0..4_u8, any::<u8>()).prop_map(|(p, k, v)| Op::SetXattr(p, k, v)),
        1 => (path(), 0..4_u8).prop_map(|(p, k)| Op::RemoveXattr(p, k)),
        1 => (path(), any::<u16>()).prop_map(|(p, at)| Op::Punch(p, at % 9000)),
    ]
}

/// A point where something other than an operation happens comes after every [`STEP`] operations.
fn sequence(links: bool) -> impl Strategy<Value = Vec<Op>> {
    let pause = prop_oneof![
        6 => Just(Op::Compare),
        2 => Just(Op::Reopen),
        2 => Just(Op::Swap),
        2 => Just(if links { Op::Compare } else { Op::Turn }),
    ];
    prop::collection::vec((prop::collection::vec(op(), 1..=2 * STEP), pause), 1..=2 * SEQUENCE / STEP)
        .prop_map(|parts| parts.into_iter().flat_map(|(ops, pause)| ops.into_iter().chain([pause])).collect())
}

const KEYS: [&str; 4] = ["user.one", "user.two", "trusted.three", "trusted.overlay.four"];

/// What both sides do, each in its way.
trait Side {
    fn apply(&self, op: &Op) -> Result<()>;
    fn tree(&self) -> Result<Tree>;
}

impl Side for View {
    fn apply(&self, op: &Op) -> Result<()> {
        match op {
            Op::Write(path, at, byte) => {
                let (parent, name) = self.split(path)?;
                let handle = match self.union.lookup(parent, name) {
                    Ok(entry) => self.union.open_file(entry.node, OFlags::RDWR)?,
                    Err(Errno::NOENT) => self.create(path, 0o640)?,
                    Err(errno) => return Err(errno),
                };
                self.write_at(&handle, u64::from(*at), &[*byte; 700])
            }
            Op::Append(path, byte) => {
                self.node(path)?;
                self.write(path, &[*byte; 100], OFlags::APPEND)
            }
            Op::Truncate(path, size) => self.set(path, SetAttr { size: Some((*size).into()), ..SetAttr::default() }),
            Op::Replace(path) => {
                self.node(path)?;
                self.write(path, b"replaced", OFlags::TRUNC)
            }
            Op::Mkdir(path, mode) => self.mkdir(path, (*mode).into()),
            Op::Rmdir(path) => self.rmdir(path),
            Op::Unlink(path) => self.unlink(path),
            Op::RemoveAll(path) => self.remove_all(path),
            Op::Rename(from, to) => self.rename(from, to, RenameFlags::empty()),
            Op::RenameNew(from, to) => self.rename(from, to, RenameFlags::NOREPLACE),
            Op::Exchange(from, to) => self.rename(from, to, RenameFlags::EXCHANGE),
            Op::Link(from, to) => self.link(from, to),
            Op::Symlink(path) => self.symlink("nowhere/x", path),
            Op::Node(path, device) => {
                let (kind, rdev) = if *device { (libc::S_IFCHR, 0x103) } else { (libc::S_IFIFO, 0) };
                self.mknod(path, kind | 0o604, rdev)
            }
            Op::Chmod(path, mode) => self.set(path, SetAttr { mode: Some((*mode).into()), ..SetAttr::default() }),
            Op::Chown(path, owner) => {
                self.set(path, SetAttr { uid: Some(*owner), gid: Some(owner + 5), ..SetAttr::default() })
            }
            Op::Touch(path) => {
                let time = Some(SetTime::At(Time { secs: 1_000_000_000, nanos: 5 }));
                self.set(path, SetAttr { accessed: time, modified: time, ..SetAttr::default() })
            }
            Op::SetXattr(path, key, value) => self.set_xattr(path, KEYS[usize::from(*key)], &[*value; 20]),
            Op::RemoveXattr(path, key) => {
                self.union.remove_xattr(self.node(path)?, std::ffi::OsStr::new(KEYS[usize::from(*key)]))
            }
            Op::Punch(path, at) => {
                let handle = self.union.open_file(self.node(path)?, OFlags::RDWR)?;
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                self.union.fallocate(&handle, mode as u32, (*at).into(), 5000)
            }
            Op::Compare | Op::Reopen | Op::Swap | Op::Turn => Ok(()),
        }
    }

    fn tree(&self) -> Result<Tree> {
        self.tree()
    }
}

/// The kernel's overlayfs, mounted.
struct Kernel {
    at: PathBuf,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.at, UnmountFlags::empty()) {
            println!("unmount: {error}");
            _ = unmount(&self.at, UnmountFlags::DETACH);
        }
    }
}

impl Kernel {
    fn mount(dirs: &Dirs, at: &Path, options: &str) -> Result<Self> {
        let lowers: Vec<_> = dirs.lowers.iter().map(|lower| lower.display().to_string()).collect();
        let data = format!(
            "lowerdir={},upperdir={},workdir={}{options}",
            lowers.join(":"),
            dirs.upper.display(),
            dirs.work.display()
        );
        let data = CString::new(data).expect("paths have no NUL");
        for attempt in 0.. {
            match mount("overlay", at, "overlay", MountFlags::empty(), Some(&*data)) {
                // A process with a mount namespace of its own that began meanwhile keeps the last mount for as long as it runs.
                Err(Errno::BUSY) if attempt < 200 => std::thread::sleep(std::time::Duration::from_millis(50)),
                result => {
                    result?;
                    break;
                }
            }
        }
        Ok(Self { at: at.into() })
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<std::os::fd::OwnedFd> {
        fs::open(self.at.join(path), flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::from(0o640))
    }
}

impl Side for Kernel {
    fn apply(&self, op: &Op) -> Result<()> {
        let at = |path: &str| self.at.join(path);
        match op {
            Op::Write(path, offset, byte) => {
                let file = self.open(path, OFlags::RDWR | OFlags::CREATE)?;
                only_file(&file)?;
                rustix::io::pwrite(&file, &[*byte; 700], u64::from(*offset)).map(drop)
            }
            Op::Append(path, byte) => {
                let file = self.open(path, OFlags::WRONLY | OFlags::APPEND)?;
                only_file(&file)?;
                rustix::io::write(&file, &[*byte; 100]).map(drop)
            }
            Op::Truncate(path, size) => match Stat::of_path(at(path)).map_err(errno)?.kind {
                Kind::File => fs::ftruncate(self.open(path, OFlags::WRONLY)?, (*size).into()),
                Kind::Dir => Err(Errno::ISDIR),
                _ => Err(Errno::INVAL),
            },
            Op::Replace(path) => {
                let file = self.open(path, OFlags::WRONLY | OFlags::TRUNC)?;
                only_file(&file)?;
                rustix::io::write(&file, b"replaced").map(drop)
            }
            Op::Mkdir(path, mode) => fs::mkdir(at(path), Mode::from((*mode) as u32)),
            Op::Rmdir(path) => fs::rmdir(at(path)),
            Op::Unlink(path) => fs::unlink(at(path)),
            Op::RemoveAll(path) => match Stat::of_path(at(path)).map_err(errno) {
                Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(errno),
                Ok(stat) if stat.kind == Kind::Dir => std::fs::remove_dir_all(at(path)).map_err(errno),
                Ok(_) => fs::unlink(at(path)),
            },
            Op::Rename(from, to) => fs::rename(at(from), at(to)),
            Op::RenameNew(from, to) => fs::renameat_with(CWD, at(from), CWD, at(to), RenameFlags::NOREPLACE),
            Op::Exchange(from, to) => fs::renameat_with(CWD, at(from), CWD, at(to), RenameFlags::EXCHANGE),
            Op::Link(from, to) => fs::linkat(CWD, at(from), CWD, at(to), AtFlags::empty()),
            Op::Symlink(path) => fs::symlink("nowhere/x", at(path)),
            Op::Node(path, device) => {
                let (kind, rdev) = if *device { (FileType::CharacterDevice, 0x103) } else { (FileType::Fifo, 0) };
                fs::mknodat(CWD, at(path), kind, Mode::from(0o604), rdev)
            }
            Op::Chmod(path, mode) => {
                let handle = strata_sys::tree::Dir::open_path(&self.at).map_err(errno)?;
                handle.set_mode(path, (*mode).into()).map_err(errno)
            }
            Op::Chown(path, owner) => {
                let (uid, gid) = (fs::Uid::from_raw(*owner), fs::Gid::from_raw(owner + 5));
                fs::chownat(CWD, at(path), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            }
            Op::Touch(path) => {
                let time = fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 5 };
                let times = fs::Timestamps { last_access: time, last_modification: time };
                fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW)
            }
            Op::SetXattr(path, key, value) => {
                fs::lsetxattr(at(path), KEYS[usize::from(*key)], &[*value; 20], XattrFlags::empty())
            }
            Op::RemoveXattr(path, key) => fs::lremovexattr(at(path), KEYS[usize::from(*key)]),
            Op::Punch(path, offset) => {
                let file = self.open(path, OFlags::RDWR)?;
                only_file(&file)?;
                let flags = fs::FallocateFlags::PUNCH_HOLE | fs::FallocateFlags::KEEP_SIZE;
                fs::fallocate(&file, flags, (*offset).into(), 5000)
            }
            Op::Compare | Op::Reopen | Op::Swap | Op::Turn => Ok(()),
        }
    }

    fn tree(&self) -> Result<Tree> {
        let mut tree = Tree::new();
        let mut inodes = BTreeMap::new();
        disk_tree(&self.at, "", &mut tree, &mut inodes).map_err(errno)?;
        let mut first = BTreeMap::new();
        for (path, item) in &mut tree {
            item.same_as = first.entry(inodes[path]).or_insert_with(|| path.clone()).clone();
        }
        Ok(tree)
    }
}

/// Our union opens regular files alone; the kernel opens what else there is.
fn only_file(file: &std::os::fd::OwnedFd) -> Result<()> {
    if FileType::from_raw_mode(fs::fstat(file)?.st_mode) == FileType::RegularFile { Ok(()) } else { Err(Errno::NXIO) }
}

fn errno(error: std::io::Error) -> Errno {
    strata_sys::errno(&error).map_or(Errno::IO, Errno::from_raw_os_error)
}

fn disk_tree(root: &Path, folder: &str, tree: &mut Tree, inodes: &mut BTreeMap<String, u64>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(folder))? {
        let path = join(folder, &entry?.file_name().to_string_lossy());
        let full = root.join(&path);
        let stat = Stat::of_path(&full)?;
        let content = match stat.kind {
            Kind::File => std::fs::read(&full)?,
            Kind::Symlink => std::fs::read_link(&full)?.as_os_str().as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let mut xattrs = BTreeMap::new();
        for name in strata_sys::xattr::list(&full)? {
            let value = strata_sys::xattr::get(&full, &name)?.unwrap_or_default();
            xattrs.insert(name, value);
        }
        let item = Item {
            kind: stat.kind,
            mode: stat.mode,
            owner: (stat.uid, stat.gid),
            nlink: if stat.kind == Kind::Dir { 0 } else { stat.nlink },
            same_as: String::new(),
            content,
            rdev: (stat.rdev.major, stat.rdev.minor),
            xattrs,
        };
        inodes.insert(path.clone(), std::fs::symlink_metadata(&full)?.ino());
        tree.insert(path.clone(), item);
        if stat.kind == Kind::Dir {
            disk_tree(root, &path, tree, inodes)?;
        }
    }
    Ok(())
}

/// The directories of one union.
#[derive(Clone, Debug)]
struct Dirs {
    upper: PathBuf,
    work: PathBuf,
    lowers: Vec<PathBuf>,
}

impl Dirs {
    fn new(base: &Path, name: &str, lowers: Vec<PathBuf>) -> Self {
        let dirs = Self { upper: base.join(format!("{name}-upper")), work: base.join(format!("{name}-work")), lowers };
        std::fs::create_dir(&dirs.upper).unwrap();
        std::fs::create_dir(&dirs.work).unwrap();
        dirs
    }

    fn view(&self, flavour: Flavour) -> View {
        let branch = |path: &PathBuf, access| Branch { path: path.clone(), access };
        let lowers = self.lowers.iter().map(|path| branch(path, Access::ReadOnly));
        View::open(Config {
            branches: [branch(&self.upper, Access::ReadWrite)].into_iter().chain(lowers).collect(),
            dialect: Dialect::Overlay { xattrs: flavour.xattrs },
            work: Some(self.work.clone()),
            options: Options {
                redirect_dir: flavour.redirect_dir,
                index: flavour.index,
                metacopy: flavour.metacopy,
                durability: Durability::Volatile,
                ..Options::default()
            },
        })
    }

    /// The writable branch becomes a lower one.
    fn turn(&self, base: &Path, name: &str) -> Self {
        Self::new(base, name, [self.upper.clone()].into_iter().chain(self.lowers.iter().cloned()).collect())
    }
}

#[derive(Clone, Copy)]
struct Flavour {
    xattrs: Xattrs,
    redirect_dir: RedirectDir,
    index: Switch,
    metacopy: Metacopy,
    kernel: &'static str,
}

const TRUSTED: Flavour = Flavour {
    xattrs: Xattrs::Trusted,
    redirect_dir: RedirectDir::On,
    index: Switch::On,
    metacopy: Metacopy::Follow,
    kernel: ",index=on,redirect_dir=on,metacopy=off,xino=off",
};
const METACOPY: Flavour =
    Flavour { metacopy: Metacopy::Make, kernel: ",index=on,redirect_dir=on,metacopy=on,xino=off", ..TRUSTED };
const CLASSIC: Flavour = Flavour {
    xattrs: Xattrs::Trusted,
    redirect_dir: RedirectDir::Follow,
    index: Switch::On,
    metacopy: Metacopy::Follow,
    kernel: ",index=on,redirect_dir=off,metacopy=off,xino=off",
};
const USER: Flavour = Flavour {
    xattrs: Xattrs::User,
    redirect_dir: RedirectDir::NoFollow,
    index: Switch::Off,
    metacopy: Metacopy::Follow,
    kernel: ",index=off,userxattr,xino=off",
};

/// Two branches with something of everything.
fn fill(base: &Path, links: bool) -> Vec<PathBuf> {
    let (one, two) = (base.join("one"), base.join("two"));
    for (lower, letter) in [(&one, b'1'), (&two, b'2')] {
        for dir in ["a/b/c", "a/d", "b/a", "c/c/c", "e"] {
            std::fs::create_dir_all(lower.join(dir)).unwrap();
        }
        for file in ["a/a", "a/b/a", "b/b", "c/a", "c/c/b"] {
            std::fs::write(lower.join(file), [letter; 3000]).unwrap();
        }
        std::os::unix::fs::symlink("nowhere/x", lower.join("e/e")).unwrap();
    }
    std::fs::write(one.join("d"), b"a file above a directory").unwrap();
    std::fs::create_dir_all(two.join("d/a")).unwrap();
    if links {
        for link in ["a/b/b", "b/c", "e/a"] {
            std::fs::hard_link(one.join("a/a"), one.join(link)).unwrap();
        }
        std::fs::hard_link(two.join("c/a"), two.join("e/b")).unwrap();
    }
    fs::mknodat(CWD, one.join("b/b2"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    fs::setxattr(one.join("a/a"), "user.one", b"lower", XattrFlags::empty()).unwrap();
    fs::setxattr(two.join("a/d"), "trusted.three", b"lower", XattrFlags::empty()).unwrap();
    vec![one, two]
}

fn play(ops: &[Op], flavour: Flavour, links: bool) -> std::result::Result<(), String> {
    let base = tempfile::tempdir_in(scratch()).unwrap();
    let base = base.path();
    let lowers = fill(base, links);
    let at = base.join("merged");
    std::fs::create_dir(&at).unwrap();
    let (mut ours, mut theirs) = (Dirs::new(base, "o", lowers.clone()), Dirs::new(base, "k", lowers));
    let mut view = Some(ours.view(flavour));
    let mut kernel = Some(Kernel::mount(&theirs, &at, flavour.kernel).map_err(|errno| format!("mount: {errno}"))?);
    let mut turned = false;
    let end = [Op::Compare, Op::Reopen, Op::Swap];
    for (number, op) in ops.iter().chain(&end).enumerate() {
        let (one, other) = (view.as_ref().expect("open"), kernel.as_ref().expect("mounted"));
        let (got, expected) = (one.apply(op), other.apply(op));
        if got.is_ok() != expected.is_ok() {
            return Err(format!("{number}: {op:?}: ours {got:?}, the kernel's {expected:?}"));
        }
        match op {
            Op::Reopen => drop((view.take(), kernel.take())),
            Op::Swap => {
                drop((view.take(), kernel.take()));
                std::mem::swap(&mut ours, &mut theirs);
            }
            Op::Turn if turned => {}
            Op::Turn => {
                turned = true;
                drop((view.take(), kernel.take()));
                ours = ours.turn(base, &format!("o{number}"));
                theirs = theirs.turn(base, &format!("k{number}"));
            }
            Op::Compare => {}
            _ => continue,
        }
        if view.is_none() {
            view = Some(ours.view(flavour));
            let mounted = Kernel::mount(&theirs, &at, flavour.kernel);
            kernel = Some(mounted.map_err(|errno| format!("{number}: {op:?}: the kernel does not mount: {errno}"))?);
        }
        compare(view.as_ref().expect("open"), kernel.as_ref().expect("mounted"), flavour)
            .map_err(|difference| format!("after {number}: {op:?}: {difference}"))?;
    }
    Ok(())
}

fn compare(view: &View, kernel: &Kernel, flavour: Flavour) -> std::result::Result<(), String> {
    let mut ours = Side::tree(view).map_err(|errno| format!("our tree: {errno}"))?;
    let mut theirs = kernel.tree().map_err(|errno| format!("the kernel's tree: {errno}"))?;
    if flavour.index == Switch::Off {
        // Links of symbolic links that were copied up: the kernel, without an origin to go by, shows two inode numbers.
        for item in ours.values_mut().chain(theirs.values_mut()).filter(|item| item.kind != Kind::File) {
            item.same_as.clear();
        }
    }
    for path in ours.keys().chain(theirs.keys()) {
        if ours.get(path) != theirs.get(path) {
            let brief = |item: Option<&Item>| match item {
                Some(item) => {
                    let mut item = item.clone();
                    let len = item.content.len();
                    item.content.truncate(8);
                    format!("{item:?} ({len} bytes)")
                }
                None => "nothing".to_owned(),
            };
            return Err(format!(
                "{path}:\n  ours     {}\n  kernel's {}",
                brief(ours.get(path)),
                brief(theirs.get(path))
            ));
        }
    }
    Ok(())
}

fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.into() } else { std::env::temp_dir() }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(flavour: Flavour, share: usize, links: bool) {
    if !rustix::process::geteuid().is_root() {
        strata_testkit::require::report_skip("mounting needs root");
        return;
    }
    rustix::process::umask(Mode::empty());
    if let Err(why) = play(&[], flavour, links) {
        if why.starts_with("mount:") {
            strata_testkit::require::report_skip(&why);
            return;
        }
        panic!("{why}");
    }
    let ops = number("STRATA_UNION_OPS", 100_000) * share / 100;
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(number("STRATA_UNION_SEED", 0) as u64).to_le_bytes());
    let runs = Runs {
        cases: (ops / SEQUENCE).max(1) as u32,
        failure_persistence: None,
        max_shrink_iters: 100_000,
        max_shrink_time: number("STRATA_UNION_SHRINK_MS", 30_000) as u32,
        ..Runs::default()
    };
    let mut runner = TestRunner::new_with_rng(runs, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let result = runner.run(&sequence(links), |ops| play(&ops, flavour, links).map_err(TestCaseError::fail));
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn the_union_and_the_kernels_agree_with_redirects() {
    run(TRUSTED, 30, false);
}

#[test]
fn the_union_and_the_kernels_agree_on_lower_hard_links() {
    run(TRUSTED, 30, true);
}

#[test]
fn the_union_and_the_kernels_agree_without_redirects() {
    run(CLASSIC, 20, true);
}

#[test]
fn the_union_and_the_kernels_agree_on_user_attributes() {
    run(USER, 20, false);
}

#[test]
fn the_union_and_the_kernels_agree_on_files_without_data() {
    run(METACOPY, 30, false);
}

#[test]
fn the_union_and_the_kernels_agree_on_linked_files_without_data() {
    run(METACOPY, 20, true);
}
