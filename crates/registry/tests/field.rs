//! Public bug reports of registries and their clients, tried on this server; `docs/field.md` has the list.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Client, OCI_INDEX, OCI_MANIFEST, Ours, descriptor, index, manifest, with_param};
use serde_json::{Value, json};
use strata_registry::gc::{self, Options, Report, Run, Untagged};
use strata_spec::{Algorithm, Digest};

fn collect(ours: &Ours) -> Report {
    let service = ours.running().service();
    let options = Options { run: Run::ForReal, grace: Duration::ZERO, untagged: Untagged::Remove, uploads: None };
    // A file's time has the kernel's granularity: what was pushed in this tick counts as relied on.
    std::thread::sleep(Duration::from_millis(20));
    gc::collect(&service.store, &service.uploads, &options).unwrap()
}

fn status(c: &Client, method: &str, path: &str) -> u16 {
    c.ask(method, path, &[], b"").status
}

/// distribution#4461, #3178, #2914; docker-registry-ui#405.
#[test]
fn an_index_keeps_its_untagged_images_and_takes_them_along_when_it_goes() {
    let ours = Ours::start();
    let c = ours.client();
    let push_both = |seed: &str| {
        let images = ["amd64", "arm64"].map(|platform| c.image("r", &format!("{seed} {platform}")));
        for image in &images {
            let digest = Digest::sha256(image).to_string();
            assert_eq!(c.put_manifest("r", &digest, OCI_MANIFEST, image).status, 201);
        }
        let both = index(&[&images[0], &images[1]]);
        assert_eq!(c.put_manifest("r", "latest", OCI_INDEX, both.as_bytes()).status, 201);
        Digest::sha256(both)
    };
    push_both("old");
    let new = push_both("new");
    let report = collect(&ours);
    assert_eq!((report.manifests.len(), report.blobs.len()), (3, 7), "the old index, its two images, and their blobs");
    assert_eq!(c.pull("r", "latest"), Ok(()));
    assert_eq!(status(&c, "DELETE", &format!("/v2/r/manifests/{new}")), 202);
    assert_eq!(collect(&ours).blobs.len(), 7);
    ours.stop();
}

/// distribution#1293, #1738, #1755; getnora-io/nora#658; zot#67.
#[test]
fn deleting_by_digest_takes_all_tags_and_deleting_by_tag_takes_one() {
    let ours = Ours::start();
    let c = ours.client();
    let image = c.put_image("r", "one", "a");
    c.put_image("r", "two", "a");
    c.put_image("r", "three", "a");
    let digest = Digest::sha256(&image);
    assert_eq!(status(&c, "DELETE", "/v2/r/manifests/three"), 202);
    assert_eq!(c.get("/v2/r/tags/list").json()["tags"], json!(["one", "two"]));
    assert_eq!(status(&c, "DELETE", &format!("/v2/r/manifests/{digest}")), 202);
    assert_eq!(c.get("/v2/r/tags/list").json()["tags"], json!([]));
    for path in ["/v2/r/manifests/one".to_owned(), format!("/v2/r/manifests/{digest}")] {
        assert_eq!([status(&c, "HEAD", &path), status(&c, "DELETE", &path)], [404, 404], "{path}");
    }
    // Pushed again, it is there again.
    c.put_image("r", "one", "a");
    assert_eq!(c.pull("r", "one"), Ok(()));
    ours.stop();
}

/// distribution#1293: another server removed a revision and left its tag.
#[test]
fn a_tag_whose_manifest_is_gone_is_not_listed_and_can_be_deleted_and_pushed_again() {
    let ours = Ours::start();
    let c = ours.client();
    let image = c.put_image("r", "gone", "a");
    c.put_image("r", "kept", "b");
    let hex = Digest::sha256(&image).hex();
    let repo = ours.scratch.join("data/docker/registry/v2/repositories/r/_manifests");
    std::fs::remove_dir_all(repo.join("revisions/sha256").join(hex)).unwrap();
    assert_eq!(c.manifest("r", "gone").status, 404);
    assert_eq!(
        c.get("/v2/r/tags/list").json()["tags"],
        json!(["kept"]),
        "a client that copies all tags must not stop here"
    );
    assert_eq!(collect(&ours).damaged, Vec::<String>::new());
    assert_eq!(status(&c, "DELETE", "/v2/r/manifests/gone"), 202);
    c.put_image("r", "gone", "a");
    assert_eq!(c.pull("r", "gone"), Ok(()));
    ours.stop();
}

