//! Folders for a union of three branches, without a mount.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use strata_sys::xattr;
use strata_unionfs::{Access, Branch, Config, Dialect, Options, SetAttr, Xattrs};

use super::View;

/// A directory with branches `up`, `work`, `low`, and so on, and how to open them.
pub struct Base {
    pub temp: tempfile::TempDir,
    pub dialect: Dialect,
    pub options: Options,
}

impl Base {
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let temp = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let xattrs = if root() { Xattrs::Trusted } else { Xattrs::User };
        for dir in ["up", "work", "low", "base"] {
            fs::create_dir(temp.path().join(dir)).unwrap();
        }
        Self { temp, dialect: Dialect::Overlay { xattrs }, options: Options::default() }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    pub fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
    }

    pub fn config(&self) -> Config {
        let branch = |name, access| Branch { path: self.path(name), access };
        let lower = Access::ReadOnlyWhiteouts;
        Config {
            branches: vec![branch("up", Access::ReadWrite), branch("low", lower), branch("base", lower)],
            dialect: self.dialect,
            work: Some(self.path("work")),
            options: self.options,
        }
    }

    pub fn open(&self) -> View {
        View::open(self.config())
    }

    pub fn mark(&self, path: &str, key: &str, value: &[u8]) {
        let Dialect::Overlay { xattrs } = self.dialect else { panic!("overlay alone") };
        let namespace = if xattrs == Xattrs::Trusted { "trusted" } else { "user" };
        xattr::set(self.path(path), format!("{namespace}.overlay.{key}"), value).unwrap();
    }
}

/// Root of the first user namespace: another's may neither set trusted attributes nor make devices.
pub fn root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| {
        let temp = tempfile::tempdir().unwrap();
        rustix::process::geteuid().is_root() && xattr::set(temp.path(), "trusted.try", b"").is_ok()
    })
}

pub fn needs_root() -> bool {
    if !root() {
        strata_testkit::require::report_skip("needs root");
    }
    !root()
}

pub fn change() -> SetAttr {
    SetAttr::default()
}
