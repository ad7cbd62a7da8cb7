//! Tars, Docker archives and OCI layouts, made in memory.

use std::collections::BTreeMap;

use serde_json::json;
use strata_archive::tar::{Header, Kind, Writer};
use strata_spec::Digest;
use strata_testkit::require;

/// What an entry of a tar is.
#[derive(Clone, Debug)]
pub enum Item {
    /// A file that everybody may execute.
    File(Vec<u8>),
    /// A file that nobody may.
    Plain(Vec<u8>),
    Dir,
    Symlink(&'static str),
    Hard(&'static str),
    /// A character device.
    Device(u32, u32),
    /// A header, as it is, with this much content of zeros.
    Raw(Box<Header>, usize),
}

impl From<&str> for Item {
    fn from(text: &str) -> Self {
        Self::File(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Item {
    fn from(bytes: Vec<u8>) -> Self {
        Self::File(bytes)
    }
}

/// A tar of `items`, in order.
pub fn tar<N: AsRef<str>>(items: &[(N, Item)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, item) in items {
        let header = |kind| Header { mode: 0o755, ..Header::new(kind, name.as_ref()) };
        let linked = |kind, to: &str| Header { link: to.as_bytes().to_vec(), ..header(kind) };
        let (header, content) = match item {
            Item::File(bytes) => (Header { size: bytes.len() as u64, ..header(Kind::Regular) }, bytes.clone()),
            Item::Plain(bytes) => {
                (Header { size: bytes.len() as u64, mode: 0o644, ..header(Kind::Regular) }, bytes.clone())
            }
            Item::Dir => (header(Kind::Dir), Vec::new()),
            Item::Symlink(to) => (linked(Kind::Symlink, to), Vec::new()),
            Item::Hard(to) => (linked(Kind::HardLink, to), Vec::new()),
            Item::Device(major, minor) => {
                (Header { dev_major: *major, dev_minor: *minor, ..header(Kind::Char) }, Vec::new())
            }
            Item::Raw(header, zeros) => ((**header).clone(), vec![0; *zeros]),
        };
        writer.header(&header).expect("header");
        writer.content(&content).expect("content");
    }
    writer.finish().expect("finish")
}

/// The names under which busybox is wanted.
const APPLETS: [&str; 20] = [
    "sh", "ash", "cat", "chmod", "chown", "cp", "dd", "echo", "false", "head", "id", "ln", "ls", "mkdir", "mknod",
    "mv", "rm", "sleep", "touch", "true",
];

/// A root filesystem of busybox; skips where there is none that stands alone.
pub fn busybox() -> Option<Vec<u8>> {
    let program = require::program("busybox")?;
    let bytes = std::fs::read(program).expect("busybox");
    // The name of a dynamic loader.
    if bytes.windows(8).take(4096).any(|window| window == b"ld-linux") {
        require::report_skip("busybox is not a static program");
        return None;
    }
    let mut items = vec![("bin/".to_owned(), Item::Dir), ("bin/busybox".to_owned(), Item::File(bytes))];
    items.extend(APPLETS.map(|name| (format!("bin/{name}"), Item::Symlink("busybox"))));
    items.push(("etc/".to_owned(), Item::Dir));
    let passwd = b"root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n".to_vec();
    items.push(("etc/passwd".to_owned(), Item::Plain(passwd)));
    items.push(("tmp/".to_owned(), Item::Dir));
    Some(tar(&items))
}

/// Layer `n` of a made-up image, of about `bytes` bytes.
pub fn layer(n: usize, bytes: usize) -> Vec<u8> {
    let text = format!("{n:08} layer\n").repeat(bytes / 15 + 1);
    tar(&[
        (format!("file-{n}"), Item::from(text.as_str())),
        ("etc/".into(), Item::Dir),
        ("etc/last".into(), format!("{n}").as_str().into()),
    ])
}

pub fn digest(bytes: &[u8]) -> String {
    Digest::sha256(bytes).to_string()
}

pub fn hex(bytes: &[u8]) -> String {
    Digest::sha256(bytes).hex()
}

/// A config over the plain tars `layers`.
pub fn config(layers: &[Vec<u8>], label: &str) -> Vec<u8> {
    let document = json!({
        "architecture": strata_spec::Platform::host().architecture,
        "config": {"Cmd": ["sh"], "Labels": {"name": label}},
        "created": "2024-05-01T12:00:00Z",
        "history": layers.iter().map(|_| json!({"created": "2024-05-01T12:00:00Z", "created_by": "step"})).collect::<Vec<_>>(),
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|tar| digest(tar)).collect::<Vec<_>>()},
    });
    serde_json::to_vec(&document).expect("JSON")
}

/// The image ID of `config(layers, label)`.
pub fn image_id(layers: &[Vec<u8>], label: &str) -> String {
    digest(&config(layers, label))
}

/// A Docker archive of images by their tags, as `docker save` writes it.
pub fn archive(images: &[(&str, &[Vec<u8>])]) -> Vec<u8> {
    tar(&archive_files(images))
}

/// Its files.
pub fn archive_files(images: &[(&str, &[Vec<u8>])]) -> Vec<(String, Item)> {
    let mut files: BTreeMap<String, Item> = BTreeMap::new();
    let mut manifest = Vec::new();
    for (tag, layers) in images {
        let config = config(layers, tag);
        let name = format!("{}.json", hex(&config));
        let paths: Vec<_> = layers.iter().map(|tar| format!("{}/layer.tar", hex(tar))).collect();
        files.extend(paths.iter().cloned().zip(layers.iter().cloned().map(Item::from)));
        manifest.push(json!({"Config": name, "RepoTags": [tag], "Layers": paths}));
        files.insert(name, config.into());
    }
    let mut files: Vec<_> = files.into_iter().collect();
    files.push(("manifest.json".into(), serde_json::to_vec(&manifest).expect("JSON").into()));
    files
}

/// An OCI layout of one image, named `tag`.
pub struct Layout {
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
    pub layer_type: &'static str,
    pub manifest_type: &'static str,
    /// Said of the layers in place of their digests.
    pub digests: Option<Vec<String>>,
    pub tag: &'static str,
}

impl Layout {
    pub fn new(layers: &[Vec<u8>], tag: &'static str) -> Self {
        Self {
            config: config(layers, tag),
            layers: layers.to_vec(),
            layer_type: "application/vnd.oci.image.layer.v1.tar",
            manifest_type: "application/vnd.oci.image.manifest.v1+json",
            digests: None,
            tag,
        }
    }

    pub fn tar(&self) -> Vec<u8> {
        let blob = |bytes: &[u8]| (format!("blobs/sha256/{}", hex(bytes)), Item::from(bytes.to_vec()));
        let describe = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()});
        let mut files = vec![blob(&self.config)];
        let mut layers = Vec::new();
        for (at, layer) in self.layers.iter().enumerate() {
            let mut description = describe(self.layer_type, layer);
            let mut file = blob(layer);
            if let Some(digests) = &self.digests {
                description["digest"] = digests[at].clone().into();
                file.0 = format!("blobs/{}", digests[at].replace(':', "/"));
            }
            files.push(file);
            layers.push(description);
        }
        let config = describe("application/vnd.oci.image.config.v1+json", &self.config);
        let manifest = json!({"schemaVersion": 2, "mediaType": self.manifest_type, "config": config, "layers": layers});
        let manifest = serde_json::to_vec(&manifest).expect("JSON");
        files.push(blob(&manifest));
        let mut description = describe(self.manifest_type, &manifest);
        description["annotations"] =
            json!({"org.opencontainers.image.ref.name": self.tag, "io.containerd.image.name": self.tag});
        let index = json!({"schemaVersion": 2, "manifests": [description]});
        files.push(("index.json".into(), serde_json::to_vec(&index).expect("JSON").into()));
        files.push(("oci-layout".into(), r#"{"imageLayoutVersion":"1.0.0"}"#.into()));
        tar(&files)
    }
}
