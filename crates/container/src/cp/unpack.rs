//! A tar onto a tree that is there already.
//!
//! Files replace files; a directory is never replaced by anything else, nor anything else by a directory. Every entry's folder
//! is resolved in the tree anew, so that no link, of the archive or of the tree, leads out of it.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use strata_archive::{
    Limits,
    tar::{Entry, Header, Kind as EntryKind, Reader},
};
use strata_durable::Context;
use strata_sys::{
    tree::{Device, Dir, Kind, Time, proc_path},
    xattr,
};

use super::view::View;
use crate::{Error, in_root::make_dir};

/// Whose the new files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// As the archive says.
    Archive,
    /// Of whoever runs this.
    Caller,
    Of(u32, u32),
}

/// Unpacks the plain tar `input` into the directory `dir` of the tree, which is resolved.
pub(super) fn unpack(input: impl Read, view: &View, dir: &Path, owner: Owner) -> Result<(), Error> {
    let mut tar = Reader::new(input, &Limits::default());
    let mut unpacker = Unpacker { view, top: dir, owner, parent: None, dirs: Vec::new() };
    while let Some(entry) = tar.next_entry()? {
        unpacker.entry(&entry, &mut tar)?;
    }
    // What follows the end is read, so that whoever writes it is not cut off.
    while !tar.trailing()?.is_empty() {}
    unpacker.finish()
}

struct Unpacker<'a> {
    view: &'a View,
    top: &'a Path,
    owner: Owner,
    /// The folder of the last entry, by its path in the archive.
    parent: Option<(PathBuf, Dir)>,
    /// Directories, whose times are set when nothing more is put into them.
    dirs: Vec<(PathBuf, strata_archive::tar::Time)>,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, tar: &mut Reader<R>) -> Result<(), Error> {
        let header = &entry.header;
        if header.kind == EntryKind::Global {
            return Ok(());
        }
        let refuse = |reason: &str| {
            Error::from(strata_archive::Error::Refused {
                entry: entry.display_name().into_owned(),
                reason: reason.to_owned(),
            })
        };
        let path = plain(&header.name).ok_or_else(|| refuse("it leads out of the directory"))?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            // The directory itself is there, and stays as it is.
            return Ok(());
        };
        let dir = self.parent_of(&path)?;
        let full = self.top.join(&path);
        let io = |error: io::Error, action: &'static str| -> Error {
            strata_archive::Error::Entry { action, entry: full.display().to_string(), source: error }.into()
        };
        let make_room = self.make_room(&dir, &name, header, &full)?;
        match header.kind {
            EntryKind::Dir => {
                if make_room {
                    make_dir(&dir, &name, 0o700).map_err(|e| io(e, "make"))?;
                }
                self.dirs.push((path.clone(), header.mtime));
            }
            EntryKind::Regular => write_file(&dir, &name, entry, tar).map_err(|e| match e {
                Failure::Io(e) => io(e, "write"),
                Failure::Archive(e) => e.into(),
            })?,
            EntryKind::Symlink => {
                dir.symlink(OsStr::from_bytes(&header.link), &name).map_err(|e| io(e, "make"))?;
            }
            EntryKind::HardLink => {
                let target = plain(&header.link).ok_or_else(|| refuse("its link leads out of the directory"))?;
                let target_name = target.file_name().ok_or_else(|| refuse("it links to a directory"))?.to_owned();
                let from = self.parent_of(&target)?;
                from.hard_link(target_name, &dir, &name).map_err(|e| io(e, "link"))?;
                return Ok(());
            }
            EntryKind::Char | EntryKind::Block | EntryKind::Fifo => {
                let kind = match header.kind {
                    EntryKind::Char => Kind::CharDevice,
                    EntryKind::Block => Kind::BlockDevice,
                    _ => Kind::Fifo,
                };
                let device = Device { major: header.dev_major, minor: header.dev_minor };
                dir.create_node(&name, kind, header.mode & 0o7777, device).map_err(|e| io(e, "make"))?;
            }
            EntryKind::Global | EntryKind::Other(_) => return Err(refuse("no file is of its type")),
        }
        self.dress(&dir, &name, header).map_err(|e| io(e, "set owner, mode or times of"))
    }

    /// Opens the folder of `path`, which is relative, making what is missing of it.
    fn parent_of(&mut self, path: &Path) -> Result<Dir, Error> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some((at, dir)) = &self.parent
            && at == parent
        {
            return Ok(dir.try_clone().context("open", parent)?);
        }
        let full = self.top.join(parent);
        let dir = self.open_or_make(&full).context("open", &full)?;
        self.parent = Some((parent.to_owned(), dir.try_clone().context("open", parent)?));
        Ok(dir)
    }

    fn open_or_make(&self, path: &Path) -> io::Result<Dir> {
        let mut found = PathBuf::from("/");
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let next = self.view.resolve(&found.join(name), true)?;
            match self.view.stat(&next) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let (dir, name) = self.view.locate(&next)?;
                    make_dir(&dir, name, 0o755)?;
                }
                Ok(stat) if stat.kind != Kind::Dir => return Err(io::ErrorKind::NotADirectory.into()),
                other => drop(other?),
            }
            found = next;
        }
        self.view.dir(&found)
    }

    /// Removes what stands under the name; `false` if a directory may stay for a directory.
    fn make_room(&self, dir: &Dir, name: &OsString, header: &Header, full: &Path) -> Result<bool, Error> {
        let stat = match dir.stat(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            result => result.context("look at", full)?,
        };
        match (stat.kind == Kind::Dir, header.kind == EntryKind::Dir) {
            (true, true) => Ok(false),
            (true, false) => {
                let (full, name) = (full.display().to_string(), String::from_utf8_lossy(&header.name));
                Err(Error::conflict(format!("cannot overwrite directory {full:?} with non-directory {name:?}")))
            }
            (false, true) => {
                let (full, name) = (full.display().to_string(), String::from_utf8_lossy(&header.name));
                Err(Error::conflict(format!("cannot overwrite non-directory {full:?} with directory {name:?}")))
            }
            (false, false) => {
                dir.remove_file(name).context("replace", full)?;
                Ok(true)
            }
        }
    }

    /// Sets owner, mode, attributes and times, in the order in which none undoes another.
    fn dress(&self, dir: &Dir, name: &OsString, header: &Header) -> io::Result<()> {
        match self.owner {
            Owner::Archive => dir.set_owner(name, header.uid, header.gid)?,
            Owner::Of(uid, gid) => dir.set_owner(name, uid, gid)?,
            Owner::Caller => {}
        }
        if header.kind == EntryKind::Symlink {
            return dir.set_times(name, None, Some(time(header.mtime)));
        }
        dir.set_mode(name, header.mode & 0o7777)?;
        if !header.xattrs.is_empty() {
            let handle = dir.open_handle(name)?;
            let path = PathBuf::from(proc_path(&handle));
            for (attribute, value) in &header.xattrs {
                match xattr::set(&path, OsStr::from_bytes(attribute), value) {
                    // The filesystem of the other side may have none.
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                    result => result?,
                }
            }
        }
        dir.set_times(name, None, Some(time(header.mtime)))
    }

    fn finish(mut self) -> Result<(), Error> {
        for (path, modified) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let Some(name) = path.file_name() else { continue };
            let dir = self.parent_of(&path)?;
            dir.set_times(name, None, Some(time(modified))).context("set the time of", &path)?;
        }
        Ok(())
    }
}

