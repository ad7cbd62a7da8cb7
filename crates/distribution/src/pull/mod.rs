//! An image comes in: resolve, fetch, unpack, register, name.
//!
//! ```text
//! manifest ─> config ─> plan ─> claim (which layers are missing; nobody else makes them meanwhile)
//!                                 └> blobs ─> content store ─> inflate ─> image store (unpack, DiffID, register, create, tag)
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | `fetch` | blobs into the content store, several at once |
//! | `layers` | the image store's view of them: tars, inflated while they arrive |
//! | `platforms` | the other platforms of an index, kept for a push |
//!
//! Nothing is registered before every blob has its digest and every layer its DiffID. An ingest is discarded when its layer is
//! registered; until then an interrupted pull resumes it.

pub(crate) mod fetch;
mod layers;
mod platforms;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Instant,
};

use reqwest::Method;
use strata_archive::Limits;
use strata_content::Lease;
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
    http::{ATTEMPTS, Call, failure, pause, read_all},
    kept,
    manifest::{Resolved, resolve},
    times::Times,
};

use fetch::{Blob, Fetch, Queue, Wanted};
use layers::Layers;
use platforms::Bringing;

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
        let mut lease = options.all_platforms.then(|| stores.content.lease()).transpose()?;
        let planned = Planned { names, ..planned };
        let image = Image { stores, options, resolved: &resolved, planned, times: &times };
        self.bring(&image, sites.clone(), reference.path(), lease.as_mut())?;
        image.remember(reference)?;
        if let Some(mut lease) = lease {
            let Options { progress, cancel, .. } = *options;
            let top = &resolved.top;
            let all = Bringing { stores, reference, id, top, progress, cancel, times: &times };
            self.bring_platforms(&all, &sites, &mut lease)?;
            lease.done()?;
            kept::sweep(stores)?;
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

    /// Fetches and unpacks what is missing, creates and names the image.
    ///
    /// What is wrong with the bytes is fetched once more from the beginning, if they were resumed, and then from the next place, if
    /// there is one. On a full disk nothing of it stays.
    fn bring(
        &self,
        image: &Image<'_>,
        mut sites: Vec<Arc<Site>>,
        repository: &str,
        mut lease: Option<&mut Lease>,
    ) -> Result<(), Error> {
        let content = &image.stores.content;
        content.expire()?;
        loop {
            let (queue, result) = self.try_bring(image, &sites, repository)?;
            let blobs = queue.blobs.as_slice();
            match result {
                Ok(()) => {
                    for blob in blobs {
                        match lease.as_deref_mut() {
                            Some(lease) => blob.ingest().commit(lease)?,
                            None => blob.ingest().discard()?,
                        }
                    }
                    drop(queue);
                    // A pull that was killed between registering and discarding left some of layers that are registered by now.
                    return Ok(content.forget_ingests(image.resolved.manifest.layers.iter().map(|layer| layer.digest))?);
                }
                Err(error) if error.kind() == ErrorKind::Invalid => {
                    let is_whole = |blob: &Blob| blob.arriving.is_whole();
                    let resumed = blobs.iter().any(|blob| blob.resumed > 0 && !is_whole(blob));
                    blobs.iter().filter(|blob| !is_whole(blob)).try_for_each(|blob| blob.ingest().discard())?;
                    if sites.len() > 1 {
                        sites.remove(0);
                    } else if !resumed {
                        return Err(error);
                    }
                    tracing::warn!(%error, "fetching again from the beginning");
                }
                Err(error) if error.kind() == ErrorKind::NoSpace => {
                    blobs.iter().try_for_each(|blob| blob.ingest().discard())?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Fetches and unpacks from `sites`; returns the blobs, whatever came of them.
    fn try_bring(
        &self,
        image: &Image<'_>,
        sites: &[Arc<Site>],
        repository: &str,
    ) -> Result<(Queue, Result<(), Error>), Error> {
        let Options { progress, limits, .. } = image.options;
        let loading = image.stores.images.begin_load(Plan { images: vec![image.planned.clone()] })?;
        let queue = Queue::new(&image.stores.content, image.wanted(&loading.missing()))?;
        room(image.stores, &image.resolved.digest, &queue)?;
        let cancel = image.options.cancel.child();
        let fetch = Fetch {
            net: &self.net,
            sites,
            repository,
            progress: *progress,
            times: image.times.clone(),
            cancel: &cancel,
        };
        let unpacked = Mutex::new(Instant::now());
        let layers = Layers { queue: &queue, limits, progress: *progress, times: image.times, unpacked };
        let options = load::Options { limits: limits.clone(), cancel: cancel.clone(), ..load::Options::default() };
        let (fetched, loaded) = std::thread::scope(|scope| {
            let workers = queue.start(scope, &fetch);
            let loaded = loading.finish(&layers, &options);
            if loaded.is_err() {
                cancel.cancel();
            }
            (workers.join(), loaded)
        });
        image.times.sync.add(layers.unpacked.into_inner().expect("nothing panics while it holds this").elapsed());
        let result = match (fetched, loaded) {
            // A load fails when bytes do not come; the fetch says why.
            (Err(error), _) if !matches!(error, Error::Stopped) => Err(error),
            (_, Err(error)) => Err(error.into()),
            (fetched, Ok(_)) => fetched,
        };
        if result.is_ok() {
            queue.blobs.iter().for_each(|blob| progress.item(&blob.short(), Status::Pulled));
        }
        Ok((queue, result))
    }
}

/// What is being pulled, and where to.
struct Image<'a> {
    stores: &'a Stores<'a>,
    options: &'a Options<'a>,
    resolved: &'a Resolved,
    planned: Planned,
    times: &'a Arc<Times>,
}

impl Image<'_> {
    /// The blobs of the layers that are missing.
    fn wanted(&self, missing: &[&LayerFile]) -> Vec<Wanted> {
        let names: BTreeSet<&str> = missing.iter().map(|file| file.name.as_str()).collect();
        let is_there = self.is_there();
        let mut wanted: BTreeMap<Digest, Wanted> = BTreeMap::new();
        for layer in &self.resolved.manifest.layers {
            let is_missing = names.contains(layer.digest.to_string().as_str());
            if !is_there {
                let status = if is_missing { Status::Pulling } else { Status::Exists };
                self.options.progress.item(&short(layer.digest), status);
            }
            if is_missing {
                let new = Wanted { digest: layer.digest, size: layer.size, urls: layer.urls.clone() };
                wanted.insert(layer.digest, new);
            }
        }
        wanted.into_values().collect()
    }

    /// Notes which blobs its layers are, and keeps its manifest, so that a later push needs to send neither.
    fn remember(&self, reference: &Reference) -> Result<(), Error> {
        let layers = self.planned.config.diff_ids().iter().zip(&self.resolved.manifest.layers);
        // Docker takes every blob that it finds here for a gzip stream.
        let found: Vec<_> =
            layers.filter(|(_, layer)| is_gzip(layer)).map(|(diff, layer)| (*diff, layer.digest)).collect();
        self.stores.mappings.add(&reference.name(), &found)?;
        kept::keep_manifest(&self.stores.content, self.planned.config.id(), self.resolved.digest, &self.resolved.bytes)
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
        return Err(Error::invalid(object(), "claims layers whose total size overflows 63 bits"));
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
        if attempt >= ATTEMPTS || !(error.is_transient() || others) {
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

/// Checks that there is room for what is still to come, and for what it will unpack to: at least as much.
fn room(stores: &Stores<'_>, manifest: &Digest, queue: &Queue) -> Result<(), Error> {
    let unpacked: u64 = queue.blobs.iter().map(|blob| blob.wanted.size).sum();
    free_bytes(stores, manifest, queue.to_come().saturating_add(unpacked))?;
    let path = stores.content.layout().root();
    let Ok(info) = strata_sys::fs::info(path) else { return Ok(()) };
    let needed = INODES_EACH * queue.blobs.len() as u64;
    // Some filesystems have as many as they like, and say zero.
    if info.total_inodes == 0 || needed <= info.free_inodes {
        return Ok(());
    }
    let (object, path, free) = (manifest.to_string(), path.to_owned(), info.free_inodes);
    Err(Error::NoRoom { object, path, what: "inodes", needed, free })
}

/// Checks that the content store's filesystem has `needed` bytes for `object`.
fn free_bytes(stores: &Stores<'_>, object: &Digest, needed: u64) -> Result<(), Error> {
    let path = stores.content.layout().root();
    match strata_sys::fs::info(path) {
        Ok(info) if needed > info.free_bytes => Err(Error::NoRoom {
            object: object.to_string(),
            path: path.to_owned(),
            what: "bytes",
            needed,
            free: info.free_bytes,
        }),
        _ => Ok(()),
    }
}

/// A digest, short, as Docker shows it.
pub(crate) fn short(digest: Digest) -> String {
    digest.hex().chars().take(12).collect()
}
