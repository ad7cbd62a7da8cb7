//! Manifests, indexes, descriptors and media types; Docker schema 2 and OCI 1.1; the archive's `manifest.json`.
//!
//! Fields that this module does not know survive in `extra`. Reading takes `null` for a field that may be absent, and the names
//! of fields in any case, as Go does; two keys that differ in case alone are an error.
//!
//! Source: OCI image-spec 1.1, descriptor.md, manifest.md, image-index.md, layer.md; distribution,
//! `docs/spec/manifest-v2-2.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

pub use crate::platform::Platform;
use crate::{config::null_is_default, digest::Digest, gojson};

/// Media types.
pub mod media_type {
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST_V1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    pub const DOCKER_MANIFEST_V1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_PLUGIN_CONFIG: &str = "application/vnd.docker.plugin.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    pub const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
    pub const DOCKER_FOREIGN_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    pub const OCI_FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    pub const OCI_FOREIGN_LAYER_GZIP: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    pub const OCI_FOREIGN_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";

    /// How a layer's tar is compressed, by its media type. The bytes may tell otherwise.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Compression {
        None,
        Gzip,
        Zstd,
    }

    /// What a layer's media type says.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Layer {
        pub compression: Compression,
        /// Not to be pushed; fetched from the descriptor's `urls` if the registry lacks it.
        pub foreign: bool,
    }

    /// Returns what the media type of a layer says; `None` if it is not one of a tar layer.
    pub fn layer(media_type: &str) -> Option<Layer> {
        let (compression, foreign) = match essence(media_type) {
            DOCKER_LAYER | OCI_LAYER => (Compression::None, false),
            DOCKER_LAYER_GZIP | OCI_LAYER_GZIP => (Compression::Gzip, false),
            DOCKER_LAYER_ZSTD | OCI_LAYER_ZSTD => (Compression::Zstd, false),
            DOCKER_FOREIGN_LAYER | OCI_FOREIGN_LAYER => (Compression::None, true),
            DOCKER_FOREIGN_LAYER_GZIP | OCI_FOREIGN_LAYER_GZIP => (Compression::Gzip, true),
            OCI_FOREIGN_LAYER_ZSTD => (Compression::Zstd, true),
            _ => return None,
        };
        Some(Layer { compression, foreign })
    }

    /// Whether an image's config has this type, rather than a plugin's, a chart's or another artifact's.
    pub fn is_image_config(media_type: &str) -> bool {
        matches!(essence(media_type), DOCKER_CONFIG | OCI_CONFIG)
    }

    pub fn is_manifest(media_type: &str) -> bool {
        matches!(essence(media_type), DOCKER_MANIFEST | OCI_MANIFEST)
    }

    pub fn is_index(media_type: &str) -> bool {
        matches!(essence(media_type), DOCKER_MANIFEST_LIST | OCI_INDEX)
    }

    /// The type without parameters: `a/b; charset=utf-8` is `a/b`.
    pub fn essence(media_type: &str) -> &str {
        media_type.split(';').next().unwrap_or_default().trim()
    }
}

/// Annotation of an index entry in an OCI layout: its tag, or its whole reference.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of an index entry in an OCI layout: its whole canonical reference, as containerd and Docker write it.
pub const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";
/// Name of the file that marks a folder as an OCI layout.
pub const OCI_LAYOUT_FILE: &str = "oci-layout";
/// What the file `oci-layout` holds.
pub const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the {what} is not valid JSON of its kind: {source}")]
    Json { what: &'static str, source: serde_json::Error },
    #[error("the {what} {problem}")]
    Invalid { what: &'static str, problem: String },
    #[error(
        "the manifest is of Docker's schema 1, which no tool writes since 2017; push the image again with a newer one"
    )]
    SchemaOne,
}

/// Points at some content: type, digest and size in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// Returns a descriptor that says no more than it must; `size` in bytes.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
            extra: Map::new(),
        }
    }

    /// Returns the descriptor of `bytes`.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }
}

/// An image manifest, Docker schema 2 or OCI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    /// From the base layer up.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Manifest {
    /// Returns an OCI image manifest; `layers` run from the base layer up.
    pub fn oci(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self::of_type(media_type::OCI_MANIFEST, config, layers)
    }

    /// Returns a Docker schema 2 manifest; `layers` run from the base layer up.
    pub fn docker(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self::of_type(media_type::DOCKER_MANIFEST, config, layers)
    }

    fn of_type(media_type: &str, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// Reads a manifest; an index is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        match AnyManifest::parse(bytes)? {
            AnyManifest::Manifest(manifest) => Ok(manifest),
            AnyManifest::Index(_) => Err(invalid("manifest", "is an index of several images, not one image")),
        }
    }
}

