//! Temporary folders on a real disk.

use std::path::{Path, PathBuf};

use strata_sys::{fs, mount};

/// A temporary folder, removed when this drops, after what is mounted below it was unmounted.
#[derive(Debug)]
pub struct Scratch {
    dir: tempfile::TempDir,
}

/// Makes a folder in `TMPDIR`; if that is a tmpfs or an overlay, which cannot carry overlay layers with their attributes, in
/// `/var/tmp`.
pub fn scratch() -> Scratch {
    let is_real =
        |folder: &Path| fs::info(folder).is_ok_and(|info| !["tmpfs", "ramfs", "overlayfs"].contains(&info.type_name));
    let first = std::env::temp_dir();
    let folders = [first.clone(), PathBuf::from("/var/tmp")];
    let folder = folders.into_iter().find(|folder| is_real(folder)).unwrap_or(first);
    let dir = tempfile::Builder::new().prefix("strata-test-").tempdir_in(&folder);
    let dir = dir.unwrap_or_else(|error| panic!("a temporary folder in {}: {error}", folder.display()));
    Scratch { dir }
}

impl Scratch {
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Ok(path) = self.dir.path().canonicalize() else { return };
        for mounted in mount::mounts_under(&path).unwrap_or_default().iter().rev() {
            let _ = mount::unmount(&mounted.target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_goes_with_its_mounts() {
        let Some(()) = crate::require::root() else { return };
        let scratch = scratch();
        let inner = scratch.join("m");
        std::fs::create_dir(&inner).unwrap();
        mount::tmpfs(&inner, "size=1m").unwrap();
        std::fs::create_dir(inner.join("n")).unwrap();
        mount::tmpfs(&inner.join("n"), "size=1m").unwrap();
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }
}
