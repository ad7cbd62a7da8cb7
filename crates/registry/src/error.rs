//! Errors of the API: the document that a client receives when a request fails.
//!
//! ```json
//! {"errors":[{"code":"BLOB_UNKNOWN","message":"…","detail":{"digest":"sha256:…"}}]}
//! ```
//!
//! Source: OCI distribution-spec 1.1, "Error Codes"; distribution, `docs/spec/api.md`, for codes that clients know from there.

use std::fmt;

use serde_json::{Value, json};

/// Code of an error. Clients match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The repository lacks the blob.
    BlobUnknown,
    /// The upload failed.
    BlobUploadInvalid,
    /// There is no such upload.
    BlobUploadUnknown,
    /// The digest is malformed or not that of the bytes.
    DigestInvalid,
    /// The manifest names content that the repository lacks.
    ManifestBlobUnknown,
    /// The manifest is malformed.
    ManifestInvalid,
    /// The repository lacks the manifest.
    ManifestUnknown,
    /// The repository's name is malformed.
    NameInvalid,
    /// There is no such repository.
    NameUnknown,
    /// The number of entries of a page is malformed.
    PaginationNumberInvalid,
    /// The range is outside the blob or the upload.
    RangeInvalid,
    /// The content is too long or has another length.
    SizeInvalid,
    /// The tag is malformed.
    TagInvalid,
    /// The client must authenticate.
    Unauthorized,
    /// The client lacks the right, or a quota is full.
    Denied,
    /// The endpoint or method does not exist.
    Unsupported,
    /// The client exceeds a limit.
    TooManyRequests,
    /// The storage does not answer.
    Unavailable,
    /// An internal failure.
    Unknown,
}

impl Code {
    /// The code as the document spells it.
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

    /// The default HTTP status of the code.
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

/// A failed request: the answer for the client, and the cause for the log.
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
    /// Returns an error with one entry and the status of its code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let entries = vec![Entry { code, message: message.into(), detail: Value::Null }];
        Self(Box::new(Inner { status: code.status(), entries, headers: Vec::new(), source: None }))
    }

    /// Sets `detail` of the last entry.
    pub fn with_detail(mut self, detail: Value) -> Self {
        if let Some(entry) = self.0.entries.last_mut() {
            entry.detail = detail;
        }
        self
    }

    /// Sets the HTTP status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.0.status = status;
        self
    }

    /// Adds a header to the response.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    /// Sets the cause, which is logged and not shown to the client.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the entries of another error of the same request.
    pub fn and(mut self, other: Self) -> Self {
        self.0.entries.extend(other.0.entries);
        self
    }

    /// Code of the first entry.
    pub fn code(&self) -> Code {
        self.0.entries[0].code
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// Headers of the response.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.headers.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The cause, for the log.
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
            ErrorKind::NoSpace => (Code::Unavailable, "the registry's disk is full; nothing was stored"),
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
