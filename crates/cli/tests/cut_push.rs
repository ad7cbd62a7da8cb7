//! A push through what cuts its connections, to our server and to docker-registry.

mod common;

use std::process::Command;

use common::{Root, root};
use strata_testkit::{
    proxy::Proxy,
    registry::{DockerRegistry, Image, digest},
};

/// Bytes of the big layer.
const BIG: usize = 24 << 20;

fn strata(root: &Root, args: &[&str]) -> Command {
    let mut command = root.command(args);
    command.env("DOCKER_CONFIG", root.scratch.join("docker")).env("STRATA_CERTS_DIR", root.scratch.join("certs.d"));
    command.env_remove("STRATA_REGISTRY_MIRRORS").env_remove("STRATA_INSECURE_REGISTRIES");
    command
}

#[track_caller]
fn ok(root: &Root, args: &[&str]) {
    let output = strata(root, args).output().expect("strata runs");
    assert!(output.status.success(), "strata {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Pulls an image, and pushes it to the registry at `to` through connections of which two are cut; returns the bytes that went there.
fn push_cut(root: &Root, to: &str, manifest: impl Fn(&str) -> Vec<u8>) -> u64 {
    let Some(source) = DockerRegistry::start() else { return 0 };
    let image = Image::new(&[Image::layer(7000, BIG), Image::layer(7001, 10)]);
    source.put("a", "1", &image);
    let local = format!("{}/a:1", source.host());
    ok(root, &["pull", "-q", &local]);
    let proxy = Proxy::start(to);
    // The same blobs, whole and in chunks.
    let name = format!("{}/kept:1", proxy.host());
    ok(root, &["tag", &local, &name]);
    proxy.cut(2, 10 << 20);
    ok(root, &["push", "-q", &name]);
    assert_eq!((proxy.left(), digest(&manifest("kept"))), (0, image.digest()));
    let sent = proxy.sent();
    // Compressed anew.
    drop(source);
    for forgotten in ["image/overlay2/distribution", "strata/content/pins/manifests"] {
        std::fs::remove_dir_all(root.join(forgotten)).expect("it was there");
    }
    let name = format!("{}/anew:1", proxy.host());
    ok(root, &["tag", &local, &name]);
    proxy.cut(2, 10 << 20);
    ok(root, &["push", "-q", &name]);
    assert_eq!(proxy.left(), 0);
    let parsed: serde_json::Value = serde_json::from_slice(&manifest("anew")).expect("JSON");
    assert_eq!(parsed["config"]["digest"], image.id());
    ok(root, &["rmi", &local, &name]);
    ok(root, &["pull", "-q", &name]);
    assert_eq!(root.inspect(&name)["Id"], image.id());
    root.assert_sound(&"after cut pushes");
    sent
}

#[test]
fn our_server_is_gone_on_with_where_it_is() {
    let Some(root) = root() else { return };
    let server = common::server::serve(&root.scratch.join("registry"));
    let manifest = |repository: &str| {
        let path = format!("docker/registry/v2/repositories/{repository}/_manifests/tags/1/current/link");
        let link = std::fs::read_to_string(root.scratch.join("registry").join(path)).expect("a tag");
        let hex = link.trim_start_matches("sha256:").to_owned();
        let blob = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        std::fs::read(root.scratch.join("registry").join(blob)).expect("a manifest")
    };
    let sent = push_cut(&root, &server.host, manifest);
    if sent > 0 {
        // What two cuts lost is what was under way, not what had arrived.
        assert!(sent < BIG as u64 * 3 / 2, "{sent} bytes went there for {BIG}");
    }
}

#[test]
fn docker_registry_is_sent_all_again() {
    let (Some(root), Some(registry)) = (root(), DockerRegistry::start()) else { return };
    push_cut(&root, &registry.host(), |repository| registry.manifest(repository, "1").1);
}

#[test]
fn a_connection_that_is_cut_every_64_kib_of_a_blob_arrives_in_the_end() {
    const CUT: u64 = 64 << 10;
    let (Some(root), Some(source)) = (root(), DockerRegistry::start()) else { return };
    let image = Image::new(&[Image::layer(7010, 1 << 20)]);
    source.put("a", "1", &image);
    let local = format!("{}/a:1", source.host());
    ok(&root, &["pull", "-q", &local]);
    let server = common::server::serve(&root.scratch.join("registry"));
    let proxy = Proxy::start(&server.host);
    let name = format!("{}/cut:1", proxy.host());
    ok(&root, &["tag", &local, &name]);
    proxy.cut(usize::MAX, CUT);
    ok(&root, &["push", "-q", &name]);
    let cuts = usize::MAX - proxy.left();
    assert!(cuts as u64 >= (1 << 20) / CUT, "{cuts} cuts");
    ok(&root, &["rmi", &local, &name]);
    ok(&root, &["pull", "-q", &format!("{}/cut:1", server.host)]);
    assert_eq!(root.inspect(&format!("{}/cut:1", server.host))["Id"], image.id());
}
