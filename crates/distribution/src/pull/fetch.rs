//! Blobs, from registries into the content store, several at once; who unpacks them reads while they arrive.
//!
//! What is cut off continues with a range, on the next mirror where there is one; only attempts that bring nothing count.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::{Scope, ScopedJoinHandle},
    time::Instant,
};

use reqwest::{
    Method, Response, Url,
    header::{CONTENT_RANGE, HeaderMap, RANGE},
};
use strata_content::{Arriving, Ingest, Store};
use strata_spec::{
    Cancel, Digest,
    progress::{Progress, Status},
};

use crate::{
    Error,
    auth::pull_scope,
    client::Site,
    error::shorten,
    http::{self, ATTEMPTS, Call, failure, network},
    net::Net,
    range::content_range,
    times::Times,
};

/// Blobs fetched at the same time.
const AT_ONCE: usize = 4;
/// Bytes that an attempt must bring so that the failures before it do not count.
pub(crate) const PROGRESS: u64 = 16 << 10;

/// A blob to fetch, as its manifest describes it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub digest: Digest,
    pub size: u64,
    /// Where else a foreign layer lies.
    pub urls: Vec<String>,
}

/// A blob that is being fetched.
pub(crate) struct Blob {
    pub wanted: Wanted,
    /// Bytes that an earlier pull had left.
    pub resumed: u64,
    pub arriving: Arriving,
    /// Locked by the worker that fetches it.
    ingest: Mutex<Ingest>,
}

impl Blob {
    fn open(content: &Store, wanted: Wanted) -> Result<Self, Error> {
        let mut ingest = content.ingest(wanted.digest)?;
        if ingest.resumable() > wanted.size {
            ingest.restart()?;
        }
        let (resumed, arriving) = (ingest.resumable(), ingest.arriving().clone());
        Ok(Self { wanted, resumed, arriving, ingest: Mutex::new(ingest) })
    }

    /// The file in the content store. Waits while a worker is fetching the blob.
    pub fn ingest(&self) -> MutexGuard<'_, Ingest> {
        self.ingest.lock().expect("no worker panics")
    }

    /// Its digest, short, as Docker shows it.
    pub fn short(&self) -> String {
        super::short(self.wanted.digest)
    }
}

/// What fetches blobs of one repository.
pub(crate) struct Fetch<'a> {
    pub net: &'a Net,
    /// The same repository on each, the one that had the manifest first.
    pub sites: &'a [Arc<Site>],
    /// `library/debian`
    pub repository: &'a str,
    pub progress: &'a dyn Progress,
    pub times: Arc<Times>,
    pub cancel: &'a Cancel,
}

/// The blobs of one pull, in the order in which they are fetched.
pub(crate) struct Queue {
    pub blobs: Vec<Arc<Blob>>,
    next: AtomicUsize,
}

impl Queue {
    /// Takes hold of the blobs' files; the biggest is fetched first.
    pub fn new(content: &Store, mut wanted: Vec<Wanted>) -> Result<Self, Error> {
        wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.size));
        let open = |wanted| Ok(Arc::new(Blob::open(content, wanted)?));
        let blobs: Result<_, Error> = wanted.into_iter().map(open).collect();
        Ok(Self { blobs: blobs?, next: AtomicUsize::new(0) })
    }

    /// Bytes that are still to come.
    pub fn to_come(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.wanted.size - blob.resumed).fold(0, u64::saturating_add)
    }

    /// Starts workers on threads of `scope` that fetch all blobs. The first failure cancels `fetch.cancel`, and with it the others.
    pub fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, fetch: &'scope Fetch<'_>) -> Workers<'scope> {
        let workers = 0..AT_ONCE.min(self.blobs.len());
        Workers(workers.map(|_| scope.spawn(move || self.work(fetch))).collect())
    }

    /// Fetches blobs until there are none left. After a failure it ends the readers of those that are left.
    fn work(&self, fetch: &Fetch<'_>) -> Result<(), Error> {
        let mut outcome = Ok(());
        while let Some(blob) = self.blobs.get(self.next.fetch_add(1, Relaxed)) {
            let mut ingest = blob.ingest();
            let result = if fetch.cancel.is_cancelled() { Err(Error::Stopped) } else { fetch.blob(blob, &mut ingest) };
            if result.is_err() {
                ingest.stop();
                fetch.cancel.cancel();
            }
            outcome = first(outcome, result);
        }
        outcome
    }
}

