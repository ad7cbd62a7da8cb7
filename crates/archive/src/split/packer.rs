//! Taking a tar apart.

use std::io::Write;

use crate::{Error, tar::Entry};

/// Writes `tar-split.json.gz` while a tar is read.
///
/// Feed it all that [`tar::Reader`](crate::tar::Reader) yields, in its order: for each entry [`entry`](Self::entry) with the entry and its raw
/// bytes, then [`content`](Self::content) for each piece; at the end [`end`](Self::end) with the end marker, [`trailing`](Self::trailing) for
/// each piece of what follows, and [`finish`](Self::finish).
pub struct Packer<W: Write> {
    out: W,
}

impl<W: Write> Packer<W> {
    /// Writes gzip to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Begins an entry with the raw bytes before its content.
    ///
    /// A name that an earlier entry with content had is [`Error::Refused`]: the folder can hold only one of the two.
    pub fn entry(&mut self, entry: &Entry, raw: &[u8]) -> Result<(), Error> {
        let _ = (entry, raw);
        todo!()
    }

    /// Takes a piece of the entry's stored content.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let _ = bytes;
        todo!()
    }

    /// Takes the end marker: the reader's raw bytes after its last entry.
    pub fn end(&mut self, raw: &[u8]) -> Result<(), Error> {
        let _ = raw;
        todo!()
    }

    /// Takes a piece of what follows the end marker.
    pub fn trailing(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let _ = bytes;
        todo!()
    }

    /// Ends the gzip stream, and returns the output.
    pub fn finish(self) -> Result<W, Error> {
        Ok(self.out)
    }
}
