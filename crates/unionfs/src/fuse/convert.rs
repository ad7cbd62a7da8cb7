//! Conversion between the union's types and fuser's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::{Attr, Cache, Errno, Kind, OFlags, SetTime, Time};

/// How long the kernel caches what only this union changes.
const LONG: Duration = Duration::from_secs(3600);
/// How long it caches what another process may change.
const SHORT: Duration = Duration::from_secs(1);

pub(super) fn keep(cache: Cache) -> Duration {
    match cache {
        Cache::Long => LONG,
        Cache::Short => SHORT,
    }
}

pub(super) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.raw_os_error())
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// `id` is the kernel's number of the node.
pub(super) fn attr(attr: &Attr, id: u64) -> FileAttr {
    FileAttr {
        ino: INodeNo(id),
        size: attr.size,
        blocks: attr.blocks,
        atime: to_system(attr.accessed),
        mtime: to_system(attr.modified),
        ctime: to_system(attr.changed),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: encode_device(attr.rdev_major, attr.rdev_minor),
        blksize: attr.block_size,
        flags: 0,
    }
}

/// The answer for an absent name.
pub(super) fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// A device number in the 32 bits that FUSE has for it: the kernel's `new_encode_dev`.
fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The inverse; the result is as in `stat(2)`.
pub(super) fn decode_device(device: u32) -> u64 {
    rustix::fs::makedev((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00))
}

fn to_system(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let base = if time.secs >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
    base.and_then(|base| base.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}

/// Restores the kernel's seconds and nanoseconds. For times before 1970, fuser subtracts both from the epoch.
fn from_system(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Time { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let secs = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            Time { secs: -secs, nanos: before.subsec_nanos() }
        }
    }
}

pub(super) fn set_time(time: Option<TimeOrNow>) -> Option<SetTime> {
    time.map(|time| match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(from_system(time)),
    })
}

/// The flags of an open call that concern the union. The kernel handles the others, `O_DIRECT` too: our buffers are not aligned.
pub(super) fn open_flags(flags: i32) -> OFlags {
    let kept = OFlags::RWMODE | OFlags::TRUNC | OFlags::EXCL | OFlags::APPEND;
    OFlags::from_bits_truncate(flags as u32) & kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (259, 256), (4095, 0xf_ffff)] {
            assert_eq!(decode_device(encode_device(major, minor)), rustix::fs::makedev(major, minor));
        }
    }

    #[test]
    fn times_before_1970_survive() {
        assert_eq!(from_system(to_system(Time { secs: 5, nanos: 7 })), Time { secs: 5, nanos: 7 });
        // As fuser hands over -5 s and 7 ns.
        let given = UNIX_EPOCH - Duration::new(5, 7);
        assert_eq!(from_system(given), Time { secs: -5, nanos: 7 });
        assert_eq!(to_system(Time { secs: -5, nanos: 7 }), UNIX_EPOCH - Duration::new(4, 999_999_993));
    }
}
