//! What comes from outside and is not as it should be: the right status, the error document, nothing stored, memory bounded.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::{Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use common::{
    Client, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Ours, blobs, descriptor, manifest, v2, with_param,
};
use serde_json::{Value, json};
use strata_spec::Digest;

/// All files below a directory, without what is ours and uploads.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type().unwrap().is_dir() {
                true if path.ends_with("strata") || path.ends_with("_uploads") => {}
                true => directories.push(path),
                false => found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn names_and_paths_that_lead_astray_touch_nothing() {
    let ours = Ours::start();
    let c = ours.client();
    let digest = Digest::sha256("x");
    let too_long = format!("/v2/{}/blobs/uploads/", "a/".repeat(200).trim_end_matches('/'));
    let (upper, short) = ("A".repeat(64), "a".repeat(63));
    for (method, path, status, code) in [
        ("GET", "/v2/../../etc/passwd/manifests/latest", 400, "NAME_INVALID"),
        ("GET", "/v2/a/../../b/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/%2e%2e/%2e%2e/tags/list", 400, "NAME_INVALID"),
        ("POST", "/v2/..%2f..%2fescape/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/a/./b/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/a%00b/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/a%5cb/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/a%252fb/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/_uploads/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/a//b/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", &too_long, 400, "NAME_INVALID"),
        ("GET", "/v2/a/blobs/sha256:..%2f..%2f", 404, "UNSUPPORTED"),
        ("GET", &format!("/v2/a/blobs/sha256:{upper}"), 400, "DIGEST_INVALID"),
        ("GET", &format!("/v2/a/blobs/sha256:{short}"), 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/blobs/sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", 400, "DIGEST_INVALID"),
        ("PUT", "/v2/a/manifests/.hidden", 400, "TAG_INVALID"),
        ("PUT", &format!("/v2/a/manifests/{}", "t".repeat(129)), 400, "TAG_INVALID"),
        ("PUT", "/v2/a/manifests/..%2f..%2fx", 404, "UNSUPPORTED"),
        ("PATCH", "/v2/a/blobs/uploads/..", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PATCH", "/v2/a/blobs/uploads/x", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PATCH", "/v2/a/blobs/uploads/..%2f..%2fx", 404, "UNSUPPORTED"),
        ("PATCH", "/v2/a/blobs/uploads/%00", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PATCH", "/v2/a/blobs/uploads/A0000000-0000-4000-8000-000000000000", 404, "BLOB_UPLOAD_UNKNOWN"),
    ] {
        let reply = c.ask(method, path, &[("Content-Type", OCI_MANIFEST)], b"x");
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{method} {path}: {}", reply.text());
    }
    let reply = c.ask("POST", &format!("/v2/a/blobs/uploads/?mount={digest}&from=../../b"), &[], b"");
    assert_eq!(reply.status, 202, "what cannot be mounted is uploaded");
    assert_eq!(files(&v2(&ours.scratch.join("data"))), Vec::<String>::new());
    ours.stop();
}

#[test]
fn manifests_that_lie_are_refused_and_leave_nothing() {
    let ours = Ours::start();
    let c = ours.client();
    let (config, layer) = blobs("a");
    c.put_blob("r", &config);
    c.put_blob("r", &layer);
    let stored = files(&v2(&ours.scratch.join("data")));
    let good: Value = serde_json::from_str(&manifest(&config, &layer, Value::Null)).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut document = good.clone();
        *document.pointer_mut(pointer).unwrap() = value;
        document.to_string()
    };
    let many: Vec<Value> = (0..10_000).map(|at| descriptor(OCI_LAYER, format!("{at}").as_bytes())).collect();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for (what, bytes, status) in [
        ("a layer that is said to be larger", with("/layers/0/size", json!(layer.len() + 1)), 400),
        ("a layer that is said to be smaller", with("/layers/0/size", json!(0)), 400),
        ("a size below 0", with("/layers/0/size", json!(-1)), 400),
        ("a size beyond all numbers", with("/layers/0/size", json!(1e300)), 400),
        ("an unknown algorithm", with("/layers/0/digest", json!("md5:d41d8cd98f00b204e9800998ecf8427e")), 400),
        ("a digest that is a path", with("/layers/0/digest", json!("sha256:../../../../etc/passwd")), 400),
        ("10,000 layers", with("/layers", json!(many)), 400),
        ("layers that are no list", with("/layers", json!({"a": 1})), 400),
        ("another version", with("/schemaVersion", json!(7)), 400),
        ("schema 1", json!({"schemaVersion": 1, "name": "r", "tag": "t", "fsLayers": []}).to_string(), 415),
        ("depth", deep, 400),
    ] {
        let reply = c.put_manifest("r", "t", OCI_MANIFEST, bytes.as_bytes());
        assert_eq!((reply.status, reply.code().as_str()), (status, "MANIFEST_INVALID"), "{what}: {}", reply.text());
    }
    let reply = c.put_manifest("r", "t", OCI_MANIFEST, &vec![b' '; 5 << 20]);
    assert_eq!((reply.status, reply.code().as_str()), (413, "SIZE_INVALID"));
    assert_eq!(files(&v2(&ours.scratch.join("data"))), stored);
    ours.stop();
}

#[test]
fn indexes_deep_and_cyclic_are_bounded() {
    let ours = Ours::start();
    let c = ours.client();
    let mut inner = c.put_image("r", "image", "a");
    let mut refused = None;
    for depth in 0..40 {
        let child = descriptor(if depth == 0 { OCI_MANIFEST } else { OCI_INDEX }, &inner);
        let outer = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child], "annotations": {"d": depth.to_string()}});
        let outer = outer.to_string().into_bytes();
        let reply = c.put_manifest("r", &format!("d{depth}"), OCI_INDEX, &outer);
        if reply.status != 201 {
            assert_eq!(reply.code(), "MANIFEST_INVALID");
            refused = Some(depth);
            break;
        }
        inner = outer;
    }
    assert!(refused.is_some_and(|depth| depth > 5), "{refused:?}");
    // A digest cannot be known before its content, so that a cycle needs subjects: two that are each other's referrers by turns.
    c.put_blob("cycle", b"{}");
    let empty = descriptor("application/vnd.oci.empty.v1+json", b"{}");
    let mut subject = descriptor(OCI_MANIFEST, b"nothing yet");
    for at in 0..50 {
        let bytes = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": empty, "layers": [empty],
            "subject": subject, "annotations": {"at": at.to_string()}})
        .to_string();
        assert_eq!(c.put_manifest("cycle", &format!("t{at}"), OCI_MANIFEST, bytes.as_bytes()).status, 201);
        subject = descriptor(OCI_MANIFEST, bytes.as_bytes());
    }
    assert_eq!(c.pull("cycle", "t49"), Ok(()));
    ours.stop();
}

