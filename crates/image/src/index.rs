//! What `images` shows, cached so that it costs little with thousands of images.
//!
//! An image never changes: what its config and its layers say is computed once and kept in `strata/cache/images-<driver>`, keyed by its
//! ID. Each time one readdir of `imagedb/content` says which images there are, and the inode of each whether its config is still the
//! file that was read; the time of its metadata folder says whether its parent is.
//!
//! ```text
//! strata-images 1 <sha256 of the rest>
//! {"images":[…]}
//! ```
//!
//! A cache that is missing, torn or of another version is made anew. Damaged images are never in it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use strata_spec::{ChainId, Digest, ImageConfig, ImageId, chain_id, chain_ids};

use crate::{
    Error, Store,
    layout::{FILE_MODE, id_of},
    store::check_document,
};

const MAGIC: &str = "strata-images 1";

/// What is known of an image without reading its config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub id: ImageId,
    /// RFC 3339, as it stands in the config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Its topmost layer; `None` if it has no layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainId>,
    /// Bytes of all its layers: Docker's `VirtualSize`.
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it was built or committed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ImageId>,
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// An image that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub id: ImageId,
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// All images at one instant.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Sorted by ID.
    pub images: Vec<Summary>,
    /// Those that are there and cannot be used, sorted by ID.
    pub damaged: Vec<Damage>,
}

/// Which layers images need.
#[derive(Clone, Debug, Default)]
pub struct Needed {
    /// The topmost layer of each image; those below are needed by the layer above them.
    pub tops: HashSet<ChainId>,
    /// Images of which nobody can tell what they need: while there are such, unnamed layers may be theirs.
    pub damaged: Vec<Damage>,
}

#[derive(Serialize, Deserialize)]
struct Cache {
    images: Vec<Cached>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Cached {
    /// Of the config's file.
    inode: u64,
    /// Change time of the metadata folder in nanoseconds; zero if there is none.
    metadata: i64,
    summary: Summary,
}

impl Store {
    /// All images: each either with what is known of it or with what is wrong with it.
    pub fn images(&self) -> Result<Listing, Error> {
        let mut entries = self.content_entries()?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let cached = if entries.is_empty() { Vec::new() } else { self.read_cache() };
        let before = cached.len();
        let mut cached = cached.into_iter().peekable();
        let mut fresh = 0;
        let mut sizes = HashMap::new();
        let has_metadata = self.metadata_names();
        let mut images = Vec::with_capacity(entries.len());
        let mut damaged = Vec::new();
        for entry in entries {
            let Some(id) = id_of(&entry.name) else { continue };
            let metadata = if has_metadata.contains(entry.name.as_slice()) { self.metadata_time(id) } else { 0 };
            // Both are in the order of IDs.
            while cached.next_if(|old| old.summary.id < id).is_some() {}
            let old = cached.next_if(|old| old.summary.id == id);
            match old.filter(|old| old.inode == entry.inode && old.metadata == metadata) {
                Some(old) => images.push(old),
                None => match self.summary(id, &mut sizes) {
                    Ok(summary) => {
                        fresh += 1;
                        images.push(Cached { inode: entry.inode, metadata, summary });
                    }
                    // Removed by another process since the readdir.
                    Err(Error::NotFound(_)) => {}
                    Err(error) => damaged.push(self.damage(id, error)),
                },
            }
        }
        if fresh > 0 || images.len() != before {
            self.write_cache(&Cache { images: images.clone() });
        }
        Ok(Listing { images: images.into_iter().map(|image| image.summary).collect(), damaged })
    }

    /// What is known of one image, read from its files.
    pub fn summarize(&self, id: ImageId) -> Result<Summary, Error> {
        self.summary(id, &mut HashMap::new())
    }

