//! Whether a layer's directory has every entry of the layer's tar: kind, mode, owner, target, whiteouts.
//!
//! The tar is read from its record alone, with zeros for the files' contents, which are checked elsewhere.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use strata_archive::{
    Limits, Marks,
    split::{Record, Unpacker},
    tar::{Header, Kind as Entry, Reader},
};
use strata_sys::{
    tree::{Device, Dir, Kind, Stat},
    xattr,
};
use strata_tree::marks::{
    Mark,
    aufs::{self, OPAQUE},
    overlay::{TRUSTED, is_whiteout},
};

/// What is told of one layer, at most; more of the same says nothing new.
const TOLD: usize = 100;

/// Compares `folder` with the tar that `record` (gzip) rebuilds; gives the paths in the layer that differ, and how.
///
/// `owner` is added to what the tar says of users and groups: a daemon that remaps users shifts them. A record whose tar cannot be read
/// without the contents (sparse files by old tools) is compared as far as it goes.
/// Where a folder is a whole view, `Marks::None`, what the layer deletes must not be there.
pub(super) fn compare(
    record: impl Read,
    folder: &Path,
    marks: Marks,
    owner: (u32, u32),
) -> io::Result<BTreeMap<PathBuf, String>> {
    let root = Dir::open(folder)?;
    let mut tar = Reader::new(Skeleton::new(record), &Limits::default());
    let mut differ: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut brought: Vec<PathBuf> = Vec::new();
    while let Ok(Some(entry)) = tar.next_entry() {
        let Some(path) = path_of(&entry.header.name) else { continue };
        let name = path.file_name().unwrap_or_default().as_bytes();
        let parent = path.parent().unwrap_or(Path::new(""));
        let (path, reason) = match Mark::of(name) {
            Mark::Plain => {
                brought.push(path.clone());
                (path.clone(), plain(&root, &path, &entry.header, owner))
            }
            Mark::Whiteout(name) => {
                let deleted = parent.join(OsStr::from_bytes(name));
                // A whiteout hides nothing that its own layer brings, so such a file has no mark.
                let reason = whiteout(&root, &deleted, marks).filter(|_| !is_brought(&root, &deleted, &brought));
                (deleted, reason)
            }
            Mark::Opaque => (parent.to_owned(), opaque(&root, parent, marks)),
            Mark::Meta | Mark::Invalid => continue,
        };
        match reason {
            Some(reason) if differ.len() < TOLD => drop(differ.insert(path, reason)),
            Some(_) => break,
            // A later entry of the same name counts.
            None if name != OPAQUE.as_bytes() => drop(differ.remove(&path)),
            None => {}
        }
    }
    Ok(differ)
}

/// Whether one of the entries `brought` is what is at `path`, or lies below it; by a link, too.
fn is_brought(root: &Dir, path: &Path, brought: &[PathBuf]) -> bool {
    let found = stat(root, path);
    let is_it = |entry: &PathBuf| {
        entry.starts_with(path)
            || found.as_ref().is_ok_and(|found| stat(root, entry).is_ok_and(|entry| entry.same_file(found)))
    };
    brought.iter().any(is_it)
}

/// A name out of a tar as a path in the layer; `None` for the root, and for what leads out.
fn path_of(name: &[u8]) -> Option<PathBuf> {
    let parts = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let mut path = PathBuf::new();
    for part in parts {
        if part == b".." {
            return None;
        }
        path.push(OsStr::from_bytes(part));
    }
    (path != Path::new("")).then_some(path)
}

/// What is at a path. Links on the way are followed inside the layer, as they were when its tar was applied.
fn stat(root: &Dir, path: &Path) -> io::Result<Stat> {
    let (dir, name) = place(root, path)?;
    dir.stat(name)
}

fn place<'a>(root: &Dir, path: &'a Path) -> io::Result<(Dir, &'a OsStr)> {
    let name = path.file_name().unwrap_or(OsStr::new("."));
    match path.parent() {
        Some(parent) if parent != Path::new("") => Ok((root.dir_in_root(parent)?, name)),
        _ => Ok((root.open_dir(".")?, name)),
    }
}

