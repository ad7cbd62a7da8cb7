//! What lists and what holds everywhere: end-1, end-8, end-12; names, digests, errors, content negotiation, the catalog.

use std::collections::HashSet;

use crate::Case;
use crate::common::{
    Client, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, blobs, descriptor, manifest, with_param,
};
use serde_json::json;
use strata_spec::{Algorithm, Digest};

pub const CASES: &[Case] = &[
    ("end-1: GET /v2/ answers 200", |c, _| assert_eq!(c.get("/v2/").status, 200)),
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
    ("end-8a: a repository without tags has an empty list", |c, r| {
        let bytes = c.image(r, "a");
        let digest = Digest::sha256(&bytes).to_string();
        assert_eq!(c.put_manifest(r, &digest, OCI_MANIFEST, &bytes).status, 201);
        let reply = c.get(&format!("/v2/{r}/tags/list"));
        assert_eq!((reply.status, reply.json()), (200, json!({"name": r, "tags": []})));
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
    ("end-12b: a filter that fits none leaves an empty index", |c, r| {
        let (subject, ..) = referrers(c, r);
        let reply = c.get(&format!("/v2/{r}/referrers/{subject}?artifactType=application/vnd.example.none"));
        assert_eq!((reply.status, reply.header("oci-filters-applied")), (200, Some("artifactType")));
        assert_eq!((reply.header("content-type"), reply.json()["manifests"].clone()), (Some(OCI_INDEX), json!([])));
    }),
    ("end-12a: a referrer that was pushed before its subject is listed", |c, r| {
        let subject = c.image(r, "a");
        let (config, layer) = blobs("ref");
        c.put_blob(r, &config);
        c.put_blob(r, &layer);
        let bytes = manifest(&config, &layer, descriptor(OCI_MANIFEST, &subject));
        assert_eq!(c.put_manifest(r, "early", OCI_MANIFEST, bytes.as_bytes()).status, 201);
        let path = format!("/v2/{r}/referrers/{}", Digest::sha256(&subject));
        let before = c.get(&path).json()["manifests"].clone();
        assert_eq!(c.put_manifest(r, "subject", OCI_MANIFEST, &subject).status, 201);
        let after = c.get(&path).json()["manifests"].clone();
        assert_eq!((before[0]["digest"].clone(), after.clone()), (json!(Digest::sha256(&bytes)), before));
        // Without a type of its own, it is of that of its config.
        assert_eq!(after[0]["artifactType"], OCI_CONFIG);
    }),
    ("end-12a: an index may be a referrer", |c, r| {
        let subject = c.put_image(r, "one", "a");
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "artifactType": "application/vnd.example.set",
            "manifests": [descriptor(OCI_MANIFEST, &subject)], "subject": descriptor(OCI_MANIFEST, &subject)});
        let bytes = index.to_string();
        let reply = c.put_manifest(r, "set", OCI_INDEX, bytes.as_bytes());
        assert_eq!(
            (reply.status, reply.header("oci-subject")),
            (201, Some(Digest::sha256(&subject).to_string().as_str()))
        );
        let found = c.get(&format!("/v2/{r}/referrers/{}", Digest::sha256(&subject))).json()["manifests"][0].clone();
        let expected = json!({"mediaType": OCI_INDEX, "digest": Digest::sha256(&bytes), "size": bytes.len(), "artifactType": "application/vnd.example.set"});
        assert_eq!(found, expected);
    }),
    ("end-12a: referrers that are too many for one answer come in pages", |c, r| {
        let subject = c.put_image(r, "one", "a");
        c.put_blob(r, b"{}");
        let empty = descriptor("application/vnd.oci.empty.v1+json", b"{}");
        let mut pushed = HashSet::new();
        for at in 0..6 {
            let note = at.to_string().repeat(800 << 10);
            let artifact = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "a/b", "config": empty,
                "layers": [empty], "subject": descriptor(OCI_MANIFEST, &subject), "annotations": {"n": note}});
            let bytes = artifact.to_string();
            let digest = Digest::sha256(&bytes).to_string();
            assert_eq!(c.put_manifest(r, &digest, OCI_MANIFEST, bytes.as_bytes()).status, 201);
            pushed.insert(digest);
        }
        let (mut path, mut found, mut pages) =
            (format!("/v2/{r}/referrers/{}?artifactType=a/b", Digest::sha256(&subject)), Vec::new(), 0);
        loop {
            let reply = c.get(&path);
            assert!(reply.status == 200 && reply.body.len() <= 4 << 20, "{} {}", reply.status, reply.body.len());
            assert_eq!(reply.header("oci-filters-applied"), Some("artifactType"));
            let page = reply.json()["manifests"].as_array().cloned().unwrap();
            found.extend(page.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()));
            pages += 1;
            let Some(link) = reply.header("link") else { break };
            path = next(link);
        }
        assert_eq!((found.len(), found.into_iter().collect::<HashSet<_>>(), pages > 1), (6, pushed, true));
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
    ("names: outside the grammar they are 400 with NAME_INVALID", |c, _| {
        for name in ["UPPER", "a..b", "-a", "a_", &"a".repeat(256)] {
            let reply = c.get(&format!("/v2/{name}/tags/list"));
            assert_eq!((reply.status, reply.code().as_str()), (400, "NAME_INVALID"), "{name}");
        }
    }),
    ("names: any number of components, with their separators", |c, r| {
        for name in ["a/b/c/d/e/f", "x.y_z-0", "two__underscores", "many---dashes"] {
            c.put_image(&format!("{r}/{name}"), "one", "a");
        }
    }),
    ("tags: 128 characters are taken; outside the grammar they are 400", |c, r| {
        let bytes = c.image(r, "a");
        assert_eq!(c.put_manifest(r, &"t".repeat(128), OCI_MANIFEST, &bytes).status, 201);
        for tag in [&"t".repeat(129), ".a", "-a", "a!"] {
            assert_eq!(c.put_manifest(r, tag, OCI_MANIFEST, &bytes).status, 400, "{tag}");
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
        let code = document["errors"][0]["code"].as_str().unwrap();
        assert!(code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{code}");
        assert!(document["errors"][0]["message"].is_string());
        assert!(reply.header("content-type").unwrap().starts_with("application/json"));
    }),
    ("negotiation: a manifest whose type is not accepted is not sent as another", |c, r| {
        let bytes = c.put_image(r, "one", "a");
        let reply = c.ask("GET", &format!("/v2/{r}/manifests/one"), &[("Accept", DOCKER_MANIFEST)], b"");
        assert_eq!((reply.status, reply.code().as_str()), (404, "MANIFEST_UNKNOWN"));
        let reply = c.ask("GET", &format!("/v2/{r}/manifests/one"), &[("Accept", OCI_MANIFEST)], b"");
        assert_eq!((reply.status, reply.body), (200, bytes));
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