/// An index (OCI) or manifest list (Docker).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Index {
    /// Returns an OCI index.
    pub fn oci(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// Reads an index; an image's manifest is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        match AnyManifest::parse(bytes)? {
            AnyManifest::Index(index) => Ok(index),
            AnyManifest::Manifest(_) => Err(invalid("index", "is the manifest of one image, not an index")),
        }
    }

    /// Returns the entry that runs best on `host`; the first of several that are as good.
    ///
    /// An entry without a platform is taken if no other fits.
    pub fn select(&self, host: &Platform) -> Option<&Descriptor> {
        let rank = |entry: &Descriptor| entry.platform.as_ref().map_or(Some(u32::MAX), |p| p.rank_on(host));
        let ranked = self.manifests.iter().filter_map(|entry| Some((rank(entry)?, entry)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    }
}

/// What a registry or a layout gives for a manifest: that of one image, or an index of several.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one is made for a whole image, and taken apart at once")]
pub enum AnyManifest {
    Manifest(Manifest),
    Index(Index),
}

impl AnyManifest {
    /// Reads either, by `mediaType` and by which fields are there.
    ///
    /// Fails if the two contradict each other: such a document means one thing to one tool and another to the next.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            schema_version: Option<Value>,
            media_type: Option<String>,
            manifests: Option<Value>,
            config: Option<Value>,
            layers: Option<Value>,
        }
        let mut document = value("manifest", bytes)?;
        fold(&mut document)
            .map_err(|key| invalid("manifest", format!("has the key {key:?} twice, in different case")))?;
        let probe: Probe = typed("manifest", document.clone())?;
        let (image, index) = (probe.config.is_some() || probe.layers.is_some(), probe.manifests.is_some());
        match probe.schema_version.as_ref().and_then(Value::as_u64) {
            Some(2) => {}
            Some(1) => return Err(ManifestError::SchemaOne),
            _ => return Err(invalid("manifest", "has no schemaVersion 2")),
        }
        let is_index = match probe.media_type.as_deref() {
            None | Some("") => index,
            Some(known) if media_type::is_index(known) => true,
            Some(known) if media_type::is_manifest(known) => false,
            Some(other) => return Err(invalid("manifest", format!("has the unknown mediaType {other:?}"))),
        };
        let both = if is_index { image } else { index };
        if both {
            return Err(invalid("manifest", "has fields of an image manifest and of an index at once"));
        }
        if is_index {
            typed("index", document).map(Self::Index)
        } else {
            typed("manifest", document).map(Self::Manifest)
        }
    }
}

/// One image of a Docker archive's `manifest.json`.
///
/// Source: moby `image/tarexport/tarexport.go`, `manifestItem`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ArchiveManifest {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// Paths in the archive, from the base layer up.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub parent: String,
    /// Foreign layers' descriptors by DiffID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_sources: Option<BTreeMap<String, Descriptor>>,
}

impl ArchiveManifest {
    /// Reads the whole of `manifest.json`.
    pub fn parse_list(bytes: &[u8]) -> Result<Vec<Self>, ManifestError> {
        let what = "archive's manifest.json";
        let mut list = value(what, bytes)?;
        let images = list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
        images
            .into_iter()
            .try_for_each(|image| gojson::fold_keys(image, ARCHIVE))
            .map_err(|key| invalid(what, format!("has the key {key:?} twice, in different case")))?;
        typed::<Option<Vec<Self>>>(what, list).map(Option::unwrap_or_default)
    }
}

fn value(what: &'static str, bytes: &[u8]) -> Result<Value, ManifestError> {
    gojson::from_slice(bytes).map_err(|source| ManifestError::Json { what, source })
}

fn typed<T: DeserializeOwned>(what: &'static str, document: Value) -> Result<T, ManifestError> {
    serde_json::from_value(document).map_err(|source| ManifestError::Json { what, source })
}

const TOP: &[&str] =
    &["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"];
const DESCRIPTOR: &[&str] = &["mediaType", "digest", "size", "urls", "annotations", "platform", "artifactType"];
const PLATFORM: &[&str] = &["architecture", "os", "os.version", "os.features", "variant"];
const ARCHIVE: &[&str] = &["Config", "RepoTags", "Layers", "Parent", "LayerSources"];

/// Gives the known fields of a manifest or index their own case. Annotations stay as they are.
fn fold(document: &mut Value) -> Result<(), String> {
    let Value::Object(top) = document else { return Ok(()) };
    gojson::fold_keys(top, TOP)?;
    for (name, value) in top.iter_mut() {
        match (name.as_str(), value) {
            ("config" | "subject", Value::Object(one)) => fold_descriptor(one)?,
            ("layers" | "manifests", Value::Array(list)) => {
                list.iter_mut().filter_map(Value::as_object_mut).try_for_each(fold_descriptor)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn fold_descriptor(fields: &mut Map<String, Value>) -> Result<(), String> {
    gojson::fold_keys(fields, DESCRIPTOR)?;
    match fields.get_mut("platform") {
        Some(Value::Object(platform)) => gojson::fold_keys(platform, PLATFORM),
        _ => Ok(()),
    }
}

fn invalid(what: &'static str, problem: impl Into<String>) -> ManifestError {
    ManifestError::Invalid { what, problem: problem.into() }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
