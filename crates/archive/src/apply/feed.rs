//! The tar in pooled pieces, each seen by two readers: the hash and the tar reader, who lends them on to those that write files.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use strata_spec::{Digest, digest::Hasher};

use crate::{
    Error,
    piece::{PIECE, Piece},
    tar::Buffer,
};

/// Pieces there are at most. More than [one batch holds](super::batch), so that whoever waits for one gets it.
const PIECES: usize = 12;

/// Where the tar comes in: written to, or [fed from a reader](Inlet::take). Runs on the caller's thread.
pub struct Inlet {
    /// The piece being filled, and how far.
    buffer: Vec<u8>,
    len: usize,
    pool: Receiver<Vec<u8>>,
    give: Sender<Vec<u8>>,
    made: usize,
    to_hash: Sender<Arc<Piece>>,
    to_tar: Sender<io::Result<Arc<Piece>>>,
    /// Disconnected once the tar reader is gone.
    tar_gone: Receiver<()>,
    total: u64,
    /// Nobody listens any more: the tar was refused.
    unheard: bool,
}

/// Hashes the tar.
pub(super) struct Hash {
    from: Receiver<Arc<Piece>>,
    to: Sender<Digest>,
}

/// Lends the tar to its reader.
pub(super) struct Feed<'s> {
    from: Receiver<io::Result<Arc<Piece>>>,
    /// Until it runs.
    hash: Option<Hash>,
    /// Runs it on a thread of its own.
    aside: Box<dyn Fn(Hash) + Send + 's>,
    pieces: usize,
    /// Nothing is ever sent: it only goes when this goes.
    _here: Sender<()>,
}

/// Makes the ends: where the tar goes in, where it is read, and where its digest comes out once all of it was read.
///
/// A tar of one piece is hashed by who reads it; for a longer one `aside` is called.
pub(super) fn feed<'s>(aside: impl Fn(Hash) + Send + 's) -> (Inlet, Feed<'s>, Receiver<Digest>) {
    let (give, pool) = bounded(PIECES);
    let (to_hash, hash_in) = bounded(PIECES);
    let (to_tar, tar_in) = bounded(PIECES);
    let (here, tar_gone) = bounded(0);
    let (to, digest) = bounded(1);
    let inlet =
        Inlet { buffer: Vec::new(), len: 0, pool, give, made: 0, to_hash, to_tar, tar_gone, total: 0, unheard: false };
    let hash = Some(Hash { from: hash_in, to });
    (inlet, Feed { from: tar_in, hash, aside: Box::new(aside), pieces: 0, _here: here }, digest)
}

impl Inlet {
    /// Sends all of `input`. Ends early, without an error of its own, once the tar has been refused.
    pub fn take(&mut self, mut input: impl Read) -> Result<(), Error> {
        while self.begin() {
            match input.read(&mut self.buffer[self.len..]) {
                Ok(0) => break,
                Ok(more) => self.len += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unwrap_input(error)),
            }
            if self.len == PIECE {
                self.send();
            }
        }
        Ok(())
    }

    /// Whether the tar was refused, so that the rest is not wanted.
    pub(super) fn is_unheard(&self) -> bool {
        self.unheard
    }

    /// Ends the stream: as a whole one, or as one that is cut off. Returns the bytes sent.
    pub(super) fn end(mut self, whole: Result<(), ()>) -> u64 {
        match whole {
            Ok(()) if self.len > 0 => self.send(),
            Ok(()) => {}
            // The reader of the tar must not take this for the end.
            Err(()) => drop(self.to_tar.send(Err(io::ErrorKind::BrokenPipe.into()))),
        }
        self.total
    }

    /// Sees to it that there is a buffer with room; `false` if the tar was refused.
    fn begin(&mut self) -> bool {
        if !self.buffer.is_empty() || self.unheard {
            return !self.unheard;
        }
        if self.made < PIECES && self.pool.is_empty() {
            self.made += 1;
            self.buffer = vec![0; PIECE];
            return true;
        }
        // A reader that goes early takes the pieces that it was to be lent with it: none may ever be free again.
        select! {
            recv(self.pool) -> buffer => self.buffer = buffer.expect("the inlet has a sender of its own"),
            recv(self.tar_gone) -> _ => self.unheard = true,
        }
        !self.unheard
    }

    fn send(&mut self) {
        let piece = Piece::new(std::mem::take(&mut self.buffer), self.len, self.give.clone());
        self.total += self.len as u64;
        self.len = 0;
        self.unheard |= self.to_hash.send(piece.clone()).is_err() || self.to_tar.send(Ok(piece)).is_err();
    }
}

impl Write for Inlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.begin() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the tar was refused"));
        }
        let len = bytes.len().min(PIECE - self.len);
        self.buffer[self.len..self.len + len].copy_from_slice(&bytes[..len]);
        self.len += len;
        if self.len == PIECE {
            self.send();
        }
        Ok(len)
    }

    /// Nothing: only whole pieces are sent on.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Hash {
    pub fn run(self) {
        let mut hasher = Hasher::sha256();
        for piece in self.from {
            hasher.update(&piece);
        }
        // Of a tar that was refused nobody wants it.
        let _ = self.to.send(hasher.finish());
    }
}

impl Feed<'_> {
    /// Puts the next piece in `buffer`'s place: it is not copied.
    pub fn refill(&mut self, buffer: &mut Buffer) -> io::Result<usize> {
        // Given back before the next is waited for: it may be the one.
        *buffer = Buffer::Own(Box::default());
        let Ok(piece) = self.from.recv() else {
            if let Some(hash) = self.hash.take() {
                hash.run();
            }
            return Ok(0);
        };
        let piece = piece?;
        self.pieces += 1;
        if self.pieces > 1
            && let Some(hash) = self.hash.take()
        {
            (self.aside)(hash);
        }
        let len = piece.len();
        *buffer = Buffer::Shared(piece);
        Ok(len)
    }
}

/// The archive's own error, if a stage before this one put it in an I/O error.
fn unwrap_input(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::Stream { action: "read the layer", source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_goes_early_holds_nobody_up() {
        // Whenever it goes: with pieces read, lent and still on their way.
        for pieces in 0..=PIECES + 1 {
            std::thread::scope(|scope| {
                let (mut inlet, mut feed, _) = feed(|hash| drop(scope.spawn(move || hash.run())));
                scope.spawn(move || {
                    let mut buffer = Buffer::Own(Box::default());
                    for _ in 0..pieces {
                        feed.refill(&mut buffer).expect("a piece");
                    }
                    // All others are under way, and hashed, by now.
                    std::thread::sleep(std::time::Duration::from_millis(30));
                });
                inlet.take(io::repeat(1).take(1 << 30)).expect("no error");
                assert!(inlet.is_unheard());
                assert!(inlet.write(b"more").is_err());
                assert!(inlet.end(Ok(())) < 1 << 30);
            });
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_is_no_whole_one() {
        let (mut inlet, mut feed, _) = feed(drop);
        inlet.write_all(b"half").expect("write");
        inlet.end(Err(()));
        let mut buffer = Buffer::Own(Box::default());
        assert_eq!(feed.refill(&mut buffer).expect_err("cut off").kind(), io::ErrorKind::BrokenPipe);
    }
}
