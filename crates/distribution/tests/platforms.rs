//! Images with all their platforms: kept, pushed with their index, and gone with their image.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{client, names, root, tars};
use serde_json::{Value, json};
use strata_spec::Platform;
use strata_testkit::registry::{DockerRegistry, Image, LIST, MANIFEST, OCI_INDEX, OCI_MANIFEST, digest, gzip};

const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image for a platform, with a layer of its own and one that all share.
fn image(seed: u64, platform: &str) -> Image {
    let tars = [tars(7, &[30_000]), tars(seed, &[60_000])].concat();
    let config = Image::config(&tars, &platform.parse::<Platform>().unwrap());
    let layers = tars.iter().map(|tar| (OCI_LAYER.to_owned(), gzip(tar))).collect();
    Image::of(&config, layers, OCI_MANIFEST, OCI_CONFIG)
}

/// Puts an index in an index with three platforms and an attestation, as BuildKit makes them; returns the outer one's digest, and all manifests.
fn put(registry: &DockerRegistry, repository: &str) -> (String, Vec<String>) {
    let own = Platform::host().to_string();
    let images = [
        (image(1, &own), own.as_str()),
        (image(2, "linux/arm/v7"), "linux/arm/v7"),
        (image(3, "linux/s390x"), "linux/s390x"),
    ];
    let layers = vec![("application/vnd.in-toto+json".to_owned(), b"{\"_type\":\"statement\"}".to_vec())];
    let attestation = Image::of(b"{\"architecture\":\"unknown\",\"os\":\"unknown\"}", layers, OCI_MANIFEST, OCI_CONFIG);
    let mut entries: Vec<Value> = Vec::new();
    for (image, platform) in &images {
        registry.put(repository, &image.digest(), image);
        entries.push(image.entry(platform));
    }
    registry.put(repository, &attestation.digest(), &attestation);
    let mut entry = attestation.entry("unknown/unknown");
    entry["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": images[0].0.digest()});
    entries.push(entry);
    let inner = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries.split_off(2)}).to_string();
    registry.put_manifest(repository, &digest(inner.as_bytes()), OCI_INDEX, inner.as_bytes());
    entries.push(json!({"mediaType": OCI_INDEX, "digest": digest(inner.as_bytes()), "size": inner.len()}));
    let outer =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, "annotations": {"kept": "as it is"}});
    let outer = serde_json::to_string_pretty(&outer).unwrap();
    registry.put_manifest(repository, "1", OCI_INDEX, outer.as_bytes());
    let mut all: Vec<String> = images.iter().map(|(image, _)| image.digest()).collect();
    all.extend([attestation.digest(), digest(inner.as_bytes())]);
    (digest(outer.as_bytes()), all)
}

#[test]
fn an_index_is_pushed_as_what_it_was_pulled_when_its_source_is_gone() {
    let (Some(source), Some(target), Some(root)) = (DockerRegistry::start(), DockerRegistry::start(), root()) else {
        return;
    };
    let (index, manifests) = put(&source, "many");
    let (from, to) = (format!("{}/many:1", source.host()), format!("{}/elsewhere/many:2", target.host()));
    let pulled = root.pull_all(&client(), &from).unwrap();
    assert_eq!(pulled.digest.to_string(), index);
    assert_eq!(root.partials(), Vec::<String>::new());
    // Four layers, three configs, an attestation of two blobs, and six documents.
    assert_eq!(names(&root.join("strata/content/blobs/sha256")).len(), 4 + 3 + 2 + 6);
    let wanted = source.manifest("many", "1");
    // To another repository of the same registry nothing is sent.
    let beside = format!("{}/beside:x", source.host());
    root.tag(&from, &beside);
    root.push_all(&client(), &beside).unwrap();
    assert_eq!(source.manifest("beside", "x"), wanted);
    drop(source);
    root.tag(&from, &to);
    let pushed = root.push_all(&client(), &to).unwrap();
    assert_eq!((pushed.digest.to_string(), pushed.id, pushed.kept), (index.clone(), pulled.id, true));
    assert_eq!(target.manifest("elsewhere/many", "2"), wanted);
    for manifest in &manifests {
        let (_, bytes) = target.manifest("elsewhere/many", manifest);
        let parsed: Value = serde_json::from_slice(&bytes).unwrap();
        let layers = parsed["layers"].as_array().cloned().unwrap_or_default();
        for blob in layers.iter().chain([&parsed["config"]]).filter_map(|blob| blob["digest"].as_str()) {
            assert!(target.has_blob("elsewhere/many", blob), "{manifest}: {blob}");
        }
    }
    assert_eq!(root.images.resolve(&format!("{}/elsewhere/many@{index}", target.host())).unwrap(), pulled.id);
    root.assert_holds(1, 2);
}

