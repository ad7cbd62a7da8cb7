//! The requests that bring a blob to a registry.
//!
//! ```text
//! HEAD  /v2/<name>/blobs/<digest>                                  200 it is there, 404 it is not
//! POST  /v2/<name>/blobs/uploads/?mount=<digest>&from=<other>      201 mounted, or 202 with a Location
//! POST  /v2/<name>/blobs/uploads/                                  202 with a Location
//! GET   <Location>                                                 204, Range: 0-8388607: how much has arrived
//! PUT   <Location>?digest=<digest>                                 201
//! ```
//!
//! Source: OCI distribution-spec 1.1, "Pushing blobs".

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use reqwest::{
    Method, Response, Url,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RANGE},
};
use strata_spec::{Cancel, Digest};
use tokio::sync::mpsc;

use crate::{
    Error,
    auth::{Scope, pull_scope, push_scope},
    http::{self, ATTEMPTS, Call, Remote, failure, pause},
    net::Net,
    range::uploaded,
};

/// What a blob is called as a body.
pub(crate) const OCTETS: &str = "application/octet-stream";
/// How long to wait for the registry to remove an upload that failed.
const ABANDON: Duration = Duration::from_secs(5);
const CHUNK_MIN: &str = "oci-chunk-min-length";

/// Where blobs are put.
pub(crate) struct Target<'a> {
    pub net: &'a Net,
    pub remote: &'a Remote,
    /// `library/debian`
    pub repository: &'a str,
    pub cancel: &'a Cancel,
}

