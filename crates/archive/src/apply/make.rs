//! Making one file, with all that its entry says of it.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::PathBuf,
    sync::atomic::{AtomicI64, Ordering},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use strata_sys::{
    tree::{self, Device, Dir, Kind, Stat, Time},
    xattr,
};
use strata_tree::marks::{
    Marks, aufs,
    overlay::{TRUSTED, is_whiteout},
};

use super::{acl, name::display};
use crate::Error;

/// Bytes of the blocks that are left out of a large file when they are zero.
pub(super) const HOLE: usize = 64 * 1024;

/// What an entry says of its file, apart from its content.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub accessed: Time,
    pub modified: Time,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What failed, to be put beside the entry's name.
pub(super) enum Failed {
    System { action: &'static str, source: io::Error },
    Refused(&'static str),
}

impl Failed {
    pub fn at(self, entry: &[u8]) -> Error {
        let entry = display(entry);
        match self {
            Self::System { action, source } => Error::Entry { action, entry, source },
            Self::Refused(reason) => Error::Refused { entry, reason: reason.to_owned() },
        }
    }
}

pub(super) trait During<T> {
    fn during(self, action: &'static str) -> Result<T, Failed>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, action: &'static str) -> Result<T, Failed> {
        self.map_err(|error| Failed::System { action, source: error.into() })
    }
}

/// Makes files in one layer's folder; shared by all threads that do.
pub(super) struct Maker {
    pub marks: Marks,
    /// Owner and permission bits that a new file gets by itself.
    uid: u32,
    gid: u32,
    umask: u32,
    /// Bytes of the files there are: each inode once, the text of links too, as Docker counts.
    size: AtomicI64,
}

impl Maker {
    /// Prepares `root` to be filled.
    pub fn new(root: &Dir, marks: Marks) -> io::Result<Self> {
        let stat = Stat::of_fd(root)?;
        // Without these two, what is made below would inherit from the data root's own settings.
        if stat.mode & 0o2000 != 0 {
            tree::set_mode_of(root, stat.mode & !0o2000)?;
        }
        match xattr::remove_of(root, acl::DEFAULT) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::OPNOTSUPP) => return Err(error),
            _ => {}
        }
        Ok(Self {
            marks,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            umask: umask(),
            size: AtomicI64::new(0),
        })
    }

    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed).max(0) as u64
    }

    /// Makes the empty file `name`, replacing what is there.
    pub fn create(&self, dir: &Dir, name: &OsStr, mode: u32) -> Result<File, Failed> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode & 0o777));
        let file = match open() {
            Err(Errno::EXIST) => {
                self.remove(dir, name)?;
                open()
            }
            result => result,
        };
        Ok(file.during("create")?.into())
    }

    /// Gives a new file all but its content, which it has by now: owner first, because that clears set-user-ID bits and capabilities.
    pub fn finish(&self, file: &File, meta: &Meta, size: u64) -> Result<(), Failed> {
        if (meta.uid, meta.gid) != (self.uid, self.gid) {
            tree::set_owner_of(file, meta.uid, meta.gid).during("set the owner of")?;
        }
        if self.mode_differs(meta.mode) {
            tree::set_mode_of(file, meta.mode).during("set the mode of")?;
        }
        self.set_xattrs(file, &meta.xattrs)?;
        tree::set_times_of(file, Some(meta.accessed), Some(meta.modified)).during("set the times of")?;
        self.size.fetch_add(size as i64, Ordering::Relaxed);
        Ok(())
    }

    pub fn symlink(&self, dir: &Dir, name: &OsStr, target: &[u8], meta: &Meta) -> Result<(), Failed> {
        self.replacing(dir, name, "make the symbolic link", || dir.symlink(OsStr::from_bytes(target), name))?;
        if (meta.uid, meta.gid) != (self.uid, self.gid) {
            dir.set_owner(name, meta.uid, meta.gid).during("set the owner of")?;
        }
        if !meta.xattrs.is_empty() {
            let handle = dir.open_handle(name).during("open")?;
            self.set_xattrs(&handle, &meta.xattrs)?;
        }
        self.size.fetch_add(target.len() as i64, Ordering::Relaxed);
        dir.set_times(name, Some(meta.accessed), Some(meta.modified)).during("set the times of")
    }

    pub fn node(&self, dir: &Dir, name: &OsStr, kind: Kind, dev: Device, meta: &Meta) -> Result<(), Failed> {
        let action = match kind {
            Kind::Fifo => "make the FIFO",
            _ => "make the device",
        };
        self.replacing(dir, name, action, || dir.create_node(name, kind, meta.mode & 0o777, dev))?;
        if (meta.uid, meta.gid) != (self.uid, self.gid) {
            dir.set_owner(name, meta.uid, meta.gid).during("set the owner of")?;
        }
        if self.mode_differs(meta.mode) {
            dir.set_mode(name, meta.mode).during("set the mode of")?;
        }
        if !meta.xattrs.is_empty() {
            let handle = dir.open_handle(name).during("open")?;
            self.set_xattrs(&handle, &meta.xattrs)?;
        }
        dir.set_times(name, Some(meta.accessed), Some(meta.modified)).during("set the times of")
    }

    /// Marks `name` as deleted, for overlayfs. Keeps the owner that the entry names, as Docker does.
    pub fn whiteout(&self, dir: &Dir, name: &OsStr, meta: &Meta) -> Result<(), Failed> {
        self.replacing(dir, name, "make the deletion mark for", || {
            dir.create_node(name, Kind::CharDevice, 0, Device::default())
        })?;
        if (meta.uid, meta.gid) != (self.uid, self.gid) {
            dir.set_owner(name, meta.uid, meta.gid).during("set the owner of")?;
        }
        Ok(())
    }

    /// Makes the directory `name` or takes the one that is there; anything else makes way. Its times, and what would pass on
    /// to the files made in it, are for the end: see [`Maker::close_dir`].
    pub fn dir(&self, dir: &Dir, name: &OsStr, meta: &Meta) -> Result<(), Failed> {
        let make = || rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(meta.mode & 0o777));
        let mut old = false;
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = dir.stat(name).during("look at")?;
                old = stat.kind == Kind::Dir;
                if !old {
                    let hidden = self.marks == Marks::Overlay && is_whiteout(&stat);
                    self.remove(dir, name)?;
                    make().during("make the directory")?;
                    if hidden {
                        self.mark_opaque(&dir.open_dir(name).during("open")?)?;
                    }
                }
            }
            Err(error) => return Err(error).during("make the directory"),
        }
        if old || (meta.uid, meta.gid) != (self.uid, self.gid) {
            dir.set_owner(name, meta.uid, meta.gid).during("set the owner of")?;
        }
        if old || self.mode_differs(meta.mode & !0o2000) {
            dir.set_mode(name, meta.mode & !0o2000).during("set the mode of")?;
        }
        if meta.xattrs.iter().any(|(name, _)| name != acl::DEFAULT.as_bytes()) {
            let handle = dir.open_dir(name).during("open")?;
            let now = meta.xattrs.iter().filter(|(name, _)| name != acl::DEFAULT.as_bytes());
            self.set_each(&handle, now)?;
        }
        Ok(())
    }

    /// Gives a directory what waits until nothing more is made in it; one that is gone by then is no error.
    pub fn close_dir(&self, dir: &Dir, name: &OsStr, late: &Late) -> Result<(), Failed> {
        match dir.stat(name) {
            Ok(stat) if stat.kind == Kind::Dir => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).during("look at"),
        }
        if let Some(acl) = &late.default_acl {
            let handle = dir.open_dir(name).during("open")?;
            self.set_each(&handle, std::iter::once(&(acl::DEFAULT.as_bytes().to_vec(), acl.to_vec())))?;
        }
        if late.mode & 0o2000 != 0 {
            dir.set_mode(name, late.mode).during("set the mode of")?;
        }
        dir.set_times(name, Some(late.accessed), Some(late.modified)).during("set the times of")
    }

    /// Hides what the layers below have in `dir`; there are none in one folder with it.
    pub fn mark_opaque(&self, dir: &Dir) -> Result<(), Failed> {
        match self.marks {
            Marks::Overlay => xattr::set_of(dir, TRUSTED.opaque, b"y").during("mark as opaque"),
            Marks::Aufs | Marks::Mixed => self.create(dir, OsStr::new(aufs::OPAQUE), 0o644).map(drop),
            Marks::None => Ok(()),
        }
    }

    pub fn hard_link(&self, from: &Dir, target: &OsStr, dir: &Dir, name: &OsStr) -> Result<(), Failed> {
        match from.hard_link(target, dir, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // A link to itself says nothing; removing it first would lose the file.
                let (old, new) = (from.stat(target), dir.stat(name));
                if matches!((old, new), (Ok(old), Ok(new)) if old.same_file(&new)) {
                    return Ok(());
                }
                self.remove(dir, name)?;
                from.hard_link(target, dir, name).during("make the hard link")
            }
            result => result.during("make the hard link"),
        }
    }

    /// Removes whatever `name` is, and takes its bytes off the count. Content that this layer itself has brought must stay: its tar
    /// is rebuilt from it.
    pub fn remove(&self, dir: &Dir, name: &OsStr) -> Result<(), Failed> {
        let mut gone = Gone::default();
        gone.count(dir, name).during("look at")?;
        if gone.content && self.marks != Marks::None {
            return Err(Failed::Refused(
                "it deletes or replaces a file that this same layer brings, so that the layer's files could not give the archive \
                 back; write the archive without the first of the two",
            ));
        }
        dir.remove_tree(name).during("remove what was at")?;
        self.size.fetch_sub(gone.bytes as i64, Ordering::Relaxed);
        Ok(())
    }

    /// Removes one name of a file; its bytes count as long as it has another.
    pub fn forget(&self, dir: &Dir, name: &OsStr) -> Result<(), Failed> {
        let stat = dir.stat(name).during("look at")?;
        dir.remove_file(name).during("remove")?;
        if stat.nlink == 1 {
            self.size.fetch_sub(stat.size as i64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Calls `make`, and again without what is at `name` if that is in its way.
    fn replacing(
        &self,
        dir: &Dir,
        name: &OsStr,
        action: &'static str,
        make: impl Fn() -> io::Result<()>,
    ) -> Result<(), Failed> {
        match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(dir, name)?;
                make().during(action)
            }
            result => result.during(action),
        }
    }

    /// Whether a file made with `mode` needs its mode set.
    fn mode_differs(&self, mode: u32) -> bool {
        mode & (self.umask | 0o7000) != 0
    }

    fn set_xattrs(&self, file: &impl AsFd, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Failed> {
        self.set_each(file, xattrs.iter())
    }

    fn set_each<'a>(
        &self,
        file: &impl AsFd,
        xattrs: impl Iterator<Item = &'a (Vec<u8>, Vec<u8>)>,
    ) -> Result<(), Failed> {
        for (name, value) in xattrs {
            // Overlayfs would take these from a stranger's tar for its own.
            if name.starts_with(TRUSTED.prefix.as_bytes()) {
                tracing::warn!(name = %String::from_utf8_lossy(name), "an attribute of overlayfs in a layer was left out");
                continue;
            }
            match xattr::set_of(file, OsStr::from_bytes(name), value) {
                Ok(()) => {}
                // As Docker does: not every filesystem and not every kind of file can have every attribute. The kernel also refuses an
                // ACL that is not whole (a user entry without a mask, say), which GNU tar only warns of.
                Err(error) if is_refused_attribute(name, &error) => {
                    tracing::warn!(name = %String::from_utf8_lossy(name), %error, "an attribute in a layer was left out");
                }
                Err(error) => return Err(error).during("set an extended attribute of"),
            }
        }
        Ok(())
    }
}

