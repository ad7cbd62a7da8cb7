//! Every entry of the archive, where it lies and how long it is: known before the first byte is written.

use std::{collections::BTreeMap, fs::File};

use strata_archive::{
    split::Unpacker,
    tar::{Header, Kind, Writer},
};
use strata_durable::Context;
use strata_spec::{ChainId, DiffId, chain_ids};

use super::{
    documents::{blob_name, documents},
    select::Image,
};
use crate::{Error, Store};

/// Bytes of a tar's block, and of its end marker.
const BLOCK: u64 = 512;
const END: u64 = 2 * BLOCK;

/// An archive before it is written.
pub(super) struct Plan {
    pub entries: Vec<Entry>,
    /// Bytes of the whole.
    pub length: u64,
}

/// One entry of the archive.
pub(super) struct Entry {
    /// Where its header lies.
    pub offset: u64,
    /// The header's bytes.
    pub header: Vec<u8>,
    pub content: Content,
}

pub(super) enum Content {
    Bytes(Vec<u8>),
    /// A layer's tar.
    Layer {
        chain: ChainId,
        diff: DiffId,
        size: u64,
    },
}

impl Content {
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Layer { size, .. } => *size,
        }
    }

    /// Zeros after it, up to the next block.
    pub fn padding(&self) -> usize {
        (self.len().wrapping_neg() % BLOCK) as usize
    }
}

/// Lays the archive of `images` out.
pub(super) fn plan(store: &Store, images: &[Image]) -> Result<Plan, Error> {
    let mut layers: Vec<(DiffId, ChainId)> = Vec::new();
    let mut sizes = BTreeMap::new();
    for image in images {
        let diffs = image.config.diff_ids();
        for (diff, chain) in diffs.iter().zip(chain_ids(diffs)) {
            if sizes.insert(*diff, 0).is_none() {
                layers.push((*diff, chain));
            }
        }
    }
    measure(store, &layers, &mut sizes)?;
    let documents = documents(images, |diff| sizes[&diff]);
    let mut plan = Plan { entries: Vec::new(), length: 0 };
    for (name, bytes) in documents.files {
        plan.add(Kind::Regular, name, Content::Bytes(bytes))?;
    }
    for dir in ["blobs/", "blobs/sha256/"] {
        plan.add(Kind::Dir, dir, Content::Bytes(Vec::new()))?;
    }
    for (digest, bytes) in documents.blobs {
        plan.add(Kind::Regular, &blob_name(digest), Content::Bytes(bytes))?;
    }
    for (diff, chain) in layers {
        plan.add(Kind::Regular, &blob_name(diff.digest()), Content::Layer { chain, diff, size: sizes[&diff] })?;
    }
    plan.length += END;
    Ok(plan)
}

impl Plan {
    fn add(&mut self, kind: Kind, name: &str, content: Content) -> Result<(), Error> {
        let mut header = Header::new(kind, name);
        header.mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
        header.size = content.len();
        let mut bytes = Vec::new();
        Writer::new(&mut bytes).header(&header)?;
        let offset = self.length;
        self.length += bytes.len() as u64 + content.len() + content.padding() as u64;
        self.entries.push(Entry { offset, header: bytes, content });
        Ok(())
    }
}

/// Finds out how long each layer's tar is, two at a time.
fn measure(store: &Store, layers: &[(DiffId, ChainId)], sizes: &mut BTreeMap<DiffId, u64>) -> Result<(), Error> {
    let half = |parity: usize| {
        let mine = layers.iter().enumerate().filter(move |(at, _)| at % 2 == parity);
        mine.map(|(_, (diff, chain))| Ok((*diff, tar_size(store, *chain)?))).collect::<Result<Vec<_>, Error>>()
    };
    let (even, odd) = std::thread::scope(|scope| {
        let odd = scope.spawn(|| half(1));
        (half(0), odd.join().expect("measuring does not panic"))
    });
    sizes.extend(even?);
    sizes.extend(odd?);
    Ok(())
}

/// Adds up what a layer's tar-split says. No file of the layer is read.
fn tar_size(store: &Store, chain: ChainId) -> Result<u64, Error> {
    let path = store.layers().layout().tar_split(chain);
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::damaged(&path, "the file is missing; get the image again"));
        }
        other => other.context("open", &path)?,
    };
    Unpacker::new(file).tar_size().map_err(|error| Error::damaged(&path, error.to_string()))
}
