//! A layer's tar, compressed on every core.
//!
//! ```text
//! tar ─> pieces of 1 MiB ─> workers: a gzip member each ─> in their order, one after the other
//! ```
//!
//! Members in a row are one gzip stream to every reader (RFC 1952, section 2.2). The same tar gives the same bytes, however many cores there are.

use std::{
    io::{self, Write},
    thread::Scope,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use libdeflater::{CompressionLvl, Compressor};

/// Bytes of one member, uncompressed. Half as many cost a percent more in size.
const PIECE: usize = 1 << 20;
/// Pieces under way, compressed and waiting for those before them.
const UNDER_WAY: usize = 3;
/// libdeflate's levels are one above zlib's of the same effect.
const LEVEL: i32 = 5;

type Outcome = io::Result<Vec<u8>>;

/// Compresses what `produce` writes into what is returned. Its threads end with `scope`.
pub(crate) fn gzip<'scope, P>(scope: &'scope Scope<'scope, '_>, produce: P) -> Gzip
where
    P: FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'scope,
{
    let (in_order, order) = bounded(UNDER_WAY);
    let (to_do, jobs) = bounded::<(Vec<u8>, Sender<Outcome>)>(UNDER_WAY);
    for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(8) {
        let jobs = jobs.clone();
        scope.spawn(move || {
            let mut compressor = Compressor::new(CompressionLvl::new(LEVEL).expect("a level that there is"));
            let mut out = vec![0; compressor.gzip_compress_bound(PIECE)];
            for (piece, done) in jobs {
                let len = compressor.gzip_compress(&piece, &mut out).expect("the bound holds");
                drop(piece);
                let _ = done.send(Ok(out[..len].to_vec()));
            }
        });
    }
    scope.spawn(move || {
        let mut cut = Cut { in_order, to_do, piece: Vec::new(), any: false };
        if let Err(error) = produce(&mut cut).and_then(|()| cut.finish()) {
            cut.fail(error);
        }
    });
    Gzip(order)
}

/// Cuts the tar into pieces.
struct Cut {
    in_order: Sender<Receiver<Outcome>>,
    to_do: Sender<(Vec<u8>, Sender<Outcome>)>,
    piece: Vec<u8>,
    any: bool,
}

impl Cut {
    fn post(&mut self) -> io::Result<()> {
        let (done, outcome) = bounded(1);
        self.any = true;
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.in_order.send(outcome).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.to_do.send((std::mem::take(&mut self.piece), done)).map_err(|error| gone(error.0))
    }

    /// Sends the last piece. Nothing at all is one empty member.
    fn finish(&mut self) -> io::Result<()> {
        if self.piece.is_empty() && self.any { Ok(()) } else { self.post() }
    }

    fn fail(&self, error: io::Error) {
        let (done, outcome) = bounded(1);
        let _ = done.send(Err(error));
        let _ = self.in_order.send(outcome);
    }
}

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PIECE);
        }
        let len = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..len]);
        if self.piece.len() == PIECE {
            self.post()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The compressed stream, in pieces.
pub(crate) struct Gzip(Receiver<Receiver<Outcome>>);

impl Iterator for Gzip {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let outcome = self.0.recv().ok()?;
        let stopped = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the compression stopped");
        Some(outcome.recv().map_err(stopped).and_then(|outcome| outcome).map(Bytes::from))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        std::thread::scope(|scope| {
            let pieces: io::Result<Vec<Bytes>> = gzip(scope, |to| to.write_all(bytes)).collect();
            pieces.unwrap().concat()
        })
    }

    #[test]
    fn what_is_compressed_comes_back() {
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 9 * PIECE + 7] {
            let bytes: Vec<u8> = (0..len).map(|n| (n / 7 % 251) as u8).collect();
            let out = compressed(&bytes);
            let limits = strata_archive::Limits::default();
            let (mut plain, _) = strata_archive::compression::decompress(out.as_slice(), &limits).unwrap();
            let mut back = Vec::new();
            plain.read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{len}");
            assert_eq!(out, compressed(&bytes), "the same bytes each time");
        }
    }

    #[test]
    fn a_failure_comes_out_where_it_came_in() {
        std::thread::scope(|scope| {
            let gzip = gzip(scope, |to| {
                to.write_all(&[0; 3 * PIECE])?;
                Err(io::Error::other("the layer is damaged"))
            });
            let error = gzip.collect::<io::Result<Vec<Bytes>>>().unwrap_err();
            assert_eq!(error.to_string(), "the layer is damaged");
        });
    }

    #[test]
    fn a_reader_that_goes_ends_the_writer() {
        std::thread::scope(|scope| {
            let gzip = gzip(scope, |to| io::copy(&mut io::repeat(0), to).map(drop));
            drop(gzip);
        });
    }
}
