//! `strata registry`: it serves and stops, says what is in force, names every mistake, collects garbage.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use strata_testkit::scratch;

const STRATA: &str = env!("CARGO_BIN_EXE_strata");

/// A server of a folder, which logs each request to `log`, and where it listens.
fn serve(root: &Path, log: Stdio) -> (Child, String) {
    let mut child = Command::new(STRATA)
        .args(["registry", "serve", "--addr", "127.0.0.1:0", "--root"])
        .arg(root)
        .env("REGISTRY_LOG_ACCESSLOG_DISABLED", "false")
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").unwrap().to_owned();
    (child, address)
}

#[test]
fn it_serves_until_it_is_told_to_stop() {
    let scratch = scratch();
    let root = scratch.join("registry");
    let (mut child, address) = serve(&root, Stdio::null());
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "GET /v2/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let told = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(told.success());
    assert!(child.wait().unwrap().success(), "a stop that was asked for is no failure");
    let output = Command::new(STRATA).args(["registry", "gc", "--dry-run", "--root"]).arg(&root).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with("0 repositories, 0 objects kept"), "{text}");
}

/// What is left of an answer's head and body, to the end of the connection.
fn rest(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_request_that_is_under_way_ends_well_before_the_server_does() {
    let scratch = scratch();
    let (mut child, address) = serve(&scratch.join("registry"), Stdio::piped());
    let connect = || TcpStream::connect(&address);
    // An upload in one request, of which half has gone when the server is told to stop; with a password in its head.
    let blob = vec![b'x'; 1 << 20];
    let digest = strata_testkit::registry::digest(&blob);
    let mut stream = connect().unwrap();
    write!(
        stream,
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: h\r\nAuthorization: Basic c2VjcmV0OnM=\r\n"
    )
    .unwrap();
    write!(stream, "Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", blob.len()).unwrap();
    // When it wants the body, it has taken the request up.
    let mut wanted = [0; 25];
    stream.read_exact(&mut wanted).unwrap();
    assert_eq!(&wanted, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&blob[..blob.len() / 2]).unwrap();
    // It answers others beside it.
    let mut other = connect().unwrap();
    write!(other, "GET /v2/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    assert!(rest(&mut other).starts_with("HTTP/1.1 200"));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let begun = std::time::Instant::now();
    while connect().is_ok() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "it goes on to accept connections");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(child.try_wait().unwrap().is_none(), "it waits for the request");
    stream.write_all(&blob[blob.len() / 2..]).unwrap();
    let answer = rest(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    // What the access log has of it.
    let log = String::from_utf8(output.stderr).unwrap();
    let entry = log.lines().find(|line| line.contains("/v2/a/blobs/uploads/")).unwrap_or_else(|| panic!("{log}"));
    for part in ["POST", "201", "127.0.0.1"] {
        assert!(entry.contains(part), "{part} in {entry}");
    }
    assert!(!log.contains("c2VjcmV0OnM") && !log.contains("Basic"), "{log}");
    // The blob is there for the next server.
    let hex = digest.trim_start_matches("sha256:");
    let path = format!("registry/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    assert_eq!(std::fs::read(scratch.join(path)).unwrap(), blob);
}

#[test]
fn what_is_in_force_is_printed_and_every_mistake_is_named() {
    let scratch = scratch();
    let file = scratch.join("config.yml");
    std::fs::write(&file, "storage: {filesystem: {rootdirectory: /a}}\nhttp: {addr: '127.0.0.1:1'}\n").unwrap();
    let ask = || {
        let output = Command::new(STRATA)
            .args(["registry", "config"])
            .arg(&file)
            .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/b")
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text, _) = ask();
    assert!(code == Some(0) && text.contains("rootdirectory: /b") && text.contains("draintimeout"), "{text}");
    std::fs::write(&file, "storage: {azure: {}}\nhttp: {addr: x, foo: 1}\nauth: {htpasswd: {path: /nonexistent}}\n")
        .unwrap();
    let (code, _, mistakes) = ask();
    assert_eq!(code, Some(1));
    for place in ["storage.azure.accountname:", "http.addr:", "http.foo:", "auth.htpasswd.path:"] {
        assert!(mistakes.contains(place), "{place} in {mistakes}");
    }
}
