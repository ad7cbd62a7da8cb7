//! Reading a stream, every byte once.

use std::{
    io::{self, ErrorKind, Read},
    ops::Deref,
    sync::Arc,
};

use super::{
    Entry, Kind,
    block::{self, BLOCK, Block, field},
    pax::Records,
    sparse::{self, PaxMap},
};
use crate::{
    Error, Limits,
    piece::{Piece, Slice},
};

/// Bytes asked of the input at once.
const BUFFER: usize = 512 << 10;

/// What an entry's header blocks may take besides the payloads that [`Limits::metadata`] bounds.
const BLOCKS: u64 = 16 * BLOCK as u64;

/// Reads a tar.
///
/// The life of a stream: [`next_entry`](Self::next_entry), then [`raw`](Self::raw) for the bytes before the content, then
/// [`content`](Self::content) (or [`read_content`](Self::read_content)) until empty, and so on; at `None`, `raw` has the end
/// marker, and [`trailing`](Self::trailing) until empty has what follows. Whoever takes all of these has had every byte of the
/// stream once and in order. Content that is not taken is skipped. After an error nothing more is read.
pub struct Reader<R> {
    input: R,
    refill: Refill<R>,
    /// Reads past the buffer, where the input can.
    direct: Option<Direct<R>>,
    buffer: Buffer,
    /// The part of `buffer` that is read and not yet consumed.
    start: usize,
    end: usize,
    /// Of the stream, where `start` is.
    offset: u64,
    state: State,
    raw: Vec<u8>,
    /// Name of the current entry, for errors.
    name: Vec<u8>,
    /// Of the current entry, what is not yet consumed.
    content: u64,
    padding: usize,
    limits: Limits,
    entries: u64,
    bytes: u64,
}

/// Bytes read and not yet all consumed.
pub(crate) enum Buffer {
    Own(Box<[u8]>),
    /// The input's own, where others read it too.
    Shared(Arc<Piece>),
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

type Direct<R> = fn(&mut R, &mut [u8]) -> io::Result<usize>;

/// Puts what comes next at the buffer's beginning, or another buffer in its place, and returns how much it is; zero at the end.
pub(crate) type Refill<R> = fn(&mut R, &mut Buffer) -> io::Result<usize>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Entries,
    Ended,
    Failed,
}

/// What extension headers said before the header they belong to.
#[derive(Default)]
struct Pending {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, in large pieces: it needs no buffer of its own.
    pub fn new(input: R, limits: &Limits) -> Self {
        let refill: Refill<R> = |input, buffer| match buffer {
            Buffer::Own(bytes) => input.read(bytes),
            Buffer::Shared(_) => unreachable!("only an input that lends its buffers has such"),
        };
        Self::with(input, Buffer::Own(vec![0; BUFFER].into_boxed_slice()), refill, Some(R::read), limits)
    }
}

impl<R> Reader<R> {
    /// Reads from an input that lends its buffers.
    pub(crate) fn lent(input: R, refill: Refill<R>, limits: &Limits) -> Self {
        Self::with(input, Buffer::Own(Box::default()), refill, None, limits)
    }

    fn with(input: R, buffer: Buffer, refill: Refill<R>, direct: Option<Direct<R>>, limits: &Limits) -> Self {
        Self {
            input,
            refill,
            direct,
            buffer,
            start: 0,
            end: 0,
            offset: 0,
            state: State::Entries,
            raw: Vec::with_capacity(4 * BLOCK),
            name: Vec::new(),
            content: 0,
            padding: 0,
            limits: limits.clone(),
            entries: 0,
            bytes: 0,
        }
    }

