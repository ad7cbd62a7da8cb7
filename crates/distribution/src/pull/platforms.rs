//! All platforms of an image come in.

use std::{collections::BTreeMap, sync::Arc};

use strata_spec::{
    Cancel, Digest, ErrorKind, ImageId, Reference,
    manifest::{AnyManifest, Descriptor},
    progress::{Progress, Status},
};

use strata_content::Lease;

use super::{
    fetch::{Fetch, Queue, Wanted},
    free_bytes,
};
use crate::{
    Client, Error, Stores,
    client::Site,
    kept::{self, DOCUMENTS_MAX, Pulled, blobs},
    manifest::{Document, fetch, is_document},
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
    /// Fetches all that the index of an image names and is not here yet, and keeps it. An interrupted one is resumed by the next.
    pub(crate) fn bring_platforms(
        &self,
        what: &Bringing<'_>,
        sites: &[Arc<Site>],
        lease: &mut Lease,
    ) -> Result<(), Error> {
        let documents = self.documents(what, sites)?;
        let mut named: BTreeMap<Digest, &Descriptor> = BTreeMap::new();
        for blob in documents.iter().flat_map(|document| blobs(&document.parsed)) {
            if named.insert(blob.digest, blob).is_some_and(|other| other.size != blob.size) {
                return Err(Error::invalid(
                    what.reference.familiar(),
                    format!("has two sizes for blob {}", blob.digest),
                ));
            }
        }
        let all: u64 = named.values().map(|blob| blob.size).fold(0, u64::saturating_add);
        let mut wanted = Vec::new();
        for blob in named.into_values() {
            if lease.hold(blob.digest)? != Some(blob.size) {
                wanted.push(Wanted { digest: blob.digest, size: blob.size, urls: Vec::new() });
            }
        }
        self.fetch_kept(what, sites, wanted, lease)?;
        let pulled = Pulled { digest: what.top.digest, source_repository: what.reference.name() };
        let bytes: Vec<_> = documents.iter().map(|it| (it.digest, it.bytes.as_slice(), &it.parsed)).collect();
        kept::keep_platforms(&what.stores.content, lease, what.id, &pulled, &bytes)?;
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
        wanted: Vec<Wanted>,
        lease: &mut Lease,
    ) -> Result<(), Error> {
        let queue = Queue::new(&what.stores.content, wanted)?;
        free_bytes(what.stores, &what.top.digest, queue.to_come())?;
        let cancel = what.cancel.child();
        let fetch = Fetch {
            net: &self.net,
            sites,
            repository: what.reference.path(),
            progress: what.progress,
            times: what.times.clone(),
            cancel: &cancel,
        };
        for blob in &queue.blobs {
            what.progress.item(&blob.short(), Status::Pulling);
        }
        let fetched = std::thread::scope(|scope| queue.start(scope, &fetch).join());
        let is_full = fetched.as_ref().is_err_and(|error| error.kind() == ErrorKind::NoSpace);
        for blob in &queue.blobs {
            // Those that came stay, whatever happened to the others; on a full disk the beginnings of others do not.
            match blob.arriving.is_whole() {
                true => blob.ingest().commit(lease)?,
                false if is_full => blob.ingest().discard()?,
                false => {}
            }
        }
        fetched
    }
}
