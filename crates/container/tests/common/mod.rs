//! Stores on a root of their own, with an image of busybox in it.
#![allow(dead_code)]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use strata_container::{Base, Config, Container, Error, Request, Store, change};
use strata_durable::Journal;
use strata_graphdriver::Access;
use strata_spec::{ImageId, Reference, config::RunConfig};
use strata_testkit::{Scratch, require, scratch};

const APPLETS: &str = "cat chmod cp dd echo env false grep head hostname id ls ln mkdir mv mount pwd rm seq sh sleep stat sync \
                       tail test touch tr true wc";

pub struct Stores {
    pub images: strata_image::Store,
    pub containers: Store,
    pub journal: Journal,
}

/// Opens the stores on `root` and settles what dead operations left, as the engine does.
pub fn open(root: &Path) -> Stores {
    let strata = root.join("strata");
    fs::create_dir_all(strata.join("tmp")).expect("make strata/tmp");
    let locks = strata.join("locks");
    let journal = Journal::open(&strata.join("journal")).expect("open the journal");
    let driver =
        strata_graphdriver::open("overlay2", root, strata_graphdriver::Access::ReadWrite).expect("open the driver");
    let layers = strata_layer::Config { root, driver, journal: journal.clone(), locks: &locks };
    let layers = Arc::new(strata_layer::Store::open(layers).expect("open the layers"));
    let images = strata_image::Store::open(strata_image::Config {
        root,
        driver_name: "overlay2",
        layers: layers.clone(),
        locks: &locks,
        cache: &strata.join("cache"),
    })
    .expect("open the images");
    let containers = Store::open(Config {
        root,
        layers: vec![layers],
        only: None,
        journal: journal.clone(),
        locks: &locks,
        exec_root: exec_root(root),
        access: Access::ReadWrite,
    })
    .expect("open the containers");
    let stores = Stores { images, containers, journal };
    stores.settle();
    stores
}

/// The one of the test's program for the same root.
pub fn exec_root(root: &Path) -> PathBuf {
    strata_container::default_exec_root(root)
}

impl Stores {
    pub fn settle(&self) {
        let needed = self.images.needed().expect("read the images");
        self.journal
            .settle::<serde_json::Value, Error>(|notes| {
                self.images.layers().settle(notes, &|chain| needed.tops.contains(&chain))?;
                self.containers.settle(notes)
            })
            .expect("settle");
    }

    pub fn create(&self, image: ImageId, request: &Request) -> Result<Container, Error> {
        let config = self.images.get(image)?;
        Ok(self.containers.create(Base { driver: "overlay2", id: image, config: &config }, request)?.container)
    }

    /// Imports the folder `tree` with `changes`, as `name`.
    pub fn import(&self, tree: &Path, name: &str, changes: &[&str]) -> ImageId {
        let mut tar = Vec::new();
        strata_archive::diff::tree(tree, &mut tar).expect("pack");
        let mut config = RunConfig::default();
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        change::apply(&mut config, &changes).expect("good changes");
        let options = strata_image::import::Options { config, ..Default::default() };
        let id = self.images.import(&tar[..], options).expect("import");
        self.images.tags().set(&Reference::parse(name).expect("a good name"), id, true).expect("tag");
        id
    }
}

/// A scratch folder with stores in `root/`.
pub struct Bench {
    pub stores: Stores,
    pub image: ImageId,
    pub scratch: Scratch,
}

/// Makes stores with the image `small`: a few files, no program. `None`, having said why, where overlay2 cannot work.
pub fn bench() -> Option<Bench> {
    require::root()?;
    require::overlay()?;
    let scratch = scratch();
    let tree = scratch.join("tree");
    for folder in ["etc", "data/sub", "bin"] {
        fs::create_dir_all(tree.join(folder)).expect("mkdir");
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nbob:x:1000:1001::/home/bob:/bin/sh\n")
        .expect("write");
    fs::write(tree.join("etc/hosts"), "from the image\n").expect("write");
    fs::write(tree.join("data/sub/seed"), "seed\n").expect("write");
    fs::write(tree.join("file"), "of the image\n").expect("write");
    let stores = open(&scratch.join("root"));
    let image = stores.import(&tree, "small", &["CMD [\"sh\"]", "ENV PATH=/bin A=1"]);
    Some(Bench { stores, image, scratch })
}

/// As [`bench`], with busybox in the image; `None` too where containers cannot run.
pub fn running_bench() -> Option<Bench> {
    let mut bench = bench()?;
    let busybox = require::program("busybox")?;
    if rustix::fs::access("/sys/fs/cgroup", rustix::fs::Access::WRITE_OK).is_err() {
        require::report_skip("control groups cannot be written");
        return None;
    }
    let tree = bench.scratch.join("tree");
    fs::copy(busybox, tree.join("bin/busybox")).expect("copy busybox");
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", tree.join("bin").join(applet)).expect("link");
    }
    bench.image = bench.stores.import(&tree, "busybox", &["CMD [\"sh\"]", "ENV PATH=/bin A=1"]);
    Some(bench)
}

impl Bench {
    pub fn root(&self) -> PathBuf {
        self.scratch.join("root")
    }

    /// The command line of the test's program on this root.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata-containers"));
        command.arg(self.root()).args(args).stdin(std::process::Stdio::null());
        command
    }

    /// Runs the test's program on this root.
    pub fn run(&self, args: &[&str]) -> Outcome {
        Outcome::of(self.command(args).output().expect("run"))
    }

    /// Names in a folder of the root, sorted; none if it is not there.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root().join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Checks that nothing is left of containers that are gone.
    pub fn assert_bare(&self) {
        let tmp = ["strata/tmp/overlay2", "strata/tmp/containers", "strata/journal", "image/overlay2/layerdb/tmp"];
        for folder in ["containers", "volumes", "image/overlay2/layerdb/mounts"].into_iter().chain(tmp) {
            assert_eq!(self.names(folder), [""; 0], "{folder}");
        }
        let layers = self.names("image/overlay2/layerdb/sha256").len();
        assert_eq!(self.names("overlay2").len(), layers + 1, "a folder a layer, and l");
        let locks = self.names("strata/locks");
        assert!(!locks.iter().any(|name| name.starts_with("container-")), "{locks:?}");
        let mounts = strata_sys::mount::mounts_under(&self.root()).expect("read the mount table");
        assert!(mounts.is_empty(), "{mounts:?}");
        let exec = exec_root(&self.root());
        for folder in ["bundles", "runtime"] {
            let entries = fs::read_dir(exec.join(folder)).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            let of_containers: Vec<_> = names.filter(|name| name.len() == 64).collect();
            assert_eq!(of_containers, [""; 0], "{folder}");
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(exec_root(&self.root()));
        let _ = fs::remove_dir("/run/strata");
    }
}

#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its standard output, if all went well.
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out.trim().to_owned()
    }
}

pub fn request(name: &str, cmd: &[&str]) -> Request {
    Request { name: Some(name.to_owned()), image: "small".to_owned(), cmd: strings(cmd), ..Request::default() }
}

pub fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}
