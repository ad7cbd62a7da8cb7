//! How much a stream from outside may claim; settable, and generous by default.

/// Bounds on one layer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Entries in one layer.
    pub entries: u64,
    /// Bytes of one layer's files, holes included.
    pub bytes: u64,
    /// Bytes out for each byte in, of a compressed stream, counted from its first MiB out on.
    pub ratio: u64,
    /// Bytes of one PAX header, GNU long name or sparse map.
    pub metadata: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 10_000_000, bytes: 1 << 40, ratio: 2_000, metadata: 1 << 20 }
    }
}
