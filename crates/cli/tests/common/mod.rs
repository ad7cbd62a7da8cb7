//! The `strata` program on a data root of its own, and tars to feed it with.
#![allow(dead_code)]

pub mod server;
pub mod tars;
pub mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use strata_testkit::{LoopFs, Scratch, require, scratch};

pub const STRATA: &str = env!("CARGO_BIN_EXE_strata");

/// A data root, gone when this drops.
pub struct Root {
    path: PathBuf,
    /// Temporary files beside it.
    pub scratch: Scratch,
    /// Given to every command; the root's own choice, overlay2, if `None`.
    driver: Option<&'static str>,
    /// The filesystem that it lies on, if that is one of its own.
    _fs: Option<LoopFs>,
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    /// The exit code; -1 for a signal.
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// An empty data root, or `None` where overlay2 cannot work.
pub fn root() -> Option<Root> {
    require::root()?;
    require::overlay()?;
    let scratch = scratch();
    Some(Root { path: scratch.join("root"), scratch, driver: None, _fs: None })
}

/// An empty data root for `driver`, on a filesystem that it works on; `None` where it cannot work.
pub fn root_on(driver: &'static str) -> Option<Root> {
    if driver == "btrfs" {
        require::root()?;
        let fs = LoopFs::btrfs(1 << 30)?;
        return Some(Root { path: fs.join("root"), scratch: scratch(), driver: Some(driver), _fs: Some(fs) });
    }
    if driver == "fuse-overlayfs" {
        require::program("fuse-overlayfs")?;
    }
    let mut root = root()?;
    root.driver = Some(driver);
    Some(root)
}

/// An empty data root for `driver` on an ext4 of its own, of at most so many bytes.
pub fn root_on_ext4(driver: &'static str, bytes: u64) -> Option<Root> {
    let fs = LoopFs::ext4(bytes)?;
    Some(Root { path: fs.join("root"), scratch: scratch(), driver: Some(driver), _fs: Some(fs) })
}

/// An empty data root on a btrfs of its own, of at most so many bytes, without a driver named.
pub fn root_on_btrfs(bytes: u64) -> Option<Root> {
    let fs = LoopFs::btrfs(bytes)?;
    Some(Root { path: fs.join("root"), scratch: scratch(), driver: None, _fs: Some(fs) })
}

/// A data root that lies somewhere else than in a temporary folder.
pub fn root_at(path: &Path) -> Option<Root> {
    require::root()?;
    require::overlay()?;
    Some(Root { path: path.to_owned(), scratch: scratch(), driver: None, _fs: None })
}

/// A data root with the image `bb`: busybox under its usual names.
pub fn root_with_busybox() -> Option<Root> {
    let root = root()?;
    root.import("bb", &tars::busybox()?);
    Some(root)
}

/// A root with one image in it, `keep:1`.
pub fn root_with_image() -> Option<Root> {
    let root = root()?;
    assert_eq!(root.load(&tars::archive(&[("keep:1", &[tars::layer(1, 1000)])])).code, 0);
    Some(root)
}

/// Fails unless `done` is one line of error with all of `says`.
#[track_caller]
pub fn assert_clear(done: &Done, code: i32, says: &[&str], what: &str) {
    assert_eq!((done.code, done.out.as_str()), (code, ""), "{what}: {}", done.err);
    assert_eq!(done.err.trim_end().lines().count(), 1, "{what}: {}", done.err);
    assert!(done.err.len() < 600, "{what}: {}", done.err);
    for word in says {
        assert!(done.err.contains(word), "{what}: no {word:?} in {}", done.err);
    }
}

impl Root {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the data root.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// A new file beside the root, and its path as an argument.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.scratch.join(name);
        fs::write(&path, bytes).expect("write a file");
        path.to_string_lossy().into_owned()
    }