/// Threads that fetch.
pub(crate) struct Workers<'scope>(Vec<ScopedJoinHandle<'scope, Result<(), Error>>>);

impl Workers<'_> {
    /// Waits for all of them; returns the failure that stopped them, if one did.
    pub fn join(self) -> Result<(), Error> {
        self.0.into_iter().map(|worker| worker.join().expect("no worker panics")).fold(Ok(()), first)
    }
}

/// The failure that counts: one that is not the consequence of another.
fn first(a: Result<(), Error>, b: Result<(), Error>) -> Result<(), Error> {
    match (&a, &b) {
        (Ok(()), _) => b,
        (Err(Error::Stopped), Err(_)) => b,
        _ => a,
    }
}

impl Fetch<'_> {
    /// Fetches one blob, or the rest of it, and checks its length and digest.
    fn blob(&self, blob: &Blob, ingest: &mut Ingest) -> Result<(), Error> {
        let (size, id) = (blob.wanted.size, blob.short());
        ingest.resume()?;
        self.progress.item(&id, Status::Downloading { done: ingest.len(), total: size });
        let mut turns = Turns::new(self.places(&blob.wanted));
        while ingest.len() < size {
            if self.cancel.is_cancelled() {
                return Err(Error::Stopped);
            }
            let before = ingest.len();
            let begun = Instant::now();
            let result = self.net.until(self.cancel, self.stream(turns.place(), blob, ingest));
            self.times.download.add(begun.elapsed());
            let Err(error) = result else { continue };
            let have = ingest.len();
            tracing::debug!(blob = %blob.wanted.digest, have, size, %error, "the fetch was cut off");
            self.net.until(self.cancel, turns.next(error, have - before >= PROGRESS.min(size)))?;
        }
        self.progress.item(&id, Status::Verifying);
        ingest.finish()?;
        self.progress.item(&id, Status::Downloaded);
        Ok(())
    }

    /// All places that may have a blob.
    pub fn places(&self, wanted: &Wanted) -> Vec<Place> {
        let place = |site: &Arc<Site>, url| Place { site: site.clone(), url, ranges: AtomicBool::new(true) };
        let mut places: Vec<Place> = self.sites.iter().map(|site| place(site, None)).collect();
        for url in wanted.urls.iter().filter_map(|url| url.parse::<Url>().ok()) {
            if matches!(url.scheme(), "http" | "https") {
                places.push(place(&self.sites[0], Some(url)));
            }
        }
        places
    }

    /// Makes one request and writes what it brings.
    async fn stream(&self, place: &Place, blob: &Blob, ingest: &mut Ingest) -> Result<(), Error> {
        let (response, skip) = self.ask(place, &blob.wanted, ingest.len()).await?;
        let url = response.url().clone();
        self.take_in(&url, response, skip, blob, ingest).await
    }

    /// Asks for a blob from byte `have` on; returns the answer, and how many of its first bytes are here already.
    pub async fn ask(&self, place: &Place, wanted: &Wanted, have: u64) -> Result<(Response, u64), Error> {
        let size = wanted.size;
        let remote = place.site.remote().await?;
        let path = || format!("v2/{}/blobs/{}", self.repository, wanted.digest);
        let url = place.url.clone().unwrap_or_else(|| remote.url(&path()));
        let mut call = Call::new(Method::GET, url.clone(), &pull_scope(self.repository));
        if have > 0 && place.ranges.load(Relaxed) {
            call = call.header(RANGE, &format!("bytes={have}-"));
        }
        let asked = call.headers.contains_key(RANGE);
        let response = remote.try_once(&call).await?;
        let refused = |reason| {
            place.ranges.store(false, Relaxed);
            Error::Network { action: "resume", url: http::shown(&url), reason }
        };
        let skip = match response.status().as_u16() {
            200 => have,
            206 if asked => check_range(response.headers(), have, size).map(|()| 0).map_err(refused)?,
            416 => return Err(refused("it says that there is nothing more".to_owned())),
            _ => return Err(failure(response).await),
        };
        let expected = size - (have - skip);
        if let Some(length) = response.content_length().filter(|length| *length != expected) {
            let object = format!("blob {} on {}", wanted.digest, remote.host);
            return Err(Error::Length { object, expected: size, found: length.saturating_add(size - expected) });
        }
        Ok((response, skip))
    }

    /// Writes the body of an answer behind what is here, without its first `skip` bytes.
    async fn take_in(
        &self,
        url: &Url,
        mut response: Response,
        mut skip: u64,
        blob: &Blob,
        ingest: &mut Ingest,
    ) -> Result<(), Error> {
        let (size, id) = (blob.wanted.size, blob.short());
        loop {
            let chunk = response.chunk().await.map_err(|error| network("read from", url, &error))?;
            let Some(mut chunk) = chunk else { break };
            let over = skip.min(chunk.len() as u64);
            skip -= over;
            drop(chunk.split_to(over as usize));
            if ingest.len() + chunk.len() as u64 > size {
                let object = format!("blob {}", blob.wanted.digest);
                return Err(Error::Length { object, expected: size, found: ingest.len() + chunk.len() as u64 });
            }
            // This is the caller's own thread, not one of the network's: it may wait for the disk.
            self.times.verify.add(ingest.append(&chunk)?);
            self.times.bytes.fetch_add(chunk.len() as u64, Relaxed);
            self.progress.item(&id, Status::Downloading { done: ingest.len(), total: size });
        }
        match ingest.len() < size {
            true => Err(Error::Network {
                action: "read from",
                url: http::shown(url),
                reason: format!("it ends after {} of {size} bytes", ingest.len()),
            }),
            false => Ok(()),
        }
    }
}

