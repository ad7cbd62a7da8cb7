//! A store on a root, and archives to put into it.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Write},
    path::Path,
    sync::Arc,
};

use strata_archive::tar::{Header, Kind, Writer};
use strata_durable::Journal;
use strata_image::{
    Config, Error, Store,
    load::{Input, Loaded, Options},
    save::Output,
};
use strata_layer::Depth;
use strata_spec::{DiffId, Digest, ImageConfig, ImageId, Reference, progress::Silent};
use strata_testkit::{Scratch, require, scratch};

/// A data root of its own, or `None` where overlay2 cannot work.
pub fn root() -> Option<Root> {
    require::root()?;
    require::overlay()?;
    let scratch = scratch();
    let store = open(scratch.path());
    Some(Root { store, scratch })
}

pub struct Root {
    pub store: Store,
    pub scratch: Scratch,
}

/// Opens the store on `root` as the engine does, without settling.
pub fn open(root: &Path) -> Store {
    let strata = root.join("strata");
    fs::create_dir_all(&strata).expect("make the strata folder");
    let driver =
        strata_graphdriver::open("overlay2", root, strata_graphdriver::Access::ReadWrite).expect("open the driver");
    let journal = Journal::open(&strata.join("journal")).expect("open the journal");
    let locks = strata.join("locks");
    let layers = strata_layer::Config { root, driver, journal, locks: &locks };
    let layers = Arc::new(strata_layer::Store::open(layers).expect("open the layers"));
    let cache = strata.join("cache");
    Store::open(Config { root, driver_name: "overlay2", layers, locks: &locks, cache: &cache }).expect("open the store")
}

/// Settles what dead operations left on `root`.
pub fn settle(root: &Path, store: &Store) {
    let journal = Journal::open(&root.join("strata/journal")).expect("open the journal");
    let needed = store.needed().expect("read the images");
    journal
        .settle::<serde_json::Value, strata_layer::Error>(|notes| {
            store.layers().settle(notes, &|chain| needed.tops.contains(&chain))
        })
        .unwrap_or_else(|error| panic!("settle: {error}"));
}

impl Root {
    pub fn load(&self, archive: &[u8]) -> Result<Vec<Loaded>, Error> {
        self.store.load(file(archive), &Options::default())
    }

    pub fn load_stream(&self, archive: &[u8]) -> Result<Vec<Loaded>, Error> {
        self.store.load(Input::Stream(Box::new(Cursor::new(archive.to_vec()))), &Options::default())
    }

    /// Saves into a stream, and into a file, which must be the same.
    pub fn save(&self, names: &[&str]) -> Vec<u8> {
        let selection = self.store.select(names).expect("select");
        let mut streamed = Vec::new();
        let length = self.store.save(&selection, Output::Stream(&mut streamed), &Silent).expect("save to a stream");
        assert_eq!(length, streamed.len() as u64);
        let path = self.scratch.join("saved.tar");
        let out = fs::File::create(&path).expect("make a file");
        self.store.save(&selection, Output::File(&out), &Silent).expect("save to a file");
        assert!(fs::read(&path).expect("read it") == streamed, "file and stream differ");
        streamed
    }

    /// Fails if anything is not as it was written.
    pub fn assert_sound(&self, when: &dyn std::fmt::Display) {
        assert_sound(&self.store, when);
    }

    /// Fails unless the store holds nothing at all.
    pub fn assert_empty(&self, when: &dyn std::fmt::Display) {
        self.assert_sound(when);
        assert!(self.store.list().expect("list").is_empty(), "{when}: images");
        assert!(self.store.layers().list().expect("list").is_empty(), "{when}: layers");
        assert!(self.store.tags().read().expect("read").all().is_empty(), "{when}: names");
        let folders: Vec<_> =
            entries(&self.scratch.join("overlay2")).into_iter().filter(|name| name.len() > 20).collect();
        assert!(folders.is_empty(), "{when}: {folders:?}");
        for folder in ["strata/journal", "strata/tmp", "image/overlay2/layerdb/tmp"] {
            let left: Vec<_> =
                entries(&self.scratch.join(folder)).into_iter().filter(|name| name != "overlay2").collect();
            assert!(left.is_empty(), "{when}: {folder}: {left:?}");
        }
    }

