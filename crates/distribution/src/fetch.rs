//! Blobs, from registries into `strata/partial`, several at once; whoever unpacks them reads behind.
//!
//! ```text
//! registry ─> piece ─> partial file ─> page cache ─> Follow (reads as far as is written)
//!                └──> sha256
//! ```
//!
//! A `Follow` comes to its end only when the whole blob is there and has its digest. What is cut off goes on with a range, on the next mirror
//! where there is one; only attempts that bring nothing count.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use reqwest::{
    Method, Response, Url,
    header::{CONTENT_RANGE, HeaderMap, RANGE},
};
use strata_durable::Context;
use strata_spec::{
    Cancel, Digest, Hasher,
    progress::{Progress as Reported, Status},
};

use crate::{
    Error,
    auth::pull_scope,
    client::Site,
    http::{self, ATTEMPTS, Call, failure, network},
    net::Net,
    partial::{Partial, Partials},
    range::content_range,
    times::Times,
};

/// Blobs fetched at the same time.
const AT_ONCE: usize = 4;
/// Bytes that an attempt must bring so that the failures before it do not count.
pub(crate) const PROGRESS: u64 = 16 << 10;
/// Bytes read at once of what is there already.
const PIECE: usize = 256 << 10;

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
    partial: Partial,
    /// Bytes that an earlier pull had left.
    pub resumed: u64,
    state: Mutex<State>,
    moved: Condvar,
    waited: Sum,
    read_up_to: AtomicU64,
}

#[derive(Default)]
struct State {
    written: u64,
    ended: Option<bool>,
}

impl Blob {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this")
    }

    fn advance(&self, written: u64) {
        self.state().written = written;
        self.moved.notify_all();
    }

    fn end(&self, whole: bool) {
        self.state().ended.get_or_insert(whole);
        self.moved.notify_all();
    }

    /// Its digest, short, as Docker shows it.
    pub fn short(&self) -> String {
        self.wanted.digest.hex().chars().take(12).collect()
    }

    /// Whether all of it is there and has its digest.
    pub fn is_whole(&self) -> bool {
        self.state().ended == Some(true)
    }

    /// Waits until all of it is there and has its digest; fails if that does not come.
    pub fn wait_whole(&self) -> io::Result<()> {
        let mut state = self.state();
        loop {
            match state.ended {
                Some(true) => return Ok(()),
                Some(false) => return Err(io::Error::other(Error::Stopped)),
                None => state = self.moved.wait(state).expect("nothing panics while it holds this"),
            }
        }
    }

    /// How long readers have waited for bytes.
    pub fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// Bytes that were read last.
    pub fn read_up_to(&self) -> u64 {
        self.read_up_to.load(Relaxed)
    }

    /// Gives the file, which is whole, another name for good.
    pub fn keep(&self, path: &Path) -> Result<(), Error> {
        self.partial.keep(path)
    }

    /// Removes the file: the layer is registered, or the bytes are wrong.
    pub fn remove(&self) -> Result<(), Error> {
        self.partial.remove()
    }
}

/// Reads a blob behind the fetch.
pub(crate) struct Follow {
    blob: Arc<Blob>,
    at: u64,
    known: u64,
    times: Arc<Times>,
}

impl Follow {
    pub fn new(blob: &Arc<Blob>, times: &Arc<Times>) -> Self {
        Self { blob: blob.clone(), at: 0, known: 0, times: times.clone() }
    }
}

impl Read for Follow {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.known {
            let begun = Instant::now();
            let mut state = self.blob.state();
            while state.written <= self.at && state.ended.is_none() {
                state = self.blob.moved.wait(state).expect("nothing panics while it holds this");
            }
            self.known = state.written;
            let ended = state.ended;
            drop(state);
            self.times.waiting.add(begun.elapsed());
            self.blob.waited.add(begun.elapsed());
            match ended {
                Some(false) => return Err(io::Error::other(Error::Stopped)),
                Some(true) if self.at == self.known => return Ok(0),
                _ => {}
            }
        }
        let most = into.len().min(usize::try_from(self.known - self.at).unwrap_or(usize::MAX));
        let read = self.blob.partial.file.read_at(&mut into[..most], self.at)?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the partial blob was cut short by somebody"));
        }
        self.at += read as u64;
        self.blob.read_up_to.store(self.at, Relaxed);
        Ok(read)
    }
}

