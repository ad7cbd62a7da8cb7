//! Manifests: end-3, end-7 and end-9.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{HeaderMap, Method, body::Incoming, header};
use strata_spec::manifest::media_type;

use super::{
    Body, CONTENT_DIGEST, Response, blobs::matches, blocking, finish, handle::Service, header as header_text, reply,
    request::Request, warn,
};
use crate::{
    auth::Identity,
    error::{Code, Error},
    name::{RepoName, Tag, Target},
    notify::{Happened, What},
    storage::Reach,
    store::{Manifest, manifest_unknown},
};

/// `GET` and `HEAD` of a manifest.
pub async fn get(
    service: &Arc<Service>,
    method: &Method,
    headers: &HeaderMap,
    name: RepoName,
    target: Target,
) -> Result<Response, Error> {
    let store = service.store.clone();
    let found = match store.storage().reach() {
        // Two small files, mostly in the page cache: a change of threads would take longer.
        Reach::Local => store.manifest(&name, &target)?,
        Reach::Remote => {
            let (name, target) = (name.clone(), target.clone());
            blocking(move || store.manifest(&name, &target)).await?
        }
    };
    let manifest = found.ok_or_else(|| manifest_unknown(&name, &target))?;
    // A manifest of an older kind has no other form: the client decides what to make of it.
    if manifest.document.is_current() && !is_accepted(headers, &manifest.document.media_type) {
        let message =
            format!("the manifest is {}, which the Accept header does not take", manifest.document.media_type);
        return Err(Error::new(Code::ManifestUnknown, message));
    }
    let etag = format!("\"{}\"", manifest.digest);
    let mut builder = reply(200)
        .header(header::CONTENT_TYPE, &manifest.document.media_type)
        .header(CONTENT_DIGEST, manifest.digest.to_string())
        .header(header::ETAG, &etag);
    if header_text(headers, header::IF_NONE_MATCH).is_some_and(|known| matches(known, &etag)) {
        return finish(builder.status(304), Body::empty());
    }
    if let Some(subject) = manifest.document.subject {
        builder = builder.header("oci-subject", subject.to_string());
    }
    builder = builder.header(header::CONTENT_LENGTH, manifest.bytes.len());
    if method == Method::HEAD {
        return finish(builder, Body::empty());
    }
    tell(service, What::Pull, &name, &target, &manifest);
    finish(builder, manifest.bytes)
}

fn tell(service: &Service, what: What, name: &RepoName, target: &Target, manifest: &Manifest) {
    service.notify.tell(|| Happened {
        what,
        name: name.clone(),
        digest: Some(manifest.digest),
        tag: if let Target::Tag(tag) = target { Some(tag.to_string()) } else { None },
        media_type: manifest.document.media_type.clone(),
        size: manifest.bytes.len() as u64,
        actor: None,
        manifest: Some(manifest.bytes.clone()),
    });
}

/// Whether the `Accept` headers include `media_type`. Without an `Accept` header that names a manifest's type, every type is acceptable.
fn is_accepted(headers: &HeaderMap, media_type: &str) -> bool {
    let texts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = texts.flat_map(|text| text.split(',')).map(|one| one.split(';').next().unwrap_or_default().trim());
    let mut names_manifests = false;
    let is_taken = types.any(|one| {
        names_manifests |= media_type::is_manifest(one)
            || media_type::is_index(one)
            || one.starts_with("application/vnd.docker.distribution.manifest.v1");
        one == media_type || one == "*/*" || one == "application/*"
    });
    is_taken || !names_manifests
}

/// Reads a body of at most `limit` bytes.
pub async fn read_body(body: Incoming, limit: u64) -> Result<Vec<u8>, Error> {
    let too_long = || {
        Error::new(Code::SizeInvalid, format!("the manifest is longer than {limit} bytes, the limit of this registry"))
            .with_status(413)
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let declared = hyper::body::Body::size_hint(&body).lower();
    if declared > limit as u64 {
        return Err(too_long());
    }
    match tokio::time::timeout(super::uploads::IDLE, Limited::new(body, limit).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes().into()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(error)) => Err(Error::new(Code::SizeInvalid, "the request was cut off before its end").because(error)),
        Err(_) => Err(Error::new(Code::SizeInvalid, "the body did not arrive in time").with_status(408)),
    }
}

/// Maximum number of tags that a push by digest may set.
const TAGS_MAX: usize = 64;