    pub fn id_of(&self, name: &str) -> ImageId {
        self.store.resolve(name).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

pub fn assert_sound(store: &Store, when: &dyn std::fmt::Display) {
    let findings = store.verify();
    assert!(findings.is_empty(), "{when}: {findings:#?}");
    let findings = store.layers().verify(Depth::Contents);
    assert!(findings.is_empty(), "{when}: {findings:#?}");
}

pub fn entries(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// An archive as a regular file.
pub fn file(bytes: &[u8]) -> Input<'static> {
    let mut file = tempfile::tempfile().expect("make a file");
    file.write_all(bytes).expect("write it");
    Input::File(file)
}

/// What a tar is made of.
#[derive(Clone, Debug)]
pub enum Item {
    File(Vec<u8>),
    Link(&'static str),
}

impl From<Vec<u8>> for Item {
    fn from(bytes: Vec<u8>) -> Self {
        Self::File(bytes)
    }
}

impl From<&str> for Item {
    fn from(text: &str) -> Self {
        Self::File(text.as_bytes().to_vec())
    }
}

pub fn tar<N: AsRef<str>>(items: &[(N, Item)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, item) in items {
        let mut header = Header { mode: 0o644, ..Header::new(Kind::Regular, name.as_ref()) };
        match item {
            Item::File(bytes) => {
                header.size = bytes.len() as u64;
                writer.header(&header).expect("header");
                writer.content(bytes).expect("content");
            }
            Item::Link(to) => {
                header.kind = Kind::Symlink;
                header.link = to.as_bytes().to_vec();
                writer.header(&header).expect("header");
            }
        }
    }
    writer.finish().expect("finish")
}

/// Layer `n` of a made-up image.
pub fn layer(n: usize) -> Vec<u8> {
    let text = format!("{n:04}").repeat(300 + n);
    tar(&[("etc/hosts", Item::from(format!("layer {n}").as_str())), (&format!("file-{n}"), Item::from(text.as_str()))])
}

pub fn diff_of(tar: &[u8]) -> DiffId {
    DiffId::new(Digest::sha256(tar))
}

/// A config over `layers` (plain tars).
pub fn config(layers: &[Vec<u8>], label: &str) -> Vec<u8> {
    let diffs: Vec<_> = layers.iter().map(|tar| diff_of(tar).to_string()).collect();
    let history: Vec<_> = (0..layers.len())
        .map(|n| serde_json::json!({"created": "2024-05-01T12:00:00Z", "created_by": format!("step {n}")}))
        .collect();
    let config = serde_json::json!({
        "architecture": "amd64",
        "config": {"Cmd": ["sh"], "Labels": {"name": label}},
        "created": "2024-05-01T12:00:00Z",
        "history": history,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diffs},
    });
    serde_json::to_vec(&config).expect("JSON")
}

pub fn id_of(config: &[u8]) -> ImageId {
    ImageConfig::parse(config.to_vec()).expect("a config").id()
}

/// Files of a Docker archive as 20.10 writes it, documents last.
pub fn docker_files(images: &[(&str, &[Vec<u8>])]) -> Vec<(String, Item)> {
    let mut files: BTreeMap<String, Item> = BTreeMap::new();
    let mut manifest = Vec::new();
    for (tag, layers) in images {
        let config = config(layers, tag);
        let id = id_of(&config).hex();
        let paths: Vec<_> = layers.iter().map(|tar| format!("{}/layer.tar", diff_of(tar).hex())).collect();
        for (path, tar) in paths.iter().zip(*layers) {
            files.insert(path.clone(), tar.clone().into());
        }
        files.insert(format!("{id}.json"), config.into());
        manifest.push(serde_json::json!({"Config": format!("{id}.json"), "RepoTags": [tag], "Layers": paths}));
    }
    let mut files: Vec<_> = files.into_iter().collect();
    files.push(("manifest.json".into(), serde_json::to_vec(&manifest).expect("JSON").into()));
    files
}

pub fn docker_archive(images: &[(&str, &[Vec<u8>])]) -> Vec<u8> {
    tar(&docker_files(images))
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("compress");
    out.finish().expect("compress")
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("compress")
}

pub fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("a reference")
}

/// An OCI layout being made.
#[derive(Default)]
pub struct Layout {
    pub files: Vec<(String, Item)>,
}

impl Layout {
    pub fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> serde_json::Value {
        let digest = Digest::sha256(&bytes);
        let size = bytes.len();
        self.files.push((format!("blobs/sha256/{}", digest.hex()), bytes.into()));
        serde_json::json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
    }

    /// An image, with layers of the media type that `layer` makes of plain tars.
    pub fn image(
        &mut self,
        label: &str,
        layers: &[Vec<u8>],
        pack: impl Fn(&[u8]) -> (&'static str, Vec<u8>),
    ) -> serde_json::Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", config(layers, label));
        let layers: Vec<_> = layers
            .iter()
            .map(|tar| {
                let (media_type, bytes) = pack(tar);
                self.blob(media_type, bytes)
            })
            .collect();
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.blob("application/vnd.oci.image.manifest.v1+json", serde_json::to_vec(&manifest).expect("JSON"))
    }

    pub fn index(&mut self, manifests: &[serde_json::Value]) -> serde_json::Value {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
        self.blob("application/vnd.oci.image.index.v1+json", serde_json::to_vec(&index).expect("JSON"))
    }

    pub fn finish(mut self, manifests: &[serde_json::Value]) -> Vec<(String, Item)> {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
        self.files.push(("index.json".into(), serde_json::to_vec(&index).expect("JSON").into()));
        self.files.push(("oci-layout".into(), r#"{"imageLayoutVersion":"1.0.0"}"#.into()));
        self.files
    }
}

pub fn plain(tar: &[u8]) -> (&'static str, Vec<u8>) {
    ("application/vnd.oci.image.layer.v1.tar", tar.to_vec())
}

pub fn gzipped(tar: &[u8]) -> (&'static str, Vec<u8>) {
    ("application/vnd.oci.image.layer.v1.tar+gzip", gzip(tar))
}

/// Writes files into a folder.
pub fn write_dir(dir: &Path, files: &[(String, Item)]) {
    for (name, item) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("make folders");
        match item {
            Item::File(bytes) => fs::write(path, bytes).expect("write"),
            Item::Link(to) => std::os::unix::fs::symlink(to, path).expect("link"),
        }
    }
}
