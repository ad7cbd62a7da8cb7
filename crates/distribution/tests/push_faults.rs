//! A registry that lies, points elsewhere, or is slow while it is pushed to. The push ends well or says why, and its credentials stay with the registry.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Root, client, root, tars};
use serde_json::json;
use strata_distribution::{Client, Settings};
use strata_testkit::{
    registry::{Image, Memory, digest, error},
    server::{Reply, Request, Server},
};

/// An image in a root, whose source is there still.
struct Case {
    root: Root,
    image: Image,
    local: String,
    _source: Server,
}

impl Case {
    fn new(seed: u64) -> Option<Self> {
        let root = root()?;
        let image = Image::new(&tars(seed, &[3 << 20, 10]));
        let memory = Memory::default();
        memory.put("1", &image);
        let source = Server::start(move |request| memory.reply(request));
        let local = format!("{}/x:1", source.host());
        root.pull(&client(), &local).unwrap();
        Some(Self { root, image, local, _source: source })
    }

    /// The name of the image on the registry at `host`, which it is given.
    fn tagged(&self, host: &str) -> String {
        let name = format!("{host}/x:1");
        self.root.tag(&self.local, &name);
        name
    }

    #[track_caller]
    fn assert_whole(&self, memory: &Memory) {
        assert_eq!(digest(&memory.manifest("1").unwrap()), self.image.digest());
        for blob in self.image.blobs() {
            assert!(memory.blob(&digest(blob)).is_some_and(|stored| stored == blob));
        }
    }
}

/// A client that has a password for `host`.
fn known_to(root: &Root, host: &str) -> Client {
    let config = root.join("config.json");
    std::fs::write(&config, json!({"auths": {host: {"auth": "dTpw"}}}).to_string()).unwrap();
    Client::new(Settings { docker_config: config, ..common::settings() }).unwrap()
}

