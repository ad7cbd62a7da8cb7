//! Uploads: end-4, end-5, end-6, end-11, end-13, end-14.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{body::Incoming, header};
use strata_spec::{Algorithm, Digest};

use super::{Body, CONTENT_DIGEST, Response, blocking, finish, range, reply, request::Request};
use crate::{
    auth::Action,
    error::{Code, Error},
    name::{RepoName, parse_digest},
    notify::{Happened, What},
    store::Mounted,
    upload::Session,
};

/// Time limit for the next bytes of a body.
pub const IDLE: Duration = Duration::from_secs(60);
/// Bytes gathered before they are hashed and written. An upload holds two batches.
const BATCH: usize = 256 << 10;
/// Maximum number of pieces in a batch.
const PIECES: usize = 64;

impl Request<'_> {
    /// `POST`: begins an upload, mounts a blob, or receives a whole blob.
    pub async fn begin(&self, name: RepoName, body: Incoming) -> Result<Response, Error> {
        self.service.may_write()?;
        if let Some(mount) = self.param("mount").and_then(|text| parse_digest(text).ok())
            && self.mount(&name, mount).await? == Mounted::Yes
        {
            tracing::info!(%name, digest = %mount, "blob mounted");
            return self.created(&name, mount, None);
        }
        let digest = self.digest()?;
        let algorithm = match (digest, self.param("digest-algorithm")) {
            (Some(digest), _) => digest.algorithm(),
            (None, None | Some("sha256")) => Algorithm::Sha256,
            (None, Some("sha512")) => Algorithm::Sha512,
            (None, Some(other)) => {
                let message = format!("the digest algorithm {other:.40?} is neither sha256 nor sha512");
                return Err(Error::new(Code::DigestInvalid, message));
            }
        };
        let size = digest.and_then(|_| self.content_length());
        let (uploads, repo) = (self.service.uploads.clone(), name.clone());
        let id = blocking(move || uploads.begin(&repo, algorithm, size)).await?;
        match digest {
            None => self.progress(202, &name, &id, 0),
            Some(digest) => {
                let session = self.service.uploads.enter(&name, &id).await?;
                let (session, received) = receive(session, body).await?;
                if let Err(error) = received {
                    // The client does not know this upload.
                    blocking(move || session.cancel()).await?;
                    return Err(error);
                }
                self.commit(&name, session, digest).await
            }
        }
    }

    /// Mounts a blob if the client may read it where it is.
    async fn mount(&self, name: &RepoName, digest: Digest) -> Result<Mounted, Error> {
        let from = self.param("from").filter(|from| !from.is_empty());
        let from = match from.map(str::parse::<RepoName>) {
            Some(Ok(from)) if !self.identity.may(&from, Action::Pull) => return Ok(Mounted::NotThere),
            Some(Ok(from)) => Some(from),
            Some(Err(_)) => return Ok(Mounted::NotThere),
            None => None,
        };
        let (store, name, identity) = (self.service.store.clone(), name.clone(), self.identity.clone());
        blocking(move || {
            // Without a source: the answer must not reveal a blob that the client may not read.
            if from.is_none()
                && !identity.is_unlimited()
                && !store.is_readable(digest, &mut |repo| identity.may(repo, Action::Pull))?
            {
                return Ok(Mounted::NotThere);
            }
            store.mount(&name, digest, from.as_ref())
        })
        .await
    }

    /// `GET`: the length of an upload.
    pub async fn status(&self, name: RepoName, id: &str) -> Result<Response, Error> {
        let session = self.service.uploads.enter(&name, id).await?;
        self.progress(204, &name, id, session.len())
    }

    /// `DELETE`: cancels an upload.
    pub async fn cancel(&self, name: RepoName, id: &str) -> Result<Response, Error> {
        let session = self.service.uploads.enter(&name, id).await?;
        blocking(move || session.cancel()).await?;
        finish(reply(204), Body::empty())
    }

    /// `PATCH`: appends a chunk or a stream.
    pub async fn append(&self, name: RepoName, id: &str, body: Incoming) -> Result<Response, Error> {
        self.service.may_write()?;
        let session = self.service.uploads.enter(&name, id).await?;
        self.check_chunk(&name, id, session.len())?;
        let (session, received) = receive(session, body).await?;
        received?;
        self.progress(202, &name, id, session.len())
    }

    /// `PUT`: completes an upload, perhaps with its last chunk.
    pub async fn complete(&self, name: RepoName, id: &str, body: Incoming) -> Result<Response, Error> {
        self.service.may_write()?;
        let digest = self.digest()?.ok_or_else(|| {
            Error::new(Code::DigestInvalid, "the end of an upload needs the parameter digest=<algorithm>:<hex>")
        })?;
        let mut session = self.service.uploads.enter(&name, id).await?;
        self.check_chunk(&name, id, session.len())?;
        session.prefer(digest.algorithm());
        let (session, received) = receive(session, body).await?;
        received?;
        self.commit(&name, session, digest).await
    }

    async fn commit(&self, name: &RepoName, session: Session, digest: Digest) -> Result<Response, Error> {
        let size = blocking(move || session.commit(digest)).await?;
        tracing::info!(%name, %digest, size, "blob stored");
        self.created(name, digest, Some(size))
    }

    fn created(&self, name: &RepoName, digest: Digest, size: Option<u64>) -> Result<Response, Error> {
        self.service.notify.tell(|| Happened {
            what: if size.is_some() { What::Push } else { What::Mount },
            name: name.clone(),
            digest: Some(digest),
            tag: None,
            media_type: "application/octet-stream".into(),
            size: size.unwrap_or(0),
            actor: self.identity.user.clone(),
            manifest: None,
        });
        let builder = reply(201)
            .header(header::LOCATION, self.location(&format!("/v2/{name}/blobs/{digest}")))
            .header(CONTENT_DIGEST, digest.to_string())
            .header(header::CONTENT_LENGTH, 0);
        finish(builder, Body::empty())
    }

    /// Checks that a chunk begins where the upload ends and has the length that its headers state.
    fn check_chunk(&self, name: &RepoName, id: &str, at: u64) -> Result<(), Error> {
        let Some(value) = self.headers.get(header::CONTENT_RANGE) else { return Ok(()) };
        let text = value.to_str().unwrap_or_default();
        let problem = match range::chunk(text) {
            None => format!("the Content-Range {text:.100?} is not FIRST-LAST"),
            Some((first, _)) if first != at => format!("the chunk begins at {first}, the upload has {at} bytes"),
            Some((first, last)) => match self.content_length() {
                Some(len) if last.checked_sub(first).is_none_or(|more| more.checked_add(1) != Some(len)) => {
                    let message = format!("the Content-Range {first}-{last} is not of {len} bytes");
                    return Err(Error::new(Code::SizeInvalid, message));
                }
                _ => return Ok(()),
            },
        };
        Err(Error::new(Code::RangeInvalid, problem)
            .with_header("location", self.location(&format!("/v2/{name}/blobs/uploads/{id}")))
            .with_header("docker-upload-uuid", id)
            .with_header("range", shown(at)))
    }

    fn progress(&self, status: u16, name: &RepoName, id: &str, len: u64) -> Result<Response, Error> {
        let mut builder = reply(status)
            .header(header::LOCATION, self.location(&format!("/v2/{name}/blobs/uploads/{id}")))
            .header("docker-upload-uuid", id)
            .header(header::RANGE, shown(len));
        if status != 204 {
            builder = builder.header(header::CONTENT_LENGTH, 0);
        }
        finish(builder, Body::empty())
    }
}

