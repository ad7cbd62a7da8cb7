//! What reading a database can fail with, and the damage that costs a part of it only.

use std::{fmt, io, path::PathBuf};

use strata_spec::ErrorKind;

/// Why a file cannot be read as a database at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The database.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// Both meta pages are damaged, or the file is of another kind.
    #[error("{} is not a readable bolt database: {reason}", path.display())]
    NotBolt {
        /// The database.
        path: PathBuf,
        /// What is wrong with each meta page.
        reason: String,
    },
    /// The owner commits faster than the file can be read.
    #[error("{} changes while it is read; read it again when its owner writes less", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
    },
}

impl Error {
    /// The kind of error, for exit codes and callers that distinguish.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::NotBolt { .. } => ErrorKind::Damaged,
            Self::Busy { .. } => ErrorKind::Conflict,
        }
    }
}

/// A page that cannot be used as it is, with everything below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// Its number: page `n` begins at byte `n` × page size.
    pub page: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}: {}", self.page, self.reason)
    }
}