#[test]
fn an_upload_that_goes_to_another_host_goes_without_credentials() {
    let Some(case) = Case::new(200) else { return };
    let memory = Arc::new(Memory::default());
    let shown: Arc<Mutex<Vec<String>>> = Arc::default();
    let (behind, heard) = (memory.clone(), shown.clone());
    let storage = Server::start(move |request| {
        heard.lock().unwrap().extend(request.header("authorization").map(str::to_owned));
        behind.reply(request)
    });
    let (behind, to) = (memory.clone(), storage.host());
    let server = Server::start(move |request| {
        if request.header("authorization") != Some("Basic dTpw") {
            return error(401, "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        let mut reply = behind.reply(request);
        for (name, value) in &mut reply.headers {
            if name == "Location" && value.contains("/blobs/uploads/") {
                *value = format!("http://{to}{value}");
            }
        }
        reply
    });
    let name = case.tagged(&server.host());
    case.root.push(&known_to(&case.root, &server.host()), &name).unwrap();
    case.assert_whole(&memory);
    assert!(storage.count("PUT", "/blobs/uploads/") >= 3, "config and two layers went there");
    assert_eq!(*shown.lock().unwrap(), Vec::<String>::new());
}

/// A registry that `spoil` may answer for.
fn spoilt(memory: &Arc<Memory>, spoil: impl Fn(&Request, &Memory) -> Option<Reply> + Send + Sync + 'static) -> Server {
    let behind = memory.clone();
    Server::start(move |request| spoil(request, &behind).unwrap_or_else(|| behind.reply(request)))
}

#[test]
fn a_registry_that_has_not_what_it_says_it_has_is_told_as_it_answers() {
    let Some(case) = Case::new(201) else { return };
    let memory = Arc::new(Memory::default());
    let sizes: Vec<(String, usize)> = case.image.blobs().map(|blob| (digest(blob), blob.len())).collect();
    let server = spoilt(&memory, move |request, memory| match request.method.as_str() {
        // All blobs are there, it says.
        "HEAD" => sizes
            .iter()
            .find(|(digest, _)| request.path().ends_with(digest.as_str()))
            .map(|(_, size)| Reply { claimed: Some(*size as u64), ..Reply::new(200) }),
        // Until it needs them.
        "PUT" if request.path().contains("/manifests/") => {
            let manifest: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            let missing = memory.blob(manifest["config"]["digest"].as_str().unwrap()).is_none();
            missing.then(|| error(404, "MANIFEST_BLOB_UNKNOWN"))
        }
        _ => None,
    });
    let name = case.tagged(&server.host());
    let error = case.root.push(&client(), &name).unwrap_err().to_string();
    assert!(error.contains("manifest blob unknown") && error.contains(&server.host()), "{error}");
    assert!(memory.manifest("1").is_none());
}

#[test]
fn a_registry_that_stores_another_manifest_is_told() {
    let Some(case) = Case::new(202) else { return };
    let memory = Arc::new(Memory::default());
    let server = spoilt(&memory, |request, _| {
        let is_manifest = request.method == "PUT" && request.path().contains("/manifests/");
        is_manifest.then(|| Reply::new(201).header("Docker-Content-Digest", digest(b"another")))
    });
    let name = case.tagged(&server.host());
    let error = case.root.push(&client(), &name).unwrap_err().to_string();
    assert!(error.contains(&case.image.digest()) && error.contains(&digest(b"another")), "{error}");
}

#[test]
fn a_mount_that_becomes_an_upload_is_called_off_and_the_blob_sent() {
    let Some(case) = Case::new(203) else { return };
    // Another repository of the registry has all of it, as far as the root knows; the registry mounts nothing.
    let memory = Arc::new(Memory::default());
    let mounts = |request: &Request| !request.query("mount").is_empty();
    let server = spoilt(&memory, move |request, memory| {
        mounts(request).then(|| memory.reply(&Request { target: request.path().to_owned(), ..request.clone() }))
    });
    case.root.push(&client(), &case.tagged(&server.host())).unwrap();
    let other = format!("{}/other:2", server.host());
    case.root.tag(&case.local, &other);
    memory.lose_blobs();
    case.root.push(&client(), &other).unwrap();
    let asked = server.seen().iter().filter(|request| mounts(request)).count();
    assert!(asked > 0, "no mount was asked for");
    assert_eq!(server.count("DELETE", "/blobs/uploads/"), asked, "what it began instead is called off");
    case.assert_whole(&memory);
    assert!(memory.manifest("2").is_some());
}

#[test]
fn a_registry_that_takes_its_time_is_waited_for() {
    let Some(case) = Case::new(204) else { return };
    let memory = Arc::new(Memory::default());
    let server = spoilt(&memory, |request, memory| {
        if request.path().contains("/blobs/uploads/") {
            std::thread::sleep(Duration::from_millis(300));
        }
        let reply = memory.reply(request);
        Some(Reply { slow: (!reply.body.is_empty()).then_some((1, Duration::from_millis(2))), ..reply })
    });
    let name = case.tagged(&server.host());
    assert!(case.root.push(&client(), &name).unwrap().kept);
    case.assert_whole(&memory);
}

#[test]
fn what_arrived_of_a_refused_upload_does_not_stay() {
    let Some(case) = Case::new(207) else { return };
    // The disk of the registry is full: for good, or for as long as the client tries.
    for (status, requests) in [(507, 1), (413, 2), (400, 1)] {
        let memory = Arc::new(Memory::default());
        let server = spoilt(&memory, move |request, memory| {
            let takes =
                matches!(request.method.as_str(), "PATCH" | "PUT") && request.path().contains("/blobs/uploads/");
            takes.then(|| {
                let _ = memory.reply(&Request { method: "PATCH".to_owned(), ..request.clone() });
                error(status, "UNKNOWN")
            })
        });
        let name = case.tagged(&server.host());
        let error = case.root.push(&client(), &name).unwrap_err().to_string();
        assert!(error.contains(&status.to_string()), "{error}");
        assert!(server.count("DELETE", "/blobs/uploads/") >= requests, "{status}");
        assert_eq!(memory.open_uploads(), 0, "{status}");
    }
}

#[test]
fn an_upload_that_is_redirected_goes_on_where_it_was_begun() {
    let Some(case) = Case::new(208) else { return };
    let memory = Arc::new(Memory::default());
    // Uploads are begun on another host, whose `Location`s are relative.
    let behind = memory.clone();
    let other = Server::start(move |request| behind.reply(request));
    let to = format!("http://{}", other.host());
    let server = spoilt(&memory, move |request, _| {
        let begins = request.method == "POST" && request.path().ends_with("/blobs/uploads/");
        let closes = request.path().contains("/blobs/uploads/") && request.method != "POST";
        match (begins, closes) {
            (true, _) => Some(Reply::new(307).header("Location", format!("{to}{}", request.target))),
            (_, true) => Some(error(404, "BLOB_UPLOAD_UNKNOWN")),
            _ => None,
        }
    });
    let name = case.tagged(&server.host());
    case.root.push(&client(), &name).unwrap();
    case.assert_whole(&memory);
    assert!(other.count("PUT", "/blobs/uploads/") >= 3);
}
