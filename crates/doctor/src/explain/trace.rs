//! Following a path through stacked layers, and what each layer says about it.
//!
//! Every layer is asked, also those that others hide: what is hidden still takes space. [`strata_tree::columns`] asks them and decides what
//! hides what; this module follows symbolic links on the way and words the answer.
//!
//! # Limitations
//!
//! Where layers are whole views (vfs, btrfs, overlay), the topmost has every file: the layer that brought it is not known.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use serde::Serialize;
use strata_spec::{CacheId, ChainId};
use strata_sys::tree::Kind;
use strata_tree::{
    columns::{Column, Columns, Here},
    lookup::{self, Location},
    marks::Marks,
    stack::Stack,
    tree::File,
};

use super::facts::{FileFacts, lossy};

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// What a layer is to its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    ReadWrite,
    Init,
    Image,
}

/// A layer to look in.
#[derive(Clone, Debug)]
pub(super) struct Stacked {
    pub role: Role,
    pub chain_id: Option<ChainId>,
    pub cache_id: CacheId,
    /// The directory of its files.
    pub folder: PathBuf,
    /// The marks that lie there.
    pub marks: Marks,
}

/// What a layer says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is what the container sees; of a directory, what layers below have in it shows too.
    Visible,
    /// A directory that shows through the one above it.
    Merged,
    /// It is there, and a layer above hides it.
    Hidden,
    /// The layer deletes it.
    Whiteout,
    /// The layer says nothing of it.
    Absent,
    /// The layer could not be read.
    Unreadable,
}

/// Why a layer hides those below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// It deletes the path, or a directory on the way.
    Whiteout,
    /// It has a directory that hides what is below.
    Opaque,
    /// It has a file of that name itself.
    File,
    /// It has a directory of that name, and below lies something else.
    Directory,
}

/// What hides a layer's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hidden {
    /// The layer that hides it, from 1, the topmost.
    pub by: usize,
    pub why: Why,
    /// Where: the path itself, or a directory on the way.
    pub at: String,
}

/// What one layer says of a path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSays {
    /// From 1, the topmost.
    pub position: usize,
    pub role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<ChainId>,
    pub cache_id: CacheId,
    pub state: State,
    /// Its path in the layer's folder: another one than asked for below a renamed directory; of a whiteout, what it deletes.
    pub at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Hidden>,
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A symbolic link that was followed on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    pub link: String,
    pub target: String,
    /// The layer that has it, from 1, the topmost.
    pub layer: usize,
}

/// What came out.
#[derive(Debug)]
pub(super) struct Trace {
    /// Absolute, free of links but for the last component.
    pub path: PathBuf,
    pub hops: Vec<Hop>,
    pub says: Vec<LayerSays>,
    /// The file as each layer has it, for reading.
    files: Vec<InDir>,
}

/// A regular file by its directory and name; `None` for anything else.
type InDir = Option<(Location, OsString)>;

impl Trace {
    /// The layer that the container sees, an index into `says`.
    pub fn visible(&self) -> Option<usize> {
        self.says.iter().position(|says| says.state == State::Visible)
    }

    /// The first layer below the one that shows, `n`, whose file only that one hides; an index into `says`.
    pub fn file_below(&self, n: usize) -> Option<usize> {
        let only_n = |says: &LayerSays| says.hidden.as_ref().is_some_and(|hidden| hidden.by == n + 1);
        (n + 1..self.says.len()).find(|m| self.files[*m].is_some() && only_n(&self.says[*m]))
    }

