//! The folder being filled: every path is resolved under its descriptor, and no symbolic link is followed on the way.

use std::{collections::HashMap, ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use rustix::{fs::OFlags, io::Errno};
use strata_sys::tree::{Dir, Kind};

/// Directories kept open. A tar comes directory by directory, so few are enough, and a process has 1,024 descriptors.
const OPEN: usize = 64;

/// Finds directories.
pub(super) struct Folder {
    root: Arc<Dir>,
    /// The directory of the last question, which most often is that of the next one too.
    last: Option<(Vec<u8>, Arc<Dir>)>,
    open: HashMap<Vec<u8>, (Arc<Dir>, u64)>,
    clock: u64,
}

/// Why a directory was not found.
#[derive(Debug)]
pub(super) enum Lost {
    /// It is not there.
    Missing,
    /// `0` is a symbolic link or a file: nothing can lie under it.
    Blocked(Vec<u8>, Kind),
    Failed(io::Error),
}

impl Folder {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { root: Arc::new(Dir::open(path)?), last: None, open: HashMap::new(), clock: 0 })
    }

    pub fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    /// Returns the directory at `path`, which is clean.
    pub fn dir(&mut self, path: &[u8]) -> Result<Arc<Dir>, Lost> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some((last, dir)) = &self.last
            && last == path
        {
            return Ok(dir.clone());
        }
        self.clock += 1;
        let dir = match self.open.get_mut(path) {
            Some((dir, used)) => {
                *used = self.clock;
                dir.clone()
            }
            None => self.look_up(path)?,
        };
        self.last = Some((path.to_vec(), dir.clone()));
        Ok(dir)
    }

    /// Forgets all open directories: one of them may have been replaced.
    pub fn forget(&mut self) {
        self.last = None;
        self.open.clear();
    }

    fn look_up(&mut self, path: &[u8]) -> Result<Arc<Dir>, Lost> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let dir = match self.root.open_beneath(OsStr::from_bytes(path), flags, 0) {
            Ok(fd) => Arc::new(Dir::from(fd)),
            Err(error) => {
                return Err(match Errno::from_io_error(&error) {
                    Some(Errno::NOENT) => Lost::Missing,
                    Some(Errno::LOOP | Errno::NOTDIR) => self.blame(path).unwrap_or(Lost::Failed(error)),
                    _ => Lost::Failed(error),
                });
            }
        };
        if self.open.len() >= OPEN {
            let oldest = self.open.iter().min_by_key(|(_, (_, used))| *used).map(|(path, _)| path.clone());
            if let Some(oldest) = oldest {
                self.open.remove(&oldest);
            }
        }
        self.open.insert(path.to_vec(), (dir.clone(), self.clock));
        Ok(dir)
    }

    /// Finds which part of `path` is not a directory.
    fn blame(&self, path: &[u8]) -> Option<Lost> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let part = &path[..end];
            let handle =
                self.root.open_beneath(OsStr::from_bytes(part), OFlags::PATH | OFlags::NOFOLLOW, 0).map(Dir::from);
            let kind = match handle.and_then(|handle| strata_sys::tree::Stat::of_fd(&handle)) {
                Ok(stat) => stat.kind,
                // Resolving without links refuses even to name one, if it comes last.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => Kind::Symlink,
                Err(_) => return None,
            };
            if kind != Kind::Dir {
                return Some(Lost::Blocked(part.to_vec(), kind));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_found_and_links_never_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("a/b/c")).unwrap();
        std::fs::write(temp.path().join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("a", temp.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/", temp.path().join("a/out")).unwrap();
        let mut folder = Folder::open(temp.path()).unwrap();
        assert!(folder.dir(b"").is_ok());
        assert!(folder.dir(b"a/b/c").is_ok());
        assert!(folder.dir(b"a/b/c").unwrap().stat("../../file").is_ok());
        assert!(matches!(folder.dir(b"a/none"), Err(Lost::Missing)));
        for (path, at, found) in [
            ("link", "link", Kind::Symlink),
            ("link/b", "link", Kind::Symlink),
            ("a/out/etc", "a/out", Kind::Symlink),
            ("a/file/x", "a/file", Kind::File),
        ] {
            match folder.dir(path.as_bytes()) {
                Err(Lost::Blocked(part, kind)) => assert_eq!((part.as_slice(), kind), (at.as_bytes(), found)),
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn few_directories_stay_open() {
        let temp = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(temp.path()).unwrap();
        for n in 0..3 * OPEN {
            let name = format!("d{n}");
            std::fs::create_dir(temp.path().join(&name)).unwrap();
            folder.dir(name.as_bytes()).unwrap();
        }
        assert!(folder.open.len() <= OPEN);
        folder.forget();
        assert!(folder.dir(b"d0").is_ok());
    }
}
