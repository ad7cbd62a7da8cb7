//! Following a path through stacked layers, and what each layer says about it.
//!
//! Every layer is asked, also those that others hide: what is hidden still takes space. A path is followed one component at a time, as
//! the kernel does it: at each, the topmost layer that has the name decides, a whiteout, an opaque directory or anything that is no
//! directory hides the layers below, and a renamed directory (`redirect`) is looked for below by its old name.
//!
//! | module | owns |
//! | --- | --- |
//! | [`walk`] | all layers asked at once, one component after the other |
//! | [`disk`] | one layer's files and overlay's marks on them |

mod disk;
mod walk;

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use serde::Serialize;
use strata_spec::{CacheId, ChainId};
use strata_sys::tree::{Dir, Kind};

use super::facts::{FileFacts, lossy};
use disk::{Here, at_path, is_metadata_only};
use walk::Walk;

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
    /// Where its files lie.
    pub folder: PathBuf,
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

/// Why a layer above hides those below.
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
type InDir = Option<(Rc<Dir>, OsString)>;

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

    /// Whether the files that layers `a` and `b` have hold the same bytes.
    pub fn same_content(&self, a: usize, b: usize) -> io::Result<bool> {
        let open = |n: usize| match &self.files[n] {
            Some((dir, name)) => dir.open_file(name),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let (mut a, mut b) = (open(a)?, open(b)?);
        if a.metadata()?.len() != b.metadata()?.len() {
            return Ok(false);
        }
        let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
        loop {
            let len = read_full(&mut a, &mut left)?;
            if read_full(&mut b, &mut right)? != len || left[..len] != right[..len] {
                return Ok(false);
            }
            if len == 0 {
                return Ok(true);
            }
        }
    }

    /// The layer that has the bytes of a file of which layer `n` has the metadata alone.
    pub fn content_of(&self, layers: &[Stacked], n: usize) -> Option<usize> {
        let redirect = self.says[n].file.as_ref()?.redirect.as_deref().filter(|path| path.starts_with('/'));
        let Some(path) = redirect else {
            let has =
                |m: &usize| self.says[*m].file.as_ref().is_some_and(|file| file.kind == "file" && !file.metadata_only);
            return (n + 1..self.says.len()).find(has);
        };
        (n + 1..layers.len()).find(|m| match at_path(&layers[*m].folder, Path::new(path)) {
            Ok(Here::Other { stat, parent, name }) if stat.kind == Kind::File => {
                is_metadata_only(&parent, &name).is_ok_and(|only| !only)
            }
            _ => false,
        })
    }
}

/// Bytes compared at once.
const CHUNK: usize = 128 << 10;

fn read_full(file: &mut File, into: &mut [u8]) -> io::Result<usize> {
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
    'again: loop {
        let mut walk = Walk::open(layers);
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
        let (says, files) = walk.finish();
        return Ok(Trace { path: absolute(&done), hops, says, files });
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
