//! Which layers are missing; unpacking them side by side; checking what came out.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use strata_archive::compression::{Compression, decompress};
use strata_layer::{Flight, Lease, Place, Unpacked};
use strata_spec::{
    Algorithm, Cancel, ChainId, DiffId, Digest, ErrorKind, Hasher, chain_ids,
    progress::{Progress, Status},
};

use super::{
    Options,
    plan::{Blob, LayerFile, Plan, Source},
};
use crate::{Error, Store};

/// Layers that unpack at the same time: each takes several threads and a bounded memory of its own.
const AT_ONCE: usize = 2;
/// How much the layers after the biggest give way to it.
const NICE: i32 = 10;
/// Bytes that tell how a stream is compressed.
const HEAD: usize = 6;

/// Layers that wait to be registered, by the ChainID they will have.
pub(super) type ReadyLayers = BTreeMap<ChainId, Ready>;

/// A layer whose content is known to be right.
pub(super) enum Ready {
    Unpacked(Box<Unpacked>),
    /// The same content as another layer of the same load.
    CopyOf(ChainId),
}

/// A layer to unpack.
pub(super) struct Job<'p> {
    pub chain: ChainId,
    pub diff: DiffId,
    /// Its place in its image, for messages.
    pub index: usize,
    pub file: &'p LayerFile,
}

/// What a load stands on: the lease on its layers, and which of them exist. While it lives, those stay.
pub(super) struct Claim<'s> {
    pub lease: Lease<'s>,
    /// Nobody else makes the missing ones meanwhile.
    pub flight: Option<Flight>,
    pub existing: BTreeSet<ChainId>,
}

/// Takes hold of the layers of `plan` that exist; for the others, waits for those who are making them now, where `fly` says so.
pub(super) fn claim<'s>(store: &'s Store, plan: &Plan, fly: bool) -> Result<Claim<'s>, Error> {
    let mut claim = Claim { lease: store.layers().lease()?, flight: None, existing: BTreeSet::new() };
    hold(store, plan, &mut claim)?;
    let missing: Vec<_> = plan.chains().filter(|chain| !claim.existing.contains(chain)).collect();
    if fly && !missing.is_empty() {
        claim.flight = Some(store.layers().flight(&missing)?);
        hold(store, plan, &mut claim)?;
    }
    Ok(claim)
}

/// Holds, of each image, the topmost layer that is whole: what lies below it stays with it.
fn hold(store: &Store, plan: &Plan, claim: &mut Claim<'_>) -> Result<(), Error> {
    for image in &plan.images {
        let chains: Vec<_> = chain_ids(image.config.diff_ids()).collect();
        let mut held = false;
        for chain in chains.into_iter().rev() {
            if claim.existing.contains(&chain) {
                held = true;
            } else if has_layer(store, chain)? && (held || is_held(claim, chain)?) {
                held = true;
                claim.existing.insert(chain);
            }
        }
    }
    Ok(())
}

