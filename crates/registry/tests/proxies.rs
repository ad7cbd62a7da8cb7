//! The server behind proxies, load balancers and pages of other sites: URLs, liveness, CORS, ranges, HTTP/2.
#![allow(clippy::unwrap_used)]

mod common;

use std::{process::Command, time::Duration};

use common::{Client, Ours};
use strata_spec::Digest;
use strata_testkit::{Scratch, require};

fn location(c: &Client, headers: &[(&str, &str)]) -> String {
    let reply = c.ask("POST", "/v2/r/blobs/uploads/", headers, b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.header("location").unwrap().to_owned()
}

#[test]
fn locations_name_the_host_that_the_client_asked_of_the_first_proxy() {
    let ours = Ours::start();
    let c = ours.client();
    let own = format!("http://{}", c.host);
    for (headers, start) in [
        (&[][..], own.as_str()),
        (&[("X-Forwarded-Proto", "https")], &own.replace("http:", "https:")),
        (
            &[("X-Forwarded-Proto", "https,http"), ("X-Forwarded-Host", "first.example, second")],
            "https://first.example",
        ),
        (&[("Forwarded", "proto=https;host=\"a.example:8443\", host=b")], "https://a.example:8443"),
        (&[("X-Forwarded-Host", "bad host/\"")], &own),
    ] {
        let location = location(&c, headers);
        assert!(location.starts_with(&format!("{start}/v2/r/blobs/uploads/")), "{headers:?}: {location}");
    }
    ours.stop();
    let ours = Ours::start_with(|_| "http: {addr: '127.0.0.1:0', relativeurls: true}".into());
    let found = location(&ours.client(), &[("X-Forwarded-Host", "a.example")]);
    assert!(found.starts_with("/v2/r/blobs/uploads/"), "{found}");
    ours.stop();
    let ours = Ours::start_with(|_| "http: {addr: '127.0.0.1:0', host: 'https://fixed.example/'}".into());
    let found = location(&ours.client(), &[("X-Forwarded-Host", "a.example")]);
    assert!(found.starts_with("https://fixed.example/v2/"), "{found}");
    ours.stop();
}

#[test]
fn a_page_of_another_site_gets_its_preflight_and_every_header_without_a_password() {
    let ours = Ours::start_with(|scratch| {
        let path = scratch.join("htpasswd");
        std::fs::write(&path, format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
        format!(
            "auth: {{htpasswd: {{realm: here, path: {}}}}}\nhttp: {{addr: '127.0.0.1:0', headers: {{Access-Control-Allow-Methods: \
             [HEAD, GET, DELETE], X-Content-Type-Options: [nosniff]}}}}",
            path.display()
        )
    });
    let c = ours.client();
    for (path, allow) in [
        ("/v2/", "OPTIONS, GET, HEAD"),
        ("/v2/a/manifests/latest", "OPTIONS, GET, HEAD, PUT, DELETE"),
        ("/v2/a/blobs/uploads/", "OPTIONS, POST"),
    ] {
        let reply = c.ask("OPTIONS", path, &[("Origin", "http://ui.example")], b"");
        assert_eq!((reply.status, reply.header("allow")), (200, Some(allow)), "{path}");
        let values = |name: &str| {
            let all = reply.headers.iter().filter(|(known, _)| known == name);
            all.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(values("access-control-allow-methods"), ["HEAD", "GET", "DELETE"]);
        assert_eq!(values("x-content-type-options"), ["nosniff"], "sent once, as the configuration says it");
    }
    assert_eq!(c.ask("OPTIONS", "/nowhere", &[], b"").status, 404);
    let refused = c.get("/v2/");
    assert_eq!((refused.status, refused.header("access-control-allow-methods")), (401, Some("HEAD")));
    for method in ["GET", "HEAD"] {
        assert_eq!(c.ask(method, "/", &[], b"").status, 200, "a load balancer asks whether the server lives");
    }
    assert_eq!(c.ask("POST", "/", &[], b"").status, 405);
    ours.stop();
}

#[test]
fn a_malformed_range_is_416_as_in_distribution() {
    let ours = Ours::start();
    let c = ours.client();
    let digest = c.put_blob("r", &[7; 1000]);
    for (range, status, len) in [
        ("bytes=500-0", 416, None),
        ("bytes=1000-", 416, None),
        ("bytes=a-b", 416, None),
        ("bytes=990-2000", 206, Some(10)),
        ("bytes=-5", 206, Some(5)),
        ("bytes=0-1,5-6", 200, Some(1000)),
    ] {
        let reply = c.ask("GET", &format!("/v2/r/blobs/{digest}"), &[("Range", range)], b"");
        assert_eq!(reply.status, status, "{range}");
        match len {
            Some(len) => assert_eq!(reply.body.len(), len, "{range}"),
            None => assert_eq!(reply.header("content-range"), Some("bytes */1000"), "{range}"),
        }
    }
    ours.stop();
}

#[test]
fn a_page_of_the_catalog_has_as_many_entries_as_configured() {
    let ours = Ours::start_with(|_| "catalog: {maxentries: 2}".into());
    let c = ours.client();
    for repo in ["a", "b", "c"] {
        c.put_blob(repo, b"x");
    }
    for path in ["/v2/_catalog", "/v2/_catalog?n=100"] {
        let reply = c.get(path);
        assert_eq!(reply.json()["repositories"], serde_json::json!(["a", "b"]));
        assert_eq!(reply.header("link"), Some("</v2/_catalog?last=b&n=2>; rel=\"next\""));
    }
    ours.stop();
}

fn certificate(scratch: &Scratch, openssl: &std::path::Path) -> (String, Vec<u8>) {
    let made = Command::new(openssl)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(scratch.join("key.pem"))
        .arg("-out")
        .arg(scratch.join("cert.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (certificate, key) = (scratch.join("cert.pem"), scratch.join("key.pem"));
    let pem = std::fs::read(&certificate).unwrap();
    (format!("certificate: {}, key: {}", certificate.display(), key.display()), pem)
}

/// Pushes and pulls a blob of some megabytes over `client`; returns the version that was spoken.
fn push_and_pull(ours: &Ours, client: &reqwest::Client, scheme: &str) -> reqwest::Version {
    let base = format!("{scheme}://{}", ours.address);
    let bytes: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    let digest = Digest::sha256(&bytes);
    ours.runtime.block_on(async {
        let begun = client.post(format!("{base}/v2/r/blobs/uploads/")).send().await.unwrap();
        let location = begun.headers()["location"].to_str().unwrap().to_owned();
        assert!(location.starts_with(&base), "{location}");
        let patched = client.patch(&location).body(bytes.clone()).send().await.unwrap();
        assert_eq!(patched.status(), 202);
        let put = client.put(format!("{location}?digest={digest}")).send().await.unwrap();
        assert_eq!(put.status(), 201);
        let many = (0..20).map(|_| async {
            let reply = client.get(format!("{base}/v2/r/blobs/{digest}")).send().await.unwrap();
            let version = reply.version();
            assert_eq!(reply.bytes().await.unwrap(), bytes);
            version
        });
        let mut versions = Vec::new();
        for one in many {
            versions.push(one.await);
        }
        versions.dedup();
        assert_eq!(versions.len(), 1);
        versions[0]
    })
}

#[test]
fn http_2_is_spoken_under_tls_unless_it_is_switched_off() {
    let Some(openssl) = require::program("openssl") else { return };
    for (more, version) in [("", reqwest::Version::HTTP_2), (", http2: {disabled: true}", reqwest::Version::HTTP_11)] {
        let mut pem = Vec::new();
        let ours = Ours::start_with(|scratch| {
            let (files, found) = certificate(scratch, &openssl);
            pem = found;
            format!("http: {{addr: '127.0.0.1:0', tls: {{{files}}}{more}}}")
        });
        let root = reqwest::Certificate::from_pem(&pem).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
        assert_eq!(push_and_pull(&ours, &client, "https"), version);
        drop(client);
        ours.stop();
    }
}

#[test]
fn http_2_without_tls_is_spoken_where_the_configuration_allows_it() {
    let http2 = || reqwest::Client::builder().http2_prior_knowledge().timeout(Duration::from_secs(60)).build().unwrap();
    let ours = Ours::start_with(|_| "http: {addr: '127.0.0.1:0', h2c: {enabled: true}}".into());
    assert_eq!(push_and_pull(&ours, &http2(), "http"), reqwest::Version::HTTP_2);
    // HTTP/1 is still spoken, also by a client whose first bytes come one by one.
    assert_eq!(push_and_pull(&ours, &reqwest::Client::new(), "http"), reqwest::Version::HTTP_11);
    let reply = ours.client().raw(b"P");
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 400"), "{reply}");
    ours.stop();
    let ours = Ours::start();
    let refused = ours.runtime.block_on(async { http2().get(format!("http://{}/v2/", ours.address)).send().await });
    assert!(refused.is_err());
    ours.stop();
}
