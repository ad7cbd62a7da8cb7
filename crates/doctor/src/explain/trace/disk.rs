//! One layer's own files and the marks on them: overlay's, and AUFS's.
//!
//! # Limitations
//!
//! A file that a container under overlay itself called `.wh.NAME` is taken for a mark of AUFS. Where layers are whole views (vfs, btrfs,
//! overlay), the topmost has every file: which layer brought it is not told.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use strata_sys::{
    tree::{Device, Dir, Kind, Stat},
    xattr,
};
use strata_tree::marks::{aufs, overlay::TRUSTED};

use super::{
    super::facts::{FileFacts, lossy},
    components,
};

/// What a layer has at the path so far.
pub(super) enum Here {
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

impl Here {
    pub fn facts(&self) -> Result<Option<FileFacts>, String> {
        let facts = || -> io::Result<Option<FileFacts>> {
            match self {
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
                            facts.metadata_only = xattr::get_of(&handle, TRUSTED.metacopy)?.is_some();
                            facts.redirect =
                                xattr::get_of(&handle, TRUSTED.redirect)?.map(|text| lossy(&OsString::from_vec(text)));
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

/// What a directory's attributes say of the layers below.
#[derive(Default)]
pub(super) struct DirMarks {
    pub opaque: bool,
    /// It may hold whiteouts that are files with an attribute.
    pub second_form: bool,
    pub redirect: Option<PathBuf>,
}

pub(super) fn open_dir(dir: Dir) -> io::Result<Here> {
    let opaque = xattr::get_of(&dir, TRUSTED.opaque)?;
    let redirect = xattr::get_of(&dir, TRUSTED.redirect)?.filter(|text| is_redirect(text));
    let marks = DirMarks {
        opaque: opaque.as_deref() == Some(b"y") || dir.exists(aufs::OPAQUE)?,
        second_form: opaque.as_deref() == Some(b"x"),
        redirect: redirect.map(|text| OsString::from_vec(text).into()),
    };
    Ok(Here::Dir { dir: Rc::new(dir), marks })
}

/// What `dir` has under `name`.
pub(super) fn look(dir: &Rc<Dir>, second_form: bool, name: &OsStr) -> io::Result<Here> {
    let stat = match dir.stat(name) {
        Err(error) if is_absent(&error) => {
            let mark = aufs::whiteout_name(name);
            let is_deleted =
                dir.exists(&mark).or_else(|error| if is_absent(&error) { Ok(false) } else { Err(error) })?;
            return Ok(if is_deleted { Here::Whiteout } else { Here::Absent });
        }
        stat => stat?,
    };
    if stat.kind == Kind::Dir {
        return open_dir(dir.open_dir(name)?);
    }
    let is_device = stat.kind == Kind::CharDevice && stat.rdev == Device::default();
    let is_file = second_form && stat.kind == Kind::File && stat.size == 0;
    if is_device || (is_file && xattr::get_of(&dir.open_handle(name)?, TRUSTED.whiteout)?.is_some()) {
        return Ok(Here::Whiteout);
    }
    Ok(Here::Other { stat, parent: dir.clone(), name: name.to_owned() })
}

/// Whether a file's content lies in a layer below.
pub(super) fn is_metadata_only(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    Ok(xattr::get_of(&dir.open_handle(name)?, TRUSTED.metacopy)?.is_some())
}

/// What the layer in `folder` has at `path`, by its own names alone.
pub(super) fn at_path(folder: &Path, path: &Path) -> io::Result<Here> {
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

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename)
}