/// The tags that a push by digest sets, each once.
fn wanted_tags(target: &Target, query: &[(String, String)]) -> Result<Vec<Tag>, Error> {
    let mut tags: Vec<Tag> = Vec::new();
    let texts = query.iter().filter(|(key, _)| key == "tag" && matches!(target, Target::Digest(_)));
    for (_, text) in texts {
        let tag: Tag = text.parse()?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if tags.len() > TAGS_MAX {
        let message = format!("{} tags are asked for; a push may set {TAGS_MAX}", tags.len());
        return Err(Error::new(Code::TagInvalid, message).with_status(414));
    }
    Ok(tags)
}

/// `PUT` of a manifest, by tag, or by digest with any number of tags.
pub async fn put(request: &Request<'_>, (name, target): (RepoName, Target), body: Incoming) -> Result<Response, Error> {
    let Request { service, connection, identity, headers, query } = *request;
    service.may_write()?;
    let tags = wanted_tags(&target, query)?;
    let bytes = read_body(body, service.store.rules().manifest_size).await?;
    let told_bytes = service.notify.includes_references().then(|| Bytes::copy_from_slice(&bytes));
    let declared = header_text(headers, header::CONTENT_TYPE).map(str::to_owned);
    let (store, repo, reference, size) = (service.store.clone(), name.clone(), target.clone(), bytes.len() as u64);
    let under = tags.clone();
    let put = move || store.put_manifest(&repo, &reference, &under, declared.as_deref(), bytes);
    let published = blocking(put).await?;
    tracing::info!(%name, reference = %target, digest = %published.digest, "manifest stored");
    let own = if let Target::Tag(tag) = &target { Some(tag.to_string()) } else { None };
    let told: Vec<Option<String>> = match &tags[..] {
        [] => vec![own],
        tags => tags.iter().map(|tag| Some(tag.to_string())).collect(),
    };
    for tag in told {
        service.notify.tell(|| Happened {
            what: What::Push,
            name: name.clone(),
            digest: Some(published.digest),
            tag,
            media_type: published.media_type.clone(),
            size,
            actor: identity.user.clone(),
            manifest: told_bytes.clone(),
        });
    }
    let location = service.url(connection, headers, &format!("/v2/{name}/manifests/{}", published.digest));
    let mut builder = reply(201)
        .header(header::LOCATION, location)
        .header(CONTENT_DIGEST, published.digest.to_string())
        .header(header::CONTENT_LENGTH, 0);
    if let Some(subject) = published.subject {
        builder = builder.header("oci-subject", subject.to_string());
    }
    for tag in &tags {
        builder = builder.header("oci-tag", tag.to_string());
    }
    let mut response = finish(builder, Body::empty())?;
    if let [first, ..] = published.absent[..] {
        let count = published.absent.len();
        let text = format!("{count} objects that the manifest names are not in the repository, such as {first}");
        warn::add(response.headers_mut(), &text);
    }
    Ok(response)
}

/// `DELETE` of a manifest, or of a tag alone.
pub async fn delete(
    service: &Arc<Service>,
    identity: &Identity,
    name: RepoName,
    target: Target,
) -> Result<Response, Error> {
    service.may_delete()?;
    let (store, repo, reference) = (service.store.clone(), name.clone(), target.clone());
    let digest = blocking(move || match reference {
        Target::Tag(tag) => store.delete_tag(&repo, &tag),
        Target::Digest(digest) => store.delete_manifest(&repo, digest).map(|()| digest),
    })
    .await?;
    tracing::info!(%name, reference = %target, %digest, "deleted");
    service.notify.tell(|| Happened {
        what: What::Delete,
        name,
        digest: Some(digest),
        tag: if let Target::Tag(tag) = &target { Some(tag.to_string()) } else { None },
        media_type: String::new(),
        size: 0,
        actor: identity.user.clone(),
        manifest: None,
    });
    finish(reply(202).header(header::CONTENT_LENGTH, 0), Body::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation() {
        for (accept, is_taken) in [
            (&[][..], true),
            (&["*/*"], true),
            (&["application/json"], true),
            (&[media_type::OCI_MANIFEST], true),
            (&[media_type::DOCKER_MANIFEST], false),
            (&[media_type::DOCKER_MANIFEST, media_type::OCI_MANIFEST], true),
            (
                &[
                    "application/vnd.docker.distribution.manifest.v2+json;q=1, application/vnd.oci.image.manifest.v1+json",
                ],
                true,
            ),
            (&[media_type::OCI_INDEX, "*/*;q=0.1"], true),
        ] {
            let mut headers = HeaderMap::new();
            for one in accept {
                headers.append(header::ACCEPT, one.parse().unwrap());
            }
            assert_eq!(is_accepted(&headers, media_type::OCI_MANIFEST), is_taken, "{accept:?}");
        }
    }
}
