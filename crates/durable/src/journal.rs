//! `strata/journal`: what running operations intend, and what dead ones left to be settled.
//!
//! ```text
//! <random hex>     one operation; a JSON document a line; locked (flock) by the process that runs it
//! ```
//!
//! An operation writes an intent before its first change, adds notes as it goes (each on disk before the change that it
//! announces), and removes it after its last. An intent whose lock is free belongs to a dead process: whoever opens the
//! root settles it, by undoing or completing. An intent is also a lease: what its notes name is in use.

use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

use crate::Error;

/// The folder of intents.
#[derive(Clone, Debug)]
pub struct Journal {
    #[allow(dead_code)]
    dir: PathBuf,
}

/// A running operation's entry. Dropped without [`Intent::done`] it stays, unlocked, to be settled by the next opener.
#[derive(Debug)]
pub struct Intent {
    #[allow(dead_code)]
    path: PathBuf,
}

/// An entry read back: its notes in order of writing. A torn last line (crash while noting) is dropped: its change never began.
#[derive(Debug)]
pub struct Notes<T> {
    pub path: PathBuf,
    pub notes: Vec<T>,
}

impl Journal {
    /// Opens the journal in `dir`, making it if missing.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let _ = dir;
        todo!()
    }

    /// Starts an operation with its first note, which is on disk when this returns.
    pub fn begin<T: Serialize>(&self, first: &T) -> Result<Intent, Error> {
        let _ = first;
        todo!()
    }

    /// The notes of all operations that are alive.
    pub fn alive<T: DeserializeOwned>(&self) -> Result<Vec<Notes<T>>, Error> {
        todo!()
    }

    /// Settles what dead operations left: calls `settle` on each, holding its lock, and removes the entry when that succeeds.
    pub fn settle<T: DeserializeOwned, E: From<Error>>(
        &self,
        settle: impl FnMut(&[T]) -> Result<(), E>,
    ) -> Result<(), E> {
        let _ = settle;
        todo!()
    }
}

impl Intent {
    /// Adds a note; on disk when this returns.
    pub fn note<T: Serialize>(&mut self, note: &T) -> Result<(), Error> {
        let _ = note;
        todo!()
    }

    /// Ends the operation: the entry is removed.
    pub fn done(self) -> Result<(), Error> {
        todo!()
    }
}
