//! Data on the disk before the names that lead to it, without a commit for each file.

use std::{io, os::fd::AsFd, path::PathBuf};

use rustix::fs::{self, FsWord};

/// `f_type` of ext2, ext3 and ext4.
const EXT: FsWord = 0xEF53;

/// Writes a file's data to the disk and waits until the disk has taken it; the filesystem's journal is not committed.
///
/// That alone makes nothing durable: neither what says where the data lies, nor a name. Where a filesystem
/// [commits in order](commits_in_order), a name that the file is given afterwards is never there without the data.
#[allow(unsafe_code)]
pub fn write_back(file: &impl AsFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let how = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    loop {
        // SAFETY: integers only; the descriptor is borrowed for the call.
        if unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, how) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Whether the filesystem that a file is on brings names and inodes to the disk in the order in which they changed, and no sooner than data that the disk took before.
///
/// So does ext4 with a journal: what is done later is in the same transaction or a later one, where blocks that wait for their data get their content
/// in the transaction that is running when the disk has taken it, and what commits a transaction first empties the disk's cache.
/// Not so without a journal; with `journal_async_commit`, which does not wait for that; and with `data=journal`, whose data reaches its place later.
/// Of other filesystems nothing is claimed.
///
/// Source: Linux, Documentation/filesystems/ext4/journal.rst; fs/ext4/page-io.c (`ext4_end_io_end`); fs/jbd2/commit.c.
pub fn commits_in_order(file: &impl AsFd) -> bool {
    fn options(file: &impl AsFd) -> io::Result<String> {
        let dev = fs::fstat(file)?.st_dev;
        let device = format!("/sys/dev/block/{}:{}", fs::major(dev), fs::minor(dev));
        let name = std::fs::canonicalize(device)?.file_name().map(PathBuf::from).unwrap_or_default();
        std::fs::read_to_string(PathBuf::from("/proc/fs/ext4").join(name).join("options"))
    }
    let is_ext = fs::fstatfs(file).is_ok_and(|stat| stat.f_type == EXT);
    is_ext && options(file).is_ok_and(|options| keep_order(&options))
}

/// `options`: those in force, a line each, as `/proc/fs/ext4/<device>/options` has them.
fn keep_order(options: &str) -> bool {
    let has = |option: &str| options.lines().any(|line| line == option);
    (has("data=ordered") || has("data=writeback")) && !has("journal_async_commit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_waits_for_the_disk_keeps_order() {
        assert!(keep_order("rw\nbarrier\ndata=ordered\ncommit=5\n"));
        assert!(keep_order("rw\ndata=writeback\n"));
        assert!(!keep_order("rw\nbarrier\ncommit=5\n"), "without a journal");
        assert!(!keep_order("rw\ndata=journal\n"));
        assert!(!keep_order("rw\njournal_async_commit\ndata=writeback\n"));
        assert!(!keep_order(""));
    }

    #[test]
    fn what_was_written_back_is_there_still() {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        write_back(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 100_000);
        commits_in_order(&file);
    }
}
