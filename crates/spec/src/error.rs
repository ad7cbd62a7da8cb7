//! The kinds of failure. Every crate's error has a `kind()`; `cli` maps kinds to exit codes, `daemon` to statuses.

/// What sort of failure an error is, whatever its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named object is not there.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The object is in use, or in a state that does not allow the operation.
    Conflict,
    /// What came from outside is malformed, lies, or asks for what is not allowed.
    Invalid,
    /// What lies on disk is not what was written.
    Damaged,
    /// This kernel, filesystem, driver or version cannot do it.
    Unsupported,
    /// The kernel says the caller has no right.
    PermissionDenied,
    /// A registry wants to know who asks.
    Unauthorized,
    /// A registry knows who asks, and refuses; or says nothing of what may not be there.
    AccessDenied,
    /// The object is in the wanted state already.
    NotModified,
    /// The other side cannot be reached, or is too busy to answer.
    Unavailable,
    /// No space or no inodes left.
    NoSpace,
    /// The filesystem is read-only, or a daemon is alive on the root.
    ReadOnly,
    /// The user or a signal ended it.
    Cancelled,
    /// Any other failure of the system below.
    System,
}

impl ErrorKind {
    /// Returns the kind of an I/O error by its errno.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        match error.kind() {
            K::NotFound => Self::NotFound,
            K::AlreadyExists => Self::AlreadyExists,
            K::PermissionDenied => Self::PermissionDenied,
            K::ReadOnlyFilesystem => Self::ReadOnly,
            K::StorageFull | K::QuotaExceeded => Self::NoSpace,
            K::ResourceBusy => Self::Conflict,
            K::Unsupported => Self::Unsupported,
            K::Interrupted => Self::Cancelled,
            _ => Self::System,
        }
    }
}

/// Gives `kind()` to the errors that all mean: what came from outside is malformed.
macro_rules! invalid {
    ($($error:path),* $(,)?) => {
        $(impl $error {
            pub fn kind(&self) -> ErrorKind {
                ErrorKind::Invalid
            }
        })*
    };
}

invalid! {
    crate::config::ConfigError,
    crate::digest::DigestError,
    crate::id::IdError,
    crate::platform::PlatformError,
    crate::reference::ReferenceError,
    crate::time::TimeError,
}

impl crate::manifest::ManifestError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::SchemaOne => ErrorKind::Unsupported,
            Self::Json { .. } | Self::Invalid { .. } => ErrorKind::Invalid,
        }
    }
}