fn plain(root: &Dir, path: &Path, header: &Header, owner: (u32, u32)) -> Option<String> {
    let wanted = match header.kind {
        Entry::Global | Entry::Other(_) => return None,
        Entry::HardLink => return hard_link(root, path, header),
        Entry::Regular => Kind::File,
        Entry::Symlink => Kind::Symlink,
        Entry::Char => Kind::CharDevice,
        Entry::Block => Kind::BlockDevice,
        Entry::Dir => Kind::Dir,
        Entry::Fifo => Kind::Fifo,
    };
    let found = match stat(root, path) {
        Ok(found) => found,
        Err(error) => return Some(missing(&error)),
    };
    if found.kind != wanted {
        return Some(format!("is of another kind: {:?}, not {wanted:?}", found.kind));
    }
    let target = || place(root, path).and_then(|(dir, name)| dir.read_link(name));
    if wanted == Kind::Symlink && target().is_ok_and(|target| target.as_bytes() != header.link) {
        return Some(format!("leads elsewhere, not to {:?}", String::from_utf8_lossy(&header.link)));
    }
    let owned = (header.uid.wrapping_add(owner.0), header.gid.wrapping_add(owner.1));
    if (found.uid, found.gid) != owned {
        return Some(format!("belongs to {}:{}, not {}:{}", found.uid, found.gid, owned.0, owned.1));
    }
    let mode = header.mode & 0o7777;
    if wanted != Kind::Symlink && found.mode != mode {
        return Some(format!("has the mode {:04o}, not {mode:04o}", found.mode));
    }
    let device = Device { major: header.dev_major, minor: header.dev_minor };
    let is_device = matches!(wanted, Kind::CharDevice | Kind::BlockDevice);
    (is_device && found.rdev != device).then(|| "stands for another device".to_owned())
}

fn hard_link(root: &Dir, path: &Path, header: &Header) -> Option<String> {
    let found = match stat(root, path) {
        Ok(found) => found,
        Err(error) => return Some(missing(&error)),
    };
    let target = path_of(&header.link)?;
    match stat(root, &target) {
        Ok(target) if target.same_file(&found) => None,
        Ok(_) => Some(format!("is no other name of {} any more", target.display())),
        // Found at the target.
        Err(_) => None,
    }
}

fn whiteout(root: &Dir, path: &Path, marks: Marks) -> Option<String> {
    let gone = || Some("the whiteout is gone: what it deleted shows again".to_owned());
    match marks {
        Marks::Aufs | Marks::Mixed => {
            let name = aufs::whiteout_name(path.file_name().unwrap_or_default());
            if stat(root, &path.with_file_name(name)).is_ok() { None } else { gone() }
        }
        Marks::None => match stat(root, path) {
            Ok(_) => Some("is there, though the layer deletes it".to_owned()),
            Err(_) => None,
        },
        Marks::Overlay => match stat(root, path) {
            Ok(found) if is_whiteout(&found) => None,
            // Of the second form, which other tools write.
            Ok(found) if found.kind == Kind::File && found.size == 0 => None,
            Ok(_) => Some("is no whiteout any more: what it deleted shows again".to_owned()),
            Err(_) => gone(),
        },
    }
}

fn opaque(root: &Dir, path: &Path, marks: Marks) -> Option<String> {
    let dir = || if path == Path::new("") { root.open_dir(".") } else { root.dir_in_root(path) };
    let marked = match marks {
        // What it hid is not there; what is, other entries tell.
        Marks::None => true,
        Marks::Aufs | Marks::Mixed => stat(root, &path.join(OPAQUE)).is_ok(),
        Marks::Overlay => {
            let mark = dir().and_then(|dir| xattr::get_of(&dir, TRUSTED.opaque));
            mark.is_ok_and(|mark| mark.as_deref() == Some(b"y"))
        }
    };
    (!marked).then(|| "the directory is not opaque any more: what it replaced shows again".to_owned())
}

fn missing(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "the file is gone".to_owned(),
        _ => format!("cannot be looked at: {error}"),
    }
}

/// A tar with zeros for its files' contents.
struct Skeleton<R> {
    records: Unpacker<R>,
    segment: Vec<u8>,
    at: usize,
    zeros: u64,
}

impl<R: Read> Skeleton<R> {
    fn new(record: R) -> Self {
        Self { records: Unpacker::new(record), segment: Vec::new(), at: 0, zeros: 0 }
    }
}

impl<R: Read> Read for Skeleton<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = &self.segment[self.at..];
            if !left.is_empty() {
                let len = left.len().min(into.len());
                into[..len].copy_from_slice(&left[..len]);
                self.at += len;
                return Ok(len);
            }
            if self.zeros > 0 {
                let len = usize::try_from(self.zeros).map_or(into.len(), |zeros| zeros.min(into.len()));
                into[..len].fill(0);
                self.zeros -= len as u64;
                return Ok(len);
            }
            match self.records.next_record().map_err(io::Error::other)? {
                Some(Record::Segment(bytes)) => {
                    self.segment.clear();
                    self.segment.extend_from_slice(bytes);
                    self.at = 0;
                }
                Some(Record::File(file)) => self.zeros = file.size,
                None => return Ok(0),
            }
        }
    }
}