/// What fetches blobs of one repository.
pub(crate) struct Fetch<'a> {
    pub net: &'a Net,
    /// The same repository on each, the one that had the manifest first.
    pub sites: &'a [Arc<Site>],
    /// `library/debian`
    pub repository: &'a str,
    pub progress: &'a dyn Reported,
    pub times: Arc<Times>,
    pub cancel: &'a Cancel,
}

/// The blobs of one pull, and those that fetch them.
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<Arc<Blob>>>,
    /// The first failure; those after it come of stopping.
    failed: Mutex<Option<Error>>,
}

impl Queue {
    /// Takes hold of the blobs' files; fetching begins with the first.
    pub fn new(partials: &Partials, wanted: Vec<Wanted>) -> Result<Self, Error> {
        let mut waiting = VecDeque::new();
        for wanted in wanted {
            let partial = partials.take(wanted.digest)?;
            let mut resumed = partial.bytes()?;
            if resumed > wanted.size {
                partial.file.set_len(0).context("empty", partial.shown())?;
                resumed = 0;
            }
            waiting.push_back(Arc::new(Blob {
                wanted,
                partial,
                resumed,
                state: Mutex::default(),
                moved: Condvar::new(),
                waited: Sum::default(),
                read_up_to: AtomicU64::new(0),
            }));
        }
        Ok(Self { waiting: Mutex::new(waiting), failed: Mutex::new(None) })
    }

    pub fn blobs(&self) -> Vec<Arc<Blob>> {
        self.waiting().iter().cloned().collect()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Blob>>> {
        self.waiting.lock().expect("nothing panics while it holds this")
    }

    /// The failure that ended the fetch, if one did.
    pub fn failure(&self) -> Option<Error> {
        self.failed.lock().expect("nothing panics while it holds this").take()
    }

    /// How many threads to run [`work`](Self::work) on.
    pub fn crew(&self) -> usize {
        self.waiting().len().min(AT_ONCE)
    }

    /// Fetches blobs until there are none left, or one fails.
    pub fn work(&self, fetch: &Fetch<'_>) {
        loop {
            let next = self.waiting().pop_front();
            let Some(blob) = next else { return };
            let result = if fetch.cancel.is_cancelled() { Err(Error::Stopped) } else { fetch.blob(&blob) };
            blob.end(result.is_ok());
            if let Err(error) = result {
                fetch.cancel.cancel();
                let mut failed = self.failed.lock().expect("nothing panics while it holds this");
                if !matches!(error, Error::Stopped) || failed.is_none() {
                    failed.get_or_insert(error);
                }
            }
        }
    }
}

/// Where one blob is.
struct Progress<'b> {
    blob: &'b Blob,
    file: &'b File,
    hasher: Hasher,
    have: u64,
}

