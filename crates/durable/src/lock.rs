//! Locks between processes: `flock` on small files in `strata/locks`, released by the kernel when the holder dies.

use std::{fs::File, path::Path};

use crate::Error;

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Shared,
    Exclusive,
}

/// A held lock; dropped, it is released.
#[derive(Debug)]
pub struct Lock {
    #[allow(dead_code)]
    file: File,
}

impl Lock {
    /// Waits for the lock on `path`, which is created if missing.
    pub fn acquire(path: &Path, mode: Mode) -> Result<Self, Error> {
        let _ = (path, mode);
        todo!()
    }

    /// Takes the lock if it is free; `None` if another process holds it.
    pub fn try_acquire(path: &Path, mode: Mode) -> Result<Option<Self>, Error> {
        let _ = (path, mode);
        todo!()
    }
}
