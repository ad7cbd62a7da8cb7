//! Documents that are too big, too many, too deep or lie, and disks that are too small: refused with a clear word before anything is kept.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{Root, client, root, tars};
use serde_json::{Value, json};
use strata_spec::Platform;
use strata_testkit::{
    LoopFs,
    registry::{Image, MANIFEST, Memory, OCI_INDEX, digest},
    server::{Reply, Server},
};

/// A registry in memory that serves what it has.
fn serving(memory: &Arc<Memory>) -> Server {
    let memory = memory.clone();
    Server::start(move |request| memory.reply(request))
}

/// Pulls tag `1`, which must fail with a word, fast, and leave nothing.
#[track_caller]
fn refused(root: &Root, server: &Server, says: &str) {
    let error = root.pull(&client(), &format!("{}/x:1", server.host())).unwrap_err().to_string();
    assert!(error.contains(says), "{says}: {error}");
    assert!(error.len() < 1000, "{} bytes of error", error.len());
    root.assert_holds(0, 0);
    assert_eq!(server.count("GET", "/blobs/sha256:00"), 0, "nothing is fetched for it");
}

#[test]
fn manifests_that_are_too_much_are_refused() {
    let Some(root) = root() else { return };
    let image = Image::new(&tars(80, &[100]));
    let document = |change: fn(&mut Value)| {
        let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
        change(&mut manifest);
        serde_json::to_vec(&manifest).unwrap()
    };
    let layers = |count: usize| {
        let layer = |n: usize| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 10, "digest": format!("sha256:00{n:062x}")});
        json!((0..count).map(layer).collect::<Vec<_>>())
    };
    let mut many: Value = serde_json::from_slice(&image.manifest).unwrap();
    many["layers"] = layers(10_000);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (document(|m| m["annotations"] = json!({"a": "x".repeat(4 << 20)})), "has more than 4194304 bytes"),
        (document(|m| m["more"] = json!(vec![0; 300_000])), "has more than 131072 values"),
        (serde_json::to_vec(&many).unwrap(), "has 10000 layers"),
        (format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes(), "not valid JSON"),
        (document(|m| m["layers"][0]["size"] = json!(u64::MAX)), "total size overflows 63 bits"),
        (document(|m| m["layers"][0]["size"] = json!(-1)), "not valid JSON"),
        (document(|m| m["layers"][0]["digest"] = json!("md5:abc")), "not valid JSON"),
        (document(|m| m["layers"][0]["digest"] = json!("sha256:../../../etc/passwd")), "not valid JSON"),
        (document(|m| m["layers"][0]["size"] = json!(1u64 << 50)), "not enough room"),
        (document(|m| m["config"]["size"] = json!(1 << 30)), "the config of"),
        (document(|m| m["config"]["size"] = json!(5)), "bytes, its manifest says 5"),
        (document(|m| m["layers"] = json!([])), "layers"),
        (b"{}".to_vec(), "manifest"),
        (Vec::new(), "not valid JSON"),
    ];
    for (bytes, says) in cases {
        let memory = Arc::new(Memory::default());
        memory.put("1", &image);
        memory.put_manifest("1", MANIFEST, &bytes);
        refused(&root, &serving(&memory), says);
    }
}

#[test]
fn schema_one_is_named_with_the_way_out() {
    let Some(root) = root() else { return };
    let old = json!({"schemaVersion": 1, "name": "x", "tag": "1", "architecture": "amd64", "fsLayers": [{"blobSum": digest(b"")}], "history": [{"v1Compatibility": "{}"}]});
    for kind in ["application/vnd.docker.distribution.manifest.v1+prettyjws", "application/json"] {
        let memory = Arc::new(Memory::default());
        memory.put_manifest("1", kind, old.to_string().as_bytes());
        refused(
            &root,
            &serving(&memory),
            "schema 1, which no tool writes since 2017; push the image again with a newer one",
        );
    }
}

#[test]
fn indexes_that_are_deep_long_or_lie_are_refused() {
    let Some(root) = root() else { return };
    let image = Image::new(&tars(81, &[100]));
    let entry = |bytes: &[u8]| json!({"mediaType": OCI_INDEX, "digest": digest(bytes), "size": bytes.len()});
    let index = |entries: Value| json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();

    let memory = Arc::new(Memory::default());
    memory.put("image", &image);
    let mut at = index(json!([{"mediaType": MANIFEST, "digest": image.digest(), "size": image.manifest.len()}]));
    for _ in 0..12 {
        memory.put_manifest("1", OCI_INDEX, at.as_bytes());
        at = index(json!([entry(at.as_bytes())]));
    }
    let server = serving(&memory);
    refused(&root, &server, "nested more than 4 deep");
    assert!(server.count("GET", "/manifests/") <= 6, "it is not followed to its end");

    let memory = Arc::new(Memory::default());
    memory.put_manifest("1", OCI_INDEX, index(json!(vec![entry(b"x"); 5000])).as_bytes());
    refused(&root, &serving(&memory), "more than 4096 entries");

    let memory = Arc::new(Memory::default());
    memory.put("image", &image);
    let lie = index(json!([{"mediaType": MANIFEST, "digest": image.digest(), "size": 7}]));
    memory.put_manifest("1", OCI_INDEX, lie.as_bytes());
    refused(&root, &serving(&memory), "bytes, its manifest says 7");

    // A circle: whatever is asked for, the same index comes, which names something else.
    let circle = index(json!([entry(b"another")]));
    let server = Server::start(move |request| match request.path() {
        "/v2/" => Reply::new(200),
        _ => Reply::new(200).header("Content-Type", OCI_INDEX).body(circle.clone()),
    });
    refused(&root, &server, "has the digest");
}

