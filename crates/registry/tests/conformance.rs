//! The distribution specification, a case a sentence, on ours and on CNCF distribution 2.8.
//!
//! Source: OCI distribution-spec 1.1, end-1 to end-14. Ours passes all. What the other does not is a list here: a case that changes
//! there, either way, fails.
#![allow(clippy::unwrap_used)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{
    Client, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Ours, Reply, blobs, descriptor, index,
    manifest, with_param,
};
use serde_json::{Value, json};
use strata_spec::{Algorithm, Digest};
use strata_testkit::registry::DockerRegistry;

/// One sentence of the specification, tried in a repository of its own.
type Case = (&'static str, fn(&Client, &str));

/// The cases in which distribution 2.8 departs from the specification of today.
const KNOWN: &[&str] = &[
    "end-2: a range outside a blob is 416",
    "end-4b: POST with a digest takes the whole blob: 201",
    "end-4b: POST with another digest is refused",
    "end-5: a chunk out of order is 416, and the upload stands",
    "end-5: a first chunk that does not begin at 0 is 416",
    "end-7: what is no manifest is 400",
    "end-7: a manifest with a subject answers with OCI-Subject, whether that is there or not",
    "end-7: an index may be sparse",
    "end-7: a manifest of more than 4 MiB is 413",
    "end-8a: tags are listed in the order of their names",
    "end-8b: n bounds a page, last begins the next, Link leads to it",
    "end-8b: n of 0 is an empty list",
    "end-9: DELETE of a tag: 202, and the manifest stays",
    "end-11: a blob is mounted from wherever it is",
    "end-12a: referrers of a manifest are an index of their descriptors",
    "end-12b: referrers are filtered by artifactType, and the answer says so",
    "end-12a: what has no referrers, or is not there, has an empty index: 200",
    "end-12a: referrers of what is no digest are 400",
    "end-12a: a referrer that was deleted is no longer listed",
    "end-13: an upload that is not there is 404",
    "names: outside the grammar they are 400 with NAME_INVALID",
    "digests: manifests may have sha512",
    "catalog: repositories are listed in the order of their names, page by page",
];

const CASES: &[Case] = &[
    ("end-1: GET /v2/ answers 200", |c, _| assert_eq!(c.get("/v2/").status, 200)),
    ("end-2: a blob that is there is had with 200, whole", |c, r| {
        let digest = c.put_blob(r, b"some bytes");
        let reply = c.get(&format!("/v2/{r}/blobs/{digest}"));
        assert_eq!((reply.status, &reply.body[..]), (200, &b"some bytes"[..]));
        assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
    }),
    ("end-2: a blob that is not there is 404", |c, r| {
        c.put_blob(r, b"x");
        let reply = c.get(&format!("/v2/{r}/blobs/{}", Digest::sha256("absent")));
        assert_eq!((reply.status, reply.code().as_str()), (404, "BLOB_UNKNOWN"));
    }),
    ("end-2: HEAD tells a blob's size and sends nothing", |c, r| {
        let digest = c.put_blob(r, b"some bytes");
        let reply = c.ask("HEAD", &format!("/v2/{r}/blobs/{digest}"), &[], b"");
        assert_eq!((reply.status, reply.header("content-length"), reply.body.len()), (200, Some("10"), 0));
    }),
    ("end-2: HEAD of a blob that is not there is 404", |c, r| {
        assert_eq!(c.ask("HEAD", &format!("/v2/{r}/blobs/{}", Digest::sha256("absent")), &[], b"").status, 404);
    }),
    ("end-2: a range of a blob is 206", |c, r| {
        let digest = c.put_blob(r, b"0123456789");
        let reply = c.ask("GET", &format!("/v2/{r}/blobs/{digest}"), &[("Range", "bytes=2-5")], b"");
        assert_eq!((reply.status, &reply.body[..]), (206, &b"2345"[..]));
        assert_eq!(reply.header("content-range"), Some("bytes 2-5/10"));
        assert_eq!(c.ask("GET", &format!("/v2/{r}/blobs/{digest}"), &[("Range", "bytes=7-")], b"").body, b"789");
        assert_eq!(c.ask("GET", &format!("/v2/{r}/blobs/{digest}"), &[("Range", "bytes=-3")], b"").body, b"789");
    }),
    ("end-2: a range outside a blob is 416", |c, r| {
        let digest = c.put_blob(r, b"0123456789");
        assert_eq!(c.ask("GET", &format!("/v2/{r}/blobs/{digest}"), &[("Range", "bytes=10-")], b"").status, 416);
    }),
    ("end-2: a blob is not in a repository to which it was not pushed", |c, r| {
        let digest = c.put_blob(r, b"here alone");
        c.put_blob(&format!("{r}/other"), b"something");
        assert_eq!(c.get(&format!("/v2/{r}/other/blobs/{digest}")).status, 404);
    }),
    ("end-3: a manifest is had by tag and by digest, byte for byte, with its type", |c, r| {
        let bytes = c.put_image(r, "one", "a");
        for reference in ["one".to_owned(), Digest::sha256(&bytes).to_string()] {
            let reply = c.manifest(r, &reference);
            assert_eq!((reply.status, &reply.body), (200, &bytes));
            assert_eq!(reply.header("content-type"), Some(OCI_MANIFEST));
            assert_eq!(reply.header("docker-content-digest"), Some(Digest::sha256(&bytes).to_string().as_str()));
        }
    }),
    ("end-3: a manifest that is not there is 404", |c, r| {
        c.put_image(r, "one", "a");
        for reference in ["two".to_owned(), Digest::sha256("absent").to_string()] {
            let reply = c.manifest(r, &reference);
            assert_eq!((reply.status, reply.code().as_str()), (404, "MANIFEST_UNKNOWN"));
        }
    }),
    ("end-3: HEAD tells a manifest's size and digest", |c, r| {
        let bytes = c.put_image(r, "one", "a");
        let reply = c.ask("HEAD", &format!("/v2/{r}/manifests/one"), &[("Accept", OCI_MANIFEST)], b"");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-length"), Some(bytes.len().to_string().as_str()));
        assert_eq!(reply.header("docker-content-digest"), Some(Digest::sha256(&bytes).to_string().as_str()));
        assert_eq!(c.ask("HEAD", &format!("/v2/{r}/manifests/none"), &[], b"").status, 404);
    }),
    ("end-3: a manifest of another repository is 404", |c, r| {
        let bytes = c.put_image(r, "one", "a");
        c.put_image(&format!("{r}/other"), "one", "b");
        assert_eq!(c.manifest(&format!("{r}/other"), &Digest::sha256(bytes).to_string()).status, 404);
    }),
    ("end-4a: POST begins an upload: 202 and its place", |c, r| {
        let reply = c.ask("POST", &format!("/v2/{r}/blobs/uploads/"), &[], b"");
        assert_eq!(reply.status, 202);
        assert!(reply.location().starts_with(&format!("/v2/{r}/blobs/uploads/")), "{}", reply.location());
    }),
    ("end-4b: POST with a digest takes the whole blob: 201", |c, r| {
        let digest = Digest::sha256("all at once");
        let reply = post(c, r, &format!("digest={digest}"), b"all at once");
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert!(reply.location().ends_with(&format!("/v2/{r}/blobs/{digest}")));
        assert_eq!(c.get(&reply.location()).body, b"all at once");
    }),
    ("end-4b: POST with another digest is refused", |c, r| {
        let reply = post(c, r, &format!("digest={}", Digest::sha256("x")), b"not x");
        assert_eq!((reply.status, reply.code().as_str()), (400, "DIGEST_INVALID"));
    }),
    ("end-5: PATCH streams bytes: 202 with the place and the range", |c, r| {
        let reply = c.ask("PATCH", &c.begin(r), &[("Content-Type", "application/octet-stream")], b"12345");
        assert_eq!((reply.status, reply.header("range")), (202, Some("0-4")));
        assert!(!reply.location().is_empty());
    }),
    ("end-5: chunks in order, the last with PUT, are the blob", |c, r| {
        let first = chunk(c, &c.begin(r), 0, b"01234");
        assert_eq!((first.status, first.header("range")), (202, Some("0-4")));
        let second = chunk(c, &first.location(), 5, b"56789");
        assert_eq!((second.status, second.header("range")), (202, Some("0-9")));
        let digest = Digest::sha256("0123456789ab");
        let path = with_param(&second.location(), &format!("digest={digest}"));
        let reply =
            c.ask("PUT", &path, &[("Content-Range", "10-11"), ("Content-Type", "application/octet-stream")], b"ab");
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert_eq!(c.get(&format!("/v2/{r}/blobs/{digest}")).body, b"0123456789ab");
    }),
    ("end-5: a chunk out of order is 416, and the upload stands", |c, r| {
        let first = chunk(c, &c.begin(r), 0, b"01234");
        assert_eq!(chunk(c, &first.location(), 6, b"6789").status, 416);
        assert_eq!(chunk(c, &first.location(), 0, b"01234").status, 416);
        assert_eq!(c.get(&first.location()).header("range"), Some("0-4"));
        assert_eq!(chunk(c, &first.location(), 5, b"56789").status, 202);
    }),
    ("end-5: a first chunk that does not begin at 0 is 416", |c, r| {
        assert_eq!(chunk(c, &c.begin(r), 3, b"345").status, 416);
    }),
    ("end-6: PUT with a digest ends an upload: 201 and the blob's place", |c, r| {
        let digest = Digest::sha256("whole");
        let path = with_param(&c.begin(r), &format!("digest={digest}"));
        let reply = c.ask("PUT", &path, &[("Content-Type", "application/octet-stream")], b"whole");
        assert_eq!(reply.status, 201);
        assert_eq!(c.get(&reply.location()).body, b"whole");
        assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
    }),
    ("end-6: PUT without a digest is 400", |c, r| {
        assert_eq!(c.ask("PUT", &c.begin(r), &[], b"whole").status, 400);
    }),
    ("end-6: PUT with another digest is 400, and nothing is stored", |c, r| {
        let wrong = Digest::sha256("other");
        let reply = c.ask("PUT", &with_param(&c.begin(r), &format!("digest={wrong}")), &[], b"whole");
        assert_eq!((reply.status, reply.code().as_str()), (400, "DIGEST_INVALID"));
        assert_eq!(c.get(&format!("/v2/{r}/blobs/{wrong}")).status, 404);
        assert_eq!(c.get(&format!("/v2/{r}/blobs/{}", Digest::sha256("whole"))).status, 404);
    }),
    ("end-6: an upload ends once", |c, r| {
        let path = with_param(&c.begin(r), &format!("digest={}", Digest::sha256("once")));
        assert_eq!(c.ask("PUT", &path, &[], b"once").status, 201);
        let again = c.ask("PUT", &path, &[], b"once");
        assert_eq!((again.status, again.code().as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
    }),
    ("end-6: a blob may be empty", |c, r| {
        let digest = c.put_blob(r, b"");
        let reply = c.get(&format!("/v2/{r}/blobs/{digest}"));
        assert_eq!((reply.status, reply.body.len()), (200, 0));
    }),
    ("end-6: a blob that is there may be pushed again", |c, r| {
        assert_eq!(c.put_blob(r, b"twice"), c.put_blob(r, b"twice"));
    }),
    ("end-7: PUT of a manifest by tag: 201, its place, its digest", |c, r| {
        let bytes = c.image(r, "a");
        let digest = Digest::sha256(&bytes).to_string();
        let reply = c.put_manifest(r, "one", OCI_MANIFEST, &bytes);
        assert_eq!((reply.status, reply.header("docker-content-digest")), (201, Some(digest.as_str())));
        assert_eq!(reply.location(), format!("/v2/{r}/manifests/{digest}"));
    }),
    ("end-7: PUT of a manifest by digest makes no tag", |c, r| {
        let bytes = c.image(r, "a");
        let digest = Digest::sha256(&bytes).to_string();
        assert_eq!(c.put_manifest(r, &digest, OCI_MANIFEST, &bytes).status, 201);
        assert_eq!(c.manifest(r, &digest).body, bytes);
        let tags = c.get(&format!("/v2/{r}/tags/list"));
        assert!(tags.json()["tags"].as_array().is_none_or(Vec::is_empty), "{}", tags.text());
    }),
    ("end-7: PUT of a manifest by another digest is 400", |c, r| {
        let bytes = c.image(r, "a");
        let reply = c.put_manifest(r, &Digest::sha256("x").to_string(), OCI_MANIFEST, &bytes);
        assert_eq!((reply.status, reply.code().as_str()), (400, "DIGEST_INVALID"));
    }),
    ("end-7: a manifest that names a blob that is not there is refused, by its digest", |c, r| {
        let (config, layer) = blobs("a");
        c.put_blob(r, &config);
        let reply = c.put_manifest(r, "one", OCI_MANIFEST, manifest(&config, &layer, Value::Null).as_bytes());
        assert_eq!((reply.status / 100, reply.code().as_str()), (4, "MANIFEST_BLOB_UNKNOWN"));
        assert!(reply.text().contains(&Digest::sha256(&layer).to_string()));
        assert_eq!(c.manifest(r, "one").status, 404);
    }),
    ("end-7: what is no manifest is 400", |c, r| {
        for bytes in ["no JSON", "{}", "[]", ""] {
            let reply = c.put_manifest(r, "one", OCI_MANIFEST, bytes.as_bytes());
            assert_eq!((reply.status, reply.code().as_str()), (400, "MANIFEST_INVALID"), "{bytes:?}");
        }
    }),
    ("end-7: a manifest whose type is not the one it is sent as is 400", |c, r| {
        let bytes = c.image(r, "a");
        assert_eq!(c.put_manifest(r, "one", DOCKER_MANIFEST, &bytes).status, 400);
    }),
    ("end-7: a tag moves to the manifest that was pushed last", |c, r| {
        let first = c.put_image(r, "one", "a");
        let second = c.put_image(r, "one", "b");
        assert_eq!(c.manifest(r, "one").body, second);
        assert_eq!(c.manifest(r, &Digest::sha256(&first).to_string()).body, first, "the other is still there");
    }),
    ("end-7: a manifest with a subject answers with OCI-Subject, whether that is there or not", |c, r| {
        let subject = c.put_image(r, "one", "a");
        for subject in [descriptor(OCI_MANIFEST, &subject), descriptor(OCI_MANIFEST, b"absent")] {
            let (config, layer) = blobs("ref");
            c.put_blob(r, &config);
            c.put_blob(r, &layer);
            let bytes = manifest(&config, &layer, subject.clone());
            let reply = c.put_manifest(r, &Digest::sha256(&bytes).to_string(), OCI_MANIFEST, bytes.as_bytes());
            assert_eq!((reply.status, reply.header("oci-subject")), (201, subject["digest"].as_str()));
        }
    }),
    ("end-7: an index of manifests that are there is stored", |c, r| {
        let (one, two) = (c.put_image(r, "one", "a"), c.put_image(r, "two", "b"));
        let bytes = index(&[&one, &two]);
        assert_eq!(c.put_manifest(r, "all", OCI_INDEX, bytes.as_bytes()).status, 201);
        let reply = c.manifest(r, "all");
        assert_eq!((reply.header("content-type"), &reply.body[..]), (Some(OCI_INDEX), bytes.as_bytes()));
    }),
    ("end-7: an index may be sparse", |c, r| {
        let one = c.put_image(r, "one", "a");
        assert_eq!(c.put_manifest(r, "all", OCI_INDEX, index(&[&one, b"absent"]).as_bytes()).status, 201);
    }),
    ("end-7: an index may hold an index", |c, r| {
        let one = c.put_image(r, "one", "a");
        let inner = index(&[&one]);
        assert_eq!(c.put_manifest(r, "inner", OCI_INDEX, inner.as_bytes()).status, 201);
        let outer =
            json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_INDEX, inner.as_bytes())]});
        assert_eq!(c.put_manifest(r, "outer", OCI_INDEX, outer.to_string().as_bytes()).status, 201);
        assert_eq!(c.pull(r, "outer"), Ok(()));
    }),
    ("end-7: a manifest of 4 MiB is taken", |c, r| {
        let (config, layer) = blobs("large");
        c.put_blob(r, &config);
        c.put_blob(r, &layer);
        let mut bytes = manifest(&config, &layer, Value::Null);
        bytes.insert_str(bytes.len() - 1, &" ".repeat((4 << 20) - bytes.len()));
        assert_eq!(bytes.len(), 4 << 20);
        let reply = c.put_manifest(r, "large", OCI_MANIFEST, bytes.as_bytes());
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert_eq!(c.manifest(r, "large").body.len(), 4 << 20);
    }),
    ("end-7: a manifest of more than 4 MiB is 413", |c, r| {
        let reply = c.put_manifest(r, "large", OCI_MANIFEST, &vec![b' '; (4 << 20) + 1]);
        assert_eq!(reply.status, 413);
    }),
    ("end-7: an artifact: its own type, an empty config", |c, r| {
        c.put_blob(r, b"{}");
        let empty = descriptor("application/vnd.oci.empty.v1+json", b"{}");
        let artifact = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/vnd.example",
            "config": empty, "layers": [empty]});
        assert_eq!(c.put_manifest(r, "artifact", OCI_MANIFEST, artifact.to_string().as_bytes()).status, 201);
    }),
    ("end-7: an image may use a layer twice", |c, r| {
        let (config, layer) = blobs("twice");
        c.put_blob(r, &config);
        c.put_blob(r, &layer);
        let layer = descriptor(OCI_LAYER, &layer);
        let image = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, &config), "layers": [layer, layer]});
        assert_eq!(c.put_manifest(r, "twice", OCI_MANIFEST, image.to_string().as_bytes()).status, 201);
    }),
    ("end-8a: tags are listed in the order of their names", |c, r| {
        for tag in ["b", "z", "a", "C", "1", "x", "Y", "0", "_k"] {
            c.put_image(r, tag, "a");
        }
        let reply = c.get(&format!("/v2/{r}/tags/list"));
        assert_eq!(
            (reply.status, reply.json()),
            (200, json!({"name": r, "tags": ["0", "1", "C", "Y", "_k", "a", "b", "x", "z"]}))
        );
    }),
    ("end-8a: tags of a repository that is not there are 404", |c, r| {
        let reply = c.get(&format!("/v2/{r}/absent/tags/list"));
        assert_eq!((reply.status, reply.code().as_str()), (404, "NAME_UNKNOWN"));
    }),
    ("end-8b: n bounds a page, last begins the next, Link leads to it", |c, r| {
        for tag in ["a", "b", "c", "d", "e"] {
            c.put_image(r, tag, "a");
        }
        let mut path = format!("/v2/{r}/tags/list?n=2");
        for expected in [json!(["a", "b"]), json!(["c", "d"]), json!(["e"])] {
            let reply = c.get(&path);
            assert_eq!(reply.json()["tags"], expected);
            match reply.header("link") {
                Some(link) => path = next(link),
                None => assert_eq!(expected, json!(["e"])),
            }
        }
        assert_eq!(c.get(&format!("/v2/{r}/tags/list?last=c")).json()["tags"], json!(["d", "e"]));
        assert_eq!(c.get(&format!("/v2/{r}/tags/list?n=2&last=bb")).json()["tags"], json!(["c", "d"]));
    }),
    ("end-8b: n of 0 is an empty list", |c, r| {
        c.put_image(r, "a", "a");
        let reply = c.get(&format!("/v2/{r}/tags/list?n=0"));
        assert_eq!((reply.status, reply.json()["tags"].clone()), (200, json!([])));
    }),
    ("end-9: DELETE of a manifest: 202, and it is gone with its tags", |c, r| {
        let bytes = c.put_image(r, "one", "a");
        let digest = Digest::sha256(&bytes);
        assert_eq!(c.ask("DELETE", &format!("/v2/{r}/manifests/{digest}"), &[], b"").status, 202);
        assert_eq!((c.manifest(r, &digest.to_string()).status, c.manifest(r, "one").status), (404, 404));
        assert_eq!(c.ask("DELETE", &format!("/v2/{r}/manifests/{digest}"), &[], b"").status, 404);
    }),
    ("end-9: DELETE of a tag: 202, and the manifest stays", |c, r| {
        let bytes = c.put_image(r, "one", "a");
        c.put_image(r, "two", "a");
        assert_eq!(c.ask("DELETE", &format!("/v2/{r}/manifests/one"), &[], b"").status, 202);
        assert_eq!(c.manifest(r, "one").status, 404);
        assert_eq!(c.manifest(r, "two").body, bytes);
        assert_eq!(c.manifest(r, &Digest::sha256(&bytes).to_string()).body, bytes);
        assert_eq!(c.ask("DELETE", &format!("/v2/{r}/manifests/one"), &[], b"").status, 404);
    }),
    ("end-10: DELETE of a blob: 202, and it is gone", |c, r| {
        let digest = c.put_blob(r, b"to be deleted");
        assert_eq!(c.ask("DELETE", &format!("/v2/{r}/blobs/{digest}"), &[], b"").status, 202);
        assert_eq!(c.get(&format!("/v2/{r}/blobs/{digest}")).status, 404);
        assert_eq!(c.ask("DELETE", &format!("/v2/{r}/blobs/{digest}"), &[], b"").status, 404);
    }),
    ("end-11: a blob is mounted from another repository: 201 and its place", |c, r| {
        let (from, digest) = (format!("{r}/from"), c.put_blob(&format!("{r}/from"), b"to be mounted"));
        let reply = post(c, r, &format!("mount={digest}&from={from}"), b"");
        assert_eq!((reply.status, reply.location()), (201, format!("/v2/{r}/blobs/{digest}")));
        assert_eq!(c.get(&reply.location()).body, b"to be mounted");
    }),
    ("end-11: a blob that is not there to be mounted is uploaded: 202", |c, r| {
        let absent = Digest::sha256("absent");
        let reply = post(c, r, &format!("mount={absent}&from={r}/from"), b"");
        assert_eq!(reply.status, 202);
        let path = with_param(&reply.location(), &format!("digest={absent}"));
        assert_eq!(c.ask("PUT", &path, &[], b"absent").status, 201);
    }),
    ("end-11: a blob is mounted from wherever it is", |c, r| {
        let digest = c.put_blob(&format!("{r}/from"), format!("anonymous {r}").as_bytes());
        assert_eq!(post(c, r, &format!("mount={digest}"), b"").status, 201);
        assert_eq!(c.get(&format!("/v2/{r}/blobs/{digest}")).status, 200);
    }),
    ("end-12a: referrers of a manifest are an index of their descriptors", |c, r| {
        let (subject, sbom, signature) = referrers(c, r);
        let reply = c.get(&format!("/v2/{r}/referrers/{subject}"));
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(OCI_INDEX)));
        let entries = reply.json()["manifests"].as_array().cloned().unwrap();
        let mut found: Vec<&str> = entries.iter().map(|entry| entry["digest"].as_str().unwrap()).collect();
        found.sort_unstable();
        let mut expected = [sbom.to_string(), signature.to_string()];
        expected.sort();
        assert_eq!(found, expected);
        let one = entries.iter().find(|entry| entry["digest"] == json!(sbom)).unwrap();
        assert_eq!(one["artifactType"], "application/vnd.example.sbom");
        assert_eq!(one["annotations"], json!({"org.example.key": "value"}));
        assert_eq!(one["mediaType"], OCI_MANIFEST);
        assert!(one["size"].is_number());
    }),
    ("end-12b: referrers are filtered by artifactType, and the answer says so", |c, r| {
        let (subject, sbom, _) = referrers(c, r);
        let reply = c.get(&format!("/v2/{r}/referrers/{subject}?artifactType=application/vnd.example.sbom"));
        assert_eq!(reply.header("oci-filters-applied"), Some("artifactType"));
        let found = reply.json()["manifests"].as_array().cloned().unwrap();
        assert_eq!((found.len(), &found[0]["digest"]), (1, &json!(sbom)));
    }),
    ("end-12a: what has no referrers, or is not there, has an empty index: 200", |c, r| {
        c.put_image(r, "one", "a");
        let reply = c.get(&format!("/v2/{r}/referrers/{}", Digest::sha256("absent")));
        assert_eq!((reply.status, reply.json()["manifests"].clone()), (200, json!([])));
    }),
    ("end-12a: referrers of what is no digest are 400", |c, r| {
        assert_eq!(c.get(&format!("/v2/{r}/referrers/latest")).status, 400);
    }),
    ("end-12a: a referrer that was deleted is no longer listed", |c, r| {
        let (subject, sbom, signature) = referrers(c, r);
        assert_eq!(c.ask("DELETE", &format!("/v2/{r}/manifests/{sbom}"), &[], b"").status, 202);
        let left = c.get(&format!("/v2/{r}/referrers/{subject}")).json();
        assert_eq!(left["manifests"].as_array().map(Vec::len), Some(1));
        assert_eq!(left["manifests"][0]["digest"], json!(signature));
    }),
    ("end-13: GET of an upload tells how far it is: 204", |c, r| {
        let place = chunk(c, &c.begin(r), 0, b"01234").location();
        let reply = c.get(&place);
        assert_eq!((reply.status, reply.header("range")), (204, Some("0-4")));
        assert!(!reply.location().is_empty());
    }),
    ("end-13: an upload that is not there is 404", |c, r| {
        let reply = c.get(&format!("/v2/{r}/blobs/uploads/00000000-0000-4000-8000-000000000000"));
        assert_eq!((reply.status, reply.code().as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
    }),
    ("end-14: DELETE cancels an upload: 204, and it is gone", |c, r| {
        let place = c.begin(r);
        assert_eq!(c.ask("DELETE", &place, &[], b"").status, 204);
        assert_eq!(c.get(&place).status, 404);
        assert_eq!(c.ask("PATCH", &place, &[], b"x").status, 404);
    }),
    ("names: outside the grammar they are 400 with NAME_INVALID", |c, _| {
        for name in ["UPPER", "a..b", "-a", "a_", &"a".repeat(256)] {
            let reply = c.get(&format!("/v2/{name}/tags/list"));
            assert_eq!((reply.status, reply.code().as_str()), (400, "NAME_INVALID"), "{name}");
        }
    }),
    ("digests: of other algorithms they are 400 with DIGEST_INVALID", |c, r| {
        let reply = c.get(&format!("/v2/{r}/blobs/md5:d41d8cd98f00b204e9800998ecf8427e"));
        assert_eq!((reply.status, reply.code().as_str()), (400, "DIGEST_INVALID"));
    }),
    ("digests: blobs may have sha512", |c, r| {
        let digest = Digest::of(Algorithm::Sha512, b"longer");
        let path = with_param(&c.begin(r), &format!("digest={digest}"));
        assert_eq!(c.ask("PUT", &path, &[], b"longer").status, 201);
        let reply = c.get(&format!("/v2/{r}/blobs/{digest}"));
        assert_eq!((reply.status, &reply.body[..]), (200, &b"longer"[..]));
    }),
    ("digests: manifests may have sha512", |c, r| {
        let bytes = c.image(r, "a");
        let digest = Digest::of(Algorithm::Sha512, &bytes).to_string();
        assert_eq!(c.put_manifest(r, &digest, OCI_MANIFEST, &bytes).status, 201);
        let reply = c.manifest(r, &digest);
        assert_eq!((reply.status, reply.header("docker-content-digest")), (200, Some(digest.as_str())));
        assert_eq!(reply.body, bytes);
    }),
    ("errors: the document has a list of code and message", |c, r| {
        let reply = c.get(&format!("/v2/{r}/manifests/absent"));
        let document = reply.json();
        assert!(document["errors"][0]["code"].is_string() && document["errors"][0]["message"].is_string());
        assert!(reply.header("content-type").unwrap().starts_with("application/json"));
    }),
    ("negotiation: a manifest whose type is not accepted is not sent as another", |c, r| {
        let bytes = c.put_image(r, "one", "a");
        let reply = c.ask("GET", &format!("/v2/{r}/manifests/one"), &[("Accept", DOCKER_MANIFEST)], b"");
        assert!(reply.status == 404 || reply.body == bytes, "{}", reply.status);
    }),
    ("catalog: repositories are listed in the order of their names, page by page", |c, r| {
        let names = [format!("{r}/a"), format!("{r}/a-b"), format!("{r}/a/c"), format!("{r}/b")];
        names.iter().rev().for_each(|name| drop(c.put_image(name, "one", "a")));
        let mut found = Vec::new();
        let mut path = "/v2/_catalog?n=2".to_owned();
        loop {
            let reply = c.get(&path);
            let page = reply.json()["repositories"].as_array().cloned().unwrap();
            assert!(page.len() <= 2);
            found.extend(page.iter().map(|name| name.as_str().unwrap().to_owned()));
            let Some(link) = reply.header("link") else { break };
            path = next(link);
        }
        found.retain(|name| name.starts_with(&format!("{r}/")));
        assert_eq!(found, names);
    }),
];

fn post(c: &Client, r: &str, query: &str, body: &[u8]) -> Reply {
    c.ask("POST", &format!("/v2/{r}/blobs/uploads/?{query}"), &[("Content-Type", "application/octet-stream")], body)
}

fn chunk(c: &Client, place: &str, at: usize, bytes: &[u8]) -> Reply {
    let range = format!("{at}-{}", at + bytes.len() - 1);
    c.ask("PATCH", place, &[("Content-Range", &range), ("Content-Type", "application/octet-stream")], bytes)
}

/// The path of a `Link` header.
fn next(link: &str) -> String {
    let path = link.split_once('<').unwrap().1.split_once('>').unwrap().0;
    path.split_once("/v2/").map(|(_, rest)| format!("/v2/{rest}")).unwrap()
}

/// Puts an image with two referrers; returns the digests of all three.
fn referrers(c: &Client, r: &str) -> (Digest, Digest, Digest) {
    let subject = c.put_image(r, "subject", "a");
    c.put_blob(r, b"{}");
    let empty = descriptor("application/vnd.oci.empty.v1+json", b"{}");
    let [sbom, signature] = ["sbom", "signature"].map(|kind| {
        let artifact = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "artifactType": format!("application/vnd.example.{kind}"), "config": empty, "layers": [empty],
            "subject": descriptor(OCI_MANIFEST, &subject), "annotations": {"org.example.key": "value"}});
        let bytes = artifact.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        let reply = c.put_manifest(r, &digest.to_string(), OCI_MANIFEST, &bytes);
        assert_eq!(reply.status, 201, "{}", reply.text());
        digest
    });
    (Digest::sha256(subject), sbom, signature)
}

/// Runs all cases; returns the names of those that fail, with why.
fn run(client: &Client) -> Vec<(&'static str, String)> {
    let mut failed = Vec::new();
    for (at, (name, case)) in CASES.iter().enumerate() {
        let repo = format!("conformance/case{at}");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(client, &repo))) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            failed.push((*name, text.unwrap_or_default()));
        }
    }
    failed
}

#[test]
fn ours_does_all_that_the_specification_says() {
    let ours = Ours::start();
    let failed = run(&ours.client());
    assert!(failed.is_empty(), "{failed:#?}");
    ours.stop();
}

#[test]
fn distribution_fails_where_it_is_known_to() {
    let Some(registry) = DockerRegistry::start() else { return };
    let failed = run(&Client::new(&registry.host()));
    let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, KNOWN, "{failed:#?}");
}