/// zot#1424: the signature comes before the image.
#[test]
fn a_referrer_may_be_pushed_before_its_subject() {
    let ours = Ours::start();
    let c = ours.client();
    let subject = c.image("r", "later");
    c.put_blob("r", b"{}");
    c.put_blob("r", b"signature");
    let referrer = manifest(b"{}", b"signature", descriptor(OCI_MANIFEST, &subject));
    let reply = c.put_manifest("r", "sig", OCI_MANIFEST, referrer.as_bytes());
    let digest = Digest::sha256(&subject).to_string();
    assert_eq!((reply.status, reply.header("oci-subject")), (201, Some(digest.as_str())), "{}", reply.text());
    assert_eq!(c.put_manifest("r", "t", OCI_MANIFEST, &subject).status, 201);
    let list = c.get(&format!("/v2/r/referrers/{digest}")).json();
    assert_eq!(list["manifests"][0]["digest"], json!(Digest::sha256(&referrer)));
    ours.stop();
}

/// zot#573; distribution-spec#590; regclient#961; cloudflare/serverless-registry#134.
#[test]
fn an_upload_says_where_it_is_and_survives_a_wrong_chunk() {
    let ours = Ours::start();
    let c = ours.client();
    let absent = Digest::sha256("absent");
    let reply = c.ask("POST", &format!("/v2/r/blobs/uploads/?mount={absent}&from=other"), &[], b"");
    assert_eq!(reply.status, 202);
    let place = reply.location();
    assert!(!place.contains("mount") && !place.contains("from"), "{place}");
    for (range, body, status, shown) in [
        ("0-3", "0123", 202, "0-3"),
        ("4-9", "456789", 202, "0-9"),
        ("4-9", "456789", 416, "0-9"),
        ("20-21", "xx", 416, "0-9"),
    ] {
        let reply = c.ask("PATCH", &place, &[("Content-Range", range)], body.as_bytes());
        assert_eq!((reply.status, reply.header("range")), (status, Some(shown)), "{range}");
        assert_eq!(reply.location(), place);
    }
    let digest = Digest::sha256("0123456789ab");
    let end = with_param(&place, &format!("digest={digest}"));
    let wrong = c.ask("PUT", &end, &[("Content-Range", "20-21")], b"ab");
    assert_eq!((wrong.status, wrong.header("range")), (416, Some("0-9")));
    let asked = c.ask("GET", &place, &[], b"");
    assert_eq!((asked.status, asked.header("range")), (204, Some("0-9")));
    assert_eq!(c.ask("PUT", &end, &[("Content-Range", "10-11")], b"ab").status, 201);
    assert_eq!(c.get(&format!("/v2/r/blobs/{digest}")).body, b"0123456789ab");
    ours.stop();
}

/// cloudflare/serverless-registry#134; distribution#4812.
#[test]
fn sizes_and_types_are_told_to_every_client() {
    let ours = Ours::start();
    let c = ours.client();
    let image = c.put_image("r", "t", "a");
    let digest = Digest::sha256(&image);
    let (config, _) = common::blobs("a");
    for (path, len) in [
        (format!("/v2/r/manifests/{digest}"), image.len()),
        (format!("/v2/r/blobs/{}", Digest::sha256(&config)), config.len()),
    ] {
        for method in ["GET", "HEAD"] {
            let reply = c.ask(method, &path, &[("Accept-Encoding", "gzip, br"), ("Accept", "*/*")], b"");
            assert_eq!(
                (reply.status, reply.header("content-length")),
                (200, Some(len.to_string().as_str())),
                "{method} {path}"
            );
            assert_eq!(reply.header("content-encoding"), None);
        }
    }
    // A manifest is no blob of the repository: a client that asks so must not take it for one.
    assert_eq!(status(&c, "HEAD", &format!("/v2/r/blobs/{digest}")), 404);
    assert_eq!(
        c.put_manifest("r", &Digest::sha256("other").to_string(), OCI_MANIFEST, &image).code(),
        "DIGEST_INVALID"
    );
    let empty = c.put_blob("r", b"");
    assert_eq!(c.ask("HEAD", &format!("/v2/r/blobs/{empty}"), &[], b"").header("content-length"), Some("0"));
    let mount = format!("/v2/other/blobs/uploads/?mount={}&from=r", Digest::sha256(&config));
    assert_eq!(status(&c, "POST", &mount), 201);
    let mounted = c.ask("HEAD", &format!("/v2/other/blobs/{}", Digest::sha256(&config)), &[], b"");
    assert_eq!(mounted.header("content-length"), Some(config.len().to_string().as_str()));
    ours.stop();
}