impl Fetch<'_> {
    /// Fetches one blob, or the rest of it, and checks its length and digest.
    fn blob(&self, blob: &Blob) -> Result<(), Error> {
        let (size, id) = (blob.wanted.size, blob.short());
        let hasher = Hasher::new(blob.wanted.digest.algorithm());
        let mut at = Progress { blob, file: &blob.partial.file, hasher, have: 0 };
        self.begun_before(&mut at)?;
        self.progress.item(&id, Status::Downloading { done: at.have, total: size });
        let mut turns = Turns::new(self.places(&blob.wanted));
        while at.have < size {
            if self.cancel.is_cancelled() {
                return Err(Error::Stopped);
            }
            let before = at.have;
            let begun = Instant::now();
            let result = self.net.until(self.cancel, self.stream(turns.place(), &mut at));
            self.times.download.add(begun.elapsed());
            let Err(error) = result else { continue };
            tracing::debug!(blob = %blob.wanted.digest, have = at.have, size, %error, "the fetch was cut off");
            self.net.until(self.cancel, turns.next(error, at.have - before >= PROGRESS.min(size)))?;
        }
        self.progress.item(&id, Status::Verifying);
        let object = format!("blob {}", blob.wanted.digest);
        match at.hasher.finish() {
            found if found == blob.wanted.digest => {
                self.progress.item(&id, Status::Downloaded);
                Ok(())
            }
            found => {
                // Nobody shall go on with this.
                blob.remove()?;
                Err(Error::Digest { object, expected: Box::new(blob.wanted.digest), found: Box::new(found) })
            }
        }
    }

    /// Hashes what an earlier pull left.
    fn begun_before(&self, at: &mut Progress<'_>) -> Result<(), Error> {
        let mut piece = vec![0; if at.blob.resumed > 0 { PIECE } else { 0 }];
        while at.have < at.blob.resumed {
            let read = at.file.read_at(&mut piece, at.have).context("read", at.blob.partial.shown())?;
            if read == 0 {
                break;
            }
            let read = read.min((at.blob.resumed - at.have) as usize);
            at.hasher.update(&piece[..read]);
            at.have += read as u64;
            at.blob.advance(at.have);
        }
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

    /// One request; writes what it brings.
    async fn stream(&self, place: &Place, at: &mut Progress<'_>) -> Result<(), Error> {
        let (response, skip) = self.ask(place, &at.blob.wanted, at.have).await?;
        let url = response.url().clone();
        self.take_in(&url, response, skip, at).await
    }

    /// Asks for a blob from byte `have` on; returns the answer, and how many of its first bytes are to be left out.
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
        let skip = match response.status().as_u16() {
            200 => have,
            206 if asked => match check_range(response.headers(), have, size) {
                Ok(()) => 0,
                Err(what) => {
                    place.ranges.store(false, Relaxed);
                    return Err(Error::Network { action: "go on with", url: http::shown(&url), reason: what });
                }
            },
            416 => {
                place.ranges.store(false, Relaxed);
                let reason = "it says that there is nothing more".to_owned();
                return Err(Error::Network { action: "go on with", url: http::shown(&url), reason });
            }
            _ => return Err(failure(response).await),
        };
        let expected = size - (have - skip);
        if let Some(length) = response.content_length().filter(|length| *length != expected) {
            let object = format!("blob {} on {}", wanted.digest, remote.host);
            return Err(Error::Length { object, expected: size, found: length.saturating_add(size - expected) });
        }
        Ok((response, skip))
    }

    /// Writes the body of an answer behind what is there; the first `skip` bytes are there already.
    async fn take_in(
        &self,
        url: &Url,
        mut response: Response,
        mut skip: u64,
        at: &mut Progress<'_>,
    ) -> Result<(), Error> {
        let (size, id) = (at.blob.wanted.size, at.blob.short());
        loop {
            let chunk = response.chunk().await.map_err(|error| network("read from", url, &error))?;
            let Some(mut chunk) = chunk else { break };
            let over = skip.min(chunk.len() as u64);
            skip -= over;
            drop(chunk.split_to(over as usize));
            if at.have + chunk.len() as u64 > size {
                let object = format!("blob {}", at.blob.wanted.digest);
                return Err(Error::Length { object, expected: size, found: at.have + chunk.len() as u64 });
            }
            // This is the caller's own thread, not one of the network's: it may wait for the disk.
            at.file.write_all_at(&chunk, at.have).context("write", at.blob.partial.shown())?;
            at.have += chunk.len() as u64;
            at.blob.advance(at.have);
            let begun = Instant::now();
            at.hasher.update(&chunk);
            self.times.verify.add(begun.elapsed());
            self.times.bytes.fetch_add(chunk.len() as u64, Relaxed);
            self.progress.item(&id, Status::Downloading { done: at.have, total: size });
        }
        match at.have < size {
            true => Err(Error::Network {
                action: "read from",
                url: http::shown(url),
                reason: format!("it ends after {} of {size} bytes", at.have),
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

/// Whose turn it is to be asked for a blob, and when asking is of no more use.
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

    /// Takes note of a failure, after which a request had `moved` or not: returns when the next may be made, or the error if none is.
    pub async fn next(&mut self, error: Error, moved: bool) -> Result<(), Error> {
        if matches!(error, Error::Stopped | Error::Io(_)) {
            return Err(error);
        }
        self.at += 1;
        if !error.is_passing() {
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

/// Checks that an answer brings what was asked for; says what is wrong.
fn check_range(headers: &HeaderMap, from: u64, size: u64) -> Result<(), String> {
    let text = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match content_range(text) {
        Some(range) if range.first == from && range.last < size && range.total.is_none_or(|total| total == size) => {
            Ok(())
        }
        _ => Err(format!("asked for bytes {from}- of {size}, it brings {:?}", crate::error::shorten(text))),
    }
}

/// A sum of moments, from several threads.
#[derive(Debug, Default)]
pub struct Sum(AtomicU64);

impl Sum {
    pub fn add(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }
}
