//! Writing a stream with headers as Go's `archive/tar` writes them when asked for PAX.

use std::io::Write;

use super::Header;
use crate::Error;

/// Writes a tar.
///
/// Headers are ustar where that holds everything, else ustar after a PAX header: the bytes that Go's writer gives for `FormatPAX`.
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Begins an entry; `header.size` bytes of content must follow, none where [`Kind::is_header_only`](super::Kind::is_header_only).
    ///
    /// `header.mode` is written as it is; the name too: a directory needs its slash.
    pub fn header(&mut self, header: &Header) -> Result<(), Error> {
        let _ = header;
        todo!()
    }

    /// Writes a piece of the entry's content; more than its size is an error.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let _ = bytes;
        todo!()
    }

    /// Writes the two zero blocks of the end, and returns the output, flushed.
    pub fn finish(self) -> Result<W, Error> {
        Ok(self.out)
    }
}
