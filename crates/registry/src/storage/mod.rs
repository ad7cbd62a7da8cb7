//! Storage of a registry: a trait with two implementations, a directory and an object store.
//!
//! Keys are paths below the storage's root, as [`crate::layout`] writes them; they come from parsed names, so that no key
//! leaves the root. Functions block; the server calls them on threads, except the short ones of a [`Reach::Local`] storage.
//!
//! A blob has a time of last *reliance*. Garbage collection removes only blobs on which nothing has relied since the collection started,
//! and a publication relies on everything it names before it becomes visible: see [`crate::gc`].

pub mod filesystem;
pub mod object;
pub mod services;
pub mod swift;

use std::{fs::File, sync::Arc, time::SystemTime};

use bytes::Bytes;
use strata_spec::ErrorKind;

/// A failure of the storage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    /// A file operation failed.
    Files(#[from] strata_durable::Error),
    #[error("cannot {action} the object {key}: {source}")]
    /// A request to the object store failed.
    Object {
        /// What was attempted.
        action: &'static str,
        /// The object's key.
        key: String,
        /// The service's error.
        source: Box<opendal::Error>,
    },
    #[error("{key} has {size} bytes, which is more than the {limit} that such a file may have")]
    /// A file is longer than its kind allows.
    TooLong {
        /// The file's key.
        key: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    #[error("the upload {key} has {found} bytes, not {expected}; another process writes to it")]
    /// An upload has another length than expected.
    Moved {
        /// The upload's directory.
        key: String,
        /// The expected length in bytes.
        expected: u64,
        /// The length in bytes.
        found: u64,
    },
    #[error("{key} is damaged: {problem}")]
    /// A file is damaged.
    Damaged {
        /// The file's key.
        key: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Files(error) => ErrorKind::of_io(&error.source),
            Self::Object { source, .. } => match source.kind() {
                opendal::ErrorKind::NotFound => ErrorKind::NotFound,
                opendal::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::System,
            },
            Self::Moved { .. } => ErrorKind::Conflict,
            Self::TooLong { .. } | Self::Damaged { .. } => ErrorKind::Damaged,
        }
    }

    /// Whether the same call may succeed later: the object store was busy, failed or was unreachable.
    pub fn may_pass(&self) -> bool {
        use opendal::ErrorKind as Kind;
        matches!(self, Self::Object { source, .. } if matches!(source.kind(), Kind::RateLimited | Kind::Unexpected))
    }
}

/// The result of a storage operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Latency of a short call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A file on this machine, microseconds when cached: the call may be made on a thread that serves other requests.
    Local,
    /// A request over the network.
    Remote,
}

/// Metadata of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Size in bytes.
    pub size: u64,
    /// Time of the last write or reliance.
    pub relied: SystemTime,
}

/// An open blob. Its bytes stay readable after the blob is removed.
#[derive(Clone)]
pub struct Content {
    /// Size in bytes.
    pub size: u64,
    /// How to read it.
    pub source: Source,
}

/// How to read a blob.
#[derive(Clone)]
pub enum Source {
    /// A file of this machine.
    File(Arc<File>),
    /// An object.
    Remote(Arc<dyn ReadAt>),
}

/// Reads by position.
pub trait ReadAt: Send + Sync {
    /// Reads `len` bytes from `offset`; the blob has that many.
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes>;
}

/// Appends bytes to an upload.
pub trait Append: Send {
    /// Appends `pieces`.
    fn write(&mut self, pieces: &[Bytes]) -> Result<()>;

    /// Makes the written bytes readable and returns the upload's length. Only [`Storage::finish_upload`] makes them durable.
    fn close(&mut self) -> Result<u64>;
}

/// The held gate, released on drop. See [`Storage::publishing`].
pub type Gate<'a> = Box<dyn Held + 'a>;

/// Any guard.
pub trait Held {}
impl<T> Held for T {}

/// Storage of blobs, links and uploads.
///
/// After a crash or a power cut, a key has its old bytes or all of the new ones. What a function has reported done is durable.
pub trait Storage: Send + Sync + 'static {
    /// Whether calls are local or remote.
    fn reach(&self) -> Reach;

    /// Reads a small file; `None` if it is missing. Fails if it is longer than `limit` bytes.
    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>>;

    /// Writes small files, each atomically and in order: after a crash, a file exists only with those before it.
    fn write(&self, files: &[(String, Vec<u8>)]) -> Result<()>;

    /// Returns the metadata of a file; `None` if it is missing.
    fn stat(&self, key: &str) -> Result<Option<Stat>>;

    /// Returns the names in a directory in the order of their bytes; empty if it is missing.
    fn list(&self, directory: &str) -> Result<Vec<String>>;

    /// Removes a file and the directories above it that become empty, up to `below`; `false` if it was missing.
    fn remove(&self, key: &str, below: &str) -> Result<bool>;

    /// Removes a directory with its contents, its name first; `false` if it was missing.
    fn remove_directory(&self, directory: &str) -> Result<bool>;

    /// Opens a file; `None` if it is missing.
    fn open(&self, key: &str) -> Result<Option<Content>>;

    /// Returns a URL from which a client may fetch the file for some minutes; `None` if the storage has no such URLs.
    fn redirect(&self, key: &str, head: Head) -> Result<Option<String>>;

    /// Relies on a file from now on; `false` if it is missing. The collector is sure to respect it only inside [`Self::publishing`].
    fn rely(&self, key: &str) -> Result<bool>;

    /// The current time by the clock that [`Self::rely`] uses.
    fn now(&self) -> Result<SystemTime>;

    /// Enters the gate to make content reachable. Many may be inside at once, none while the collector is.
    fn publishing(&self) -> Result<Gate<'_>>;

    /// Enters the gate alone, to remove content.
    fn collecting(&self) -> Result<Gate<'_>>;

    /// Begins an upload in the directory `directory`.
    fn begin_upload(&self, directory: &str) -> Result<()>;

    /// Length of an upload in bytes; `None` if there is none.
    fn uploaded(&self, directory: &str) -> Result<Option<u64>>;

    /// Resumes an upload that has `at` bytes. Fails with [`Error::Moved`] if it has another length.
    fn append(&self, directory: &str, at: u64) -> Result<Box<dyn Append>>;

    /// Reads an upload from its beginning, piece by piece.
    fn read_upload(&self, directory: &str, each: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// Makes the upload the file `key`, durably, and removes the upload. The rename is the commit point.
    fn finish_upload(&self, directory: &str, key: &str) -> Result<()>;

    /// Time of the last activity of an upload; `None` if it is unknown.
    fn upload_started(&self, directory: &str) -> Result<Option<SystemTime>>;

    /// Finishes interrupted removals; returns their number.
    fn sweep(&self) -> Result<usize>;
}

/// Whether a redirect is for a `GET` or a `HEAD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A `HEAD`.
    Only,
    /// A `GET`.
    WithBody,
}
