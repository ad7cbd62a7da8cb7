//! Replacing one file atomically.

use std::path::Path;

use crate::Error;

/// Makes `path` hold `bytes`, with `mode` (`0o600`, …).
///
/// The bytes go to a temporary file in the same folder (`.tmp-<name>-<random>`, as Docker's `ioutils.AtomicWriteFile` does),
/// which is synced and renamed over `path`; then the folder is synced. The rename is the commit point: after a crash
/// `path` holds either its old bytes or all of the new ones.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let _ = (path, bytes, mode);
    todo!()
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let _ = path;
    todo!()
}

/// Reads a whole file of UTF-8 text.
pub fn read_to_string(path: &Path) -> Result<String, Error> {
    let _ = path;
    todo!()
}

/// Removes a file and syncs its folder; one that is not there is no error.
pub fn remove_file(path: &Path) -> Result<(), Error> {
    let _ = path;
    todo!()
}

/// Makes the symbolic link `path` to `target`, atomically replacing a link of that name, and syncs the folder.
pub fn symlink(target: &Path, path: &Path) -> Result<(), Error> {
    let _ = (target, path);
    todo!()
}
