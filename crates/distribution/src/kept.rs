//! What the content store keeps of images, so that they can be pushed as they were served.
//!
//! | pin | keeps | its note |
//! | --- | --- | --- |
//! | `manifests/<image ID, hex>` | the manifest that the image was pulled or pushed with last | |
//! | `platforms/<image ID, hex>` | the index that the image was pulled with, and all that it names | `{"Digest":"sha256:…","SourceRepository":"127.0.0.1:5000/team/app"}` |
//!
//! A pin is written when all of its blobs are here. It counts as long as the image is in the image store.

use std::{collections::BTreeSet, path::Path};

use serde::{Deserialize, Serialize};
use strata_content::{Lease, Pin, Store};
use strata_spec::{
    Digest, ImageId,
    manifest::{AnyManifest, Descriptor, media_type},
};

use crate::{
    Error, Stores,
    manifest::{MANIFEST_MAX, is_document},
};

/// Manifests and indexes below one index.
pub(crate) const DOCUMENTS_MAX: usize = 4096;
const MANIFESTS: &str = "manifests";
const PLATFORMS: &str = "platforms";

/// What an image was pulled with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Pulled {
    /// Of an index, or of a manifest that is in none.
    pub digest: Digest,
    /// `docker.io/library/debian`
    pub source_repository: String,
}

/// A manifest or index with its digest and its bytes.
pub(crate) type Document = (Digest, Vec<u8>, AnyManifest);

/// Keeps the manifest of image `id`.
pub(crate) fn keep_manifest(content: &Store, id: ImageId, digest: Digest, bytes: &[u8]) -> Result<(), Error> {
    if manifest(content, id).is_some_and(|kept| kept == bytes) {
        return Ok(());
    }
    let mut lease = content.lease()?;
    let pin = Pin { blobs: vec![digest], note: serde_json::Value::Null };
    content.keep(&mut lease, MANIFESTS, &id.digest().hex(), &[(digest, bytes)], &pin)?;
    tracing::debug!(image = %id, %digest, "manifest kept");
    Ok(lease.done()?)
}

/// The manifest that image `id` was pulled or pushed with last. A hint: one that is damaged counts as none.
pub(crate) fn manifest(content: &Store, id: ImageId) -> Option<Vec<u8>> {
    let pin = content.pinned(MANIFESTS, &id.digest().hex()).ok()??;
    content.read(*pin.blobs.first()?, MANIFEST_MAX).ok()?
}

/// Notes what image `id` was pulled with. `documents` are the index and those below it; the other blobs are here, held by `lease`.
pub(crate) fn keep_platforms(
    content: &Store,
    lease: &mut Lease,
    id: ImageId,
    pulled: &Pulled,
    documents: &[(Digest, &[u8], &AnyManifest)],
) -> Result<(), Error> {
    let below = documents
        .iter()
        .flat_map(|(digest, _, parsed)| std::iter::once(*digest).chain(blobs(parsed).map(|blob| blob.digest)));
    let all: BTreeSet<Digest> = below.collect();
    let note = serde_json::to_value(pulled).expect("strings are JSON");
    let bytes: Vec<(Digest, &[u8])> = documents.iter().map(|(digest, bytes, _)| (*digest, *bytes)).collect();
    let pin = Pin { blobs: all.into_iter().collect(), note };
    Ok(content.keep(lease, PLATFORMS, &id.digest().hex(), &bytes, &pin)?)
}

/// What image `id` was pulled with, if that was with all platforms.
pub(crate) fn platforms(content: &Store, id: ImageId) -> Result<Option<Pulled>, Error> {
    let name = id.digest().hex();
    let Some(pin) = content.pinned(PLATFORMS, &name)? else { return Ok(None) };
    serde_json::from_value(pin.note).map(Some).map_err(|_| lost(&content.layout().pin(PLATFORMS, &name)))
}

/// The documents below `top`, each after those that it names; `top` is the last.
pub(crate) fn documents(content: &Store, top: Digest) -> Result<Vec<Document>, Error> {
    let mut seen = BTreeSet::new();
    let mut below = Vec::new();
    let mut waiting = vec![top];
    while let Some(digest) = waiting.pop() {
        let lost = || lost(&content.layout().blob(digest));
        let bytes = content.read(digest, MANIFEST_MAX).map_err(|_| lost())?.ok_or_else(lost)?;
        if below.len() == DOCUMENTS_MAX {
            return Err(lost());
        }
        let parsed = AnyManifest::parse(&bytes).map_err(|_| lost())?;
        if let AnyManifest::Index(index) = &parsed {
            let named = index.manifests.iter().filter(|entry| is_document(entry)).map(|entry| entry.digest);
            waiting.extend(named.filter(|digest| seen.insert(*digest)));
        }
        below.push((digest, bytes, parsed));
    }
    Ok(ordered(below))
}

/// Removes what is kept of images that are not in the image store any more; returns the bytes of it.
///
/// What an operation that is under way uses stays for the next time.
pub fn sweep(stores: &Stores<'_>) -> Result<u64, Error> {
    let keep = |kind: &str, name: &str| {
        let is_ours = matches!(kind, MANIFESTS | PLATFORMS);
        !is_ours || format!("sha256:{name}").parse().is_ok_and(|id| is_there(stores, id))
    };
    Ok(stores.content.collect(keep)?.bytes)
}

/// Whether a storage driver of the root has image `id`: the content store is one for all of them. What cannot be read counts as there.
fn is_there(stores: &Stores<'_>, id: ImageId) -> bool {
    stores.images.contains(id) || stores.images.layout().is_under_any_driver(id)
}

/// Removes what is kept of image `id`, which no driver has any more; returns the bytes of it. An image that a driver has keeps all.
///
/// The manifest of an image that was pulled for one platform is small: it goes with the next [`sweep`].
pub fn forget(stores: &Stores<'_>, id: ImageId) -> Result<u64, Error> {
    if is_there(stores, id) {
        return Ok(0);
    }
    let name = id.digest().hex();
    stores.content.unpin(MANIFESTS, &name)?;
    if stores.content.unpin(PLATFORMS, &name)? { sweep(stores) } else { Ok(0) }
}

/// The blobs that a document names: config and layers of a manifest, the entries of an index that are layers; without foreign layers,
/// which registries do not take.
pub(crate) fn blobs(document: &AnyManifest) -> impl Iterator<Item = &Descriptor> {
    let foreign = |layer: &&Descriptor| media_type::layer(&layer.media_type).is_some_and(|layer| layer.foreign);
    let (config, list): (_, &[Descriptor]) = match document {
        AnyManifest::Manifest(manifest) => (Some(&manifest.config), &manifest.layers),
        AnyManifest::Index(index) => (None, &index.manifests),
    };
    let is_index = config.is_none();
    config.into_iter().chain(list.iter().filter(move |entry| !(foreign(entry) || is_index && is_document(entry))))
}

/// Puts each document behind those that it names. (None can name one that names it: each digest would be of the other.)
fn ordered(mut documents: Vec<Document>) -> Vec<Document> {
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

/// A file of the content store that is missing, or is not what was kept.
pub(crate) fn lost(path: &Path) -> Error {
    let reason = "is missing or damaged; a pull of all platforms fetches it again";
    Error::invalid(path.display().to_string(), reason)
}
