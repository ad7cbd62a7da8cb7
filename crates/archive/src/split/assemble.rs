//! Rebuilding a tar.

use std::{
    io::{Read, Write},
    thread,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use strata_spec::{DiffId, digest::Hasher};

use super::{Contents, Files, Record, Unpacker, contents::Checked};
use strata_tree::Tree;

use crate::Error;

/// Bytes in one buffer, and buffers on the way.
const CHUNK: usize = 512 << 10;
const CHUNKS: usize = 6;

/// What is checked while a tar is rebuilt; lengths and CRCs of the files always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Also the digest of the whole, which takes a core about a second a gigabyte.
    Digest,
    /// Nothing else.
    Crc,
}

/// What was rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// The tar's digest, which must be the layer's DiffID, if it was asked for.
    pub diff_id: Option<DiffId>,
    /// Bytes of the tar.
    pub bytes: u64,
}

/// Writes to `out` the exact tar that `tar_split` (gzip) records, taking file contents from the tree `files`.
///
/// Each file's length and CRC are checked, and the digest of the whole is returned: it must be the layer's DiffID.
/// A file that differs is an [`Error::Mismatch`].
pub fn assemble(tar_split: impl Read + Send, files: &(impl Tree + ?Sized), out: impl Write) -> Result<DiffId, Error> {
    let assembled = assemble_from(tar_split, Files::open(files)?, out, Check::Digest)?;
    Ok(assembled.diff_id.expect("the digest was asked for"))
}

/// Like [`assemble`], with the contents from anywhere, and the digest only where it is wanted.
///
/// A second thread reads the record and the files while this one digests and writes; the memory between them is bounded
/// (3 MiB). On failure `out` has a part of the tar.
pub fn assemble_from(
    tar_split: impl Read + Send,
    contents: impl Contents + Send,
    mut out: impl Write,
    check: Check,
) -> Result<Assembled, Error> {
    let (full, filled) = bounded::<Chunk>(CHUNKS);
    let (back, empty) = bounded::<Chunk>(CHUNKS);
    for _ in 0..CHUNKS {
        back.send(Chunk { bytes: vec![0; CHUNK], len: 0 }).expect("the channel has room, and its other end is here");
    }
    thread::scope(|scope| {
        let gather =
            scope.spawn(move || gather(Unpacker::new(tar_split), contents, Filler { full, empty, chunk: None }));
        let mut hasher = (check == Check::Digest).then(Hasher::sha256);
        let mut bytes = 0;
        let mut written = Ok(());
        for chunk in &filled {
            let piece = &chunk.bytes[..chunk.len];
            written = out.write_all(piece);
            if written.is_err() {
                break;
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(piece);
            }
            bytes += piece.len() as u64;
            // The gatherer is gone when it has nothing left to fill.
            let _ = back.send(chunk);
        }
        // Wakes a gatherer that waits to hand over or to be handed back a chunk.
        drop((filled, back));
        let gathered = gather.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and_then(|()| out.flush()).map_err(|source| Error::Stream { action: "write the archive", source })?;
        gathered?;
        Ok(Assembled { diff_id: hasher.map(|hasher| DiffId::new(hasher.finish())), bytes })
    })
}

struct Chunk {
    bytes: Vec<u8>,
    len: usize,
}

/// Hands chunks over as they fill.
struct Filler {
    full: Sender<Chunk>,
    empty: Receiver<Chunk>,
    chunk: Option<Chunk>,
}

/// The other thread stopped, and says why itself.
struct Stopped;

impl Filler {
    /// The free part of the current chunk, never empty.
    fn space(&mut self) -> Result<&mut [u8], Stopped> {
        if self.chunk.as_ref().is_some_and(|chunk| chunk.len == CHUNK) {
            self.hand_over()?;
        }
        if self.chunk.is_none() {
            self.chunk = Some(Chunk { len: 0, ..self.empty.recv().map_err(|_| Stopped)? });
        }
        let chunk = self.chunk.as_mut().expect("set above");
        Ok(&mut chunk.bytes[chunk.len..])
    }

    fn advance(&mut self, len: usize) {
        if let Some(chunk) = &mut self.chunk {
            chunk.len += len;
        }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<(), Stopped> {
        while !bytes.is_empty() {
            let space = self.space()?;
            let len = space.len().min(bytes.len());
            space[..len].copy_from_slice(&bytes[..len]);
            self.advance(len);
            bytes = &bytes[len..];
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), Stopped> {
        self.chunk.take().map_or(Ok(()), |chunk| self.full.send(chunk).map_err(|_| Stopped))
    }
}

/// Fills chunks with the tar.
fn gather(mut record: Unpacker<impl Read>, mut contents: impl Contents, mut filler: Filler) -> Result<(), Error> {
    while let Some(record) = record.next_record()? {
        let pushed = match record {
            Record::Segment(bytes) => filler.push(bytes),
            Record::File(file) if file.size == 0 => Ok(()),
            Record::File(file) => {
                let mut content = Checked::open(&file, &mut contents)?;
                loop {
                    let Ok(space) = filler.space() else { return Ok(()) };
                    match content.read(space)? {
                        0 => break Ok(()),
                        len => filler.advance(len),
                    }
                }
            }
        };
        if let Err(Stopped) = pushed {
            return Ok(());
        }
    }
    let _ = filler.hand_over();
    Ok(())
}
