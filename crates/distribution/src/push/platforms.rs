//! All platforms of an image go out: their blobs, their manifests, the index last.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use strata_content::Store;
use strata_durable::Context;
use strata_spec::{
    Cancel, Digest, ImageId, Reference,
    manifest::{AnyManifest, Descriptor, media_type},
    progress::Status,
};

use super::{
    Options, Pushed, denied, in_parallel, is_gzip,
    source::{Pieces, Source},
    upload::Target,
};
use crate::{
    Client, Error, Stores,
    kept::{self, Document, Pulled, blobs, lost},
    pull::short,
    times::Times,
};

/// Bytes read at once.
const PIECE: usize = 256 << 10;

impl Client {
    /// Pushes what the image that `reference`, a tag, names was pulled with by [`all_platforms`](crate::pull::Options::all_platforms): the same
    /// index with the same digest, and all that it names.
    pub fn push_platforms(
        &self,
        stores: &Stores<'_>,
        reference: &Reference,
        options: &Options<'_>,
    ) -> Result<Pushed, Error> {
        self.push_index(stores, reference, options).map_err(|error| error.or_cancelled(options.cancel))
    }

    fn push_index(&self, stores: &Stores<'_>, reference: &Reference, options: &Options<'_>) -> Result<Pushed, Error> {
        let begun = Instant::now();
        let times = Arc::new(Times::default());
        let names = stores.images.tags().read()?;
        let Some(id) = names.get(reference) else {
            return Err(Error::NotFound {
                reference: reference.familiar(),
                message: format!("An image does not exist locally with the tag: {}", reference.familiar_name()),
            });
        };
        let mut lease = stores.content.lease()?;
        let Some(pulled) = kept::platforms(&stores.content, id)? else {
            return Err(Error::NotFound {
                reference: reference.familiar(),
                message: "only one platform of it is here; a pull of all platforms keeps the others for a push"
                    .to_owned(),
            });
        };
        options.progress.message(&format!("The push refers to repository [{}]", reference.name()));
        lease.hold(pulled.digest)?;
        let documents = kept::documents(&stores.content, pulled.digest)?;
        for (digest, _, parsed) in &documents {
            lease.hold(*digest)?;
            blobs(parsed).try_for_each(|blob| lease.hold(blob.digest).map(drop))?;
        }
        let remote = self.registry(reference.domain())?;
        times.resolve.add(begun.elapsed());
        let cancel = options.cancel.child();
        let target = Target { net: &self.net, remote: &remote, repository: reference.path(), cancel: &cancel };
        let sending = Sending { content: &stores.content, pulled: &pulled, target, reference, options, times: &times };
        sending.blobs(&documents).map_err(|error| denied(error, reference))?;
        let mut size = 0;
        for (digest, bytes, parsed) in &documents {
            let (kind, is_top) = (kind(parsed), *digest == pulled.digest);
            let name = if is_top { reference.tag().unwrap_or("latest").to_owned() } else { digest.to_string() };
            let put = sending.target.put_manifest(&name, *digest, bytes, &kind);
            put.map_err(|error| denied(error, reference))?;
            size = bytes.len() as u64;
        }
        remember(stores, reference, id, &documents)?;
        let canonical = reference.with_digest(pulled.digest);
        // A digest names one image: the first, as with Docker.
        if names.get(&canonical).is_none() {
            stores.images.tags().set(&canonical, id, true)?;
        }
        lease.done()?;
        times.total.add(begun.elapsed());
        tracing::info!(image = %id, digest = %pulled.digest, reference = %reference, "all platforms pushed");
        Ok(Pushed { id, digest: pulled.digest, size, kept: true, times })
    }
}

