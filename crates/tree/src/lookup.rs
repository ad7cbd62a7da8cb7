//! Which layer a name comes from: what one layer says, and what that means for the layers below.
//!
//! The layers are asked from the topmost down. The rules are those of the kernel's overlayfs and of AUFS:
//!
//! - a whiteout hides the name in all layers below;
//! - the first layer with a directory of that name shows it, and directories of layers below merge into it, until one is opaque;
//! - anything else hides the layers below, and is itself hidden if a directory lies above it (AUFS then asks the layers below further);
//! - a directory with a redirect is looked for below by another name, or at another path from the root.
//!
//! [`Descent`] decides, without any access to files; [`look`] and [`DirMarks`] read what one layer has.
//!
//! Source: Linux, fs/overlayfs/namei.c, `ovl_lookup_layer`.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use strata_sys::tree::{Kind, Stat};

use crate::{
    marks::{Marks, Redirect, aufs, mixed, overlay},
    tree::{Directory, File, is_absent},
};

/// A directory in one layer.
#[derive(Clone)]
pub struct Location {
    /// Its layer; 0 is the topmost.
    pub layer: usize,
    /// Its path in the layer; empty for the root.
    pub path: PathBuf,
    /// The directory itself.
    pub dir: Arc<dyn Directory>,
    /// Its empty files may be whiteouts by attribute.
    pub attribute_whiteouts: bool,
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Location").field("layer", &self.layer).field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a directory's marks say of the layers below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirMarks {
    /// Layers below do not show through it.
    pub opaque: bool,
    /// Its empty files may be whiteouts by attribute.
    pub attribute_whiteouts: bool,
    /// Where layers below hold the rest of it. Never beside `opaque`.
    pub redirect: Option<Redirect>,
}

impl DirMarks {
    /// Reads the marks of a directory.
    pub fn of(dir: &dyn Directory, marks: Marks) -> io::Result<Self> {
        let attributes = if marks.are_attributes() { dir.xattrs(OsStr::new(""))? } else { Vec::new() };
        Self::among(&attributes, dir, marks)
    }

    /// Reads the marks of a directory whose extended attributes have the names `attributes`.
    pub fn among(attributes: &[OsString], dir: &dyn Directory, marks: Marks) -> io::Result<Self> {
        let mut found = Self::default();
        let get = |key: &str| match attributes.iter().any(|known| known == key) {
            true => dir.xattr(OsStr::new(""), OsStr::new(key)),
            false => Ok(None),
        };
        if let Some(keys) = marks.keys() {
            match get(keys.opaque)?.as_deref() {
                Some(b"y") => found.opaque = true,
                Some(b"x") => found.attribute_whiteouts = true,
                _ => {}
            }
            found.redirect = get(keys.redirect)?.as_deref().and_then(Redirect::parse);
        }
        if marks == Marks::Mixed && !found.opaque {
            for key in mixed::OPAQUE {
                found.opaque |= get(key)?.as_deref() == Some(b"y");
            }
            found.opaque = found.opaque || dir.exists(OsStr::new(mixed::OPAQUE_DEVICE))?;
        }
        if marks.are_names() && !found.opaque {
            found.opaque = dir.exists(OsStr::new(aufs::OPAQUE))?;
        }
        if found.opaque {
            found.redirect = None;
        }
        Ok(found)
    }

    /// Adds what `parent` says of this directory, whose name there is `name`: where the marks of several programs are mixed, a directory
    /// beside its own whiteout is new, and nothing below is a part of it.
    pub fn beside(self, parent: &dyn Directory, name: &OsStr, marks: Marks) -> io::Result<Self> {
        match marks == Marks::Mixed && !self.opaque && parent.exists(&aufs::whiteout_name(name))? {
            true => Ok(Self { opaque: true, redirect: None, ..self }),
            false => Ok(self),
        }
    }
}

/// What one layer has under a name.
pub enum Has {
    /// Nothing.
    Absent,
    /// A whiteout.
    Whiteout,
    /// A directory.
    Dir {
        /// Its attributes.
        stat: Stat,
        /// The directory, open.
        dir: Arc<dyn Directory>,
        /// Its marks.
        marks: DirMarks,
    },
    /// Anything else.
    Other {
        /// Its attributes.
        stat: Stat,
    },
}

