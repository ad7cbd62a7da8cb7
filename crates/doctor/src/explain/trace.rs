//! Following a path through stacked layers, and what each layer says about it.
//!
//! Every layer is asked, also those that others hide: what is hidden still takes space. A path is followed one component at a time, as
//! the kernel does it: at each, the topmost layer that has the name decides, a whiteout, an opaque directory or anything that is no
//! directory hides the layers below, and a renamed directory (`redirect`) is looked for below by its old name.
//!
//! # Limitations
//!
//! Knows overlay's marks alone, those that the driver `overlay2` leaves on disk.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use serde::Serialize;
use strata_spec::{CacheId, ChainId};
use strata_sys::{
    tree::{Device, Dir, Kind, Stat},
    xattr,
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
                let handle = parent.open_handle(&name);
                handle.and_then(|handle| xattr::get_of(&handle, METACOPY)).is_ok_and(|mark| mark.is_none())
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

/// What a layer has at the path so far.
enum Here {
    Dir {
        dir: Rc<Dir>,
        marks: DirMarks,
    },
    Other {
        stat: Stat,
        parent: Rc<Dir>,
        name: OsString,
    },
    /// A whiteout: of the path itself, or of a directory on the way.
    Whiteout,
    Absent,
    Unreadable(String),
}

struct Column<'a> {
    layer: &'a Stacked,
    here: Here,
    /// The path so far as this layer names it.
    path: PathBuf,
    hidden: Option<Hidden>,
}

struct Walk<'a>(Vec<Column<'a>>);

/// Where to look in the next layer down.
enum Next {
    /// Below the directory where this layer is.
    Beside(OsString),
    /// At this path from the layer's root.
    At(PathBuf),
}

impl<'a> Walk<'a> {
    fn open(layers: &'a [Stacked]) -> Self {
        let open = |layer: &'a Stacked| {
            let here = Dir::open(&layer.folder).and_then(open_dir);
            let here = here.unwrap_or_else(|error| Here::Unreadable(error.to_string()));
            Column { layer, here, path: PathBuf::from("/"), hidden: None }
        };
        Self(layers.iter().map(open).collect())
    }

    /// Goes on to `name` in every layer.
    fn step(&mut self, name: &OsStr) {
        let mut next = Next::Beside(name.to_owned());
        let mut cut: Option<Hidden> = None;
        let mut above: Option<usize> = None;
        for (n, column) in self.0.iter_mut().enumerate() {
            if column.hidden.is_none() {
                column.hidden = cut.clone();
            }
            column.go(&next);
            if column.hidden.is_some() {
                continue;
            }
            let at = lossy(column.path.as_os_str());
            let hides = |why| Some(Hidden { by: n + 1, why, at: at.clone() });
            match &column.here {
                Here::Absent | Here::Unreadable(_) => {}
                // Of the path itself; one on the way was counted when it was met.
                Here::Whiteout => cut = hides(Why::Whiteout),
                Here::Other { .. } => match above {
                    Some(dir) => {
                        column.hidden = Some(Hidden { by: dir + 1, why: Why::Directory, at: at.clone() });
                        cut = column.hidden.clone();
                    }
                    None => cut = hides(Why::File),
                },
                Here::Dir { marks, .. } => {
                    above.get_or_insert(n);
                    if marks.opaque {
                        cut = hides(Why::Opaque);
                    }
                    if let Some(redirect) = &marks.redirect {
                        next = next_of(redirect);
                    }
                }
            }
        }
    }

    /// The target of the link that the path leads to so far, if that is what shows.
    fn link(&self) -> Option<(usize, OsString)> {
        let (n, column) = self.0.iter().enumerate().find(|(_, column)| column.shows())?;
        match &column.here {
            Here::Other { stat, parent, name } if stat.kind == Kind::Symlink => Some((n, parent.read_link(name).ok()?)),
            _ => None,
        }
    }

    fn finish(self) -> (Vec<LayerSays>, Vec<InDir>) {
        let top = self.0.iter().position(Column::shows);
        let mut says = Vec::with_capacity(self.0.len());
        let mut files = Vec::with_capacity(self.0.len());
        for (n, column) in self.0.into_iter().enumerate() {
            let (file, problem) = match column.facts() {
                Ok(file) => (file, None),
                Err(problem) => (None, Some(problem)),
            };
            let state = match (&column.here, &column.hidden) {
                (Here::Unreadable(_), _) => State::Unreadable,
                (Here::Absent, _) => State::Absent,
                (Here::Whiteout, _) => State::Whiteout,
                (_, Some(_)) => State::Hidden,
                _ if top == Some(n) => State::Visible,
                _ => State::Merged,
            };
            says.push(LayerSays {
                position: n + 1,
                role: column.layer.role,
                chain_id: column.layer.chain_id,
                cache_id: column.layer.cache_id.clone(),
                state,
                at: lossy(column.path.as_os_str()),
                file,
                hidden: column.hidden,
                problem,
            });
            files.push(match column.here {
                Here::Other { stat, parent, name } if stat.kind == Kind::File => Some((parent, name)),
                _ => None,
            });
        }
        (says, files)
    }
}

