//! What a content store can fail with.

use std::path::PathBuf;

use strata_spec::{Digest, ErrorKind};

/// A failure of the content store.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    /// The bytes that arrived, or that lie on disk, are not those of the digest.
    #[error("blob {expected} has the digest {found}; nothing of it was kept")]
    Digest { expected: Box<Digest>, found: Box<Digest> },
    /// A blob that is to be read into memory is larger than the caller allows.
    #[error("blob {digest} has {found} bytes; at most {limit} are read into memory")]
    TooLarge { digest: Box<Digest>, found: u64, limit: u64 },
    /// A blob, or its pin, lies on disk and is not what was written.
    #[error("{path} is damaged: {reason}; remove it, and it is fetched again", path = path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(transparent)]
    Io(#[from] strata_durable::Error),
}

impl Error {
    /// The sort of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Digest { .. } | Self::TooLarge { .. } => ErrorKind::Invalid,
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Io(error) => error.kind(),
        }
    }
}
