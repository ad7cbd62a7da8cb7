//! The same registry on object stores, where one is installed: S3 and OSS as moto speaks them, Azure as Azurite does, Swift itself; also on
//! one that fails now and then, on one that hangs, and on one that is gone.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod gcs;
mod oss;
mod servers;
mod swift;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{OCI_INDEX, Ours, index, with_param};
use serde_json::json;
use servers::config;
use strata_registry::{
    Config,
    gc::{self, Options, Run, Untagged},
    run,
    storage::{Head, object::Before},
};
use strata_spec::Digest;
use strata_testkit::{registry::Image, require, scratch, server};

/// The life of a registry on the store that `text` configures.
fn images_are_pushed_pulled_and_collected(text: &str) {
    let ours = Ours::of(text, scratch());
    let c = ours.client();
    let one = c.put_image("team/app", "one", "a");
    let two = c.put_image("team/app", "two", "b");
    assert_eq!(c.put_manifest("team/app", "all", OCI_INDEX, index(&[&one, &two]).as_bytes()).status, 201);
    let large: Vec<u8> = (0..12_000_000u32).map(|n| (n % 249) as u8).collect();
    let digest = c.put_blob("team/app", &large);
    let whole = c.get(&format!("/v2/team/app/blobs/{digest}"));
    assert_eq!(whole.status, 200, "{:?}", whole.headers);
    assert_eq!(Digest::sha256(&whole.body), digest, "three parts");
    let part = c.ask("GET", &format!("/v2/team/app/blobs/{digest}"), &[("Range", "bytes=6000000-6000009")], b"");
    assert_eq!((part.status, &part.body[..]), (206, &large[6_000_000..6_000_010]));
    let place = c.ask("PATCH", &c.begin("team/app"), &[], b"half of ").location();
    assert_eq!(c.get("/v2/team/app/tags/list").json()["tags"], json!(["all", "one", "two"]));
    // Another server goes on where this one was.
    ours.stop();
    let ours = Ours::of(text, scratch());
    let c = ours.client();
    assert_eq!(c.pull("team/app", "all"), Ok(()));
    let path = with_param(&place, &format!("digest={}", Digest::sha256("half of it")));
    assert_eq!(c.ask("PUT", &path, &[], b"it").status, 201);
    std::thread::sleep(Duration::from_millis(1100));
    let service = ours.running().service().clone();
    let options = Options { run: Run::ForReal, grace: Duration::ZERO, untagged: Untagged::Keep, uploads: None };
    let report = ours.runtime.block_on(async move {
        tokio::task::spawn_blocking(move || gc::collect(&service.store, &service.uploads, &options).unwrap())
            .await
            .unwrap()
    });
    assert_eq!(report.blobs.len(), 2, "{report:?}");
    assert_eq!(c.get(&format!("/v2/team/app/blobs/{digest}")).status, 404);
    assert_eq!(c.pull("team/app", "all"), Ok(()));
    let removed = c.ask("DELETE", "/v2/team/app/manifests/two", &[], b"");
    assert_eq!(removed.status, 202, "{}", removed.text());
    assert_eq!(c.manifest("team/app", "two").status, 404);
    ours.stop();
}

fn s3(port: u16, redirects: bool) -> String {
    let s3 = format!(
        "s3: {{bucket: bucket, region: us-east-1, regionendpoint: 'http://127.0.0.1:{port}', accesskey: a, secretkey: b, rootdirectory: /here, chunksize: 5MiB}}"
    );
    config(&s3, redirects)
}

#[test]
fn s3_holds_a_registry() {
    let Some(moto) = servers::moto() else { return };
    images_are_pushed_pulled_and_collected(&s3(moto.port, false));
}

#[test]
fn azure_holds_a_registry() {
    let Some(azurite) = servers::azurite() else { return };
    let azure = format!(
        "azure: {{accountname: {}, accountkey: '{}', container: container, serviceurl: 'http://127.0.0.1:{}/{}', rootdirectory: /here, chunksize: 5MiB}}",
        servers::ACCOUNT,
        servers::KEY,
        azurite.port,
        servers::ACCOUNT
    );
    // Redirects are allowed, and there are none: bytes leave through the registry.
    images_are_pushed_pulled_and_collected(&config(&azure, true));
}

#[test]
fn oss_holds_a_registry() {
    let Some(moto) = servers::moto() else { return };
    let store = moto.client();
    let oss = server::Server::start(move |request| oss::answer(&store, request));
    let text = format!(
        "oss: {{bucket: bucket, endpoint: 'http://{}', accesskeyid: {}, accesskeysecret: {}, forcepathstyle: true, rootdirectory: /here, chunksize: 5MiB}}",
        oss.host(),
        oss::ID,
        oss::SECRET
    );
    images_are_pushed_pulled_and_collected(&config(&text, false));
}

