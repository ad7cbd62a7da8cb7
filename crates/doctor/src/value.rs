//! A value with the file it was read from, and small files read with mistrust.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    str::FromStr,
};

use serde::Serialize;

use crate::Stores;

/// Bytes of the largest small file: `lower` of 500 layers has 14,500.
const SMALL: u64 = 64 << 10;

/// A value, the file it was read from, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sourced<T> {
    /// Absent if it could not be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<T>,
    /// Relative to the data root; absent for what was computed from other values alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// `the file's text`, or the computation.
    pub how: String,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Something found damaged while explaining.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Relative to the data root.
    pub path: String,
    pub reason: String,
}

impl<T> Sourced<T> {
    /// A value computed from others.
    pub(crate) fn computed(value: T, how: impl Into<String>) -> Self {
        Self { value: Some(value), file: None, how: how.into(), problem: None }
    }

    /// No value, because of another's absence.
    pub(crate) fn unknown(how: impl Into<String>) -> Self {
        Self { value: None, file: None, how: how.into(), problem: None }
    }

    /// A value read from `file`, which holds more than the value.
    pub(crate) fn read(value: T, stores: &Stores<'_>, file: &Path, how: impl Into<String>) -> Self {
        Self { value: Some(value), file: Some(stores.show(file)), how: how.into(), problem: None }
    }

    pub(crate) fn problem(&self) -> Option<Problem> {
        let reason = self.problem.clone()?;
        Some(Problem { path: self.file.clone().unwrap_or_default(), reason })
    }
}

impl<T: FromStr> Sourced<T> {
    /// Reads a file that holds one value and no more.
    pub(crate) fn of_file(stores: &Stores<'_>, path: &Path) -> Self {
        let (value, problem) = match read_small(path) {
            Ok(text) => match text.trim_end_matches('\n').parse() {
                Ok(value) => (Some(value), None),
                Err(_) => (None, Some(format!("does not hold what its name says, but {}", quote(&text)))),
            },
            Err(reason) => (None, Some(reason)),
        };
        Self { value, file: Some(stores.show(path)), how: "the file's text".into(), problem }
    }

    /// As [`Sourced::of_file`], of a file that need not be there.
    pub(crate) fn of_file_if_there(stores: &Stores<'_>, path: &Path, otherwise: &str) -> Self {
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self { value: None, file: Some(stores.show(path)), how: otherwise.to_owned(), problem: None }
            }
            _ => Self::of_file(stores, path),
        }
    }
}

/// Reads a small text file, or says in a few words why not.
pub(crate) fn read_small(path: &Path) -> Result<String, String> {
    let mut text = Vec::new();
    // A FIFO in its place must not keep us waiting.
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let read = opened.and_then(|file| match file.metadata()?.is_file() {
        true => file.take(SMALL + 1).read_to_end(&mut text),
        false => Err(io::Error::other("is not a regular file")),
    });
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("the file is missing".into()),
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(0) => Err("the file is empty, as after a power cut".into()),
        Ok(len) if len as u64 > SMALL => Err(format!("has more than {SMALL} bytes")),
        Ok(_) => String::from_utf8(text).map_err(|_| "is not text".into()),
    }
}

/// The beginning of a text, in quotes.
pub(crate) fn quote(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    if start.len() < text.len() { format!("{start:?}…") } else { format!("{start:?}") }
}
