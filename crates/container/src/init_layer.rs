//! The `-init` layer between image and read-write layer: what every container finds, and no commit takes along.
//!
//! ```text
//! dev/pts dev/shm proc sys                                     directories, 0755
//! .dockerenv etc/resolv.conf etc/hosts etc/hostname dev/console    empty files, 0755
//! etc/mtab -> /proc/mounts
//! ```
//!
//! Whatever the image has under one of these names that is no directory goes, links on the way to them included: so nothing of
//! it is followed. Directories stay.
//!
//! Source: moby `daemon/initlayer/setup_unix.go`, version 20.10.

use std::{io, path::Path};

use strata_durable::Context;
use strata_sys::tree::Dir;

use crate::in_root::make_dir;

enum Want {
    Dir,
    File,
    Link(&'static str),
}

const ENTRIES: [(&str, Want); 10] = [
    ("dev/pts", Want::Dir),
    ("dev/shm", Want::Dir),
    ("proc", Want::Dir),
    ("sys", Want::Dir),
    (".dockerenv", Want::File),
    ("etc/resolv.conf", Want::File),
    ("etc/hosts", Want::File),
    ("etc/hostname", Want::File),
    ("dev/console", Want::File),
    ("etc/mtab", Want::Link("/proc/mounts")),
];

/// Fills the init layer that is mounted at `root`.
pub fn fill(root: &Path) -> Result<(), strata_durable::Error> {
    let dir = Dir::open(root).context("open", root)?;
    for (path, want) in &ENTRIES {
        place(&dir, path, want).context("make", root.join(path))?;
    }
    Ok(())
}

fn place(root: &Dir, path: &str, want: &Want) -> io::Result<()> {
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut dir = root.open_dir(".")?;
    for parent in parents.split('/').filter(|part| !part.is_empty()) {
        clear(&dir, parent)?;
        dir = make_dir(&dir, parent, 0o755)?;
    }
    clear(&dir, name)?;
    if dir.exists(name)? {
        return Ok(());
    }
    match want {
        Want::Dir => make_dir(&dir, name, 0o755).map(drop),
        Want::File => {
            dir.create_file(name, 0o755)?;
            dir.set_mode(name, 0o755)
        }
        Want::Link(target) => dir.symlink(target, name),
    }
}

/// Removes `name` unless it is a directory.
fn clear(dir: &Dir, name: &str) -> io::Result<()> {
    match dir.remove_file(name) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn all_is_there_and_nothing_of_the_image_is_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("etc/hosts")).unwrap();
        fs::write(root.join("etc/hostname"), "image").unwrap();
        fs::write(scratch.path().join("outside"), "kept").unwrap();
        symlink("../../outside", root.join("etc/resolv.conf")).unwrap();
        symlink(scratch.path(), root.join("dev")).unwrap();
        fs::create_dir(root.join("proc")).unwrap();
        fs::set_permissions(root.join("proc"), PermissionsExt::from_mode(0o500)).unwrap();
        for _ in 0..2 {
            fill(&root).unwrap();
            assert!(root.join("dev/shm").is_dir() && root.join("etc/hosts").is_dir());
            assert!(!root.join("dev").is_symlink() && !scratch.path().join("shm").exists());
            assert_eq!(fs::read(root.join("etc/hostname")).unwrap(), b"");
            assert_eq!(fs::metadata(root.join("etc/hostname")).unwrap().permissions().mode() & 0o7777, 0o755);
            assert_eq!(fs::metadata(root.join("proc")).unwrap().permissions().mode() & 0o7777, 0o500);
            assert_eq!(fs::read_link(root.join("etc/mtab")).unwrap(), Path::new("/proc/mounts"));
            assert_eq!(fs::read(scratch.path().join("outside")).unwrap(), b"kept");
        }
    }
}
