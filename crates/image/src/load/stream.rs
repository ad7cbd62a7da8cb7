//! A tar that passes once. Layers are unpacked as they come, into folders that no name points to; documents stay in memory; what belongs
//! together is known at the end. Nothing is copied to disk meanwhile.
//!
//! Where the documents come first, as in archives that Strata writes, layers that the store has are passed over.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
};

use strata_archive::{
    compression::{Compression, decompress},
    tar::{Entry, Kind, Reader},
};
use strata_spec::{DiffId, ErrorKind, chain_ids, progress::Status};

use super::{
    DOCUMENT_MAX, Options,
    layers::{Claim, Found, Ready, ReadyLayers, Watched, check, check_size, claim, missing, unpack_stream},
    names::{Link, follow, normal},
    plan::{Blob, Plan, Source, blob_digest, plan},
};
use crate::{Error, Store};

/// Bytes of documents that are kept in memory, all together.
const KEPT_MAX: u64 = 24 << 20;
/// Names and links of an archive: an image of 500 layers has 2,000.
const ENTRIES_MAX: usize = 1 << 17;
/// Bytes that tell a layer from a document.
const HEAD: usize = 512;

/// Reads the whole stream, and matches its layers with its documents.
pub(super) fn read<'s>(
    store: &'s Store,
    stream: impl Read + Send,
    options: &Options<'_>,
) -> Result<(Plan, ReadyLayers, Claim<'s>), Error> {
    let (plain, _) = decompress(stream, &options.limits)?;
    let mut reader = Reader::new(plain, &options.limits);
    let mut seen = Seen::default();
    let mut pass = Pass { store, options, known: None, documents_changed: false };
    while let Some(entry) = reader.next_entry()? {
        pass.entry(&mut reader, entry, &mut seen)?;
    }
    // A compressed stream says at its very end whether all was well.
    while !reader.trailing()?.is_empty() {}
    let (plan, claim) = match pass.known.take().filter(|_| !pass.documents_changed) {
        Some(known) => known,
        None => {
            let plan = plan(&seen, options)?;
            let claim = claim(store, &plan, false)?;
            (plan, claim)
        }
    };
    let ready = seen.matched(&plan, &claim)?;
    Ok((plan, ready, claim))
}

/// What has passed so far.
#[derive(Default)]
struct Seen {
    documents: BTreeMap<String, Vec<u8>>,
    kept: u64,
    links: BTreeMap<String, Link>,
    layers: BTreeMap<String, Layer>,
    /// Files that cannot be used, and why; that matters where a document names one.
    unusable: BTreeMap<String, String>,
}

/// A layer that has passed.
struct Layer {
    size: u64,
    diff: DiffId,
    /// `None` once it belongs to an image.
    found: Option<Found>,
}

struct Pass<'s, 'o> {
    store: &'s Store,
    options: &'o Options<'o>,
    /// What the documents say, if they were complete before the layers came.
    known: Option<(Plan, Claim<'s>)>,
    documents_changed: bool,
}

impl Pass<'_, '_> {
    fn entry<R: Read + Send>(&mut self, reader: &mut Reader<R>, entry: Entry, seen: &mut Seen) -> Result<(), Error> {
        let Some(name) = normal(&entry.header.name) else { return Ok(()) };
        if seen.count() > ENTRIES_MAX {
            return Err(Error::load("the archive", format!("it has more than {ENTRIES_MAX} entries")));
        }
        match entry.header.kind {
            Kind::Symlink => {
                if let Ok(to) = String::from_utf8(entry.header.link) {
                    seen.links.insert(name, Link::Symbolic(to));
                }
            }
            Kind::HardLink => {
                if let Some(to) = normal(&entry.header.link) {
                    seen.links.insert(name, Link::Hard(to));
                }
            }
            Kind::Regular if entry.sparse.is_some() => {
                seen.unusable.insert(name, "it is stored as a sparse file".to_owned());
            }
            Kind::Regular => self.file(reader, name, entry.stored, seen)?,
            _ => {}
        }
        Ok(())
    }