/// Reads what a layer has under `name` in the directory `dir`.
pub fn look(dir: &Arc<dyn Directory>, attribute_whiteouts: bool, name: &OsStr, marks: Marks) -> io::Result<Has> {
    let stat = match dir.stat(name) {
        Ok(stat) => Some(stat),
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(error),
    };
    // AUFS shows no name beside its own whiteout. Others write such names: a whiteout then speaks of the layers below alone.
    let is_deleted =
        (marks == Marks::Aufs || marks == Marks::Mixed && stat.is_none()) && dir.exists(&aufs::whiteout_name(name))?;
    let Some(stat) = stat else { return Ok(if is_deleted { Has::Whiteout } else { Has::Absent }) };
    if is_deleted || is_whiteout(&**dir, attribute_whiteouts, name, &stat, marks)? {
        return Ok(Has::Whiteout);
    }
    if stat.kind != Kind::Dir {
        return Ok(Has::Other { stat });
    }
    let below = dir.open_dir(name)?;
    let own = DirMarks::of(&*below, marks)?.beside(&**dir, name, marks)?;
    Ok(Has::Dir { stat, dir: below, marks: own })
}

/// Returns whether `name`, with the attributes `stat`, is a whiteout of overlayfs: a device 0/0, or, if its directory says so by
/// `attribute_whiteouts`, an empty file with an attribute.
pub fn is_whiteout(
    dir: &dyn Directory,
    attribute_whiteouts: bool,
    name: &OsStr,
    stat: &Stat,
    marks: Marks,
) -> io::Result<bool> {
    let Some(keys) = marks.keys() else { return Ok(false) };
    if overlay::is_whiteout(stat) {
        return Ok(true);
    }
    let is_suspect = attribute_whiteouts && stat.kind == Kind::File && stat.size == 0;
    Ok(is_suspect && dir.xattr(name, OsStr::new(keys.whiteout))?.is_some())
}

/// Returns where the data of a file lies that has its metadata alone: `Some(None)` under the same name in a layer below, `Some(Some(_))`
/// elsewhere there. `None` for a file with its own data. `attributes` are the names of its extended attributes.
pub fn metacopy(file: &dyn File, attributes: &[OsString], marks: Marks) -> io::Result<Option<Option<Redirect>>> {
    let Some(keys) = marks.keys() else { return Ok(None) };
    let has = |key: &str| attributes.iter().any(|known| known == key);
    if !has(keys.metacopy) {
        return Ok(None);
    }
    let redirect = if has(keys.redirect) { file.xattr(OsStr::new(keys.redirect))? } else { None };
    Ok(Some(redirect.as_deref().and_then(Redirect::parse)))
}

/// Where the next layer down is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trail {
    /// For this name, in the directory that merges into the one asked about.
    Beside(OsString),
    /// At this path from the layer's root, by the layer's own names; relative, never empty.
    At(PathBuf),
}

impl Trail {
    /// Where the layers below are asked after a layer that was asked by `self` has a redirect.
    pub fn redirected(&self, redirect: &Redirect) -> Self {
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        match (redirect, self) {
            (Redirect::Absolute(path), _) => Self::At(os(path).into()),
            (Redirect::Sibling(name), Self::Beside(_)) => Self::Beside(os(name)),
            (Redirect::Sibling(name), Self::At(path)) => Self::At(path.with_file_name(os(name))),
        }
    }
}

/// Why a layer hides those below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It deletes the name, or a directory on the way.
    Whiteout,
    /// Its directory of that name, or one on the way, is opaque.
    Opaque,
    /// It has something of that name that is no directory.
    File,
    /// It has a directory of that name, and the layer below has something else.
    Directory,
}

/// The layer that hides others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The layer; 0 is the topmost.
    pub by: usize,
    /// The reason.
    pub why: Why,
}

/// What one layer's answer means for the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The layer shows nothing.
    Nothing,
    /// It is what the view shows.
    Shows,
    /// Its directory merges into the one above.
    Merges,
    /// A layer above hides it.
    Hidden(Cut),
}

/// One layer's answer.
pub struct Answer {
    /// What it has.
    pub has: Has,
    /// The directory that has it; `None` if it has nothing.
    pub parent: Option<Location>,
    /// The name there.
    pub name: OsString,
    /// Where the layers below are asked, if not where this one was.
    pub trail: Option<Trail>,
    /// Why a directory on the way hides the layers below.
    pub stop: Option<Why>,
}

impl Answer {
    fn nothing(trail: Option<Trail>, stop: Option<Why>) -> Self {
        Self { has: Has::Absent, parent: None, name: OsString::new(), trail, stop }
    }
}

/// The question "what does this name show", asked of one layer after the other.
#[derive(Clone, Debug)]
pub struct Descent {
    marks: Marks,
    trail: Trail,
    /// The layer whose directory shows; `usize::MAX` if it is none of those asked.
    top: Option<usize>,
    cut: Option<Cut>,
}

impl Descent {
    /// Asks for what `trail` leads to.
    pub fn new(trail: Trail, marks: Marks) -> Self {
        Self { marks, trail, top: None, cut: None }
    }