enum Failure {
    Io(io::Error),
    Archive(strata_archive::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn write_file<R: Read>(dir: &Dir, name: &OsString, entry: &Entry, tar: &mut Reader<R>) -> Result<(), Failure> {
    let mut file = dir.create_file(name, 0o600)?;
    let mut extents = entry.sparse.iter().flatten().map(|extent| (extent.offset, extent.len));
    let mut room = match &entry.sparse {
        None => u64::MAX,
        Some(_) => 0,
    };
    loop {
        let mut chunk = tar.content().map_err(Failure::Archive)?;
        if chunk.is_empty() {
            break;
        }
        while !chunk.is_empty() {
            while room == 0 {
                // Extents add up to the stored bytes: there is one more as long as there is content.
                let Some((offset, len)) = extents.next() else {
                    return Err(io::Error::from(io::ErrorKind::InvalidData).into());
                };
                io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
                room = len;
            }
            let now = usize::try_from(room).unwrap_or(usize::MAX).min(chunk.len());
            file.write_all(&chunk[..now])?;
            room -= now as u64;
            chunk = &chunk[now..];
        }
    }
    if entry.sparse.is_some() {
        file.set_len(entry.header.size)?;
    }
    Ok(())
}

fn time(time: strata_archive::tar::Time) -> Time {
    Time { secs: time.secs, nanos: time.nanos }
}

/// A name in an archive as a path without `.` and leading slashes; `None` if a `..` leads out.
fn plain(name: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if !path.pop() => return None,
            _ => {}
        }
    }
    Some(path)
}
