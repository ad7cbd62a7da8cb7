//! `strata/platforms`: images with all their platforms, as they were served, so that an index is pushed as what it was pulled.
//!
//! ```text
//! images/<image ID, hex>     0600  {"Digest":"sha256:…","SourceRepository":"127.0.0.1:5000/team/app"}: what it was pulled with last
//! blobs/<algorithm>/<hex>    0600  what lies under that digest: an index, a manifest, a config, a layer
//! ```
//!
//! A blob has its name when all of it is on disk with its digest, and an image its file when all the blobs are there. So what is named is whole,
//! and what an interrupted pull leaves are blobs that the next one need not fetch. An image's file is believed while the image is there.
//!
//! The folder itself is locked (flock): shared by who brings or sends, exclusively by who removes what no image needs any more.

pub(crate) mod bring;
mod send;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use strata_durable::Context;
use strata_spec::{
    Digest, ImageId, gojson,
    manifest::{AnyManifest, Descriptor, media_type},
};
use strata_sys::process::{LockMode, lock_file, try_lock_file};

use crate::{Error, Stores, manifest::is_document};

/// Documents of one index, and of those in it.
const DOCUMENTS_MAX: usize = 4096;

/// What an image was pulled with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Pulled {
    /// Of an index, or of a manifest that is in none.
    pub digest: Digest,
    /// `docker.io/library/debian`
    pub source_repository: String,
}

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Platforms {
    dir: PathBuf,
}

impl Platforms {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn image(&self, id: ImageId) -> PathBuf {
        self.dir.join("images").join(id.digest().hex())
    }

    pub fn blob(&self, digest: Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// Makes the folder, and keeps what is in it from being removed as long as what is returned lives.
    pub fn hold(&self) -> Result<File, Error> {
        strata_durable::create_dir_all(&self.dir, 0o700)?;
        for folder in ["images", "blobs", "blobs/sha256", "blobs/sha512"] {
            strata_durable::create_dir_all(&self.dir.join(folder), 0o700)?;
        }
        let folder = File::open(&self.dir).context("open", &self.dir)?;
        lock_file(&folder, LockMode::Shared).context("lock", &self.dir)?;
        Ok(folder)
    }

    /// What image `id` was pulled with, if that was with all platforms.
    pub fn pulled(&self, id: ImageId) -> Result<Option<Pulled>, Error> {
        let path = self.image(id);
        match strata_durable::read(&path) {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| lost(&path)),
        }
    }

    /// Notes what image `id` was pulled with. All of it must be here.
    fn note(&self, id: ImageId, pulled: &Pulled) -> Result<(), Error> {
        let bytes = gojson::to_vec(pulled).expect("strings are JSON");
        Ok(strata_durable::write(&self.image(id), &bytes, 0o600)?)
    }

    /// Whether a blob is here.
    fn has(&self, wanted: &Descriptor) -> bool {
        fs::symlink_metadata(self.blob(wanted.digest)).is_ok_and(|found| found.is_file() && found.len() == wanted.size)
    }

    /// The documents below `top`, each after those that it names; `top` is the last.
    fn documents(&self, top: Digest) -> Result<Vec<(Digest, Vec<u8>, AnyManifest)>, Error> {
        let mut seen = BTreeSet::new();
        let mut below = Vec::new();
        let mut waiting = vec![top];
        while let Some(digest) = waiting.pop() {
            let path = self.blob(digest);
            let bytes = strata_durable::read(&path).map_err(|_| lost(&path))?;
            if Digest::of(digest.algorithm(), &bytes) != digest || below.len() == DOCUMENTS_MAX {
                return Err(lost(&path));
            }
            let parsed = AnyManifest::parse(&bytes).map_err(|_| lost(&path))?;
            if let AnyManifest::Index(index) = &parsed {
                let named = index.manifests.iter().filter(|entry| is_document(entry)).map(|entry| entry.digest);
                waiting.extend(named.filter(|digest| seen.insert(*digest)));
            }
            below.push((digest, bytes, parsed));
        }
        Ok(ordered(below))
    }

