//! Taking a tar apart.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io::Write,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use strata_spec::gojson;

use super::crc;
use crate::{
    Error,
    tar::{Entry, path},
};

/// Bytes of one segment, where they are ours to cut.
const SEGMENT: usize = 1 << 20;

/// JSON collected before it is compressed.
const BATCH: usize = 64 << 10;

/// Writes `tar-split.json.gz` while a tar is read.
///
/// Feed it all that [`tar::Reader`](crate::tar::Reader) yields, in its order: for each entry [`entry`](Self::entry) with the entry and its raw
/// bytes, then [`content`](Self::content) for each piece; at the end [`end`](Self::end) with the end marker, [`trailing`](Self::trailing) for
/// each piece of what follows, and [`finish`](Self::finish).
pub struct Packer<W: Write> {
    out: GzEncoder<W>,
    lines: Vec<u8>,
    position: u64,
    seen: Seen,
    current: Option<Current>,
    trailing: Vec<u8>,
}

/// The entry whose content comes in.
struct Current {
    name: Vec<u8>,
    /// What its line will say.
    size: u64,
    left: u64,
    crc: crc_fast::Digest,
    content: Content,
    /// Its name stood before: no line may repeat it.
    repeated: bool,
}

#[derive(PartialEq, Eq)]
enum Content {
    /// Rebuilt from the folder.
    Summed,
    /// Kept in the record.
    Kept,
}

impl<W: Write> Packer<W> {
    /// Writes gzip to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out: GzEncoder::new(out, Compression::fast()),
            lines: Vec::with_capacity(2 * BATCH),
            position: 0,
            seen: Seen::default(),
            current: None,
            trailing: Vec::new(),
        }
    }

    /// Begins an entry with the raw bytes before its content.
    ///
    /// [`Error::Refused`] if its name stood before and either of the two has content: the folder can hold only one of them.
    pub fn entry(&mut self, entry: &Entry, raw: &[u8]) -> Result<(), Error> {
        self.end_entry()?;
        self.segment(raw)?;
        let name = &entry.header.name;
        let content = if entry.sparse.is_some() { Content::Kept } else { Content::Summed };
        // Whatever the folder holds under this name in the end must be what the record counts on.
        let counted = content == Content::Summed && entry.stored > 0;
        let repeated = match self.seen.insert(&path::clean(name), counted) {
            Before::Nothing => false,
            Before::Empty if !counted => true,
            _ => return Err(twice(entry)),
        };
        self.current = Some(Current {
            name: name.clone(),
            size: if counted { entry.stored } else { 0 },
            left: entry.stored,
            crc: crc(),
            content,
            repeated,
        });
        Ok(())
    }

    /// Takes a piece of the entry's stored content.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(current) = self.current.as_mut() else { return Err(misfed("content without an entry")) };
        let left = current.left.checked_sub(bytes.len() as u64);
        current.left = left.ok_or_else(|| misfed("more content than the entry has"))?;
        match current.content {
            Content::Summed => {
                current.crc.update(bytes);
                Ok(())
            }
            Content::Kept => bytes.chunks(SEGMENT).try_for_each(|piece| self.segment(piece)),
        }
    }

    /// Takes the end marker: the reader's raw bytes after its last entry.
    pub fn end(&mut self, raw: &[u8]) -> Result<(), Error> {
        self.end_entry()?;
        self.segment(raw)
    }

    /// Takes a piece of what follows the end marker.
    pub fn trailing(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(SEGMENT - self.trailing.len()));
            self.trailing.extend_from_slice(piece);
            rest = after;
            if self.trailing.len() == SEGMENT {
                self.trailing_segment()?;
            }
        }
        Ok(())
    }

    /// Ends the gzip stream, and returns the output.
    pub fn finish(mut self) -> Result<W, Error> {
        self.end_entry()?;
        if !self.trailing.is_empty() {
            self.trailing_segment()?;
        }
        // Docker's record ends in what its last read of the stream gave: nothing.
        self.any_segment(&[])?;
        self.flush()?;
        self.out.finish().map_err(writing)
    }

    fn trailing_segment(&mut self) -> Result<(), Error> {
        let piece = std::mem::take(&mut self.trailing);
        self.segment(&piece)
    }

    /// Writes the line of the entry whose content is now complete.
    fn end_entry(&mut self) -> Result<(), Error> {
        let Some(entry) = self.current.take() else { return Ok(()) };
        if entry.left > 0 {
            return Err(misfed("less content than the entry has"));
        }
        if entry.repeated {
            return Ok(());
        }
        self.lines.extend_from_slice(br#"{"type":1"#);
        if !entry.name.is_empty() {
            self.name(&entry.name)?;
        }
        if entry.size > 0 {
            self.lines.extend_from_slice(format!(r#","size":{}"#, entry.size).as_bytes());
            let sum = STANDARD.encode(entry.crc.finalize().to_be_bytes());
            self.lines.extend_from_slice(format!(r#","payload":"{sum}""#).as_bytes());
        } else {
            self.lines.extend_from_slice(br#","payload":null"#);
        }
        self.end_line()
    }

    fn name(&mut self, name: &[u8]) -> Result<(), Error> {
        match std::str::from_utf8(name) {
            Ok(name) => {
                let text = gojson::to_vec(name).map_err(|e| writing(e.into()))?;
                self.lines.extend_from_slice(br#","name":"#);
                self.lines.extend_from_slice(&text);
            }
            Err(_) => {
                self.lines.extend_from_slice(format!(r#","name_raw":"{}""#, STANDARD.encode(name)).as_bytes());
            }
        }
        Ok(())
    }

    fn segment(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() { Ok(()) } else { self.any_segment(bytes) }
    }

    fn any_segment(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.lines.extend_from_slice(br#"{"type":2,"payload":""#);
        let begin = self.lines.len();
        self.lines.resize(begin + bytes.len().div_ceil(3) * 4, 0);
        STANDARD.encode_slice(bytes, &mut self.lines[begin..]).expect("four letters for each three bytes");
        self.lines.push(b'"');
        self.end_line()
    }

    fn end_line(&mut self) -> Result<(), Error> {
        self.lines.extend_from_slice(format!(",\"position\":{}}}\n", self.position).as_bytes());
        self.position += 1;
        if self.lines.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.out.write_all(&self.lines).map_err(writing)?;
        self.lines.clear();
        Ok(())
    }
}

/// Which names stood before, as 63-bit sums under a key of this process: eight bytes a name, and in an archive of ten million
/// entries two names are taken for one once in a hundred thousand times.
#[derive(Default)]
struct Seen {
    key: RandomState,
    sums: HashSet<u64>,
}

enum Before {
    Nothing,
    Empty,
    Counted,
}

impl Seen {
    fn insert(&mut self, name: &[u8], counted: bool) -> Before {
        let sum = self.key.hash_one(name) & !1;
        if self.sums.contains(&(sum | 1)) {
            return Before::Counted;
        }
        if self.sums.contains(&sum) {
            return Before::Empty;
        }
        self.sums.insert(sum | u64::from(counted));
        Before::Nothing
    }
}

fn twice(entry: &Entry) -> Error {
    let reason = "its name stands twice in the archive, so that the layer's files could not give the archive back; \
                  write the archive without the repetition";
    Error::Refused { entry: entry.display_name().into_owned(), reason: reason.into() }
}

fn misfed(reason: &str) -> Error {
    Error::Stream { action: "record the archive", source: std::io::Error::other(reason.to_owned()) }
}

fn writing(source: std::io::Error) -> Error {
    Error::Stream { action: "write tar-split", source }
}
