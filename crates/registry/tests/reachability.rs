//! The collector keeps whatever a kept manifest names, in any field, and a manifest that cannot be read stops it for one repository alone.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path, time::Duration};

use common::{Client, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Ours, descriptor, index, manifest};
use serde_json::{Value, json};
use strata_registry::gc::{self, Options, Report, Run, Untagged};
use strata_spec::Digest;

const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

fn collect(ours: &Ours, untagged: Untagged) -> Report {
    let service = ours.running().service();
    let options = Options { run: Run::ForReal, grace: Duration::ZERO, untagged, uploads: None };
    // A file's time has the kernel's granularity: what was pushed in this tick counts as relied on.
    std::thread::sleep(Duration::from_millis(20));
    gc::collect(&service.store, &service.uploads, &options).unwrap()
}

fn has_blob(c: &Client, repo: &str, bytes: &[u8]) -> bool {
    let reply = c.get(&format!("/v2/{repo}/blobs/{}", Digest::sha256(bytes)));
    assert!(reply.status == 404 || reply.body == bytes, "{}", reply.status);
    reply.status == 200
}

/// Stores a manifest as another server would have: its bytes, its revision and its tag.
fn store(root: &Path, repo: &str, tag: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let hex = digest.hex();
    let v2 = root.join("docker/registry/v2");
    let manifests = v2.join("repositories").join(repo).join("_manifests");
    for (path, bytes) in [
        (v2.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2])), bytes),
        (manifests.join(format!("revisions/sha256/{hex}/link")), digest.to_string().as_bytes()),
        (manifests.join(format!("tags/{tag}/current/link")), digest.to_string().as_bytes()),
    ] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    digest
}

#[test]
fn a_build_cache_whose_index_lists_layers_is_whole_and_is_kept() {
    let ours = Ours::start_with(|_| "validation: {manifests: {indexes: {platforms: all}}}".into());
    let c = ours.client();
    for bytes in [&b"a layer"[..], b"another layer", b"{\"layers\":[]}", b"garbage"] {
        c.put_blob("cache", bytes);
    }
    let entries = [
        descriptor(OCI_LAYER, b"a layer"),
        descriptor(OCI_LAYER, b"another layer"),
        descriptor(CACHE_CONFIG, b"{\"layers\":[]}"),
    ];
    let cache = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
    let reply = c.put_manifest("cache", "latest", OCI_INDEX, cache.as_bytes());
    assert_eq!((reply.status, reply.header("warning")), (201, None), "{}", reply.text());
    let lacking =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_LAYER, b"not pushed")]});
    assert_eq!(c.put_manifest("cache", "other", OCI_INDEX, lacking.to_string().as_bytes()).status, 404);
    let wrong = json!({"mediaType": OCI_LAYER, "digest": Digest::sha256(b"a layer"), "size": 3});
    let wrong = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [wrong]});
    assert_eq!(c.put_manifest("cache", "other", OCI_INDEX, wrong.to_string().as_bytes()).status, 400);
    for untagged in [Untagged::Keep, Untagged::Remove] {
        collect(&ours, untagged);
        assert!(has_blob(&c, "cache", b"a layer") && has_blob(&c, "cache", b"another layer"), "{untagged:?}");
        assert!(has_blob(&c, "cache", b"{\"layers\":[]}") && !has_blob(&c, "cache", b"garbage"), "{untagged:?}");
    }
    assert_eq!(c.ask("DELETE", "/v2/cache/manifests/latest", &[], b"").status, 202);
    assert_eq!(collect(&ours, Untagged::Remove).blobs.len(), 4, "three blobs and the index");
    ours.stop();
}

#[test]
fn content_named_by_any_field_of_a_kept_manifest_is_kept() {
    let ours = Ours::start();
    let c = ours.client();
    for bytes in [&b"{}"[..], b"layer", b"extra", b"listed"] {
        c.put_blob("r", bytes);
    }
    // An untagged image is kept as the subject of a tagged manifest, and a manifest of a field that nobody knows with its layers.
    let subject = c.put_image("r", "gone", "subject");
    let linked = c.put_image("r", "gone", "linked");
    let stray = c.put_image("r", "gone", "stray");
    assert_eq!(c.ask("DELETE", "/v2/r/manifests/gone", &[], b"").status, 202);
    let mut tagged: Value =
        serde_json::from_str(&manifest(b"{}", b"layer", descriptor(OCI_MANIFEST, &subject))).unwrap();
    tagged["blobs"] = json!([descriptor(OCI_CONFIG, b"extra")]);
    tagged["references"] = json!([Digest::sha256(&linked), Digest::sha256("listed")]);
    tagged["annotations"] = json!({"base": Digest::sha256(&stray)});
    assert_eq!(c.put_manifest("r", "kept", OCI_MANIFEST, tagged.to_string().as_bytes()).status, 201);
    let report = collect(&ours, Untagged::Remove);
    assert_eq!(report.manifests, [format!("r@{}", Digest::sha256(&stray))]);
    assert_eq!(report.blobs.len(), 3, "the stray image: {:?}", report.blobs);
    for digest in [Digest::sha256(&subject), Digest::sha256(&linked)] {
        assert_eq!(c.pull("r", &digest.to_string()), Ok(()));
    }
    assert!(has_blob(&c, "r", b"extra") && has_blob(&c, "r", b"listed"));
    ours.stop();
}

