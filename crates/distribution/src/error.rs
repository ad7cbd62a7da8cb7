//! What the registry client can fail with.

use std::{path::PathBuf, time::Duration};

use strata_spec::{Cancel, Digest, ErrorKind, ImageId, manifest::ManifestError, reference::ReferenceError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The network, or what speaks at its other end. `url` is without its query.
    #[error("cannot {action} {url}: {reason}")]
    Network { action: &'static str, url: String, reason: String },
    /// An answer that says no, in the registry's own words.
    #[error("{url} answers {status}{}", detail(.message))]
    Status { url: String, status: u16, message: String, wait: Option<Duration> },
    /// Docker's words, which clients match on.
    #[error("manifest for {reference} not found: {message}")]
    NotFound { reference: String, message: String },
    /// Docker's words, which clients match on.
    #[error("pull access denied for {repository}, repository does not exist or may require 'strata login': {message}")]
    PullDenied { repository: String, message: String },
    #[error("push to {repository} denied: {message}; `strata login` may be required")]
    PushDenied { repository: String, message: String },
    #[error(
        "{reference} names image {other} here already, for another platform; \
         give that one a tag and remove this name, then pull {wanted} again"
    )]
    DigestTaken { reference: String, other: Box<ImageId>, wanted: Box<ImageId> },
    #[error("{registry} wants a login: {reason}")]
    Unauthorized { registry: String, reason: String },
    #[error("{object} has more than {limit} bytes, which is more than one may have")]
    TooLarge { object: String, limit: u64 },
    #[error("{object} has the digest {found}, it was asked for as {expected}; nothing of it was kept")]
    Digest { object: String, expected: Box<Digest>, found: Box<Digest> },
    #[error("{object} has {found} bytes, its manifest says {expected}")]
    Length { object: String, expected: u64, found: u64 },
    #[error("{object}: {source}")]
    Manifest { object: String, source: ManifestError },
    /// A document that means nothing that can be used.
    #[error("{object} {reason}")]
    Invalid { object: String, reason: String },
    /// A document that means something else than an image.
    #[error("{object} {reason}")]
    Unsupported { object: String, reason: String },
    #[error(
        "not enough room on {path} for {object}: it needs at least {needed} {what}, {free} are free; nothing was fetched",
        path = path.display()
    )]
    NoRoom { object: String, path: PathBuf, what: &'static str, needed: u64, free: u64 },
    #[error("{path}: {reason}", path = path.display())]
    Config { path: PathBuf, reason: String },
    #[error("the credential helper {program} failed: {reason}")]
    Helper { program: String, reason: String },
    /// Another part of the same operation failed, and says why.
    #[error("stopped: something else failed")]
    Stopped,
    /// The caller ended the operation.
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Image(#[from] strata_image::Error),
    #[error(transparent)]
    Layer(#[from] strata_layer::Error),
    #[error(transparent)]
    Archive(#[from] strata_archive::Error),
    #[error(transparent)]
    Content(#[from] strata_content::Error),
    #[error(transparent)]
    Io(#[from] strata_durable::Error),
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Helper { .. } => ErrorKind::System,
            Self::Network { .. } | Self::Status { status: 429 | 502 | 503 | 504, .. } => ErrorKind::Unavailable,
            Self::Status { status: 404, .. } | Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Status { .. } => ErrorKind::System,
            Self::PullDenied { .. } | Self::PushDenied { .. } => ErrorKind::AccessDenied,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::Reference(_)
            | Self::TooLarge { .. }
            | Self::Digest { .. }
            | Self::Length { .. }
            | Self::Invalid { .. }
            | Self::Config { .. } => ErrorKind::Invalid,
            Self::Manifest { source, .. } => source.kind(),
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::DigestTaken { .. } => ErrorKind::Conflict,
            Self::NoRoom { .. } => ErrorKind::NoSpace,
            Self::Stopped | Self::Cancelled => ErrorKind::Cancelled,
            Self::Image(error) => error.kind(),
            Self::Layer(error) => error.kind(),
            Self::Archive(error) => error.kind(),
            Self::Content(error) => error.kind(),
            Self::Io(error) => error.kind(),
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// How long the other end asked to be left alone.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }

    /// What an operation returns that ended with `self`: after a cancellation every failure is a consequence of it.
    pub(crate) fn or_cancelled(self, cancel: &Cancel) -> Self {
        if cancel.is_cancelled() { Self::Cancelled } else { self }
    }

    pub(crate) fn invalid(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { object: object.into(), reason: reason.into() }
    }
}

/// The beginning of a text from outside, without control characters, for messages.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(240).collect::<String>().trim().to_owned()
}
