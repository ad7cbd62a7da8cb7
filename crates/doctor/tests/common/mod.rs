//! A root with images and containers, made through the stores' own functions.
#![allow(dead_code)]

use std::{
    io::Cursor,
    path::{Path, PathBuf},
    sync::Arc,
};

use strata_archive::{
    Limits,
    tar::{Header, Kind, Writer},
};
use strata_container::{Base, Container, Request};
use strata_doctor::{Explanation, Stores, explain};
use strata_durable::Journal;
use strata_graphdriver::Access;
use strata_spec::{
    ImageConfig, ImageId, Reference,
    config::{Document, History, RootFs, RunConfig},
};
use strata_testkit::{LoopFs, Scratch, scratch};

/// The stores of a root, as the engine opens them.
pub struct Opened {
    pub path: PathBuf,
    pub layers: Arc<strata_layer::Store>,
    pub images: strata_image::Store,
    pub containers: strata_container::Store,
}

impl Opened {
    pub fn at(root: &Path) -> Self {
        Self::under("overlay2", root)
    }

    pub fn under(driver_name: &'static str, root: &Path) -> Self {
        let path = root.canonicalize().expect("the root is there");
        let strata = path.join("strata");
        let journal = Journal::open(&strata.join("journal")).expect("open the journal");
        let driver = strata_graphdriver::open(driver_name, &path, strata_graphdriver::Access::ReadWrite)
            .expect("open the driver");
        let locks = strata.join("locks");
        let config = strata_layer::Config { root: &path, driver, journal: journal.clone(), locks: &locks };
        let layers = Arc::new(strata_layer::Store::open(config).expect("open the layer store"));
        let images = strata_image::Store::open(strata_image::Config {
            root: &path,
            driver_name,
            layers: layers.clone(),
            locks: &locks,
            cache: &strata.join("cache"),
        });
        let containers = strata_container::Store::open(strata_container::Config {
            root: &path,
            layers: vec![layers.clone()],
            only: None,
            journal,
            locks: &locks,
            exec_root: path.join("exec"),
            access: Access::ReadWrite,
        });
        let (images, containers) = (images.expect("open the image store"), containers.expect("open the containers"));
        Self { path, layers, images, containers }
    }

    pub fn stores(&self) -> Stores<'_> {
        Stores { root: &self.path, layers: &self.layers, images: &self.images, containers: &self.containers }
    }

    pub fn explain(&self, text: &str) -> Explanation {
        explain(&self.stores(), text).unwrap_or_else(|error| panic!("explain {text}: {error}"))
    }
}

/// A root of its own.
pub struct Root {
    pub opened: Opened,
    _scratch: Option<Scratch>,
    /// What it lies on, if that is one of its own.
    _fs: Option<LoopFs>,
}

impl std::ops::Deref for Root {
    type Target = Opened;
    fn deref(&self) -> &Opened {
        &self.opened
    }
}

impl Root {
    pub fn new() -> Self {
        Self::under("overlay2")
    }

    pub fn under(driver: &'static str) -> Self {
        let scratch = scratch();
        let root = scratch.join("root");
        std::fs::create_dir(&root).expect("create the root");
        Self { opened: Opened::under(driver, &root), _scratch: Some(scratch), _fs: None }
    }

    pub fn on(fs: LoopFs, driver: &'static str) -> Self {
        let root = fs.join("root");
        std::fs::create_dir(&root).expect("create the root");
        Self { opened: Opened::under(driver, &root), _scratch: None, _fs: Some(fs) }
    }

    pub fn path(&self) -> &Path {
        &self.opened.path
    }

    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.opened.path.join(path)
    }
}

/// An entry of a tar.
pub enum Entry {
    Dir(&'static str),
    File(&'static str, &'static str),
    Link(&'static str, &'static str),
}

pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        let (header, text) = match entry {
            Entry::Dir(name) => (Header { mode: 0o755, ..Header::new(Kind::Dir, *name) }, ""),
            Entry::File(name, text) => {
                (Header { mode: 0o644, size: text.len() as u64, ..Header::new(Kind::Regular, *name) }, *text)
            }
            Entry::Link(name, target) => {
                (Header { mode: 0o777, link: (*target).into(), ..Header::new(Kind::Symlink, *name) }, "")
            }
        };
        writer.header(&header).expect("header");
        writer.content(text.as_bytes()).expect("content");
    }
    writer.finish().expect("finish")
}

/// Three layers: a base, one that changes, deletes and replaces, and one that adds.
pub fn three_layers() -> Vec<Vec<u8>> {
    use Entry::*;
    vec![
        tar(&[
            Dir("etc/"),
            File("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
            File("etc/motd", "welcome\n"),
            Dir("opt/"),
            Dir("opt/old/"),
            File("opt/old/a", "a"),
            Dir("usr/"),
            Dir("usr/bin/"),
            File("usr/bin/tool", "tool 1"),
            Link("bin", "usr/bin"),
        ]),
        tar(&[
            Dir("etc/"),
            File("etc/passwd", "root:x:0:0::/:/bin/sh\nme:x:1:1::/:/bin/sh\n"),
            File("etc/.wh.motd", ""),
            Dir("opt/"),
            Dir("opt/old/"),
            File("opt/old/.wh..wh..opq", ""),
            File("opt/old/b", "b"),
        ]),
        tar(&[Dir("srv/"), File("srv/data", "data")]),
    ]
}

/// Makes an image of `tars`, from the base up, called `name`.
pub fn image(root: &Opened, name: &str, tars: &[Vec<u8>]) -> ImageId {
    let mut lease = root.layers.lease().expect("a lease");
    let (mut diffs, mut parent) = (Vec::new(), None);
    for tar in tars {
        let unpacked = root.layers.unpack(Cursor::new(tar), parent, &Limits::default()).expect("unpack");
        diffs.push(unpacked.diff_id);
        let registered = root.layers.register(&mut lease, parent, vec![unpacked]).expect("register");
        parent = registered.last().map(|layer| layer.chain_id);
    }
    let step = |n: usize| History { created_by: format!("step {n} of {name}"), ..History::default() };
    let document = Document {
        architecture: "amd64".into(),
        os: "linux".into(),
        created: Some("2026-01-02T03:04:05Z".into()),
        config: Some(RunConfig { cmd: Some(vec!["sh".into()]), ..RunConfig::default() }),
        history: (1..=tars.len()).map(step).collect(),
        rootfs: RootFs::layers(diffs),
        ..Document::default()
    };
    let id = root.images.create(&ImageConfig::from_document(document), None).expect("create the image");
    lease.done().expect("end the lease");
    root.images.tags().set(&Reference::parse(name).expect("a name"), id, false).expect("tag");
    id
}

/// Makes a container of `image` called `name`.
pub fn container(root: &Opened, image: ImageId, name: &str) -> Container {
    let config = root.images.get(image).expect("the image's config");
    let request = Request { name: Some(name.into()), image: "made:1".into(), ..Request::default() };
    let base = Base { driver: root.layers.driver().name(), id: image, config: &config };
    root.containers.create(base, &request).expect("create the container").container
}

/// The folder of a container's own layer.
pub fn upper(root: &Opened, container: &Container) -> PathBuf {
    let mount = root.layers.mount(&container.id).expect("the container's layers");
    root.layers.driver().folder(&mount.mount_id).expect("its folder").path
}
