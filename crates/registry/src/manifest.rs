//! Manifests as the registry reads them: what a manifest names, and whether it may be stored.
//!
//! A manifest that a client pushes is read strictly by [`Document::parse`]. A manifest that is already stored may come from another
//! server or from an older format; [`Document::stored`] reads any JSON object, so that it is served as it is and what it names is kept.
//!
//! # What a manifest names
//!
//! Every string in the document that is a digest names content, whatever field holds it: `config`, `layers`, `manifests`, `subject`,
//! `fsLayers[].blobSum` of schema 1, `blobs` of an OCI artifact manifest, a field that does not exist yet. Only `annotations` are free
//! text. The collector keeps all of it.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};
use strata_spec::{
    Digest, Platform,
    manifest::{AnyManifest, Descriptor, ManifestError, media_type},
};

use crate::error::{Code, Error};

/// Default limit on the size of a manifest, in bytes.
pub const DEFAULT_SIZE_LIMIT: u64 = 4 << 20;
/// Maximum number of descriptors in one manifest or index.
pub const ENTRIES_MAX: usize = 5_000;

/// A config or layer of an image manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRef {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size in bytes, as the manifest states it.
    pub size: u64,
    /// Whether the media type is one of a foreign layer, which clients fetch from elsewhere.
    pub foreign: bool,
    /// URLs from which clients may fetch the blob.
    pub urls: Vec<String>,
}

/// An entry of an index. Most are manifests; a build cache lists its layers here.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Digest of the manifest or blob.
    pub digest: Digest,
    /// Size in bytes, as the index states it.
    pub size: u64,
    /// Platform of the image, if the index states one.
    pub platform: Option<Platform>,
}

/// What the registry needs to know of one manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The media type that the manifest is served with.
    pub media_type: String,
    /// Config and layers of an image manifest, each once.
    pub blobs: Vec<BlobRef>,
    /// Entries of an index, each once.
    pub children: Vec<Child>,
    /// Content that the manifest names in any other field, each once.
    pub others: Vec<Digest>,
    /// The manifest that this one refers to.
    pub subject: Option<Digest>,
    /// Artifact type for the referrers list: the field, else the media type of an image manifest's config.
    pub artifact_type: Option<String>,
    /// Annotations for the referrers list.
    pub annotations: BTreeMap<String, String>,
}