    /// `strata ARGS…` on this root, without input.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = strata(args);
        command.env("STRATA_DATA_ROOT", &self.path);
        command.envs(self.driver.map(|driver| ("STRATA_STORAGE_DRIVER", driver)));
        command
    }

    /// The storage driver's name.
    pub fn driver(&self) -> &'static str {
        self.driver.unwrap_or("overlay2")
    }

    /// The layers' folders.
    pub fn folders(&self) -> BTreeSet<String> {
        let place = match self.driver() {
            "vfs" => "vfs/dir",
            "btrfs" => "btrfs/subvolumes",
            "aufs" => "aufs/diff",
            driver => driver,
        };
        let mut folders = names(&self.join(place));
        folders.retain(|name| name != "l" && name != "backingFsBlockDev");
        folders
    }

    pub fn run(&self, args: &[&str]) -> Done {
        self.command(args).output().expect("strata runs").into()
    }

    /// Runs a command that must succeed; returns its output, without white space at the ends.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "strata {args:?}: {}{}", done.out, done.err);
        done.out.trim().to_owned()
    }

    /// Runs a command that must end with `code` and print nothing on standard output; returns what it says on standard error.
    #[track_caller]
    pub fn refused(&self, code: i32, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!((done.code, done.out.as_str()), (code, ""), "strata {args:?}: {}", done.err);
        done.err.trim().to_owned()
    }

    /// Runs a command with `input` on its standard input, through a pipe.
    pub fn feed(&self, args: &[&str], input: &[u8]) -> Done {
        feed(self.command(args), input)
    }

    pub fn import(&self, name: &str, tar: &[u8]) -> String {
        let done = self.feed(&["import", "-", name], tar);
        assert_eq!(done.code, 0, "import {name}: {}", done.err);
        done.out.trim().to_owned()
    }

    pub fn load(&self, archive: &[u8]) -> Done {
        self.feed(&["load"], archive)
    }

    /// The archive of `names`.
    #[track_caller]
    pub fn save(&self, names: &[&str]) -> Vec<u8> {
        let args: Vec<&str> = ["save"].iter().chain(names).copied().collect();
        let output = self.command(&args).output().expect("strata runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A value of what `inspect` shows.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> serde_json::Value {
        let text = self.ok(&["inspect", name]);
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")[0].take()
    }

    /// Lines of a command's output.
    #[track_caller]
    pub fn lines(&self, args: &[&str]) -> Vec<String> {
        self.ok(args).lines().map(str::to_owned).collect()
    }

    /// Everything in the root but `strata/`, by path: kind, mode, size and a digest of the content.
    pub fn listing(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        list(&self.path, Path::new(""), &mut all);
        all
    }

    /// Fails unless everything is as it was written, down to the files' contents, and nothing is left over.
    #[track_caller]
    pub fn assert_sound(&self, when: &dyn Display) {
        let done = self.run(&["fsck", "--contents", "--format", "json"]);
        let report: serde_json::Value =
            serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{when}: fsck: {}{}", done.out, done.err));
        let nothing = report["findings"].as_array().is_some_and(Vec::is_empty);
        assert!(done.code == 0 && nothing, "{when}: {report:#}\n{}", done.err);
        self.assert_tidy(when);
    }

    /// Fails if something is [left over](Self::left_over).
    #[track_caller]
    pub fn assert_tidy(&self, when: &dyn Display) {
        let left = self.left_over();
        assert!(left.is_empty(), "{when}: {left:#?}");
    }

    /// Folders, mounts, journal entries and state that no layer and no running container accounts for. Looks by itself.
    pub fn left_over(&self) -> Vec<String> {
        let text = |path: PathBuf| fs::read_to_string(&path).unwrap_or_default();
        let mut left = Vec::new();
        let mut differ = |what: &str, found: &BTreeSet<String>, expected: &BTreeSet<String>| {
            left.extend(found.difference(expected).map(|name| format!("{what}: {name} belongs to nothing")));
            left.extend(expected.difference(found).map(|name| format!("{what}: {name} is missing")));
        };
        let driver = self.driver();
        let layerdb = self.join(format!("image/{driver}/layerdb"));
        let mut named = BTreeSet::new();
        for layer in names(&layerdb.join("sha256")) {
            named.insert(text(layerdb.join("sha256").join(layer).join("cache-id")));
        }
        let containers = names(&self.join("containers"));
        let mounts = names(&layerdb.join("mounts"));
        differ("layerdb/mounts", &mounts, &containers);
        for mount in &mounts {
            for file in ["mount-id", "init-id"] {
                named.insert(text(layerdb.join("mounts").join(mount).join(file)));
            }
        }
        let folders = self.folders();
        differ(driver, &folders, &named);
        if ["overlay2", "fuse-overlayfs"].contains(&driver) {
            let links = folders.iter().map(|name| text(self.join(driver).join(name).join("link"))).collect();
            differ("l", &names(&self.join(driver).join("l")), &links);
        }
        let (unregistered, removed) = (format!("image/{driver}/layerdb/tmp"), format!("strata/tmp/{driver}"));
        let places = [
            unregistered.as_str(),
            &removed,
            "strata/tmp/containers",
            "strata/tmp/images",
            "strata/journal",
            "strata/mnt",
        ];
        for empty in places {
            differ(empty, &names(&self.join(empty)), &BTreeSet::new());
        }
        let mut more = names(&self.join("strata/tmp"));
        more.retain(|name| ![driver, "containers", "images"].contains(&name.as_str()));
        differ("strata/tmp", &more, &BTreeSet::new());
        for state in ["runtime", "bundles"] {
            differ(state, &names(&self.exec_root().join(state)), &BTreeSet::new());
        }
        let mounted = strata_sys::mount::mounts_under(&self.canonical()).expect("the mounts");
        // The root's own filesystem is not below it.
        left.extend(mounted.iter().map(|mount| format!("mounted: {}", mount.target.display())));
        left
    }

    fn canonical(&self) -> PathBuf {
        self.path.canonicalize().unwrap_or_else(|_| self.path.clone())
    }

    /// Where its running containers have their state.
    pub fn exec_root(&self) -> PathBuf {
        strata_container::store::default_exec_root(&self.canonical())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let exec_root = self.exec_root();
        for folder in ["runtime", "bundles"] {
            let _ = fs::remove_dir(exec_root.join(folder));
        }
        let _ = fs::remove_dir(exec_root);
    }
}