#[test]
fn one_platform_alone_and_what_is_damaged_is_told_with_the_way_out() {
    let (Some(source), Some(root)) = (DockerRegistry::start(), root()) else { return };
    put(&source, "many");
    let name = format!("{}/many:1", source.host());
    root.pull(&client(), &name).unwrap();
    let error = root.push_all(&client(), &name).unwrap_err().to_string();
    assert!(error.contains("pull of all platforms"), "{error}");
    root.pull_all(&client(), &name).unwrap();
    let blobs = root.join("strata/content/blobs/sha256");
    let layer = image(3, "linux/s390x").layers[1].1.clone();
    let path = blobs.join(digest(&layer).trim_start_matches("sha256:"));
    assert_eq!(fs::read(&path).unwrap(), layer);
    // On another registry: from a repository beside it would be mounted.
    let Some(target) = DockerRegistry::start() else { return };
    let to = format!("{}/to:1", target.host());
    root.tag(&name, &to);
    for damage in [&layer[..1000], &[&layer[..1000], &[0], &layer[1001..]].concat()[..]] {
        fs::write(&path, damage).unwrap();
        let error = root.push_all(&client(), &to).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("pull of all platforms"), "{error}");
        assert!(!target.has_blob("to", &digest(&layer)));
        root.pull_all(&client(), &name).unwrap();
        assert_eq!(fs::read(&path).unwrap(), layer);
    }
    root.push_all(&client(), &to).unwrap();
    assert_eq!(target.manifest("to", "1"), source.manifest("many", "1"));
}

#[test]
fn what_no_image_needs_goes() {
    let (Some(source), Some(root)) = (DockerRegistry::start(), root()) else { return };
    put(&source, "many");
    let single = Image::new(&tars(20, &[10_000]));
    source.put("single", "1", &single);
    let list =
        json!({"schemaVersion": 2, "mediaType": LIST, "manifests": [single.entry(&Platform::host().to_string())]})
            .to_string();
    source.put_manifest("single", "list", LIST, list.as_bytes());
    let many = root.pull_all(&client(), &format!("{}/many:1", source.host())).unwrap();
    // A manifest that is in no index is all there is; the last that an image was pulled with counts.
    let blobs = || names(&root.join("strata/content/blobs/sha256")).len();
    let before = blobs();
    let (plain, listed) = (format!("{}/single:1", source.host()), format!("{}/single:list", source.host()));
    let pulled = root.pull_all(&client(), &plain).unwrap();
    assert_eq!((pulled.digest.to_string(), blobs()), (single.digest(), before + 3));
    assert_eq!(root.push_all(&client(), &plain).unwrap().digest.to_string(), single.digest());
    assert_eq!(source.manifest("single", "1").0, MANIFEST);
    root.pull_all(&client(), &listed).unwrap();
    assert_eq!(blobs(), before + 4);
    for name in root.images.tags().read().unwrap().of(many.id) {
        root.images.tags().remove(&name).unwrap();
    }
    root.images.delete(many.id).unwrap();
    assert!(strata_distribution::kept::sweep(&root.stores()).unwrap() > 100_000);
    assert_eq!((blobs(), names(&root.join("strata/content/pins/platforms")).len()), (4, 1));
}