#[test]
fn uploads_have_bounds() {
    let ours = Ours::start_with(|_| "strata: {limits: {blob: 100KB, uploads: 20}}".into());
    let c = ours.client();
    let place = c.begin("r");
    assert_eq!(c.ask("PATCH", &place, &[], &[7; 60_000]).status, 202);
    let reply = c.ask("PATCH", &place, &[], &[7; 60_000]);
    assert_eq!((reply.status, reply.code().as_str()), (413, "SIZE_INVALID"));
    for _ in 0..19 {
        c.begin("r");
    }
    let reply = c.ask("POST", "/v2/r/blobs/uploads/", &[], b"");
    assert_eq!((reply.status, reply.code().as_str()), (429, "TOOMANYREQUESTS"));
    assert!(reply.header("retry-after").is_some());
    assert_eq!(c.ask("DELETE", &place, &[], b"").status, 204);
    c.begin("r");
    ours.stop();
}

#[test]
fn chunks_whose_headers_lie_are_refused() {
    let ours = Ours::start();
    let c = ours.client();
    let place = c.begin("r");
    for (range, status) in [
        ("0-9", 400),
        ("5-7", 416),
        ("x-y", 416),
        ("2-1", 416),
        ("-1-1", 416),
        ("0-18446744073709551615", 416),
        ("0-99999999999999999999", 416),
    ] {
        let reply = c.ask("PATCH", &place, &[("Content-Range", range)], b"abc");
        assert_eq!(reply.status, status, "{range}: {}", reply.text());
    }
    assert_eq!(c.get(&place).header("range"), Some("0-0"));
    let digest = Digest::sha256("abc");
    assert_eq!(c.ask("PUT", &with_param(&place, &format!("digest={digest}")), &[], b"abc").status, 201);
    ours.stop();
}

#[test]
fn an_upload_that_is_cut_off_goes_on_from_where_it_is() {
    let ours = Ours::start();
    let c = ours.client();
    let place = c.begin("r");
    let mut stream = c.connect();
    write!(stream, "PATCH {place} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n").unwrap();
    stream.write_all(&[b'a'; 400]).unwrap();
    drop(stream);
    let begun = Instant::now();
    while c.get(&place).header("range") != Some("0-399") {
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(c.ask("PATCH", &place, &[("Content-Range", "400-999")], &[b'b'; 600]).status, 202);
    let whole = [vec![b'a'; 400], vec![b'b'; 600]].concat();
    let path = with_param(&place, &format!("digest={}", Digest::sha256(whole)));
    assert_eq!(c.ask("PUT", &path, &[], b"").status, 201);
    ours.stop();
}

/// The status of each answer to bytes on one connection, which the server must close.
fn statuses(c: &Client, bytes: &str) -> Vec<String> {
    let mut stream = c.connect();
    // It may close before all is sent.
    let _ = stream.write_all(bytes.as_bytes());
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{bytes:.60}: {error}"),
        _ => {}
    }
    let answer = String::from_utf8_lossy(&answer);
    answer.match_indices("HTTP/1.1 ").map(|(at, _)| answer[at + 9..at + 12].to_owned()).collect()
}

