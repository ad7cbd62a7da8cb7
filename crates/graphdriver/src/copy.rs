//! One tree made like another: by copies that share blocks where the filesystem can, or by hard links.
//!
//! Kept are owners, modes, times, extended attributes, holes, devices, FIFOs and, among copies, which names are one file. Directories
//! are taken by several threads from one stack; hard links and what directories get last wait until all else is done.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::io::Errno;
use strata_durable::Context;
use strata_sys::{
    fs as kernel,
    tree::{self, Dir, Kind, Stat},
    xattr,
};

use strata_tree::marks::overlay::TRUSTED;

use crate::{Error, Feature};

/// How files come into the new tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Files of their own, which share blocks where the filesystem can.
    Content,
    /// Other names of the same files. A file that can have no more names is copied.
    Links,
    /// As `Content`, between upper directories of overlay mounts: the kernel's notes of the mount they were written through stay behind.
    Upper,
}

/// Threads that copy; more wait for the filesystem's locks.
const THREADS: usize = 4;

/// From here on a path is resolved in steps: the kernel takes 4096 bytes, and a tree may be deeper.
const LONG: usize = 2048;

/// Files up to this size are read and written at once.
const SMALL: u64 = 64 * 1024;

/// Of overlayfs's attributes, those that say what is seen; the others are notes of one mount.
const SEEN: [&str; 3] = [TRUSTED.opaque, TRUSTED.redirect, TRUSTED.metacopy];

/// Makes the directory `to`, which is there and empty, like the directory `from`.
pub(crate) fn tree(from: &Path, to: &Path, how: How) -> Result<(), Error> {
    let copy = Copy {
        from: Dir::open(from).context("open", from)?,
        to: Dir::open(to).context("open", to)?,
        shown: from,
        how,
        shared: Mutex::default(),
        wake: Condvar::new(),
        no_reflinks: AtomicBool::new(false),
    };
    copy.lock().stack.push(PathBuf::new());
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| copy.work());
        }
        copy.work();
    });
    let shared = copy.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = shared.failed {
        return Err(error);
    }
    let root = Roots { from: copy.from, to: copy.to, shown: from };
    for (path, first) in &shared.again {
        root.link(first, path)?;
    }
    // Those below before those above: making a link or closing a directory below changes no time above, but order costs nothing.
    shared.dirs.iter().rev().try_for_each(|path| root.close(path))
}

/// The error of a driver that copies when no parent is given.
pub(crate) fn needs_parent(driver: &'static str) -> Error {
    let why = "each folder begins as its parent".to_owned();
    Error::Unsupported { driver, what: "make a layer before its parent is known", why }
}

/// Whether files below `tmp` can share blocks.
pub(crate) fn probe_reflinks(tmp: &Path) -> Feature {
    let tried = || -> io::Result<()> {
        let suffix: [u8; 8] = strata_sys::process::random()?;
        let name = |end: &str| tmp.join(format!("probe-{:016x}-{end}", u64::from_ne_bytes(suffix)));
        let result = (|| {
            std::fs::write(name("a"), [1; 4096])?;
            kernel::reflink(&File::open(name("a"))?, &File::create(name("b"))?)
        })();
        let _ = (std::fs::remove_file(name("a")), std::fs::remove_file(name("b")));
        result
    };
    match tried() {
        Ok(()) => Feature { name: "reflinks", works: true, why: "copies share blocks until they are changed".into() },
        Err(error) => Feature { name: "reflinks", works: false, why: format!("each copy takes its own room: {error}") },
    }
}

struct Copy<'a> {
    from: Dir,
    to: Dir,
    shown: &'a Path,
    how: How,
    shared: Mutex<Shared>,
    wake: Condvar,
    /// The filesystem said that it has none.
    no_reflinks: AtomicBool,
}

#[derive(Default)]
struct Shared {
    /// Directories to do, relative to the root.
    stack: Vec<PathBuf>,
    /// How many threads work on one.
    busy: usize,
    failed: Option<Error>,
    /// The first new name of a file that has several.
    first: HashMap<u64, PathBuf>,
    /// Further names, and the first.
    again: Vec<(PathBuf, PathBuf)>,
    /// All directories, those above first.
    dirs: Vec<PathBuf>,
}

