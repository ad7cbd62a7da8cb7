//! A blob to a registry: mounted, whole in one request, or as a stream that is gone on with where it was cut off.
//!
//! ```text
//! POST  /v2/<name>/blobs/uploads/[?mount=<digest>&from=<other>]    201 mounted, or 202 with a Location
//! PATCH <Location>   all that is to come, as it comes              202 with the next Location
//! GET   <Location>                                                 204, Range: 0-8388607: how much has arrived
//! PUT   <Location>?digest=<digest>                                 201
//! ```
//!
//! A stream costs a registry one write to its disk, and its client no more memory than the pieces under way. After a cut the source is read again from its
//! beginning, which must give the same bytes, and what has arrived is left out.
//!
//! Source: OCI distribution-spec 1.1, "Pushing blobs".

use std::{
    io::{self, Read},
    pin::Pin,
    task::{self, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use reqwest::{
    Method, Response, Url,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RANGE},
};
use strata_spec::{Digest, Hasher};
use tokio::sync::mpsc;

use crate::{
    Error,
    auth::{Scope, pull_scope, push_scope},
    fetch::Stop,
    http::{self, ATTEMPTS, Call, Remote, failure, pause},
    net::Net,
    range::uploaded,
};

/// Bytes of a blob that goes in one request with its end.
const SMALL: usize = 1 << 20;
/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// Pieces on their way to the network.
const UNDER_WAY: usize = 4;
/// Bytes that an attempt must bring so that the failures before it do not count.
const PROGRESS: u64 = 1 << 20;
/// Times that a whole upload is begun anew.
const RESTARTS: usize = 3;

/// Where blobs are put.
pub(crate) struct Target<'a> {
    pub net: &'a Net,
    pub remote: &'a Remote,
    /// `library/debian`
    pub repository: &'a str,
    pub stop: &'a Stop,
}

