//! Tags, the catalog and referrers: end-8, end-12.

use std::sync::Arc;

use hyper::header;
use serde_json::json;
use strata_spec::{Digest, manifest::media_type};

use super::{
    Response, blocking, finish,
    handle::Service,
    reply,
    route::{encode, param},
};
use crate::{
    auth::{Action, Identity},
    error::{Code, Error},
    name::{RepoName, parse_digest},
    store::Page,
};

type Query = [(String, String)];

/// Default number of entries on a page of the catalog.
const CATALOG_PAGE: usize = 1000;
/// Maximum bytes of descriptors on a page of referrers: clients accept a manifest of 4 MiB.
const REFERRERS_BYTES: usize = 3 << 20;

fn page(query: &Query, default: Option<usize>) -> Result<Page, Error> {
    let count = match param(query, "n") {
        None | Some("") => default,
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => Some(text.parse().unwrap_or(usize::MAX)),
        Some(text) => {
            let error = Error::new(Code::PaginationNumberInvalid, format!("n={text:.40?} is not a number of entries"));
            return Err(error.with_detail(json!({ "n": text })));
        }
    };
    Ok(Page { last: param(query, "last").map(str::to_owned).filter(|last| !last.is_empty()), count })
}

fn listing(body: &serde_json::Value, next: Option<String>) -> Result<Response, Error> {
    let bytes = body.to_string().into_bytes();
    let mut builder =
        reply(200).header(header::CONTENT_TYPE, "application/json").header(header::CONTENT_LENGTH, bytes.len());
    if let Some(next) = next {
        builder = builder.header(header::LINK, format!("<{next}>; rel=\"next\""));
    }
    finish(builder, bytes)
}

fn next(path: &str, names: &[String], page: &Page, more: bool) -> Option<String> {
    let last = names.last().filter(|_| more)?;
    Some(format!("{path}?last={}&n={}", encode(last), page.count.unwrap_or(names.len())))
}

/// `GET` of a repository's tags.
pub async fn tags(service: &Arc<Service>, name: RepoName, query: &Query) -> Result<Response, Error> {
    let page = page(query, None)?;
    let (store, repo, wanted) = (service.store.clone(), name.clone(), page.clone());
    let (tags, more) = blocking(move || store.tags(&repo, &wanted)).await?;
    let next = next(&format!("/v2/{name}/tags/list"), &tags, &page, more);
    listing(&json!({"name": name.as_str(), "tags": tags}), next)
}

/// `GET` of the repositories that the client may see.
pub async fn catalog(service: &Arc<Service>, identity: &Identity, query: &Query) -> Result<Response, Error> {
    let mut page = page(query, Some(CATALOG_PAGE))?;
    let most = service.settings.catalog_page.unwrap_or(100 * CATALOG_PAGE);
    page.count = page.count.map(|count| count.min(most));
    let (store, wanted, identity) = (service.store.clone(), page.clone(), identity.clone());
    let (names, more) =
        blocking(move || store.catalog(&wanted, &mut |name| identity.may_list(name, Action::Pull))).await?;
    let next = next("/v2/_catalog", &names, &page, more);
    listing(&json!({ "repositories": names }), next)
}

/// `GET` of the referrers of `subject`; an empty list if there are none or `subject` is missing.
pub async fn referrers(
    service: &Arc<Service>,
    name: RepoName,
    subject: Digest,
    query: &Query,
) -> Result<Response, Error> {
    let artifact_type = param(query, "artifactType").filter(|text| !text.is_empty()).map(str::to_owned);
    let last = param(query, "last").filter(|text| !text.is_empty()).map(parse_digest).transpose()?;
    let (store, repo, wanted) = (service.store.clone(), name.clone(), artifact_type.clone());
    let (entries, more) =
        blocking(move || store.referrers(&repo, subject, wanted.as_deref(), last, REFERRERS_BYTES)).await?;
    let last = entries.last().and_then(|entry| entry["digest"].as_str()).map(str::to_owned);
    let body = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
    let bytes = body.to_string().into_bytes();
    let mut builder =
        reply(200).header(header::CONTENT_TYPE, media_type::OCI_INDEX).header(header::CONTENT_LENGTH, bytes.len());
    let filter = artifact_type.as_deref().map(|text| format!("&artifactType={}", encode(text))).unwrap_or_default();
    if artifact_type.is_some() {
        builder = builder.header("oci-filters-applied", "artifactType");
    }
    if let Some(last) = last.filter(|_| more) {
        builder =
            builder.header(header::LINK, format!("</v2/{name}/referrers/{subject}?last={last}{filter}>; rel=\"next\""));
    }
    finish(builder, bytes)
}
