//! A layer's files, wherever they lie.
//!
//! A [`Tree`] leads to its root [`Directory`], and each directory to those in it. A name is one component and is never followed when it
//! is a symbolic link. Today every tree is a directory that the kernel shows: [`DirTree`], or simply a path.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex},
};

use rustix::fs::{FileType, OFlags, fstat};
use strata_sys::{
    tree::{Dir, Entry, Kind, Stat, proc_path},
    xattr,
};

/// As many symbolic links as the kernel follows in one path.
const LINKS_MAX: usize = 40;

/// The files of one layer, or of one whole root filesystem.
///
/// What it stands on, such as a mount, lives as long as the tree. Directories and files that were opened from it must not outlive it.
pub trait Tree: Send + Sync {
    /// Opens the root.
    fn root(&self) -> io::Result<Arc<dyn Directory>>;

    /// The path of the root that messages name.
    fn path(&self) -> &Path;
}

/// One directory of a tree.
pub trait Directory: Send + Sync {
    /// Returns the entries but `.` and `..`, in no order.
    fn entries(&self) -> io::Result<Vec<Entry>>;

    /// Returns the attributes of `name`, of a link itself; the empty name asks of this directory.
    fn stat(&self, name: &OsStr) -> io::Result<Stat>;

    /// Opens the directory `name`.
    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Directory>>;

    /// Opens the file `name` for reading. Does not wait for a writer if it is a FIFO.
    fn open_file(&self, name: &OsStr) -> io::Result<Box<dyn File>>;

