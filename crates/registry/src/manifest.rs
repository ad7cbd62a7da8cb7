//! Manifests and indexes as the registry sees them: what they name, and whether they may be stored.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};
use strata_spec::{
    Digest,
    manifest::{AnyManifest, Descriptor, ManifestError, media_type},
};

use crate::error::{Code, Error};

/// Bytes of a manifest, unless the configuration says otherwise.
pub const DEFAULT_SIZE_LIMIT: u64 = 4 << 20;
/// Descriptors in one manifest or index.
pub const ENTRIES_MAX: usize = 5_000;

/// A blob that a manifest names and that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRef {
    pub digest: Digest,
    /// Bytes, as the manifest says.
    pub size: u64,
    /// Whether a client may fetch it elsewhere, so that it need not be here.
    pub foreign: bool,
}

/// What a stored manifest says, as far as the registry cares.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The manifest's own type.
    pub media_type: &'static str,
    /// Config and layers; none for an index.
    pub blobs: Vec<BlobRef>,
    /// Manifests that an index names, with the size it says.
    pub children: Vec<(Digest, u64)>,
    /// What this is a referrer of.
    pub subject: Option<Digest>,
    /// As the referrers list shows it: the field, else the type of an image manifest's config.
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

impl Document {
    /// Reads a manifest; `declared` is the type that came with it.
    ///
    /// Fails with `MANIFEST_INVALID` for what is none, contradicts itself or `declared`, or names too much.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<Self, Error> {
        let declared = declared.map(|text| text.split(';').next().unwrap_or_default().trim());
        let manifest = AnyManifest::parse(bytes).map_err(|error| {
            let error = match error {
                ManifestError::SchemaOne => invalid(error.to_string()).with_status(415),
                error => invalid(error.to_string()),
            };
            error.with_detail(json!({"size": bytes.len()}))
        })?;
        let document = match manifest {
            AnyManifest::Manifest(manifest) => {
                let own =
                    own_type(manifest.media_type.as_deref(), &[media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST])?;
                let blobs = std::iter::once(&manifest.config).chain(&manifest.layers).map(blob_ref);
                let artifact_type = manifest
                    .artifact_type
                    .filter(|text| !text.is_empty())
                    .unwrap_or(manifest.config.media_type.clone());
                Self {
                    media_type: own,
                    blobs: distinct(blobs.collect())?,
                    children: Vec::new(),
                    subject: manifest.subject.as_ref().map(|subject| subject.digest),
                    artifact_type: Some(artifact_type),
                    annotations: manifest.annotations,
                }
            }
            AnyManifest::Index(index) => {
                let own =
                    own_type(index.media_type.as_deref(), &[media_type::OCI_INDEX, media_type::DOCKER_MANIFEST_LIST])?;
                Self {
                    media_type: own,
                    blobs: Vec::new(),
                    children: children(&index.manifests)?,
                    subject: index.subject.as_ref().map(|subject| subject.digest),
                    artifact_type: index.artifact_type.filter(|text| !text.is_empty()),
                    annotations: index.annotations,
                }
            }
        };
        match declared {
            Some(text) if !text.is_empty() && text != document.media_type => Err(invalid(format!(
                "the request says that the manifest is {text:.200}, the manifest itself that it is {}",
                document.media_type
            ))),
            _ => Ok(document),
        }
    }

    pub fn is_index(&self) -> bool {
        media_type::is_index(self.media_type)
    }

    /// The entry that a list of referrers has for this manifest.
    pub fn descriptor(&self, digest: Digest, size: u64) -> Value {
        let mut entry = json!({"mediaType": self.media_type, "digest": digest, "size": size});
        if let (Some(artifact_type), Some(fields)) = (&self.artifact_type, entry.as_object_mut()) {
            fields.insert("artifactType".into(), json!(artifact_type));
        }
        if let (false, Some(fields)) = (self.annotations.is_empty(), entry.as_object_mut()) {
            fields.insert("annotations".into(), json!(self.annotations));
        }
        entry
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::ManifestInvalid, message)
}

