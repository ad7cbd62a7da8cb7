//! `strata registry`: it serves and stops, says what is in force, names every mistake, collects garbage.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};

use strata_testkit::scratch;

const STRATA: &str = env!("CARGO_BIN_EXE_strata");

#[test]
fn it_serves_until_it_is_told_to_stop() {
    let scratch = scratch();
    let root = scratch.join("registry");
    let mut child = Command::new(STRATA)
        .args(["registry", "serve", "--addr", "127.0.0.1:0", "--root"])
        .arg(&root)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").unwrap().to_owned();
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
