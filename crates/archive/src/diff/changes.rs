//! What changed, as `docker diff` tells it: the view with the read-write folder against the view without.
//!
//! Only the read-write folder is walked, and what it renamed or replaced. A path is changed when its type, mode, owner, device,
//! size, modification time or capabilities are, of a directory without size and time; so what was only copied up is not. A
//! directory with changes below it is changed too. A deleted directory stands for all that was in it.
//!
//! Source: moby, pkg/archive/changes.go, `ChangesDirs`.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io::ErrorKind,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use strata_durable::Context;
use strata_sys::tree::{Device, Kind, Stat, Time};

use super::{Change, ChangeKind};
use strata_tree::{
    lookup::{DirMarks, is_whiteout, metacopy},
    marks::{Mark, Marks},
    stack::{Found, Merged, Stack},
    tree::{Directory, File, Tree},
};

use crate::Error;

const CAPABILITY: &str = "security.capability";

/// A directory of the new view, with the one of the old view at the same path.
struct Both {
    path: PathBuf,
    /// In the read-write folder, if it is there.
    upper: Option<(Arc<dyn Directory>, DirMarks)>,
    /// What of the new view lies below.
    base: Merged,
    /// The old view.
    old: Merged,
    /// Whether `base` is `old`: names that only these have are unchanged.
    shared: bool,
}

/// One name of the new view.
enum New {
    Upper(Stat),
    Base(Found),
    Deleted,
}

pub(super) struct Walk<'a> {
    upper: &'a Path,
    root: Arc<dyn Directory>,
    layers: Stack,
    marks: Marks,
    changes: Vec<Change>,
}

impl<'a> Walk<'a> {
    pub fn new<T: Tree>(upper: &'a (impl Tree + ?Sized), lower: &[T], marks: Marks) -> Result<Self, Error> {
        // Without marks each folder is a whole view: the next one below is what it is compared with.
        let lower = if marks == Marks::None { &lower[..lower.len().min(1)] } else { lower };
        let (upper, root) = (upper.path(), upper.root().context("open", upper.path())?);
        Ok(Self { upper, root, layers: Stack::open(lower, marks)?, marks, changes: Vec::new() })
    }

    pub fn run(mut self) -> Result<Vec<Change>, Error> {
        let dir = Arc::clone(&self.root);
        let marks = DirMarks::of(&*dir, self.marks).context("read the marks of", self.upper)?;
        let old = self.layers.roots().clone();
        let shared = self.marks != Marks::None && !marks.opaque;
        let base = if shared { old.clone() } else { Vec::new() };
        self.dir(&Both { path: "/".into(), upper: Some((dir, marks)), base, old, shared })?;
        Ok(self.changes)
    }

    fn dir(&mut self, both: &Both) -> Result<(), Error> {
        for (name, new) in self.names(both)? {
            let path = both.path.join(&name);
            let old = self.layers.find(&both.old, &name)?;
            let (new, differs) = match (new, &old) {
                (New::Deleted, None) => continue,
                (New::Deleted, Some(_)) => {
                    self.changes.push(Change { path, kind: ChangeKind::Deleted });
                    continue;
                }
                (new, None) => (new, Some(ChangeKind::Added)),
                (new, Some(old)) => {
                    let differs = self.differs(both, &name, &new, old)?;
                    (new, differs.then_some(ChangeKind::Modified))
                }
            };
            let at = self.changes.len();
            if let Some(kind) = differs {
                self.changes.push(Change { path: path.clone(), kind });
            }
            if let Some(below) = self.below(both, &name, path, new, old)? {
                self.dir(&below)?;
                if differs.is_none() && self.changes.len() > at {
                    self.changes.insert(at, Change { path: below.path, kind: ChangeKind::Modified });
                }
            }
        }
        Ok(())
    }

    /// All names in a directory that may have changed, sorted.
    fn names(&self, both: &Both) -> Result<BTreeMap<OsString, New>, Error> {
        let mut names = BTreeMap::new();
        if let Some((dir, marks)) = &both.upper {
            for entry in dir.entries().context("list", self.at(&both.path))? {
                let path = || self.at(&both.path.join(&entry.name));
                if self.marks.are_names() {
                    match Mark::of(entry.name.as_bytes()) {
                        Mark::Plain => {}
                        Mark::Whiteout(name) => {
                            let name = OsStr::from_bytes(name).to_owned();
                            match self.marks {
                                // AUFS shows no name beside its own whiteout.
                                Marks::Aufs => drop(names.insert(name, New::Deleted)),
                                _ => drop(names.entry(name).or_insert(New::Deleted)),
                            }
                            continue;
                        }
                        Mark::Opaque | Mark::Meta | Mark::Invalid => continue,
                    }
                }
                let stat = match dir.stat(&entry.name) {
                    Ok(stat) => stat,
                    // A running container goes on while we look.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error).context("look at", path()).map_err(Error::from),
                };
                let is_deleted = is_whiteout(&**dir, marks.attribute_whiteouts, &entry.name, &stat, self.marks)
                    .context("look at", path())?;
                let new = if is_deleted { New::Deleted } else { New::Upper(stat) };
                match self.marks {
                    Marks::Aufs => drop(names.entry(entry.name).or_insert(new)),
                    _ => drop(names.insert(entry.name, new)),
                }
            }
        }
        if !both.shared {
            for name in self.layers.names(&both.base)? {
                if !names.contains_key(&name)
                    && let Some(found) = self.layers.find(&both.base, &name)?
                {
                    names.insert(name, New::Base(found));
                }
            }
            for name in self.layers.names(&both.old)? {
                names.entry(name).or_insert(New::Deleted);
            }
        }
        Ok(names)
    }

