//! What a driver can fail with.

use std::path::PathBuf;

use strata_spec::{CacheId, ErrorKind};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("storage driver {0:?} is not one of those this build has: {known}", known = crate::DRIVERS.join(", "))]
    UnknownDriver(String),
    #[error("layer folder {0} is not in the {1} driver")]
    NotFound(CacheId, &'static str),
    #[error("layer folder {0} exists already in the {1} driver")]
    AlreadyExists(CacheId, &'static str),
    #[error("layer folder {id} would stand on {depth} others; {driver} on this kernel mounts at most {limit}")]
    TooDeep { id: CacheId, driver: &'static str, depth: usize, limit: usize },
    #[error("{driver} cannot {what}: {why}")]
    Unsupported { driver: &'static str, what: &'static str, why: String },
    /// The root has layers of this driver, and their directories cannot be reached here.
    #[error("the storage driver {driver} cannot be opened here: {why}")]
    Closed { driver: &'static str, why: String, kind: ErrorKind },
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(transparent)]
    Io(#[from] strata_durable::Error),
    #[error(transparent)]
    Archive(#[from] strata_archive::Error),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownDriver(_) | Self::TooDeep { .. } => ErrorKind::Invalid,
            Self::NotFound(..) => ErrorKind::NotFound,
            Self::AlreadyExists(..) => ErrorKind::AlreadyExists,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Closed { kind, .. } => *kind,
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Io(error) => error.kind(),
            Self::Archive(error) => error.kind(),
        }
    }
}
