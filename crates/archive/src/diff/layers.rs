//! The folders below a read-write folder: what a name shows there, by the rules of the marks.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use strata_durable::Context;
use strata_sys::{
    tree::{Dir, Kind, Stat},
    xattr,
};

use strata_tree::marks::{
    Mark, Marks,
    aufs::{self, OPAQUE},
    overlay::{TRUSTED, is_whiteout},
};

use crate::Error;

/// A directory in one layer.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its layer, 0 is the topmost.
    layer: usize,
    /// Its path in the layer; empty for the root.
    path: PathBuf,
    pub dir: Rc<Dir>,
    /// It may hold deletion marks of overlay's second form.
    second_form: bool,
}

/// The directories that show through each other at one path, topmost first.
pub(super) type Under = Vec<Place>;

/// What a name shows.
#[derive(Debug)]
pub(super) struct Found {
    pub stat: Stat,
    /// The directory that has it.
    pub place: Place,
    /// Its name there: another one than asked for, if a directory above it was renamed.
    pub name: OsString,
    /// Of a directory: all that merge.
    pub under: Under,
}

/// What a directory's own attributes say.
#[derive(Debug, Default)]
pub(super) struct DirMarks {
    pub opaque: bool,
    pub second_form: bool,
    /// Where the rest of it lies in the layers below: absolute, or a name beside it.
    pub redirect: Option<PathBuf>,
}

/// Layers from the topmost down.
pub(super) struct Layers {
    roots: Vec<Place>,
    folders: Vec<PathBuf>,
    marks: Marks,
}

/// Where to look in the next layer down.
enum Next {
    /// For this name, in the directories that merge with the one above.
    Beside(OsString),
    /// At this path from each layer's root.
    At(PathBuf),
}

impl Layers {
    pub fn open(folders: &[PathBuf], marks: Marks) -> Result<Self, Error> {
        let mut roots = Vec::new();
        for (layer, path) in folders.iter().enumerate() {
            let dir = Rc::new(Dir::open(path).context("open", path)?);
            let second_form = DirMarks::of_dir(&dir, marks).context("read the marks of", path)?.second_form;
            roots.push(Place { layer, path: PathBuf::new(), dir, second_form });
        }
        Ok(Self { roots, folders: folders.to_vec(), marks })
    }

    /// The roots, merged.
    pub fn roots(&self) -> Under {
        self.roots.clone()
    }

    /// Where `name` in `place` really is, for errors.
    pub fn path(&self, place: &Place, name: &OsStr) -> PathBuf {
        self.folders[place.layer].join(&place.path).join(name)
    }

    /// Returns what `name` shows in a directory.
    pub fn find(&self, under: &[Place], name: &OsStr) -> Result<Option<Found>, Error> {
        self.follow(under, 0, Next::Beside(name.to_owned()))
    }

    /// Returns what the directory `name`, whose attribute is `redirect`, goes on with in the layers below.
    pub fn find_redirected(&self, under: &[Place], redirect: &Path) -> Result<Option<Found>, Error> {
        self.follow(under, 0, next(redirect))
    }

    /// Looks in one layer after the other, from `first` on.
    fn follow(&self, under: &[Place], first: usize, mut next_name: Next) -> Result<Option<Found>, Error> {
        let mut found: Option<Found> = None;
        for layer in first..self.roots.len() {
            let (place, name) = match &next_name {
                Next::Beside(name) => match under.iter().find(|place| place.layer == layer) {
                    Some(place) => (place.clone(), name.clone()),
                    None => continue,
                },
                Next::At(path) => match self.walk(layer, path)? {
                    Some(at) => at,
                    None => continue,
                },
            };
            let stat = match place.dir.stat(&name) {
                Ok(stat) => stat,
                Err(error) if is_absent(&error) => {
                    if self.hides(&place, &name, None)? {
                        break;
                    }
                    continue;
                }
                Err(error) => return Err(error).context("look at", self.path(&place, &name)).map_err(Error::from),
            };
            if self.hides(&place, &name, Some(&stat))? {
                break;
            }
            if stat.kind != Kind::Dir {
                if found.is_none() {
                    found = Some(Found { stat, place, name, under: Vec::new() });
                }
                break;
            }
            let path = self.path(&place, &name);
            let dir = Rc::new(place.dir.open_dir(&name).context("open", &path)?);
            let marks = DirMarks::of_dir(&dir, self.marks).context("read the marks of", &path)?;
            let below = Place { layer, path: place.path.join(&name), dir, second_form: marks.second_form };
            found.get_or_insert_with(|| Found { stat, place, name, under: Vec::new() }).under.push(below);
            if marks.opaque {
                break;
            }
            if let Some(redirect) = marks.redirect {
                next_name = next(&redirect);
            }
        }
        Ok(found)
    }

    /// Opens the file that has the bytes of what `redirect` leads to: a path from the root, or a name. Files that were copied up
    /// without their content lead on, layer by layer.
    pub fn find_data(&self, under: &[Place], redirect: &Path) -> Result<Option<File>, Error> {
        let (mut name, mut first) = (next(redirect), 0);
        while let Some(found) = self.follow(under, first, name)? {
            let path = self.path(&found.place, &found.name);
            if found.stat.kind != Kind::File {
                return Ok(None);
            }
            let handle = found.place.dir.open_handle(&found.name).context("open", &path)?;
            let Some(onward) = metacopy(&handle, &xattr::list_of(&handle).context("read the marks of", &path)?)
                .context("read the marks of", &path)?
            else {
                return Ok(Some(found.place.dir.open_file(&found.name).context("open", &path)?));
            };
            first = found.place.layer + 1;
            name = onward.map_or(Next::Beside(found.name), |redirect| next(&redirect));
        }
        Ok(None)
    }

