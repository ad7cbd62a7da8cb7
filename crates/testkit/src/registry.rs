//! Registries: CNCF distribution's (`docker-registry`), and one in memory whose answers a test can spoil.
//!
//! ```no_run
//! # fn test() {
//! use strata_testkit::registry::{DockerRegistry, Image};
//! let Some(registry) = DockerRegistry::start() else { return };
//! let digest = registry.put("team/app", "1", &Image::new(&[Image::layer(1, 1000)]));
//! # }
//! ```

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    ops::Deref,
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use strata_archive::tar::{Header, Kind, Writer};
use strata_spec::{Digest, Platform};

use crate::{
    Scratch, require, scratch,
    server::{Reply, Request},
};

pub const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// How long a registry may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An image as a registry holds it.
#[derive(Clone, Debug)]
pub struct Image {
    pub config: Vec<u8>,
    /// Media type and bytes of each, from the base layer up.
    pub layers: Vec<(String, Vec<u8>)>,
    pub manifest: Vec<u8>,
    pub media_type: String,
}

impl Image {
    /// A Docker image with these tars, compressed with gzip.
    pub fn new(tars: &[Vec<u8>]) -> Self {
        let layers = tars.iter().map(|tar| (LAYER_GZIP.to_owned(), gzip(tar))).collect();
        Self::of(&Self::config(tars, &Platform::host()), layers, MANIFEST, CONFIG)
    }

    /// An OCI image whose layers are stored as `store` makes them of the tars: media type and bytes.
    pub fn oci(tars: &[Vec<u8>], store: impl Fn(usize, &[u8]) -> (String, Vec<u8>)) -> Self {
        let layers = tars.iter().enumerate().map(|(at, tar)| store(at, tar)).collect();
        let kind = "application/vnd.oci.image.config.v1+json";
        Self::of(&Self::config(tars, &Platform::host()), layers, OCI_MANIFEST, kind)
    }

    /// An image of a config and of layers as they are stored.
    pub fn of(config: &[u8], layers: Vec<(String, Vec<u8>)>, media_type: &str, config_type: &str) -> Self {
        let describe =
            |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "size": bytes.len(), "digest": digest(bytes)});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": describe(config_type, config),
            "layers": layers.iter().map(|(kind, bytes)| describe(kind, bytes)).collect::<Vec<_>>(),
        });
        let manifest = serde_json::to_vec_pretty(&manifest).expect("JSON");
        Self { config: config.to_vec(), layers, manifest, media_type: media_type.to_owned() }
    }

    /// A config over tars.
    pub fn config(tars: &[Vec<u8>], platform: &Platform) -> Vec<u8> {
        let step = json!({"created": "2024-05-01T12:00:00Z", "created_by": "step"});
        let config = json!({
            "architecture": platform.architecture,
            "config": {"Cmd": ["sh"]},
            "created": "2024-05-01T12:00:00Z",
            "history": vec![step; tars.len()],
            "os": platform.os,
            "rootfs": {"type": "layers", "diff_ids": tars.iter().map(|tar| digest(tar)).collect::<Vec<_>>()},
            "variant": platform.variant,
        });
        serde_json::to_vec(&config).expect("JSON")
    }

    /// The tar of layer `n` of a made-up image, of about `bytes` bytes that do not compress well.
    pub fn layer(n: u64, bytes: usize) -> Vec<u8> {
        let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut noise = vec![0; bytes];
        for piece in noise.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.copy_from_slice(&state.to_le_bytes()[..piece.len()]);
        }
        let mut writer = Writer::new(Vec::new());
        let (name, text) = (format!("noise-{n}"), format!("layer {n}\n"));
        for (name, content) in [(name.as_str(), noise.as_slice()), ("last", text.as_bytes())] {
            let header = Header { mode: 0o644, size: content.len() as u64, ..Header::new(Kind::Regular, name) };
            writer.header(&header).expect("a header");
            writer.content(content).expect("content");
        }
        writer.finish().expect("a tar")
    }

    pub fn id(&self) -> String {
        digest(&self.config)
    }

    /// Of its manifest.
    pub fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// A descriptor of its manifest, as it stands in an index.
    pub fn entry(&self, platform: &str) -> Value {
        let mut parts = platform.split('/');
        let (os, architecture) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        json!({
            "mediaType": self.media_type, "size": self.manifest.len(), "digest": self.digest(),
            "platform": {"os": os, "architecture": architecture, "variant": parts.next().unwrap_or_default()},
        })
    }

    /// All its blobs.
    pub fn blobs(&self) -> impl Iterator<Item = &[u8]> {
        self.layers.iter().map(|(_, bytes)| bytes.as_slice()).chain([self.config.as_slice()])
    }
}

