//! The JSON files of an archive.

use std::collections::BTreeMap;

use serde::Serialize;
use strata_spec::{
    DiffId, Digest, gojson,
    manifest::{
        ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, ArchiveManifest, Descriptor, Index, Manifest, OCI_LAYOUT,
        OCI_LAYOUT_FILE, media_type,
    },
};

use super::select::Image;

/// The documents of an archive.
pub(super) struct Documents {
    /// `oci-layout`, `index.json`, `manifest.json` and, where there are names, `repositories`.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Configs and manifests by their digest.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
}

/// Writes the documents about `images`; `size` gives the bytes of a layer's tar.
pub(super) fn documents(images: &[Image], size: impl Fn(DiffId) -> u64) -> Documents {
    let mut blobs = BTreeMap::new();
    let mut index = Vec::new();
    let mut archive = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for image in images {
        let raw = image.config.raw();
        let config = Descriptor::of(media_type::OCI_CONFIG, raw);
        let diffs = image.config.diff_ids();
        let layer = |diff: &DiffId| Descriptor::new(media_type::OCI_LAYER, diff.digest(), size(*diff));
        let manifest = json(&Manifest::oci(config.clone(), diffs.iter().map(layer).collect()));
        let entry = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
        if image.names.is_empty() {
            index.push(entry.clone());
        }
        for name in &image.names {
            let tag = name.tag().expect("only tags are selected");
            let mut entry = entry.clone();
            entry.annotations.insert(ANNOTATION_IMAGE_NAME.to_owned(), name.to_string());
            entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), tag.to_owned());
            index.push(entry);
            if let Some(top) = diffs.last() {
                repositories.entry(name.familiar_name()).or_default().insert(tag.to_owned(), top.hex());
            }
        }
        archive.push(ArchiveManifest {
            config: blob_name(config.digest),
            repo_tags: (!image.names.is_empty()).then(|| image.names.iter().map(|name| name.familiar()).collect()),
            layers: diffs.iter().map(|diff| blob_name(diff.digest())).collect(),
            parent: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
            layer_sources: None,
        });
        blobs.insert(config.digest, raw.to_vec());
        blobs.insert(entry.digest, manifest);
    }
    let mut files = vec![
        (OCI_LAYOUT_FILE, OCI_LAYOUT.as_bytes().to_vec()),
        ("index.json", json(&Index::oci(index))),
        ("manifest.json", json(&archive)),
    ];
    if !repositories.is_empty() {
        files.push(("repositories", json(&repositories)));
    }
    Documents { files, blobs }
}

/// `blobs/sha256/<hex>`
pub(super) fn blob_name(digest: Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    gojson::to_vec(value).expect("documents are JSON")
}