impl Copy<'_> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let path = {
                let mut shared = self.lock();
                loop {
                    if shared.failed.is_some() {
                        return;
                    }
                    if let Some(path) = shared.stack.pop() {
                        shared.busy += 1;
                        shared.dirs.push(path.clone());
                        break path;
                    }
                    if shared.busy == 0 {
                        return;
                    }
                    shared = self.wake.wait(shared).unwrap_or_else(PoisonError::into_inner);
                }
            };
            let done = self.dir(&path);
            let mut shared = self.lock();
            shared.busy -= 1;
            if let Err(error) = done {
                shared.failed.get_or_insert(error);
            }
            drop(shared);
            self.wake.notify_all();
        }
    }

    fn dir(&self, path: &Path) -> Result<(), Error> {
        let shown = || self.shown.join(path);
        let from = open_deep(&self.from, path).context("open", shown())?;
        let to = open_deep(&self.to, path).context("open the copy of", shown())?;
        let mut below = Vec::new();
        for entry in from.entries().context("list", shown())? {
            let stat = from.stat(&entry.name).context("look at", shown().join(&entry.name))?;
            if stat.kind == Kind::Dir {
                to.create_dir(&entry.name, 0o700).context("copy", shown().join(&entry.name))?;
                below.push(path.join(&entry.name));
                continue;
            }
            self.entry(path, &from, &to, &entry.name, &stat).context("copy", shown().join(&entry.name))?;
        }
        if !below.is_empty() {
            self.lock().stack.append(&mut below);
            self.wake.notify_all();
        }
        Ok(())
    }

    fn entry(&self, path: &Path, from: &Dir, to: &Dir, name: &OsStr, stat: &Stat) -> io::Result<()> {
        if self.how == How::Links && stat.kind == Kind::File {
            match from.hard_link(name, to, name) {
                Err(error) if strata_sys::errno(&error) == Some(Errno::MLINK.raw_os_error()) => {}
                result => return result,
            }
        }
        if stat.nlink > 1 && stat.kind != Kind::Symlink {
            let mut shared = self.lock();
            let path = path.join(name);
            match shared.first.get(&stat.inode).cloned() {
                Some(first) => {
                    shared.again.push((path, first));
                    return Ok(());
                }
                None => {
                    shared.first.insert(stat.inode, path);
                }
            }
        }
        match stat.kind {
            Kind::File => return self.file(from, to, name, stat),
            Kind::Symlink => to.symlink(from.read_link(name)?, name)?,
            _ => to.create_node(name, stat.kind, stat.mode & 0o777, stat.rdev)?,
        }
        to.set_owner(name, stat.uid, stat.gid)?;
        if stat.kind != Kind::Symlink {
            to.set_mode(name, stat.mode)?;
        }
        let at = |dir: &Dir| PathBuf::from(tree::proc_path(dir)).join(name);
        let (source, target) = (at(from), at(to));
        for attribute in self.attributes(xattr::list(&source)?) {
            if let Some(value) = xattr::get(&source, &attribute)? {
                set(|| xattr::set(&target, &attribute, &value))?;
            }
        }
        to.set_times(name, Some(stat.accessed), Some(stat.modified))
    }

    fn file(&self, from: &Dir, to: &Dir, name: &OsStr, stat: &Stat) -> io::Result<()> {
        let mut source = from.open_file(name)?;
        let mut target = to.create_file(name, 0o600)?;
        self.content(&mut source, &mut target, stat)?;
        tree::set_owner_of(&target, stat.uid, stat.gid)?;
        tree::set_mode_of(&target, stat.mode)?;
        self.copy_attributes(&source, &target)?;
        tree::set_times_of(&target, Some(stat.accessed), Some(stat.modified))
    }

    fn copy_attributes(&self, from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
        for attribute in self.attributes(xattr::list_of(from)?) {
            if let Some(value) = xattr::get_of(from, &attribute)? {
                set(|| xattr::set_of(to, &attribute, &value))?;
            }
        }
        Ok(())
    }

    fn attributes(&self, names: Vec<OsString>) -> impl Iterator<Item = OsString> {
        let how = self.how;
        names.into_iter().filter(move |name| keeps(how, name))
    }

    fn content(&self, source: &mut File, target: &mut File, stat: &Stat) -> io::Result<()> {
        if stat.size == 0 {
            return Ok(());
        }
        if !self.no_reflinks.load(Ordering::Relaxed) {
            match kernel::reflink(source, target) {
                Ok(()) => return Ok(()),
                Err(_) => self.no_reflinks.store(true, Ordering::Relaxed),
            }
        }
        if stat.size <= SMALL {
            let mut bytes = Vec::with_capacity(stat.size as usize);
            source.read_to_end(&mut bytes)?;
            return target.write_all(&bytes);
        }
        target.set_len(stat.size)?;
        let mut at = 0;
        while let Some((start, end)) = kernel::next_data(source, at)? {
            source.seek(SeekFrom::Start(start))?;
            target.seek(SeekFrom::Start(start))?;
            // The standard library copies inside the kernel where it can.
            io::copy(&mut (&mut *source).take(end - start), target)?;
            at = end;
        }
        Ok(())
    }
}

