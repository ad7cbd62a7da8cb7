//! A server of ours on a port of its own, and a client that says exactly what a test wants said.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use strata_registry::{Config, Running};
use strata_spec::Digest;
use strata_testkit::{Scratch, scratch};
use tokio::runtime::Runtime;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A server in this process.
pub struct Ours {
    pub runtime: Runtime,
    running: Option<Running>,
    pub scratch: Scratch,
    pub address: SocketAddr,
}

impl Ours {
    /// Starts one that everybody may use and delete from.
    pub fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    /// Starts one with more lines of configuration, given its directory.
    pub fn start_with(more: impl FnOnce(&Scratch) -> String) -> Self {
        let scratch = scratch();
        let more = more(&scratch);
        let storage = if more.contains("storage:") {
            String::new()
        } else {
            format!(
                "storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n",
                scratch.join("data").display()
            )
        };
        let http = if more.contains("http: {") { "" } else { "http: {addr: '127.0.0.1:0'}\n" };
        let text = format!("version: 0.1\n{storage}{http}{more}\n");
        Self::of(&text, scratch)
    }

    pub fn of(text: &str, scratch: Scratch) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = Config::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let running = runtime.block_on(Running::start(config)).unwrap();
        let address = running.address();
        Self { runtime, running: Some(running), scratch, address }
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Stops it; returns its directory.
    pub fn stop(mut self) -> Scratch {
        self.runtime.block_on(self.running.take().unwrap().stop());
        let Self { runtime, scratch, .. } = self;
        runtime.shutdown_timeout(Duration::from_secs(5));
        scratch
    }

    pub fn client(&self) -> Client {
        Client::new(&self.address.to_string())
    }
}

/// A client of one registry.
#[derive(Clone, Debug)]
pub struct Client {
    pub host: String,
    /// Sent with every request.
    pub always: Vec<(String, String)>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header, whose name is written in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| json!({"not JSON": self.text()}))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code of the first error of the document.
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The path with query of its `Location`, whichever form that has.
    pub fn location(&self) -> String {
        let location = self.header("location").unwrap_or_default();
        match location.split_once("://") {
            Some((_, rest)) => format!("/{}", rest.split_once('/').map_or("", |(_, path)| path)),
            None => location.to_owned(),
        }
    }
}

/// Adds a parameter to a path that may have some.
pub fn with_param(path: &str, param: &str) -> String {
    format!("{path}{}{param}", if path.contains('?') { '&' } else { '?' })
}

