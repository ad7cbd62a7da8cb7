//! What a filesystem is and can do; the calls that write it to disk, share blocks, and find holes.

mod order;
mod probe;

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, Advice, FallocateFlags, Mode, OFlags, SeekFrom, StatVfsMountFlags},
    io::Errno,
};

pub use order::{commits_in_order, write_back};
pub use probe::{
    Feature, OverlayParameters, layer_features, overlay_features, overlay_parameters, overlay_registered,
    supports_d_type,
};

use crate::{StepContext, retry};

/// `struct fsxattr` of linux/fs.h: flags, extent size, number of extents, project, size of extents for copies on write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedFlags(pub [u8; 28]);

/// Returns the extended flags of an open file or directory (`FS_IOC_FSGETXATTR`).
#[allow(unsafe_code)]
pub fn extended_flags(file: &impl AsFd) -> io::Result<ExtendedFlags> {
    const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
    let mut flags = ExtendedFlags([0; 28]);
    // SAFETY: the kernel writes a `struct fsxattr` of 28 bytes, which `flags` has and which is ours for the call.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FS_IOC_FSGETXATTR as _, flags.0.as_mut_ptr()) };
    if result == 0 { Ok(flags) } else { Err(io::Error::last_os_error()) }
}

/// Sets the extended flags of an open file or directory (`FS_IOC_FSSETXATTR`).
#[allow(unsafe_code)]
pub fn set_extended_flags(file: &impl AsFd, flags: &ExtendedFlags) -> io::Result<()> {
    const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
    // SAFETY: the kernel reads a `struct fsxattr` of 28 bytes, which `flags` has and which lives until the call returns.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FS_IOC_FSSETXATTR as _, flags.0.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A filesystem at the time it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsInfo {
    /// Its type in Docker's words, as `docker info` prints them for "Backing Filesystem": `extfs`, `xfs`, `overlayfs`; `unknown` otherwise.
    pub type_name: &'static str,
    /// `f_type` of `statfs(2)`.
    pub magic: u64,
    pub block_size: u64,
    pub total_bytes: u64,
    /// Without what is kept for root.
    pub free_bytes: u64,
    pub total_inodes: u64,
    /// 0 of `total_inodes` 0 where the filesystem makes inodes as needed (btrfs).
    pub free_inodes: u64,
    pub read_only: bool,
}

