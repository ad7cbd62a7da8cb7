//! Manifests: asked for by tag or digest, checked, and followed through indexes to the one image that is wanted.

use reqwest::{
    Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use strata_spec::{
    Algorithm, Digest, Platform, Reference,
    manifest::{AnyManifest, Descriptor, Index, Manifest, ManifestError, media_type},
};

use crate::{
    Error,
    auth::pull_scope,
    error::shorten,
    http::{Call, Remote, failure, read_all},
};

/// Bytes of the largest manifest, as registries have it.
pub const MANIFEST_MAX: u64 = 4 << 20;
/// Values in one manifest. Each takes some 100 bytes when it is read, so that 4 MiB of nothing but commas would take a lot.
const VALUES_MAX: usize = 1 << 17;
/// Indexes in indexes.
const NESTING_MAX: usize = 4;
/// Entries of one index.
const ENTRIES_MAX: usize = 4096;

/// A manifest or index, as it was served.
#[derive(Clone, Debug)]
pub struct Document {
    pub bytes: Vec<u8>,
    pub digest: Digest,
    /// What the registry called it.
    pub media_type: String,
    pub parsed: AnyManifest,
}

/// An image on a registry.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What the reference named: the image's manifest, or an index that it is in.
    pub top: Document,
    /// The image's own manifest, as it was served.
    pub bytes: Vec<u8>,
    pub digest: Digest,
    pub media_type: String,
    pub manifest: Manifest,
}

/// Finds the image of `reference` for `platform` (this machine's if `None`).
pub(crate) async fn resolve(
    remote: &Remote,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Resolved, Error> {
    let top = fetch(remote, reference).await?;
    let mut at = top.clone();
    for _ in 0..=NESTING_MAX {
        match at.parsed {
            AnyManifest::Manifest(manifest) => {
                let object = format!("{}@{}", reference.familiar_name(), at.digest);
                check_image(&object, &manifest)?;
                return Ok(Resolved { bytes: at.bytes, digest: at.digest, media_type: at.media_type, manifest, top });
            }
            AnyManifest::Index(ref index) => {
                let entry = choose(reference, index, platform)?;
                let (digest, size) = (entry.digest, entry.size);
                at = fetch(remote, &reference.with_digest(digest)).await?;
                let found = at.bytes.len() as u64;
                if found != size {
                    return Err(Error::Length { object: format!("manifest {digest}"), expected: size, found });
                }
            }
        }
    }
    Err(Error::invalid(reference.familiar(), format!("has indexes nested more than {NESTING_MAX} deep")))
}

/// Gets what `reference` names, a tag or a digest, and checks it.
pub(crate) async fn fetch(remote: &Remote, reference: &Reference) -> Result<Document, Error> {
    let name = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    let url = remote.url(&format!("v2/{}/manifests/{name}", reference.path()));
    let mut call = Call::new(Method::GET, url, &pull_scope(reference.path()));
    for accepted in
        [media_type::DOCKER_MANIFEST, media_type::DOCKER_MANIFEST_LIST, media_type::OCI_INDEX, media_type::OCI_MANIFEST]
    {
        call = call.header(ACCEPT, accepted);
    }
    let response = remote.send(call).await.map_err(|error| denied(error, reference))?;
    if response.status() != StatusCode::OK {
        return Err(refusal(failure(response).await, reference));
    }
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let declared = header(CONTENT_TYPE.as_str()).unwrap_or_default().to_owned();
    let promised: Option<Digest> = header("docker-content-digest").and_then(|digest| digest.parse().ok());
    let object = format!("the manifest of {}", reference.familiar());
    let bytes = read_all(response, MANIFEST_MAX, &object).await?;
    let expected = reference.digest().or(promised);
    let digest = Digest::of(expected.map_or(Algorithm::Sha256, |digest| digest.algorithm()), &bytes);
    match expected {
        Some(expected) if expected != digest => {
            return Err(Error::Digest { object, expected: Box::new(expected), found: Box::new(digest) });
        }
        _ => {}
    }
    let schema_one = [media_type::DOCKER_MANIFEST_V1, media_type::DOCKER_MANIFEST_V1_SIGNED];
    if schema_one.contains(&media_type::essence(&declared)) {
        return Err(Error::Manifest { object, source: ManifestError::SchemaOne });
    }
    if values(&bytes) > VALUES_MAX {
        return Err(Error::invalid(object, format!("has more than {VALUES_MAX} values")));
    }
    let parsed = AnyManifest::parse(&bytes).map_err(|source| Error::Manifest { object, source })?;
    let media_type = media_type_of(&parsed, &declared);
    Ok(Document { bytes, digest, media_type, parsed })
}

/// How many values a JSON text has, about: those that a comma, brace or bracket announces.
fn values(json: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for byte in json {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (false, b',' | b'{' | b'[') => count += 1,
            _ => {}
        }
    }
    count
}

/// What a document says that it is; else what the registry says; else what it looks like.
fn media_type_of(parsed: &AnyManifest, declared: &str) -> String {
    let (own, known, usual): (_, fn(&str) -> bool, _) = match parsed {
        AnyManifest::Manifest(manifest) => (&manifest.media_type, media_type::is_manifest, media_type::OCI_MANIFEST),
        AnyManifest::Index(index) => (&index.media_type, media_type::is_index, media_type::OCI_INDEX),
    };
    match own.as_deref().filter(|own| !own.is_empty()) {
        Some(own) => own.to_owned(),
        None if known(declared) => media_type::essence(declared).to_owned(),
        None => usual.to_owned(),
    }
}