impl Client {
    pub fn new(host: &str) -> Self {
        Self { host: host.to_owned(), always: Vec::new() }
    }

    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.always.push((name.to_owned(), value.to_owned()));
        other
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.host).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_ask(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same, where the connection may be cut.
    pub fn try_ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Reply> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
        let has_length = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if !has_length && (!body.is_empty() || ["POST", "PUT", "PATCH"].contains(&method)) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let always = self.always.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in headers.iter().copied().chain(always) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        // A server that refuses early may not read the whole body; its answer is still there.
        let sent = stream.write_all(body);
        match read_reply(&mut stream, method == "HEAD") {
            Ok(reply) => Ok(reply),
            Err(error) => sent.and(Err(error)),
        }
    }

    /// Sends bytes as they are; returns all that comes back.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    /// Begins an upload; returns where it is.
    pub fn begin(&self, repo: &str) -> String {
        let reply = self.ask("POST", &format!("/v2/{repo}/blobs/uploads/"), &[], b"");
        assert_eq!(reply.status, 202, "{}", reply.text());
        reply.location()
    }

    /// Puts a blob by POST and PUT; returns its digest.
    pub fn put_blob(&self, repo: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let reply = self.try_put_blob(repo, bytes, digest).unwrap();
        assert_eq!(reply.status, 201, "{}", reply.text());
        digest
    }

    pub fn try_put_blob(&self, repo: &str, bytes: &[u8], digest: Digest) -> std::io::Result<Reply> {
        let begun = self.try_ask("POST", &format!("/v2/{repo}/blobs/uploads/"), &[], b"")?;
        if begun.status != 202 {
            return Ok(begun);
        }
        let path = with_param(&begun.location(), &format!("digest={digest}"));
        self.try_ask("PUT", &path, &[("Content-Type", "application/octet-stream")], bytes)
    }

    pub fn put_manifest(&self, repo: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Reply {
        self.ask("PUT", &format!("/v2/{repo}/manifests/{reference}"), &[("Content-Type", media_type)], bytes)
    }

    /// Puts an image of a config and one layer, made of `seed`; returns its manifest.
    pub fn put_image(&self, repo: &str, tag: &str, seed: &str) -> Vec<u8> {
        let manifest = self.image(repo, seed);
        let reply = self.put_manifest(repo, tag, OCI_MANIFEST, &manifest);
        assert_eq!(reply.status, 201, "{}", reply.text());
        manifest
    }

    /// Puts the blobs of such an image; returns the manifest that is still to put.
    pub fn image(&self, repo: &str, seed: &str) -> Vec<u8> {
        let (config, layer) = blobs(seed);
        self.put_blob(repo, &config);
        self.put_blob(repo, &layer);
        manifest(&config, &layer, Value::Null).into_bytes()
    }

    pub fn manifest(&self, repo: &str, reference: &str) -> Reply {
        let accept = format!("{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}");
        self.ask("GET", &format!("/v2/{repo}/manifests/{reference}"), &[("Accept", &accept)], b"")
    }

    /// Pulls all that a manifest names, checking every digest; says what is missing or wrong.
    pub fn pull(&self, repo: &str, reference: &str) -> Result<(), String> {
        let reply = self.manifest(repo, reference);
        if reply.status != 200 {
            return Err(format!("{repo}:{reference}: {} {}", reply.status, reply.text()));
        }
        let digest = reply.header("docker-content-digest").unwrap_or_default().to_owned();
        if Digest::sha256(&reply.body).to_string() != digest {
            return Err(format!("{repo}:{reference}: the manifest is not {digest}"));
        }
        let document = reply.json();
        let children = document["manifests"].as_array().cloned().unwrap_or_default();
        for child in children {
            self.pull(repo, child["digest"].as_str().unwrap())?;
        }
        let layers = document["layers"].as_array().cloned().unwrap_or_default();
        for blob in layers.iter().chain(document.get("config")) {
            let digest = blob["digest"].as_str().unwrap();
            let reply = self.get(&format!("/v2/{repo}/blobs/{digest}"));
            let wanted: Digest = digest.parse().unwrap();
            if reply.status != 200 || Digest::of(wanted.algorithm(), &reply.body) != wanted {
                return Err(format!("{repo}@{digest}: {} and {} bytes", reply.status, reply.body.len()));
            }
        }
        Ok(())
    }
}

/// Config and layer of the image of a seed.
pub fn blobs(seed: &str) -> (Vec<u8>, Vec<u8>) {
    (format!("{{\"seed\":\"{seed}\"}}").into_bytes(), format!("layer of {seed}").repeat(50).into_bytes())
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len()})
}

/// An image's manifest, with a subject if one is given.
pub fn manifest(config: &[u8], layer: &[u8], subject: Value) -> String {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, config),
        "layers": [descriptor(OCI_LAYER, layer)],
    });
    if !subject.is_null() {
        manifest["subject"] = subject;
    }
    manifest.to_string()
}

pub fn index(children: &[&[u8]]) -> String {
    let children: Vec<Value> = children.iter().map(|child| descriptor(OCI_MANIFEST, child)).collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).to_string()
}

