//! A stream in pieces that several readers share and nobody copies.

use std::{
    ops::{Deref, Range},
    sync::Arc,
};

use crossbeam_channel::Sender;

/// Bytes of one piece; the last of a stream may have fewer. Fits the second-level cache, so that the second reader finds it there.
pub(crate) const PIECE: usize = 256 * 1024;

/// Bytes of a stream. The buffer goes back to its pool with the last who holds it.
pub(crate) struct Piece {
    buffer: Vec<u8>,
    len: usize,
    pool: Sender<Vec<u8>>,
}

impl Piece {
    /// Shares the first `len` bytes of `buffer`.
    pub fn new(buffer: Vec<u8>, len: usize, pool: Sender<Vec<u8>>) -> Arc<Self> {
        Arc::new(Self { buffer, len, pool })
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // Nobody waiting for it any more is fine.
        let _ = self.pool.try_send(std::mem::take(&mut self.buffer));
    }
}

/// Part of a piece.
pub(crate) struct Slice {
    pub piece: Arc<Piece>,
    pub range: Range<usize>,
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.piece[self.range.clone()]
    }
}