/// Refuses what is no image, with what it is instead.
fn check_image(object: &str, manifest: &Manifest) -> Result<(), Error> {
    let artifact = |what: String| Error::Unsupported {
        object: object.to_owned(),
        reason: format!("is {what}, not a container image; it can be kept in a registry, not unpacked"),
    };
    let kind = manifest.config.media_type.as_str();
    if media_type::essence(kind) == media_type::DOCKER_PLUGIN_CONFIG {
        return Err(artifact("a Docker plugin".to_owned()));
    }
    if let Some(kind) = manifest.artifact_type.as_deref().filter(|kind| !media_type::is_image_config(kind)) {
        return Err(artifact(format!("an artifact of type {:?}", shorten(kind))));
    }
    if !media_type::is_image_config(kind) {
        return Err(artifact(format!("an artifact whose config is of type {:?}", shorten(kind))));
    }
    for layer in &manifest.layers {
        if media_type::layer(&layer.media_type).is_none() {
            let kind = shorten(&layer.media_type);
            return Err(Error::invalid(object, format!("has a layer of type {kind:?}, which is no layer of an image")));
        }
    }
    Ok(())
}

/// Chooses the entry of an index for the wanted platform, among the images in it: BuildKit puts attestations beside them, and
/// makes indexes of layers for its build cache.
fn choose<'i>(reference: &Reference, index: &'i Index, platform: Option<&Platform>) -> Result<&'i Descriptor, Error> {
    if index.manifests.len() > ENTRIES_MAX {
        return Err(Error::invalid(reference.familiar(), format!("is an index of more than {ENTRIES_MAX} entries")));
    }
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let images = || index.manifests.iter().filter(|entry| is_document(entry) && !is_attestation(entry));
    let ranked = images().filter_map(|entry| {
        let rank = entry.platform.as_ref().map_or(Some(u32::MAX), |platform| platform.rank_on(&wanted))?;
        Some((rank, entry))
    });
    if let Some((_, entry)) = ranked.min_by_key(|(rank, _)| *rank) {
        return Ok(entry);
    }
    if images().next().is_none() {
        let what = match &index.manifests[..] {
            [] => "is an index without entries",
            entries if entries.iter().any(is_document) => "is an index of attestations alone",
            _ => "is an index of blobs alone, as of a build cache",
        };
        let reason = format!("{what}; there is no image in it");
        return Err(Error::Unsupported { object: reference.familiar(), reason });
    }
    let offered: Vec<String> =
        images().filter_map(|entry| Some(entry.platform.as_ref()?.to_string())).take(12).collect();
    Err(Error::NotFound {
        reference: reference.familiar(),
        message: format!(
            "no matching manifest for {wanted} in the manifest list entries; it has {}",
            shorten(&offered.join(", "))
        ),
    })
}

/// Whether an entry of an index names a manifest or an index, by its media type; else a registry has it as a blob.
pub(crate) fn is_document(entry: &Descriptor) -> bool {
    let kind = entry.media_type.as_str();
    let schema_one = [media_type::DOCKER_MANIFEST_V1, media_type::DOCKER_MANIFEST_V1_SIGNED];
    kind.is_empty()
        || media_type::is_manifest(kind)
        || media_type::is_index(kind)
        || schema_one.contains(&media_type::essence(kind))
}

fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key("vnd.docker.reference.type")
        || entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

/// A refused request for a manifest, in Docker's words.
fn refusal(error: Error, reference: &Reference) -> Error {
    match error {
        Error::Status { status: 404, message, .. } => {
            let message = if message.is_empty() { "manifest unknown".to_owned() } else { message };
            Error::NotFound { reference: reference.familiar(), message }
        }
        Error::Status { status: 401 | 403, message, .. } => {
            let message = if message.is_empty() { "denied".to_owned() } else { message };
            Error::PullDenied { repository: reference.familiar_name(), message }
        }
        error => error,
    }
}

fn denied(error: Error, reference: &Reference) -> Error {
    match error {
        Error::Unauthorized { reason, .. } => {
            Error::PullDenied { repository: reference.familiar_name(), message: reason }
        }
        error => error,
    }
}

/// Reads a manifest as it might be served, chooses for `platform`, and checks the image; for tests with any bytes.
#[doc(hidden)]
pub fn try_bytes(bytes: &[u8], platform: Option<&Platform>) {
    let Ok(reference) = Reference::parse("any.test/image:1") else { return };
    if values(bytes) > VALUES_MAX {
        return;
    }
    match AnyManifest::parse(bytes) {
        Ok(AnyManifest::Manifest(manifest)) => drop(check_image("any", &manifest)),
        Ok(AnyManifest::Index(index)) => drop(choose(&reference, &index, platform).cloned()),
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_of_strings() {
        for (json, count) in [("{}", 1), (r#"{"a":[1,2,"x,{[\",["],"b":"\\"}"#, 5), ("", 0), (r#"["#, 1)] {
            assert_eq!(values(json.as_bytes()), count, "{json}");
        }
    }
}