impl Document {
    /// Reads a manifest that a client pushes; `declared` is the request's `Content-Type`.
    ///
    /// Fails with `MANIFEST_INVALID` if the bytes are no manifest, contradict themselves or `declared`, or name too much.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<Self, Error> {
        let manifest = AnyManifest::parse(bytes).map_err(|error| {
            let error = match error {
                ManifestError::SchemaOne => invalid(error.to_string()).with_status(415),
                error => invalid(error.to_string()),
            };
            error.with_detail(json!({"size": bytes.len()}))
        })?;
        let mut document = match manifest {
            AnyManifest::Manifest(manifest) => {
                let known = [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST];
                let blobs = std::iter::once(&manifest.config).chain(&manifest.layers).map(blob_ref);
                let artifact_type = manifest
                    .artifact_type
                    .filter(|text| !text.is_empty())
                    .unwrap_or_else(|| manifest.config.media_type.clone());
                Self {
                    media_type: own_type(manifest.media_type.as_deref(), known)?,
                    blobs: distinct(blobs.collect())?,
                    children: Vec::new(),
                    others: Vec::new(),
                    subject: manifest.subject.as_ref().map(|subject| subject.digest),
                    artifact_type: Some(artifact_type),
                    annotations: manifest.annotations,
                }
            }
            AnyManifest::Index(index) => {
                let known = [media_type::OCI_INDEX, media_type::DOCKER_MANIFEST_LIST];
                Self {
                    media_type: own_type(index.media_type.as_deref(), known)?,
                    blobs: Vec::new(),
                    children: children(index.manifests)?,
                    others: Vec::new(),
                    subject: index.subject.as_ref().map(|subject| subject.digest),
                    artifact_type: index.artifact_type.filter(|text| !text.is_empty()),
                    annotations: index.annotations,
                }
            }
        };
        let value: Value = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        document.find_others(&value);
        let declared = declared.map(media_type::essence).filter(|text| !text.is_empty());
        match declared {
            Some(text) if text != document.media_type => Err(invalid(format!(
                "the request declares the media type {text:.200}, but the manifest is {}",
                document.media_type
            ))),
            _ => Ok(document),
        }
    }

    /// Reads a manifest that is stored, whoever stored it. Any JSON object is taken; its digests are all in `others` if it is no
    /// manifest that [`Document::parse`] takes.
    ///
    /// Fails with `MANIFEST_INVALID` if the bytes are no JSON object.
    pub fn stored(bytes: &[u8]) -> Result<Self, Error> {
        let refused = match Self::parse(bytes, None) {
            Ok(document) => return Ok(document),
            Err(error) => error,
        };
        let Ok(value @ Value::Object(_)) = serde_json::from_slice::<Value>(bytes) else { return Err(refused) };
        let mut document = Self {
            media_type: stored_type(&value),
            blobs: Vec::new(),
            children: Vec::new(),
            others: Vec::new(),
            subject: value["subject"]["digest"].as_str().and_then(|text| text.parse().ok()),
            artifact_type: value["artifactType"].as_str().filter(|text| !text.is_empty()).map(str::to_owned),
            annotations: serde_json::from_value(value["annotations"].clone()).unwrap_or_default(),
        };
        document.find_others(&value);
        Ok(document)
    }

    /// Whether this is a manifest of a kind that may be pushed. Others are only served.
    pub fn is_current(&self) -> bool {
        media_type::is_manifest(&self.media_type) || media_type::is_index(&self.media_type)
    }

    /// Everything that may be a manifest: entries of the index and what other fields name.
    pub fn linked(&self) -> impl Iterator<Item = Digest> {
        self.children.iter().map(|child| child.digest).chain(self.others.iter().copied())
    }

    /// Returns the descriptor of this manifest for the referrers list of its subject; `size` in bytes.
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

    /// Fills `others` with the digests of `value` that are neither in `blobs` nor in `children`.
    fn find_others(&mut self, value: &Value) {
        let blobs = self.blobs.iter().map(|blob| blob.digest);
        let mut seen: HashSet<Digest> = blobs.chain(self.children.iter().map(|child| child.digest)).collect();
        digests(value, &mut |digest| {
            if seen.insert(digest) {
                self.others.push(digest);
            }
        });
    }
}

/// Calls `found` with every string of `value` that is a digest, except below `annotations`.
fn digests(value: &Value, found: &mut dyn FnMut(Digest)) {
    match value {
        Value::String(text) => text.parse().ok().into_iter().for_each(found),
        Value::Array(list) => list.iter().for_each(|value| digests(value, found)),
        Value::Object(map) => {
            map.iter().filter(|(key, _)| *key != "annotations").for_each(|(_, value)| digests(value, found));
        }
        _ => {}
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::ManifestInvalid, message)
}

/// Returns the entry of `known` that `field` names, and the first one if the field is missing.
fn own_type(field: Option<&str>, known: [&str; 2]) -> Result<String, Error> {
    match field {
        None | Some("") => Ok(known[0].to_owned()),
        Some(text) if known.contains(&text) => Ok(text.to_owned()),
        Some(text) => Err(invalid(format!("the manifest has the unknown mediaType {text:.200}"))),
    }
}

/// The media type to serve a manifest with that can no longer be pushed.
fn stored_type(value: &Value) -> String {
    let is_header = |text: &&str| text.contains('/') && text.len() < 256 && text.bytes().all(|b| b.is_ascii_graphic());
    match value["mediaType"].as_str().filter(is_header) {
        Some(text) => text.to_owned(),
        None if value["schemaVersion"] == 1 && value.get("signatures").is_some() => {
            media_type::DOCKER_MANIFEST_V1_SIGNED.to_owned()
        }
        None if value["schemaVersion"] == 1 => media_type::DOCKER_MANIFEST_V1.to_owned(),
        None => "application/json".to_owned(),
    }
}

fn blob_ref(descriptor: &Descriptor) -> BlobRef {
    let foreign = media_type::layer(&descriptor.media_type).is_some_and(|layer| layer.foreign);
    BlobRef { digest: descriptor.digest, size: descriptor.size, foreign, urls: descriptor.urls.clone() }
}

/// Removes repeated blobs; an image may use a layer twice.
fn distinct(blobs: Vec<BlobRef>) -> Result<Vec<BlobRef>, Error> {
    check_count(blobs.len())?;
    let mut sizes = BTreeMap::new();
    let mut kept = Vec::with_capacity(blobs.len());
    for blob in blobs {
        match sizes.insert(blob.digest, blob.size) {
            None => kept.push(blob),
            Some(size) if size == blob.size => {}
            Some(_) => return Err(invalid(format!("the manifest gives two sizes for {}", blob.digest))),
        }
    }
    Ok(kept)
}

