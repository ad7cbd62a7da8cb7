//! A folder's files as a tar.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    fs::File,
    io::{Read, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use strata_durable::Context;
use strata_sys::{
    tree::{Device, Dir, Kind, Stat, proc_path},
    xattr,
};
use strata_tree::marks::{
    Mark, Marks,
    aufs::{self, OPAQUE},
    overlay::TRUSTED,
};

use super::layers::{DirMarks, Layers, Under, is_deletion, metacopy};
use crate::{
    Error,
    tar::{self, Header, Writer},
};

const BUFFER: usize = 256 * 1024;

/// Attributes of this machine, not of the file: labels and signatures that mean nothing elsewhere.
const LOCAL: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// What an entry is written from.
pub(super) enum Source<'a> {
    /// A regular file, open.
    File(Opened),
    /// A directory, open, and the names of its attributes.
    Dir(&'a Dir, Vec<OsString>),
    /// Anything else, which has no use for a descriptor.
    Other,
}

/// A regular file, open, and the names of its attributes: listed once, though marks and tar both want to know.
pub(super) struct Opened {
    file: File,
    attributes: Vec<OsString>,
    /// Where its bytes are, if not in itself.
    content: Option<File>,
}

impl Source<'_> {
    /// Opens `name` if it is a regular file. One that went away meanwhile is `NotFound`.
    pub fn open(dir: &Dir, name: &OsStr, stat: &Stat) -> std::io::Result<Self> {
        if stat.kind != Kind::File {
            return Ok(Self::Other);
        }
        let file = dir.open_file(name)?;
        let attributes = xattr::list_of(&file)?;
        Ok(Self::File(Opened { file, attributes, content: None }))
    }
}

/// Writes files as entries, and knows which of them are names of one file.
pub(super) struct Exporter<W: Write> {
    tar: Writer<W>,
    /// The first name of each file that has several.
    links: HashMap<(Device, u64), Vec<u8>>,
    buffer: Vec<u8>,
    /// Names that are marks in a layer stand for themselves.
    plain: bool,
}

impl<W: Write> Exporter<W> {
    /// Writes a layer.
    pub fn new(out: W) -> Self {
        Self { tar: Writer::new(out), links: HashMap::new(), buffer: vec![0; BUFFER], plain: false }
    }

    pub fn finish(self) -> Result<W, Error> {
        self.tar.finish()
    }

    /// Writes what `name` in `dir` is, as `entry`, which has no slash at its end. `path` is for errors. A socket is left out:
    /// a tar has none.
    pub fn file(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        stat: &Stat,
        entry: &Path,
        path: &Path,
        source: Source<'_>,
    ) -> Result<(), Error> {
        if !self.plain
            && let Mark::Whiteout(_) | Mark::Opaque | Mark::Meta | Mark::Invalid = Mark::of(name.as_bytes())
        {
            let reason = "in a layer a file of this name means a deletion; give it another name, then try again".into();
            return Err(Error::Refused { entry: format!("/{}", entry.display()), reason });
        }
        let kind = match stat.kind {
            Kind::File => tar::Kind::Regular,
            Kind::Dir => tar::Kind::Dir,
            Kind::Symlink => tar::Kind::Symlink,
            Kind::Fifo => tar::Kind::Fifo,
            Kind::CharDevice => tar::Kind::Char,
            Kind::BlockDevice => tar::Kind::Block,
            Kind::Socket => {
                tracing::debug!(path = %path.display(), "a socket was left out of the tar");
                return Ok(());
            }
        };
        let mut header = Header::new(kind, entry.as_os_str().as_bytes());
        header.mode = stat.mode;
        (header.uid, header.gid) = (stat.uid, stat.gid);
        header.mtime = tar::Time { secs: stat.modified.secs, nanos: stat.modified.nanos };
        if stat.kind != Kind::Dir
            && stat.nlink > 1
            && let Some(first) = self.links.get(&(stat.dev, stat.inode))
        {
            header.kind = tar::Kind::HardLink;
            header.link = first.clone();
            return self.tar.header(&header);
        }
        match stat.kind {
            Kind::Dir => header.name.push(b'/'),
            Kind::Symlink => header.link = dir.read_link(name).context("read the link", path)?.into_vec(),
            Kind::CharDevice | Kind::BlockDevice => {
                (header.dev_major, header.dev_minor) = (stat.rdev.major, stat.rdev.minor);
            }
            _ => {}
        }
        header.xattrs = match &source {
            Source::File(opened) => attributes(&opened.attributes, |name| xattr::get_of(&opened.file, name)),
            Source::Dir(dir, names) => attributes(names, |name| xattr::get_of(*dir, name)),
            Source::Other => {
                let through = Path::new(&proc_path(dir)).join(name);
                xattr::list(&through).and_then(|names| attributes(&names, |name| xattr::get(&through, name)))
            }
        }
        .context("read the extended attributes of", path)?;
        if stat.kind == Kind::File {
            header.size = stat.size;
        }
        self.tar.header(&header)?;
        if let Source::File(opened) = source {
            self.content(opened.content.unwrap_or(opened.file), stat.size, path)?;
        }
        if stat.kind != Kind::Dir && stat.nlink > 1 {
            self.links.insert((stat.dev, stat.inode), entry.as_os_str().as_bytes().to_vec());
        }
        Ok(())
    }