impl Target<'_> {
    pub fn scope(&self) -> Scope {
        push_scope(self.repository)
    }

    /// Runs `work` to its end, unless everything is to stop.
    pub fn wait<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.net.until(self.cancel, work)
    }

    /// Waits before attempt `attempt` + 1.
    pub fn pause(&self, attempt: u32, asked: Option<Duration>) -> Result<(), Error> {
        self.wait(async {
            pause(attempt, asked).await;
            Ok(())
        })
    }

    fn url(&self, digest: Digest) -> Url {
        self.remote.url(&format!("v2/{}/blobs/{digest}", self.repository))
    }

    /// The size of a blob that the repository has.
    pub fn has(&self, digest: Digest) -> Result<Option<u64>, Error> {
        self.wait(async {
            let response = self.remote.send(Call::new(Method::HEAD, self.url(digest), &self.scope())).await?;
            match response.status().as_u16() {
                200 => {
                    let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
                    Ok(length.and_then(|length| length.parse().ok()))
                }
                404 => Ok(None),
                _ => Err(failure(response).await),
            }
        })
    }

    /// Asks the registry to take a blob over from another repository of its own; returns whether it did.
    pub fn mount(&self, digest: Digest, from: &str) -> Result<bool, Error> {
        self.wait(async {
            let mut scope = self.scope();
            scope.extend(pull_scope(from));
            let mut url = self.remote.url(&format!("v2/{}/blobs/uploads/", self.repository));
            url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
            let response = self.remote.send(Call::new(Method::POST, url.clone(), &scope)).await?;
            match response.status().as_u16() {
                201 => Ok(true),
                202 => {
                    // It began an upload instead, which is not wanted.
                    if let Ok(location) = self.remote.location(response.url(), &response) {
                        let _ = self.remote.send(Call::new(Method::DELETE, location, &self.scope())).await;
                    }
                    Ok(false)
                }
                // Who may not read the other repository may still write this one.
                401 | 403 | 404 => Ok(false),
                _ => Err(failure(response).await),
            }
        })
    }

    /// Puts a manifest under `name`, a tag or its digest.
    pub fn put_manifest(&self, name: &str, digest: Digest, bytes: &[u8], kind: &str) -> Result<(), Error> {
        self.wait(async {
            let url = self.remote.url(&format!("v2/{}/manifests/{name}", self.repository));
            let call = Call::new(Method::PUT, url, &self.scope()).header(CONTENT_TYPE, kind).body(bytes.to_vec());
            let response = self.remote.send(call).await?;
            if !response.status().is_success() {
                return Err(failure(response).await);
            }
            let found = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
            match found.and_then(|found| found.parse::<Digest>().ok()) {
                Some(found) if found != digest => Err(Error::Digest {
                    object: format!("the manifest {name} of {} on its registry", self.repository),
                    expected: Box::new(digest),
                    found: Box::new(found),
                }),
                _ => Ok(()),
            }
        })
    }

    /// Begins an upload; returns where it goes on, and the bytes that a chunk of it has at least.
    pub fn begin(&self) -> Result<(Url, u64), Error> {
        self.wait(self.begin_one())
    }

    async fn begin_one(&self) -> Result<(Url, u64), Error> {
        let url = self.remote.url(&format!("v2/{}/blobs/uploads/", self.repository));
        let response = self.remote.send(Call::new(Method::POST, url.clone(), &self.scope())).await?;
        match response.status().as_u16() {
            202 => {
                let least = response.headers().get(CHUNK_MIN).and_then(|value| value.to_str().ok()?.parse().ok());
                Ok((self.remote.location(response.url(), &response)?, least.unwrap_or_default()))
            }
            _ => Err(failure(response).await),
        }
    }

    /// Cancels an upload that failed, so that what has arrived of it does not stay on the registry. A registry that does not answer
    /// removes it in its own time.
    pub fn abandon(&self, upload: Url) {
        let call = Call::new(Method::DELETE, upload, &self.scope());
        let answer = self.net.wait(async { tokio::time::timeout(ABANDON, self.remote.try_once(&call)).await });
        match answer {
            Ok(Ok(response)) => tracing::debug!(status = %response.status(), "the upload was given up"),
            Ok(Err(error)) => tracing::debug!(%error, "the upload may stay on the registry"),
            Err(_) => tracing::debug!("the upload may stay on the registry: it does not answer"),
        }
    }

    /// Asks where an upload goes on, and how much of it has arrived.
    pub fn arrived(&self, upload: &Url) -> Result<(Url, u64), Error> {
        self.wait(self.ask(upload))
    }

    async fn ask(&self, upload: &Url) -> Result<(Url, u64), Error> {
        let response = self.remote.send(Call::new(Method::GET, upload.clone(), &self.scope())).await?;
        let (next, have) = self.arrived_at(upload, response).await?;
        // A registry that does not say has to be sent all again.
        have.map(|have| (next, have)).ok_or_else(|| gone(upload, "how much has arrived is not known"))
    }

    /// Where an answer says that an upload goes on, and how much of it it says has arrived.
    pub async fn arrived_at(&self, upload: &Url, response: Response) -> Result<(Url, Option<u64>), Error> {
        if !response.status().is_success() {
            return Err(failure(response).await);
        }
        let next = self.remote.location(response.url(), &response).unwrap_or_else(|_| upload.clone());
        Ok((next, arrived(&response)))
    }

    /// Sends `chunk`, which is what is left after `at` bytes, and closes the upload; begins one if there is none.
    pub fn finish(&self, upload: Option<Url>, at: u64, chunk: Bytes, digest: Digest) -> Result<(), Error> {
        let mut own = None;
        let closed = self.wait(self.close(upload, at, chunk, digest, &mut own));
        if let (Err(_), Some(own)) = (&closed, own) {
            self.abandon(own);
        }
        closed
    }

    /// `own` is the upload that was begun here last.
    async fn close(
        &self,
        mut upload: Option<Url>,
        at: u64,
        chunk: Bytes,
        digest: Digest,
        own: &mut Option<Url>,
    ) -> Result<(), Error> {
        let mut attempt = 0;
        loop {
            let url = match &upload {
                Some(upload) => upload.clone(),
                None => own.insert(self.begin_one().await?.0).clone(),
            };
            let mut call = Call::new(Method::PUT, closing(&url, digest), &self.scope())
                .header(CONTENT_TYPE, OCTETS)
                .body(chunk.clone());
            call.again = false;
            let error = match self.remote.send(call).await {
                Ok(response) if matches!(response.status().as_u16(), 201 | 204) => return Ok(()),
                Ok(response) => failure(response).await,
                Err(error) => error,
            };
            attempt += 1;
            if attempt == ATTEMPTS || !error.is_transient() {
                return Err(error);
            }
            pause(attempt, error.wait()).await;
            // It may have been carried out, and only the answer was lost.
            let head = self.remote.send(Call::new(Method::HEAD, self.url(digest), &self.scope())).await?;
            if head.status().is_success() {
                return Ok(());
            }
            if let Some(url) = &upload {
                let (next, have) = self.ask(url).await?;
                if have != at {
                    return Err(gone(url, "the upload is not where it was"));
                }
                upload = Some(next);
            }
        }
    }
}

/// The address that closes an upload.
pub(crate) fn closing(upload: &Url, digest: Digest) -> Url {
    let mut url = upload.clone();
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    url
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
pub(crate) fn lost<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Status { status: 404, message, .. }) if !message.contains("name") => {
            tracing::debug!(%message, "the registry does not know the upload");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A body of pieces as they come.
pub(crate) struct Body {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    /// Bytes still to come, where that is known.
    left: Option<u64>,
}

impl Body {
    pub fn new(pieces: mpsc::Receiver<io::Result<Bytes>>, size: Option<u64>) -> Self {
        Self { pieces, left: size }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = self.pieces.poll_recv(context);
        if let Poll::Ready(Some(Ok(piece))) = &polled {
            let len = piece.len() as u64;
            self.left = self.left.map(|left| left.saturating_sub(len));
        }
        polled.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
