//! Reading a directory.

use std::{
    ffi::{OsStr, OsString},
    io,
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt,
};

use rustix::{
    fs::{FileType, RawDir},
    io::Errno,
};

use super::{Dir, Kind};

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: OsString,
    pub kind: Kind,
    pub inode: u64,
}

pub(super) fn read(dir: &Dir) -> io::Result<Vec<Entry>> {
    // A descriptor of its own: the position in a directory belongs to the open file, which others may be reading too.
    let own = match dir.open_dir(".") {
        // Removed while open: it has no entries.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        own => own?,
    };
    // 32 KiB, as glibc: about a thousand names a call. Longer than any one entry, so that RawDir never lacks room.
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut raw = RawDir::new(&own, &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            Err(Errno::NOENT) => break,
            entry => entry?,
        };
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some filesystems keep no type in the directory.
            FileType::Unknown => match dir.stat(name) {
                Ok(stat) => stat.kind,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            },
            known => Kind::of(known).ok_or(io::ErrorKind::InvalidData)?,
        };
        entries.push(Entry { name: name.to_owned(), kind, inode: entry.ino() });
    }
    Ok(entries)
}