impl Target<'_> {
    fn scope(&self) -> Scope {
        push_scope(self.repository)
    }

    fn url(&self, digest: Digest) -> Url {
        self.remote.url(&format!("v2/{}/blobs/{digest}", self.repository))
    }

    /// The size of a blob that the repository has.
    pub fn has(&self, digest: Digest) -> Result<Option<u64>, Error> {
        self.net.wait(self.stop.or(async {
            let response = self.remote.send(Call::new(Method::HEAD, self.url(digest), &self.scope())).await?;
            match response.status().as_u16() {
                200 => {
                    let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
                    Ok(length.and_then(|length| length.parse().ok()))
                }
                404 => Ok(None),
                _ => Err(failure(response).await),
            }
        }))
    }

    /// Asks the registry to take a blob over from another repository of its own; returns whether it did.
    pub fn mount(&self, digest: Digest, from: &str) -> Result<bool, Error> {
        self.net.wait(self.stop.or(async {
            let mut scope = self.scope();
            scope.extend(pull_scope(from));
            let mut url = self.remote.url(&format!("v2/{}/blobs/uploads/", self.repository));
            url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
            let response = self.remote.send(Call::new(Method::POST, url.clone(), &scope)).await?;
            match response.status().as_u16() {
                201 => Ok(true),
                202 => {
                    // It began an upload instead, which is not wanted.
                    if let Ok(location) = self.remote.location(&url, &response) {
                        let _ = self.remote.send(Call::new(Method::DELETE, location, &self.scope())).await;
                    }
                    Ok(false)
                }
                // Who may not read the other repository may still write this one.
                401 | 403 | 404 => Ok(false),
                _ => Err(failure(response).await),
            }
        }))
    }

    /// Sends a blob as `open` gives it; that is called again, and must give the same bytes, where the upload is gone on with or begun anew.
    /// `sent` is told how much has gone. Returns the blob's digest and size in bytes.
    pub fn send<R: Read + Send>(
        &self,
        mut open: impl FnMut() -> R,
        sent: impl Fn(u64) + Sync,
    ) -> Result<(Digest, u64), Error> {
        for _ in 0..RESTARTS {
            match lost(self.send_once(&mut open, &sent))? {
                Some(done) => return Ok(done),
                None => tracing::warn!(repository = self.repository, "the upload was lost; sending it again"),
            }
        }
        Err(Error::invalid(self.repository, format!("lost the upload of a layer {RESTARTS} times")))
    }

    /// Sends a blob in one upload.
    fn send_once<R: Read + Send>(
        &self,
        open: &mut impl FnMut() -> R,
        sent: &(impl Fn(u64) + Sync),
    ) -> Result<(Digest, u64), Error> {
        let mut from = open();
        let first = piece(&mut from, SMALL)?;
        if first.len() < SMALL {
            let (digest, size) = (Digest::sha256(&first), first.len() as u64);
            self.net.wait(self.stop.or(self.finish(None, 0, first, digest)))?;
            sent(size);
            return Ok((digest, size));
        }
        let mut upload = self.net.wait(self.stop.or(self.begin()))?;
        let (mut have, mut attempt) = (0, 0);
        let mut source = Some((first, from));
        loop {
            let (first, from) = source.take().unwrap_or_else(|| (Bytes::new(), open()));
            let error = match self.stream(&upload, first, from, have, sent) {
                Ok((next, digest, size)) => {
                    self.net.wait(self.stop.or(self.finish(Some(next), size, Bytes::new(), digest)))?;
                    return Ok((digest, size));
                }
                Err(error) => error,
            };
            attempt += 1;
            // A token that has ended was replaced by a new one.
            let again = matches!(error, Error::Status { status: 401 | 416, .. });
            if attempt == ATTEMPTS || !(error.is_passing() || again) {
                return Err(error);
            }
            tracing::debug!(%error, at = have, "the upload was cut off");
            let before = have;
            (upload, have) = self.net.wait(self.stop.or(async {
                pause(attempt, error.wait()).await;
                self.arrived(&upload).await
            }))?;
            if have >= before + PROGRESS {
                attempt = 0;
            }
        }
    }

    /// Sends what `first` and then `from` give, but for the first `have` bytes; returns where the upload goes on, the digest and the size.
    fn stream<R: Read + Send>(
        &self,
        upload: &Url,
        first: Bytes,
        mut from: R,
        have: u64,
        sent: &(impl Fn(u64) + Sync),
    ) -> Result<(Url, Digest, u64), Error> {
        let (to, pieces) = mpsc::channel(UNDER_WAY);
        let read = move || {
            let (mut hasher, mut size, mut next) = (Hasher::sha256(), 0, first);
            loop {
                if next.is_empty() {
                    next = match piece(&mut from, PIECE) {
                        Ok(piece) if piece.is_empty() => return Ok((hasher.finish(), size)),
                        Ok(piece) => piece,
                        Err(error) => {
                            // The request must not end as if this were all.
                            let _ = to.blocking_send(Err(io::Error::other("the layer cannot be read")));
                            return Err(error);
                        }
                    };
                }
                hasher.update(&next);
                let there = have.saturating_sub(size).min(next.len() as u64);
                size += next.len() as u64;
                let new = next.split_off(there as usize);
                next = Bytes::new();
                if !new.is_empty() && to.blocking_send(Ok(new)).is_err() {
                    return Err(Error::Stopped);
                }
                sent(size);
            }
        };
        std::thread::scope(|scope| {
            let reading = scope.spawn(read);
            let call = Call::new(Method::PATCH, upload.clone(), &self.scope())
                .header(CONTENT_TYPE, "application/octet-stream");
            let answer = self.net.wait(self.stop.or(async {
                let response = self.remote.stream(&call, reqwest::Body::wrap(Pieces(pieces))).await?;
                match response.status().as_u16() {
                    200..=204 => {
                        let next = self.remote.location(upload, &response).unwrap_or_else(|_| upload.clone());
                        Ok((next, arrived(&response)))
                    }
                    _ => Err(failure(response).await),
                }
            }));
            match (answer, reading.join().expect("reading a layer does not panic")) {
                (Err(error), Ok(_) | Err(Error::Stopped)) => Err(error),
                (_, Err(error)) => Err(error),
                (Ok((_, Some(arrived))), Ok((_, size))) if arrived != size => {
                    let reason = format!("it took {arrived} of {size} bytes");
                    Err(Error::Network { action: "send to", url: http::shown(upload), reason })
                }
                (Ok((next, _)), Ok((digest, size))) => Ok((next, digest, size)),
            }
        })
    }

    /// Begins an upload.
    async fn begin(&self) -> Result<Url, Error> {
        let url = self.remote.url(&format!("v2/{}/blobs/uploads/", self.repository));
        let response = self.remote.send(Call::new(Method::POST, url.clone(), &self.scope())).await?;
        match response.status().as_u16() {
            202 => self.remote.location(&url, &response),
            _ => Err(failure(response).await),
        }
    }

    /// Asks where an upload goes on, and how much of it has arrived.
    async fn arrived(&self, upload: &Url) -> Result<(Url, u64), Error> {
        let response = self.remote.send(Call::new(Method::GET, upload.clone(), &self.scope())).await?;
        if !response.status().is_success() {
            return Err(failure(response).await);
        }
        let next = self.remote.location(upload, &response).unwrap_or_else(|_| upload.clone());
        // A registry that does not say has to be sent all again.
        arrived(&response).map(|have| (next, have)).ok_or_else(|| gone(upload, "how much has arrived is not known"))
    }

    /// Sends `chunk`, which is what is left after `at` bytes, and closes the upload; begins one if there is none.
    async fn finish(&self, upload: Option<Url>, at: u64, chunk: Bytes, digest: Digest) -> Result<(), Error> {
        let mut attempt = 0;
        let mut current = upload;
        loop {
            let mut url = match &current {
                Some(upload) => upload.clone(),
                None => self.begin().await?,
            };
            url.query_pairs_mut().append_pair("digest", &digest.to_string());
            let mut call = Call::new(Method::PUT, url, &self.scope())
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(chunk.clone());
            call.again = false;
            let error = match self.remote.send(call).await {
                Ok(response) if matches!(response.status().as_u16(), 201 | 204) => return Ok(()),
                Ok(response) => failure(response).await,
                Err(error) => error,
            };
            attempt += 1;
            if attempt == ATTEMPTS || !error.is_passing() {
                return Err(error);
            }
            pause(attempt, error.wait()).await;
            // It may have been carried out, and only the answer was lost.
            let head = self.remote.send(Call::new(Method::HEAD, self.url(digest), &self.scope())).await?;
            if head.status().is_success() {
                return Ok(());
            }
            if let Some(upload) = &current {
                let (next, have) = self.arrived(upload).await?;
                if have != at {
                    return Err(gone(upload, "the upload is not where it was"));
                }
                current = Some(next);
            }
        }
    }
}

/// How many bytes of an upload an answer says have arrived. (One and none read the same.)
fn arrived(response: &Response) -> Option<u64> {
    uploaded(response.headers().get(RANGE)?.to_str().ok()?)
}

/// An upload that has to be begun anew.
fn gone(upload: &Url, message: &str) -> Error {
    Error::Status { url: http::shown(upload), status: 404, message: message.to_owned(), wait: None }
}

/// `None` where the registry does not know the upload any more.
fn lost<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Status { status: 404, message, .. }) if !message.contains("name") => {
            tracing::debug!(%message, "the registry does not know the upload");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads the next `len` bytes; fewer are the last.
fn piece(from: &mut impl Read, len: usize) -> Result<Bytes, Error> {
    let mut piece = vec![0; len];
    let mut have = 0;
    while have < len {
        match from.read(&mut piece[have..]) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(strata_archive::Error::Stream { action: "read the layer", source }.into()),
        }
    }
    piece.truncate(have);
    Ok(piece.into())
}

/// A body of pieces as they come.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
