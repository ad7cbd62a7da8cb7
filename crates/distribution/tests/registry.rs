//! Images to CNCF distribution's registry and back.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Heard, client, root, tars};
use serde_json::{Value, json};
use strata_spec::Platform;
use strata_testkit::registry::{DockerRegistry, Image, LIST, OCI_INDEX, OCI_MANIFEST, gzip};

#[test]
fn what_is_pulled_is_the_image_by_tag_and_digest() {
    let (Some(registry), Some(root)) = (DockerRegistry::start(), root()) else { return };
    let tars = tars(1, &[300_000, 10, 70_000]);
    let image = Image::new(&tars);
    let digest = registry.put("team/app", "1", &image);
    let name = format!("{}/team/app:1", registry.host());
    let pulled = root.pull(&client(), &name).unwrap();
    assert_eq!((pulled.id.to_string(), pulled.digest.to_string()), (image.id(), digest.clone()));
    assert!(!pulled.up_to_date);
    for (at, tar) in tars.iter().enumerate() {
        assert!(root.layer(&name, at) == *tar, "layer {at}");
    }
    root.assert_holds(1, 3);
    assert_eq!(root.partials(), Vec::<String>::new());
    assert!(root.pull(&client(), &name).unwrap().up_to_date);
    let by_digest = format!("{}/team/app@{digest}", registry.host());
    assert_eq!(root.pull(&client(), &by_digest).unwrap().id, pulled.id);
    assert_eq!(root.images.resolve(&by_digest).unwrap(), pulled.id, "the digest is a name of it");
}

#[test]
fn an_image_goes_there_and_back() {
    let (Some(registry), Some(first), Some(second)) = (DockerRegistry::start(), root(), root()) else { return };
    let (Some(source), tars) = (DockerRegistry::start(), tars(2, &[2_000_000, 0, 40])) else { return };
    source.put("a", "1", &Image::new(&tars));
    let local = format!("{}/a:1", source.host());
    first.pull(&client(), &local).unwrap();
    // Nothing is known of where it came from: the layers are compressed anew.
    std::fs::remove_dir_all(first.join("strata/content/pins/manifests")).unwrap();
    std::fs::remove_dir_all(first.join("image/overlay2/distribution")).unwrap();
    let name = format!("{}/deep/er/path:2", registry.host());
    first.tag(&local, &name);
    let pushed = first.push(&client(), &name).unwrap();
    assert!(!pushed.kept);
    let (kind, manifest) = registry.manifest("deep/er/path", "2");
    assert_eq!((kind.as_str(), pushed.size), (strata_testkit::registry::MANIFEST, manifest.len() as u64));
    let pulled = second.pull(&client(), &name).unwrap();
    assert_eq!((pulled.id, pulled.digest), (pushed.id, pushed.digest));
    for (at, tar) in tars.iter().enumerate() {
        assert!(second.layer(&name, at) == *tar, "layer {at}");
    }
    let (heard, again) = (Heard::default(), format!("{}/deep/er/path:3", registry.host()));
    first.tag(&local, &again);
    assert_eq!(first.push_telling(&client(), &again, &heard).unwrap().digest, pushed.digest, "the same manifest again");
    assert_eq!(heard.count("Layer already exists"), 3, "{:?}", heard.all());
}

#[test]
fn layers_come_in_any_compression() {
    let (Some(registry), Some(root)) = (DockerRegistry::start(), root()) else { return };
    let tars = tars(3, &[200_000, 50_000, 90_000, 10]);
    let image = Image::oci(&tars, |at, tar| match at {
        0 => ("application/vnd.oci.image.layer.v1.tar+zstd".into(), zstd::encode_all(tar, 3).unwrap()),
        1 => ("application/vnd.oci.image.layer.v1.tar".into(), tar.to_vec()),
        // Its type says one thing, its bytes another.
        2 => ("application/vnd.oci.image.layer.v1.tar+gzip".into(), zstd::encode_all(tar, 3).unwrap()),
        _ => ("application/vnd.oci.image.layer.v1.tar+gzip".into(), gzip(tar)),
    });
    let digest = registry.put("mixed", "latest", &image);
    let name = format!("{}/mixed", registry.host());
    let pulled = root.pull(&client(), &name).unwrap();
    assert_eq!((pulled.id.to_string(), pulled.digest.to_string()), (image.id(), digest.clone()));
    for (at, tar) in tars.iter().enumerate() {
        assert!(root.layer(&format!("{name}:latest"), at) == *tar, "layer {at}");
    }
    // Pushed to another repository it is mounted, to another registry copied: the same manifest, whatever its layers are.
    let Some(other) = DockerRegistry::start() else { return };
    for (to, registry) in
        [(format!("{}/next/one:x", registry.host()), &registry), (format!("{}/far:x", other.host()), &other)]
    {
        root.tag(&format!("{name}:latest"), &to);
        let pushed = root.push(&client(), &to).unwrap();
        assert!(pushed.kept && pushed.digest.to_string() == digest, "{to}: {pushed:?}");
        let repository = to.split_once('/').unwrap().1.trim_end_matches(":x");
        assert_eq!(registry.manifest(repository, "x"), (OCI_MANIFEST.to_owned(), image.manifest.clone()));
    }
    assert_eq!(root.partials(), Vec::<String>::new());
}