    /// The directory below, if `name` is one.
    fn below(
        &self,
        both: &Both,
        name: &OsStr,
        path: PathBuf,
        new: New,
        old: Option<Found>,
    ) -> Result<Option<Both>, Error> {
        // Below a directory AUFS passes over what is none.
        let passes = self.marks == Marks::Aufs && old.as_ref().is_some_and(|found| found.stat.kind != Kind::Dir);
        let old = old.map(|found| found.merged).unwrap_or_default();
        match new {
            New::Upper(stat) if stat.kind == Kind::Dir => {
                let (dir, _) = both.upper.as_ref().expect("a name from the upper folder has its directory");
                let below = dir.open_dir(name).context("open", self.at(&path))?;
                let marks = DirMarks::of(&*below, self.marks).and_then(|own| own.beside(&**dir, name, self.marks));
                let marks = marks.context("read the marks of", self.at(&path))?;
                let (base, shared) = if self.marks == Marks::None || marks.opaque {
                    (Vec::new(), false)
                } else if let Some(redirect) = &marks.redirect {
                    (self.layers.merging(&both.base, name, Some(redirect))?, false)
                } else if both.shared && !passes {
                    (old.clone(), true)
                } else {
                    (self.layers.merging(&both.base, name, None)?, false)
                };
                Ok(Some(Both { path, upper: Some((below, marks)), base, old, shared }))
            }
            New::Base(found) if found.stat.kind == Kind::Dir => {
                Ok(Some(Both { path, upper: None, base: found.merged, old, shared: false }))
            }
            _ => Ok(None),
        }
    }

    fn differs(&self, both: &Both, name: &OsStr, new: &New, old: &Found) -> Result<bool, Error> {
        let stat = match new {
            New::Upper(stat) => stat,
            New::Base(found) => &found.stat,
            New::Deleted => return Ok(true),
        };
        // AUFS copies up only what is written to.
        if self.marks == Marks::Aufs && stat.kind != Kind::Dir || stats_differ(&old.stat, stat) {
            return Ok(true);
        }
        if stat.kind != Kind::File {
            return Ok(false);
        }
        // A time that lost its nanoseconds in a tar says nothing of a change within that second: only the content does.
        if stat.size > 0 && old.stat.modified != stat.modified && self.contents_differ(both, name, new, old)? {
            return Ok(true);
        }
        let new_capability = match (new, &both.upper) {
            (New::Base(found), _) => {
                capability(&*found.parent.dir, &found.name, || self.layers.path(&found.parent, &found.name))?
            }
            (_, Some((dir, _))) => capability(&**dir, name, || self.at(&both.path.join(name)))?,
            (_, None) => None,
        };
        let old = capability(&*old.parent.dir, &old.name, || self.layers.path(&old.parent, &old.name))?;
        Ok(new_capability != old)
    }

    /// Whether two files of one size hold other bytes. Those without content of their own, as after a change of attributes, do not.
    fn contents_differ(&self, both: &Both, name: &OsStr, new: &New, old: &Found) -> Result<bool, Error> {
        let (dir, name) = match (new, &both.upper) {
            (New::Base(found), _) => (&found.parent.dir, found.name.as_os_str()),
            (_, Some((dir, _))) => (dir, name),
            (_, None) => return Ok(false),
        };
        let compare = || -> std::io::Result<bool> {
            let (new, old) = (dir.open_file(name)?, old.parent.dir.open_file(&old.name)?);
            for file in [&new, &old] {
                if self.marks.are_attributes() && metacopy(&**file, &file.xattrs()?, self.marks)?.is_some() {
                    return Ok(false);
                }
            }
            Ok(!same_bytes(new, old)?)
        };
        match compare() {
            // It went meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            result => Ok(result.context("compare", self.at(&both.path.join(name)))?),
        }
    }

    /// Where a path of the view is in the read-write folder, for errors.
    fn at(&self, path: &Path) -> PathBuf {
        self.upper.join(path.strip_prefix("/").unwrap_or(path))
    }
}

fn capability(dir: &dyn Directory, name: &OsStr, path: impl Fn() -> PathBuf) -> Result<Option<Vec<u8>>, Error> {
    match dir.xattr(name, OsStr::new(CAPABILITY)) {
        Ok(value) => Ok(value),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => Ok(None),
        Err(error) => Err(error).context("read the capabilities of", path()).map_err(Error::from),
    }
}

fn same_bytes(a: Box<dyn File>, b: Box<dyn File>) -> std::io::Result<bool> {
    use std::io::BufRead;
    let (mut a, mut b) = (std::io::BufReader::with_capacity(1 << 16, a), std::io::BufReader::with_capacity(1 << 16, b));
    loop {
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let len = left.len().min(right.len());
        if left[..len] != right[..len] || (left.is_empty() != right.is_empty()) {
            return Ok(false);
        }
        if len == 0 {
            return Ok(true);
        }
        a.consume(len);
        b.consume(len);
    }
}

fn stats_differ(old: &Stat, new: &Stat) -> bool {
    let identity = |stat: &Stat| {
        let rdev = matches!(stat.kind, Kind::CharDevice | Kind::BlockDevice).then_some(stat.rdev);
        (stat.kind, stat.mode, stat.uid, stat.gid, rdev.unwrap_or(Device::default()))
    };
    identity(old) != identity(new)
        || new.kind != Kind::Dir && (old.size != new.size || !same_time(old.modified, new.modified))
}

/// Equal as far as both are known: a time that went through a tar may have lost its nanoseconds.
fn same_time(a: Time, b: Time) -> bool {
    a.secs == b.secs && (a.nanos == b.nanos || a.nanos == 0 || b.nanos == 0)
}
