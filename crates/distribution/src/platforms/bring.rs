//! All platforms of an image come in.

use std::{collections::BTreeMap, sync::Arc};

use strata_spec::{
    Cancel, Digest, ImageId, Reference,
    manifest::{AnyManifest, Descriptor},
    progress::{Progress, Status},
};

use super::{DOCUMENTS_MAX, Platforms, Pulled, blobs};
use crate::{
    Client, Error, Stores,
    client::Site,
    fetch::{Fetch, Queue, Wanted},
    manifest::{Document, fetch, is_document},
    partial::Partials,
    times::Times,
};

/// What is brought.
pub(crate) struct Bringing<'a> {
    pub stores: &'a Stores<'a>,
    pub reference: &'a Reference,
    /// Of the platform that was unpacked.
    pub id: ImageId,
    pub top: &'a Document,
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
    pub times: &'a Arc<Times>,
}

impl Client {
    /// Fetches all that the index of an image names and is not kept yet, and keeps it. Where it is interrupted the next one goes on.
    pub(crate) fn bring_platforms(&self, what: &Bringing<'_>, sites: &[Arc<Site>]) -> Result<(), Error> {
        let kept = Platforms::new(&what.stores.platforms);
        let documents = self.documents(what, sites)?;
        let mut wanted: BTreeMap<Digest, &Descriptor> = BTreeMap::new();
        for blob in documents.iter().flat_map(|document| blobs(&document.parsed)) {
            if wanted.insert(blob.digest, blob).is_some_and(|other| other.size != blob.size) {
                return Err(Error::invalid(
                    what.reference.familiar(),
                    format!("has two sizes for blob {}", blob.digest),
                ));
            }
        }
        let all: u64 = wanted.values().map(|blob| blob.size).fold(0, u64::saturating_add);
        wanted.retain(|_, blob| !kept.has(blob));
        self.fetch_kept(what, sites, &kept, wanted.into_values().collect())?;
        for document in &documents {
            strata_durable::write(&kept.blob(document.digest), &document.bytes, 0o600)?;
        }
        let name = what.reference.name();
        kept.note(what.id, &Pulled { digest: what.top.digest, source_repository: name })?;
        let images = documents.iter().filter(|document| matches!(document.parsed, AnyManifest::Manifest(_))).count();
        tracing::info!(image = %what.id, digest = %what.top.digest, images, bytes = all, "all platforms kept");
        what.progress.message(&format!("Kept for push: {} with {images} manifests and {all} bytes", what.top.digest));
        Ok(())
    }

    /// The top document, and all that it names.
    fn documents(&self, what: &Bringing<'_>, sites: &[Arc<Site>]) -> Result<Vec<Document>, Error> {
        let mut documents: Vec<Document> = vec![what.top.clone()];
        let mut at = 0;
        while let Some(document) = documents.get(at) {
            at += 1;
            let AnyManifest::Index(index) = &document.parsed else { continue };
            for entry in index.manifests.clone() {
                if !is_document(&entry) || documents.iter().any(|known| known.digest == entry.digest) {
                    continue;
                }
                if documents.len() == DOCUMENTS_MAX {
                    let much = format!("names more than {DOCUMENTS_MAX} manifests");
                    return Err(Error::invalid(what.reference.familiar(), much));
                }
                documents.push(self.document(what, sites, &entry)?);
            }
        }
        Ok(documents)
    }

    fn document(&self, what: &Bringing<'_>, sites: &[Arc<Site>], entry: &Descriptor) -> Result<Document, Error> {
        let reference = what.reference.with_digest(entry.digest);
        let mut last = None;
        for site in sites {
            let found = self.net.wait(async { fetch(&*site.remote().await?, &reference).await });
            match found {
                Ok(document) if document.bytes.len() as u64 == entry.size => return Ok(document),
                Ok(document) => {
                    let (object, found) = (format!("manifest {}", entry.digest), document.bytes.len() as u64);
                    last = Some(Error::Length { object, expected: entry.size, found });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(Error::Stopped))
    }

    fn fetch_kept(
        &self,
        what: &Bringing<'_>,
        sites: &[Arc<Site>],
        kept: &Platforms,
        mut wanted: Vec<&Descriptor>,
    ) -> Result<(), Error> {
        wanted.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        let partials = Partials::open(&what.stores.partial)?;
        let cancel = what.cancel.child();
        let fetch = Fetch {
            net: &self.net,
            sites,
            repository: what.reference.path(),
            progress: what.progress,
            times: what.times.clone(),
            cancel: &cancel,
        };
        let one = |blob: &&Descriptor| Wanted { digest: blob.digest, size: blob.size, urls: Vec::new() };
        let queue = Queue::new(&partials, wanted.iter().map(one).collect())?;
        let blobs = queue.blobs();
        let needed = blobs.iter().map(|blob| blob.wanted.size - blob.resumed).fold(0, u64::saturating_add);
        if let Ok(info) = strata_sys::fs::info(partials.dir())
            && needed > info.free_bytes
        {
            let (object, path) = (what.top.digest.to_string(), partials.dir().to_owned());
            return Err(Error::NoRoom { object, path, what: "bytes", needed, free: info.free_bytes });
        }
        for blob in &blobs {
            what.progress.item(&blob.short(), Status::Pulling);
        }
        std::thread::scope(|scope| {
            for _ in 1..queue.crew() {
                scope.spawn(|| queue.work(&fetch));
            }
            queue.work(&fetch);
        });
        // Those that came stay, whatever happened to the others.
        for blob in blobs.iter().filter(|blob| blob.is_whole()) {
            blob.keep(&kept.blob(blob.wanted.digest))?;
        }
        queue.failure().map_or(Ok(()), Err)
    }
}