fn is_held(claim: &mut Claim<'_>, chain: ChainId) -> Result<bool, Error> {
    match claim.lease.hold(chain) {
        Ok(_) => Ok(true),
        Err(error) if is_unusable(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The layers of `plan` that do not exist, each once, in the order of their images.
pub(super) fn missing<'p>(plan: &'p Plan, existing: &BTreeSet<ChainId>) -> Vec<Job<'p>> {
    let mut jobs = Vec::new();
    let mut seen = BTreeSet::new();
    for image in &plan.images {
        let diffs = image.config.diff_ids();
        for (index, (chain, file)) in chain_ids(diffs).zip(&image.layers).enumerate() {
            if !existing.contains(&chain) && seen.insert(chain) {
                jobs.push(Job { chain, diff: diffs[index], index, file });
            }
        }
    }
    jobs
}

/// Whether the store has the layer, whole as far as its record tells.
pub(super) fn has_layer(store: &Store, chain: ChainId) -> Result<bool, Error> {
    match store.layers().get(chain) {
        Ok(_) => Ok(true),
        Err(error) if is_unusable(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A layer that is not whole is as good as none: registering sets it aside.
fn is_unusable(error: &strata_layer::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged)
}

/// Unpacks what is missing, biggest first, some at once, and checks each against its DiffID, digest and size.
pub(super) fn unpack_missing(
    store: &Store,
    source: &dyn Source,
    plan: &Plan,
    claim: &Claim<'_>,
    options: &Options<'_>,
) -> Result<ReadyLayers, Error> {
    let mut jobs = Vec::new();
    for job in missing(plan, &claim.existing) {
        jobs.push((blob(source, &job)?.size, job));
    }
    jobs.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    let work = Work {
        places: Mutex::new(store.layers().places(jobs.len(), None)?),
        next: AtomicUsize::new(0),
        cancel: options.cancel.child(),
        done: Mutex::new(BTreeMap::new()),
        failed: Mutex::new(None),
    };
    let one = |first: Option<&(u64, Job<'_>)>| {
        let mut next = first;
        while let Some((_, job)) = next {
            match unpack(store, source, job, work.place(), &work.cancel, options) {
                Ok(unpacked) => drop(
                    work.done.lock().expect("no worker panics").insert(job.chain, Ready::Unpacked(Box::new(unpacked))),
                ),
                Err(error) => work.fail(error),
            }
            next = work.take(&jobs);
        }
    };
    std::thread::scope(|scope| {
        // The biggest layer's digest takes longest, and has to run all the time: the others only get what that leaves.
        let biggest = work.take(&jobs);
        for _ in 1..AT_ONCE.min(jobs.len()) {
            scope.spawn(|| {
                // Threads that this one starts inherit it. Nothing depends on it.
                let _ = rustix::process::nice(NICE);
                one(work.take(&jobs));
            });
        }
        one(biggest);
    });
    match work.failed.into_inner().expect("no worker panics") {
        Some(error) => Err(error),
        None => Ok(work.done.into_inner().expect("no worker panics")),
    }
}

/// What the workers share.
struct Work {
    /// One for each job.
    places: Mutex<Vec<Place>>,
    next: AtomicUsize,
    cancel: Cancel,
    done: Mutex<ReadyLayers>,
    /// The first failure: those after it come of stopping.
    failed: Mutex<Option<Error>>,
}

impl Work {
    fn take<'j, T>(&self, jobs: &'j [T]) -> Option<&'j T> {
        if self.cancel.is_cancelled() {
            return None;
        }
        jobs.get(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn place(&self) -> Place {
        self.places.lock().expect("no worker panics").pop().expect("each job has one")
    }

    fn fail(&self, error: Error) {
        self.failed.lock().expect("no worker panics").get_or_insert(error);
        self.cancel.cancel();
    }
}

/// Unpacks the layer of `job` into `place` and checks it.
pub(super) fn unpack(
    store: &Store,
    source: &dyn Source,
    job: &Job<'_>,
    place: Place,
    cancel: &Cancel,
    options: &Options<'_>,
) -> Result<Unpacked, Error> {
    let blob = blob(source, job)?;
    let item = job.diff.short();
    let watched = Watched::new(blob.reader, blob.size, cancel, options.progress, &item);
    let found = unpack_stream(store, watched, place, job.file.digest, options)?;
    check(job, &found)?;
    options.progress.item(&item, Status::Loaded);
    Ok(found.unpacked)
}

/// The file of a layer, which must be there with the size that its manifest says.
fn blob<'a>(source: &'a dyn Source, job: &Job<'_>) -> Result<Blob<'a>, Error> {
    let name = &job.file.name;
    let Some(blob) = source.blob(name)? else { return Err(job.file.missing(job.diff)) };
    check_size(job.file, blob.size)?;
    Ok(blob)
}

/// What came out of a layer's file.
pub(super) struct Found {
    pub unpacked: Unpacked,
    /// Of the file as it lies, if one was promised.
    pub digest: Option<Digest>,
}

/// Unpacks a layer, compressed or not, into `place`; hashes the file as it lies where its digest is promised and not its DiffID.
pub(super) fn unpack_stream(
    store: &Store,
    mut input: impl Read + Send,
    place: Place,
    promised: Option<Digest>,
    options: &Options<'_>,
) -> Result<Found, Error> {
    let mut head = Vec::with_capacity(HEAD);
    (&mut input).take(HEAD as u64).read_to_end(&mut head).map_err(unread)?;
    let plain = Compression::detect(&head) == Compression::Plain && Compression::unsupported(&head).is_none();
    let input = io::Cursor::new(head).chain(input);
    match promised {
        Some(digest) if !plain || digest.algorithm() != Algorithm::Sha256 => {
            let mut hashed = Hashed { inner: input, hasher: Hasher::new(digest.algorithm()) };
            let unpacked = {
                let (tar, _) = decompress(&mut hashed, &options.limits)?;
                store.layers().unpack_at(place, tar, &options.limits)?
            };
            // The digest is of all bytes, also of those behind the compressed stream's end.
            io::copy(&mut hashed, &mut io::sink()).map_err(unread)?;
            Ok(Found { unpacked, digest: Some(hashed.hasher.finish()) })
        }
        _ if plain => {
            let unpacked = store.layers().unpack_at(place, input, &options.limits)?;
            Ok(Found { digest: promised.map(|_| unpacked.diff_id.digest()), unpacked })
        }
        _ => {
            let (tar, _) = decompress(input, &options.limits)?;
            Ok(Found { unpacked: store.layers().unpack_at(place, tar, &options.limits)?, digest: None })
        }
    }
}

fn unread(source: io::Error) -> Error {
    strata_archive::Error::Stream { action: "read the archive", source }.into()
}

/// Checks an unpacked layer against what the documents say of it.
pub(super) fn check(job: &Job<'_>, found: &Found) -> Result<(), Error> {
    if let (Some(expected), Some(digest)) = (job.file.digest, found.digest)
        && expected != digest
    {
        return Err(Error::load(&job.file.name, format!("its digest is {digest}, its name says {expected}")));
    }
    if found.unpacked.diff_id != job.diff {
        return Err(Error::DiffMismatch {
            index: job.index,
            object: job.file.name.clone(),
            expected: Box::new(job.diff),
            found: Box::new(found.unpacked.diff_id),
        });
    }
    Ok(())
}

/// Checks a layer's file against the size that its descriptor says.
pub(super) fn check_size(file: &LayerFile, size: u64) -> Result<(), Error> {
    match file.size {
        Some(expected) if expected != size => {
            Err(Error::load(&file.name, format!("it has {size} bytes, its manifest says {expected}")))
        }
        _ => Ok(()),
    }
}

/// A stream whose bytes are hashed as they pass.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.hasher.update(&into[..read]);
        Ok(read)
    }
}

/// A stream that reports how far it is, and fails when the load is cancelled or another worker has failed.
pub(super) struct Watched<'a, R> {
    inner: R,
    done: u64,
    total: u64,
    cancel: &'a Cancel,
    progress: &'a dyn Progress,
    item: &'a str,
}

impl<'a, R> Watched<'a, R> {
    /// Watches `inner`, the file of layer `item`, which has `total` bytes.
    pub fn new(inner: R, total: u64, cancel: &'a Cancel, progress: &'a dyn Progress, item: &'a str) -> Self {
        progress.item(item, Status::Loading { done: 0, total });
        Self { inner, done: 0, total, cancel, progress, item }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("the load was cancelled, or another layer of the archive failed"));
        }
        let read = self.inner.read(into)?;
        self.done += read as u64;
        self.progress.item(self.item, Status::Loading { done: self.done, total: self.total });
        Ok(read)
    }
}