    /// Asks for what merges into a directory of a layer above.
    pub fn below_directory(trail: Trail, marks: Marks) -> Self {
        Self { top: Some(usize::MAX), ..Self::new(trail, marks) }
    }

    /// Where the next layer is asked.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// The layer that hides all that follow.
    pub fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Takes the answer of `layer` to [`Descent::trail`]. Layers come from the topmost down; one that cannot be read may be left out.
    pub fn take(&mut self, layer: usize, answer: &Answer) -> Meaning {
        if let Some(cut) = self.cut {
            return match answer.has {
                Has::Dir { .. } | Has::Other { .. } => Meaning::Hidden(cut),
                Has::Absent | Has::Whiteout => Meaning::Nothing,
            };
        }
        self.cut = answer.stop.map(|why| Cut { by: layer, why });
        match &answer.has {
            Has::Absent => self.follow(answer),
            Has::Whiteout => self.cut = Some(Cut { by: layer, why: Why::Whiteout }),
            Has::Other { .. } => match self.top {
                Some(top) => {
                    let cut = Cut { by: top, why: Why::Directory };
                    if self.marks != Marks::Aufs {
                        self.cut = Some(cut);
                    }
                    return Meaning::Hidden(cut);
                }
                None => {
                    self.follow(answer);
                    self.cut = Some(Cut { by: layer, why: Why::File });
                    return Meaning::Shows;
                }
            },
            Has::Dir { marks, .. } => {
                self.follow(answer);
                if marks.opaque {
                    self.cut = Some(Cut { by: layer, why: Why::Opaque });
                }
                if self.top.is_some() {
                    return Meaning::Merges;
                }
                self.top = Some(layer);
                return Meaning::Shows;
            }
        }
        Meaning::Nothing
    }

    fn follow(&mut self, answer: &Answer) {
        if let Some(trail) = &answer.trail {
            self.trail.clone_from(trail);
        }
    }
}

/// Asks a layer for what `trail` leads to. `here` is its directory that merges into the one asked about, if it has one.
pub fn ask(root: &Location, here: Option<&Location>, trail: &Trail, marks: Marks) -> io::Result<Answer> {
    match trail {
        Trail::Beside(name) => {
            let Some(here) = here else { return Ok(Answer::nothing(None, None)) };
            let has = look(&here.dir, here.attribute_whiteouts, name, marks)?;
            let onward = match &has {
                Has::Absent => return Ok(Answer::nothing(None, None)),
                Has::Dir { marks: DirMarks { redirect: Some(redirect), .. }, .. } => Some(trail.redirected(redirect)),
                _ => None,
            };
            Ok(Answer { has, parent: Some(here.clone()), name: name.clone(), trail: onward, stop: None })
        }
        Trail::At(path) => walk(root, path, marks),
    }
}

/// Follows `path` from a layer's root by the layer's own names.
///
/// A directory on the way that is opaque hides the layers below, and one with a redirect sends them elsewhere, as in the kernel.
fn walk(root: &Location, path: &Path, marks: Marks) -> io::Result<Answer> {
    let mut here = root.clone();
    let mut trail = None;
    let mut stop = None;
    let mut parts = path.iter();
    let mut name = parts.next().unwrap_or_default();
    loop {
        let has = look(&here.dir, here.attribute_whiteouts, name, marks)?;
        let rest = parts.as_path();
        let is_last = rest.as_os_str().is_empty();
        if let Has::Dir { marks: own, .. } = &has {
            if let Some(redirect) = &own.redirect {
                let to = Trail::At(here.path.join(name)).redirected(redirect);
                if matches!(redirect, Redirect::Absolute(_)) {
                    // It leads out of an opaque directory above it.
                    stop = None;
                }
                if let Trail::At(to) = to {
                    trail = Some(Trail::At(if is_last { to } else { to.join(rest) }));
                }
            } else if own.opaque && !is_last {
                stop = Some(Why::Opaque);
            }
        }
        if is_last {
            return Ok(Answer { has, parent: Some(here), name: name.to_owned(), trail, stop });
        }
        here = match has {
            Has::Dir { dir, marks, .. } => Location {
                layer: here.layer,
                path: here.path.join(name),
                dir,
                attribute_whiteouts: marks.attribute_whiteouts,
            },
            Has::Absent => return Ok(Answer::nothing(trail, stop)),
            Has::Whiteout => return Ok(Answer::nothing(trail, Some(Why::Whiteout))),
            Has::Other { .. } => return Ok(Answer::nothing(trail, Some(Why::File))),
        };
        name = parts.next().unwrap_or_default();
    }
}