    /// Returns whether the files that the layers `left` and `right` have hold the same bytes.
    pub fn same_content(&self, left: usize, right: usize) -> io::Result<bool> {
        let open = |n: usize| match &self.files[n] {
            Some((location, name)) => location.dir.open_file(name),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let (mut a, mut b) = (open(left)?, open(right)?);
        if self.says[left].file.as_ref().map(|file| file.size) != self.says[right].file.as_ref().map(|file| file.size) {
            return Ok(false);
        }
        let (mut one, mut other) = (vec![0; CHUNK], vec![0; CHUNK]);
        loop {
            let len = read_full(&mut *a, &mut one)?;
            if read_full(&mut *b, &mut other)? != len || one[..len] != other[..len] {
                return Ok(false);
            }
            if len == 0 {
                return Ok(true);
            }
        }
    }

    /// The layer that has the data of the file that shows, an index into `says`; `None` if none has it.
    pub fn content_from(&self, layers: &[Stacked]) -> Option<usize> {
        let stack = Stack::open(&folders(layers), marks_of(layers)).ok()?;
        let merged = stack.directory(self.path.parent()?).ok()?;
        let found = stack.find(&merged, self.path.file_name()?).ok()??;
        stack.data(&merged, &found).ok()?.map(|data| data.layer)
    }
}

fn folders(layers: &[Stacked]) -> Vec<PathBuf> {
    layers.iter().map(|layer| layer.folder.clone()).collect()
}

/// The marks of a stack: under the driver overlay a container's directory has some, and the views below it have none.
fn marks_of(layers: &[Stacked]) -> Marks {
    layers.iter().map(|layer| layer.marks).find(|marks| *marks != Marks::None).unwrap_or(Marks::None)
}

/// Bytes compared at once.
const CHUNK: usize = 128 << 10;

fn read_full(file: &mut dyn File, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Follows `path`, absolute, through `layers`, the topmost first. Links on the way are followed, the last component is not.
pub(super) fn trace(layers: &[Stacked], path: &Path) -> Result<Trace, String> {
    let mut pending: VecDeque<OsString> = components(path);
    let mut done: Vec<OsString> = Vec::new();
    let mut hops = Vec::new();
    let folders = folders(layers);
    'again: loop {
        let mut walk = Columns::open(&folders, marks_of(layers));
        for name in &done {
            walk.step(name);
        }
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                done.pop();
                continue 'again;
            }
            walk.step(&name);
            if !pending.is_empty()
                && let Some((layer, target)) = walk.link()
            {
                if hops.len() == LINKS_MAX {
                    return Err(format!("more than {LINKS_MAX} symbolic links on the way"));
                }
                let link = absolute(&done).join(&name);
                hops.push(Hop { link: lossy(link.as_os_str()), target: lossy(&target), layer: layer + 1 });
                let target = Path::new(&target);
                if target.is_absolute() {
                    done.clear();
                }
                let mut next = components(target);
                next.append(&mut pending);
                pending = next;
                continue 'again;
            }
            done.push(name);
        }
        let (says, files) = answers(layers, walk);
        return Ok(Trace { path: absolute(&done), hops, says, files });
    }
}

/// Words what each layer has.
fn answers(layers: &[Stacked], walk: Columns) -> (Vec<LayerSays>, Vec<InDir>) {
    let top = walk.top();
    let columns = walk.into_columns();
    let mut says = Vec::with_capacity(columns.len());
    let mut files = Vec::with_capacity(columns.len());
    for ((n, column), layer) in columns.into_iter().enumerate().zip(layers) {
        let (file, problem) = match facts(&column, layer.marks) {
            Ok(file) => (file, None),
            Err(problem) => (None, Some(problem.to_string())),
        };
        let state = match (&column.here, &column.hidden) {
            (Here::Unreadable(_), _) => State::Unreadable,
            (Here::Absent, _) => State::Absent,
            (Here::Whiteout, _) => State::Whiteout,
            (_, Some(_)) => State::Hidden,
            _ if top == Some(n) => State::Visible,
            _ => State::Merged,
        };
        let text = |path: &Path| lossy(Path::new("/").join(path).as_os_str());
        says.push(LayerSays {
            position: n + 1,
            role: layer.role,
            chain_id: layer.chain_id,
            cache_id: layer.cache_id.clone(),
            state,
            at: text(&column.path),
            file,
            hidden: column.hidden.map(|(cut, at)| Hidden { by: cut.by + 1, why: cut.why.into(), at: text(&at) }),
            problem,
        });
        files.push(match column.here {
            Here::Other(Kind::File, location, name) => Some((location, name)),
            _ => None,
        });
    }
    (says, files)
}

impl From<lookup::Why> for Why {
    fn from(why: lookup::Why) -> Self {
        match why {
            lookup::Why::Whiteout => Self::Whiteout,
            lookup::Why::Opaque => Self::Opaque,
            lookup::Why::File => Self::File,
            lookup::Why::Directory => Self::Directory,
        }
    }
}

/// What `explain` shows of a layer's file.
fn facts(column: &Column, marks: Marks) -> io::Result<Option<FileFacts>> {
    match &column.here {
        Here::Dir(location, own) => {
            let mut facts = FileFacts::of(&location.dir.stat(OsStr::new(""))?);
            facts.opaque = own.opaque;
            facts.redirect = own.redirect.as_ref().map(|redirect| lossy(&redirect.text()));
            Ok(Some(facts))
        }
        Here::Other(kind, location, name) => {
            let mut facts = FileFacts::of(&location.dir.stat(name)?);
            match (kind, marks.keys()) {
                (Kind::Symlink, _) => facts.target = Some(lossy(&location.dir.read_link(name)?)),
                (Kind::File, Some(keys)) => {
                    let value = |key: &str| location.dir.xattr(name, OsStr::new(key));
                    facts.metadata_only = value(keys.metacopy)?.is_some();
                    facts.redirect = value(keys.redirect)?.map(|text| lossy(&OsString::from_vec(text)));
                }
                _ => {}
            }
            Ok(Some(facts))
        }
        Here::Unreadable(error) => Err(io::Error::new(error.kind(), error.to_string())),
        Here::Absent | Here::Whiteout => Ok(None),
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.as_os_str()
        .as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsStr::from_bytes(part).to_owned())
        .collect()
}

fn absolute(parts: &[OsString]) -> PathBuf {
    std::iter::once(OsStr::new("/")).chain(parts.iter().map(OsString::as_os_str)).collect()
}