    /// Tells a layer from a document by its first block, and keeps it.
    fn file<R: Read + Send>(
        &mut self,
        reader: &mut Reader<R>,
        name: String,
        size: u64,
        seen: &mut Seen,
    ) -> Result<(), Error> {
        let mut head = [0; HEAD];
        let read = reader.read_content(&mut head)?;
        let head = &head[..read];
        if is_layer(&name, head) {
            if self.is_needless(&name, seen) {
                return Ok(());
            }
            match self.layer(reader, &name, head, size) {
                Ok(layer) => drop(seen.layers.insert(name, layer)),
                // A blob of something else than an image may look like a layer. The outer archive's own damage comes up again at once.
                Err(error) if error.kind() == ErrorKind::Invalid => drop(seen.unusable.insert(name, error.to_string())),
                Err(error) => return Err(error),
            }
        } else if size <= DOCUMENT_MAX && head.trim_ascii_start().first().is_some_and(|byte| b"{[".contains(byte)) {
            let mut bytes = head.to_vec();
            bytes.resize(usize::try_from(size).expect("a document's size was checked"), 0);
            reader.read_content(&mut bytes[read..])?;
            seen.keep(name, bytes)?;
            self.documents_changed = true;
        }
        Ok(())
    }

    fn layer<R: Read + Send>(
        &self,
        reader: &mut Reader<R>,
        name: &str,
        head: &[u8],
        size: u64,
    ) -> Result<Layer, Error> {
        let item = item(name);
        let input = io::Cursor::new(head).chain(Content { reader });
        let watched = Watched::new(input, size, &self.options.cancel, self.options.progress, &item);
        let place = self.store.layers().place(None)?;
        let found = unpack_stream(self.store, watched, place, blob_digest(name), self.options)?;
        self.options.progress.item(&item, Status::Loaded);
        Ok(Layer { size, diff: found.unpacked.diff_id, found: Some(found) })
    }

    /// Whether a layer may be passed over: the documents are complete, and every image that has it finds it in the store.
    fn is_needless(&mut self, name: &str, seen: &Seen) -> bool {
        if self.documents_changed {
            self.documents_changed = false;
            // Documents that do not make sense yet are judged at the end.
            // The flight of the plan before must have landed first.
            self.known = None;
            if let Ok(plan) = plan(seen, self.options)
                && let Ok(claim) = claim(self.store, &plan, true)
            {
                self.known = Some((plan, claim));
            }
        }
        let Some((plan, claim)) = &self.known else { return false };
        let mut used = false;
        for image in &plan.images {
            for (chain, file) in chain_ids(image.config.diff_ids()).zip(&image.layers) {
                if file.name == name {
                    used = true;
                    if !claim.existing.contains(&chain) {
                        return false;
                    }
                }
            }
        }
        // One that no document names may still be what a link leads to.
        if used {
            self.options.progress.item(&item(name), Status::Exists);
        }
        used
    }
}

/// A layer's name for progress: the short digest that its path holds, or the path.
fn item(name: &str) -> String {
    let id = name.split('/').rev().find(|part| part.len() == 64);
    id.map_or_else(|| name.to_owned(), |id| id.chars().take(12).collect())
}

impl Seen {
    fn count(&self) -> usize {
        self.documents.len() + self.links.len() + self.layers.len() + self.unusable.len()
    }

    /// Keeps a document. Two of one name that differ are a trap.
    fn keep(&mut self, name: String, bytes: Vec<u8>) -> Result<(), Error> {
        if self.documents.get(&name).is_some_and(|before| *before != bytes) {
            return Err(Error::load(name, "it is twice in the archive, with different contents"));
        }
        self.kept += bytes.len() as u64;
        if self.kept > KEPT_MAX {
            return Err(Error::load("the archive", format!("its documents have more than {KEPT_MAX} bytes")));
        }
        self.documents.insert(name, bytes);
        Ok(())
    }

