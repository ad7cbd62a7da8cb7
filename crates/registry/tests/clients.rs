//! Other people's clients push to ours and pull from it, and the digests stay.
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, process::Command};

use common::{Client, Ours};
use strata_testkit::{Dockerd, registry::Image, require, scratch};

/// Puts an image of two layers under `repo:tag`.
fn put(c: &Client, repo: &str, tag: &str) -> Image {
    let image = Image::new(&[Image::layer(1, 200_000), Image::layer(2, 3_000)]);
    image.blobs().for_each(|blob| assert_eq!(c.put_blob(repo, blob), strata_spec::Digest::sha256(blob)));
    let reply = c.put_manifest(repo, tag, &image.media_type, &image.manifest);
    assert_eq!(reply.status, 201, "{}", reply.text());
    image
}

fn run(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn digest_of(c: &Client, repo: &str, tag: &str) -> String {
    c.manifest(repo, tag).header("docker-content-digest").unwrap_or_default().to_owned()
}

#[test]
fn skopeo() {
    let Some(skopeo) = require::program("skopeo") else { return };
    let (ours, scratch) = (Ours::start(), scratch());
    let c = ours.client();
    let image = put(&c, "from/app", "t");
    let (host, directory) = (&c.host, format!("dir:{}", scratch.join("image").display()));
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let copy = |from: &str, to: &str| {
        run(&skopeo, &["--insecure-policy", "copy", "--preserve-digests", insecure[0], insecure[1], from, to]);
    };
    copy(&format!("docker://{host}/from/app:t"), &directory);
    copy(&directory, &format!("docker://{host}/to/app:t"));
    assert_eq!(digest_of(&c, "to/app", "t"), image.digest());
    copy(&format!("docker://{host}/to/app@{}", image.digest()), &format!("docker://{host}/third/app:u"));
    assert_eq!(c.pull("third/app", "u"), Ok(()));
    let tags = run(&skopeo, &["list-tags", "--tls-verify=false", &format!("docker://{host}/third/app")]);
    assert!(tags.contains("\"u\""), "{tags}");
    run(&skopeo, &["delete", "--tls-verify=false", &format!("docker://{host}/third/app:u")]);
    assert_eq!(c.manifest("third/app", "u").status, 404);
    ours.stop();
}

#[test]
fn docker() {
    let Some(()) = require::root() else { return };
    let root = scratch();
    let Some(dockerd) = Dockerd::start(root.path()) else { return };
    let ours = Ours::start();
    let c = ours.client();
    put(&c, "from/app", "t");
    let (from, to) = (format!("{}/from/app:t", c.host), format!("{}/to/app:t", c.host));
    dockerd.docker(&["pull", &from]);
    dockerd.docker(&["tag", &from, &to]);
    dockerd.docker(&["push", &to]);
    assert_eq!(c.pull("to/app", "t"), Ok(()));
    // Its own hand writes the manifest; the layers are those that were mounted.
    let layers = |repo: &str| c.manifest(repo, "t").json()["layers"].clone();
    assert_eq!(layers("to/app"), layers("from/app"));
    let pushed = digest_of(&c, "to/app", "t");
    dockerd.docker(&["rmi", &from, &to]);
    dockerd.docker(&["pull", &format!("{}/to/app@{}", c.host, pushed)]);
    drop(dockerd);
    ours.stop();
}

#[test]
fn podman() {
    let Some(()) = require::root() else { return };
    let Some(podman) = require::program("podman") else { return };
    let (ours, scratch) = (Ours::start(), scratch());
    let c = ours.client();
    let image = put(&c, "from/app", "t");
    let (root, state) = (scratch.join("root").display().to_string(), scratch.join("run").display().to_string());
    let podman = |args: &[&str]| {
        let own = ["--root", &root, "--runroot", &state, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
        run(&podman, &[&own[..], args].concat())
    };
    let (from, to) = (format!("{}/from/app:t", c.host), format!("{}/to/app:t", c.host));
    podman(&["pull", "--tls-verify=false", &from]);
    podman(&["push", "--tls-verify=false", &from, &to]);
    assert_eq!(c.pull("to/app", "t"), Ok(()));
    podman(&["rmi", "--all", "--force"]);
    podman(&["pull", "--tls-verify=false", &format!("{}/from/app@{}", c.host, image.digest())]);
    ours.stop();
}
