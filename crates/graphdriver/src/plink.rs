//! Names of one lower file, made into hard links of its copy when a union goes.
//!
//! A lower file of several names that was copied up has its copy in `.wh..wh.plnk/` of the branch (aufs) or in `work/index/` (fuse-overlayfs),
//! linked to the names that were used. The others show it while the union is mounted. When it ends they become links too: in aufs as Docker
//! had the program `auplink` do it, since what its process knew is gone then; in fuse-overlayfs since nobody else knows of an index, neither the program of
//! that name nor who makes a layer of the folder. After a crash the names of aufs part, which is AUFS's own gap; those of fuse-overlayfs are together
//! when the union is mounted again.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use strata_sys::{
    tree::{Dir, Stat},
    xattr,
};
pub(crate) use strata_tree::marks::aufs::PSEUDO_LINKS;
use strata_tree::marks::{
    aufs::META_PREFIX,
    overlay::{TRUSTED, USER},
};

/// Overlay's, in the work folder.
pub(crate) const INDEX: &str = "index";

/// How many names a copy has, relative to what its inode says: of use with an index alone.
const NLINK: [&str; 2] = [TRUSTED.nlink, USER.nlink];

/// The copies of a branch, and the names that are no links yet.
pub(crate) struct Links {
    top: PathBuf,
    copies: Vec<PathBuf>,
    /// A copy, and a name that it wants, relative to the branch.
    wanted: Vec<(PathBuf, PathBuf)>,
}

/// Finds the names of the copies in `folder` that are seen in the union at `view`, and makes the directories in its branch `top` that they lie in.
/// `None` if there are no copies.
pub(crate) fn find(view: &Path, top: &Path, folder: &Path) -> io::Result<Option<Links>> {
    let mut copies = HashMap::new();
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => {
            for entry in entries? {
                let entry = entry?;
                copies.insert(entry.metadata()?.ino(), entry.path());
            }
        }
    }
    if copies.is_empty() {
        return Ok(None);
    }
    // A name in the branch is a name in the view, where the file has a number of its own.
    let mut numbers = HashMap::new();
    each(top, |path, meta| {
        if let Some(copy) = copies.get(&meta.ino())
            && let Ok(seen) = fs::symlink_metadata(view.join(path))
        {
            numbers.insert(seen.ino(), copy.clone());
        }
        Ok(())
    })?;
    let mut wanted = Vec::new();
    each(view, |path, meta| {
        if let Some(copy) = numbers.get(&meta.ino())
            && fs::symlink_metadata(top.join(path)).is_err()
        {
            copy_up(view, top, path.parent().unwrap_or(Path::new("")))?;
            wanted.push((copy.clone(), path.to_owned()));
        }
        Ok(())
    })?;
    Ok(Some(Links { top: top.to_owned(), copies: copies.into_values().collect(), wanted }))
}

/// Lets the union copy a directory up, by setting the mode that it has.
fn copy_up(view: &Path, top: &Path, dir: &Path) -> io::Result<()> {
    match top.join(dir).is_dir() {
        true => Ok(()),
        false => fs::set_permissions(view.join(dir), fs::metadata(view.join(dir))?.permissions()),
    }
}

impl Links {
    /// Makes the links, in the branch itself: nothing is mounted on it any more. Then the copies' own names go.
    pub fn make(self) -> io::Result<()> {
        for (copy, name) in &self.wanted {
            let parent = Dir::open(self.top.join(name).parent().unwrap_or(&self.top))?;
            let before = Stat::of_fd(&parent)?;
            fs::hard_link(copy, self.top.join(name))?;
            // The directory did not change for those who look at it.
            strata_sys::tree::set_times_of(&parent, Some(before.accessed), Some(before.modified))?;
        }
        for copy in &self.copies {
            for name in NLINK {
                // Where there are no such attributes, there is none to remove.
                let _ = xattr::remove(copy, name);
            }
            fs::remove_file(copy)?;
        }
        Ok(())
    }
}

/// Calls `visit` with the path, relative to `root`, of everything below it that is no directory; AUFS's own folders left out.
fn each(root: &Path, mut visit: impl FnMut(&Path, &fs::Metadata) -> io::Result<()>) -> io::Result<()> {
    let mut left = vec![PathBuf::new()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(root.join(&dir))? {
            let entry = entry?;
            let path = dir.join(entry.file_name());
            let meta = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result?,
            };
            if !meta.is_dir() {
                visit(&path, &meta)?;
            } else if !entry.file_name().to_string_lossy().starts_with(META_PREFIX) {
                left.push(path);
            }
        }
    }
    Ok(())
}