    /// Opens the regular file `path` for reading, with this directory as `/`: symbolic links and `..` lead nowhere else. The last
    /// component is not followed.
    ///
    /// Fails with `InvalidInput` if it is no regular file, and with `ELOOP` where the last component or more than 40 others are links.
    /// [`resolve`] does this for directories that the kernel does not show.
    fn open_in_root(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Returns the text of the symbolic link `name`.
    fn read_link(&self, name: &OsStr) -> io::Result<OsString>;

    /// Returns the names of the extended attributes of `name`, in no order; the empty name asks of this directory.
    fn xattrs(&self, name: &OsStr) -> io::Result<Vec<OsString>>;

    /// Returns the extended attribute `key` of `name`, `None` if it has none; the empty name asks of this directory.
    fn xattr(&self, name: &OsStr, key: &OsStr) -> io::Result<Option<Vec<u8>>>;

    /// Returns whether `name` exists, be it a dangling symbolic link.
    fn exists(&self, name: &OsStr) -> io::Result<bool> {
        match self.stat(name) {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The kernel's descriptor, where there is one.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// One open regular file of a tree; `Read` reads it from its start.
pub trait File: Read + Send {
    /// Reads into `into` from byte `offset` on, and returns how much; zero at the end.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Returns the names of its extended attributes, in no order.
    fn xattrs(&self) -> io::Result<Vec<OsString>>;

    /// Returns the extended attribute `key`; `None` if it has none.
    fn xattr(&self, key: &OsStr) -> io::Result<Option<Vec<u8>>>;

    /// The kernel's descriptor, where there is one: for `copy_file_range` and what else works on descriptors alone.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Returns whether an error says that a name is not there: also below a file, and where the filesystem holds no name so long.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename)
}

/// A directory that the kernel shows, with what it stands on.
pub struct DirTree {
    path: PathBuf,
    /// Dropped with the tree. In a mutex because a guard need not be `Sync`.
    _stands_on: Option<Mutex<Box<dyn Send>>>,
}

impl DirTree {
    /// The tree below `path`, which must be there when the tree is read.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), _stands_on: None }
    }

    /// The tree below `path`, which is there while `guard` lives.
    pub fn on(path: impl Into<PathBuf>, guard: impl Send + 'static) -> Self {
        Self { path: path.into(), _stands_on: Some(Mutex::new(Box::new(guard))) }
    }
}

impl Tree for DirTree {
    fn root(&self) -> io::Result<Arc<dyn Directory>> {
        self.path.root()
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for DirTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DirTree").field(&self.path).finish()
    }
}

impl Tree for Path {
    fn root(&self) -> io::Result<Arc<dyn Directory>> {
        Ok(Arc::new(Dir::open(self)?))
    }

    fn path(&self) -> &Path {
        self
    }
}

impl Tree for PathBuf {
    fn root(&self) -> io::Result<Arc<dyn Directory>> {
        self.as_path().root()
    }

    fn path(&self) -> &Path {
        self
    }
}

impl<T: Tree + ?Sized> Tree for Arc<T> {
    fn root(&self) -> io::Result<Arc<dyn Directory>> {
        (**self).root()
    }

    fn path(&self) -> &Path {
        (**self).path()
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

impl Directory for Dir {
    fn entries(&self) -> io::Result<Vec<Entry>> {
        Dir::entries(self)
    }

    fn stat(&self, name: &OsStr) -> io::Result<Stat> {
        Dir::stat(self, name)
    }

    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Directory>> {
        Ok(Arc::new(Dir::open_dir(self, name)?))
    }

    fn open_file(&self, name: &OsStr) -> io::Result<Box<dyn File>> {
        Ok(Box::new(Dir::open_file(self, name)?))
    }

    fn open_in_root(&self, path: &Path) -> io::Result<Box<dyn File>> {
        // A pipe must not wait for its other end, and a terminal must not become this process's own.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = Dir::open_in_root(self, path, flags, 0)?;
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(Box::new(fs::File::from(file))),
            _ => Err(not_regular()),
        }
    }

    fn read_link(&self, name: &OsStr) -> io::Result<OsString> {
        Dir::read_link(self, name)
    }

    fn xattrs(&self, name: &OsStr) -> io::Result<Vec<OsString>> {
        match name.is_empty() {
            true => xattr::list_of(self),
            false => xattr::list(Path::new(&proc_path(self)).join(name)),
        }
    }

    fn xattr(&self, name: &OsStr, key: &OsStr) -> io::Result<Option<Vec<u8>>> {
        match name.is_empty() {
            true => xattr::get_of(self, key),
            false => xattr::get(Path::new(&proc_path(self)).join(name), key),
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

impl File for fs::File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn xattrs(&self) -> io::Result<Vec<OsString>> {
        xattr::list_of(self)
    }

    fn xattr(&self, key: &OsStr) -> io::Result<Option<Vec<u8>>> {
        xattr::get_of(self, key)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// Opens the regular file at `path` below `root` component by component, by the rules of [`Directory::open_in_root`].
pub fn resolve(root: &Arc<dyn Directory>, path: &Path) -> io::Result<Box<dyn File>> {
    let mut above: Vec<Arc<dyn Directory>> = vec![Arc::clone(root)];
    let mut pending: VecDeque<OsString> = components(path);
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            above.truncate((above.len() - 1).max(1));
            continue;
        }
        let here = Arc::clone(above.last().expect("the root is never taken off"));
        match (here.stat(&name)?.kind, pending.is_empty()) {
            (Kind::File, true) => return here.open_file(&name),
            (Kind::Dir, false) => above.push(here.open_dir(&name)?),
            (Kind::Symlink, false) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                let target = PathBuf::from(here.read_link(&name)?);
                if target.is_absolute() {
                    above.truncate(1);
                }
                let mut next = components(&target);
                next.append(&mut pending);
                pending = next;
            }
            // As with `O_NOFOLLOW`: the last component is not followed.
            (Kind::Symlink, true) => return Err(rustix::io::Errno::LOOP.into()),
            (_, true) => return Err(not_regular()),
            (_, false) => return Err(io::ErrorKind::NotADirectory.into()),
        }
    }
    Err(not_regular())
}

/// The components of a path but `/` and `.`; `..` stays.
fn components(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| OsStr::from_bytes(part.as_os_str().as_bytes()).to_owned()).collect()
}
