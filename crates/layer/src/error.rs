//! What the layer store can fail with.

use std::path::PathBuf;

use strata_spec::{ChainId, ContainerId, DiffId, ErrorKind};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("layer {0} is not in the store")]
    NotFound(ChainId),
    #[error("container {0} has no read-write layer in the store")]
    MountNotFound(ContainerId),
    #[error("container {0} has a read-write layer already")]
    MountExists(ContainerId),
    #[error("layer unpacks to {found}, its image says {expected}; get the image again")]
    DiffMismatch { expected: Box<DiffId>, found: Box<DiffId> },
    /// The most there can be, and how many there are.
    #[error("an image has at most {0} layers with this driver and kernel; this one has {1}")]
    TooDeep(usize, usize),
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(transparent)]
    Io(#[from] strata_durable::Error),
    #[error(transparent)]
    Archive(#[from] strata_archive::Error),
    #[error(transparent)]
    Driver(#[from] strata_graphdriver::Error),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) | Self::MountNotFound(_) => ErrorKind::NotFound,
            Self::MountExists(_) => ErrorKind::AlreadyExists,
            Self::DiffMismatch { .. } | Self::TooDeep(..) => ErrorKind::Invalid,
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Io(error) => error.kind(),
            Self::Archive(error) => error.kind(),
            Self::Driver(error) => error.kind(),
        }
    }
}
