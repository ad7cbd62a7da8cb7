//! What this kernel and filesystem can do for overlay: tried, not guessed from versions.

use std::{io, path::Path};

use crate::{
    mount,
    tree::{Device, Dir, Kind},
    xattr,
};

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What: `overlay mounts`, `trusted xattrs`.
    pub name: &'static str,
    pub works: bool,
    /// What failed and how, or how it was found to work.
    pub why: String,
}

/// The overlay module's defaults; `None` where the kernel has no such parameter.
///
/// Source: Linux, Documentation/filesystems/overlayfs.rst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverlayParameters {
    pub redirect_dir: Option<bool>,
    pub metacopy: Option<bool>,
    pub index: Option<bool>,
    pub nfs_export: Option<bool>,
    pub xino_auto: Option<bool>,
}

/// Whether the kernel lists overlay in `/proc/filesystems`; one that can load it as a module may not list it yet.
pub fn overlay_registered() -> io::Result<bool> {
    let list = std::fs::read_to_string("/proc/filesystems")?;
    Ok(list.lines().any(|line| line.split_whitespace().last() == Some("overlay")))
}

/// Reads `/sys/module/overlay/parameters`.
pub fn overlay_parameters() -> OverlayParameters {
    let read = |name: &str| {
        let text = std::fs::read_to_string(Path::new("/sys/module/overlay/parameters").join(name)).ok()?;
        match text.trim() {
            "Y" | "1" => Some(true),
            "N" | "0" => Some(false),
            _ => None,
        }
    };
    OverlayParameters {
        redirect_dir: read("redirect_dir"),
        metacopy: read("metacopy"),
        index: read("index"),
        nfs_export: read("nfs_export"),
        xino_auto: read("xino_auto"),
    }
}

/// Whether directory entries of `dir`'s filesystem carry the file's type, without which overlay shows whiteouts as files.
///
/// Makes and removes one folder in `dir`.
pub fn supports_d_type(dir: &Path) -> io::Result<bool> {
    use rustix::fs::{FileType, RawDir};
    let probe = Scratch::new(dir)?;
    probe.dir.create_file("f", 0o600)?;
    // Opened anew: btrfs lists what was there when a directory was opened.
    let dir = probe.dir.open_dir(".")?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.file_name() == c"f" {
            return Ok(entry.file_type() == FileType::RegularFile);
        }
    }
    Ok(false)
}

/// Tries, in a folder made in `dir` and removed again, what the overlay drivers need there.
///
/// Order: `d_type`, `trusted xattrs`, `native whiteouts`, `overlay mounts`, `multiple lower layers`, `layers one by one`, `user xattrs`.
pub fn overlay_features(dir: &Path) -> io::Result<Vec<Feature>> {
    let scratch = Scratch::new(dir)?;
    let at = |name: &str| scratch.parent.join(&scratch.name).join(name);
    for name in ["lower1", "lower2", "upper", "work", "merged"] {
        scratch.dir.create_dir(name, 0o755)?;
    }
    scratch.dir.open_dir("lower1")?.create_file("one", 0o644)?;
    scratch.dir.open_dir("lower2")?.create_file("two", 0o644)?;
    let (lower1, lower2, upper, work, merged) = (at("lower1"), at("lower2"), at("upper"), at("work"), at("merged"));
    let mounts = |lower: Vec<&Path>, options: Vec<&str>| -> io::Result<()> {
        let overlay = mount::Overlay { lower, upper: Some((&upper, &work)), options, ..mount::Overlay::default() };
        mount::overlay(&merged, &overlay)?;
        let seen = merged.join("one").exists();
        mount::unmount(&merged)?;
        if seen { Ok(()) } else { Err(io::Error::other("mounted, but a lower file is not seen")) }
    };
    let d_type = match supports_d_type(dir) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(io::Error::other("the filesystem keeps no file types in directories (xfs: made with ftype=0)"))
        }
        Err(error) => Err(error),
    };
    let layers_one_by_one = match mount::has_lowerdir_plus() {
        true => Ok(()),
        false => {
            Err(io::Error::other("this kernel has no lowerdir+ (Linux 6.8); mounts take at most a page of options"))
        }
    };
    Ok(vec![
        feature("d_type", d_type),
        feature("trusted xattrs", xattr::set(&upper, "trusted.overlay.strata-probe", b"y")),
        feature("native whiteouts", scratch.dir.create_node("whiteout", Kind::CharDevice, 0, Device::default())),
        feature("overlay mounts", mounts(vec![&lower1], vec![])),
        feature("multiple lower layers", mounts(vec![&lower1, &lower2], vec![])),
        feature("layers one by one", layers_one_by_one),
        feature("user xattrs", mounts(vec![&lower1], vec!["userxattr"])),
    ])
}

