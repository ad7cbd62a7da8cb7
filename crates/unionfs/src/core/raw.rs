//! System calls relative to an open directory, with bare error numbers.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub(crate) use rustix::fs::Statx;
use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, StatxTimestamp},
    io::Errno,
};
use strata_sys::tree::{Kind, Time};

use crate::types::Result;

/// Longest path of one call; the kernel's limit is 4096 with the NUL.
const CHUNK: usize = 3800;

pub(crate) fn stat_at(dir: impl AsFd, name: &[u8]) -> Result<Statx> {
    let mut flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    if name.is_empty() {
        flags |= AtFlags::EMPTY_PATH;
    }
    fs::statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// The ID of the mount that a descriptor is on; `None` before Linux 5.8.
pub(crate) fn mount_of(fd: impl AsFd) -> Option<u64> {
    let stat = fs::statx(fd, b"".as_slice(), AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}

/// As [`stat_at`]; `None` if the name is not there.
pub(crate) fn find_at(dir: impl AsFd, name: &[u8]) -> Result<Option<Statx>> {
    match stat_at(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn kind_of(stat: &Statx) -> Kind {
    match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    }
}

pub(crate) fn dev_of(stat: &Statx) -> u64 {
    fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

pub(crate) fn is_device_zero(stat: &Statx) -> bool {
    kind_of(stat) == Kind::CharDevice && stat.stx_rdev_major == 0 && stat.stx_rdev_minor == 0
}

pub(crate) fn time_of(stamp: &StatxTimestamp) -> Time {
    Time { secs: stamp.tv_sec, nanos: stamp.tv_nsec }
}

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

/// Opens (`O_PATH`) the directory at `path`, `root` itself for `""`. Follows no symbolic link and never leaves `root`.
pub(crate) fn open_dir_path(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut rest = path;
    let mut at: Option<OwnedFd> = None;
    loop {
        let (now, later) = split(rest);
        let name: &[u8] = if now.is_empty() { b"." } else { now };
        let base = at.as_ref().map_or(root, |fd| fd.as_fd());
        let opened = loop {
            match fs::openat2(base, name, flags, Mode::empty(), RESOLVE) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => break result?,
            }
        };
        if later.is_empty() {
            return Ok(opened);
        }
        at = Some(opened);
        rest = later;
    }
}

/// Splits a path that is too long for one call.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= CHUNK {
        return (path, b"");
    }
    match path[..CHUNK].iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, b""),
    }
}

/// Opens (`O_PATH`) the directory `name` in `dir`.
pub(crate) fn open_dir_at(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    fs::openat(dir, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

/// Opens an `O_PATH` directory for reading.
pub(crate) fn open_readable(dir: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match fs::openat(&dir, c".", flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => fs::openat(&dir, c".", flags, Mode::empty()),
        result => result,
    }
}

/// Opens `name` in `dir` without following it, and without changing its access time if that is permitted.
pub(crate) fn open_at(dir: impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    loop {
        match fs::openat(&dir, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => break,
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
    fs::openat(dir, name, flags, Mode::empty())
}

/// Opens the object of `fd` again.
pub(crate) fn reopen(fd: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
    fs::open(proc_path(fd.as_fd(), b""), flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
}

/// Returns a path to `name` in an open directory, to the directory itself for `""`, for calls that take no descriptor.
pub(crate) fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", dir.as_raw_fd()).into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// Returns an extended attribute of `name` in `dir`, of a symbolic link itself; `None` if there is none or can be none.
pub(crate) fn xattr_at(dir: impl AsFd, name: &[u8], key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
    let path = proc_path(dir.as_fd(), name);
    let mut small = [0_u8; 256];
    let result = if name.is_empty() {
        fs::getxattr(&*path, key.as_ref(), &mut small[..])
    } else {
        fs::lgetxattr(&*path, key.as_ref(), &mut small[..])
    };
    match result {
        Ok(len) => return Ok(Some(small[..len].to_vec())),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    let mut large = vec![0; 65536];
    let result = if name.is_empty() {
        fs::getxattr(&*path, key.as_ref(), &mut large[..])
    } else {
        fs::lgetxattr(&*path, key.as_ref(), &mut large[..])
    };
    match result {
        Ok(len) => {
            large.truncate(len);
            Ok(Some(large))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Returns the names of the extended attributes of `name` in `dir`; empty on filesystems without any.
pub(crate) fn xattrs_at(dir: impl AsFd, name: &[u8]) -> Result<Vec<Vec<u8>>> {
    let path = proc_path(dir.as_fd(), name);
    let list = |buffer: &mut [u8]| {
        if name.is_empty() { fs::listxattr(&*path, buffer) } else { fs::llistxattr(&*path, buffer) }
    };
    let mut small = [0_u8; 512];
    let split = |bytes: &[u8]| {
        bytes.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    match list(&mut small) {
        Ok(len) => return Ok(split(&small[..len])),
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    let mut large = vec![0; 65536];
    let len = list(&mut large)?;
    Ok(split(&large[..len]))
}

pub(crate) fn set_xattr_at(
    dir: impl AsFd,
    name: &[u8],
    key: impl AsRef<[u8]>,
    value: &[u8],
    flags: fs::XattrFlags,
) -> Result<()> {
    let path = proc_path(dir.as_fd(), name);
    if name.is_empty() {
        fs::setxattr(&*path, key.as_ref(), value, flags)
    } else {
        fs::lsetxattr(&*path, key.as_ref(), value, flags)
    }
}

pub(crate) fn remove_xattr_at(dir: impl AsFd, name: &[u8], key: impl AsRef<[u8]>) -> Result<()> {
    let path = proc_path(dir.as_fd(), name);
    if name.is_empty() { fs::removexattr(&*path, key.as_ref()) } else { fs::lremovexattr(&*path, key.as_ref()) }
}

/// Returns the error number of an error from `strata-sys`.
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    strata_sys::errno(error).map_or(Errno::IO, Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_deeper_than_a_path_may_be_long_are_opened() {
        let temp = tempfile::tempdir().unwrap();
        let root = fs::open(temp.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let name = [b'n'; 200];
        let mut at = root.try_clone().unwrap();
        let mut path = Vec::new();
        for depth in 0..50 {
            fs::mkdirat(&at, &name[..], Mode::RWXU).unwrap();
            at = open_dir_at(&at, &name).unwrap();
            if depth > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
        }
        let found = stat_at(open_dir_path(root.as_fd(), &path).unwrap(), b"").unwrap();
        assert_eq!(found.stx_ino, stat_at(&at, b"").unwrap().stx_ino);
    }

    #[test]
    fn links_and_ways_out_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("root/d")).unwrap();
        std::os::unix::fs::symlink("d", temp.path().join("root/link")).unwrap();
        let root = fs::open(temp.path().join("root"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert!(open_dir_path(root.as_fd(), b"d").is_ok());
        assert!(open_dir_path(root.as_fd(), b"").is_ok());
        assert_eq!(open_dir_path(root.as_fd(), b"link").unwrap_err(), Errno::NOTDIR);
        assert_eq!(open_dir_path(root.as_fd(), b"link/x").unwrap_err(), Errno::LOOP);
        assert_eq!(open_dir_path(root.as_fd(), b"d/../..").unwrap_err(), Errno::XDEV);
        assert_eq!(open_dir_path(root.as_fd(), b"/etc").unwrap_err(), Errno::XDEV);
    }
}