pub fn digest(bytes: &[u8]) -> String {
    Digest::sha256(bytes).to_string()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// CNCF distribution's registry on 127.0.0.1, with a folder of its own; ends when this drops.
pub struct DockerRegistry {
    child: Child,
    peer: Peer,
    pub scratch: Scratch,
}

impl DockerRegistry {
    /// Starts one that everybody may use. Skips where there is none.
    pub fn start() -> Option<Self> {
        Self::start_with(|_| String::new(), "")
    }

    /// Starts one with more configuration: `more` makes lines of YAML, given its folder; `http` are lines below `http:`.
    pub fn start_with(more: impl FnOnce(&Scratch) -> String, http: &str) -> Option<Self> {
        let program = require::program("docker-registry")?;
        let scratch = scratch();
        let port = free_port();
        let (data, config) = (scratch.join("data"), scratch.join("config.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n{http}\n{}\n",
            data.display(),
            more(&scratch)
        );
        fs::write(&config, text).expect("a configuration");
        let log = fs::File::create(scratch.join("log")).expect("a log");
        let child = Command::new(program)
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log)
            .spawn()
            .expect("docker-registry starts");
        let mut registry = Self { child, peer: Peer(format!("127.0.0.1:{port}")), scratch };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = registry.child.try_wait().expect("its status").is_some();
            if ended || begun.elapsed() > PATIENCE {
                panic!("docker-registry does not come up: {}", registry.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    /// `127.0.0.1:<port>`
    pub fn host(&self) -> String {
        self.peer.0.clone()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }
}

impl Deref for DockerRegistry {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

/// Any registry that everybody may use, asked by hand in plain HTTP. It has the form `127.0.0.1:<port>`.
pub struct Peer(pub String);

impl Peer {
    /// One request in plain HTTP; returns the status, the headers as they came, and the body.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.0).expect("a connection");
        // HTTP/1.0: no chunks, and the end of the body is the end of the connection.
        let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\n", self.0, body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).expect("a request");
        stream.write_all(body).expect("a body");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an end of the headers");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head, answer.split_off(end + 4))
    }

    pub fn put_blob(&self, repository: &str, bytes: &[u8]) {
        let (status, head, body) = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        assert_eq!(status, 202, "{}", String::from_utf8_lossy(&body));
        let path = header(&head, "location").split_once("/v2/").expect("a path of the registry").1;
        let joint = if path.contains('?') { '&' } else { '?' };
        let path = format!("/v2/{path}{joint}digest={}", digest(bytes));
        let (status, _, body) = self.ask("PUT", &path, &[("Content-Type", "application/octet-stream")], bytes);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }

    /// Puts a manifest or index under a tag or digest.
    pub fn put_manifest(&self, repository: &str, name: &str, media_type: &str, bytes: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{name}");
        let (status, _, body) = self.ask("PUT", &path, &[("Content-Type", media_type)], bytes);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }

    /// Puts an image; returns the digest of its manifest.
    pub fn put(&self, repository: &str, name: &str, image: &Image) -> String {
        image.blobs().for_each(|blob| self.put_blob(repository, blob));
        self.put_manifest(repository, name, &image.media_type, &image.manifest);
        image.digest()
    }

    /// The manifest of a tag or digest: its media type and bytes.
    pub fn manifest(&self, repository: &str, name: &str) -> (String, Vec<u8>) {
        let accept = [MANIFEST, OCI_MANIFEST, LIST, OCI_INDEX].join(", ");
        let (status, head, body) =
            self.ask("GET", &format!("/v2/{repository}/manifests/{name}"), &[("Accept", &accept)], b"");
        assert_eq!(status, 200, "{repository}:{name}: {}", String::from_utf8_lossy(&body));
        (header(&head, "content-type").to_owned(), body)
    }

    pub fn has_blob(&self, repository: &str, digest: &str) -> bool {
        self.ask("HEAD", &format!("/v2/{repository}/blobs/{digest}"), &[], b"").0 == 200
    }
}

/// The value of a header, whose name is given in lower case; empty if it is not there.
fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .next()
        .unwrap_or_default()
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A registry in memory: [`reply`](Self::reply) answers as a registry should; a test puts its faults around that.
///
/// All repositories are one: what is put can be had, mounted and found under every name.
#[derive(Debug, Default)]
pub struct Memory {
    blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    /// By tag and by digest.
    manifests: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    uploads: Mutex<BTreeMap<String, Vec<u8>>>,
    next: AtomicU64,
}

impl Memory {
    pub fn put(&self, tag: &str, image: &Image) {
        for blob in image.blobs() {
            self.put_blob(blob);
        }
        self.put_manifest(tag, &image.media_type, &image.manifest);
    }

    pub fn put_blob(&self, bytes: &[u8]) {
        self.blobs.lock().unwrap().insert(digest(bytes), bytes.to_vec());
    }

    pub fn put_manifest(&self, tag: &str, media_type: &str, bytes: &[u8]) {
        let mut manifests = self.manifests.lock().unwrap();
        for name in [tag.to_owned(), digest(bytes)] {
            manifests.insert(name, (media_type.to_owned(), bytes.to_vec()));
        }
    }

    pub fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        self.blobs.lock().unwrap().get(digest).cloned()
    }

    pub fn manifest(&self, name: &str) -> Option<Vec<u8>> {
        self.manifests.lock().unwrap().get(name).map(|(_, bytes)| bytes.clone())
    }

    /// Forgets uploads that are under way.
    pub fn lose_uploads(&self) {
        self.uploads.lock().unwrap().clear();
    }

    /// Cuts what arrived of all uploads to `keep` bytes.
    pub fn cut_uploads(&self, keep: usize) {
        self.uploads.lock().unwrap().values_mut().for_each(|bytes| bytes.truncate(keep));
    }

    /// How many uploads were begun and neither closed nor cancelled.
    pub fn open_uploads(&self) -> usize {
        self.uploads.lock().unwrap().len()
    }

    pub fn lose_blobs(&self) {
        self.blobs.lock().unwrap().clear();
    }

    pub fn reply(&self, request: &Request) -> Reply {
        let path = request.path();
        if path == "/v2/" {
            return Reply::new(200).body("{}");
        }
        if let Some((_, name)) = path.split_once("/manifests/") {
            return self.of_manifest(request, name);
        }
        if let Some((_, upload)) = path.split_once("/blobs/uploads/") {
            return self.of_upload(request, upload);
        }
        match path.split_once("/blobs/") {
            Some((_, digest)) => self.of_blob(request, digest),
            None => unknown("UNSUPPORTED"),
        }
    }

    fn of_manifest(&self, request: &Request, name: &str) -> Reply {
        if request.method == "PUT" {
            self.put_manifest(name, request.header("content-type").unwrap_or_default(), &request.body);
            return Reply::new(201).header("Docker-Content-Digest", digest(&request.body));
        }
        match self.manifests.lock().unwrap().get(name) {
            None => unknown("MANIFEST_UNKNOWN"),
            Some((kind, bytes)) => {
                let reply = Reply::new(200).header("Content-Type", kind).body(bytes.clone());
                reply.header("Docker-Content-Digest", digest(bytes))
            }
        }
    }

    fn of_blob(&self, request: &Request, digest: &str) -> Reply {
        let Some(blob) = self.blob(digest) else { return unknown("BLOB_UNKNOWN") };
        let from =
            request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match from {
            None => Reply::new(200).body(blob),
            Some(from) if from >= blob.len() => Reply::new(416),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
                Reply::new(206).header("Content-Range", range).body(&blob[from..])
            }
        }
    }

    fn of_upload(&self, request: &Request, upload: &str) -> Reply {
        let mut uploads = self.uploads.lock().unwrap();
        let place = |name: &str| format!("/v2/any/blobs/uploads/{name}");
        if request.method == "POST" {
            if let Some(mounted) = request.query("mount").first()
                && self.blob(mounted).is_some()
            {
                return Reply::new(201).header("Location", format!("/v2/any/blobs/{mounted}"));
            }
            let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
            uploads.insert(name.clone(), Vec::new());
            return Reply::new(202).header("Location", place(&name)).header("Range", "0-0");
        }
        let Some(bytes) = uploads.get_mut(upload) else { return unknown("BLOB_UPLOAD_UNKNOWN") };
        let arrived = |bytes: &[u8]| format!("0-{}", bytes.len().saturating_sub(1));
        let first = request.header("content-range").and_then(|range| range.split('-').next()?.parse::<usize>().ok());
        if first.is_some_and(|first| first != bytes.len()) {
            return Reply::new(416).header("Range", arrived(bytes)).header("Location", place(upload));
        }
        match request.method.as_str() {
            "PATCH" => {
                bytes.extend_from_slice(&request.body);
                Reply::new(202).header("Location", place(upload)).header("Range", arrived(bytes))
            }
            "PUT" => {
                bytes.extend_from_slice(&request.body);
                let whole = uploads.remove(upload).unwrap_or_default();
                if request.query("digest").first() != Some(&digest(&whole)) {
                    return error(400, "DIGEST_INVALID");
                }
                self.put_blob(&whole);
                Reply::new(201)
            }
            "DELETE" => {
                uploads.remove(upload);
                Reply::new(204)
            }
            _ => Reply::new(204).header("Location", place(upload)).header("Range", arrived(bytes)),
        }
    }
}

/// An error document.
pub fn error(status: u16, code: &str) -> Reply {
    let message = code.to_lowercase().replace('_', " ");
    Reply::new(status).body(json!({"errors": [{"code": code, "message": message}]}).to_string())
}

fn unknown(code: &str) -> Reply {
    error(404, code)
}
