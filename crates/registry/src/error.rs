//! What a client is told when a request fails: the error document of the specification.
//!
//! ```json
//! {"errors":[{"code":"BLOB_UNKNOWN","message":"…","detail":{"digest":"sha256:…"}}]}
//! ```
//!
//! Source: OCI distribution-spec 1.1, "Error Codes"; distribution, `docs/spec/api.md`, for codes that clients know from there.

use std::fmt;

use serde_json::{Value, json};

/// The code of one error; clients match on these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    RangeInvalid,
    SizeInvalid,
    TagInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unavailable,
    Unknown,
}

impl Code {
    /// The word in the document.
    pub fn word(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The HTTP status that goes with the code where nothing better is known.
    pub fn status(self) -> u16 {
        match self {
            Self::BlobUnknown | Self::BlobUploadUnknown | Self::ManifestUnknown | Self::NameUnknown => 404,
            Self::ManifestBlobUnknown => 404,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::PaginationNumberInvalid
            | Self::SizeInvalid
            | Self::TagInvalid => 400,
            Self::RangeInvalid => 416,
            Self::Unauthorized => 401,
            Self::Denied => 403,
            Self::Unsupported => 405,
            Self::TooManyRequests => 429,
            Self::Unavailable => 503,
            Self::Unknown => 500,
        }
    }
}

/// A request that failed: what to answer, and for the log what went wrong below.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: u16,
    entries: Vec<Entry>,
    headers: Vec<(&'static str, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Debug)]
struct Entry {
    code: Code,
    message: String,
    detail: Value,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let entries = vec![Entry { code, message: message.into(), detail: Value::Null }];
        Self(Box::new(Inner { status: code.status(), entries, headers: Vec::new(), source: None }))
    }

    /// Says more to programs, in the last entry.
    pub fn with_detail(mut self, detail: Value) -> Self {
        if let Some(entry) = self.0.entries.last_mut() {
            entry.detail = detail;
        }
        self
    }

    pub fn with_status(mut self, status: u16) -> Self {
        self.0.status = status;
        self
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    /// What is logged, and not shown to the client.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the entries of another error of the same request.
    pub fn and(mut self, other: Self) -> Self {
        self.0.entries.extend(other.0.entries);
        self
    }

    /// The code of the first entry.
    pub fn code(&self) -> Code {
        self.0.entries[0].code
    }

    pub fn status(&self) -> u16 {
        self.0.status
    }

    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.headers.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// What the log should know and the client need not.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        self.0.source.as_deref()
    }

    /// The document, as JSON.
    pub fn document(&self) -> Vec<u8> {
        let one = |entry: &Entry| match &entry.detail {
            Value::Null => json!({"code": entry.code.word(), "message": entry.message}),
            detail => json!({"code": entry.code.word(), "message": entry.message, "detail": detail}),
        };
        let errors: Vec<Value> = self.0.entries.iter().map(one).collect();
        let mut bytes = json!({ "errors": errors }).to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry) in self.0.entries.iter().enumerate() {
            let comma = if at == 0 { "" } else { "; " };
            write!(f, "{comma}{}: {}", entry.code.word(), entry.message)?;
        }
        match &self.0.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<crate::storage::Error> for Error {
    fn from(error: crate::storage::Error) -> Self {
        use strata_spec::ErrorKind;
        let (code, message) = match error.kind() {
            ErrorKind::NoSpace => (Code::Unavailable, "the registry has no room left; nothing was stored"),
            ErrorKind::ReadOnly => (Code::Unavailable, "the registry's storage is read-only; nothing was stored"),
            _ if error.may_pass() => (
                Code::Unavailable,
                "the registry's storage does not answer as it should; its log says more; try again later",
            ),
            _ => (Code::Unknown, "the registry's storage failed; its log says more"),
        };
        Self::new(code, message).because(error)
    }
}