impl Column<'_> {
    /// Whether this layer has something at the path that no layer above hides.
    fn shows(&self) -> bool {
        self.hidden.is_none() && matches!(self.here, Here::Dir { .. } | Here::Other { .. })
    }

    fn go(&mut self, next: &Next) {
        let looked = match next {
            Next::Beside(name) => match &self.here {
                Here::Dir { dir, marks } => {
                    self.path.push(name);
                    look(dir, marks.second_form, name)
                }
                // A file, link or nothing has nothing in it; a whiteout deletes all in it; what could not be read stays so.
                Here::Other { .. } | Here::Absent => {
                    self.path.push(name);
                    Ok(Here::Absent)
                }
                Here::Whiteout | Here::Unreadable(_) => return,
            },
            Next::At(path) => {
                self.path = path.clone();
                at_path(&self.layer.folder, path)
            }
        };
        self.here = looked.unwrap_or_else(|error| Here::Unreadable(error.to_string()));
    }

    fn facts(&self) -> Result<Option<FileFacts>, String> {
        let facts = || -> io::Result<Option<FileFacts>> {
            match &self.here {
                Here::Dir { dir, marks } => {
                    let mut facts = FileFacts::of(&dir.stat("")?);
                    facts.opaque = marks.opaque;
                    facts.redirect = marks.redirect.as_ref().map(|path| lossy(path.as_os_str()));
                    Ok(Some(facts))
                }
                Here::Other { stat, parent, name } => {
                    let mut facts = FileFacts::of(stat);
                    match stat.kind {
                        Kind::Symlink => facts.target = Some(lossy(&parent.read_link(name)?)),
                        Kind::File => {
                            let handle = parent.open_handle(name)?;
                            facts.metadata_only = xattr::get_of(&handle, METACOPY)?.is_some();
                            facts.redirect =
                                xattr::get_of(&handle, REDIRECT)?.map(|text| lossy(&OsString::from_vec(text)));
                        }
                        _ => {}
                    }
                    Ok(Some(facts))
                }
                Here::Unreadable(reason) => Err(io::Error::other(reason.clone())),
                Here::Absent | Here::Whiteout => Ok(None),
            }
        };
        facts().map_err(|error| error.to_string())
    }
}

const OPAQUE: &str = "trusted.overlay.opaque";
const WHITEOUT: &str = "trusted.overlay.whiteout";
const REDIRECT: &str = "trusted.overlay.redirect";
const METACOPY: &str = "trusted.overlay.metacopy";

/// What a directory's attributes say of the layers below.
#[derive(Default)]
struct DirMarks {
    opaque: bool,
    /// It may hold whiteouts that are files with an attribute.
    second_form: bool,
    redirect: Option<PathBuf>,
}

fn open_dir(dir: Dir) -> io::Result<Here> {
    let opaque = xattr::get_of(&dir, OPAQUE)?;
    let redirect = xattr::get_of(&dir, REDIRECT)?.filter(|text| is_redirect(text));
    let marks = DirMarks {
        opaque: opaque.as_deref() == Some(b"y"),
        second_form: opaque.as_deref() == Some(b"x"),
        redirect: redirect.map(|text| OsString::from_vec(text).into()),
    };
    Ok(Here::Dir { dir: Rc::new(dir), marks })
}

/// What `dir` has under `name`.
fn look(dir: &Rc<Dir>, second_form: bool, name: &OsStr) -> io::Result<Here> {
    let stat = match dir.stat(name) {
        Err(error) if is_absent(&error) => return Ok(Here::Absent),
        stat => stat?,
    };
    if stat.kind == Kind::Dir {
        return open_dir(dir.open_dir(name)?);
    }
    let is_device = stat.kind == Kind::CharDevice && stat.rdev == Device::default();
    let is_file = second_form && stat.kind == Kind::File && stat.size == 0;
    if is_device || (is_file && xattr::get_of(&dir.open_handle(name)?, WHITEOUT)?.is_some()) {
        return Ok(Here::Whiteout);
    }
    Ok(Here::Other { stat, parent: dir.clone(), name: name.to_owned() })
}

/// What the layer in `folder` has at `path`, by its own names alone.
fn at_path(folder: &Path, path: &Path) -> io::Result<Here> {
    let mut here = open_dir(Dir::open(folder)?)?;
    for name in components(path) {
        here = match &here {
            Here::Dir { dir, marks } => look(dir, marks.second_form, &name)?,
            _ => return Ok(Here::Absent),
        };
    }
    Ok(here)
}

/// A redirect is a path from the root, or one name; anything else the kernel refuses too.
fn is_redirect(text: &[u8]) -> bool {
    let sane = text.split(|byte| *byte == b'/').all(|part| part != b"." && part != b"..");
    let one_name = !text.is_empty() && !text.contains(&b'/');
    sane && !text.contains(&0) && (one_name || (text.first() == Some(&b'/') && text.len() > 1))
}

fn next_of(redirect: &Path) -> Next {
    match redirect.is_absolute() {
        true => Next::At(redirect.to_owned()),
        false => Next::Beside(redirect.as_os_str().to_owned()),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename)
}
