//! The input in pooled pieces, each seen by two readers: the hash and the tar reader.

use std::{
    io::{self, Read},
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use strata_spec::{Digest, digest::Hasher};

use crate::tar::Buffer;

/// Bytes of one piece. Fits the second-level cache, so that the second reader finds it there.
const PIECE: usize = 256 * 1024;
/// Pieces under way at once.
const PIECES: usize = 8;

type Shared = Arc<Vec<u8>>;

/// Sends the input on; runs on the caller's thread.
pub(super) struct Pump {
    free: Receiver<Vec<u8>>,
    made: usize,
    to_hash: Sender<Shared>,
    to_tar: Sender<io::Result<Shared>>,
    /// Disconnected once the tar reader is gone.
    tar_gone: Receiver<()>,
}

/// Hashes the input.
pub(super) struct Hash {
    from: Receiver<Shared>,
    free: Sender<Vec<u8>>,
}

/// Lends the input to the tar reader.
pub(super) struct Feed {
    from: Receiver<io::Result<Shared>>,
    free: Sender<Vec<u8>>,
    /// Nothing is ever sent: it only goes when this goes.
    _here: Sender<()>,
}

/// Makes the three ends.
pub(super) fn feed() -> (Pump, Hash, Feed) {
    let (free, free_in) = bounded(PIECES);
    let (to_hash, hash_in) = bounded(PIECES);
    let (to_tar, tar_in) = bounded(PIECES);
    let (here, tar_gone) = bounded(0);
    (
        Pump { free: free_in, made: 0, to_hash, to_tar, tar_gone },
        Hash { from: hash_in, free: free.clone() },
        Feed { from: tar_in, free, _here: here },
    )
}

impl Pump {
    /// Sends `input` until its end, or until nobody listens any more; returns the bytes sent.
    pub fn run(mut self, mut input: impl Read) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let mut piece = if self.made < PIECES && self.free.is_empty() {
                self.made += 1;
                vec![0; PIECE]
            } else {
                // A reader that goes early takes the pieces that it was to be lent with it: none may ever be free again.
                let piece = select! {
                    recv(self.free) -> piece => piece,
                    recv(self.tar_gone) -> _ => return Ok(total),
                };
                let Ok(piece) = piece else { return Ok(total) };
                piece
            };
            piece.resize(PIECE, 0);
            let (len, end) = match fill(&mut input, &mut piece) {
                Ok(len) => (len, len < PIECE),
                Err(error) => {
                    // The reader of the tar must not take this for the end; it is told, and the error itself goes to the caller.
                    let _ = self.to_tar.send(Err(io::Error::from(error.kind())));
                    return Err(error);
                }
            };
            piece.truncate(len);
            total += len as u64;
            let piece = Arc::new(piece);
            if len > 0 && (self.to_hash.send(piece.clone()).is_err() || self.to_tar.send(Ok(piece)).is_err()) {
                return Ok(total);
            }
            if end {
                return Ok(total);
            }
        }
    }
}

impl Hash {
    pub fn run(self) -> Digest {
        let mut hasher = Hasher::sha256();
        for piece in self.from {
            hasher.update(&piece);
            give_back(&self.free, piece);
        }
        hasher.finish()
    }
}

impl Feed {
    /// Puts the next piece in `buffer`'s place: it is not copied.
    pub fn refill(&mut self, buffer: &mut Buffer) -> io::Result<usize> {
        if let Buffer::Shared(done) = std::mem::replace(buffer, Buffer::Own(Box::default())) {
            give_back(&self.free, done);
        }
        let Ok(piece) = self.from.recv() else { return Ok(0) };
        let piece = piece?;
        let len = piece.len();
        *buffer = Buffer::Shared(piece);
        Ok(len)
    }
}

/// The last of the two readers returns the buffer. Nobody waiting for it any more is fine.
fn give_back(free: &Sender<Vec<u8>>, piece: Shared) {
    if let Some(buffer) = Arc::into_inner(piece) {
        let _ = free.try_send(buffer);
    }
}

/// Reads until `into` is full or the input ends.
fn fill(input: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < into.len() {
        match input.read(&mut into[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_goes_early_holds_nobody_up() {
        // Whenever it goes: with pieces read, lent and still on their way.
        for pieces in 0..=PIECES + 1 {
            let (pump, hash, mut feed) = feed();
            std::thread::scope(|scope| {
                scope.spawn(move || hash.run());
                scope.spawn(move || {
                    let mut buffer = Buffer::Own(Box::default());
                    for _ in 0..pieces {
                        feed.refill(&mut buffer).expect("a piece");
                    }
                    // All others are under way, and hashed, by now.
                    std::thread::sleep(std::time::Duration::from_millis(30));
                });
                let sent = pump.run(io::repeat(1).take(1 << 30)).expect("no error");
                assert!(sent < 1 << 30, "{sent}");
            });
        }
    }
}
