//! Repositories with their manifests, tags, blobs and referrers, over a [`Storage`].
//!
//! Functions block. A change to a repository holds its lock in this process. A change that makes content reachable is inside the gate of
//! [`Storage::publishing`], so that the collector removes nothing that is about to be named.

mod blob;
mod cache;
mod list;
mod put;
mod referrer;
mod tag;
mod validation;
mod walk;

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use strata_spec::Digest;

pub use blob::Mounted;
pub use list::Page;
pub use put::Published;
pub use validation::{Images, Indexes, UrlPolicy};
pub use walk::{Next, Which, repositories, walk};

use crate::{
    error::{Code, Error},
    layout,
    manifest::{self, Document},
    name::{RepoName, Target},
    quota::Quotas,
    storage::Storage,
};
use cache::Cache;

/// Rules for content, from the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Maximum size of a manifest in bytes.
    pub manifest_size: u64,
    /// Time for which a client may rely on what it was told is there.
    pub grace: Duration,
    /// Which entries of an index must be there.
    pub indexes: Indexes,
    /// Whether config and layers of an image must be there.
    pub images: Images,
    /// URLs that descriptors may carry.
    pub urls: UrlPolicy,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            manifest_size: manifest::DEFAULT_SIZE_LIMIT,
            grace: crate::gc::DEFAULT_GRACE,
            indexes: Indexes::MayBeSparse,
            images: Images::MustBeWhole,
            urls: UrlPolicy::default(),
        }
    }
}

/// All repositories.
pub struct Store {
    storage: Arc<dyn Storage>,
    rules: Rules,
    cache: Cache,
    locks: Vec<Mutex<()>>,
    quotas: Quotas,
}

/// A stored manifest.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Digest of the bytes.
    pub digest: Digest,
    /// The bytes as served.
    pub bytes: Bytes,
    /// What the manifest says.
    pub document: Arc<Document>,
}

/// Maximum size of a link in bytes.
const LINK_MAX: u64 = 256;
const LOCKS: usize = 64;
const CACHE_BYTES: usize = 16 << 20;

impl Store {
    /// Opens the repositories of a storage.
    pub fn new(storage: Arc<dyn Storage>, rules: Rules, quotas: Quotas) -> Self {
        let locks = (0..LOCKS).map(|_| Mutex::new(())).collect();
        Self { storage, rules, cache: Cache::new(CACHE_BYTES), locks, quotas }
    }

    /// The storage.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Rules for content.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Quotas and their usage.
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Keeps other threads from changing the repository.
    pub(crate) fn lock(&self, name: &RepoName) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or(0);
        self.locks[at].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reads a link; `None` if it is missing. Fails if it is no digest.
    pub(crate) fn link(&self, key: &str) -> Result<Option<Digest>, Error> {
        let Some(bytes) = self.storage.read(key, LINK_MAX)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        match text.trim().parse() {
            Ok(digest) => Ok(Some(digest)),
            Err(error) => {
                Err(crate::storage::Error::Damaged { key: key.to_owned(), problem: format!("{error}; push it again") }
                    .into())
            }
        }
    }

    /// Returns the manifest that `target` names in a repository; `None` if there is none.
    pub fn manifest(&self, name: &RepoName, target: &Target) -> Result<Option<Manifest>, Error> {
        let digest = match target {
            Target::Digest(digest) => *digest,
            Target::Tag(tag) => match self.link(&layout::tag_current(name, tag))? {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        if self.storage.stat(&layout::revision_link(name, digest))?.is_none() {
            return Ok(None);
        }
        self.manifest_by_digest(digest)
    }

    /// Returns a stored manifest of any repository; `None` if its bytes are missing.
    pub(crate) fn manifest_by_digest(&self, digest: Digest) -> Result<Option<Manifest>, Error> {
        if let Some(manifest) = self.cache.get(digest) {
            return Ok(Some(manifest));
        }
        let key = layout::blob(digest);
        // Another server may have accepted longer manifests.
        let limit = self.rules.manifest_size.max(manifest::DEFAULT_SIZE_LIMIT) * 4;
        let Some(bytes) = self.storage.read(&key, limit)? else { return Ok(None) };
        let damaged = |problem: String| crate::storage::Error::Damaged { key: key.clone(), problem };
        if Digest::of(digest.algorithm(), &bytes) != digest {
            return Err(damaged("its bytes are not those of its digest; push it again".into()).into());
        }
        let document = Document::stored(&bytes).map_err(|error| damaged(error.to_string()))?;
        let manifest = Manifest { digest, bytes: bytes.into(), document: Arc::new(document) };
        self.cache.put(manifest.clone());
        Ok(Some(manifest))
    }
}

/// The error for a manifest that a repository lacks.
pub fn manifest_unknown(name: &RepoName, target: &Target) -> Error {
    let message = format!("the manifest {target} is not in the repository {name}");
    Error::new(Code::ManifestUnknown, message)
        .with_detail(serde_json::json!({"name": name.as_str(), "reference": target.to_string()}))
}

/// The error for a blob that a repository lacks.
pub fn blob_unknown(name: &RepoName, digest: Digest) -> Error {
    let message = format!("the blob {digest} is not in the repository {name}");
    Error::new(Code::BlobUnknown, message).with_detail(serde_json::json!({ "digest": digest }))
}