/// `strata ARGS…`, without input and with an environment that says nothing.
pub fn strata(args: &[&str]) -> Command {
    let mut command = Command::new(STRATA);
    command.args(args).stdin(Stdio::null());
    for name in ["STRATA_EXEC_ROOT", "STRATA_STORAGE_DRIVER", "SOURCE_DATE_EPOCH"] {
        command.env_remove(name);
    }
    command
}

/// Runs `command` with `input`; one that ends early is not waited for to read it.
pub fn feed(mut command: Command, input: &[u8]) -> Done {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("strata runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || drop(pipe.write_all(input)));
        child.wait_with_output().expect("its output").into()
    })
}

/// Waits until `child` ends; kills it, and fails, if that takes longer than `limit`.
#[track_caller]
pub fn wait(child: &mut Child, limit: Duration) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("its status") {
            return status;
        }
        if begun.elapsed() > limit {
            let _ = child.kill();
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Numbers that are the same each time (xorshift).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One of 0 to `below` - 1.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

/// Names in a folder; none if there is no folder.
pub fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn list(root: &Path, at: &Path, all: &mut BTreeMap<PathBuf, String>) {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(root.join(at)).into_iter().flatten().flatten() {
        let path = at.join(entry.file_name());
        if path == Path::new("strata") {
            continue;
        }
        let whole = root.join(&path);
        let Ok(stat) = whole.symlink_metadata() else { continue };
        let content = match () {
            () if stat.is_symlink() => fs::read_link(&whole).map(|to| to.display().to_string()).unwrap_or_default(),
            () if stat.is_file() => strata_spec::Digest::sha256(fs::read(&whole).unwrap_or_default()).hex(),
            () => String::new(),
        };
        all.insert(path.clone(), format!("{:o} {}:{} {} {content}", stat.mode(), stat.uid(), stat.gid(), stat.rdev()));
        if stat.is_dir() {
            list(root, &path, all);
        }
    }
}
