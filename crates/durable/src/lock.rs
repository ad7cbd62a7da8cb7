//! Locks between processes: `flock` on small files in `strata/locks`, released by the kernel when the holder dies.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use strata_sys::process::{LockMode, lock_file, try_lock_file, unlock_file};

use crate::{Context, Error};

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Shared,
    Exclusive,
}

/// A held lock; dropped, it is released.
///
/// It stands between open files, not processes: a second one on the same path waits for the first in the same process too.
#[derive(Debug)]
pub struct Lock {
    /// Absent on a read-only filesystem without the file: nobody can hold it exclusively there.
    file: Option<File>,
    path: PathBuf,
    mode: Mode,
}

impl Lock {
    /// Waits for the lock on `path`, which is created if missing.
    ///
    /// On a read-only filesystem a shared lock is always granted.
    pub fn acquire(path: &Path, mode: Mode) -> Result<Self, Error> {
        loop {
            let file = match open(path, mode)? {
                None => return Ok(Self { file: None, path: path.to_owned(), mode }),
                Some(file) => file,
            };
            lock_file(&file, mode.into()).context("lock", path)?;
            if is_still(&file, path)? {
                return Ok(Self { file: Some(file), path: path.to_owned(), mode });
            }
        }
    }

    /// Takes the lock if it is free; `None` if another process holds it.
    pub fn try_acquire(path: &Path, mode: Mode) -> Result<Option<Self>, Error> {
        loop {
            let file = match open(path, mode)? {
                None => return Ok(Some(Self { file: None, path: path.to_owned(), mode })),
                Some(file) => file,
            };
            if !try_lock_file(&file, mode.into()).context("lock", path)? {
                return Ok(None);
            }
            if is_still(&file, path)? {
                return Ok(Some(Self { file: Some(file), path: path.to_owned(), mode }));
            }
        }
    }

    /// The file that is locked.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Releases an exclusive lock and removes its file, for locks on things that are gone for good. Whoever waits for it gets
    /// the lock on a new file. A shared lock is only released.
    pub fn remove(self) -> Result<(), Error> {
        match (self.mode, &self.file) {
            (Mode::Exclusive, Some(_)) => match fs::remove_file(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result.context("remove", &self.path),
            },
            _ => Ok(()),
        }
    }
}

impl Drop for Lock {
    /// Releases it at once: a process that another thread has just forked has the file open too, until it becomes another program.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            unlock_file(file);
        }
    }
}

impl From<Mode> for LockMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Shared => Self::Shared,
            Mode::Exclusive => Self::Exclusive,
        }
    }
}

/// Opens the file to lock; `None` for a shared lock on a read-only filesystem without it.
///
/// The files hold nothing, so they are neither synced nor told to `trace`.
fn open(path: &Path, mode: Mode) -> Result<Option<File>, Error> {
    let mut options = OpenOptions::new();
    let made = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let error = match made {
        Ok(file) => return Ok(Some(file)),
        Err(error) => error,
    };
    let refused = matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied);
    match (refused, File::open(path)) {
        (true, Ok(file)) => Ok(Some(file)),
        (true, Err(_)) if mode == Mode::Shared && error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(None),
        _ => Err(error).context("open the lock", path),
    }
}

/// Whether `path` still names the file that was locked: its last holder may have removed it.
fn is_still(file: &File, path: &Path) -> Result<bool, Error> {
    let opened = file.metadata().context("look at", path)?;
    match fs::metadata(path) {
        Ok(now) => Ok((opened.dev(), opened.ino()) == (now.dev(), now.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context("look at", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_it_is_free_though_a_forked_process_has_the_file_open() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("lock");
        let lock = Lock::acquire(&path, Mode::Exclusive).expect("lock");
        // The same open file, as a child has it between `fork` and `exec`.
        let _inherited = lock.file.as_ref().expect("a file").try_clone().expect("another descriptor");
        assert!(Lock::try_acquire(&path, Mode::Shared).expect("try").is_none());
        drop(lock);
        assert!(Lock::try_acquire(&path, Mode::Exclusive).expect("try").is_some());
    }
}
