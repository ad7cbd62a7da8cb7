//! What the image store can fail with.

use std::path::{Path, PathBuf};

use strata_spec::{ChainId, DiffId, ErrorKind, ImageId, config::ConfigError, reference::ReferenceError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Docker's words, which clients match on.
    #[error("No such image: {0}")]
    NotFound(String),
    #[error("No such image: {name} (the IDs of {count} images begin with it: give more digits)")]
    Ambiguous { name: String, count: usize },
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("refusing to create an ambiguous tag using digest algorithm as name")]
    AmbiguousTag,
    #[error("refusing to create a tag with a digest reference")]
    DigestTag,
    #[error(
        "Conflict: Tag {tag} is already set to image {old}, if you want to replace it, please use the force option"
    )]
    TagTaken { tag: String, old: ImageId },
    #[error("Cannot overwrite digest {0}: it names another image; remove that reference first")]
    DigestTaken(String),
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("image {id} needs layer {chain}, which is not in the store; load or pull the image again")]
    MissingLayer { id: Box<ImageId>, chain: Box<ChainId> },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("too many non-empty layers in History section: {history} in the history, {layers} in rootfs")]
    TooMuchHistory { history: usize, layers: usize },
    #[error("cannot load {os} image on linux")]
    OtherOs { os: String },
    /// Something in an archive or layout from outside; `object` is the file in it.
    #[error("cannot load {object}: {reason}")]
    Load { object: String, reason: String },
    #[error("invalid manifest, layers length mismatch: expected {expected}, got {found} ({object})")]
    LayerCount { object: String, expected: usize, found: usize },
    #[error("invalid diffID for layer {index}: expected {expected}, got {found} (from {object}); nothing was loaded")]
    DiffMismatch { index: usize, object: String, expected: Box<DiffId>, found: Box<DiffId> },
    #[error("cannot save {object}: {reason}")]
    Save { object: String, reason: String },
    #[error(transparent)]
    Layer(#[from] strata_layer::Error),
    #[error(transparent)]
    Archive(#[from] strata_archive::Error),
    #[error(transparent)]
    Io(#[from] strata_durable::Error),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) | Self::Ambiguous { .. } => ErrorKind::NotFound,
            Self::Reference(_)
            | Self::AmbiguousTag
            | Self::DigestTag
            | Self::Config(_)
            | Self::TooMuchHistory { .. }
            | Self::Load { .. }
            | Self::LayerCount { .. }
            | Self::DiffMismatch { .. } => ErrorKind::Invalid,
            Self::OtherOs { .. } => ErrorKind::Unsupported,
            Self::TagTaken { .. } | Self::DigestTaken(_) => ErrorKind::Conflict,
            Self::Damaged { .. } | Self::MissingLayer { .. } | Self::Save { .. } => ErrorKind::Damaged,
            Self::Layer(error) => error.kind(),
            Self::Archive(error) => error.kind(),
            Self::Io(error) => error.kind(),
        }
    }

    pub(crate) fn missing_layer(id: ImageId, chain: ChainId) -> Self {
        Self::MissingLayer { id: Box::new(id), chain: Box::new(chain) }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn load(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Load { object: object.into(), reason: reason.into() }
    }
}