    fn leads_to(&self, name: &str) -> Result<String, Error> {
        let name = follow(name, |name| self.links.get(name))?;
        match self.unusable.get(&name) {
            Some(why) => Err(Error::load(name, why)),
            None => Ok(name),
        }
    }

    /// Gives each missing layer of `plan` what was unpacked for it, checked.
    fn matched(&mut self, plan: &Plan, claim: &Claim<'_>) -> Result<ReadyLayers, Error> {
        let mut ready = ReadyLayers::new();
        let mut taken = BTreeMap::new();
        let mut used = BTreeSet::new();
        for job in missing(plan, &claim.existing) {
            let name = self.leads_to(&job.file.name)?;
            let Some(layer) = self.layers.get_mut(&name) else {
                return Err(job.file.missing(job.diff));
            };
            check_size(job.file, layer.size)?;
            let one = match layer.found.take() {
                Some(found) => {
                    check(&job, &found)?;
                    taken.insert(name.clone(), job.chain);
                    Ready::Unpacked(Box::new(found.unpacked))
                }
                // The same files once more, higher up or in another image: they are rebuilt from the first.
                None if layer.diff == job.diff => Ready::CopyOf(taken[&name]),
                None => {
                    let (expected, found) = (Box::new(job.diff), Box::new(layer.diff));
                    return Err(Error::DiffMismatch { index: job.index, object: name, expected, found });
                }
            };
            used.insert(name);
            ready.insert(job.chain, one);
        }
        // What no image needs goes now, not when all is done.
        self.layers.retain(|name, _| used.contains(name));
        Ok(ready)
    }
}

impl Source for Seen {
    fn find(&self, name: &str) -> Result<Option<String>, Error> {
        let name = self.leads_to(name)?;
        Ok((self.documents.contains_key(&name) || self.layers.contains_key(&name)).then_some(name))
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.documents.get(&self.leads_to(name)?).cloned())
    }

    fn blob(&self, _: &str) -> Result<Option<Blob<'_>>, Error> {
        // Layers have passed; they were unpacked on the way.
        Ok(None)
    }

    fn diff_id(&self, name: &str) -> Result<DiffId, Error> {
        let found = self.layers.get(&self.leads_to(name)?).map(|layer| layer.diff);
        found.ok_or_else(|| Error::load(name, "the archive does not have it"))
    }
}

/// Whether a file that begins so is a layer: compressed, a tar's header block, or an empty tar.
fn is_layer(name: &str, head: &[u8]) -> bool {
    if head.is_empty() {
        return name.ends_with("/layer.tar");
    }
    if Compression::detect(head) != Compression::Plain || Compression::unsupported(head).is_some() {
        return true;
    }
    let Ok(block) = <&[u8; HEAD]>::try_from(head) else { return false };
    block.iter().all(|byte| *byte == 0) || has_checksum(block)
}

/// Whether a block holds the checksum of a tar header, which is in octal at bytes 148 to 155.
fn has_checksum(block: &[u8; HEAD]) -> bool {
    let field = &block[148..156];
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| (b'0'..=b'7').contains(*byte));
    let written = digits.fold(0u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
    let sum = |signed: bool| -> i64 {
        let value = |(at, byte): (usize, &u8)| match (148..156).contains(&at) {
            true => i64::from(b' '),
            false if signed => i64::from(*byte as i8),
            false => i64::from(*byte),
        };
        block.iter().enumerate().map(value).sum()
    };
    written > 0 && (sum(false) == i64::from(written) || sum(true) == i64::from(written))
}

/// What is left of the current entry.
struct Content<'r, R> {
    reader: &'r mut Reader<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read_content(into).map_err(io::Error::other)
    }
}
