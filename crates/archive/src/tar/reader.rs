//! Reading a stream, every byte once.

use std::io::Read;

use super::Entry;
use crate::{Error, Limits};

/// Reads a tar.
///
/// The life of a stream: [`next_entry`](Self::next_entry), then [`raw`](Self::raw) for the bytes before the content, then
/// [`content`](Self::content) (or [`read_content`](Self::read_content)) until empty, and so on; at `None`, `raw` has the end
/// marker, and [`trailing`](Self::trailing) until empty has what follows. Whoever takes all of these has had every byte of the
/// stream once and in order. Content that is not taken is skipped.
pub struct Reader<R> {
    input: R,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, in large pieces: it needs no buffer of its own.
    pub fn new(input: R, limits: &Limits) -> Self {
        let _ = limits;
        Self { input }
    }

    /// Moves to the next entry; `None` at the end marker, or where the stream ends without one.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let _ = &self.input;
        todo!()
    }

    /// The raw bytes between the previous entry's content and this one's: its padding, then all header blocks with their payloads
    /// (after the last entry: the end marker).
    pub fn raw(&self) -> &[u8] {
        todo!()
    }

    /// The next piece of the entry's stored content, as long as is at hand (up to 512 KiB); empty at its end.
    pub fn content(&mut self) -> Result<&[u8], Error> {
        todo!()
    }

    /// Fills `into` with stored content, and returns how much: less than asked for only at the entry's end.
    ///
    /// Large pieces are read straight into it.
    pub fn read_content(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let _ = into;
        todo!()
    }

    /// After `next_entry` returned `None`: the next piece of what follows the end marker; empty at the stream's end.
    pub fn trailing(&mut self) -> Result<&[u8], Error> {
        todo!()
    }

    /// Bytes of the stream consumed so far.
    pub fn offset(&self) -> u64 {
        todo!()
    }
}