/// Whether a layer can do without the attribute `name`, which could not be set because of `error`.
fn is_refused_attribute(name: &[u8], error: &io::Error) -> bool {
    match Errno::from_io_error(error) {
        Some(Errno::OPNOTSUPP | Errno::PERM) => true,
        Some(Errno::INVAL) => [acl::ACCESS, acl::DEFAULT].iter().any(|acl| acl.as_bytes() == name),
        _ => false,
    }
}

/// What a directory gets when nothing more is made in it.
#[derive(Debug)]
pub(super) struct Late {
    pub mode: u32,
    pub accessed: Time,
    pub modified: Time,
    pub default_acl: Option<Box<[u8]>>,
}

impl Late {
    pub fn of(meta: &Meta) -> Self {
        let default = meta.xattrs.iter().find(|(name, _)| name == acl::DEFAULT.as_bytes());
        Self {
            mode: meta.mode,
            accessed: meta.accessed,
            modified: meta.modified,
            default_acl: default.map(|(_, value)| value.clone().into()),
        }
    }
}

/// Bytes that go with a tree.
#[derive(Default)]
struct Gone {
    bytes: u64,
    /// Whether one of them is a file that has content.
    content: bool,
    /// Of files with several names: how many are in the tree.
    links: HashMap<u64, u32>,
}

impl Gone {
    fn count(&mut self, dir: &Dir, name: &OsStr) -> io::Result<()> {
        let stat = match dir.stat(name) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if stat.kind != Kind::Dir {
            self.add(&stat);
            return Ok(());
        }
        // Each directory is opened by its path from the top: a deep tree takes no deep stack, and no descriptors.
        let mut pending = vec![PathBuf::from(name)];
        while let Some(path) = pending.pop() {
            let below = dir.dir_beneath(&path)?;
            for entry in below.entries()? {
                match entry.kind {
                    Kind::Dir => pending.push(path.join(&entry.name)),
                    _ => self.add(&below.stat(&entry.name)?),
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, stat: &Stat) {
        self.content |= stat.kind == Kind::File && stat.size > 0;
        let links = self.links.entry(stat.inode).or_default();
        *links += 1;
        if *links == stat.nlink {
            self.bytes += stat.size;
        }
    }
}

/// The process's umask, read without changing it; as if all bits were set if it cannot be read.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o777)
}