    /// Moves to the next entry; `None` at the end marker, or where the stream ends without one.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        self.raw.clear();
        match self.state {
            State::Ended => return Ok(None),
            State::Failed => return Err(self.malformed("nothing can be read after an error")),
            State::Entries => {}
        }
        // What fails below leaves this behind.
        self.state = State::Failed;
        while !self.content()?.is_empty() {}
        let padding = std::mem::take(&mut self.padding);
        // A stream may end without its last padding.
        let entry = if self.take_raw(padding)? < padding { None } else { self.headers()? };
        self.state = if entry.is_some() { State::Entries } else { State::Ended };
        Ok(entry)
    }

    /// The raw bytes between the previous entry's content and this one's: its padding, then all header blocks with their payloads
    /// (after the last entry: the end marker).
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The next piece of the entry's stored content, as long as is at hand (up to 512 KiB); empty at its end.
    pub fn content(&mut self) -> Result<&[u8], Error> {
        if self.content == 0 {
            return Ok(&[]);
        }
        if self.start == self.end && self.fill()? == 0 {
            return Err(self.cut_off_content());
        }
        let piece = self.consume(self.content);
        self.content -= piece.len() as u64;
        Ok(&self.buffer[piece])
    }

    /// The next piece of the entry's stored content, at most `most` bytes, without a copy; `None` at its end. Only of an input that
    /// lends its buffers.
    pub(crate) fn content_slice(&mut self, most: usize) -> Result<Option<Slice>, Error> {
        let wanted = self.content.min(most as u64);
        if wanted == 0 {
            return Ok(None);
        }
        if self.start == self.end && self.fill()? == 0 {
            return Err(self.cut_off_content());
        }
        let range = self.consume(wanted);
        self.content -= range.len() as u64;
        match &self.buffer {
            Buffer::Shared(piece) => Ok(Some(Slice { piece: piece.clone(), range })),
            Buffer::Own(_) => unreachable!("only an input that lends its buffers is asked for them"),
        }
    }

    /// Fills `into` with stored content, and returns how much: less than asked for only at the entry's end.
    ///
    /// Large pieces are read straight into it.
    pub fn read_content(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let wanted = usize::try_from(self.content).map_or(into.len(), |left| left.min(into.len()));
        let mut filled = 0;
        while filled < wanted {
            let rest = &mut into[filled..wanted];
            if self.start == self.end
                && rest.len() >= BUFFER / 8
                && let Some(direct) = self.direct
            {
                let got = read(|| direct(&mut self.input, rest))?;
                if got == 0 {
                    return Err(self.cut_off_content());
                }
                self.offset += got as u64;
                self.content -= got as u64;
                filled += got;
                continue;
            }
            if self.start == self.end && self.fill()? == 0 {
                return Err(self.cut_off_content());
            }
            let piece = self.consume(rest.len() as u64);
            self.content -= piece.len() as u64;
            rest[..piece.len()].copy_from_slice(&self.buffer[piece.clone()]);
            filled += piece.len();
        }
        Ok(filled)
    }

    /// After `next_entry` returned `None`: the next piece of what follows the end marker; empty at the stream's end.
    pub fn trailing(&mut self) -> Result<&[u8], Error> {
        if self.state != State::Ended || (self.start == self.end && self.fill()? == 0) {
            return Ok(&[]);
        }
        let piece = self.consume(u64::MAX);
        Ok(&self.buffer[piece])
    }

    /// Bytes of the stream consumed so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the headers of one entry; `None` at the end.
    fn headers(&mut self) -> Result<Option<Entry>, Error> {
        let begin = self.offset;
        let mut pending = Pending::default();
        loop {
            let at = self.offset;
            let Some(block) = self.header_block(&pending)? else { return Ok(None) };
            let malformed = |reason: &str| Error::Malformed { offset: at, reason: reason.to_owned() };
            if !block::checksum_holds(&block) {
                return Err(malformed("there is no tar header here, or its checksum is wrong"));
            }
            let (header, size) = block::decode(&block).map_err(malformed)?;
            match block[field::TYPE] {
                b'x' => {
                    let payload = self.payload(size, at)?;
                    pending.records = Some(Records::parse(&self.raw[payload]).map_err(malformed)?);
                    self.skip_payload_padding(size)?;
                }
                b'L' | b'K' => {
                    let payload = self.payload(size, at)?;
                    let name = block::text(&self.raw[payload]).to_vec();
                    match block[field::TYPE] {
                        b'L' => pending.long_name = Some(name),
                        _ => pending.long_link = Some(name),
                    }
                    self.skip_payload_padding(size)?;
                }
                b'g' => {
                    let payload = self.payload(size, at)?;
                    let records = Records::parse(&self.raw[payload]).map_err(malformed)?;
                    let mut entry = Entry { header, offset: begin, stored: 0, sparse: None };
                    records.merge(&mut entry.header).map_err(malformed)?;
                    // It counts with the next entry's bytes, as it would behind a file.
                    self.padding = padding_of(size as u64);
                    return self.begin(entry).map(Some);
                }
                _ => {
                    let entry =
                        self.merge(Entry { header, offset: begin, stored: 0, sparse: None }, size, block, pending)?;
                    return self.begin(entry).map(Some);
                }
            }
        }
    }

    /// Reads a header block; `None` at the end marker, or the end of the stream.
    fn header_block(&mut self, pending: &Pending) -> Result<Option<Block>, Error> {
        let at = self.offset;
        let block = self.take_block()?;
        let ended = block.is_none_or(|block| block == [0; BLOCK]);
        if !ended {
            return Ok(block);
        }
        if !pending.is_empty() {
            return Err(Error::Truncated {
                offset: at,
                what: "an entry of which only extended headers are there".into(),
            });
        }
        if block.is_some() && self.take_block()?.is_some_and(|second| second != [0; BLOCK]) {
            return Err(self.malformed("a single zero block is followed by something else"));
        }
        Ok(None)
    }

    /// Puts together what the header and its extensions say.
    fn merge(&mut self, mut entry: Entry, size: i64, block: Block, pending: Pending) -> Result<Entry, Error> {
        let at = self.offset - BLOCK as u64;
        let malformed = |reason: &str| Error::Malformed { offset: at, reason: reason.to_owned() };
        let records = pending.records.unwrap_or_default();
        let pax_sparse = sparse::from_records(&records).map_err(malformed)?;
        let size = records.number("size").map_err(malformed)?.unwrap_or(size);
        let header = &mut entry.header;
        records.merge(header).map_err(malformed)?;
        header.name = pending.long_name.unwrap_or(std::mem::take(&mut header.name));
        header.link = pending.long_link.unwrap_or(std::mem::take(&mut header.link));
        // Archives older than the directory type mark one by its slash.
        if block[field::TYPE] == 0 && header.name.ends_with(b"/") {
            header.kind = Kind::Dir;
        }
        let is_sparse = block[field::TYPE] == b'S' || pax_sparse.is_some();
        if header.kind.is_header_only() {
            return if is_sparse {
                Err(malformed("a sparse map stands at something else than a file"))
            } else {
                Ok(entry)
            };
        }
        entry.stored = u64::try_from(size).map_err(|_| malformed("its size is negative"))?;
        header.size = entry.stored;
        self.content = entry.stored;
        self.padding = padding_of(entry.stored);
        if block[field::TYPE] == b'S' {
            self.old_gnu_sparse(&mut entry, &block)?;
        } else if let Some(found) = pax_sparse {
            header.name = found.name.unwrap_or(std::mem::take(&mut header.name));
            if let Some(size) = found.size {
                header.size = u64::try_from(size).map_err(|_| malformed("its size is negative"))?;
            }
            let numbers = match found.map {
                PaxMap::Records(numbers) => numbers,
                PaxMap::Content => self.sparse_map_in_content()?,
            };
            entry.stored = self.content;
            entry.sparse = Some(sparse::extents(&numbers, header.size, entry.stored).map_err(malformed)?);
        }
        Ok(entry)
    }

    /// Counts a new entry against the limits.
    fn begin(&mut self, entry: Entry) -> Result<Entry, Error> {
        self.name.clone_from(&entry.header.name);
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(entry.header.size);
        for (what, value, limit) in [
            ("the number of entries in the archive", self.entries, self.limits.entries),
            ("the size of the files in the archive", self.bytes, self.limits.bytes),
        ] {
            if value > limit {
                return Err(Error::Limit { what, limit, entry: Some(entry.display_name().into_owned()) });
            }
        }
        Ok(entry)
    }

    /// Reads the old GNU sparse map: its head in the header block, more of it in blocks that follow.
    fn old_gnu_sparse(&mut self, entry: &mut Entry, head: &Block) -> Result<(), Error> {
        let at = self.offset - BLOCK as u64;
        let malformed = |reason: &str| Error::Malformed { offset: at, reason: reason.to_owned() };
        if block::Layout::of(head) != block::Layout::Gnu {
            return Err(malformed("a sparse file's header is not GNU's"));
        }
        let size = block::number(&head[field::GNU_REAL_SIZE]).and_then(|size| u64::try_from(size).ok());
        entry.header.size = size.ok_or_else(|| malformed("its size is not a number"))?;
        let mut numbers = Vec::new();
        let (table, mut more) = sparse::old_gnu_head(head);
        sparse::old_gnu_entries(table, &mut numbers).map_err(malformed)?;
        while more {
            self.bound_metadata(BLOCK as u64)?;
            let block = self.take_block()?.ok_or_else(|| self.cut_off("a sparse map"))?;
            let (table, another) = sparse::old_gnu_more(&block);
            sparse::old_gnu_entries(table, &mut numbers).map_err(malformed)?;
            more = another;
        }
        entry.sparse = Some(sparse::extents(&numbers, entry.header.size, entry.stored).map_err(malformed)?);
        Ok(())
    }

    /// Reads a sparse map of format 1.0 off the content: decimal lines, a count, then that many pairs, in whole blocks.
    fn sparse_map_in_content(&mut self) -> Result<Vec<i64>, Error> {
        let mut numbers = Vec::new();
        let mut wanted = 1;
        let mut line = Vec::new();
        while numbers.len() < wanted {
            self.bound_metadata(BLOCK as u64)?;
            self.content = self
                .content
                .checked_sub(BLOCK as u64)
                .ok_or_else(|| self.malformed("its sparse map is longer than its content"))?;
            let block = self.take_block()?.ok_or_else(|| self.cut_off("a sparse map"))?;
            for &byte in &block {
                if numbers.len() == wanted {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let number = sparse::decimal(&line).filter(|n| *n >= 0);
                let number =
                    number.ok_or_else(|| self.malformed("its sparse map holds something else than numbers"))?;
                line.clear();
                if numbers.is_empty() {
                    // More than the limit on metadata lets in is found out while reading.
                    wanted = usize::try_from(number).ok().and_then(|n| n.checked_mul(2)).map_or(usize::MAX, |n| n | 1);
                }
                numbers.push(number);
            }
        }
        numbers.remove(0);
        Ok(numbers)
    }

    /// Reads an extension header's payload to the end of `raw`, and returns where it is.
    fn payload(&mut self, size: i64, at: u64) -> Result<std::ops::Range<usize>, Error> {
        let size = u64::try_from(size)
            .map_err(|_| Error::Malformed { offset: at, reason: "an extended header's size is negative".into() })?;
        self.bound_metadata(size)?;
        let begin = self.raw.len();
        let size = size as usize;
        if self.take_raw(size)? < size {
            return Err(self.cut_off("an extended header"));
        }
        Ok(begin..begin + size)
    }

    fn skip_payload_padding(&mut self, size: i64) -> Result<(), Error> {
        let padding = padding_of(size as u64);
        if self.take_raw(padding)? < padding { Err(self.cut_off("an extended header")) } else { Ok(()) }
    }

    /// Refuses to collect `more` bytes of one entry's headers where that is over the limit.
    fn bound_metadata(&self, more: u64) -> Result<(), Error> {
        let limit = self.limits.metadata;
        if (self.raw.len() as u64).saturating_add(more) > limit.saturating_add(BLOCKS) {
            return Err(Error::Limit { what: "the metadata of one entry in the archive", limit, entry: None });
        }
        Ok(())
    }

    /// Reads one block, which is appended to `raw`; `None` at the end of the stream.
    fn take_block(&mut self) -> Result<Option<Block>, Error> {
        self.bound_metadata(BLOCK as u64)?;
        let begin = self.raw.len();
        match self.take_raw(BLOCK)? {
            0 => Ok(None),
            BLOCK => Ok(Some(self.raw[begin..].try_into().expect("a block was read"))),
            _ => Err(self.cut_off("a header")),
        }
    }

    /// Appends `len` bytes of the stream to `raw`, or as many as there are.
    fn take_raw(&mut self, len: usize) -> Result<usize, Error> {
        let mut taken = 0;
        while taken < len && (self.start < self.end || self.fill()? > 0) {
            let piece = self.consume((len - taken) as u64);
            taken += piece.len();
            self.raw.extend_from_slice(&self.buffer[piece]);
        }
        Ok(taken)
    }

    /// Passes over up to `most` bytes of the buffer, and returns where they are.
    fn consume(&mut self, most: u64) -> std::ops::Range<usize> {
        let at_hand = self.end - self.start;
        let len = usize::try_from(most).map_or(at_hand, |most| most.min(at_hand));
        let piece = self.start..self.start + len;
        self.start = piece.end;
        self.offset += len as u64;
        piece
    }

    /// Reads more into the empty buffer; zero at the end of the stream.
    fn fill(&mut self) -> Result<usize, Error> {
        self.start = 0;
        self.end = 0;
        self.end = read(|| (self.refill)(&mut self.input, &mut self.buffer))?;
        Ok(self.end)
    }

    fn malformed(&self, reason: &str) -> Error {
        Error::Malformed { offset: self.offset, reason: reason.to_owned() }
    }

    fn cut_off(&self, what: &str) -> Error {
        Error::Truncated { offset: self.offset, what: what.to_owned() }
    }

    fn cut_off_content(&self) -> Error {
        self.cut_off(&format!("the content of {:?}", String::from_utf8_lossy(&self.name)))
    }
}

/// Zeros up to the next whole block.
fn padding_of(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

fn read(mut once: impl FnMut() -> io::Result<usize>) -> Result<usize, Error> {
    loop {
        match once() {
            Ok(len) => return Ok(len),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(source) => return Err(crate::compression::unwrap_error(source, "read the archive")),
        }
    }
}
