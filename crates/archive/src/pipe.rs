//! A pipe between two threads, in memory: what one writes the other reads, at most a few pieces ahead.

use std::io::{self, Read, Write};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Bytes of one piece.
const PIECE: usize = 128 * 1024;
/// Pieces under way at once.
const PIECES: usize = 8;

/// Makes a pipe of at most 1 MiB.
///
/// ```
/// # use std::io::{Read, Write};
/// let (mut writer, mut reader) = strata_archive::pipe();
/// std::thread::scope(|scope| {
///     scope.spawn(move || {
///         writer.write_all(b"a layer").unwrap();
///         writer.finish().unwrap();
///     });
///     let mut text = String::new();
///     reader.read_to_string(&mut text).unwrap();
///     assert_eq!(text, "a layer");
/// });
/// ```
pub fn pipe() -> (PipeWriter, PipeReader) {
    let (send, from) = bounded(PIECES);
    let (give, free) = bounded(PIECES);
    (
        PipeWriter { send, free, piece: Vec::new() },
        PipeReader { from, give, piece: Vec::new(), position: 0, ended: false },
    )
}

enum Message {
    Piece(Vec<u8>),
    End,
}

/// The writing end. Writes are gathered into pieces; [`PipeWriter::finish`] sends the last one.
pub struct PipeWriter {
    send: Sender<Message>,
    free: Receiver<Vec<u8>>,
    piece: Vec<u8>,
}

/// The reading end.
pub struct PipeReader {
    from: Receiver<Message>,
    give: Sender<Vec<u8>>,
    piece: Vec<u8>,
    position: usize,
    ended: bool,
}

impl PipeWriter {
    /// Ends the stream. A writer that is dropped without this has failed, and so does the reader: half a stream is never taken for a
    /// whole one.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send.send(Message::End).map_err(|_| broken())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece = self.free.try_recv().unwrap_or_default();
            self.piece.clear();
            self.piece.reserve_exact(PIECE);
        }
        let len = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..len]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.send.send(Message::Piece(std::mem::take(&mut self.piece))).map_err(|_| broken())
    }
}

impl Read for PipeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while self.position == self.piece.len() {
            if self.ended {
                return Ok(0);
            }
            let next = match self.from.recv() {
                Ok(Message::Piece(piece)) => piece,
                Ok(Message::End) => {
                    self.ended = true;
                    continue;
                }
                Err(_) => {
                    return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the writer ended before its stream did"));
                }
            };
            let empty = std::mem::replace(&mut self.piece, next);
            self.position = 0;
            if empty.capacity() > 0 {
                let _ = self.give.try_send(empty);
            }
        }
        let rest = &self.piece[self.position..];
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        self.position += len;
        Ok(len)
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_come_in_order_and_memory_is_bounded() {
        let (mut writer, mut reader) = pipe();
        let sent: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for part in copy.chunks(7_777) {
                    writer.write_all(part).unwrap();
                }
                writer.finish().unwrap();
            });
            let mut found = Vec::new();
            reader.read_to_end(&mut found).unwrap();
            assert!(found == sent);
            assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0, "the end stays the end");
        });
    }

    #[test]
    fn half_a_stream_is_an_error() {
        let (mut writer, mut reader) = pipe();
        writer.write_all(b"half").unwrap();
        writer.flush().unwrap();
        drop(writer);
        let mut found = Vec::new();
        assert_eq!(reader.read_to_end(&mut found).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(found, b"half");
    }

    #[test]
    fn a_reader_that_is_gone_ends_the_writer() {
        let (mut writer, reader) = pipe();
        drop(reader);
        let result = (0..20).try_for_each(|_| writer.write_all(&[0; PIECE]));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
