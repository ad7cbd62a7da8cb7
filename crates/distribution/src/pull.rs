//! An image comes in: resolve, fetch, unpack, register, name.
//!
//! ```text
//! manifest ─> config ─> plan ─> claim (which layers are missing; nobody else makes them meanwhile)
//!                                 └> blobs ─> partial files ─> inflate ─> image::load (unpack, DiffID, register, create, tag)
//! ```
//!
//! Blobs are fetched several at once, the biggest first, and unpacked as they come. Nothing is registered before every blob has its
//! digest and every layer its DiffID. A partial file goes when its layer is registered; until then an interrupted pull goes on with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    thread::Scope,
    time::Instant,
};

use reqwest::Method;
use strata_archive::{Limits, compression::decompress};
use strata_image::load::{self, LayerFile, Plan, Planned};
use strata_spec::{
    Cancel, Digest, ErrorKind, ImageId, Platform, Reference, chain_id,
    manifest::{Descriptor, media_type},
    progress::{Progress, Status},
};

use crate::{
    Client, Error, Stores,
    auth::pull_scope,
    client::Site,
    endpoint::Direction,
    fetch::{Blob, Fetch, Follow, Queue, Wanted},
    http::{ATTEMPTS, Call, failure, pause, read_all},
    manifest::{Resolved, resolve},
    partial::Partials,
    platforms::{Platforms, bring::Bringing},
    times::Times,
};

/// Bytes of the largest image config.
const CONFIG_MAX: u64 = strata_image::store::CONFIG_MAX;
/// Inodes that any layer takes, whatever is in it.
const INODES_EACH: u64 = 8;

/// How to pull.
pub struct Options<'a> {
    /// Which image of an index to take; `None` for this machine's.
    pub platform: Option<Platform>,
    /// Whether to keep the other platforms too, and all as it was served, so that a push of all platforms needs nothing else.
    pub all_platforms: bool,
    pub limits: Limits,
    pub progress: &'a dyn Progress,
    /// Ends the pull. What has arrived stays for the next one.
    pub cancel: &'a Cancel,
}

/// An image that was pulled, or was there already.
#[derive(Clone, Debug)]
pub struct Pulled {
    pub id: ImageId,
    /// Of what the reference named: the image's manifest, or an index.
    pub digest: Digest,
    pub reference: Reference,
    /// Whether the name had this image before.
    pub up_to_date: bool,
    pub times: Arc<Times>,
}

impl Client {
    /// Pulls the image of `reference`, which has a tag or a digest.
    pub fn pull(&self, stores: &Stores<'_>, reference: &Reference, options: &Options<'_>) -> Result<Pulled, Error> {
        self.pull_image(stores, reference, options).map_err(|error| error.or_cancelled(options.cancel))
    }

    fn pull_image(&self, stores: &Stores<'_>, reference: &Reference, options: &Options<'_>) -> Result<Pulled, Error> {
        let begun = Instant::now();
        let times = Arc::new(Times::default());
        let mut sites = self.sites(reference.domain(), Direction::Pull)?;
        let resolved = self.resolve(&mut sites, reference, options)?;
        if let Some(tag) = reference.tag().filter(|_| reference.digest().is_none()) {
            options.progress.message(&format!("{tag}: Pulling from {}", reference.path()));
        } else {
            options.progress.message(&format!("{}: Pulling from {}", reference.familiar(), reference.path()));
        }
        check_layers(stores, reference, &resolved)?;
        let object = format!("the config of {}", reference.familiar());
        let config = self.net.wait(small_blob(&sites, reference.path(), &resolved.manifest.config, &object))?;
        let mut names = names(reference, resolved.top.digest);
        let planned = plan(&object, config, &resolved, options)?;
        let id = planned.config.id();
        let known = stores.images.tags().read()?;
        let up_to_date = known.get(&names[0]) == Some(id);
        // An index is one digest for the images of all platforms, and a digest names one image: the first, as with Docker.
        if let Some(other) = known.get(&names[names.len() - 1]).filter(|other| *other != id) {
            let canonical = names.pop().expect("there is at least one");
            if names.is_empty() {
                return Err(Error::DigestTaken {
                    reference: canonical.familiar(),
                    other: Box::new(other),
                    wanted: Box::new(id),
                });
            }
            tracing::info!(name = %canonical, image = %other, "the digest stays with the image of another platform");
        }
        times.resolve.add(begun.elapsed());
        let keep = options.all_platforms.then(|| Platforms::new(&stores.platforms));
        let held = keep.as_ref().map(Platforms::hold).transpose()?;
        let planned = Planned { names, ..planned };
        let image = Image { stores, options, resolved: &resolved, planned, times: &times, keep };
        self.bring(&image, sites.clone(), reference.path())?;
        image.remember(reference)?;
        if image.keep.is_some() {
            let Options { progress, cancel, .. } = *options;
            let top = &resolved.top;
            self.bring_platforms(&Bringing { stores, reference, id, top, progress, cancel, times: &times }, &sites)?;
            drop(held);
            crate::platforms::sweep(stores)?;
        }
        times.total.add(begun.elapsed());
        let digest = resolved.top.digest;
        tracing::info!(image = %id, %digest, reference = %reference, "image pulled");
        Ok(Pulled { id, digest, reference: reference.clone(), up_to_date, times })
    }

