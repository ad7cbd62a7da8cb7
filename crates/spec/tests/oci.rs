//! An OCI image that another tool wrote; `fixtures/make_oci.sh` tells how.
#![allow(clippy::unwrap_used)]

use strata_spec::{
    Digest, ImageConfig,
    manifest::{ANNOTATION_REF_NAME, Index, Manifest, media_type},
};

const INDEX: &str = include_str!("fixtures/oci/index.json");
const MANIFEST: &str = include_str!("fixtures/oci/manifest.json");
const CONFIG: &str = include_str!("fixtures/oci/config.json");

#[test]
fn an_image_is_followed_from_its_index_to_its_layers() {
    let index = Index::parse(INDEX.as_bytes()).unwrap();
    let entry = index.select(&"linux/arm64".parse().unwrap()).unwrap();
    assert_eq!(entry.annotations[ANNOTATION_REF_NAME], "tag");
    assert_eq!((entry.digest, entry.size), (Digest::sha256(MANIFEST), MANIFEST.len() as u64));

    let manifest = Manifest::parse(MANIFEST.as_bytes()).unwrap();
    assert!(media_type::is_image_config(&manifest.config.media_type));
    assert_eq!((manifest.config.digest, manifest.config.size), (Digest::sha256(CONFIG), CONFIG.len() as u64));
    assert_eq!(manifest.layers.len(), 1);
    let layer = media_type::layer(&manifest.layers[0].media_type).unwrap();
    assert_eq!(layer.compression, media_type::Compression::Gzip);

    let config = ImageConfig::parse(CONFIG).unwrap();
    assert_eq!(config.id().digest(), manifest.config.digest);
    assert_eq!(config.diff_ids().len(), manifest.layers.len());
    let document = config.document();
    assert_eq!(document.history.iter().filter(|step| !step.empty_layer).count(), 1);
    let run = document.config.as_ref().unwrap();
    assert_eq!((run.user.as_str(), run.working_dir.as_str()), ("1:2", "/w"));
    assert!(run.exposed_ports.contains_key("80/tcp") && document.extra.is_empty() && run.extra.is_empty());
}