/// The two roots, when all threads are done.
struct Roots<'a> {
    from: Dir,
    to: Dir,
    shown: &'a Path,
}

impl Roots<'_> {
    fn link(&self, first: &Path, path: &Path) -> Result<(), Error> {
        let link = || {
            let (above, name) = split(first);
            let (to, new) = split(path);
            open_deep(&self.to, above)?.hard_link(name, &open_deep(&self.to, to)?, new)
        };
        Ok(link().context("copy the hard link", self.shown.join(path))?)
    }

    /// Gives a directory what would pass on to what is made in it, and its times.
    fn close(&self, path: &Path) -> Result<(), Error> {
        let close = || {
            let (from, to) = (open_deep(&self.from, path)?, open_deep(&self.to, path)?);
            let stat = from.stat("")?;
            tree::set_owner_of(&to, stat.uid, stat.gid)?;
            for attribute in xattr::list_of(&from)?.into_iter().filter(|name| keeps(How::Upper, name)) {
                if let Some(value) = xattr::get_of(&from, &attribute)? {
                    set(|| xattr::set_of(&to, &attribute, &value))?;
                }
            }
            tree::set_mode_of(&to, stat.mode)?;
            tree::set_times_of(&to, Some(stat.accessed), Some(stat.modified))
        };
        Ok(close().context("copy", self.shown.join(path))?)
    }
}

fn keeps(how: How, name: &OsStr) -> bool {
    let name = name.as_bytes();
    how != How::Upper || !name.starts_with(TRUSTED.prefix.as_bytes()) || SEEN.iter().any(|seen| name == seen.as_bytes())
}

/// Sets an attribute; one that this filesystem cannot have is left out, as Docker does.
fn set(set: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match set() {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::PERM)) => {
            tracing::warn!(%error, "an attribute was not copied");
            Ok(())
        }
        result => result,
    }
}

fn split(path: &Path) -> (&Path, &OsStr) {
    (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or(OsStr::new(".")))
}