/// Tries, in a folder made in `dir` and removed again, what any driver's layers need there to be files as they were.
///
/// Order: `owners and modes`, `symbolic links`, `hard links`, `xattrs`.
pub fn layer_features(dir: &Path) -> io::Result<Vec<Feature>> {
    let scratch = Scratch::new(dir)?;
    let file = scratch.dir.create_file("file", 0o600)?;
    let owners = || -> io::Result<()> {
        scratch.dir.set_owner("file", 12_345, 54_321)?;
        scratch.dir.set_mode("file", 0o4751)?;
        let stat = scratch.dir.stat("file")?;
        match (stat.uid, stat.gid, stat.mode & 0o7777) {
            (12_345, 54_321, 0o4751) => Ok(()),
            _ => Err(io::Error::other("the filesystem does not keep them")),
        }
    };
    // As a union without the right to make trusted ones has it.
    let xattrs = xattr::set_of(&file, "trusted.strata-probe", b"y")
        .or_else(|_| xattr::set_of(&file, "user.strata-probe", b"y"))
        .map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => io::Error::other("the filesystem keeps no extended attributes"),
            _ => error,
        });
    Ok(vec![
        feature("owners and modes", owners()),
        feature("symbolic links", scratch.dir.symlink("nowhere", "symlink")),
        feature("hard links", scratch.dir.hard_link("file", &scratch.dir, "link")),
        feature("xattrs", xattrs),
    ])
}

fn feature(name: &'static str, tried: io::Result<()>) -> Feature {
    match tried {
        Ok(()) => Feature { name, works: true, why: "tried".into() },
        Err(error) => Feature { name, works: false, why: error.to_string() },
    }
}

/// A folder for trying things in, removed with all in it.
struct Scratch {
    parent: std::path::PathBuf,
    base: Dir,
    name: String,
    dir: Dir,
}

impl Scratch {
    fn new(parent: &Path) -> io::Result<Self> {
        let base = Dir::open(parent)?;
        let name = format!(".strata-probe-{:016x}", u64::from_ne_bytes(crate::process::random()?));
        base.create_dir(&name, 0o700)?;
        let dir = base.open_dir(&name)?;
        Ok(Self { parent: parent.to_owned(), base, name, dir })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let merged = self.parent.join(&self.name).join("merged");
        if mount::is_mounted(&merged).unwrap_or(false) {
            let _ = mount::unmount(&merged);
        }
        let _ = self.base.remove_tree(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_told_and_nothing_is_left() {
        let temp = tempfile::tempdir().unwrap();
        let features = overlay_features(temp.path()).unwrap();
        assert_eq!(features.len(), 7);
        for feature in &features {
            assert!(!feature.why.is_empty(), "{feature:?}");
        }
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
        if !rustix::process::geteuid().is_root() || !overlay_registered().unwrap() {
            strata_testkit::require::report_skip("needs root and overlay");
            return;
        }
        for name in ["d_type", "overlay mounts", "multiple lower layers"] {
            let feature = features.iter().find(|feature| feature.name == name).unwrap();
            assert!(feature.works, "{feature:?}");
        }
    }
}