/// pulp/pulp_container#220; distribution#1936.
#[test]
fn pages_have_the_entries_that_were_asked_for() {
    let ours = Ours::start();
    let c = ours.client();
    for tag in ["a", "b", "c"] {
        c.put_image("r", tag, "x");
    }
    for (query, status, tags, link) in [
        ("", 200, json!(["a", "b", "c"]), None),
        ("?n=2", 200, json!(["a", "b"]), Some("</v2/r/tags/list?last=b&n=2>; rel=\"next\"")),
        ("?n=2&last=b", 200, json!(["c"]), None),
        ("?n=3", 200, json!(["a", "b", "c"]), None),
        ("?n=0", 200, json!([]), None),
        ("?n=-1", 400, Value::Null, None),
        ("?n=x", 400, Value::Null, None),
        ("?n=99999999999999999999999", 200, json!(["a", "b", "c"]), None),
    ] {
        let reply = c.get(&format!("/v2/r/tags/list{query}"));
        assert_eq!((reply.status, reply.json()["tags"].clone(), reply.header("link")), (status, tags, link), "{query}");
    }
    ours.stop();
}

/// distribution#4420; distribution-spec#494.
#[test]
fn an_image_of_sha512_is_pushed_tagged_and_pulled() {
    let ours = Ours::start();
    let c = ours.client();
    let (config, layer) = common::blobs("a");
    for blob in [&config, &layer] {
        let digest = Digest::of(Algorithm::Sha512, blob);
        assert_eq!(c.try_put_blob("r", blob, digest).unwrap().status, 201);
    }
    let of = |bytes: &[u8], media_type: &str| json!({"mediaType": media_type, "digest": Digest::of(Algorithm::Sha512, bytes), "size": bytes.len()});
    let image = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": of(&config, common::OCI_CONFIG),
        "layers": [of(&layer, common::OCI_LAYER)]});
    let image = image.to_string();
    let digest = Digest::of(Algorithm::Sha512, image.as_bytes()).to_string();
    let reply = c.put_manifest("r", &format!("{digest}?tag=t"), OCI_MANIFEST, image.as_bytes());
    assert_eq!((reply.status, reply.header("docker-content-digest")), (201, Some(digest.as_str())), "{}", reply.text());
    let pulled = c.manifest("r", "t");
    assert_eq!((pulled.status, pulled.header("docker-content-digest")), (200, Some(digest.as_str())));
    assert_eq!(collect(&ours).blobs, Vec::<String>::new());
    assert_eq!(c.get(&format!("/v2/r/blobs/{}", Digest::of(Algorithm::Sha512, &layer))).body, layer);
    ours.stop();
}

/// distribution#3017; distribution-library-image#87.
#[test]
fn a_costly_password_is_checked_once_and_may_have_any_characters() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let password = "pa$$w0rd:$2y$ ü";
    let ours = Ours::start_with(|scratch| {
        let path = scratch.join("htpasswd");
        std::fs::write(&path, format!("ann:{}\n", bcrypt::hash(password, 10).unwrap())).unwrap();
        format!("auth: {{htpasswd: {{realm: here, path: {}}}}}", path.display())
    });
    let c = ours.client().with("Authorization", &format!("Basic {}", STANDARD.encode(format!("ann:{password}"))));
    let begun = Instant::now();
    assert_eq!(c.get("/v2/").status, 200);
    let first = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(c.get("/v2/").status, 200);
    }
    assert!(begun.elapsed() < first * 10, "ten requests take {:?}, the first took {first:?}", begun.elapsed());
    ours.stop();
}
