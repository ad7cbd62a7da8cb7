//! gzip, zstd, xz, bzip2 and plain input, recognised by content.

use std::io::Read;

use crate::{Error, Limits};

/// What a stream is compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Compression {
    /// Recognises a stream by its first bytes (six are enough).
    pub fn detect(head: &[u8]) -> Self {
        let _ = head;
        todo!()
    }
}

/// Returns the plain bytes of `input`, however it is compressed (several members or frames in a row too), and what it was.
///
/// Reading fails, with [`Error`] inside the `io::Error`, when `limits.ratio` is passed.
pub fn decompress<'a, R: Read + Send + 'a>(
    input: R,
    limits: &Limits,
) -> Result<(Box<dyn Read + Send + 'a>, Compression), Error> {
    let _ = (input, limits);
    todo!()
}