/// Every tenth request is refused as busy or fails, and no client is told.
#[test]
fn a_store_that_is_busy_now_and_then_is_asked_again() {
    let Some(moto) = servers::moto() else { return };
    let store = moto.client();
    let asked = AtomicUsize::new(0);
    let busy = server::Server::start(move |request| match asked.fetch_add(1, Ordering::Relaxed) % 20 {
        7 => server::Reply::new(503).body("<Error><Code>SlowDown</Code><Message>slower</Message></Error>"),
        17 => server::Reply::new(500),
        _ => servers::pass_on(&store, request),
    });
    images_are_pushed_pulled_and_collected(&s3(busy.port(), false));
}

/// One request is never answered.
#[test]
fn a_store_that_hangs_is_asked_again() {
    let Some(moto) = servers::moto() else { return };
    let store = moto.client();
    let has_hung = AtomicBool::new(false);
    let front = server::Server::start(move |request| {
        if request.method == "HEAD" && !has_hung.swap(true, Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs(600));
        }
        servers::pass_on(&store, request)
    });
    let ours = Ours::of(&s3(front.port(), false), scratch());
    ours.client().put_image("team/app", "one", "a");
    assert!(front.count("HEAD", "") > 1);
    ours.stop();
}

#[test]
fn a_store_that_is_gone_is_told_as_unavailable_and_used_when_it_is_back() {
    let Some(moto) = servers::moto() else { return };
    let store = moto.client();
    let is_gone = Arc::new(AtomicBool::new(false));
    let gone = is_gone.clone();
    let front = server::Server::start(move |request| match gone.load(Ordering::Relaxed) {
        true => server::Reply::new(503),
        false => servers::pass_on(&store, request),
    });
    let ours = Ours::of(&s3(front.port(), false), scratch());
    let c = ours.client();
    let place = c.ask("PATCH", &c.begin("team/app"), &[], b"half of ").location();
    let path = with_param(&place, &format!("digest={}", Digest::sha256("half of it")));
    is_gone.store(true, Ordering::Relaxed);
    let refused = c.ask("PUT", &path, &[], b"it");
    assert_eq!((refused.status, refused.code()), (503, "UNAVAILABLE".to_owned()));
    is_gone.store(false, Ordering::Relaxed);
    assert_eq!(c.ask("PUT", &path, &[], b"it").status, 201);
    ours.stop();
}

#[test]
fn google_cloud_storage_holds_a_registry() {
    let gcs = gcs::Gcs::start();
    let host = gcs.host();
    let identity = json!({"type": "external_account", "audience": "//here", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("http://{host}/sts"), "credential_source": {"url": format!("http://{host}/subject"), "format": {"type": "text"}}});
    let text = format!(
        "gcs: {{bucket: bucket, endpoint: 'http://{host}', rootdirectory: /here, chunksize: 5MiB, credentials: {identity}}}"
    );
    // Redirects are allowed, and there are none: who has no private key signs nothing.
    images_are_pushed_pulled_and_collected(&config(&text, true));
    assert_eq!((gcs.mistakes(), gcs.open_uploads()), (Vec::<String>::new(), 0));
    assert_eq!(gcs.tokens(), 2, "one for each server");
}

#[test]
fn urls_of_google_cloud_storage_are_signed_with_the_service_accounts_key() {
    let Some(openssl) = require::program("openssl") else { return };
    let scratch = scratch();
    let key = gcs::Key::make(&openssl, scratch.path());
    let account = json!({"type": "service_account", "client_email": "me@here", "private_key": key.pem});
    let file = scratch.join("account.json");
    std::fs::write(&file, account.to_string()).unwrap();
    for credentials in [format!("keyfile: {}", file.display()), format!("credentials: {account}")] {
        let gcs =
            format!("gcs: {{bucket: bucket, endpoint: 'http://127.0.0.1:1', rootdirectory: /here, {credentials}}}");
        let config = Config::parse(&config(&gcs, true)).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (asked, place) = (runtime.handle().clone(), config.place.clone());
        let urls = runtime.block_on(runtime.spawn_blocking(move || {
            let _inside = asked.enter();
            let storage = run::open_storage(&place, Before::Nothing).unwrap();
            [Head::WithBody, Head::Only]
                .map(|head| storage.redirect("docker/registry/v2/blobs/x/data", head).unwrap().unwrap())
        }));
        for (method, url) in ["GET", "HEAD"].into_iter().zip(urls.unwrap()) {
            assert!(url.starts_with("http://127.0.0.1:1/bucket/here/docker/registry/v2/blobs/x/data?"), "{url}");
            assert!(url.contains("X-Goog-Expires=1200"), "{url}");
            key.check(method, &url, "127.0.0.1:1", "me@here");
        }
    }
}

