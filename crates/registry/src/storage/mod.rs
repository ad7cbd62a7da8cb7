//! Where the bytes lie: a trait with two implementations, a folder and an object store.
//!
//! Keys are paths below the storage's root, as [`crate::layout`] writes them; they come from parsed names, so that no key
//! leaves the root. Functions block; the server calls them on threads, except the short ones of a [`Reach::Local`] storage.
//!
//! A blob also has a moment at which somebody last *relied* on it. Garbage collection takes only blobs that nobody has relied on since
//! its own beginning, and a publication relies on all that it names before it is visible: see [`crate::gc`].

pub mod filesystem;
pub mod object;
pub mod services;
pub mod swift;

use std::{fs::File, sync::Arc, time::SystemTime};

use bytes::Bytes;
use strata_spec::ErrorKind;

/// A storage failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Files(#[from] strata_durable::Error),
    #[error("cannot {action} the object {key}: {source}")]
    Object { action: &'static str, key: String, source: Box<opendal::Error> },
    #[error("{key} has {size} bytes, which is more than the {limit} that such a file may have")]
    TooLong { key: String, size: u64, limit: u64 },
    #[error("the upload {key} has {found} bytes, not {expected}; another process writes to it")]
    Moved { key: String, expected: u64, found: u64 },
    #[error("{key} is damaged: {problem}")]
    Damaged { key: String, problem: String },
}

impl Error {
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

    /// Whether the same call may well succeed later: an object store that was busy, failed or was not there for longer than it was waited for.
    pub fn may_pass(&self) -> bool {
        use opendal::ErrorKind as Kind;
        matches!(self, Self::Object { source, .. } if matches!(source.kind(), Kind::RateLimited | Kind::Unexpected))
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Whether a short call may be made where other requests wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A file on this machine: microseconds when cached.
    Local,
    /// Over a network.
    Remote,
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// When somebody last wrote it or relied on it.
    pub relied: SystemTime,
}

/// The bytes of a blob, opened: they stay readable when the blob is removed.
#[derive(Clone)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    pub source: Source,
}

/// How a blob's bytes are had.
#[derive(Clone)]
pub enum Source {
    File(Arc<File>),
    Remote(Arc<dyn ReadAt>),
}

/// Reads by position.
pub trait ReadAt: Send + Sync {
    /// Reads `len` bytes from `offset`; all of them are there.
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes>;
}

/// Adds bytes to an upload.
pub trait Append: Send {
    /// Adds `pieces` at the end.
    fn write(&mut self, pieces: &[Bytes]) -> Result<()>;

    /// Makes what was written readable and returns the upload's length. It is not on disk before [`Storage::finish_upload`].
    fn close(&mut self) -> Result<u64>;
}

/// A held gate; dropped, it is open again. See [`Storage::publishing`].
pub type Gate<'a> = Box<dyn Held + 'a>;

/// Anything whose dropping lets go.
pub trait Held {}
impl<T> Held for T {}

/// A place for blobs, links and uploads.
///
/// After a crash or a power cut, a key has its old bytes or all of the new ones; what a function has reported done stays.
pub trait Storage: Send + Sync + 'static {
    fn reach(&self) -> Reach;

    /// The whole of a small file; `None` if there is none. Fails if it is longer than `limit` bytes.
    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>>;

    /// Writes several small files, each atomically, so that after a crash none is there without those before it.
    fn write(&self, files: &[(String, Vec<u8>)]) -> Result<()>;

    fn stat(&self, key: &str) -> Result<Option<Stat>>;

    /// Names in a folder, in the order of their bytes; empty if there is none.
    fn list(&self, folder: &str) -> Result<Vec<String>>;

    /// Removes a file, and folders above it that become empty, up to `below`; `false` if there was none.
    fn remove(&self, key: &str, below: &str) -> Result<bool>;

    /// Removes a folder with all in it: first its name, then the rest. `false` if there was none.
    fn remove_folder(&self, folder: &str) -> Result<bool>;

    fn open(&self, key: &str) -> Result<Option<Content>>;

    /// A URL from which a client may fetch the file itself for some minutes; `None` if the storage has no such thing.
    fn redirect(&self, key: &str, head: Head) -> Result<Option<String>>;

    /// Says that somebody relies on a file from now on; `false` if it is not there. Counts for sure only behind [`Self::publishing`].
    fn rely(&self, key: &str) -> Result<bool>;

    /// The moment by the clock that [`Self::rely`] uses.
    fn now(&self) -> Result<SystemTime>;

    /// Enters the gate for changes that make content reachable. Many may be inside at once, none while the collector is.
    fn publishing(&self) -> Result<Gate<'_>>;

    /// Enters the gate alone, to remove what nobody has relied on.
    fn collecting(&self) -> Result<Gate<'_>>;

    /// Begins an upload in `folder`.
    fn begin_upload(&self, folder: &str) -> Result<()>;

    /// Bytes of an upload so far; `None` if there is none.
    fn uploaded(&self, folder: &str) -> Result<Option<u64>>;

    /// Goes on with an upload that has `at` bytes. Fails with [`Error::Moved`] if it has not.
    fn append(&self, folder: &str, at: u64) -> Result<Box<dyn Append>>;

    /// Reads an upload from its beginning, piece by piece.
    fn read_upload(&self, folder: &str, each: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// Makes the whole upload the file `key`, durably, and removes the upload. The rename is the commit point.
    fn finish_upload(&self, folder: &str, key: &str) -> Result<()>;

    /// When an upload began; `None` if that cannot be told.
    fn upload_started(&self, folder: &str) -> Result<Option<SystemTime>>;

    /// Names in folders that a crash left half-made are removed.
    fn sweep(&self) -> Result<usize>;
}

/// Whether a redirect is for the bytes or for the headers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    Only,
    WithBody,
}