/// Opens the directory `path` under `root`, however long the path.
fn open_deep(root: &Dir, path: &Path) -> io::Result<Dir> {
    if path.as_os_str().is_empty() {
        return root.open_dir(".");
    }
    if path.as_os_str().len() < LONG {
        return root.dir_beneath(path);
    }
    let (mut at, mut step) = (root.open_dir(".")?, PathBuf::new());
    for part in path {
        step.push(part);
        if step.as_os_str().len() > LONG {
            at = at.dir_beneath(&step)?;
            step = PathBuf::new();
        }
    }
    if step.as_os_str().is_empty() { Ok(at) } else { at.dir_beneath(&step) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use strata_sys::tree::{Device, Time};

    use super::*;

    fn make(root: &Path) {
        let dir = Dir::open(root).expect("open");
        fs::create_dir_all(root.join("a/b")).expect("create");
        fs::write(root.join("a/b/small"), "text").expect("write");
        fs::hard_link(root.join("a/b/small"), root.join("a/linked")).expect("link");
        symlink("nowhere", root.join("a/symlink")).expect("link");
        let mut sparse = dir.create_file("sparse", 0o640).expect("create");
        sparse.set_len(64 << 20).expect("grow");
        sparse.seek(SeekFrom::Start(32 << 20)).expect("seek");
        sparse.write_all(&[7; 5000]).expect("write");
        dir.create_node("fifo", Kind::Fifo, 0o600, Device::default()).expect("make a FIFO");
        dir.create_node("null", Kind::CharDevice, 0o666, Device { major: 1, minor: 3 }).expect("make a device");
        xattr::set(root.join("a/b/small"), "user.strata", b"1").expect("set");
        xattr::set(root.join("a"), "trusted.strata", b"2").expect("set");
        let mut deep = dir.open_dir(".").expect("open");
        for _ in 0..200 {
            let name = "d".repeat(30);
            deep.create_dir(&name, 0o711).expect("create");
            deep = deep.open_dir(&name).expect("open");
        }
        deep.create_file("end", 0o600).expect("create");
        for (name, uid, mode) in [("a/b/small", 5, 0o4755), ("a/b", 6, 0o1777), ("a", 0, 0o2750)] {
            std::os::unix::fs::chown(root.join(name), Some(uid), Some(uid + 1)).expect("own");
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).expect("mode");
        }
        for (name, secs) in [("a/b/small", -5), ("a/symlink", 77), ("fifo", 78), ("a/b", 79), ("a", 80), (".", 81)] {
            let time = Time { secs, nanos: 123 };
            dir.set_times(name, Some(time), Some(time)).expect("times");
        }
    }

    type Facts = (u32, u32, u32, i64, i64, u64, u64, Vec<(OsString, Vec<u8>)>);

    fn facts(path: &Path) -> Facts {
        let stat = fs::symlink_metadata(path).expect("stat");
        let names = xattr::list(path).expect("list");
        let attributes = names.into_iter().filter(|name| name != "security.selinux");
        let values = attributes.map(|name| (name.clone(), xattr::get(path, &name).expect("get").expect("is there")));
        let size = if stat.is_dir() { 0 } else { stat.size() };
        let links = if stat.is_dir() { 0 } else { stat.nlink() };
        (stat.mode(), stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec(), size, links, values.collect())
    }

    const NAMES: [&str; 9] = [".", "a", "a/b", "a/b/small", "a/linked", "a/symlink", "sparse", "fifo", "null"];

    #[test]
    fn a_copy_keeps_all_there_is_to_keep() {
        let Some(()) = strata_testkit::require::device_nodes() else { return };
        let scratch = strata_testkit::scratch();
        let (from, to) = (scratch.join("from"), scratch.join("to"));
        fs::create_dir(&from).expect("create");
        fs::create_dir(&to).expect("create");
        make(&from);
        tree(&from, &to, How::Content).expect("copy");
        for name in NAMES {
            assert_eq!(facts(&to.join(name)), facts(&from.join(name)), "{name}");
        }
        let inode = |path: PathBuf| fs::symlink_metadata(path).expect("stat").ino();
        assert_eq!(inode(to.join("a/linked")), inode(to.join("a/b/small")));
        assert_ne!(inode(to.join("a/linked")), inode(from.join("a/linked")));
        assert_eq!(fs::read(to.join("sparse")).expect("read"), fs::read(from.join("sparse")).expect("read"));
        assert!(fs::symlink_metadata(to.join("sparse")).expect("stat").blocks() < 1000, "holes stay holes");
        assert_eq!(crate::tree_size(&to).expect("measure"), crate::tree_size(&from).expect("measure"));
    }

    #[test]
    fn links_are_the_same_files_and_beyond_the_limit_copies() {
        let Some(()) = strata_testkit::require::device_nodes() else { return };
        // ext4 takes 65,000 names of one file.
        let Some(fs) = strata_testkit::LoopFs::ext4(64 << 20) else { return };
        let (from, to) = (fs.join("from"), fs.join("to"));
        fs::create_dir(&from).expect("create");
        fs::create_dir(&to).expect("create");
        fs::write(from.join("full"), "full").expect("write");
        fs::write(from.join("other"), "other").expect("write");
        fs::hard_link(from.join("full"), from.join("twin")).expect("link");
        fs::create_dir(fs.join("names")).expect("create");
        while fs::symlink_metadata(from.join("full")).expect("stat").nlink() < 65_000 {
            let n = fs::symlink_metadata(from.join("full")).expect("stat").nlink();
            fs::hard_link(from.join("full"), fs.join(format!("names/{n}"))).expect("link");
        }
        tree(&from, &to, How::Links).expect("link");
        let inode = |path: PathBuf| fs::symlink_metadata(path).expect("stat").ino();
        assert_eq!(inode(to.join("other")), inode(from.join("other")));
        assert_ne!(inode(to.join("full")), inode(from.join("full")));
        assert_eq!(inode(to.join("full")), inode(to.join("twin")), "one file stays one file");
        assert_eq!(fs::read_to_string(to.join("twin")).expect("read"), "full");
    }
}