#[test]
fn blobs_are_fetched_from_the_store_itself() {
    let Some(moto) = servers::moto() else { return };
    let ours = Ours::of(&s3(moto.port, true), scratch());
    let c = ours.client();
    let manifest = c.put_image("team/app", "one", "a");
    let layer = common::blobs("a").1;
    let digest = Digest::sha256(&layer);
    let path = format!("/v2/team/app/blobs/{digest}");
    for method in ["GET", "HEAD"] {
        let reply = c.ask(method, &path, &[], b"");
        let location = reply.header("location").unwrap_or_default().to_owned();
        assert_eq!((reply.status, reply.body.len()), (307, 0), "{method}");
        assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
        let there =
            location.strip_prefix(&format!("http://127.0.0.1:{}", moto.port)).unwrap_or_else(|| panic!("{location}"));
        // What is signed is this one object, for this method, for a time.
        assert!(
            there.starts_with(&format!("/bucket/here/docker/registry/v2/blobs/sha256/{}/", &digest.hex()[..2])),
            "{there}"
        );
        assert!(there.contains("X-Amz-Expires=1200") && there.contains("X-Amz-Signature="), "{there}");
        let fetched = moto.client().ask(method, there, &[], b"");
        assert_eq!(fetched.status, 200, "{}", fetched.text());
        assert!(method == "HEAD" || fetched.body == layer);
    }
    // A range goes with the client to the store; a manifest comes from the registry; nobody is sent after what is not there.
    assert_eq!(c.ask("GET", &path, &[("Range", "bytes=1-2")], b"").status, 307);
    assert_eq!(c.manifest("team/app", "one").body, manifest);
    assert_eq!(c.get(&format!("/v2/team/app/blobs/{}", Digest::sha256("x"))).code(), "BLOB_UNKNOWN");
    ours.stop();
}

/// A client is sent to the store without its name and password: a real one leaves them out, and ours asks with what the URL says alone.
#[test]
fn credentials_do_not_go_along_with_a_redirect() {
    let (Some(moto), Some(skopeo)) = (servers::moto(), require::program("skopeo")) else { return };
    let store = moto.client();
    let between = server::Server::start(move |request| servers::pass_on(&store, request));
    let scratch = scratch();
    let users = format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap());
    std::fs::write(scratch.join("htpasswd"), users).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", scratch.join("htpasswd").display());
    let ours = Ours::of(&format!("{}{auth}", s3(between.port(), true)), scratch);
    let c = ours.client().with("Authorization", &format!("Basic {}", STANDARD.encode("ann:secret")));
    let image = Image::new(&[Image::layer(1, 50_000)]);
    image.blobs().for_each(|blob| assert_eq!(c.put_blob("team/app", blob), Digest::sha256(blob)));
    assert_eq!(c.put_manifest("team/app", "t", &image.media_type, &image.manifest).status, 201);
    between.forget();
    let to = tempfile::tempdir().unwrap();
    let (from, to) = (format!("docker://{}/team/app:t", c.host), format!("dir:{}", to.path().display()));
    let args = ["--insecure-policy", "copy", "--src-creds", "ann:secret", "--src-tls-verify=false", &from, &to];
    let ran = std::process::Command::new(skopeo).args(args).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    // The registry signs what it asks itself in a header, a client's URL is signed in its query.
    let seen = between.seen();
    let fetched: Vec<_> = seen.iter().filter(|request| request.target.contains("X-Amz-Signature=")).collect();
    assert_eq!(fetched.len(), 2, "config and layer: {seen:?}");
    for request in fetched {
        assert_eq!((request.header("authorization"), request.header("cookie")), (None, None), "{request:?}");
        assert!(!request.target.contains("ann") && !request.target.contains("secret"), "{}", request.target);
    }
    ours.stop();
}

#[test]
fn swift_holds_a_registry_beyond_the_life_of_a_token() {
    let Some(swift) = swift::start() else { return };
    let text = format!(
        "swift: {{authurl: 'http://127.0.0.1:{}/auth/v1.0', username: 'test:tester', password: testing, container: container, prefix: here, chunksize: 5MiB}}",
        swift.port
    );
    let text = config(&text, false);
    images_are_pushed_pulled_and_collected(&text);
    let ours = Ours::of(&text, scratch());
    let c = ours.client();
    std::thread::sleep(Duration::from_secs(5));
    c.put_image("team/app", "late", "late");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(c.pull("team/app", "late"), Ok(()));
    ours.stop();
    // Parts go with their blobs.
    let left: Vec<String> = swift.objects().into_iter().filter(|name| name.starts_with(".segments/")).collect();
    assert_eq!(left, Vec::<String>::new());
}