fn read_reply(stream: &mut TcpStream, is_head: bool) -> std::io::Result<Reply> {
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut all = Vec::new();
    let ended = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else { return Err(ended.err().unwrap_or_else(cut)) };
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    if status == 100 {
        return Err(std::io::Error::other("an interim answer that nobody asked for"));
    }
    let headers: Vec<(String, String)> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut reply = Reply { status, headers, body: all.split_off(end + 4) };
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = dechunk(&reply.body).ok_or_else(cut)?;
    } else if let Some(len) = reply.header("content-length").and_then(|text| text.parse::<usize>().ok())
        && !is_head
        && status != 304
        && reply.body.len() != len
    {
        return Err(cut());
    }
    Ok(reply)
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
        rest = rest.get(end + 2..)?;
        if len == 0 {
            return Some(out);
        }
        out.extend_from_slice(rest.get(..len)?);
        rest = rest.get(len + 2..)?;
    }
}

/// The directory of a registry's storage.
pub fn v2(root: &Path) -> std::path::PathBuf {
    root.join("docker/registry/v2")
}

/// Checks a registry's directory at rest: every blob has its digest, every tag a manifest, every manifest all that it names.
pub fn check(root: &Path) -> Result<usize, String> {
    let v2 = v2(root);
    let mut checked = 0;
    for data in find(&v2.join("blobs"), "data") {
        let directory = data.parent().unwrap();
        let (hex, algorithm) = (name(directory), name(directory.parent().unwrap().parent().unwrap()));
        let expected: Digest =
            format!("{algorithm}:{hex}").parse().map_err(|error| format!("{}: {error}", data.display()))?;
        let bytes = std::fs::read(&data).unwrap();
        if Digest::of(expected.algorithm(), bytes) != expected {
            return Err(format!("{} has other bytes", data.display()));
        }
        checked += 1;
    }
    for link in find(&v2.join("repositories"), "link") {
        let text = std::fs::read_to_string(&link).unwrap();
        let digest: Digest = text.parse().map_err(|error| format!("{}: {error}", link.display()))?;
        let path = link.to_string_lossy().into_owned();
        let Some((repo, rest)) = path.split_once("/_manifests/") else { continue };
        let revision = |digest: Digest| {
            Path::new(repo).join(format!("_manifests/revisions/{}/{}/link", digest.algorithm().name(), digest.hex()))
        };
        if rest.ends_with("/current/link") && !revision(digest).exists() {
            return Err(format!("{path} names a manifest that is not in the repository"));
        }
        if rest.starts_with("revisions/") {
            whole(&v2, Path::new(repo), digest).map_err(|problem| format!("{path}: {problem}"))?;
        }
        checked += 1;
    }
    Ok(checked)
}

/// Whether all that a manifest names is there.
fn whole(v2: &Path, repo: &Path, digest: Digest) -> Result<(), String> {
    let blob = |digest: Digest| {
        v2.join(format!("blobs/{}/{}/{}/data", digest.algorithm().name(), &digest.hex()[..2], digest.hex()))
    };
    let bytes = std::fs::read(blob(digest)).map_err(|error| format!("{digest}: {error}"))?;
    let document: Value = serde_json::from_slice(&bytes).map_err(|error| format!("{digest}: {error}"))?;
    let layers = document["layers"].as_array().cloned().unwrap_or_default();
    for entry in layers.iter().chain(document.get("config")) {
        let named: Digest = entry["digest"].as_str().unwrap().parse().unwrap();
        let link = repo.join(format!("_layers/{}/{}/link", named.algorithm().name(), named.hex()));
        if !blob(named).exists() || !link.exists() {
            return Err(format!("{digest} names {named}, which is not there"));
        }
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Files of a name below a directory.
fn find(root: &Path, wanted: &str) -> Vec<std::path::PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                if !path.ends_with("_uploads") {
                    directories.push(path);
                }
            } else if name(&path) == wanted {
                found.push(path);
            }
        }
    }
    found
}

/// Numbers that differ from run to run, printed once so that a failure can be told.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
