//! A blob to a registry: mounted, whole in one request, or in chunks that are gone on with where they were cut off.
//!
//! ```text
//! POST  /v2/<name>/blobs/uploads/[?mount=<digest>&from=<other>]    201 mounted, or 202 with a Location
//! PATCH <Location>   Content-Range: 0-8388607                      202 with the next Location
//! GET   <Location>                                                 204, Range: 0-8388607: how much has arrived
//! PUT   <Location>?digest=<digest>                                 201
//! ```
//!
//! Source: OCI distribution-spec 1.1, "Pushing blobs".

use std::io::{self, Read};

use bytes::Bytes;
use reqwest::{
    Method, Response, Url,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE},
};
use strata_spec::{Digest, Hasher};

use crate::{
    Error,
    auth::{Scope, pull_scope, push_scope},
    fetch::Stop,
    http::{self, ATTEMPTS, Call, Remote, failure, pause},
    net::Net,
    range::uploaded,
};

/// Bytes of one chunk. What is smaller goes in one request. Object stores behind registries take no smaller parts.
const CHUNK: usize = 5 << 20;
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

/// How an attempt to send a blob ended.
pub(crate) enum Sent {
    Done {
        digest: Digest,
        size: u64,
    },
    /// The registry has forgotten the upload: from the beginning.
    Lost,
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

    /// Sends a blob as `open` gives it; that is called again where the upload must begin anew.
    pub fn send<R: Read>(
        &self,
        mut open: impl FnMut() -> R,
        mut sent: impl FnMut(u64),
    ) -> Result<(Digest, u64), Error> {
        for _ in 0..RESTARTS {
            match self.send_once(open(), &mut sent)? {
                Sent::Done { digest, size } => return Ok((digest, size)),
                Sent::Lost => tracing::warn!(repository = self.repository, "the upload was lost; sending it again"),
            }
        }
        Err(Error::invalid(self.repository, format!("lost the upload of a layer {RESTARTS} times")))
    }

    /// Sends a blob once, from its beginning.
    pub fn send_once(&self, mut from: impl Read, sent: &mut impl FnMut(u64)) -> Result<Sent, Error> {
        let mut hasher = Hasher::sha256();
        let mut size = 0;
        let mut upload: Option<Url> = None;
        loop {
            let chunk = chunk(&mut from)?;
            hasher.update(&chunk);
            let (at, len) = (size, chunk.len() as u64);
            size += len;
            if chunk.len() < CHUNK {
                let digest = hasher.finish();
                let result = self.net.wait(self.stop.or(self.finish(upload, at, chunk, digest)));
                return match lost(result)? {
                    Some(()) => {
                        sent(len);
                        Ok(Sent::Done { digest, size })
                    }
                    None => Ok(Sent::Lost),
                };
            }
            match lost(self.net.wait(self.stop.or(self.patch(upload.take(), at, chunk))))? {
                Some(next) => upload = Some(next),
                None => return Ok(Sent::Lost),
            }
            sent(len);
        }
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

    /// Sends one chunk, which lies at `at`; returns where the next goes.
    async fn patch(&self, upload: Option<Url>, at: u64, chunk: Bytes) -> Result<Url, Error> {
        let mut upload = match upload {
            Some(upload) => upload,
            None => self.begin().await?,
        };
        let end = at + chunk.len() as u64;
        let (mut have, mut attempt) = (at, 0);
        while have < end {
            let rest = chunk.slice((have - at) as usize..);
            let call = Call::new(Method::PATCH, upload.clone(), &self.scope())
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_RANGE, &format!("{have}-{}", end - 1))
                .body(rest);
            let error = match self.remote.send(call).await {
                Ok(response) if matches!(response.status().as_u16(), 200..=204) => {
                    return self.remote.location(&upload, &response).or(Ok(upload));
                }
                Ok(response) => failure(response).await,
                Err(error) => error,
            };
            attempt += 1;
            let out_of_step = matches!(error, Error::Status { status: 416, .. });
            if attempt == ATTEMPTS || !(error.is_passing() || out_of_step) {
                return Err(error);
            }
            tracing::debug!(%error, at = have, "the upload was cut off");
            pause(attempt, error.wait()).await;
            (upload, have) = self.arrived(&upload, at, end).await?;
        }
        Ok(upload)
    }

    /// Asks how much of an upload has arrived: within the chunk from `at` to `end`, or it cannot be gone on with.
    async fn arrived(&self, upload: &Url, at: u64, end: u64) -> Result<(Url, u64), Error> {
        let response = self.remote.send(Call::new(Method::GET, upload.clone(), &self.scope())).await?;
        if !response.status().is_success() {
            return Err(failure(response).await);
        }
        let next = self.remote.location(upload, &response).unwrap_or_else(|_| upload.clone());
        let range = |response: &Response| uploaded(response.headers().get(RANGE)?.to_str().ok()?);
        match range(&response) {
            Some(have) if (at..=end).contains(&have) => Ok((next, have)),
            // One byte and none read the same.
            Some(0) if at <= 1 => Ok((next, at)),
            _ => Err(Error::Status {
                url: http::shown(upload),
                status: 404,
                message: "the upload is not where it was".to_owned(),
                wait: None,
            }),
        }
    }

    /// Sends the last chunk and closes the upload.
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
            if at > 0 && !chunk.is_empty() {
                call = call.header(CONTENT_RANGE, &format!("{at}-{}", at + chunk.len() as u64 - 1));
            }
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
                let end = at + chunk.len() as u64;
                let (next, have) = self.arrived(upload, at, end).await?;
                if have != at {
                    return Err(Error::Status {
                        url: http::shown(upload),
                        status: 404,
                        message: "the upload is half closed".to_owned(),
                        wait: None,
                    });
                }
                current = Some(next);
            }
        }
    }
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

/// Reads the next chunk: a shorter one is the last.
fn chunk(from: &mut impl Read) -> Result<Bytes, Error> {
    // Whole from the start: growing would need the room of it thrice.
    let mut chunk = Vec::with_capacity(CHUNK);
    let unread = |source| strata_archive::Error::Stream { action: "read the layer", source };
    let mut piece = [0; 64 << 10];
    while chunk.len() < CHUNK {
        let most = piece.len().min(CHUNK - chunk.len());
        match from.read(&mut piece[..most]) {
            Ok(0) => break,
            Ok(read) => chunk.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unread(error).into()),
        }
    }
    if chunk.len() < CHUNK / 2 {
        chunk.shrink_to_fit();
    }
    Ok(chunk.into())
}
