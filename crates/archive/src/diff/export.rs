//! A folder's files as a tar.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    io::{Read, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use strata_durable::Context;
use strata_sys::tree::{Device, Kind, Stat};
use strata_tree::{
    lookup::{DirMarks, is_whiteout, metacopy},
    marks::{
        Mark, Marks, Redirect,
        aufs::{self, OPAQUE},
        mixed::{self, OPAQUE_DEVICE},
    },
    stack::{Merged, Stack},
    tree::{Directory, File, Tree},
};

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
    Dir(&'a dyn Directory, Vec<OsString>),
    /// Anything else, which has no use for a descriptor.
    Other,
}

/// A regular file, open, and the names of its attributes: listed once, though marks and tar both want to know.
pub(super) struct Opened {
    file: Box<dyn File>,
    attributes: Vec<OsString>,
    /// The file that has its data, if not itself.
    content: Option<Box<dyn File>>,
}

impl Source<'_> {
    /// Opens `name` if it is a regular file. One that went away meanwhile is `NotFound`.
    pub fn open(dir: &dyn Directory, name: &OsStr, stat: &Stat) -> std::io::Result<Self> {
        if stat.kind != Kind::File {
            return Ok(Self::Other);
        }
        let file = dir.open_file(name)?;
        let attributes = file.xattrs()?;
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
        dir: &dyn Directory,
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
            Source::File(opened) => attributes(&opened.attributes, |key| opened.file.xattr(key)),
            Source::Dir(dir, names) => attributes(names, |key| dir.xattr(OsStr::new(""), key)),
            Source::Other => dir.xattrs(name).and_then(|names| attributes(&names, |key| dir.xattr(name, key))),
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

    fn content(&mut self, mut file: Box<dyn File>, size: u64, path: &Path) -> Result<(), Error> {
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
        if mixed::is_mark(bytes) || LOCAL.contains(&bytes) {
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
pub(super) struct Walk<'a, T, W: Write> {
    upper: &'a Path,
    root: Arc<dyn Directory>,
    lower: &'a [T],
    marks: Marks,
    /// Opened when the first file or directory refers to them.
    layers: Option<Stack>,
    out: Exporter<W>,
}

/// A directory being written.
struct Here {
    path: PathBuf,
    upper: Option<(Arc<dyn Directory>, DirMarks)>,
    /// What shows through from below and has to be written too, because the directory is no longer where that lies.
    moved: Option<Merged>,
}

impl<'a, T: Tree, W: Write> Walk<'a, T, W> {
    pub fn new(upper: &'a (impl Tree + ?Sized), lower: &'a [T], marks: Marks, out: W) -> Result<Self, Error> {
        let (upper, root) = (upper.path(), upper.root().context("open", upper.path())?);
        Ok(Self { upper, root, lower, marks, layers: None, out: Exporter::new(out) })
    }

    /// Of a whole tree, which is no layer.
    pub fn plain(mut self) -> Self {
        self.out.plain = true;
        self
    }

    pub fn run(mut self) -> Result<W, Error> {
        let dir = Arc::clone(&self.root);
        let marks = DirMarks::of(&*dir, self.marks).context("read the marks of", self.upper)?;
        if marks.opaque && self.marks.are_attributes() {
            let stat = dir.stat(OsStr::new("")).context("look at", self.upper)?;
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
        if self.marks.are_names() {
            let is_kept = |name: &&OsString| match (self.marks, Mark::of(name.as_bytes())) {
                // AUFS shows no name beside its own whiteout; elsewhere that whiteout speaks of the layers below alone.
                (Marks::Aufs, Mark::Plain) => !names.contains(&aufs::whiteout_name(name)),
                (Marks::Mixed, Mark::Whiteout(hidden)) => !names.contains(OsStr::from_bytes(hidden)),
                _ => true,
            };
            names = names.iter().filter(is_kept).cloned().collect();
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
        // In a directory that was moved nothing lies below: it is opaque where it is now.
        let is_moved = here.moved.is_some();
        if is_whiteout(&**dir, marks.attribute_whiteouts, name, stat, self.marks).context("look at", &path)? {
            return if is_moved { Ok(()) } else { self.whiteout(&here.path, name) };
        }
        if self.marks.are_names() {
            match Mark::of(name.as_bytes()) {
                Mark::Plain => {}
                Mark::Whiteout(_) if is_moved || self.marks == Marks::Mixed && name == OPAQUE_DEVICE => return Ok(()),
                Mark::Whiteout(_) => return self.out.mark(&entry, 0o600, 0, 0),
                // Where attributes say so too, the directory's own entry is followed by the mark.
                Mark::Opaque if self.marks == Marks::Aufs => return self.out.mark(&entry, 0o644, 0, 0),
                Mark::Opaque | Mark::Meta | Mark::Invalid => return Ok(()),
            }
        }
        if stat.kind != Kind::Dir {
            let mut source = match Source::open(&**dir, name, stat) {
                Ok(source) => source,
                // A running container goes on while we look.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error).context("open", &path).map_err(Error::from),
            };
            if let Source::File(opened) = &mut source
                && let Some(redirect) =
                    metacopy(&*opened.file, &opened.attributes, self.marks).context("read the marks of", &path)?
            {
                let under = self.under(here)?;
                opened.content = Some(self.data(&under, name, redirect.as_ref(), &path)?);
            }
            return self.out.file(&**dir, name, stat, &entry, &path, source);
        }
        let below = dir.open_dir(name).context("open", &path)?;
        let attributes = below.xattrs(OsStr::new("")).context("read the extended attributes of", &path)?;
        let below_marks = DirMarks::among(&attributes, &*below, self.marks);
        let below_marks = below_marks.and_then(|own| own.beside(&**dir, name, self.marks));
        let below_marks = below_marks.context("read the marks of", &path)?;
        self.out.file(&**dir, name, stat, &entry, &path, Source::Dir(&*below, attributes))?;
        let moved = match &below_marks {
            DirMarks { opaque: true, .. } => here.moved.as_ref().map(|_| Vec::new()),
            DirMarks { redirect: Some(redirect), .. } => {
                let under = self.under(here)?;
                Some(self.layers()?.merging(&under, name, Some(redirect))?)
            }
            _ => match &here.moved {
                Some(under) => {
                    let under = under.clone();
                    Some(self.layers()?.merging(&under, name, None)?)
                }
                None => None,
            },
        };
        let cut = below_marks.opaque || below_marks.redirect.is_some();
        if self.marks.are_attributes() && cut && here.moved.is_none() {
            self.out.mark(&entry.join(OPAQUE), stat.mode & 0o777, stat.uid, stat.gid)?;
        }
        self.dir(Here { path: entry, upper: Some((below, below_marks)), moved })
    }

    /// Writes what only the layers below have, in a directory that was moved.
    fn lower_entry(&mut self, here: &Here, name: &OsStr) -> Result<(), Error> {
        let Some(moved) = here.moved.clone() else { return Ok(()) };
        let Some(found) = self.layers()?.find(&moved, name)? else { return Ok(()) };
        let path = self.layers()?.path(&found.parent, &found.name);
        let entry = here.path.join(name);
        let mut source = Source::open(&*found.parent.dir, &found.name, &found.stat).context("open", &path)?;
        if let Source::File(opened) = &mut source
            && metacopy(&*opened.file, &opened.attributes, self.marks).context("read the marks of", &path)?.is_some()
        {
            // The lookup passes this same file on the way down to the one that has the data.
            opened.content = Some(self.data(&moved, name, None, &path)?);
        }
        self.out.file(&*found.parent.dir, &found.name, &found.stat, &entry, &path, source)?;
        if found.stat.kind == Kind::Dir {
            self.dir(Here { path: entry, upper: None, moved: Some(found.merged) })?;
        }
        Ok(())
    }

    fn whiteout(&mut self, dir: &Path, name: &OsStr) -> Result<(), Error> {
        self.out.mark(&dir.join(aufs::whiteout_name(name)), 0o600, 0, 0)
    }

    /// Follows metacopy files down to the one that has the bytes.
    fn data(
        &mut self,
        under: &Merged,
        name: &OsStr,
        redirect: Option<&Redirect>,
        path: &Path,
    ) -> Result<Box<dyn File>, Error> {
        match self.layers()?.find_data(under, name, redirect)? {
            Some(file) => Ok(file),
            None => Err(Error::Mismatch {
                path: path.display().to_string(),
                reason: "its content should lie in a layer below, and does not".into(),
            }),
        }
    }

    /// What shows through a directory of the read-write folder from below.
    fn under(&mut self, here: &Here) -> Result<Merged, Error> {
        if let Some(moved) = &here.moved {
            return Ok(moved.clone());
        }
        let mut under = self.layers()?.roots().clone();
        for part in &here.path {
            under = self.layers()?.find(&under, part)?.map(|found| found.merged).unwrap_or_default();
        }
        Ok(under)
    }

    fn layers(&mut self) -> Result<&Stack, Error> {
        if self.layers.is_none() {
            self.layers = Some(Stack::open(self.lower, self.marks)?);
        }
        Ok(self.layers.as_ref().expect("opened just above"))
    }
}