/// The `Range` of an upload: the offset of its last byte, and 0 for an empty upload.
fn shown(len: u64) -> String {
    format!("0-{}", len.saturating_sub(1))
}

/// Receives a body into an upload: one batch is hashed and written on another thread while the next is gathered.
///
/// Returns the session also if the body was cut off: the received bytes are kept, and the client may resume.
async fn receive(session: Session, mut body: Incoming) -> Result<(Session, Result<(), Error>), Error> {
    let mut working = tokio::task::spawn_blocking(move || (session, Ok(())));
    let (mut batch, mut gathered): (Vec<Bytes>, usize) = (Vec::new(), 0);
    let ended = loop {
        let frame = match tokio::time::timeout(IDLE, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break Ok(()),
            Ok(Some(Err(error))) => {
                let message = "the request was cut off; resume the upload from its length";
                break Err(Error::new(Code::BlobUploadInvalid, message).because(error));
            }
            Err(_) => {
                let message = format!("no bytes arrived for {} s; resume the upload from its length", IDLE.as_secs());
                break Err(Error::new(Code::BlobUploadInvalid, message).with_status(408));
            }
        };
        let Ok(piece) = frame.into_data() else { continue };
        gathered += piece.len();
        batch.push(piece);
        if gathered >= BATCH || batch.len() >= PIECES {
            working = hand_over(working, std::mem::take(&mut batch)).await?;
            gathered = 0;
        }
    };
    working = hand_over(working, batch).await?;
    let (mut session, result) = working.await.map_err(lost)?;
    let closed = blocking(move || {
        let closed = session.close();
        Ok((session, closed))
    });
    let (session, closed) = closed.await?;
    Ok((session, result.and(closed).and(ended)))
}

type Working = tokio::task::JoinHandle<(Session, Result<(), Error>)>;

/// Waits for the previous batch and starts to write `batch`. After a failure nothing more is written.
async fn hand_over(working: Working, batch: Vec<Bytes>) -> Result<Working, Error> {
    let (mut session, result) = working.await.map_err(lost)?;
    Ok(tokio::task::spawn_blocking(move || {
        let result = result.and_then(|()| if batch.is_empty() { Ok(()) } else { session.write(&batch) });
        (session, result)
    }))
}

fn lost(error: tokio::task::JoinError) -> Error {
    Error::new(Code::Unknown, "the upload failed internally").because(error)
}
