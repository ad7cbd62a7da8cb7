//! An image goes out: layers that the registry lacks, then the config, the manifest last.
//!
//! For each layer, the first of these that works:
//!
//! | | when |
//! | --- | --- |
//! | the repository has the blob | one is known to be this layer (`distribution/`, or the kept manifest) |
//! | mounted from another repository of the registry | the same |
//! | copied from the registry it was pulled from | the image's manifest is kept, so that its digest stays |
//! | rebuilt and compressed | always |
//!
//! An image that was pulled is pushed with the manifest that it was pulled with, as long as each of its blobs can be had; else a manifest of
//! Docker's schema 2 is made.

mod compress;
mod platforms;
mod send;
mod source;
mod upload;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Serialize;
use strata_spec::{
    Cancel, ChainId, DiffId, Digest, ErrorKind, ImageConfig, ImageId, Reference, chain_ids, gojson,
    manifest::{Descriptor, Manifest, media_type},
    progress::{self, Progress, Status},
};

use crate::{
    Client, Error, Stores,
    client::Site,
    endpoint::Direction,
    kept,
    mappings::Source,
    pull::fetch::{Fetch, Wanted},
    times::Times,
};

use compress::gzip;
use source::{Document, Made, Pieces, Relay};
use upload::Target;

/// Layers under way at the same time.
const AT_ONCE: usize = 4;
/// Layers that are compressed at the same time, each on all cores.
const COMPRESSED_AT_ONCE: usize = 3;
/// Blobs of one layer that a registry is asked for, the newest first.
const CANDIDATES: usize = 5;

/// How to push.
pub struct Options<'a> {
    pub progress: &'a dyn Progress,
    /// Ends the push.
    pub cancel: &'a Cancel,
}

/// An image that was pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub id: ImageId,
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
    /// Whether it is the manifest that the image was pulled with.
    pub kept: bool,
    pub times: Arc<Times>,
}

/// One layer of the image.
struct Layer {
    chain: ChainId,
    diff: DiffId,
    /// Bytes of its files.
    size: u64,
    /// What the kept manifest says of it.
    kept: Option<Descriptor>,
}

impl Layer {
    fn short(&self) -> String {
        self.diff.short()
    }
}

impl Client {
    /// Pushes the image that `reference`, a tag, names.
    pub fn push(&self, stores: &Stores<'_>, reference: &Reference, options: &Options<'_>) -> Result<Pushed, Error> {
        self.push_image(stores, reference, options).map_err(|error| error.or_cancelled(options.cancel))
    }

    fn push_image(&self, stores: &Stores<'_>, reference: &Reference, options: &Options<'_>) -> Result<Pushed, Error> {
        let begun = Instant::now();
        let times = Arc::new(Times::default());
        let Some(id) = stores.images.tags().read()?.get(reference) else {
            return Err(Error::NotFound {
                reference: reference.familiar(),
                message: format!("An image does not exist locally with the tag: {}", reference.familiar_name()),
            });
        };
        options.progress.message(&format!("The push refers to repository [{}]", reference.name()));
        let config = stores.images.get(id)?;
        let mut lease = stores.images.layers().lease()?;
        if let Some(top) = strata_spec::chain_id(config.diff_ids()) {
            lease.hold(top)?;
        }
        let remote = self.registry(reference.domain())?;
        times.resolve.add(begun.elapsed());
        let cancel = options.cancel.child();
        let target = Target { net: &self.net, remote: &remote, repository: reference.path(), cancel: &cancel };
        let (silent, compressing) = (Mutex::default(), bounded(COMPRESSED_AT_ONCE));
        let push = Push {
            client: self,
            stores,
            reference,
            options,
            target,
            times: &times,
            cancel: &cancel,
            silent,
            compressing,
        };
        let (digest, bytes, kept) = push.run(&config).map_err(|error| denied(error, reference))?;
        lease.done()?;
        stores.images.tags().set(&reference.with_digest(digest), id, true)?;
        kept::keep_manifest(&stores.content, id, digest, &bytes)?;
        times.total.add(begun.elapsed());
        tracing::info!(image = %id, %digest, reference = %reference, "image pushed");
        Ok(Pushed { id, digest, size: bytes.len() as u64, kept, times })
    }
}

/// One push.
struct Push<'a> {
    client: &'a Client,
    stores: &'a Stores<'a>,
    reference: &'a Reference,
    options: &'a Options<'a>,
    target: Target<'a>,
    times: &'a Arc<Times>,
    cancel: &'a Cancel,
    /// Domains that do not answer.
    silent: Mutex<BTreeSet<String>>,
    /// Full while as many layers are compressed as may be.
    compressing: (Sender<()>, Receiver<()>),
}

