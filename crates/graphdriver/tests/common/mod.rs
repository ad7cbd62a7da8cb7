//! A driver on a root of its own.
#![allow(dead_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use strata_graphdriver::{Access, DRIVERS, GraphDriver, Parent, open};
use strata_spec::CacheId;
use strata_testkit::{LoopFs, require, scratch};

/// A driver on a fresh root; `None`, with the reason printed, where it cannot run.
pub struct Bench {
    pub driver: Arc<dyn GraphDriver>,
    pub root: PathBuf,
    /// What the root lies in.
    _place: Place,
}

/// A temporary folder, or a filesystem that the driver needs.
enum Place {
    Folder { _scratch: strata_testkit::Scratch },
    Filesystem { _fs: LoopFs },
}

/// A `main` of our own, since the process behind a union is this program again.
#[macro_export]
macro_rules! tests {
    ($($test:ident),* $(,)?) => {
        fn main() {
            strata_unionfs::mount::init();
            strata_testkit::named::run(&[$((stringify!($test), $test as fn())),*]);
        }
    };
}

impl Bench {
    pub fn new(name: &str) -> Option<Self> {
        require::root()?;
        require::overlay()?;
        if name == "btrfs" {
            return Self::on(LoopFs::btrfs(256 << 20)?, name);
        }
        let scratch = scratch();
        let root = scratch.path().to_owned();
        Self::at(Place::Folder { _scratch: scratch }, root, name)
    }

    /// On a filesystem of its own.
    pub fn on(fs: LoopFs, name: &str) -> Option<Self> {
        let root = fs.path().to_owned();
        Self::at(Place::Filesystem { _fs: fs }, root, name)
    }

    fn at(place: Place, root: PathBuf, name: &str) -> Option<Self> {
        let driver = open(name, &root, Access::ReadWrite).expect("opens on a fresh root");
        if let Some(lacking) = driver.probe().iter().find(|tried| tried.name == "union in user space" && !tried.works) {
            strata_testkit::require::report_skip(&format!("{name}: {}", lacking.why));
            return None;
        }
        Some(Self { driver, root, _place: place })
    }

    /// A layer over `parent` that holds the given files.
    pub fn layer(&self, n: u8, parent: Parent<'_>, files: &[(&str, &str)]) -> CacheId {
        let id = CacheId::from_random([n; 32]);
        self.driver.create(&id, parent, Access::ReadOnly).expect("create");
        let folder = self.driver.folder(&id).expect("folder").path;
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("create a folder");
            // As layers are unpacked: what is there is replaced, never written into.
            let _ = fs::remove_file(&path);
            fs::write(path, text).expect("write");
        }
        id
    }
}

impl Bench {
    /// Whether a folder holds a layer's own files alone.
    pub fn is_union(&self) -> bool {
        self.driver.is_independent()
    }

    /// Whether the place of a container's root is there while nobody uses it: it is the folder itself, or Docker wants it.
    pub fn keeps_mount_point(&self) -> bool {
        !self.mounts() || self.driver.name() == "aufs"
    }

    /// Whether a container's root is a mount.
    pub fn mounts(&self) -> bool {
        !["vfs", "btrfs"].contains(&self.driver.name())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for id in self.driver.list().unwrap_or_default() {
            let _ = self.driver.unmount(&id);
        }
    }
}

pub fn every_driver(test: impl Fn(&Bench)) {
    for name in DRIVERS {
        if let Some(bench) = Bench::new(name) {
            test(&bench);
        }
    }
}

pub fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

pub fn is_mounted(path: &Path) -> bool {
    strata_sys::mount::is_mounted(path).expect("statx")
}