/// The one of `known` that `field` says; the first if it says nothing.
fn own_type(field: Option<&str>, known: &[&'static str; 2]) -> Result<&'static str, Error> {
    match field {
        None | Some("") => Ok(known[0]),
        Some(text) => known
            .iter()
            .find(|known| **known == text)
            .copied()
            .ok_or_else(|| invalid(format!("the manifest has the unknown mediaType {text:.200}"))),
    }
}

fn blob_ref(descriptor: &Descriptor) -> BlobRef {
    let foreign = media_type::layer(&descriptor.media_type).is_some_and(|layer| layer.foreign);
    BlobRef { digest: descriptor.digest, size: descriptor.size, foreign }
}

/// The same blobs, each once; an image may use a layer twice.
fn distinct(blobs: Vec<BlobRef>) -> Result<Vec<BlobRef>, Error> {
    check_count(blobs.len())?;
    let mut seen = HashSet::new();
    let mut kept: Vec<BlobRef> = Vec::with_capacity(blobs.len());
    for blob in blobs {
        if seen.insert(blob.digest) {
            kept.push(blob);
        } else if kept.iter().any(|other| other.digest == blob.digest && other.size != blob.size) {
            return Err(invalid(format!("the manifest gives two sizes for {}", blob.digest)));
        }
    }
    Ok(kept)
}

fn children(entries: &[Descriptor]) -> Result<Vec<(Digest, u64)>, Error> {
    check_count(entries.len())?;
    let mut seen = HashSet::new();
    Ok(entries.iter().filter(|entry| seen.insert(entry.digest)).map(|entry| (entry.digest, entry.size)).collect())
}

fn check_count(count: usize) -> Result<(), Error> {
    if count <= ENTRIES_MAX {
        return Ok(());
    }
    Err(invalid(format!("the manifest names {count} objects; at most {ENTRIES_MAX} are taken")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::sha256(text)
    }

    #[test]
    fn what_a_manifest_names() {
        let bytes = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.example.sbom", "digest": digest("c"), "size": 1},
            "layers": [
                {"mediaType": media_type::OCI_LAYER, "digest": digest("l"), "size": 2},
                {"mediaType": media_type::OCI_LAYER, "digest": digest("l"), "size": 2},
                {"mediaType": media_type::OCI_FOREIGN_LAYER, "digest": digest("f"), "size": 3},
            ],
            "subject": {"mediaType": media_type::OCI_MANIFEST, "digest": digest("s"), "size": 4},
            "annotations": {"a": "b"},
        });
        let document = Document::parse(
            bytes.to_string().as_bytes(),
            Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
        );
        let document = document.unwrap();
        assert_eq!(document.blobs.len(), 3);
        assert!(document.blobs[2].foreign && !document.blobs[1].foreign);
        assert_eq!(document.subject, Some(digest("s")));
        let entry = document.descriptor(digest("m"), 9);
        assert_eq!(entry["artifactType"], "application/vnd.example.sbom");
        assert_eq!(entry["annotations"], json!({"a": "b"}));
    }

    #[test]
    fn what_is_refused() {
        let layer = |size: u64| json!({"mediaType": media_type::OCI_LAYER, "digest": digest("l"), "size": size});
        let config = json!({"mediaType": media_type::OCI_CONFIG, "digest": digest("c"), "size": 1});
        let image = |layers: Value| json!({"schemaVersion": 2, "config": config, "layers": layers});
        let many: Vec<Value> =
            (0..10_000).map(|at| json!({"mediaType": "x", "digest": digest(&at.to_string()), "size": 1})).collect();
        for (bytes, declared, word) in [
            ("no JSON".to_owned(), None, "JSON"),
            (image(json!([layer(1), layer(2)])).to_string(), None, "two sizes"),
            (image(json!(many)).to_string(), None, "10001 objects"),
            (image(json!([])).to_string(), Some(media_type::DOCKER_MANIFEST), "itself"),
            (image(json!([])).to_string(), Some(media_type::OCI_INDEX), "itself"),
            (json!({"schemaVersion": 1}).to_string(), None, "schema 1"),
            (json!({"schemaVersion": 2, "mediaType": "text/plain"}).to_string(), None, "unknown mediaType"),
            (json!({"schemaVersion": 2, "config": config, "layers": [], "manifests": []}).to_string(), None, "at once"),
        ] {
            let error = Document::parse(bytes.as_bytes(), declared).unwrap_err();
            assert!(error.code() == Code::ManifestInvalid && error.to_string().contains(word), "{error}");
        }
    }
}
