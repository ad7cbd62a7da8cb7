//! I/O errors that name the action and the path.

use std::{
    io,
    path::{Path, PathBuf},
};

use strata_spec::ErrorKind;

/// A failure of the system, with what was tried on which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct Error {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::of_io(&self.source)
    }

    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Adds action and path to an I/O result: `fs::read(&path).context("read", &path)?`.
pub trait Context<T> {
    fn context(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, Error> {
        self.map_err(|source| Error { action, path: path.as_ref().to_owned(), source: source.into() })
    }
}
