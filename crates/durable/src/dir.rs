//! A folder that has no name until it is whole; removal that runs backwards.

use std::path::{Path, PathBuf};

use crate::Error;

/// A folder being filled under a temporary name. Dropped without [`NewDir::commit`] it is removed: nothing happened.
#[derive(Debug)]
pub struct NewDir {
    path: PathBuf,
}

impl NewDir {
    /// Makes an empty folder with a random name in `tmp`, which must be on the same filesystem as the final name.
    pub fn begin(tmp: &Path, mode: u32) -> Result<Self, Error> {
        let _ = (tmp, mode);
        todo!()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one file of the folder; it is synced at commit.
    pub fn write(&mut self, name: &str, bytes: &[u8], mode: u32) -> Result<(), Error> {
        let _ = (name, bytes, mode);
        todo!()
    }

    /// Creates one file of the folder for streaming into; it is synced at commit.
    pub fn create(&mut self, name: &str, mode: u32) -> Result<std::fs::File, Error> {
        let _ = (name, mode);
        todo!()
    }

    /// Syncs the files and the folder, renames it to `to`, and syncs the parent of `to`.
    ///
    /// The rename is the commit point: after a crash either there is no `to`, or it is whole.
    /// Fails with `AlreadyExists` if `to` is a folder that is not empty; the new folder is then removed.
    pub fn commit(self, to: &Path) -> Result<(), Error> {
        let _ = to;
        todo!()
    }
}

/// Makes a folder and its missing parents with `mode`, and syncs each parent.
pub fn create_dir_all(path: &Path, mode: u32) -> Result<(), Error> {
    let _ = (path, mode);
    todo!()
}

/// Removes the tree `path`: renames it into `tmp` (the commit point), syncs the parent, then deletes it there.
///
/// After a crash either `path` is there whole, or it has no name outside `tmp`, which is emptied when its store is next opened.
/// One that is not there is no error. Deleting stays under directory descriptors and does not follow links.
pub fn remove_dir(path: &Path, tmp: &Path) -> Result<(), Error> {
    let _ = (path, tmp);
    todo!()
}