    /// Removes what no image needs any more; returns the bytes that it had. Whoever is at work here meanwhile leaves it for another time.
    fn sweep(&self, is_there: impl Fn(ImageId) -> bool) -> Result<u64, Error> {
        let Ok(folder) = File::open(&self.dir) else { return Ok(0) };
        if !try_lock_file(&folder, LockMode::Exclusive).context("lock", &self.dir)? {
            return Ok(0);
        }
        let mut needed = BTreeSet::new();
        for (path, name) in files(&self.dir.join("images"))? {
            let id = format!("sha256:{name}").parse::<ImageId>().ok();
            if !id.is_some_and(&is_there) {
                strata_durable::remove_file(&path)?;
                continue;
            }
            let Some(pulled) = id.and_then(|id| self.pulled(id).ok().flatten()) else { continue };
            // What is damaged needs at least what can be read of it; the next pull mends it.
            for (digest, _, parsed) in self.documents(pulled.digest).unwrap_or_default() {
                needed.insert(self.blob(digest));
                needed.extend(blobs(&parsed).map(|blob| self.blob(blob.digest)));
            }
        }
        let mut freed = 0;
        for folder in ["blobs/sha256", "blobs/sha512"] {
            for (path, _) in files(&self.dir.join(folder))? {
                if !needed.contains(&path) {
                    freed += fs::symlink_metadata(&path).map_or(0, |found| found.len());
                    strata_durable::remove_file(&path)?;
                }
            }
        }
        Ok(freed)
    }
}

/// Removes what was kept of images that are not there any more; returns the bytes that it had.
pub fn sweep(stores: &Stores<'_>) -> Result<u64, Error> {
    Platforms::new(&stores.platforms).sweep(|id| stores.images.contains(id))
}

/// The blobs that a document names: config and layers of a manifest, an index's entries that are layers; without foreign layers,
/// which registries do not take.
fn blobs(document: &AnyManifest) -> impl Iterator<Item = &Descriptor> {
    let foreign = |layer: &&Descriptor| media_type::layer(&layer.media_type).is_some_and(|layer| layer.foreign);
    let (config, list): (_, &[Descriptor]) = match document {
        AnyManifest::Manifest(manifest) => (Some(&manifest.config), &manifest.layers),
        AnyManifest::Index(index) => (None, &index.manifests),
    };
    let is_index = config.is_none();
    config.into_iter().chain(list.iter().filter(move |entry| !(foreign(entry) || is_index && is_document(entry))))
}

/// Puts each document behind those that it names. (None can name one that names it: each digest would be of the other.)
fn ordered(mut documents: Vec<(Digest, Vec<u8>, AnyManifest)>) -> Vec<(Digest, Vec<u8>, AnyManifest)> {
    let mut done = Vec::with_capacity(documents.len());
    let mut known = BTreeSet::new();
    loop {
        let left = documents.len();
        let ready = |parsed: &AnyManifest, known: &BTreeSet<Digest>| match parsed {
            AnyManifest::Index(index) => {
                index.manifests.iter().filter(|entry| is_document(entry)).all(|entry| known.contains(&entry.digest))
            }
            AnyManifest::Manifest(_) => true,
        };
        let (now, later): (Vec<_>, Vec<_>) = documents.into_iter().partition(|(_, _, parsed)| ready(parsed, &known));
        known.extend(now.iter().map(|(digest, ..)| *digest));
        done.extend(now);
        if later.is_empty() || later.len() == left {
            done.extend(later);
            return done;
        }
        documents = later;
    }
}

/// What lies here and is not what it should be.
fn lost(path: &Path) -> Error {
    let reason = "is missing or damaged; a pull of all platforms fetches it again";
    Error::invalid(path.display().to_string(), reason)
}

fn files(dir: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.context("list", dir)?,
    };
    for entry in entries {
        let entry = entry.context("list", dir)?;
        found.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    Ok(found)
}