fn children(entries: Vec<Descriptor>) -> Result<Vec<Child>, Error> {
    check_count(entries.len())?;
    let mut seen = HashSet::new();
    let distinct = entries.into_iter().filter(|entry| seen.insert(entry.digest));
    Ok(distinct.map(|entry| Child { digest: entry.digest, size: entry.size, platform: entry.platform }).collect())
}

fn check_count(count: usize) -> Result<(), Error> {
    if count <= ENTRIES_MAX {
        return Ok(());
    }
    Err(invalid(format!("the manifest names {count} objects; at most {ENTRIES_MAX} are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::sha256(text)
    }

    #[test]
    fn a_manifest_names_its_config_layers_and_subject() {
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
        assert_eq!(document.others, [digest("s")]);
        let entry = document.descriptor(digest("m"), 9);
        assert_eq!(entry["artifactType"], "application/vnd.example.sbom");
        assert_eq!(entry["annotations"], json!({"a": "b"}));
    }

    #[test]
    fn contradictory_and_foreign_documents_are_refused() {
        let layer = |size: u64| json!({"mediaType": media_type::OCI_LAYER, "digest": digest("l"), "size": size});
        let config = json!({"mediaType": media_type::OCI_CONFIG, "digest": digest("c"), "size": 1});
        let image = |layers: Value| json!({"schemaVersion": 2, "config": config, "layers": layers});
        let many: Vec<Value> =
            (0..10_000).map(|at| json!({"mediaType": "x", "digest": digest(&at.to_string()), "size": 1})).collect();
        for (bytes, declared, word) in [
            ("no JSON".to_owned(), None, "JSON"),
            (image(json!([layer(1), layer(2)])).to_string(), None, "two sizes"),
            (image(json!(many)).to_string(), None, "10001 objects"),
            (image(json!([])).to_string(), Some(media_type::DOCKER_MANIFEST), "declares"),
            (image(json!([])).to_string(), Some(media_type::OCI_INDEX), "declares"),
            (json!({"schemaVersion": 1}).to_string(), None, "schema 1"),
            (json!({"schemaVersion": 2, "mediaType": "text/plain"}).to_string(), None, "unknown mediaType"),
            (json!({"schemaVersion": 2, "config": config, "layers": [], "manifests": []}).to_string(), None, "at once"),
        ] {
            let error = Document::parse(bytes.as_bytes(), declared).unwrap_err();
            assert!(error.code() == Code::ManifestInvalid && error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_stored_document_of_any_kind_names_every_digest_in_it() {
        let schema_one = json!({
            "schemaVersion": 1, "name": "a", "fsLayers": [{"blobSum": digest("l")}, {"blobSum": digest("l")}],
            "history": [{"v1Compatibility": "{}"}],
        });
        let document = Document::stored(schema_one.to_string().as_bytes()).unwrap();
        assert_eq!(
            (document.media_type.as_str(), &document.others[..]),
            (media_type::DOCKER_MANIFEST_V1, &[digest("l")][..])
        );
        let mut signed = schema_one;
        signed["signatures"] = json!([]);
        let document = Document::stored(signed.to_string().as_bytes()).unwrap();
        assert_eq!(document.media_type, media_type::DOCKER_MANIFEST_V1_SIGNED);
        let artifact = json!({
            "mediaType": "application/vnd.oci.artifact.manifest.v1+json",
            "blobs": [{"digest": digest("b"), "size": 1}],
            "subject": {"digest": digest("s"), "size": 1},
            "references": [digest("r")],
            "annotations": {"base": digest("not named")},
        });
        let document = Document::stored(artifact.to_string().as_bytes()).unwrap();
        let named: HashSet<Digest> = document.linked().collect();
        assert_eq!(named, ["b", "s", "r"].map(digest).into());
        assert!(document.subject == Some(digest("s")) && !document.is_current());
        for odd in [json!({"mediaType": "bad\r\nheader"}), json!({"mediaType": 7}), json!({})] {
            assert_eq!(Document::stored(odd.to_string().as_bytes()).unwrap().media_type, "application/json");
        }
        assert!(Document::stored(b"no JSON").is_err() && Document::stored(b"[]").is_err());
    }
}
