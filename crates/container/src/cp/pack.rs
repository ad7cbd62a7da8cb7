//! A file or directory as a tar under a name.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use strata_archive::tar::{Header, Kind as EntryKind, Time, Writer};
use strata_durable::Context;
use strata_sys::{
    tree::{Device, Dir, Kind, Stat, proc_path},
    xattr,
};

use super::view::View;
use crate::Error;

/// Bytes read at once.
const CHUNK: usize = 128 << 10;

/// Writes what is at `path`, which is resolved, as a tar whose entries are `name` and what is below it; `.` for the content alone.
pub(super) fn pack(view: &View, path: &Path, name: &OsStr, out: impl Write) -> Result<(), Error> {
    let mut packer = Packer { view, tar: Writer::new(out), links: HashMap::new(), buffer: vec![0; CHUNK] };
    let (dir, file) = view.locate(path).context("find", path)?;
    packer.entry(&dir, &file, path, Path::new(name))?;
    packer.tar.finish()?;
    Ok(())
}

struct Packer<'a, W> {
    view: &'a View,
    tar: Writer<W>,
    /// Names of files that have several, by what they are.
    links: HashMap<(Device, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<'_, W> {
    /// Writes `file` in `dir`, which is at `path` in the tree and gets the name `name`.
    fn entry(&mut self, dir: &Dir, file: &OsStr, path: &Path, name: &Path) -> Result<(), Error> {
        let stat = dir.stat(file).context("look at", path)?;
        let Some(mut header) = header_of(dir, file, &stat, name).context("read", path)? else { return Ok(()) };
        if stat.kind != Kind::Dir && stat.nlink > 1 {
            match self.links.get(&(stat.dev, stat.inode)) {
                Some(first) => {
                    header.kind = EntryKind::HardLink;
                    header.link.clone_from(first);
                    header.size = 0;
                    return Ok(self.tar.header(&header)?);
                }
                None => drop(self.links.insert((stat.dev, stat.inode), header.name.clone())),
            }
        }
        match stat.kind {
            Kind::File => self.file(dir.open_file(file).context("open", path)?, &mut header, path),
            Kind::Dir => {
                self.tar.header(&header)?;
                let opened = if file == "." { dir.try_clone() } else { dir.open_dir(file) };
                self.children(&opened.context("open", path)?, path, name)
            }
            _ => Ok(self.tar.header(&header)?),
        }
    }

    fn children(&mut self, dir: &Dir, path: &Path, name: &Path) -> Result<(), Error> {
        // A mount shows where nothing was there to mount it on.
        let mut names: BTreeSet<OsString> = self.view.mounts_in(path).map(OsStr::to_owned).collect();
        names.extend(dir.entries().context("list", path)?.into_iter().map(|entry| entry.name));
        for entry in names {
            let (child, child_name) = (path.join(&entry), name.join(&entry));
            match self.view.mounted_at(&child) {
                Some(found) => {
                    let (dir, file) = found.context("open", &child)?;
                    self.entry(&dir, &file, &child, &child_name)?;
                }
                None => match self.entry(dir, &entry, &child, &child_name) {
                    // A running container may remove a file between listing and reading.
                    Err(Error::Io(error)) if error.is_not_found() => {}
                    result => result?,
                },
            }
        }
        Ok(())
    }

    fn file(&mut self, mut file: File, header: &mut Header, path: &Path) -> Result<(), Error> {
        // The size that counts is that of what was opened.
        let stat = Stat::of_fd(&file).context("look at", path)?;
        if stat.kind != Kind::File {
            return Err(Error::conflict(format!("{} changed while it was read", path.display())));
        }
        header.size = stat.size;
        self.tar.header(header)?;
        let mut left = stat.size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let got = file.read(&mut self.buffer[..want]).context("read", path)?;
            // One that a running container cut short meanwhile is filled up, so that the rest of the archive is whole.
            let got = if got == 0 { zeros(&mut self.buffer[..want]) } else { got };
            self.tar.content(&self.buffer[..got])?;
            left -= got as u64;
        }
        Ok(())
    }
}

fn zeros(buffer: &mut [u8]) -> usize {
    buffer.fill(0);
    buffer.len()
}

/// Returns the header of a file; `None` for a socket, which no archive holds.
fn header_of(dir: &Dir, file: &OsStr, stat: &Stat, name: &Path) -> io::Result<Option<Header>> {
    let kind = match stat.kind {
        Kind::File => EntryKind::Regular,
        Kind::Dir => EntryKind::Dir,
        Kind::Symlink => EntryKind::Symlink,
        Kind::Fifo => EntryKind::Fifo,
        Kind::CharDevice => EntryKind::Char,
        Kind::BlockDevice => EntryKind::Block,
        Kind::Socket => return Ok(None),
    };
    let mut bytes = name.as_os_str().as_bytes().to_vec();
    if kind == EntryKind::Dir {
        bytes.push(b'/');
    }
    let mut header = Header::new(kind, bytes);
    (header.mode, header.uid, header.gid) = (stat.mode, stat.uid, stat.gid);
    header.mtime = Time { secs: stat.modified.secs, nanos: stat.modified.nanos };
    match stat.kind {
        Kind::Symlink => header.link = dir.read_link(file)?.as_bytes().to_vec(),
        Kind::CharDevice | Kind::BlockDevice => {
            (header.dev_major, header.dev_minor) = (stat.rdev.major, stat.rdev.minor);
        }
        _ => {}
    }
    header.xattrs = xattrs(dir, file, stat.kind)?;
    Ok(Some(header))
}

/// The attributes that are copied: users' own and capabilities; not what filesystems and security modules keep for themselves.
fn xattrs(dir: &Dir, file: &OsStr, kind: Kind) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    if kind == Kind::Symlink {
        return Ok(Vec::new());
    }
    let handle = dir.open_handle(file)?;
    let path = PathBuf::from(proc_path(&handle));
    let names = match xattr::list(&path) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Vec::new()),
        result => result?,
    };
    let mut found = Vec::new();
    for name in names {
        let bytes = name.as_bytes();
        let wanted =
            bytes.starts_with(b"user.") || bytes == b"security.capability" || bytes.starts_with(b"system.posix_acl_");
        if wanted && let Some(value) = xattr::get(&path, &name)? {
            found.push((bytes.to_vec(), value));
        }
    }
    found.sort();
    Ok(found)
}
