//! A mounted union, as programs see it: its process is the small program of this crate.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use strata_testkit::{Scratch, require, scratch};
use strata_unionfs::mount::{self, State};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_strata-unions");

/// A mounted union over a scratch directory.
pub struct Mounted {
    pub dir: Scratch,
    pub words: &'static str,
}

impl Mounted {
    /// Makes `lower1`, `lower2`, `upper`, `work` and `mnt`, fills the lower ones, and mounts.
    pub fn new(words: &'static str, more: &str, fill: impl FnOnce(&Path)) -> Self {
        let dir = scratch();
        for name in ["lower1", "lower2", "upper", "work", "mnt"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        fill(dir.path());
        let mounted = Self { dir, words };
        mounted.mount(more);
        mounted
    }

    pub fn mount(&self, more: &str) {
        let at = self.dir.path().display();
        let options = match self.words {
            "aufs" => format!("dirs={at}/upper:{at}/lower1:{at}/lower2{more}"),
            _ => format!("lowerdir={at}/lower1:{at}/lower2,upperdir={at}/upper,workdir={at}/work{more}"),
        };
        let done = unions(&["mount", self.words, &options, self.mnt().to_str().unwrap()]);
        assert!(done.status.success(), "{done:?}");
    }

    pub fn mnt(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.mnt().join(name)
    }

    pub fn pid(&self) -> u32 {
        match mount::find(&self.mnt()).unwrap().unwrap().state {
            State::Alive { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unions(&["umount", self.mnt().to_str().unwrap()]);
    }
}

pub fn unions(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

/// Runs a shell command with the mount point as `$M`; returns what it printed.
pub fn shell(mounted: &Mounted, command: &str) -> String {
    let done = Command::new("sh").args(["-ec", command]).env("M", mounted.mnt()).current_dir("/").output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

pub fn can_mount() -> bool {
    require::root().is_some() && Path::new("/dev/fuse").exists()
}