#[test]
fn layers_are_mounted_from_a_repository_that_has_them() {
    let (Some(registry), Some(root)) = (DockerRegistry::start(), root()) else { return };
    let image = Image::new(&tars(4, &[50_000, 60_000]));
    registry.put("from", "1", &image);
    let (from, to) = (format!("{}/from:1", registry.host()), format!("{}/to:1", registry.host()));
    root.pull(&client(), &from).unwrap();
    root.tag(&from, &to);
    let heard = Heard::default();
    root.push_telling(&client(), &to, &heard).unwrap();
    assert_eq!((heard.count("Mounted from"), heard.count("Pushed")), (2, 0), "{:?}", heard.all());
}

#[test]
fn an_index_gives_the_image_of_a_platform() {
    let (Some(registry), Some(root)) = (DockerRegistry::start(), root()) else { return };
    let image = |seed, platform: &str| {
        let tars = tars(seed, &[1000]);
        let config = Image::config(&tars, &platform.parse::<Platform>().unwrap());
        let layers = vec![("application/vnd.oci.image.layer.v1.tar+gzip".to_owned(), gzip(&tars[0]))];
        Image::of(&config, layers, OCI_MANIFEST, "application/vnd.oci.image.config.v1+json")
    };
    let own = Platform::host().to_string();
    let (host, arm, riscv) = (image(5, &own), image(6, "linux/arm/v7"), image(7, "linux/riscv64"));
    for image in [&host, &arm, &riscv] {
        registry.put("many", &image.digest(), image);
    }
    let mut attestation = host.entry("unknown/unknown");
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let put = |tag: &str, kind: &str, entries: Vec<Value>| {
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string();
        registry.put_manifest("many", tag, kind, index.as_bytes());
        strata_testkit::registry::digest(index.as_bytes())
    };
    let list = put("list", OCI_INDEX, vec![attestation, arm.entry("linux/arm/v7"), host.entry(&own)]);
    let name = format!("{}/many:list", registry.host());
    let pulled = root.pull(&client(), &name).unwrap();
    assert_eq!((pulled.id.to_string(), pulled.digest.to_string()), (host.id(), list.clone()));
    assert_eq!(root.pull_for(&client(), &name, Some("linux/arm/v7")).unwrap().id.to_string(), arm.id());
    assert_eq!(root.images.resolve(&name).unwrap().to_string(), arm.id(), "the tag moved");
    let by_digest = format!("{}/many@{list}", registry.host());
    assert_eq!(root.images.resolve(&by_digest).unwrap().to_string(), host.id(), "a digest never does");
    let error = root.pull_for(&client(), &by_digest, Some("linux/arm/v7")).unwrap_err().to_string();
    assert!(error.contains("another platform") && error.contains(&arm.id()), "{error}");
    let error = root.pull_for(&client(), &name, Some("linux/s390x")).unwrap_err().to_string();
    assert!(error.contains("no matching manifest for linux/s390x") && error.contains("linux/arm/v7"), "{error}");

    let inner = json!({"mediaType": OCI_INDEX, "digest": list, "size": registry.manifest("many", "list").1.len()});
    let outer = put("nested", OCI_INDEX, vec![inner, riscv.entry("linux/riscv64")]);
    let pulled = root.pull(&client(), &format!("{}/many@{outer}", registry.host())).unwrap();
    assert_eq!((pulled.id.to_string(), pulled.digest.to_string()), (host.id(), outer));
    let docker = Image::new(&tars(8, &[10]));
    registry.put("many", &docker.digest(), &docker);
    put("docker", LIST, vec![docker.entry(&own)]);
    assert_eq!(root.pull(&client(), &format!("{}/many:docker", registry.host())).unwrap().id.to_string(), docker.id());
    let error = root.pull_for(&client(), &format!("{}/mono:1", registry.host()), None).unwrap_err().to_string();
    assert!(error.contains("not found") && error.contains("mono:1"), "{error}");
}

#[test]
fn an_image_of_another_platform_is_not_taken_for_the_one_that_is_wanted() {
    let (Some(registry), Some(root)) = (DockerRegistry::start(), root()) else { return };
    registry.put("mono", "1", &Image::new(&tars(9, &[10])));
    let error = root.pull_for(&client(), &format!("{}/mono:1", registry.host()), Some("linux/s390x")).unwrap_err();
    assert!(error.to_string().contains("does not match the specified platform"), "{error}");
    root.assert_holds(0, 0);
}

#[test]
fn what_is_no_image_is_refused_with_what_it_is() {
    let (Some(registry), Some(root)) = (DockerRegistry::start(), root()) else { return };
    let tars = tars(10, &[10]);
    let layers = vec![("application/vnd.cncf.helm.chart.content.v1.tar+gzip".to_owned(), gzip(&tars[0]))];
    let chart = Image::of(b"{}", layers, OCI_MANIFEST, "application/vnd.cncf.helm.config.v1+json");
    registry.put("chart", "1", &chart);
    let plugin = Image::of(b"{}", Vec::new(), OCI_MANIFEST, "application/vnd.docker.plugin.v1+json");
    registry.put("plugin", "1", &plugin);
    for (name, says) in [("chart", "vnd.cncf.helm.config"), ("plugin", "a Docker plugin")] {
        let error = root.pull(&client(), &format!("{}/{name}:1", registry.host())).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("not a container image"), "{error}");
    }
    root.assert_holds(0, 0);
}
