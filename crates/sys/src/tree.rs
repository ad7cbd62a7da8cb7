//! Files under a directory descriptor, never outside it.
//!
//! A [`Dir`] is an open directory. Its methods take either a *name* (one component, which is never followed when it is a link)
//! or, where they say so, a *path* that is resolved under the directory by `openat2(2)`:
//!
//! - [`Dir::open_in_root`] treats the directory as `/`, as `chroot(2)` would: links are followed, and lead nowhere else;
//! - [`Dir::open_beneath`] follows no link at all and refuses `..` that leads out.
//!
//! The methods are one system call each unless they say otherwise: applying a layer calls them for each of its files.

mod entries;
mod remove;
mod stat;

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{self, AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps, Uid},
    io::Errno,
};

pub use entries::Entry;
pub use remove::remove_tree;
pub use stat::{Device, Kind, Stat, Time};

use crate::retry;

/// An open directory.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl Dir {
    /// Opens the directory at `path` for reading and as a base of other calls. Links in `path` are followed: it is ours.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(retry(|| fs::open(path.as_ref(), flags, Mode::empty()))?))
    }

    /// As [`Dir::open`], but only as a base (`O_PATH`): needs no right to read the directory; its descriptor cannot be synced.
    pub fn open_path(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(retry(|| fs::open(path.as_ref(), flags, Mode::empty()))?))
    }

    /// Opens the directory `name`; fails with `ELOOP` or `ENOTDIR` if that is a link.
    pub fn open_dir(&self, name: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(retry(|| fs::openat(&self.0, name.as_ref(), flags, Mode::empty()))?))
    }

    /// Opens `path` with this directory as `/`; links are followed inside it, magic links of `/proc` are refused.
    ///
    /// `mode` is used where `flags` has `O_CREAT`. Needs Linux 5.6.
    pub fn open_in_root(&self, path: impl AsRef<Path>, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        self.resolve(path.as_ref(), flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// Opens `path` under this directory; any link on the way is `ELOOP`, an absolute path or `..` leading out is `EXDEV`.
    pub fn open_beneath(&self, path: impl AsRef<Path>, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        self.resolve(path.as_ref(), flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    }

    /// Opens the directory at `path` by the rules of [`Dir::open_in_root`].
    pub fn dir_in_root(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self(self.open_in_root(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?))
    }

    /// Opens the directory at `path` by the rules of [`Dir::open_beneath`].
    pub fn dir_beneath(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self(self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?))
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: u32, resolve: ResolveFlags) -> io::Result<OwnedFd> {
        // The kernel answers EAGAIN when a rename elsewhere makes it unsure of `..`; the caller cannot do better than ask again.
        const ATTEMPTS: usize = 128;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            match fs::openat2(&self.0, path, flags, Mode::from_raw_mode(mode), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Opens the file `name` for reading. Does not wait for a writer if it is a FIFO.
    pub fn open_file(&self, name: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(retry(|| fs::openat(&self.0, name.as_ref(), flags, Mode::empty()))?.into())
    }

    /// Opens `name`, of whatever kind, as a handle only (`O_PATH`): for [`Stat::of_fd`], `xattr` and [`set_mode_of`].
    pub fn open_handle(&self, name: impl AsRef<Path>) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(retry(|| fs::openat(&self.0, name.as_ref(), flags, Mode::empty()))?)
    }

    /// Makes the file `name`, which must be new, and opens it for reading and writing. The umask applies to `mode`.
    pub fn create_file(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(retry(|| fs::openat(&self.0, name.as_ref(), flags, Mode::from_raw_mode(mode)))?.into())
    }

    /// Makes the directory `name`. The umask applies to `mode`.
    pub fn create_dir(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        Ok(fs::mkdirat(&self.0, name.as_ref(), Mode::from_raw_mode(mode))?)
    }

    /// Makes the symbolic link `name` with the text `target`, which is taken as it is.
    pub fn symlink(&self, target: impl AsRef<Path>, name: impl AsRef<Path>) -> io::Result<()> {
        Ok(fs::symlinkat(target.as_ref(), &self.0, name.as_ref())?)
    }

    /// Makes `new` in `to` another name of `name` here; a symbolic link itself is linked, not what it leads to.
    pub fn hard_link(&self, name: impl AsRef<Path>, to: &Dir, new: impl AsRef<Path>) -> io::Result<()> {
        Ok(fs::linkat(&self.0, name.as_ref(), &to.0, new.as_ref(), AtFlags::empty())?)
    }

    /// Makes the special file `name`: a FIFO, socket, or device (`rdev` counts for devices alone). The umask applies to `mode`.
    pub fn create_node(&self, name: impl AsRef<Path>, kind: Kind, mode: u32, rdev: Device) -> io::Result<()> {
        let file_type = match kind {
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::File => FileType::RegularFile,
            Kind::Dir | Kind::Symlink => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let dev = fs::makedev(rdev.major, rdev.minor);
        Ok(fs::mknodat(&self.0, name.as_ref(), file_type, Mode::from_raw_mode(mode), dev)?)
    }

    /// Removes the name of anything but a directory.
    pub fn remove_file(&self, name: impl AsRef<Path>) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name.as_ref(), AtFlags::empty())?)
    }

    /// Removes the empty directory `name`.
    pub fn remove_dir(&self, name: impl AsRef<Path>) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name.as_ref(), AtFlags::REMOVEDIR)?)
    }

    /// Removes `name` and, if it is a directory, all below it; see [`remove_tree`].
    pub fn remove_tree(&self, name: impl AsRef<Path>) -> io::Result<()> {
        remove_tree(self, name.as_ref())
    }

    /// Renames `name` to `new` in `to`, replacing what is there.
    pub fn rename(&self, name: impl AsRef<Path>, to: &Dir, new: impl AsRef<Path>) -> io::Result<()> {
        Ok(fs::renameat(&self.0, name.as_ref(), &to.0, new.as_ref())?)
    }

    /// Renames `name` to `new` in `to`; fails with `AlreadyExists` if that is there.
    pub fn rename_new(&self, name: impl AsRef<Path>, to: &Dir, new: impl AsRef<Path>) -> io::Result<()> {
        Ok(fs::renameat_with(&self.0, name.as_ref(), &to.0, new.as_ref(), RenameFlags::NOREPLACE)?)
    }

    /// Swaps `name` and `new` in `to`, both of which must be there.
    pub fn exchange(&self, name: impl AsRef<Path>, to: &Dir, new: impl AsRef<Path>) -> io::Result<()> {
        Ok(fs::renameat_with(&self.0, name.as_ref(), &to.0, new.as_ref(), RenameFlags::EXCHANGE)?)
    }

    /// Sets the owner of `name`, of a link itself. Clears set-user-ID bits: call it before [`Dir::set_mode`].
    pub fn set_owner(&self, name: impl AsRef<Path>, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(fs::chownat(&self.0, name.as_ref(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the permission bits (`0o7777`) of `name`; on a link fails with `EOPNOTSUPP` and changes nothing.
    ///
    /// One call on Linux 6.6 and later; before, three through a handle and `/proc/self/fd`.
    pub fn set_mode(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        set_mode_at(&self.0, name.as_ref(), mode)
    }

    /// Sets access and modification time of `name`, of a link itself; `None` leaves one as it is.
    pub fn set_times(&self, name: impl AsRef<Path>, access: Option<Time>, modified: Option<Time>) -> io::Result<()> {
        let times = Timestamps { last_access: timespec(access), last_modification: timespec(modified) };
        Ok(fs::utimensat(&self.0, name.as_ref(), &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Returns the text of the symbolic link `name`.
    pub fn read_link(&self, name: impl AsRef<Path>) -> io::Result<OsString> {
        Ok(OsString::from_vec(fs::readlinkat(&self.0, name.as_ref(), Vec::new())?.into_bytes()))
    }

    /// Returns what the kernel knows of `name`, of a link itself. `""` asks of this directory.
    pub fn stat(&self, name: impl AsRef<Path>) -> io::Result<Stat> {
        Stat::at(self.0.as_fd(), name.as_ref())
    }

    /// Whether `name` is there, be it a dangling link.
    pub fn exists(&self, name: impl AsRef<Path>) -> io::Result<bool> {
        match self.stat(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the entries of this directory but `.` and `..`, in the filesystem's order.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        entries::read(self)
    }

    /// Writes this directory's own entries to disk (`fsync`).
    pub fn sync(&self) -> io::Result<()> {
        match retry(|| fs::fsync(&self.0)) {
            // An O_PATH descriptor: open the same directory for reading.
            Err(Errno::BADF) => Ok(retry(|| fs::fsync(self.open_dir(".").map_err(errno_of)?))?),
            result => Ok(result?),
        }
    }

    /// Returns another descriptor of the same open directory.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Dir> for OwnedFd {
    fn from(dir: Dir) -> Self {
        dir.0
    }
}

/// As [`Dir::set_mode`], of `name` in any open directory.
pub fn set_mode_at(dir: &impl AsFd, name: &Path, mode: u32) -> io::Result<()> {
    static NO_FCHMODAT2: AtomicBool = AtomicBool::new(false);
    if !NO_FCHMODAT2.load(Ordering::Relaxed) {
        match stat::fchmodat2(dir.as_fd(), name, mode) {
            Err(Errno::NOSYS) => NO_FCHMODAT2.store(true, Ordering::Relaxed),
            result => return Ok(result?),
        }
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    set_mode_of(&retry(|| fs::openat(dir, name, flags, Mode::empty()))?, mode)
}

/// Sets the permission bits of what `handle` is open on, be it by `O_PATH`.
pub fn set_mode_of(handle: &impl AsFd, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    match fs::fchmod(handle, mode) {
        Err(Errno::BADF) => Ok(fs::chmodat(CWD, proc_path(handle), mode, AtFlags::empty())?),
        result => Ok(result?),
    }
}

/// Sets the owner of what `handle` is open on, be it by `O_PATH`.
pub fn set_owner_of(handle: &impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    Ok(fs::chownat(handle, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?)
}

/// Sets access and modification time of an open file; `None` leaves one as it is.
pub fn set_times_of(file: &impl AsFd, access: Option<Time>, modified: Option<Time>) -> io::Result<()> {
    let times = Timestamps { last_access: timespec(access), last_modification: timespec(modified) };
    Ok(fs::futimens(file, &times)?)
}

/// A path that leads to what `handle` is open on, for calls that take no descriptor. Valid while `handle` is open.
pub fn proc_path(handle: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd())
}

fn timespec(time: Option<Time>) -> Timespec {
    match time {
        Some(time) => Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() },
        None => Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT },
    }
}

fn errno_of(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests;