/// Returns facts about the filesystem that holds `path`.
pub fn info(path: &Path) -> io::Result<FsInfo> {
    let statfs = fs::statfs(path).step(|| format!("statfs {}", path.display()))?;
    let statvfs = fs::statvfs(path).step(|| format!("statvfs {}", path.display()))?;
    // Some architectures sign the magic; it is 32 bits wide everywhere.
    let magic = u64::from(statfs.f_type as u32);
    Ok(FsInfo {
        type_name: type_name(magic),
        magic,
        block_size: statvfs.f_frsize,
        total_bytes: statvfs.f_blocks.saturating_mul(statvfs.f_frsize),
        free_bytes: statvfs.f_bavail.saturating_mul(statvfs.f_frsize),
        total_inodes: statvfs.f_files,
        free_inodes: statvfs.f_favail,
        read_only: statvfs.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// Docker's word for a filesystem's magic number.
///
/// Source: moby, daemon/graphdriver/driver_linux.go, `FsNames`.
pub fn type_name(magic: u64) -> &'static str {
    match magic {
        0x6173_7566 => "aufs",
        0x9123_683e => "btrfs",
        0x28cd_3d45 => "cramfs",
        0xf15f => "ecryptfs",
        0xef53 => "extfs",
        0xf2f5_2010 => "f2fs",
        0x6573_5546 => "fuse",
        0x4750_4653 => "gpfs",
        0x72b6 => "jffs2",
        0x3153_464a => "jfs",
        0x6969 => "nfs",
        0x794c_7630 => "overlayfs",
        0x8584_58f6 => "ramfs",
        0x5265_4973 => "reiserfs",
        0x517b => "smb",
        0x7371_7368 => "squashfs",
        0x0102_1994 => "tmpfs",
        0xa501_fcf5 => "vxfs",
        0x5846_5342 => "xfs",
        0x2fc1_2fc1 => "zfs",
        _ => "unknown",
    }
}

/// Writes to disk all that is pending on the filesystem of `path` (`syncfs(2)`); fails if a write-back has failed since
/// the path was opened (Linux 5.8).
pub fn sync_filesystem(path: &Path) -> io::Result<()> {
    let describe = || format!("sync the filesystem of {}", path.display());
    let file = fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).step(describe)?;
    sync_filesystem_of(&file).step(describe)
}

/// As [`sync_filesystem`], of an open file, and with failures since that was opened.
pub fn sync_filesystem_of(file: &impl AsFd) -> io::Result<()> {
    Ok(retry(|| fs::syncfs(file))?)
}

/// Makes `to` share all blocks of `from` (`FICLONE`); `EOPNOTSUPP`, `EXDEV` or `EINVAL` where that cannot be.
pub fn reflink(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    Ok(retry(|| fs::ioctl_ficlone(to, from))?)
}

/// Copies up to `len` bytes inside the kernel, from and to the files' own positions; returns how many, 0 at the end.
///
/// `EXDEV`, `EINVAL`, `EOPNOTSUPP` or `ENOSYS` tell that these two files need reading and writing instead.
pub fn copy_range(from: &impl AsFd, to: &impl AsFd, len: usize) -> io::Result<usize> {
    Ok(retry(|| fs::copy_file_range(from, None, to, None, len))?)
}

/// Copies all that is left of `from` to `to` by the cheapest way there is; returns the number of bytes.
///
/// Reflink (where both are at their start), then copying in the kernel, then reading and writing.
pub fn copy(from: &mut std::fs::File, to: &mut std::fs::File) -> io::Result<u64> {
    use std::io::Seek;
    if from.stream_position()? == 0 && to.stream_position()? == 0 && reflink(from, to).is_ok() {
        from.seek(io::SeekFrom::End(0))?;
        return to.seek(io::SeekFrom::End(0));
    }
    // The standard library goes through copy_file_range, and falls back by itself.
    io::copy(from, to)
}

/// Returns the first stretch of data at or after `from`, as start and end; `None` if only a hole is left.
///
/// Moves the file's position. A filesystem that keeps no holes tells of one stretch, to the end.
pub fn next_data(file: &impl AsFd, from: u64) -> io::Result<Option<(u64, u64)>> {
    match fs::seek(file, SeekFrom::Data(from)) {
        Ok(start) => Ok(Some((start, fs::seek(file, SeekFrom::Hole(start))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns how many of a file's bytes lie in blocks that others have too, by reflinks or snapshots (`FS_IOC_FIEMAP`). `EOPNOTSUPP` where the
/// filesystem does not tell; what is not on disk yet counts as the file's own.
#[allow(unsafe_code)]
pub fn shared_bytes(file: &std::fs::File) -> io::Result<u64> {
    use std::os::fd::AsRawFd;
    /// `struct fiemap_extent`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Extent {
        logical: u64,
        physical: u64,
        length: u64,
        reserved: [u64; 2],
        flags: u32,
        more: [u32; 3],
    }
    /// `struct fiemap` with room for extents.
    #[repr(C)]
    struct Map {
        start: u64,
        length: u64,
        flags: u32,
        mapped: u32,
        count: u32,
        reserved: u32,
        extents: [Extent; ROOM],
    }
    const ROOM: usize = 64;
    // _IOWR('f', 11, struct fiemap), whose size is without extents.
    const FS_IOC_FIEMAP: u64 = 0xc020_660b;
    const LAST: u32 = 1;
    const SHARED: u32 = 0x2000;
    let size = file.metadata()?.len();
    let none = Extent { logical: 0, physical: 0, length: 0, reserved: [0; 2], flags: 0, more: [0; 3] };
    let (mut at, mut shared) = (0, 0);
    while at < size {
        let mut map = Map {
            start: at,
            length: u64::MAX - at,
            flags: 0,
            mapped: 0,
            count: ROOM as u32,
            reserved: 0,
            extents: [none; ROOM],
        };
        // SAFETY: `map` is laid out as `struct fiemap` of linux/fiemap.h followed by `count` of `struct fiemap_extent`, which is all that
        // the kernel writes; it is ours for the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP as libc::Ioctl, &raw mut map) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let found = &map.extents[..ROOM.min(map.mapped as usize)];
        let end = |extent: &Extent| extent.logical.saturating_add(extent.length).min(size);
        let of_others = found.iter().filter(|extent| extent.flags & SHARED != 0);
        shared += of_others.map(|extent| end(extent).saturating_sub(extent.logical)).sum::<u64>();
        match found.last() {
            Some(last) if last.flags & LAST == 0 && end(last) > at => at = end(last),
            _ => break,
        }
    }
    Ok(shared)
}

/// Gives the file blocks for `len` bytes from `offset` on, growing it if needed: later writes there do not run out of space.
pub fn allocate(file: &impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    Ok(retry(|| fs::fallocate(file, FallocateFlags::empty(), offset, len))?)
}

/// Makes a hole of `len` bytes at `offset`; the file keeps its size.
pub fn punch_hole(file: &impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(retry(|| fs::fallocate(file, flags, offset, len))?)
}

/// Lets the kernel begin to write `len` bytes from `offset` (0: to the end) to disk, and does not wait: a later sync is shorter.
#[allow(unsafe_code)]
pub fn start_write_back(file: &impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let len = i64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: integers only; the descriptor is borrowed for the call.
    let result = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Tells the kernel that the file will be read from start to end: it reads further ahead.
pub fn will_read_through(file: &impl AsFd) -> io::Result<()> {
    Ok(fs::fadvise(file, 0, None, Advice::Sequential)?)
}

/// Tells the kernel that the file's clean pages will not be needed again.
pub fn will_not_need(file: &impl AsFd) -> io::Result<()> {
    Ok(fs::fadvise(file, 0, None, Advice::DontNeed)?)
}

/// Whether two paths are on one filesystem, so that a rename between them works.
pub fn same_filesystem(a: &Path, b: &Path) -> io::Result<bool> {
    let dev = |path: &Path| -> io::Result<_> {
        Ok(crate::tree::Stat::of_path(path).step(|| format!("stat {}", path.display()))?.dev)
    };
    Ok(dev(a)? == dev(b)?)
}

/// The nearest folder at or above `path` that is there: what a probe of a root not yet made must ask.
pub fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Seek, Write},
    };

    use super::*;

    #[test]
    fn facts_of_known_filesystems() {
        let proc = info(Path::new("/proc")).unwrap();
        assert_eq!(proc.type_name, "unknown");
        let temp = tempfile::tempdir().unwrap();
        let facts = info(temp.path()).unwrap();
        assert!(facts.total_bytes >= facts.free_bytes && facts.free_bytes > 0, "{facts:?}");
        assert!(!facts.read_only);
        assert_eq!(info(&temp.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn holes_are_found_and_punched() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(10 << 20).unwrap();
        assert_eq!(next_data(&file, 0).unwrap(), None);
        file.seek(io::SeekFrom::Start(4 << 20)).unwrap();
        file.write_all(&[1; 1 << 20]).unwrap();
        assert_eq!(next_data(&file, 0).unwrap(), Some((4 << 20, 5 << 20)));
        assert_eq!(next_data(&file, 5 << 20).unwrap(), None);
        punch_hole(&file, 4 << 20, 1 << 19).unwrap();
        assert_eq!(next_data(&file, 0).unwrap(), Some(((4 << 20) + (1 << 19), 5 << 20)));
        allocate(&file, 0, 11 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 11 << 20);
        start_write_back(&file, 0, 0).unwrap();
        will_read_through(&file).unwrap();
        will_not_need(&file).unwrap();
        sync_filesystem_of(&file).unwrap();
    }

    #[test]
    fn copying_takes_all_whatever_the_way() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("a"), vec![5; 300_000]).unwrap();
        let mut from = File::open(temp.path().join("a")).unwrap();
        let mut to = File::options().read(true).write(true).create_new(true).open(temp.path().join("b")).unwrap();
        assert_eq!(copy(&mut from, &mut to).unwrap(), 300_000);
        assert_eq!(std::fs::read(temp.path().join("b")).unwrap(), vec![5; 300_000]);
        from.rewind().unwrap();
        assert_eq!(copy_range(&from, &to, 1000).unwrap(), 1000);
        let mut tail = [0; 1000];
        to.seek(io::SeekFrom::Start(300_000)).unwrap();
        to.read_exact(&mut tail).unwrap();
        assert_eq!(tail, [5; 1000]);
        sync_filesystem(temp.path()).unwrap();
    }

    #[test]
    fn nearest_existing_goes_up() {
        assert_eq!(nearest_existing(Path::new("/proc/none/such")), Path::new("/proc"));
        assert!(same_filesystem(Path::new("/proc/1"), Path::new("/proc/self")).unwrap());
    }
}
