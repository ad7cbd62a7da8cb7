//! Both ways on disk with CNCF distribution: each serves what the other stored, and its garbage collector leaves a sound registry.
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, process::Command, time::Duration};

use common::{Client, OCI_INDEX, OCI_MANIFEST, Ours, check, index, with_param};
use strata_registry::gc::{self, Options, Run, Untagged};
use strata_spec::{Algorithm, Digest};
use strata_testkit::{registry::DockerRegistry, require, scratch};

fn config(root: &Path) -> String {
    format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
        root.display()
    )
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Fills a registry: images, one in two repositories, an index, a tag that has moved, one that was deleted by its digest.
fn fill(c: &Client) -> (Vec<u8>, Vec<u8>) {
    let one = c.put_image("team/app", "one", "a");
    let two = c.put_image("team/app", "two", "b");
    assert_eq!(c.put_manifest("team/app", "all", OCI_INDEX, index(&[&one, &two]).as_bytes()).status, 201);
    c.put_image("team/app", "moves", "c");
    c.put_image("team/app", "moves", "d");
    c.put_image("other", "one", "a");
    let gone = c.put_image("other", "gone", "e");
    let gone = Digest::sha256(gone);
    assert_eq!(c.ask("DELETE", &format!("/v2/other/manifests/{gone}"), &[], b"").status, 202);
    (one, two)
}

fn serves_all(c: &Client) {
    for (repo, reference) in
        [("team/app", "one"), ("team/app", "two"), ("team/app", "all"), ("team/app", "moves"), ("other", "one")]
    {
        assert_eq!(c.pull(repo, reference), Ok(()), "{repo}:{reference}");
    }
    assert_eq!(c.manifest("other", "gone").status, 404);
    let mut tags: Vec<String> = serde_json::from_value(c.get("/v2/team/app/tags/list").json()["tags"].clone()).unwrap();
    tags.sort();
    assert_eq!(tags, ["all", "moves", "one", "two"]);
    let mut names: Vec<String> = serde_json::from_value(c.get("/v2/_catalog").json()["repositories"].clone()).unwrap();
    names.sort();
    assert_eq!(names, ["other", "team/app"]);
}

#[test]
fn distribution_serves_what_ours_stored_and_goes_on() {
    let ours = Ours::start();
    fill(&ours.client());
    let place = ours.client().ask("PATCH", &ours.client().begin("team/app"), &[], b"half of ").location();
    let directory = ours.stop();
    let theirs = DockerRegistry::start_with(
        |scratch| {
            copy(&directory.join("data"), &scratch.join("data"));
            String::new()
        },
        "",
    );
    let Some(theirs) = theirs else { return };
    let c = Client::new(&theirs.host());
    serves_all(&c);
    c.put_image("team/app", "theirs", "f");
    assert_eq!(c.pull("team/app", "theirs"), Ok(()));
    // What it then stored, ours serves again; an upload of before goes on here.
    let ours = Ours::of(&config(&theirs.scratch.join("data")), scratch());
    assert_eq!(ours.client().pull("team/app", "theirs"), Ok(()));
    let path = with_param(&place, &format!("digest={}", Digest::sha256("half of it")));
    assert_eq!(ours.client().ask("PUT", &path, &[], b"it").status, 201);
    ours.stop();
}

#[test]
fn ours_serves_what_distribution_stored() {
    let Some(theirs) = DockerRegistry::start() else { return };
    let c = Client::new(&theirs.host());
    fill(&c);
    let ours = Ours::of(&config(&theirs.scratch.join("data")), scratch());
    serves_all(&ours.client());
    let referrer = ours.client().put_image("team/app", "ours", "g");
    assert_eq!(c.pull("team/app", "ours"), Ok(()), "while both serve one directory");
    assert_eq!(c.manifest("team/app", &Digest::sha256(referrer).to_string()).status, 200);
    ours.stop();
    assert!(check(&theirs.scratch.join("data")).is_ok());
}

/// What their collector does not know of, or must leave: a layer by its sha512, a referrer without a tag, and an upload that is open. Returns the referrer, and where the upload goes on.
fn fill_with_what_is_new(c: &Client, subject: &[u8]) -> (Digest, String) {
    let (config, layer) = common::blobs("sha512");
    c.put_blob("team/app", &config);
    let long = Digest::of(Algorithm::Sha512, &layer);
    assert_eq!(c.try_put_blob("team/app", &layer, long).unwrap().status, 201);
    let short = Digest::sha256(&layer).to_string();
    let bytes = common::manifest(&config, &layer, serde_json::Value::Null).replace(&short, &long.to_string());
    assert_eq!(c.put_manifest("team/app", "long", OCI_MANIFEST, bytes.as_bytes()).status, 201);
    let (config, layer) = common::blobs("ref");
    c.put_blob("team/app", &config);
    c.put_blob("team/app", &layer);
    let referrer = common::manifest(&config, &layer, common::descriptor(OCI_MANIFEST, subject));
    let digest = Digest::sha256(&referrer);
    assert_eq!(c.put_manifest("team/app", &digest.to_string(), OCI_MANIFEST, referrer.as_bytes()).status, 201);
    (digest, c.ask("PATCH", &c.begin("team/app"), &[], b"half of ").location())
}