#[test]
fn a_body_without_end_is_not_read_to_its_end() {
    let Some(root) = root() else { return };
    let server = Server::start(|request| match request.path() {
        "/v2/" => Reply::new(200),
        _ => Reply { claimed: Some(1 << 40), ..Reply::new(200).body(vec![b' '; 8 << 20]) },
    });
    refused(&root, &server, "has more than 4194304 bytes");
    let server = Server::start(|request| match request.path() {
        "/v2/" => Reply::new(200),
        _ => Reply::new(400).body(vec![b'\x1b'; 8 << 20]),
    });
    refused(&root, &server, "answers 400");
}

#[test]
fn a_disk_that_is_too_small_is_told_before_the_first_byte() {
    let Some(disk) = LoopFs::ext4(64 << 20) else { return };
    let Some(root) = common::root_at(disk.path()) else { return };
    let memory = Arc::new(Memory::default());
    memory.put("1", &Image::new(&tars(82, &[40 << 20])));
    let server = serving(&memory);
    let free = disk.free_bytes();
    let error = root.pull(&client(), &format!("{}/x:1", server.host())).unwrap_err().to_string();
    assert!(error.contains("not enough room") && error.contains("nothing was fetched"), "{error}");
    assert_eq!(server.count("GET", "/blobs/"), 1, "the config alone");
    assert!(free.abs_diff(disk.free_bytes()) < 1 << 20);
    root.assert_holds(0, 0);
    drop(root);

    // Few inodes: a filesystem of 2 MiB has 256.
    let Some(disk) = LoopFs::ext4(2 << 20) else { return };
    let Some(root) = common::root_at(disk.path()) else { return };
    let memory = Arc::new(Memory::default());
    memory.put("1", &Image::new(&tars(83, &[10; 60])));
    let server = serving(&memory);
    let error = root.pull(&client(), &format!("{}/x:1", server.host())).unwrap_err().to_string();
    assert!(error.contains("inodes, ") && error.contains("nothing was fetched"), "{error}");
    root.assert_holds(0, 0);
}

#[test]
fn names_that_lead_elsewhere_are_none() {
    for name in [
        "../../etc/passwd",
        "127.0.0.1:5000/../x:1",
        "127.0.0.1:5000/a//b",
        "127.0.0.1:5000/a:../b",
        "http://x/y",
        "a@md5:00",
        "x?y",
        "x%2fy",
    ] {
        assert!(strata_spec::Reference::parse(name).is_err(), "{name}");
    }
}

#[test]
fn an_index_without_an_image_says_what_is_in_it() {
    let Some(root) = root() else { return };
    let image = Image::new(&tars(86, &[100]));
    let mut attestation = image.entry("unknown/unknown");
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(b"x"), "size": 1});
    let config = json!({"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": digest(b"y"), "size": 1});
    for (entries, says) in [
        (json!([attestation]), "is an index of attestations alone; there is no image in it"),
        (json!([layer, config]), "is an index of blobs alone, as of a build cache; there is no image in it"),
        (json!([]), "is an index without entries; there is no image in it"),
        (json!([image.entry("plan9/amd64"), attestation]), "in the manifest list entries; it has plan9/amd64"),
    ] {
        let memory = Arc::new(Memory::default());
        memory.put("image", &image);
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        memory.put_manifest("1", OCI_INDEX, index.to_string().as_bytes());
        refused(&root, &serving(&memory), says);
    }
}

#[test]
fn platforms_and_keys_count_in_any_case() {
    let Some(root) = root() else { return };
    let image = Image::new(&tars(87, &[100]));
    let manifest = String::from_utf8(image.manifest.clone()).unwrap();
    let lower = manifest.replace("schemaVersion", "schemaversion").replace("mediaType", "mediatype");
    let memory = Arc::new(Memory::default());
    memory.put("image", &image);
    memory.put_manifest("lower", MANIFEST, lower.as_bytes());
    let entry = json!({
        "MediaType": MANIFEST, "Digest": digest(lower.as_bytes()), "size": lower.len(),
        "platform": {"OS": "Linux", "Architecture": Platform::host().architecture.to_uppercase()},
    });
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
    memory.put_manifest("1", OCI_INDEX, index.to_string().as_bytes());
    let server = serving(&memory);
    let pulled = root.pull(&client(), &format!("{}/x:1", server.host())).unwrap();
    assert_eq!(pulled.id.to_string(), image.id());

    let twice = manifest.replacen("\"config\"", "\"Config\":{},\"config\"", 1);
    memory.put_manifest("2", MANIFEST, twice.as_bytes());
    let error = root.pull(&client(), &format!("{}/x:2", server.host())).unwrap_err().to_string();
    assert!(error.contains("twice, in different case"), "{error}");
}
