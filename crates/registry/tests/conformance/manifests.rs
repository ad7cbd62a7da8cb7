//! The endpoints of manifests: end-3, end-7, end-9.

use crate::Case;
use crate::common::{
    DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, blobs, descriptor, index, manifest,
};
use serde_json::{Value, json};
use strata_spec::Digest;

pub const CASES: &[Case] = &[
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
    ("end-3: Content-Type is the type that was pushed, whichever it is", |c, r| {
        let (config, layer) = blobs("docker");
        c.put_blob(r, &config);
        c.put_blob(r, &layer);
        let [config, layer] = [
            descriptor("application/vnd.docker.container.image.v1+json", &config),
            descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer),
        ];
        let image =
            json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": [layer]}).to_string();
        assert_eq!(c.put_manifest(r, "image", DOCKER_MANIFEST, image.as_bytes()).status, 201);
        let platform = json!({"os": "linux", "architecture": "amd64"});
        let mut child = descriptor(DOCKER_MANIFEST, image.as_bytes());
        child["platform"] = platform;
        let list = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [child]}).to_string();
        assert_eq!(c.put_manifest(r, "list", DOCKER_LIST, list.as_bytes()).status, 201);
        for (tag, media_type, bytes) in [("image", DOCKER_MANIFEST, &image), ("list", DOCKER_LIST, &list)] {
            let reply = c.ask("GET", &format!("/v2/{r}/manifests/{tag}"), &[("Accept", media_type)], b"");
            assert_eq!((reply.status, reply.header("content-type")), (200, Some(media_type)));
            assert_eq!(reply.body, bytes.as_bytes());
        }
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
    ("end-7: the place of a manifest is one from which it can be pulled", |c, r| {
        let bytes = c.image(r, "a");
        let reply = c.put_manifest(r, "one", OCI_MANIFEST, &bytes);
        let pulled = c.ask("GET", &reply.location(), &[("Accept", OCI_MANIFEST)], b"");
        assert_eq!((pulled.status, pulled.body), (200, bytes));
    }),
    ("end-7b: PUT by digest sets all tags that it names, and says which", |c, r| {
        let bytes = c.image(r, "a");
        let path = format!("{}?tag=v1&tag=v1.2&tag=latest&tag=v1", Digest::sha256(&bytes));
        let reply = c.put_manifest(r, &path, OCI_MANIFEST, &bytes);
        let said = reply.headers.iter().filter(|(name, _)| name == "oci-tag").map(|(_, tag)| tag.as_str());
        assert_eq!((reply.status, said.collect()), (201, vec!["v1", "v1.2", "latest"]));
        assert_eq!(c.get(&format!("/v2/{r}/tags/list")).json()["tags"], json!(["latest", "v1", "v1.2"]));
        assert_eq!(c.manifest(r, "v1.2").body, bytes);
    }),
    ("end-7b: a tag outside the grammar is 400, too many are 414, and nothing is stored", |c, r| {
        let bytes = c.image(r, "a");
        let digest = Digest::sha256(&bytes).to_string();
        let many: String = (0..1000).map(|at| format!("&tag=t{at}")).collect();
        for (query, status) in [("tag=good&tag=-bad".to_owned(), 400), (many, 414)] {
            assert_eq!(c.put_manifest(r, &format!("{digest}?{query}"), OCI_MANIFEST, &bytes).status, status);
            assert_eq!(c.manifest(r, &digest).status, 404);
        }
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
        assert_eq!((reply.status, reply.code().as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));
        assert!(reply.text().contains(&Digest::sha256(&layer).to_string()));
        assert_eq!(c.manifest(r, "one").status, 404);
    }),
    ("end-7: a blob of another repository does not do", |c, r| {
        let bytes = c.image(&format!("{r}/other"), "a");
        c.put_blob(r, b"something");
        let reply = c.put_manifest(r, "one", OCI_MANIFEST, &bytes);
        assert_eq!((reply.status, reply.code().as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));
    }),
    ("end-7: a layer that is had elsewhere need not be here", |c, r| {
        let (config, layer) = blobs("foreign");
        c.put_blob(r, &config);
        let mut image: Value = serde_json::from_str(&manifest(&config, &layer, Value::Null)).unwrap();
        image["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
        image["layers"][0]["urls"] = json!(["https://example.com/layer"]);
        assert_eq!(c.put_manifest(r, "one", OCI_MANIFEST, image.to_string().as_bytes()).status, 201);
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
];