    /// Which layers images need, for whoever releases layers.
    pub fn needed(&self) -> Result<Needed, Error> {
        let listing = self.images()?;
        let mut tops: HashSet<_> = listing.images.iter().filter_map(|image| image.chain).collect();
        // An image may be damaged in its layers alone; its config then still tells.
        let mut damaged = listing.damaged;
        damaged.retain(|damage| match self.get(damage.id) {
            Ok(config) => {
                tops.extend(chain_id(config.diff_ids()));
                false
            }
            Err(_) => true,
        });
        Ok(Needed { tops, damaged })
    }

    /// `sizes` are bytes of a layer and all below it, of the layers met so far.
    fn summary(&self, id: ImageId, sizes: &mut HashMap<ChainId, u64>) -> Result<Summary, Error> {
        let config = self.get(id)?;
        check_document(&config)?;
        // A link that cannot be read is for `verify` to report: the image is whole without it.
        let parent = self.parent(id).unwrap_or_default();
        let size = self.virtual_size(&config, sizes)?;
        let document = config.document();
        Ok(Summary {
            id,
            created: document.created.clone(),
            chain: chain_id(config.diff_ids()),
            size,
            labels: document.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default(),
            parent,
            os: document.os.clone(),
            architecture: document.architecture.clone(),
            variant: document.variant.clone(),
        })
    }

    fn virtual_size(&self, config: &ImageConfig, sizes: &mut HashMap<ChainId, u64>) -> Result<u64, Error> {
        let mut total = 0u64;
        for chain in chain_ids(config.diff_ids()) {
            total = match sizes.get(&chain) {
                Some(total) => *total,
                None => {
                    let layer = self.layers().get(chain).map_err(|error| match error {
                        strata_layer::Error::NotFound(chain) => Error::missing_layer(config.id(), chain),
                        other => other.into(),
                    })?;
                    total.saturating_add(layer.size)
                }
            };
            sizes.insert(chain, total);
        }
        Ok(total)
    }

    pub(crate) fn damage(&self, id: ImageId, error: Error) -> Damage {
        match error {
            Error::Damaged { path, reason } | Error::Layer(strata_layer::Error::Damaged { path, reason }) => {
                Damage { id, path, reason }
            }
            other => Damage { id, path: self.layout().content(id), reason: other.to_string() },
        }
    }

    /// The images that have a metadata folder: most have none, and one readdir is less than a question for each.
    fn metadata_names(&self) -> HashSet<Vec<u8>> {
        let entries = fs::read_dir(self.layout().metadatas()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_vec()).collect()
    }

    fn metadata_time(&self, id: ImageId) -> i64 {
        fs::metadata(self.layout().metadata(id))
            .map_or(0, |metadata| metadata.ctime().wrapping_mul(1_000_000_000).wrapping_add(metadata.ctime_nsec()))
    }

    fn read_cache(&self) -> Vec<Cached> {
        let Ok(bytes) = fs::read(&self.cache) else { return Vec::new() };
        let Some(at) = bytes.iter().position(|byte| *byte == b'\n') else { return Vec::new() };
        let (head, body) = (&bytes[..at], &bytes[at + 1..]);
        if head != header(body).as_bytes() {
            return Vec::new();
        }
        serde_json::from_slice::<Cache>(body).map(|cache| cache.images).unwrap_or_default()
    }

    /// Writes the cache where there is a folder for it: a read-only root has none, nor a root that Strata never changed.
    fn write_cache(&self, cache: &Cache) {
        let body = serde_json::to_vec(cache).expect("summaries are JSON");
        let mut bytes = header(&body).into_bytes();
        bytes.push(b'\n');
        bytes.extend(body);
        let folder = self.cache.parent().expect("the cache is a file in a folder");
        if !folder.is_dir() {
            return;
        }
        let written = strata_durable::file::sweep_files(folder)
            .and_then(|_| strata_durable::write(&self.cache, &bytes, FILE_MODE));
        if let Err(error) = written {
            tracing::debug!(%error, "the cache of images cannot be written");
        }
    }
}

fn header(body: &[u8]) -> String {
    format!("{MAGIC} {}", Digest::sha256(body).hex())
}