#[test]
fn a_schema_1_manifest_of_an_old_registry_is_served_as_stored_and_keeps_its_layers() {
    let ours = Ours::start();
    let c = ours.client();
    c.put_blob("old", b"old layer");
    c.put_blob("old", b"garbage");
    let layers = json!([{"blobSum": Digest::sha256(b"old layer")}]);
    let old = json!({"schemaVersion": 1, "name": "old", "tag": "v1", "fsLayers": layers,
        "signatures": [{"signature": "c2ln"}]});
    let old = serde_json::to_vec_pretty(&old).unwrap();
    let digest = store(&ours.scratch.join("data"), "old", "v1", &old);
    for accept in ["*/*", OCI_MANIFEST] {
        let reply = c.ask("GET", "/v2/old/manifests/v1", &[("Accept", accept)], b"");
        assert_eq!((reply.status, &reply.body), (200, &old), "{accept}");
        let expected = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert_eq!(reply.header("content-type"), Some(expected));
        assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
    }
    let report = collect(&ours, Untagged::Remove);
    assert_eq!((report.blobs.len(), report.damaged), (1, Vec::new()));
    assert!(has_blob(&c, "old", b"old layer") && !has_blob(&c, "old", b"garbage"));
    // An index may name it, and it can be deleted.
    let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor("application/json", &old)]});
    assert_eq!(c.put_manifest("old", "list", OCI_INDEX, list.to_string().as_bytes()).status, 201);
    assert_eq!(c.ask("DELETE", &format!("/v2/old/manifests/{digest}"), &[], b"").status, 202);
    ours.stop();
}

#[test]
fn an_unreadable_manifest_or_tag_keeps_its_repository_whole_and_no_other() {
    let ours = Ours::start();
    let (c, root) = (ours.client(), ours.scratch.join("data"));
    for repo in ["bad", "tag", "good"] {
        c.put_image(repo, "t", repo);
        c.put_blob(repo, format!("loose in {repo}").as_bytes());
    }
    store(&root, "bad", "odd", b"no JSON at all");
    fs::write(root.join("docker/registry/v2/repositories/tag/_manifests/tags/t/current/link"), "no digest").unwrap();
    let report = collect(&ours, Untagged::Remove);
    assert_eq!((&report.kept_whole[..], report.damaged.len()), (&["bad".to_owned(), "tag".to_owned()][..], 2));
    for repo in ["bad", "tag"] {
        assert!(has_blob(&c, repo, format!("loose in {repo}").as_bytes()), "{repo}");
    }
    assert!(!has_blob(&c, "good", b"loose in good"), "the rest of the registry is collected");
    assert_eq!((c.pull("bad", "t"), c.pull("good", "t")), (Ok(()), Ok(())));
    assert_eq!(c.manifest("bad", "odd").status, 500);
    ours.stop();
}

#[test]
fn an_image_may_lack_layers_where_the_configuration_allows_it() {
    let ours = Ours::start_with(|_| "strata: {images: {blobs: none}}".into());
    let c = ours.client();
    let sparse = manifest(b"{}", b"absent layer", Value::Null);
    let reply = c.put_manifest("r", "t", OCI_MANIFEST, sparse.as_bytes());
    assert_eq!(reply.status, 201, "{}", reply.text());
    let warning = reply.header("warning").unwrap();
    assert!(warning.contains("2 objects that the manifest names are not in the repository"), "{warning}");
    assert_eq!(c.manifest("r", "t").body, sparse.as_bytes());
    collect(&ours, Untagged::Remove);
    assert_eq!(c.manifest("r", "t").status, 200);
    ours.stop();
    let ours = Ours::start();
    assert_eq!(ours.client().put_manifest("r", "t", OCI_MANIFEST, sparse.as_bytes()).status, 404);
    ours.stop();
}

#[test]
fn an_index_needs_the_images_of_listed_platforms_alone() {
    let ours = Ours::start_with(|_| {
        "validation: {manifests: {indexes: {platforms: list, platformlist: [{os: linux, architecture: amd64}]}}}".into()
    });
    let c = ours.client();
    let image = c.put_image("r", "t", "a");
    let entry = |bytes: &[u8], architecture: &str| {
        let mut entry = descriptor(OCI_MANIFEST, bytes);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    for (amd64, status) in [(&image[..], 201), (b"absent", 404)] {
        let entries = [entry(amd64, "amd64"), entry(b"absent too", "arm64")];
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
        assert_eq!(c.put_manifest("r", "list", OCI_INDEX, index.as_bytes()).status, status);
    }
    ours.stop();
}

#[test]
fn urls_of_foreign_layers_follow_the_lists() {
    let ours = Ours::start_with(|_| {
        "validation: {manifests: {urls: {allow: ['^https://good\\.example/'], deny: [evil]}}}".into()
    });
    let c = ours.client();
    c.put_blob("r", b"{}");
    for (url, status) in [
        ("https://good.example/l", 201),
        ("https://good.example/evil", 400),
        ("https://bad.example/l", 400),
        ("file:///etc/passwd", 400),
    ] {
        let mut layer = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"elsewhere");
        layer["urls"] = json!([url]);
        let image = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, b"{}"),
            "layers": [layer]});
        let reply = c.put_manifest("r", "t", OCI_MANIFEST, image.to_string().as_bytes());
        assert_eq!(reply.status, status, "{url}: {}", reply.text());
    }
    ours.stop();
}

#[test]
fn an_index_is_kept_when_the_server_that_collects_did_not_store_it() {
    let ours = Ours::start();
    let c = ours.client();
    let image = c.put_image("r", "one", "a");
    store(&ours.scratch.join("data"), "r", "all", index(&[&image]).as_bytes());
    assert_eq!(c.ask("DELETE", "/v2/r/manifests/one", &[], b"").status, 202);
    assert_eq!(collect(&ours, Untagged::Remove).blobs, Vec::<String>::new());
    assert_eq!(c.pull("r", "all"), Ok(()));
    ours.stop();
}
