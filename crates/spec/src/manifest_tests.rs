use proptest::prelude::*;
use serde_json::json;

use super::*;

fn descriptor(media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256("x").to_string(), "size": 1})
}

fn entry(platform: Value) -> Value {
    let mut entry = descriptor(media_type::OCI_MANIFEST);
    entry["platform"] = platform;
    entry
}

fn parse(value: &Value) -> Result<AnyManifest, ManifestError> {
    AnyManifest::parse(value.to_string().as_bytes())
}

#[test]
fn layers_by_media_type() {
    use media_type::{Compression::*, Layer, layer};
    for (text, compression, foreign) in [
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", Gzip, false),
        ("application/vnd.docker.image.rootfs.diff.tar", None, false),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Gzip, true),
        ("application/vnd.oci.image.layer.v1.tar", None, false),
        ("application/vnd.oci.image.layer.v1.tar+gzip", Gzip, false),
        ("application/vnd.oci.image.layer.v1.tar+zstd; x=y", Zstd, false),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Zstd, true),
    ] {
        assert_eq!(layer(text), Some(Layer { compression, foreign }), "{text}");
    }
    for text in ["", "text/plain", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", media_type::OCI_CONFIG] {
        assert_eq!(layer(text), Option::None, "{text}");
    }
}

#[test]
fn manifests_and_indexes_are_told_apart() {
    let image = json!({"schemaVersion": 2, "config": descriptor(media_type::OCI_CONFIG), "layers": null});
    assert!(matches!(parse(&image), Ok(AnyManifest::Manifest(m)) if m.layers.is_empty()));
    let index = json!({"schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST_LIST, "manifests": null});
    assert!(matches!(parse(&index), Ok(AnyManifest::Index(i)) if i.manifests.is_empty()));
    assert!(matches!(parse(&json!({"schemaVersion": 2, "manifests": []})), Ok(AnyManifest::Index(_))));
    assert!(Index::parse(image.to_string().as_bytes()).unwrap_err().to_string().contains("one image"));
    assert!(Manifest::parse(index.to_string().as_bytes()).unwrap_err().to_string().contains("several images"));
}

#[test]
fn what_cannot_be_used_is_named() {
    let config = descriptor(media_type::OCI_CONFIG);
    for (value, named) in [
        (json!(null), "not valid JSON"),
        (json!({}), "no schemaVersion 2"),
        (json!({"schemaVersion": 3, "manifests": []}), "no schemaVersion 2"),
        (json!({"schemaVersion": 1, "name": "x"}), "schema 1"),
        (json!({"schemaVersion": 2}), "missing field `config`"),
        (json!({"schemaVersion": 2, "mediaType": "a/b"}), r#"unknown mediaType "a/b""#),
        (json!({"schemaVersion": 2, "config": config, "manifests": []}), "at once"),
        (json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "layers": []}), "at once"),
        (json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "manifests": []}), "at once"),
        (json!({"schemaVersion": 2, "config": {"mediaType": "", "digest": "sha256:0", "size": 1}}), "invalid digest"),
        (json!({"schemaVersion": 2, "config": {"digest": Digest::sha256("").to_string(), "size": -1}}), "-1"),
    ] {
        let error = parse(&value).unwrap_err().to_string();
        assert!(error.contains(named), "{value}: {error}");
    }
}

#[test]
fn unknown_fields_survive() {
    let mut config = descriptor(media_type::OCI_CONFIG);
    config["data"] = json!("e30=");
    let image = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [], "new": {"z": 1},
    });
    let Ok(AnyManifest::Manifest(manifest)) = parse(&image) else { panic!("not read") };
    assert_eq!(serde_json::to_value(&manifest).unwrap(), image);
    assert_eq!(manifest.config.extra["data"], "e30=");
}