#[test]
fn requests_that_two_servers_would_read_differently_are_refused() {
    let ours = Ours::start();
    let c = ours.client();
    // Read as a request of its own, this would be answered with 404.
    let smuggled = "GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let digest = Digest::sha256("hello");
    let begin = format!("POST /v2/r/blobs/uploads/?digest={digest} HTTP/1.1\r\n");
    for (what, head) in [
        ("two lengths", "Host: h\r\nContent-Length: 5\r\nContent-Length: 50\r\n"),
        ("a length with a sign", "Host: h\r\nContent-Length: +5\r\n"),
        ("a length that is none", "Host: h\r\nContent-Length: 5, 6\r\n"),
        ("a length beyond all numbers", "Host: h\r\nContent-Length: 99999999999999999999\r\n"),
        ("an unknown coding", "Host: h\r\nTransfer-Encoding: xchunked\r\n"),
        ("chunked, not last", "Host: h\r\nTransfer-Encoding: chunked, identity\r\n"),
        ("a space before the colon", "Host: h\r\nContent-Length : 5\r\n"),
        ("a folded line", "Host: h\r\nX-A: b\r\n Content-Length: 5\r\n"),
        ("a zero byte in a value", "Host: h\r\nX-A: b\0c\r\n"),
        ("a return alone in a value", "Host: h\r\nX-A: b\rContent-Length: 5\r\n"),
        ("no host", ""),
        ("two hosts", "Host: h\r\nHost: other\r\n"),
    ] {
        assert_eq!(statuses(&c, &format!("{begin}{head}\r\n{smuggled}")), ["400"], "{what}");
    }
    for (what, body) in [
        ("a chunk's length with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a chunk's length in C's words", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a chunk's length beyond all numbers", "fffffffffffffffff5\r\nhello\r\n0\r\n\r\n"),
        ("a chunk's length below 0", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a chunk that is longer than it says", "4\r\nhello\r\n0\r\n\r\n"),
        ("a chunk that is shorter than it says", "6\r\nhello\r\n0\r\n\r\n"),
        ("lines that end with a newline alone", "5\nhello\n0\n\n"),
    ] {
        let request = format!("{begin}Host: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}{smuggled}");
        assert_eq!(statuses(&c, &request), ["400"], "{what}");
    }
    assert_eq!(c.get(&format!("/v2/r/blobs/{digest}")).status, 404, "none of them was taken");
    // Both at once: chunked counts, and what follows is not read.
    let both = "Host: h\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(statuses(&c, &format!("{begin}{both}{smuggled}")), ["201"]);
    // The body of a request that needs none is not read as a request.
    let body = format!("GET /v2/ HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    assert_eq!(statuses(&c, &format!("{body}{smuggled}")), ["200", "404"], "the second is one");
    let plain = "GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(statuses(&c, &format!("{plain}{smuggled}")), ["200", "404"], "as two requests they are two");
    for (bad, expected) in [
        ("\0\0\0\0", &["400"][..]),
        ("GET / HTTP/9.9\r\n\r\n", &["400"]),
        ("GET  /v2/ HTTP/1.1\r\n\r\n", &["400"]),
        ("GET /v2/\r\n\r\n", &["400"]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]),
        (&format!("GET /v2/ HTTP/1.1\r\nHost: h\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20)), &["431"]),
        (&format!("GET /v2/ HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(200)), &["431"]),
        (&format!("GET /v2/{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(70_000)), &["414"]),
    ] {
        assert_eq!(statuses(&c, bad), expected, "{bad:.60}");
    }
    assert_eq!(c.get("/v2/").status, 200, "and it still serves");
    ours.stop();
}

#[test]
fn a_client_that_reads_nothing_holds_up_nobody() {
    let ours = Ours::start();
    let c = ours.client();
    let blob = vec![9; 8 << 20];
    let digest = c.put_blob("r", &blob);
    let mut idle: Vec<_> = (0..20).map(|_| c.connect()).collect();
    for stream in &mut idle {
        write!(stream, "GET /v2/r/blobs/{digest} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    assert_eq!(c.get(&format!("/v2/r/blobs/{digest}")).body, blob);
    let mut first = idle.pop().unwrap();
    let mut byte = [0; 12];
    first.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"HTTP/1.1 200");
    drop((idle, first));
    ours.stop();
}

#[test]
fn methods_and_endpoints_that_are_none() {
    let ours = Ours::start();
    let c: Client = ours.client();
    for (method, path, status) in [
        ("POST", "/v2/", 405),
        ("PUT", "/v2/r/tags/list", 405),
        ("PATCH", "/v2/r/manifests/t", 405),
        ("BREW", "/v2/r/manifests/t", 405),
        ("GET", "/v1/", 404),
        ("GET", "/", 200),
        ("GET", "/v2/r/unknown/x", 404),
    ] {
        assert_eq!(c.ask(method, path, &[], b"").status, status, "{method} {path}");
    }
    let config = descriptor(OCI_CONFIG, b"x");
    assert!(config["size"].is_number());
    ours.stop();
}
