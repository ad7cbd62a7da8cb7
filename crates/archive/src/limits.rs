//! How much a stream from outside may claim; settable, and generous by default.

/// Bounds on one layer.
///
/// Passing one is [`Error::Limit`](crate::Error::Limit), before what passes it is written anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries in one layer.
    pub entries: u64,
    /// Bytes of one layer's files, holes included: a sparse file counts with the size it claims.
    pub bytes: u64,
    /// Bytes out for each byte in, of a compressed stream, counted from its first MiB out on.
    ///
    /// gzip cannot pass 1032, so the default bounds the others, which can turn a kilobyte into gigabytes.
    pub ratio: u64,
    /// Bytes of one entry's PAX header, GNU long names and sparse map together.
    pub metadata: u64,
}

impl Default for Limits {
    /// Ten million entries, 512 GiB, a ratio of 2,000, and 1 MiB as in Go's reader.
    fn default() -> Self {
        Self { entries: 10_000_000, bytes: 512 << 30, ratio: 2_000, metadata: 1 << 20 }
    }
}