/// One place that may have a blob.
pub(crate) struct Place {
    site: Arc<Site>,
    /// Where a foreign layer lies; else the blob is in the repository.
    url: Option<Url>,
    /// Whether it is trusted with ranges.
    ranges: AtomicBool,
}

/// The order in which places are asked for a blob, and when asking is of no more use.
pub(crate) struct Turns {
    places: Vec<Place>,
    at: usize,
    /// Attempts in a row that brought nothing.
    failures: u32,
    refusals: usize,
}

impl Turns {
    pub fn new(places: Vec<Place>) -> Self {
        Self { places, at: 0, failures: 0, refusals: 0 }
    }

    pub fn place(&self) -> &Place {
        &self.places[self.at % self.places.len()]
    }

    /// Takes note of a failure, after which a request had `moved` or not. Returns when the next may be made, or the error if none is.
    pub async fn next(&mut self, error: Error, moved: bool) -> Result<(), Error> {
        if matches!(error, Error::Stopped | Error::Io(_) | Error::Content(_)) {
            return Err(error);
        }
        self.at += 1;
        if !error.is_transient() {
            self.refusals += 1;
            return if self.refusals >= self.places.len() { Err(error) } else { Ok(()) };
        }
        self.failures = if moved { 0 } else { self.failures + 1 };
        if self.failures == ATTEMPTS * self.places.len().min(2) as u32 {
            return Err(error);
        }
        // Another mirror is asked at once.
        if !moved && self.at.is_multiple_of(self.places.len()) || error.wait().is_some() {
            http::pause(self.failures.max(1), error.wait()).await;
        }
        Ok(())
    }
}

/// Checks that an answer brings what was asked for; the error says what is wrong.
fn check_range(headers: &HeaderMap, from: u64, size: u64) -> Result<(), String> {
    let text = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match content_range(text) {
        Some(range) if range.first == from && range.last < size && range.total.is_none_or(|total| total == size) => {
            Ok(())
        }
        _ => Err(format!("asked for bytes {from}- of {size}, it brings {:?}", shorten(text))),
    }
}
