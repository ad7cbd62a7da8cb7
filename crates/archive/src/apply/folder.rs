//! The directory being filled: every path is resolved under its descriptor, and the kernel follows no symbolic link on the way.
//!
//! Links are followed here, one by one, with the layer's directory as `/`: see [`Folder::real`].

use std::{collections::HashMap, ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use rustix::{fs::OFlags, io::Errno};
use strata_sys::tree::{Device, Dir, Kind, Stat};

use super::name::Inside;

/// Symbolic links that are followed on the way to one path, as many as the kernel follows.
const LINKS: usize = 40;

/// Parts of paths that are looked at behind the first link on the way to one path: each costs a walk from the layer's directory.
const PARTS: usize = 512;

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
    /// This part of the path is a symbolic link.
    Link,
    /// This part of the path is a whiteout, as overlayfs has it.
    Whiteout,
    /// This part of the path is a file: nothing can lie under it.
    Blocked(Vec<u8>),
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

    /// Returns the path of what `path` names once every symbolic link in it is followed, and the links, each by its own real path.
    ///
    /// The layer's directory is the root for absolute targets and for `..`. What does not exist stays as it is named.
    pub fn real(&self, path: &Inside) -> io::Result<(Inside, Vec<Inside>)> {
        let parts = |path: &[u8]| path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect::<Vec<_>>();
        let (mut real, mut links, mut todo) = (Inside::default(), Vec::new(), parts(path.bytes()));
        let mut looked = 0;
        while let Some(part) = todo.pop() {
            looked += 1;
            if !links.is_empty() && looked > PARTS {
                return Err(Errno::LOOP.into());
            }
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    // As the kernel does, by whose rules the content is found again: up only from a directory that is there.
                    if !real.bytes().is_empty() {
                        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                        self.root.open_beneath(OsStr::from_bytes(real.bytes()), flags, 0)?;
                    }
                    real = real.parent();
                    continue;
                }
                _ => {}
            }
            let next = real.child(&part);
            match self.link_target(&next)? {
                None => real = next,
                Some(_) if links.len() == LINKS => return Err(Errno::LOOP.into()),
                Some(target) => {
                    links.push(next);
                    if target.starts_with(b"/") {
                        real = Inside::default();
                    }
                    todo.extend(parts(&target));
                }
            }
        }
        Ok((real, links))
    }

    /// Where the symbolic link at `path` points; `None` if there is none.
    pub fn link_target(&self, path: &Inside) -> io::Result<Option<Vec<u8>>> {
        let (dir, name) = path.split();
        let dir = match dir {
            b"" => self.root.clone(),
            dir => match self.root.open_beneath(OsStr::from_bytes(dir), OFlags::PATH | OFlags::DIRECTORY, 0) {
                Ok(fd) => Arc::new(Dir::from(fd)),
                Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NOTDIR)) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            },
        };
        match dir.read_link(OsStr::from_bytes(name)) {
            Ok(target) => Ok(Some(target.into_encoded_bytes())),
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::INVAL)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finds which part of `path` is not a directory.
    fn blame(&self, path: &[u8]) -> Option<Lost> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let part = &path[..end];
            let handle =
                self.root.open_beneath(OsStr::from_bytes(part), OFlags::PATH | OFlags::NOFOLLOW, 0).map(Dir::from);
            match handle.and_then(|handle| Stat::of_fd(&handle)) {
                Ok(Stat { kind: Kind::Dir, .. }) => {}
                Ok(Stat { kind: Kind::Symlink, .. }) => return Some(Lost::Link),
                Ok(Stat { kind: Kind::CharDevice, rdev, .. }) if rdev == Device::default() => {
                    return Some(Lost::Whiteout);
                }
                Ok(_) => return Some(Lost::Blocked(part.to_vec())),
                // Resolving without links refuses even to name one, if it comes last.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => return Some(Lost::Link),
                Err(_) => return None,
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
        for path in ["link", "link/b", "a/out/etc"] {
            assert!(matches!(folder.dir(path.as_bytes()), Err(Lost::Link)), "{path}");
        }
        match folder.dir(b"a/file/x") {
            Err(Lost::Blocked(part)) => assert_eq!(part, b"a/file"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn links_are_followed_inside_the_directory() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("usr/lib/deep")).unwrap();
        for (link, target) in [
            ("lib", "usr/lib"),
            ("abs", "/lib"),
            ("climbs", "../../../usr"),
            ("usr/lib/up", "deep/../../lib"),
            ("dangling", "/run/none"),
            ("loop", "loop"),
        ] {
            std::os::unix::fs::symlink(target, temp.path().join(link)).unwrap();
        }
        let folder = Folder::open(temp.path()).unwrap();
        let inside = |path: &str| Inside::parse(path.as_bytes()).unwrap();
        for (path, real, links) in [
            ("usr/lib/deep", "usr/lib/deep", &[][..]),
            ("lib/deep/x", "usr/lib/deep/x", &["lib"]),
            ("abs/deep", "usr/lib/deep", &["abs", "lib"]),
            ("climbs/lib", "usr/lib", &["climbs"]),
            ("lib/up/deep", "usr/lib/deep", &["lib", "usr/lib/up"]),
            ("dangling/a", "run/none/a", &["dangling"]),
        ] {
            let links: Vec<_> = links.iter().map(|link| inside(link)).collect();
            assert_eq!(folder.real(&inside(path)).unwrap(), (inside(real), links), "{path}");
        }
        assert_eq!(folder.real(&inside("loop/x")).unwrap_err().raw_os_error(), Some(40));
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