    /// Finds the directory that holds `path` in one layer, by that layer's own names alone, and the last component.
    fn walk(&self, layer: usize, path: &Path) -> Result<Option<(Place, OsString)>, Error> {
        let mut place = self.roots[layer].clone();
        let mut parts = path.iter().filter(|part| *part != "/").peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return Ok(Some((place, part.to_owned())));
            }
            let path = self.path(&place, part);
            let dir = match place.dir.open_dir(part) {
                Ok(dir) => Rc::new(dir),
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) => return Err(error).context("open", path).map_err(Error::from),
            };
            let second_form = DirMarks::of_dir(&dir, self.marks).context("read the marks of", &path)?.second_form;
            place = Place { layer, path: place.path.join(part), dir, second_form };
        }
        Ok(None)
    }

    /// Whether a layer says that `name` is deleted.
    fn hides(&self, place: &Place, name: &OsStr, stat: Option<&Stat>) -> Result<bool, Error> {
        match (self.marks, stat) {
            (Marks::Overlay, Some(stat)) => is_deletion(&place.dir, place.second_form, name, stat)
                .context("read the marks of", self.path(place, name))
                .map_err(Error::from),
            (Marks::Aufs, None) => {
                let mark = aufs::whiteout_name(name);
                place.dir.exists(&mark).context("look at", self.path(place, &mark)).map_err(Error::from)
            }
            _ => Ok(false),
        }
    }

    /// Returns all names that show in a directory, sorted.
    pub fn names(&self, under: &[Place]) -> Result<Vec<OsString>, Error> {
        let mut names = BTreeSet::new();
        for place in under {
            for entry in place.dir.entries().context("list", self.path(place, OsStr::new("")))? {
                if self.marks != Marks::Aufs || Mark::of(entry.name.as_bytes()) == Mark::Plain {
                    names.insert(entry.name);
                }
            }
        }
        let mut shown = Vec::with_capacity(names.len());
        for name in names {
            if self.find(under, &name)?.is_some() {
                shown.push(name);
            }
        }
        Ok(shown)
    }
}

impl DirMarks {
    /// Reads what a directory says of what lies below it.
    pub fn of_dir(dir: &Dir, marks: Marks) -> std::io::Result<Self> {
        let attributes = if marks == Marks::Overlay { xattr::list_of(dir)? } else { Vec::new() };
        Self::among(&attributes, dir, marks)
    }

    /// The same, where the names of the directory's attributes are known.
    pub fn among(attributes: &[OsString], dir: &Dir, marks: Marks) -> std::io::Result<Self> {
        match marks {
            Marks::None => Ok(Self::default()),
            Marks::Aufs | Marks::Mixed => Ok(Self { opaque: dir.exists(OPAQUE)?, ..Self::default() }),
            Marks::Overlay => {
                let opaque = get_listed(dir, attributes, TRUSTED.opaque)?;
                let redirect = get_listed(dir, attributes, TRUSTED.redirect)?;
                Ok(Self {
                    opaque: opaque.as_deref() == Some(b"y"),
                    second_form: opaque.as_deref() == Some(b"x"),
                    redirect: redirect.filter(|text| is_redirect(text)).map(|text| OsString::from_vec(text).into()),
                })
            }
        }
    }
}

/// Reads an attribute whose name is among `names`: most files have none of those that are asked for.
fn get_listed(file: &impl AsFd, names: &[OsString], name: &str) -> std::io::Result<Option<Vec<u8>>> {
    match names.iter().any(|known| known == name) {
        true => xattr::get_of(file, name),
        false => Ok(None),
    }
}

/// Where a file's content lies, if not in the file itself: `Some(None)` at the same path below, `Some(Some(_))` elsewhere.
/// `attributes` are the names of those it has.
pub(super) fn metacopy(file: &impl AsFd, attributes: &[OsString]) -> std::io::Result<Option<Option<PathBuf>>> {
    if get_listed(file, attributes, TRUSTED.metacopy)?.is_none() {
        return Ok(None);
    }
    let redirect = get_listed(file, attributes, TRUSTED.redirect)?;
    Ok(Some(redirect.filter(|text| is_redirect(text)).map(|text| OsString::from_vec(text).into())))
}

/// Whether overlayfs takes `name` for a deletion mark, of either form; `second_form` is what its directory says.
pub(super) fn is_deletion(dir: &Dir, second_form: bool, name: &OsStr, stat: &Stat) -> std::io::Result<bool> {
    if is_whiteout(stat) {
        return Ok(true);
    }
    if !second_form || stat.kind != Kind::File || stat.size != 0 {
        return Ok(false);
    }
    Ok(xattr::get_of(&dir.open_handle(name)?, TRUSTED.whiteout)?.is_some())
}

/// A redirect is a path from the root, or one name; anything else the kernel refuses too.
fn is_redirect(text: &[u8]) -> bool {
    let parts = text.split(|&byte| byte == b'/');
    let sane = parts.clone().all(|part| part != b"." && part != b"..");
    sane && !text.contains(&0)
        && (text.first() == Some(&b'/') && text.len() > 1 || parts.count() == 1 && !text.is_empty())
}

fn next(redirect: &Path) -> Next {
    match redirect.strip_prefix("/") {
        Ok(path) => Next::At(path.to_owned()),
        Err(_) => Next::Beside(redirect.as_os_str().to_owned()),
    }
}

pub(super) fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