#[test]
fn distributions_collector_leaves_a_sound_registry() {
    let Some(program) = require::program("docker-registry") else { return };
    for mode in [&[][..], &["--delete-untagged"][..]] {
        let ours = Ours::start();
        let c = ours.client();
        let (one, _) = fill(&c);
        let (referrer, place) = fill_with_what_is_new(&c, &one);
        c.put_blob("team/app", b"nobody names this");
        let directory = ours.stop();
        let file = directory.join("theirs.yml");
        std::fs::write(&file, config(&directory.join("data"))).unwrap();
        let ran = Command::new(&program).arg("garbage-collect").args(mode).arg(&file).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        check(&directory.join("data")).unwrap_or_else(|problem| panic!("after {mode:?}: {problem}"));
        let again = Ours::of(&config(&directory.join("data")), directory);
        let c = again.client();
        for (repo, reference) in
            [("team/app", "one"), ("team/app", "two"), ("team/app", "moves"), ("team/app", "long"), ("other", "one")]
        {
            assert_eq!(c.pull(repo, reference), Ok(()), "{repo}:{reference} after {mode:?}");
        }
        // It takes a referrer for an untagged manifest. What is listed can be had.
        let listed = c.get(&format!("/v2/team/app/referrers/{}", Digest::sha256(&one))).json();
        let listed: Vec<&str> =
            listed["manifests"].as_array().unwrap().iter().map(|entry| entry["digest"].as_str().unwrap()).collect();
        let kept = mode.is_empty().then(|| referrer.to_string());
        assert_eq!(listed, kept.iter().map(String::as_str).collect::<Vec<_>>(), "{mode:?}");
        for digest in listed {
            assert_eq!(c.pull("team/app", digest), Ok(()), "{digest} after {mode:?}");
        }
        let path = with_param(&place, &format!("digest={}", Digest::sha256("half of it")));
        assert_eq!(c.ask("PUT", &path, &[], b"it").status, 201, "the upload goes on");
        let unnamed = Digest::sha256("nobody names this");
        assert_eq!(c.get(&format!("/v2/team/app/blobs/{unnamed}")).status, 404);
        assert_eq!(c.put_blob("team/app", b"nobody names this"), unnamed, "and it can be pushed again");
        assert_eq!(c.get(&format!("/v2/team/app/blobs/{unnamed}")).status, 200);
        let directory = again.stop();
        check(&directory.join("data")).unwrap_or_else(|problem| panic!("in the end, after {mode:?}: {problem}"));
    }
}

fn collect(ours: &Ours, run: Run, untagged: Untagged) -> gc::Report {
    let service = ours.running().service();
    let options = Options { run, grace: Duration::ZERO, untagged, uploads: Some(Duration::ZERO) };
    gc::collect(&service.store, &service.uploads, &options).unwrap()
}

#[test]
fn garbage_is_what_nothing_names() {
    let ours = Ours::start();
    let c = ours.client();
    let (one, _) = fill(&c);
    let unnamed = c.put_blob("team/app", b"nobody names this");
    let place = c.begin("team/app");
    let subject = common::descriptor(OCI_MANIFEST, &one);
    let (config, layer) = common::blobs("ref");
    c.put_blob("team/app", &config);
    c.put_blob("team/app", &layer);
    let referrer = common::manifest(&config, &layer, subject);
    let referrer_digest = Digest::sha256(&referrer);
    assert_eq!(c.put_manifest("team/app", &referrer_digest.to_string(), OCI_MANIFEST, referrer.as_bytes()).status, 201);
    std::thread::sleep(Duration::from_millis(20));
    let dry = collect(&ours, Run::Dry, Untagged::Keep);
    assert!(dry.blobs.contains(&unnamed.to_string()) && dry.uploads.len() == 1, "{dry:?}");
    assert_eq!(c.get(&format!("/v2/team/app/blobs/{unnamed}")).status, 200, "a dry run removes nothing");
    let kept = collect(&ours, Run::ForReal, Untagged::Keep);
    assert_eq!((&kept.blobs, &kept.uploads, &kept.damaged), (&dry.blobs, &dry.uploads, &Vec::new()));
    assert!(kept.manifests.is_empty());
    assert_eq!(c.get(&format!("/v2/team/app/blobs/{unnamed}")).status, 404);
    assert_eq!(c.get(&place).status, 404);
    serves_all(&c);
    // Untagged manifests go, but what an index or a subject reaches stays.
    assert_eq!(c.ask("DELETE", "/v2/team/app/manifests/two", &[], b"").status, 202);
    let removed = collect(&ours, Run::ForReal, Untagged::Remove);
    assert_eq!(removed.manifests.len(), 1, "the one that `moves` was first: {removed:?}");
    assert_eq!(c.pull("team/app", "all"), Ok(()));
    assert_eq!(c.pull("team/app", &referrer_digest.to_string()), Ok(()));
    assert!(check(&ours.scratch.join("data")).is_ok());
    ours.stop();
}

#[test]
fn a_damaged_manifest_keeps_every_blob_of_its_repository() {
    let ours = Ours::start();
    let c = ours.client();
    let manifest = Digest::sha256(c.put_image("r", "t", "a"));
    let unnamed = c.put_blob("r", b"nobody names this");
    let path = ours.scratch.join(format!(
        "data/docker/registry/v2/blobs/sha256/{}/{}/data",
        &manifest.hex()[..2],
        manifest.hex()
    ));
    std::fs::write(&path, "damaged").unwrap();
    let ours = Ours::of(&config(&ours.scratch.join("data")), ours.stop());
    let c = ours.client();
    std::thread::sleep(Duration::from_millis(20));
    let report = collect(&ours, Run::ForReal, Untagged::Keep);
    assert!(report.damaged.len() == 1 && report.blobs.is_empty(), "{report:?}");
    assert_eq!(c.manifest("r", "t").status, 500);
    assert_eq!(c.get(&format!("/v2/r/blobs/{unnamed}")).status, 200);
    // Pushed again, it is whole again.
    c.put_image("r", "t", "a");
    assert_eq!(c.pull("r", "t"), Ok(()));
    ours.stop();
}