impl Push<'_> {
    /// Pushes everything; returns digest and bytes of the manifest, and whether it is the one that was kept.
    fn run(&self, config: &ImageConfig) -> Result<(Digest, Vec<u8>, bool), Error> {
        let kept = self.kept(config);
        let mut layers = Vec::new();
        for (at, (chain, diff)) in chain_ids(config.diff_ids()).zip(config.diff_ids()).enumerate() {
            let size = self.stores.images.layers().get(chain)?.size;
            let kept = kept.as_ref().map(|(_, manifest)| manifest.layers[at].clone());
            layers.push(Layer { chain, diff: *diff, size, kept });
        }
        for layer in layers.iter().rev() {
            self.options.progress.item(&layer.short(), Status::Preparing);
        }
        let sent = self.layers(&layers)?;
        let descriptors: Vec<&Descriptor> = layers.iter().map(|layer| &sent[&layer.diff]).collect();
        let same = |(_, manifest): &(Vec<u8>, Manifest)| {
            manifest.layers.iter().zip(&descriptors).all(|(kept, sent)| kept.digest == sent.digest)
        };
        let (bytes, kind, is_kept) = match kept.filter(same) {
            Some((bytes, manifest)) => {
                let kind = manifest.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
                (bytes, kind, true)
            }
            None => (docker_manifest(config, &descriptors), media_type::DOCKER_MANIFEST.to_owned(), false),
        };
        let id = config.id().digest();
        if self.target.has(id)?.is_none() {
            self.target.send(&Document { digest: id, bytes: config.raw() }, &|_| {})?;
        }
        let digest = Digest::sha256(&bytes);
        let tag = self.reference.tag().unwrap_or("latest");
        self.target.put_manifest(tag, digest, &bytes, &kind)?;
        let of_docker = |d: &&Descriptor| is_gzip(&d.media_type);
        let found: Vec<_> = layers
            .iter()
            .zip(&descriptors)
            .filter(|(_, descriptor)| of_docker(descriptor))
            .map(|(layer, descriptor)| (layer.diff, descriptor.digest))
            .collect();
        self.stores.mappings.add(&self.reference.name(), &found)?;
        Ok((digest, bytes, is_kept))
    }

    /// The manifest that the image was pulled or pushed with before, if it is of this image.
    fn kept(&self, config: &ImageConfig) -> Option<(Vec<u8>, Manifest)> {
        let bytes = kept::manifest(&self.stores.content, config.id())?;
        let manifest = Manifest::parse(&bytes).ok()?;
        let fits = manifest.config.digest == config.id().digest() && manifest.layers.len() == config.diff_ids().len();
        fits.then_some((bytes, manifest))
    }

    /// Brings all layers to the registry, the biggest first, some at once; returns what each is there.
    fn layers(&self, layers: &[Layer]) -> Result<BTreeMap<DiffId, Descriptor>, Error> {
        let mut jobs: BTreeMap<DiffId, &Layer> = BTreeMap::new();
        for layer in layers {
            jobs.insert(layer.diff, layer);
        }
        let mut jobs: Vec<&Layer> = jobs.into_values().collect();
        jobs.sort_by_key(|layer| std::cmp::Reverse(layer.size));
        let done = Mutex::new(BTreeMap::new());
        in_parallel(&jobs, self.cancel, |layer| {
            let descriptor = self.layer(layer)?;
            done.lock().expect("no worker panics").insert(layer.diff, descriptor);
            Ok(())
        })?;
        Ok(done.into_inner().expect("no worker panics"))
    }

    /// Brings one layer to the registry.
    fn layer(&self, layer: &Layer) -> Result<Descriptor, Error> {
        let sources = self.stores.mappings.sources(layer.diff);
        if let Some(kept) = &layer.kept {
            if let Some(found) = self.there(layer, kept.digest, &sources, kept)? {
                return Ok(found);
            }
            match self.copied(layer, kept, &sources) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NoSpace || matches!(error, Error::Stopped) => {
                    return Err(error);
                }
                Err(error) => tracing::info!(diff = %layer.diff, %error, "the blob cannot be had; compressing anew"),
            }
        }
        let mut asked = Vec::new();
        for source in sources.iter().rev() {
            if asked.contains(&source.digest) || layer.kept.as_ref().is_some_and(|kept| kept.digest == source.digest) {
                continue;
            }
            asked.push(source.digest);
            let plain = Descriptor::new(media_type::DOCKER_LAYER_GZIP, source.digest, 0);
            if let Some(found) = self.there(layer, source.digest, &sources, &plain)? {
                return Ok(found);
            }
            if asked.len() == CANDIDATES {
                break;
            }
        }
        self.compressed(layer)
    }

    /// Finds a blob in the repository, or has it mounted there.
    fn there(
        &self,
        layer: &Layer,
        blob: Digest,
        sources: &[Source],
        like: &Descriptor,
    ) -> Result<Option<Descriptor>, Error> {
        let of_size = |size| Descriptor { size, ..like.clone() };
        if let Some(size) = self.target.has(blob)? {
            self.options.progress.item(&layer.short(), Status::ExistsThere);
            return Ok(Some(of_size(size)));
        }
        for source in sources.iter().rev().filter(|source| source.digest == blob) {
            let Ok(from) = Reference::parse_name(&source.source_repository) else { continue };
            let elsewhere = from.domain() != self.reference.domain();
            if elsewhere || from.path() == self.reference.path() {
                continue;
            }
            if self.target.mount(blob, from.path())? {
                self.options.progress.item(&layer.short(), Status::Mounted(from.path()));
                let size = self.target.has(blob)?;
                return Ok(size.map(of_size));
            }
        }
        Ok(None)
    }

    /// Copies a blob from a registry that has it; `None` if none is known.
    fn copied(&self, layer: &Layer, kept: &Descriptor, sources: &[Source]) -> Result<Option<Descriptor>, Error> {
        let is_source = |source: &&Source| source.digest == kept.digest;
        let repositories = sources.iter().rev().filter(is_source).map(|source| source.source_repository.clone());
        let known = self.known_repositories();
        let mut asked = BTreeSet::new();
        for name in repositories.chain(known) {
            let Ok(from) = Reference::parse_name(&name) else { continue };
            if from.name() == self.reference.name() {
                continue;
            }
            if !asked.insert(from.name()) {
                continue;
            }
            let Some(sites) = self.reachable(from.domain()) else { continue };
            match self.copy(layer, kept, &sites, from.path()) {
                Ok(()) => return Ok(Some(kept.clone())),
                Err(error @ (Error::Stopped | Error::PushDenied { .. })) => return Err(error),
                Err(error) => tracing::debug!(%name, %error, "the blob is not to be had here"),
            }
        }
        Ok(None)
    }

    /// The places to ask for what lies under `domain`, if one of them answers. One that does not is not waited for twice.
    fn reachable(&self, domain: &str) -> Option<Vec<Arc<Site>>> {
        if self.silent.lock().expect("no worker panics").contains(domain) {
            return None;
        }
        let sites = self.client.sites(domain, Direction::Pull).ok()?;
        let answers = self.client.net.wait(async {
            for site in &sites {
                if site.remote().await.is_ok() {
                    return true;
                }
            }
            false
        });
        if !answers {
            tracing::debug!(domain, "does not answer; blobs are not looked for there");
            self.silent.lock().expect("no worker panics").insert(domain.to_owned());
        }
        answers.then_some(sites)
    }

    /// Repositories that the image was pulled from: those of its digests.
    fn known_repositories(&self) -> Vec<String> {
        let Ok(names) = self.stores.images.tags().read() else { return Vec::new() };
        let Some(id) = names.get(self.reference) else { return Vec::new() };
        names.of(id).iter().filter(|name| name.digest().is_some()).map(Reference::name).collect()
    }

    /// Sends a blob of another registry on as it comes.
    fn copy(&self, layer: &Layer, kept: &Descriptor, sites: &[Arc<Site>], from: &str) -> Result<(), Error> {
        let fetch = Fetch {
            net: &self.client.net,
            sites,
            repository: from,
            progress: &progress::Silent,
            times: self.times.clone(),
            cancel: self.cancel,
        };
        let wanted = Wanted { digest: kept.digest, size: kept.size, urls: Vec::new() };
        let id = layer.short();
        let told = |done| self.options.progress.item(&id, Status::Pushing { done, total: kept.size });
        self.target.send(&Relay { fetch: &fetch, wanted }, &told)?;
        self.times.bytes.fetch_add(kept.size, Relaxed);
        self.options.progress.item(&id, Status::Pushed);
        Ok(())
    }

    /// Rebuilds the layer's tar, compresses it on all cores, and sends it as it comes.
    fn compressed(&self, layer: &Layer) -> Result<Descriptor, Error> {
        let (full, done) = &self.compressing;
        full.send(()).expect("its receiver is beside it");
        let result = self.compress(layer);
        done.recv().expect("its sender is beside it");
        result
    }

    fn compress(&self, layer: &Layer) -> Result<Descriptor, Error> {
        let (id, begun) = (layer.short(), Instant::now());
        let (digest, size) = std::thread::scope(|scope| {
            let open = || {
                let progress = self.options.progress;
                let (store, id) = (self.stores.images.layers().clone(), id.clone());
                let (chain, total) = (layer.chain, layer.size);
                let pieces = gzip(scope, move |to| {
                    let mut counted = Counted { to, done: 0, total, id: &id, progress };
                    store.write_tar(chain, Shared(&mut counted)).map_err(io::Error::other)
                });
                let pieces: Pieces<'_> = Box::new(pieces.map(|piece| piece.map_err(unreadable)));
                pieces
            };
            self.target.send(&Made(Box::new(open)), &|_| {})
        })?;
        self.times.inflate.add(begun.elapsed());
        self.times.bytes.fetch_add(size, Relaxed);
        self.options.progress.item(&id, Status::Pushed);
        Ok(Descriptor::new(media_type::DOCKER_LAYER_GZIP, digest, size))
    }
}

