//! Removing a whole tree.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};

use super::{Dir, Entry, Kind, Stat, errno_of};
use crate::{StepContext, errno};

/// Directories on the way down that stay open. Deeper trees close the upper ones, and come back through `..`.
const OPEN_AT_ONCE: usize = 64;

/// How often a directory is read again because something appeared in it while it was emptied.
const ROUNDS: u32 = 8;

/// Removes `name` in `parent` and, if it is a directory, all below it.
///
/// Goes by descriptors alone: no link is followed, and no mount entered (something mounted below is an error that names it, with
/// the rest of the tree still there). Takes bounded memory for any depth. What others delete at the same time is fine, and a
/// `name` that is not there is no error. Directories whose owner lacks the right to list them get it first.
pub fn remove_tree(parent: &Dir, name: &Path) -> io::Result<()> {
    match parent.remove_file(name) {
        Ok(()) => return Ok(()),
        Err(error) => match errno_of(error) {
            Errno::NOENT => return Ok(()),
            // Linux says EISDIR of a directory; POSIX allows EPERM.
            Errno::ISDIR | Errno::PERM => {}
            errno => return Err(errno).step(|| format!("remove {}", name.display())),
        },
    }
    match parent.stat(name) {
        Ok(stat) if stat.kind == Kind::Dir => {}
        Ok(_) => return Err(Errno::PERM).step(|| format!("remove {}", name.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).step(|| format!("remove {}", name.display())),
    }
    let Some(top) = Level::enter(parent, name.as_os_str())? else { return Ok(()) };
    let mut walk = Walk { parent, levels: vec![top] };
    while !walk.levels.is_empty() {
        walk.step().step(|| format!("remove {}", walk.path().display()))?;
    }
    Ok(())
}

/// The directories from the top of the tree down to the one being emptied.
struct Walk<'a> {
    parent: &'a Dir,
    levels: Vec<Level>,
}

struct Level {
    name: OsString,
    /// Absent while more than [`OPEN_AT_ONCE`] levels are below.
    dir: Option<Dir>,
    /// Proves that coming back through `..` led here.
    stat: Stat,
    /// Directories found here and not yet removed.
    pending: Vec<OsString>,
    rounds: u32,
}

impl Walk<'_> {
    /// Goes one directory down, or removes the lowest one and goes up.
    fn step(&mut self) -> io::Result<()> {
        let depth = self.levels.len();
        let level = self.levels.last_mut().expect("step is called while there are levels");
        let dir = level.dir.as_ref().expect("the lowest level is open");
        if let Some(name) = level.pending.pop() {
            if let Some(below) = Level::enter(dir, &name)? {
                if depth >= OPEN_AT_ONCE {
                    self.levels[depth - OPEN_AT_ONCE].dir = None;
                }
                self.levels.push(below);
            }
            return Ok(());
        }
        self.reopen_above()?;
        let above = match depth {
            1 => self.parent,
            _ => self.levels[depth - 2].dir.as_ref().expect("reopened just now"),
        };
        match above.remove_dir(&self.levels[depth - 1].name) {
            Ok(()) => {}
            Err(error) => match errno_of(error) {
                Errno::NOENT => {}
                Errno::NOTEMPTY | Errno::EXIST => return self.levels[depth - 1].fill(),
                errno => return Err(errno.into()),
            },
        }
        self.levels.pop();
        Ok(())
    }

    /// Opens the level above the lowest one again, if it was closed.
    fn reopen_above(&mut self) -> io::Result<()> {
        let [.., above, lowest] = self.levels.as_mut_slice() else { return Ok(()) };
        if above.dir.is_some() {
            return Ok(());
        }
        let dir = lowest.dir.as_ref().expect("the lowest level is open").open_dir("..")?;
        if !Stat::of_fd(&dir)?.same_file(&above.stat) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the tree was moved while it was removed"));
        }
        above.dir = Some(dir);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        // A path of a million components helps nobody.
        self.levels.iter().take(OPEN_AT_ONCE).map(|level| level.name.as_os_str()).collect()
    }
}

impl Level {
    /// Opens the directory `name` and removes all files in it; `None` if it is gone.
    fn enter(above: &Dir, name: &OsStr) -> io::Result<Option<Self>> {
        let dir = match open(above, name) {
            Ok(dir) => dir,
            Err(error) => match errno(&error) {
                Some(libc::ENOENT) => return Ok(None),
                // A link or file took its place: that name is not ours to follow, only to remove.
                Some(libc::ENOTDIR | libc::ELOOP) => return above.remove_file(name).map(|()| None),
                Some(libc::EXDEV) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ResourceBusy,
                        format!("{} is a mount point; unmount it first", name.display()),
                    ));
                }
                _ => return Err(error),
            },
        };
        let stat = Stat::of_fd(&dir)?;
        let mut level = Self { name: name.to_owned(), dir: Some(dir), stat, pending: Vec::new(), rounds: 0 };
        level.fill().step(|| format!("empty {}", name.display()))?;
        Ok(Some(level))
    }

    /// Reads the directory: removes its files, and keeps its directories for later.
    fn fill(&mut self) -> io::Result<()> {
        self.rounds += 1;
        if self.rounds > ROUNDS {
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "new files keep appearing in it"));
        }
        let dir = self.dir.as_ref().expect("the lowest level is open");
        for Entry { name, kind, .. } in dir.entries()? {
            if kind == Kind::Dir {
                self.pending.push(name);
                continue;
            }
            match dir.remove_file(&name) {
                Ok(()) => {}
                Err(error) => match errno_of(error) {
                    Errno::NOENT => {}
                    Errno::ISDIR => self.pending.push(name),
                    errno => return Err(errno).step(|| name.display().to_string()),
                },
            }
        }
        Ok(())
    }
}

/// Opens a directory for listing, without crossing into another mount.
fn open(above: &Dir, name: &OsStr) -> io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match above.resolve(Path::new(name), flags, 0, resolve) {
        Ok(fd) => Ok(fd.into()),
        Err(error) if errno(&error) == Some(libc::EACCES) => {
            above.set_mode(name, 0o700)?;
            Ok(above.resolve(Path::new(name), flags, 0, resolve)?.into())
        }
        Err(error) if errno(&error) == Some(libc::ENOSYS) => {
            let flags = flags | OFlags::CLOEXEC;
            let dir = rustix::fs::openat(above.as_fd(), name, flags, Mode::empty()).map(Dir::from)?;
            match Stat::of_fd(&dir)?.dev == above.stat("")?.dev {
                true => Ok(dir),
                false => Err(Errno::XDEV.into()),
            }
        }
        Err(error) => Err(error),
    }
}
