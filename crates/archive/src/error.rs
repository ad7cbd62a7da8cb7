//! What can be wrong with a stream or with writing it out.

use strata_spec::ErrorKind;

/// A failure, naming the entry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream is not a well-formed tar.
    #[error("the archive is damaged at byte {offset}: {reason}")]
    Malformed { offset: u64, reason: String },
    /// The stream ends in the middle of something.
    #[error("the archive is cut off at byte {offset}, within {what}")]
    Truncated { offset: u64, what: String },
    /// An entry that must not be unpacked.
    #[error("refused entry {entry:?}: {reason}")]
    Refused { entry: String, reason: String },
    /// A limit was passed.
    #[error("{what} is over the limit of {limit}{}", entry.as_ref().map(|e| format!(" at entry {e:?}")).unwrap_or_default())]
    Limit { what: &'static str, limit: u64, entry: Option<String> },
    /// The system refused to make what an entry asks for.
    #[error("cannot {action} {entry:?}: {source}")]
    Entry { action: &'static str, entry: String, source: std::io::Error },
    /// The compressed stream is damaged.
    #[error("the {format} stream is damaged: {source}")]
    Compression { format: &'static str, source: std::io::Error },
    /// The archive has a format that is recognised and not read.
    #[error(
        "the archive has the format {format}, which is not supported; give a plain tar, or one compressed with gzip, zstd, xz or bzip2"
    )]
    Unsupported { format: &'static str },
    /// A layer's files no longer give its tar.
    #[error("{path:?} does not match its layer's record: {reason}")]
    Mismatch { path: String, reason: String },
    #[error(transparent)]
    Io(#[from] strata_durable::Error),
    /// Reading the input or writing the output failed.
    #[error("cannot {action}: {source}")]
    Stream { action: &'static str, source: std::io::Error },
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed { .. }
            | Self::Truncated { .. }
            | Self::Refused { .. }
            | Self::Limit { .. }
            | Self::Unsupported { .. }
            | Self::Compression { .. } => ErrorKind::Invalid,
            Self::Mismatch { .. } => ErrorKind::Damaged,
            Self::Entry { source, .. } | Self::Stream { source, .. } => ErrorKind::of_io(source),
            Self::Io(error) => error.kind(),
        }
    }
}