/// Does all jobs in their order, some at once; the first failure stops the others.
pub(crate) fn in_parallel<T: Sync>(
    jobs: &[T],
    cancel: &Cancel,
    work: impl Fn(&T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let worker = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Relaxed)) {
            let Err(error) = work(job) else { continue };
            cancel.cancel();
            next.store(jobs.len(), Relaxed);
            let mut failed = failed.lock().expect("no worker panics");
            if failed.is_none() || matches!(*failed, Some(Error::Stopped)) {
                *failed = Some(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(jobs.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    failed.into_inner().expect("no worker panics").map_or(Ok(()), Err)
}

/// The failure to rebuild or compress a layer.
fn unreadable(source: io::Error) -> Error {
    strata_archive::Error::Stream { action: "read the layer", source }.into()
}

pub(crate) fn is_gzip(kind: &str) -> bool {
    media_type::layer(kind).is_some_and(|layer| layer.compression == media_type::Compression::Gzip)
}

/// A refusal in words that say what to do.
pub(crate) fn denied(error: Error, reference: &Reference) -> Error {
    let repository = reference.familiar_name();
    match error {
        Error::Unauthorized { reason, .. } => Error::PushDenied { repository, message: reason },
        Error::Status { status: 401 | 403, message, .. } => {
            let message =
                if message.is_empty() { "requested access to the resource is denied".into() } else { message };
            Error::PushDenied { repository, message }
        }
        error => error,
    }
}

/// The bytes of a manifest of schema 2, as Docker writes it.
///
/// Source: distribution 2.8, `manifest/schema2/manifest.go`: indented by three spaces.
fn docker_manifest(config: &ImageConfig, layers: &[&Descriptor]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct One {
        media_type: String,
        size: u64,
        digest: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Whole {
        schema_version: u32,
        media_type: &'static str,
        config: One,
        layers: Vec<One>,
    }
    let one = |kind: &str, size, digest: Digest| One { media_type: kind.to_owned(), size, digest: digest.to_string() };
    let whole = Whole {
        schema_version: 2,
        media_type: media_type::DOCKER_MANIFEST,
        config: one(media_type::DOCKER_CONFIG, config.raw().len() as u64, config.id().digest()),
        layers: layers.iter().map(|layer| one(&docker_type(&layer.media_type), layer.size, layer.digest)).collect(),
    };
    gojson::to_vec_indent(&whole, "   ").expect("strings and numbers are JSON")
}

/// Docker's media type for a layer of the same compression.
fn docker_type(kind: &str) -> String {
    let layer = media_type::layer(kind);
    let own = match layer.map(|layer| layer.compression) {
        Some(media_type::Compression::None) => media_type::DOCKER_LAYER,
        Some(media_type::Compression::Zstd) => media_type::DOCKER_LAYER_ZSTD,
        _ => media_type::DOCKER_LAYER_GZIP,
    };
    own.to_owned()
}

/// Counts what passes.
struct Counted<'a> {
    to: &'a mut dyn Write,
    done: u64,
    total: u64,
    id: &'a str,
    progress: &'a dyn Progress,
}

/// A writer by reference.
struct Shared<'a, 'b>(&'a mut Counted<'b>);

impl Write for Shared<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let counted = &mut *self.0;
        let written = counted.to.write(bytes)?;
        counted.done += written as u64;
        let (done, total) = (counted.done.min(counted.total), counted.total);
        counted.progress.item(counted.id, Status::Pushing { done, total });
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