#[test]
fn the_entry_that_runs_best_is_selected() {
    let pick = |entries: Vec<Value>, host: &str| {
        let index = json!({"schemaVersion": 2, "manifests": entries});
        let index = Index::parse(index.to_string().as_bytes()).unwrap();
        let host = host.parse().unwrap();
        index.select(&host).map(|entry| index.manifests.iter().position(|e| std::ptr::eq(e, entry)).unwrap())
    };
    let platform = |architecture: &str, variant: &str| {
        entry(json!({"os": "linux", "architecture": architecture, "variant": variant}))
    };
    let arms = vec![platform("arm", "v5"), platform("arm", "v7"), platform("arm64", "v8"), platform("amd64", "")];
    assert_eq!(pick(arms.clone(), "linux/arm/v6"), Some(0));
    assert_eq!(pick(arms.clone(), "linux/arm/v7"), Some(1));
    assert_eq!(pick(arms.clone(), "linux/arm64"), Some(2));
    assert_eq!(pick(arms.clone(), "linux/amd64"), Some(3));
    assert_eq!(pick(arms.clone(), "linux/s390x"), None);
    let unknown = entry(json!({"os": "unknown", "architecture": "unknown"}));
    let plain = descriptor(media_type::OCI_MANIFEST);
    assert_eq!(pick(vec![unknown, plain, platform("amd64", "")], "linux/amd64"), Some(2));
    assert_eq!(pick(vec![descriptor(media_type::OCI_MANIFEST)], "linux/amd64"), Some(0));
}

#[test]
fn an_archives_manifest() {
    let json = br#"[{"Config":"a.json","RepoTags":null,"Layers":["l/layer.tar"]}]"#;
    let list = ArchiveManifest::parse_list(json).unwrap();
    assert_eq!(crate::gojson::to_vec(&list).unwrap(), json);
    assert!(ArchiveManifest::parse_list(b"null").unwrap().is_empty());
    assert_eq!(ArchiveManifest::parse_list(br#"[{"Config":"c","Layers":null}]"#).unwrap()[0].layers, [""; 0]);
    let error = ArchiveManifest::parse_list(br#"[{"Layers":[]}]"#).unwrap_err().to_string();
    assert!(error.contains("manifest.json") && error.contains("`Config`"), "{error}");
}

proptest! {
    #[test]
    fn parse_never_panics(bytes in any::<Vec<u8>>()) {
        let _ = AnyManifest::parse(&bytes);
        let _ = ArchiveManifest::parse_list(&bytes);
    }
}

#[test]
fn keys_count_in_any_case_and_once() {
    let lower = |value: Value| {
        let text = value.to_string();
        text.replace("schemaVersion", "SCHEMAVERSION").replace("mediaType", "mediatype").replace("digest", "Digest")
    };
    let config = descriptor(media_type::OCI_CONFIG);
    let image = json!({"schemaVersion": 2, "config": config, "layers": [descriptor(media_type::OCI_LAYER)]});
    assert_eq!(AnyManifest::parse(lower(image.clone()).as_bytes()).unwrap(), parse(&image).unwrap());
    let platform = json!({"OS": "linux", "Architecture": "arm64", "Variant": "v8"});
    let mut one = entry(platform);
    one["annotations"] = json!({"Digest": "kept as it is"});
    let index = parse(&json!({"schemaVersion": 2, "Manifests": [one]})).unwrap();
    let AnyManifest::Index(index) = index else { panic!("an index") };
    assert_eq!(index.manifests[0].platform.as_ref().unwrap().to_string(), "linux/arm64/v8");
    assert!(index.manifests[0].annotations.contains_key("Digest"));

    let twice = json!({"schemaVersion": 2, "config": config, "Config": config, "layers": []});
    assert!(parse(&twice).unwrap_err().to_string().contains("\"Config\" twice"));

    let archive = r#"[{"config":"a.json","repotags":["b:1"],"LAYERS":["c"]}]"#;
    let list = ArchiveManifest::parse_list(archive.as_bytes()).unwrap();
    assert_eq!((list[0].config.as_str(), list[0].layers.len()), ("a.json", 1));
    assert_eq!(list[0].repo_tags.as_deref(), Some(&["b:1".to_owned()][..]));
}
