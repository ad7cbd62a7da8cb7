//! A tree with other trees mounted into it, without mounting them: paths are resolved by us, link by link.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path, PathBuf},
};

use strata_durable::Context;
use strata_sys::tree::{Dir, Kind, Stat};

use crate::Error;

/// Links that are followed on the way to one path.
const MAX_LINKS: u32 = 40;

/// The root of a container with what is bound into it, or the host's.
pub(super) struct View {
    root: Dir,
    /// Host paths by place in the tree.
    mounts: BTreeMap<PathBuf, PathBuf>,
}

impl View {
    pub fn new(root: Dir, mounts: impl IntoIterator<Item = (PathBuf, PathBuf)>) -> Self {
        Self { root, mounts: mounts.into_iter().collect() }
    }

    pub fn host() -> Result<Self, Error> {
        Ok(Self { root: Dir::open("/").context("open", "/")?, mounts: BTreeMap::new() })
    }

    /// The mount in which `path`, which is resolved, lies.
    pub fn mount_of(&self, path: &Path) -> Option<&Path> {
        path.ancestors().find_map(|at| self.mounts.get_key_value(at)).map(|(at, _)| at.as_path())
    }

    /// Opens the directory `path`, which is resolved: a link on the way is an error.
    pub fn dir(&self, path: &Path) -> io::Result<Dir> {
        let (base, rest) = match self.mount_of(path) {
            Some(at) => (Dir::open(&self.mounts[at])?, path.strip_prefix(at)),
            None => (self.root.try_clone()?, path.strip_prefix("/")),
        };
        match rest {
            Ok(rest) if !rest.as_os_str().is_empty() => base.dir_beneath(rest),
            _ => Ok(base),
        }
    }

    /// The directory that holds `path`, whose parent is resolved, and its name there.
    pub fn locate(&self, path: &Path) -> io::Result<(Dir, OsString)> {
        let of_host = |path: &Path| -> io::Result<(Dir, OsString)> {
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => Ok((Dir::open(parent)?, name.to_owned())),
                _ => Ok((Dir::open(path)?, ".".into())),
            }
        };
        match (self.mounts.get(path), path.parent(), path.file_name()) {
            (Some(source), ..) => of_host(source),
            (None, Some(parent), Some(name)) => Ok((self.dir(parent)?, name.to_owned())),
            _ => Ok((self.root.try_clone()?, ".".into())),
        }
    }

    /// Where `name` in the directory `path`, opened as `dir`, really is, if something is mounted over it.
    pub fn mounted_at(&self, path: &Path) -> Option<io::Result<(Dir, OsString)>> {
        self.mounts.contains_key(path).then(|| self.locate(path))
    }

    /// The names of what is mounted right in the directory `path`.
    pub fn mounts_in<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a OsStr> {
        let inside = self.mounts.keys().filter(move |at| at.parent() == Some(path));
        inside.filter_map(|at| at.file_name())
    }

    /// What is at `path`, whose parent is resolved; a link itself.
    pub fn stat(&self, path: &Path) -> io::Result<Stat> {
        let (dir, name) = self.locate(path)?;
        dir.stat(name)
    }

    /// Returns `path`, taken from the root, without links, `.` and `..`; its last part need not be there, and is followed only
    /// if `follow` is set.
    pub fn resolve(&self, path: &Path, follow: bool) -> io::Result<PathBuf> {
        let mut left: VecDeque<OsString> = parts(path).collect();
        let mut found = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == ".." {
                found.pop();
                continue;
            }
            let next = found.join(&part);
            let stat = match self.stat(&next) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && left.is_empty() => return Ok(next),
                result => result?,
            };
            match stat.kind {
                Kind::Symlink if !left.is_empty() || follow => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(rustix::io::Errno::LOOP.into());
                    }
                    let (dir, name) = self.locate(&next)?;
                    let target = PathBuf::from(dir.read_link(name)?);
                    if target.is_absolute() {
                        found = PathBuf::from("/");
                    }
                    for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                        left.push_front(part);
                    }
                }
                Kind::Dir => found = next,
                _ if left.is_empty() => found = next,
                _ => return Err(io::ErrorKind::NotADirectory.into()),
            }
        }
        Ok(found)
    }
}

/// The parts of a path that move: names and `..`.
fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn paths_stay_inside_and_pass_through_mounts() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, volume) = (scratch.path().join("root"), scratch.path().join("volume"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(volume.join("v")).unwrap();
        fs::create_dir(root.join("mnt")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("/mnt/v", root.join("into")).unwrap();
        symlink("../../../../etc", root.join("climbs")).unwrap();
        symlink("/a/b", volume.join("back")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let view = View::new(Dir::open(&root).unwrap(), [(PathBuf::from("/mnt"), volume)]);
        for (path, follow, found) in [
            ("/", true, "/"),
            ("a/../a/./b", true, "/a/b"),
            ("/../../a", true, "/a"),
            ("into", true, "/mnt/v"),
            ("into", false, "/into"),
            ("into/..", true, "/mnt"),
            ("mnt/back/x", true, "/a/b/x"),
            ("climbs", true, "/etc"),
        ] {
            assert_eq!(view.resolve(Path::new(path), follow).unwrap(), Path::new(found), "{path}");
        }
        assert!(view.dir(Path::new("/mnt/v")).is_ok());
        assert!(view.dir(Path::new("/into")).is_err(), "a resolved path has no links");
        assert_eq!(view.mount_of(Path::new("/mnt/v/x")), Some(Path::new("/mnt")));
        assert_eq!(view.resolve(Path::new("loop"), true).unwrap_err().raw_os_error(), Some(40));
        assert!(view.resolve(Path::new("file/x"), true).is_err());
        assert_eq!(view.resolve(Path::new("gone/x"), true).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
