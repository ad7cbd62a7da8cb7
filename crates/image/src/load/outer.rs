//! A plain tar file: where each entry lies, read by position. Nothing of it is mapped or kept in memory but the table of names.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use strata_archive::tar::{Kind, Reader};
use strata_durable::Context;

use super::{
    DOCUMENT_MAX, Options,
    names::{Link, follow, normal},
    plan::{Blob, Source},
};
use crate::Error;

/// Entries of the outer archive: an image of 500 layers has 2,000.
const ENTRIES_MAX: usize = 1 << 17;
/// Bytes that are read at once to see a header: it and, mostly, nothing more.
const HEADER_READ: usize = 2048;

/// An archive on disk.
pub(super) struct TarFile {
    file: File,
    entries: BTreeMap<String, Node>,
}

enum Node {
    File {
        offset: u64,
        size: u64,
    },
    Link(Link),
    /// Not usable, and why.
    Unusable(&'static str),
}

impl TarFile {
    /// Reads the headers of `file` and passes over the contents.
    pub fn index(file: File, options: &Options<'_>) -> Result<Self, Error> {
        let mut this = Self { file, entries: BTreeMap::new() };
        let length = this.file.metadata().context("read", "the archive")?.len();
        let mut at = 0;
        let mut count = 0;
        // A new reader for each entry: it sees the file from that entry's first header on, and is left at its content.
        loop {
            let window = Window { file: &this.file, at, end: length, most: HEADER_READ };
            let mut reader = Reader::new(window, &options.limits);
            let Some(entry) = reader.next_entry().map_err(|error| shifted(error, at))? else { break };
            let content = at + reader.offset();
            let end = content.checked_add(entry.stored).filter(|end| *end <= length).ok_or_else(|| {
                Error::from(strata_archive::Error::Truncated {
                    offset: length,
                    what: format!("{:?}", entry.display_name()),
                })
            })?;
            count += 1;
            if count > ENTRIES_MAX {
                return Err(Error::load("the archive", format!("it has more than {ENTRIES_MAX} entries")));
            }
            let node = match entry.header.kind {
                Kind::Regular if entry.sparse.is_some() => Some(Node::Unusable("it is stored as a sparse file")),
                Kind::Regular => Some(Node::File { offset: content, size: entry.stored }),
                Kind::Symlink => String::from_utf8(entry.header.link).ok().map(|to| Node::Link(Link::Symbolic(to))),
                Kind::HardLink => normal(&entry.header.link).map(|to| Node::Link(Link::Hard(to))),
                _ => None,
            };
            if let (Some(name), Some(node)) = (normal(&entry.header.name), node) {
                this.add(name, node)?;
            }
            at = end.div_ceil(512) * 512;
            if at >= length {
                break;
            }
        }
        Ok(this)
    }

    /// A name that comes twice is the last one, as when the archive is unpacked. Two documents of one name that differ are a trap.
    fn add(&mut self, name: String, node: Node) -> Result<(), Error> {
        if let (Node::File { offset, size }, Some(Node::File { offset: before, size: size_before })) =
            (&node, self.entries.get(&name))
            && *size <= DOCUMENT_MAX
            && *size_before <= DOCUMENT_MAX
            && (name == "manifest.json"
                || name == "index.json"
                || name.ends_with(".json")
                || name.starts_with("blobs/"))
            && self.bytes(*offset, *size)? != self.bytes(*before, *size_before)?
        {
            return Err(Error::load(name, "it is twice in the archive, with different contents"));
        }
        self.entries.insert(name, node);
        Ok(())
    }

    fn bytes(&self, offset: u64, size: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; usize::try_from(size).expect("a document's size was checked")];
        self.file.read_exact_at(&mut bytes, offset).context("read", "the archive")?;
        Ok(bytes)
    }
}

impl Source for TarFile {
    fn find(&self, name: &str) -> Result<Option<String>, Error> {
        let name = follow(name, |name| match self.entries.get(name) {
            Some(Node::Link(link)) => Some(link),
            _ => None,
        })?;
        match self.entries.get(&name) {
            Some(Node::File { .. }) => Ok(Some(name)),
            Some(Node::Unusable(why)) => Err(Error::load(name, *why)),
            _ => Ok(None),
        }
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(found) = self.find(name)? else { return Ok(None) };
        let Some(Node::File { offset, size }) = self.entries.get(&found) else { return Ok(None) };
        if *size > DOCUMENT_MAX {
            return Err(Error::load(name, format!("it has {size} bytes, a document at most {DOCUMENT_MAX}")));
        }
        self.bytes(*offset, *size).map(Some)
    }

    fn blob(&self, name: &str) -> Result<Option<Blob<'_>>, Error> {
        let Some(found) = self.find(name)? else { return Ok(None) };
        let Some(Node::File { offset, size }) = self.entries.get(&found) else { return Ok(None) };
        let window = Window { file: &self.file, at: *offset, end: offset + size, most: usize::MAX };
        Ok(Some(Blob { size: *size, reader: Box::new(window) }))
    }
}

/// A part of a file, read by position.
struct Window<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    /// Bytes that one read gives at most.
    most: usize,
}

impl Read for Window<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let most = into.len().min(left).min(self.most);
        let read = self.file.read_at(&mut into[..most], self.at)?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive became shorter while it was read"));
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// An error of a reader that began at `at`, with offsets from the archive's start.
fn shifted(error: strata_archive::Error, at: u64) -> Error {
    use strata_archive::Error as E;
    match error {
        E::Malformed { offset, reason } => E::Malformed { offset: offset + at, reason },
        E::Truncated { offset, what } => E::Truncated { offset: offset + at, what },
        other => other,
    }
    .into()
}