    /// Finds the image on the first place that has it; the others follow, for its blobs.
    fn resolve(
        &self,
        sites: &mut [Arc<Site>],
        reference: &Reference,
        options: &Options<'_>,
    ) -> Result<Resolved, Error> {
        let mut last = None;
        for at in 0..sites.len() {
            let found = self.net.wait(async {
                let remote = sites[at].remote().await?;
                resolve(&remote, reference, options.platform.as_ref()).await
            });
            match found {
                Ok(resolved) => {
                    sites.rotate_left(at);
                    return Ok(resolved);
                }
                Err(error) => {
                    tracing::debug!(host = sites[at].host(), %error, "no manifest here");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or(Error::Stopped))
    }

    /// Fetches and unpacks what is missing, creates and names the image. What turns out wrong is tried once more, from the beginning
    /// and from the next place, if there was an earlier beginning or there is a next place.
    fn bring(&self, image: &Image<'_>, mut sites: Vec<Arc<Site>>, repository: &str) -> Result<(), Error> {
        let partials = Partials::open(&image.stores.partial)?;
        partials.sweep()?;
        loop {
            let queue = OnceLock::new();
            let result = self.try_bring(image, &sites, repository, &partials, &queue);
            let blobs = queue.get().map(|queue: &(Queue, Vec<Arc<Blob>>)| queue.1.as_slice()).unwrap_or_default();
            match result {
                Ok(()) => {
                    blobs.iter().try_for_each(|blob| image.is_done_with(blob))?;
                    // A pull that was killed between registering and removing left some of layers that are there by now.
                    return image.resolved.manifest.layers.iter().try_for_each(|layer| partials.forget(layer.digest));
                }
                Err(error) if error.kind() == ErrorKind::Invalid => {
                    let resumed = blobs.iter().any(|blob| blob.resumed > 0 && !blob.is_whole());
                    for blob in blobs.iter().filter(|blob| !blob.is_whole()) {
                        blob.remove()?;
                    }
                    if sites.len() > 1 {
                        sites.remove(0);
                    } else if !resumed {
                        return Err(error);
                    }
                    tracing::warn!(%error, "fetching again from the beginning");
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn try_bring(
        &self,
        image: &Image<'_>,
        sites: &[Arc<Site>],
        repository: &str,
        partials: &Partials,
        queue: &OnceLock<(Queue, Vec<Arc<Blob>>)>,
    ) -> Result<(), Error> {
        let cancel = image.options.cancel.child();
        let fetch = Fetch {
            net: &self.net,
            sites,
            repository,
            progress: image.options.progress,
            times: image.times.clone(),
            cancel: &cancel,
        };
        let plan = Plan { images: vec![image.planned.clone()] };
        let options = load::Options { limits: image.options.limits.clone(), ..load::Options::default() };
        let (unpacked, refused) = (Mutex::new(Instant::now()), Mutex::new(None));
        let loaded = std::thread::scope(|scope| {
            let layers =
                Layers { scope, image, partials, queue, fetch: &fetch, unpacked: &unpacked, refused: &refused };
            let loaded = image.stores.images.load_plan(&layers, plan, &options);
            if loaded.is_err() {
                cancel.cancel();
            }
            loaded
        });
        image.times.sync.add(unpacked.lock().expect("nothing panics while it holds this").elapsed());
        if let Some(error) = refused.into_inner().expect("nothing panics while it holds this") {
            return Err(error);
        }
        // Why bytes did not come is told by who fetched them.
        match (loaded, queue.get().and_then(|queue| queue.0.failure())) {
            (Err(_), Some(error)) if !matches!(error, Error::Stopped) => Err(error),
            (Err(error), _) => Err(error.into()),
            (Ok(_), _) => {
                for blob in queue.get().map(|queue| queue.1.as_slice()).unwrap_or_default() {
                    image.options.progress.item(&blob.short(), Status::Pulled);
                }
                Ok(())
            }
        }
    }
}

/// What is being pulled, and where to.
struct Image<'a> {
    stores: &'a Stores<'a>,
    options: &'a Options<'a>,
    resolved: &'a Resolved,
    planned: Planned,
    times: &'a Arc<Times>,
    /// Where its blobs stay.
    keep: Option<Platforms>,
}

impl Image<'_> {
    /// A layer is registered: its blob goes, or is kept.
    fn is_done_with(&self, blob: &Blob) -> Result<(), Error> {
        match &self.keep {
            Some(kept) => blob.keep(&kept.blob(blob.wanted.digest)),
            None => blob.remove(),
        }
    }

    /// Notes which blobs its layers are, and keeps its manifest, so that a later push needs to send neither.
    fn remember(&self, reference: &Reference) -> Result<(), Error> {
        let layers = self.planned.config.diff_ids().iter().zip(&self.resolved.manifest.layers);
        // Docker takes every blob that it finds here for a gzip stream.
        let found: Vec<_> =
            layers.filter(|(_, layer)| is_gzip(layer)).map(|(diff, layer)| (*diff, layer.digest)).collect();
        self.stores.mappings.add(&reference.name(), &found)?;
        keep_manifest(&self.stores.manifests, self.planned.config.id(), self.resolved.digest, &self.resolved.bytes)
    }

    /// Whether the image is there with all that it needs.
    fn is_there(&self) -> bool {
        let images = self.stores.images;
        let config = &self.planned.config;
        images.get(config.id()).is_ok()
            && chain_id(config.diff_ids()).is_none_or(|top| images.layers().get(top).is_ok())
    }
}

fn is_gzip(layer: &Descriptor) -> bool {
    media_type::layer(&layer.media_type).is_some_and(|layer| layer.compression == media_type::Compression::Gzip)
}

/// Keeps the manifest of image `id` in the folder `dir`, under its digest.
pub(crate) fn keep_manifest(dir: &Path, id: ImageId, digest: Digest, bytes: &[u8]) -> Result<(), Error> {
    let path = kept_manifest(dir, id);
    if strata_durable::read(&path).is_ok_and(|kept| kept == bytes) {
        return Ok(());
    }
    strata_durable::create_dir_all(dir, 0o700)?;
    tracing::debug!(image = %id, %digest, "manifest kept");
    Ok(strata_durable::write(&path, bytes, 0o600)?)
}

/// Where the manifest of image `id` is kept.
pub(crate) fn kept_manifest(dir: &Path, id: ImageId) -> std::path::PathBuf {
    dir.join(id.digest().hex())
}

/// The names that a pull gives: the tag if there is one and no digest, and always the digest.
fn names(reference: &Reference, digest: Digest) -> Vec<Reference> {
    let canonical = reference.with_digest(digest);
    match (reference.tag(), reference.digest()) {
        (Some(_), None) => vec![reference.clone(), canonical],
        _ => vec![canonical],
    }
}

/// Refuses a manifest with more layers than an image can have, before anything is fetched for it.
fn check_layers(stores: &Stores<'_>, reference: &Reference, resolved: &Resolved) -> Result<(), Error> {
    let layers = &resolved.manifest.layers;
    let most = stores.images.layers().max_layers();
    let object = || format!("{}@{}", reference.familiar_name(), resolved.digest);
    if layers.len() > most {
        let what = format!("has {} layers; with this driver and kernel an image has at most {most}", layers.len());
        return Err(Error::invalid(object(), what));
    }
    let total = layers.iter().try_fold(0u64, |sum, layer| sum.checked_add(layer.size));
    if total.is_none_or(|total| total > i64::MAX as u64) {
        return Err(Error::invalid(object(), "claims more bytes than there are numbers for"));
    }
    Ok(())
}

/// Reads the config and matches it with the manifest.
fn plan(object: &str, config: Vec<u8>, resolved: &Resolved, options: &Options<'_>) -> Result<Planned, Error> {
    let file = |layer: &Descriptor| LayerFile { name: layer.digest.to_string(), digest: None, size: Some(layer.size) };
    let files = resolved.manifest.layers.iter().map(file).collect();
    let planned = Planned::new(object, config, files)?;
    if let Some(wanted) = &options.platform {
        let document = planned.config.document();
        let found = Platform::new(&document.os, &document.architecture, &document.variant);
        if !document.architecture.is_empty() && !found.runs_on(wanted) {
            return Err(Error::NotFound {
                reference: object.to_owned(),
                message: format!(
                    "the image was found but does not match the specified platform: wanted {wanted}, actual: {found}"
                ),
            });
        }
    }
    Ok(planned)
}

/// Fetches a blob of a document's size into memory.
pub(crate) async fn small_blob(
    sites: &[Arc<Site>],
    repository: &str,
    descriptor: &Descriptor,
    object: &str,
) -> Result<Vec<u8>, Error> {
    if descriptor.size > CONFIG_MAX {
        return Err(Error::TooLarge { object: object.to_owned(), limit: CONFIG_MAX });
    }
    let mut attempt = 0;
    loop {
        let site = &sites[attempt as usize % sites.len()];
        let error = match blob_once(site, repository, descriptor, object).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        attempt += 1;
        let others = (attempt as usize) < sites.len();
        if attempt >= ATTEMPTS || !(error.is_passing() || others) {
            return Err(error);
        }
        if !others {
            pause(attempt, error.wait()).await;
        }
    }
}

async fn blob_once(site: &Site, repository: &str, descriptor: &Descriptor, object: &str) -> Result<Vec<u8>, Error> {
    let remote = site.remote().await?;
    let url = remote.url(&format!("v2/{repository}/blobs/{}", descriptor.digest));
    let response = remote.try_once(&Call::new(Method::GET, url, &pull_scope(repository))).await?;
    if !response.status().is_success() {
        return Err(failure(response).await);
    }
    let bytes = read_all(response, CONFIG_MAX, object).await?;
    let (object, expected) = (object.to_owned(), descriptor.digest);
    if bytes.len() as u64 != descriptor.size {
        return Err(Error::Length { object, expected: descriptor.size, found: bytes.len() as u64 });
    }
    match Digest::of(expected.algorithm(), &bytes) {
        found if found == expected => Ok(bytes),
        found => Err(Error::Digest { object, expected: Box::new(expected), found: Box::new(found) }),
    }
}

/// The layers of one image, as the image store's loading wants them.
struct Layers<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    image: &'env Image<'env>,
    partials: &'env Partials,
    queue: &'env OnceLock<(Queue, Vec<Arc<Blob>>)>,
    fetch: &'env Fetch<'env>,
    /// When the last layer was unpacked.
    unpacked: &'env Mutex<Instant>,
    /// Why it could not begin.
    refused: &'env Mutex<Option<Error>>,
}

impl Layers<'_, '_> {
    /// Takes hold of the files of the blobs, and checks that there is room for what is still to come.
    fn prepare(&self, wanted: Vec<Wanted>) -> Result<(Queue, Vec<Arc<Blob>>), Error> {
        let queue = Queue::new(self.partials, wanted)?;
        let blobs = queue.blobs();
        room(self.partials, &self.image.resolved.digest, &blobs)?;
        Ok((queue, blobs))
    }
}

impl load::Source for Layers<'_, '_> {
    /// Checks that there is room, and begins to fetch.
    fn begin(&self, missing: &[&LayerFile]) -> Result<(), strata_image::Error> {
        let names: BTreeSet<&str> = missing.iter().map(|file| file.name.as_str()).collect();
        let layers = &self.image.resolved.manifest.layers;
        let mut wanted: BTreeMap<Digest, Wanted> = BTreeMap::new();
        if !self.image.is_there() {
            for layer in layers {
                let is_missing = names.contains(layer.digest.to_string().as_str());
                let phase = if is_missing { Status::Pulling } else { Status::Exists };
                self.image.options.progress.item(&short(layer.digest), phase);
            }
        }
        for layer in layers.iter().filter(|layer| names.contains(layer.digest.to_string().as_str())) {
            let new = Wanted { digest: layer.digest, size: layer.size, urls: layer.urls.clone() };
            wanted.insert(layer.digest, new);
        }
        let mut wanted: Vec<Wanted> = wanted.into_values().collect();
        wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.size));
        let prepared = self.prepare(wanted).map_err(|error| {
            let reason = error.to_string();
            *self.refused.lock().expect("nothing panics while it holds this") = Some(error);
            strata_image::Error::Load { object: "the image".to_owned(), reason }
        })?;
        let queue = &self.queue.get_or_init(|| prepared).0;
        let fetch = self.fetch;
        for _ in 0..queue.crew() {
            self.scope.spawn(move || queue.work(fetch));
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Option<String>, strata_image::Error> {
        Ok(Some(name.to_owned()))
    }

    fn document(&self, _: &str) -> Result<Option<Vec<u8>>, strata_image::Error> {
        Ok(None)
    }

    fn blob(&self, name: &str) -> Result<Option<load::Blob<'_>>, strata_image::Error> {
        let blobs = self.queue.get().map(|queue| queue.1.as_slice()).unwrap_or_default();
        let Some(blob) = blobs.iter().find(|blob| blob.wanted.digest.to_string() == name) else { return Ok(None) };
        let reader = Unpacking::Waiting { blob: blob.clone(), limits: self.image.options.limits.clone() };
        let reader = Plain {
            reader,
            blob: blob.clone(),
            times: self.image.times.clone(),
            fetch: self.fetch,
            unpacked: self.unpacked,
            left: None,
        };
        Ok(Some(load::Blob { size: blob.wanted.size, reader: Box::new(reader) }))
    }
}

/// Checks that there is room for what is still to come, and for what it will unpack to: at least as much.
fn room(partials: &Partials, manifest: &Digest, blobs: &[Arc<Blob>]) -> Result<(), Error> {
    let dir = partials.dir();
    let Ok(info) = strata_sys::fs::info(dir) else { return Ok(()) };
    let to_come: u64 = blobs.iter().map(|blob| blob.wanted.size - blob.resumed).sum();
    let unpacked: u64 = blobs.iter().map(|blob| blob.wanted.size).sum();
    let no_room =
        |what, needed, free| Error::NoRoom { object: manifest.to_string(), path: dir.to_owned(), what, needed, free };
    let needed = to_come.saturating_add(unpacked);
    if needed > info.free_bytes {
        return Err(no_room("bytes", needed, info.free_bytes));
    }
    let inodes = INODES_EACH * blobs.len() as u64;
    // Some filesystems have as many as they like, and say zero.
    if info.total_inodes > 0 && inodes > info.free_inodes {
        return Err(no_room("inodes", inodes, info.free_inodes));
    }
    Ok(())
}

/// A digest, short, as Docker shows it.
pub(crate) fn short(digest: Digest) -> String {
    digest.hex().chars().take(12).collect()
}

/// A layer's tar, inflated behind the fetch.
struct Plain<'a> {
    reader: Unpacking,
    blob: Arc<Blob>,
    times: Arc<Times>,
    fetch: &'a Fetch<'a>,
    unpacked: &'a Mutex<Instant>,
    /// When the last read returned.
    left: Option<Instant>,
}

/// The decoder is made with the first read: until then nothing of the blob may be there.
enum Unpacking {
    Waiting { blob: Arc<Blob>, limits: Limits },
    Open(Box<dyn Read + Send>),
}

impl Read for Plain<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        if let Some(left) = self.left {
            self.times.write.add(begun - left);
        }
        let waited = self.blob.waited();
        if let Unpacking::Waiting { blob, limits } = &self.reader {
            let (inflated, _) = decompress(Follow::new(blob, &self.times), limits).map_err(io::Error::other)?;
            self.reader = Unpacking::Open(inflated);
        }
        let Unpacking::Open(reader) = &mut self.reader else { unreachable!("opened above") };
        let read = reader.read(into)?;
        let total = self.blob.wanted.size;
        self.fetch.progress.item(&self.blob.short(), Status::Extracting { done: self.blob.read_up_to(), total });
        if read == 0 {
            // A decoder may end before its input does: the digest is of all of it.
            self.blob.wait_whole()?;
            *self.unpacked.lock().expect("nothing panics while it holds this") = Instant::now();
        }
        let spent = begun.elapsed().saturating_sub(self.blob.waited().saturating_sub(waited));
        self.times.inflate.add(spent);
        self.left = Some(Instant::now());
        Ok(read)
    }
}
