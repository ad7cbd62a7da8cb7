//! What the kernel knows of one file.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp},
    io::Errno,
};

/// A point in time: `secs` since 1970 UTC (negative before), and `nanos` after that, always below 1,000,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    pub secs: i64,
    pub nanos: u32,
}

/// A device number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

/// What sort of file something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl Kind {
    /// `None` for a type that no filesystem should have.
    pub(super) fn of(file_type: FileType) -> Option<Self> {
        Some(match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => return None,
        })
    }
}

/// A file's inode, by `statx(2)`.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    pub kind: Kind,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// In bytes; of a link, the length of its text.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    pub nlink: u32,
    pub inode: u64,
    /// The filesystem that holds it.
    pub dev: Device,
    /// What a device node stands for.
    pub rdev: Device,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
    /// Birth, where the filesystem keeps it.
    pub born: Option<Time>,
}

impl Stat {
    /// Returns what the kernel knows of `path`, of a link itself.
    pub fn of_path(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::at(rustix::fs::CWD, path.as_ref())
    }

    /// Returns what the kernel knows of what `fd` is open on.
    pub fn of_fd(fd: &impl AsFd) -> io::Result<Self> {
        Self::at(fd.as_fd(), Path::new(""))
    }

    pub(super) fn at(dir: BorrowedFd<'_>, name: &Path) -> io::Result<Self> {
        let mut flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        if name.as_os_str().is_empty() {
            flags |= AtFlags::EMPTY_PATH;
        }
        let statx = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        Self::of_statx(&statx)
    }

    fn of_statx(statx: &Statx) -> io::Result<Self> {
        let mode = u32::from(statx.stx_mode);
        let kind = Kind::of(FileType::from_raw_mode(mode)).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self {
            kind,
            mode: mode & 0o7777,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            size: statx.stx_size,
            blocks: statx.stx_blocks,
            nlink: statx.stx_nlink,
            inode: statx.stx_ino,
            dev: Device { major: statx.stx_dev_major, minor: statx.stx_dev_minor },
            rdev: Device { major: statx.stx_rdev_major, minor: statx.stx_rdev_minor },
            accessed: time(&statx.stx_atime),
            modified: time(&statx.stx_mtime),
            changed: time(&statx.stx_ctime),
            born: (statx.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(&statx.stx_btime)),
        })
    }

    /// Whether `self` and `other` are one inode.
    pub fn same_file(&self, other: &Self) -> bool {
        (self.dev, self.inode) == (other.dev, other.inode)
    }
}

fn time(stamp: &StatxTimestamp) -> Time {
    Time { secs: stamp.tv_sec, nanos: stamp.tv_nsec }
}

/// `fchmodat2(2)` without following a link; `ENOSYS` before Linux 6.6.
#[allow(unsafe_code)]
pub(super) fn fchmodat2(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> Result<(), Errno> {
    // Not in libc's table for every architecture, but one number on all of them.
    const SYS_FCHMODAT2: libc::c_long = 452;
    let name = CString::new(name.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel reads the NUL-terminated `name`, which lives until the call returns; the other arguments are integers.
    let result =
        unsafe { libc::syscall(SYS_FCHMODAT2, dir.as_raw_fd(), name.as_ptr(), mode, libc::AT_SYMLINK_NOFOLLOW) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