    /// Writes an empty file that marks something.
    pub fn mark(&mut self, entry: &Path, mode: u32, uid: u32, gid: u32) -> Result<(), Error> {
        let mut header = Header::new(tar::Kind::Regular, entry.as_os_str().as_bytes());
        (header.mode, header.uid, header.gid) = (mode, uid, gid);
        self.tar.header(&header)
    }

    fn content(&mut self, mut file: File, size: u64, path: &Path) -> Result<(), Error> {
        let mut left = size;
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let len = match file.read(&mut self.buffer[..most]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.context("read", path)?,
            };
            if len == 0 {
                // A running container goes on while we read. The header has promised these bytes.
                tracing::warn!(path = %path.display(), missing = left, "a file shrank while it was read; filled up with zeros");
                self.buffer.fill(0);
                while left > 0 {
                    let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.tar.content(&self.buffer[..most])?;
                    left -= most as u64;
                }
                break;
            }
            self.tar.content(&self.buffer[..len])?;
            left -= len as u64;
        }
        Ok(())
    }
}

/// Of the attributes `names`, those that go into a tar, with their values, sorted by name.
fn attributes(
    names: &[OsString],
    get: impl Fn(&OsStr) -> std::io::Result<Option<Vec<u8>>>,
) -> std::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in names {
        let bytes = name.as_bytes();
        if bytes.starts_with(TRUSTED.prefix.as_bytes()) || LOCAL.contains(&bytes) {
            continue;
        }
        if let Some(value) = get(name)? {
            found.push((bytes.to_vec(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Walks a read-write folder.
pub(super) struct Walk<'a, W: Write> {
    upper: &'a Path,
    lower: &'a [PathBuf],
    marks: Marks,
    /// Opened when the first file or directory refers to them.
    layers: Option<Layers>,
    out: Exporter<W>,
}

/// A directory being written.
struct Here {
    path: PathBuf,
    upper: Option<(Dir, DirMarks)>,
    /// What shows through from below and has to be written too, because the directory is no longer where that lies.
    moved: Option<Under>,
}

impl<'a, W: Write> Walk<'a, W> {
    pub fn new(upper: &'a Path, lower: &'a [PathBuf], marks: Marks, out: W) -> Self {
        Self { upper, lower, marks, layers: None, out: Exporter::new(out) }
    }

    /// Of a whole tree, which is no layer.
    pub fn plain(mut self) -> Self {
        self.out.plain = true;
        self
    }

    pub fn run(mut self) -> Result<W, Error> {
        let dir = Dir::open(self.upper).context("open", self.upper)?;
        let marks = DirMarks::of_dir(&dir, self.marks).context("read the marks of", self.upper)?;
        if marks.opaque && self.marks == Marks::Overlay {
            let stat = Stat::of_fd(&dir).context("look at", self.upper)?;
            self.out.mark(Path::new(OPAQUE), stat.mode & 0o777, stat.uid, stat.gid)?;
        }
        self.dir(Here { path: PathBuf::new(), upper: Some((dir, marks)), moved: None })?;
        self.out.finish()
    }

    fn dir(&mut self, here: Here) -> Result<(), Error> {
        let mut names = BTreeSet::new();
        if let Some((dir, _)) = &here.upper {
            names.extend(
                dir.entries().context("list", self.upper.join(&here.path))?.into_iter().map(|entry| entry.name),
            );
        }
        if let Some(moved) = &here.moved {
            names.extend(self.layers()?.names(moved)?);
        }
        for name in names {
            let in_upper = match &here.upper {
                Some((dir, _)) => match dir.stat(&name) {
                    Ok(stat) => Some(stat),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                    Err(error) => {
                        return Err(error)
                            .context("look at", self.upper.join(&here.path).join(&name))
                            .map_err(Error::from);
                    }
                },
                None => None,
            };
            match in_upper {
                Some(stat) => self.upper_entry(&here, &name, &stat)?,
                None => self.lower_entry(&here, &name)?,
            }
        }
        Ok(())
    }

    fn upper_entry(&mut self, here: &Here, name: &OsStr, stat: &Stat) -> Result<(), Error> {
        let (dir, marks) = here.upper.as_ref().expect("a name from the upper folder has its directory");
        let entry = here.path.join(name);
        let path = self.upper.join(&entry);
        match self.marks {
            Marks::Overlay if is_deletion(dir, marks.second_form, name, stat).context("look at", &path)? => {
                // In a directory that was moved nothing lies below: it is opaque where it is now.
                return if here.moved.is_some() { Ok(()) } else { self.whiteout(&here.path, name) };
            }
            Marks::Aufs => match Mark::of(name.as_bytes()) {
                Mark::Plain => {}
                Mark::Whiteout(_) => return self.out.mark(&entry, 0o600, 0, 0),
                Mark::Opaque => return self.out.mark(&entry, 0o644, 0, 0),
                Mark::Meta | Mark::Invalid => return Ok(()),
            },
            _ => {}
        }
        if stat.kind != Kind::Dir {
            let mut source = match Source::open(dir, name, stat) {
                Ok(source) => source,
                // A running container goes on while we look.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error).context("open", &path).map_err(Error::from),
            };
            if self.marks == Marks::Overlay
                && let Source::File(opened) = &mut source
                && let Some(redirect) =
                    metacopy(&opened.file, &opened.attributes).context("read the marks of", &path)?
            {
                let under = self.under(here)?;
                opened.content = Some(self.data(&under, &redirect.unwrap_or_else(|| name.into()), &path)?);
            }
            return self.out.file(dir, name, stat, &entry, &path, source);
        }
        let below = dir.open_dir(name).context("open", &path)?;
        let attributes = xattr::list_of(&below).context("read the extended attributes of", &path)?;
        let below_marks = DirMarks::among(&attributes, &below, self.marks).context("read the marks of", &path)?;
        self.out.file(dir, name, stat, &entry, &path, Source::Dir(&below, attributes))?;
        let moved = match &below_marks {
            DirMarks { opaque: true, .. } => here.moved.as_ref().map(|_| Vec::new()),
            DirMarks { redirect: Some(redirect), .. } => {
                let under = self.under(here)?;
                Some(self.layers()?.find_redirected(&under, redirect)?.map(|found| found.under).unwrap_or_default())
            }
            _ => match &here.moved {
                Some(under) => {
                    let under = under.clone();
                    Some(self.layers()?.find(&under, name)?.map(|found| found.under).unwrap_or_default())
                }
                None => None,
            },
        };
        let cut = below_marks.opaque || below_marks.redirect.is_some();
        if self.marks == Marks::Overlay && cut && here.moved.is_none() {
            self.out.mark(&entry.join(OPAQUE), stat.mode & 0o777, stat.uid, stat.gid)?;
        }
        self.dir(Here { path: entry, upper: Some((below, below_marks)), moved })
    }

    /// Writes what only the layers below have, in a directory that was moved.
    fn lower_entry(&mut self, here: &Here, name: &OsStr) -> Result<(), Error> {
        let Some(moved) = here.moved.clone() else { return Ok(()) };
        let Some(found) = self.layers()?.find(&moved, name)? else { return Ok(()) };
        let path = self.layers()?.path(&found.place, &found.name);
        let entry = here.path.join(name);
        let mut source = Source::open(&found.place.dir, &found.name, &found.stat).context("open", &path)?;
        if let Source::File(opened) = &mut source
            && let Some(redirect) = metacopy(&opened.file, &opened.attributes).context("read the marks of", &path)?
        {
            opened.content = Some(self.data(&moved, &redirect.unwrap_or_else(|| name.into()), &path)?);
        }
        self.out.file(&found.place.dir, &found.name, &found.stat, &entry, &path, source)?;
        if found.stat.kind == Kind::Dir {
            self.dir(Here { path: entry, upper: None, moved: Some(found.under) })?;
        }
        Ok(())
    }

    fn whiteout(&mut self, dir: &Path, name: &OsStr) -> Result<(), Error> {
        self.out.mark(&dir.join(aufs::whiteout_name(name)), 0o600, 0, 0)
    }

    /// Follows metacopy files down to the one that has the bytes.
    fn data(&mut self, under: &Under, redirect: &Path, path: &Path) -> Result<File, Error> {
        match self.layers()?.find_data(under, redirect)? {
            Some(file) => Ok(file),
            None => Err(Error::Mismatch {
                path: path.display().to_string(),
                reason: "its content should lie in a layer below, and does not".into(),
            }),
        }
    }

    /// What shows through a directory of the read-write folder from below.
    fn under(&mut self, here: &Here) -> Result<Under, Error> {
        if let Some(moved) = &here.moved {
            return Ok(moved.clone());
        }
        let mut under = self.layers()?.roots();
        for part in &here.path {
            under = self.layers()?.find(&under, part)?.map(|found| found.under).unwrap_or_default();
        }
        Ok(under)
    }

    fn layers(&mut self) -> Result<&Layers, Error> {
        if self.layers.is_none() {
            self.layers = Some(Layers::open(self.lower, self.marks)?);
        }
        Ok(self.layers.as_ref().expect("opened just above"))
    }
}