/// Notes which blobs the image's layers are.
fn remember(stores: &Stores<'_>, reference: &Reference, id: ImageId, documents: &[Document]) -> Result<(), Error> {
    let config = stores.images.get(id)?;
    for (_, _, parsed) in documents {
        let AnyManifest::Manifest(manifest) = parsed else { continue };
        if manifest.config.digest != id.digest() || manifest.layers.len() != config.diff_ids().len() {
            continue;
        }
        let layers = config.diff_ids().iter().zip(&manifest.layers).filter(|(_, layer)| is_gzip(&layer.media_type));
        let found: Vec<_> = layers.map(|(diff, layer)| (*diff, layer.digest)).collect();
        stores.mappings.add(&reference.name(), &found)?;
    }
    Ok(())
}

/// What a document calls itself; else what it looks like.
fn kind(parsed: &AnyManifest) -> String {
    let (own, usual) = match parsed {
        AnyManifest::Manifest(manifest) => (&manifest.media_type, media_type::OCI_MANIFEST),
        AnyManifest::Index(index) => (&index.media_type, media_type::OCI_INDEX),
    };
    own.clone().filter(|own| !own.is_empty()).unwrap_or_else(|| usual.to_owned())
}

/// One push.
struct Sending<'a> {
    content: &'a Store,
    pulled: &'a Pulled,
    target: Target<'a>,
    reference: &'a Reference,
    options: &'a Options<'a>,
    times: &'a Arc<Times>,
}

impl Sending<'_> {
    /// Brings all blobs to the registry, the biggest first, some at once.
    fn blobs(&self, documents: &[Document]) -> Result<(), Error> {
        let found = documents.iter().flat_map(|(_, _, parsed)| blobs(parsed));
        let mut jobs: Vec<&Descriptor> =
            found.map(|blob| (blob.digest, blob)).collect::<BTreeMap<_, _>>().into_values().collect();
        jobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        for blob in &jobs {
            self.options.progress.item(&short(blob.digest), Status::Preparing);
        }
        in_parallel(&jobs, self.target.cancel, |blob| self.blob(blob))
    }

    fn blob(&self, blob: &Descriptor) -> Result<(), Error> {
        let (id, progress) = (short(blob.digest), self.options.progress);
        if self.target.has(blob.digest)?.is_some() {
            progress.item(&id, Status::ExistsThere);
            return Ok(());
        }
        if let Ok(from) = Reference::parse_name(&self.pulled.source_repository)
            && from.domain() == self.reference.domain()
            && from.path() != self.reference.path()
            && self.target.mount(blob.digest, from.path())?
        {
            progress.item(&id, Status::Mounted(from.path()));
            return Ok(());
        }
        let stored = Stored { path: self.content.layout().blob(blob.digest), digest: blob.digest, size: blob.size };
        let told = |done| progress.item(&id, Status::Pushing { done, total: blob.size });
        match self.target.send(&stored, &told) {
            Ok(_) => {}
            Err(Error::Digest { .. } | Error::Length { .. }) => {
                // The next pull shall not take it for what it is named after.
                self.content.remove(stored.digest)?;
                return Err(lost(&stored.path));
            }
            Err(error) => return Err(error),
        }
        self.times.bytes.fetch_add(blob.size, std::sync::atomic::Ordering::Relaxed);
        progress.item(&id, Status::Pushed);
        Ok(())
    }
}

/// A blob that is kept.
struct Stored {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl Stored {
    fn begin(&self, at: u64) -> Result<File, Error> {
        let mut file = File::open(&self.path).map_err(|_| lost(&self.path))?;
        file.seek(SeekFrom::Start(at)).context("read", &self.path)?;
        Ok(file)
    }
}

impl Source for Stored {
    fn known(&self) -> Option<(Digest, u64)> {
        Some((self.digest, self.size))
    }

    fn open<'a>(&'a self, at: u64, _: &'a Cancel) -> Pieces<'a> {
        let mut file = match self.begin(at) {
            Ok(file) => file,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        Box::new(std::iter::from_fn(move || {
            let mut piece = vec![0; PIECE];
            match file.read(&mut piece).context("read", &self.path) {
                Ok(0) => None,
                Ok(read) => {
                    piece.truncate(read);
                    Some(Ok(Bytes::from(piece)))
                }
                Err(error) => Some(Err(error.into())),
            }
        }))
    }
}
