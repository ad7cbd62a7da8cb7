//! Blobs: end-2 and end-10.

use std::sync::Arc;

use hyper::{HeaderMap, Method, header};
use strata_spec::Digest;

use super::{
    Body, CONTENT_DIGEST, Response, blocking, finish,
    handle::{Connection, Service},
    header as header_text,
    range::{self, Wanted},
    reply,
};
use crate::{
    error::{Code, Error},
    name::RepoName,
    storage::{Content, Head, ReadAt, Result as StorageResult, Source},
    store::blob_unknown,
};

/// Bytes read at once where `sendfile` is not available.
const PIECE: usize = 256 << 10;
/// Blobs never change.
const CACHE: &str = "max-age=31536000, immutable";

/// `GET` and `HEAD` of a blob.
pub async fn get(
    service: &Arc<Service>,
    connection: &Connection,
    method: &Method,
    headers: &HeaderMap,
    name: RepoName,
    digest: Digest,
) -> Result<Response, Error> {
    let etag = format!("\"{digest}\"");
    let common = |status| {
        let builder = reply(status).header(CONTENT_DIGEST, digest.to_string()).header(header::ETAG, &etag);
        builder.header(header::CACHE_CONTROL, CACHE)
    };
    let is_head = method == Method::HEAD;
    let store = service.store.clone();
    let (size, content) = if is_head {
        let looked = name.clone();
        (blocking(move || store.blob_size(&looked, digest)).await?, None)
    } else {
        let looked = name.clone();
        let content = blocking(move || store.blob(&looked, digest)).await?;
        (content.as_ref().map(|content| content.size), content)
    };
    let size = size.ok_or_else(|| blob_unknown(&name, digest))?;
    if header_text(headers, header::IF_NONE_MATCH).is_some_and(|known| matches(known, &etag)) {
        return finish(common(304), Body::empty());
    }
    let wanted = match header_text(headers, header::IF_RANGE) {
        Some(known) if known != etag => Wanted::All,
        _ => range::wanted(header_text(headers, header::RANGE), size),
    };
    let (first, len) = match wanted {
        Wanted::All => (0, size),
        Wanted::Part { first, last } => (first, last - first + 1),
        Wanted::Outside => {
            let error = Error::new(Code::RangeInvalid, format!("the blob {digest} has {size} bytes"));
            return Err(error.with_header("content-range", format!("bytes */{size}")));
        }
    };
    if let Some(url) = redirect(service, digest, if is_head { Head::Only } else { Head::WithBody }).await? {
        return finish(common(307).header(header::LOCATION, url), Body::empty());
    }
    let mut builder = common(if wanted == Wanted::All { 200 } else { 206 })
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, len);
    if wanted != Wanted::All {
        builder = builder.header(header::CONTENT_RANGE, format!("bytes {first}-{}/{size}", first + len - 1));
    }
    let body = content.map_or(Body::empty(), |content| send(connection, content, first, len));
    finish(builder, body)
}

/// Whether an `If-None-Match` header lists `etag`.
pub fn matches(header: &str, etag: &str) -> bool {
    header.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == etag)
}

async fn redirect(service: &Arc<Service>, digest: Digest, head: Head) -> Result<Option<String>, Error> {
    if !service.settings.redirect {
        return Ok(None);
    }
    let storage = service.store.storage().clone();
    blocking(move || Ok(storage.redirect(&crate::layout::blob(digest), head)?)).await
}

/// Sends a part of a blob: by `sendfile` where the connection can, else through memory.
fn send(connection: &Connection, content: Content, offset: u64, left: u64) -> Body {
    match (content.source, &connection.spans) {
        (Source::File(file), Some(spans)) => Body::File { file, offset, left, spans: spans.clone() },
        (Source::File(file), None) => Body::read(Arc::new(FileAt(file)), offset, left, PIECE),
        (Source::Remote(source), _) => Body::read(source, offset, left, PIECE * 8),
    }
}

struct FileAt(Arc<std::fs::File>);

impl ReadAt for FileAt {
    fn read_at(&self, offset: u64, len: usize) -> StorageResult<bytes::Bytes> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; len];
        self.0.read_exact_at(&mut bytes, offset).map_err(|source| strata_durable::Error {
            action: "read",
            path: "a blob".into(),
            source,
        })?;
        Ok(bytes.into())
    }
}

/// `DELETE` of a blob.
pub async fn delete(service: &Arc<Service>, name: RepoName, digest: Digest) -> Result<Response, Error> {
    service.may_delete()?;
    let store = service.store.clone();
    blocking(move || store.delete_blob(&name, digest)).await?;
    finish(reply(202).header(header::CONTENT_LENGTH, 0), Body::empty())
}
