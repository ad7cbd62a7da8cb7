//! Layers on top of each other, as one merged view.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use strata_durable::{Context, Error};
use strata_sys::tree::{Kind, Stat};

use crate::{
    lookup::{Answer, Descent, DirMarks, Has, Location, Meaning, Trail, ask, metacopy},
    marks::{Mark, Marks, Redirect},
    tree::{File, Tree},
};

/// The directories that merge at one path, from the topmost down.
pub type Merged = Vec<Location>;

/// What a name shows.
pub struct Found {
    /// Its attributes.
    pub stat: Stat,
    /// The directory that has it.
    pub parent: Location,
    /// Its name there: another one than asked for below a renamed directory.
    pub name: OsString,
    /// Of a directory: all that merge.
    pub merged: Merged,
    /// Where the layers below the one that shows it are asked.
    trail: Trail,
}

/// A file that has its data.
pub struct Data {
    /// Its layer; 0 is the topmost.
    pub layer: usize,
    /// The file, open.
    pub file: Box<dyn File>,
}

/// Where a file's data is.
enum DataIn {
    /// In this layer's file.
    Here(Data),
    /// In a layer from `first` on.
    Below { first: usize, trail: Trail },
    /// Nowhere: what should have it is no regular file.
    Nowhere,
}

/// Layers from the topmost down.
pub struct Stack {
    roots: Merged,
    paths: Vec<PathBuf>,
    marks: Marks,
}

impl Stack {
    /// Opens the roots of `trees`, the topmost first, which must live as long as the stack.
    pub fn open<T: Tree>(trees: &[T], marks: Marks) -> Result<Self, Error> {
        let mut roots = Vec::with_capacity(trees.len());
        for (layer, tree) in trees.iter().enumerate() {
            let dir = tree.root().context("open", tree.path())?;
            let own = DirMarks::of(&*dir, marks).context("read the marks of", tree.path())?;
            let attribute_whiteouts = own.attribute_whiteouts;
            roots.push(Location { layer, path: PathBuf::new(), dir, attribute_whiteouts });
        }
        Ok(Self { roots, paths: trees.iter().map(|tree| tree.path().to_owned()).collect(), marks })
    }

    /// The merged roots.
    pub fn roots(&self) -> &Merged {
        &self.roots
    }

    /// The path of `name` in `parent`, for messages.
    pub fn path(&self, parent: &Location, name: &OsStr) -> PathBuf {
        self.paths[parent.layer].join(&parent.path).join(name)
    }

    /// Returns what `name` shows in a directory.
    pub fn find(&self, merged: &[Location], name: &OsStr) -> Result<Option<Found>, Error> {
        self.descend(merged, 0, Descent::new(Trail::Beside(name.to_owned()), self.marks))
    }

    /// Returns the directory that shows at `path`, without following symbolic links; empty if none does.
    pub fn directory(&self, path: &Path) -> Result<Merged, Error> {
        let mut merged = self.roots.clone();
        for name in path.iter().filter(|part| *part != "/") {
            merged = self.find(&merged, name)?.map(|found| found.merged).unwrap_or_default();
        }
        Ok(merged)
    }

    /// Opens the file that has the data of the regular file `found`, with the layer that has it. `merged` is the directory where it was found.
    /// `None` if no layer has the data.
    pub fn data(&self, merged: &[Location], found: &Found) -> Result<Option<Data>, Error> {
        let mut onward = self.open_or_follow(found)?;
        // Each turn is at least one layer further down.
        loop {
            match onward {
                DataIn::Here(data) => return Ok(Some(data)),
                DataIn::Below { first, trail } => match self.descend(merged, first, Descent::new(trail, self.marks))? {
                    Some(below) => onward = self.open_or_follow(&below)?,
                    None => return Ok(None),
                },
                DataIn::Nowhere => return Ok(None),
            }
        }
    }

    /// Returns the directories of these layers that merge into `name`, a directory of a layer above, which may have a redirect.
    pub fn merging(&self, merged: &[Location], name: &OsStr, redirect: Option<&Redirect>) -> Result<Merged, Error> {
        let trail = Trail::Beside(name.to_owned());
        let trail = redirect.map_or(trail.clone(), |redirect| trail.redirected(redirect));
        let found = self.descend(merged, 0, Descent::below_directory(trail, self.marks))?;
        Ok(found.map(|found| found.merged).unwrap_or_default())
    }

    /// Opens the file that has the data of a metacopy file `name` in a directory above `merged`, which may have a redirect. Further
    /// metacopy files lead on, layer by layer. `None` if no layer has the data.
    pub fn find_data(
        &self,
        merged: &[Location],
        name: &OsStr,
        redirect: Option<&Redirect>,
    ) -> Result<Option<Box<dyn File>>, Error> {
        let trail = Trail::Beside(name.to_owned());
        let trail = redirect.map_or(trail.clone(), |redirect| trail.redirected(redirect));
        match self.descend(merged, 0, Descent::new(trail, self.marks))? {
            Some(found) => Ok(self.data(merged, &found)?.map(|data| data.file)),
            None => Ok(None),
        }
    }

    /// Opens a file that has its data, or says where the layers below are asked for it.
    fn open_or_follow(&self, found: &Found) -> Result<DataIn, Error> {
        if found.stat.kind != Kind::File {
            return Ok(DataIn::Nowhere);
        }
        let path = self.path(&found.parent, &found.name);
        let file = found.parent.dir.open_file(&found.name).context("open", &path)?;
        let attributes = file.xattrs().context("read the marks of", &path)?;
        Ok(match metacopy(&*file, &attributes, self.marks).context("read the marks of", &path)? {
            None => DataIn::Here(Data { layer: found.parent.layer, file }),
            Some(redirect) => DataIn::Below {
                first: found.parent.layer + 1,
                trail: redirect.map_or(found.trail.clone(), |redirect| found.trail.redirected(&redirect)),
            },
        })
    }

    /// Returns all names that a directory shows, sorted by their bytes.
    pub fn names(&self, merged: &[Location]) -> Result<Vec<OsString>, Error> {
        let mut names = BTreeSet::new();
        for location in merged {
            for entry in location.dir.entries().context("list", self.path(location, OsStr::new("")))? {
                if !self.marks.are_names() || Mark::of(entry.name.as_bytes()) == Mark::Plain {
                    names.insert(entry.name);
                }
            }
        }
        let mut shown = Vec::with_capacity(names.len());
        for name in names {
            if self.find(merged, &name)?.is_some() {
                shown.push(name);
            }
        }
        Ok(shown)
    }

    /// Asks the layers from `first` down until one hides the rest.
    fn descend(&self, merged: &[Location], first: usize, mut descent: Descent) -> Result<Option<Found>, Error> {
        let mut found: Option<Found> = None;
        let mut next = first;
        while descent.cut().is_none() {
            let here = &merged[merged.partition_point(|location| location.layer < next)..];
            let (layer, here) = match (descent.trail(), here.first()) {
                (Trail::Beside(_), Some(here)) => (here.layer, Some(here)),
                (Trail::At(_), _) if next < self.roots.len() => (next, None),
                _ => break,
            };
            next = layer + 1;
            let root = &self.roots[layer];
            let answer = match ask(root, here, descent.trail(), self.marks) {
                Ok(answer) => answer,
                Err(error) => return Err(error).context("look at", self.asked(root, here, descent.trail())),
            };
            let meaning = descent.take(layer, &answer);
            let Answer { has, parent, name, .. } = answer;
            let (Some(parent), Meaning::Shows | Meaning::Merges) = (parent, meaning) else { continue };
            let show = |stat, parent| {
                let trail = descent.trail().clone();
                Found { stat, parent, name: name.clone(), merged: Vec::new(), trail }
            };
            match has {
                Has::Dir { stat, dir, marks } => {
                    let path = parent.path.join(&name);
                    let below = Location { layer, path, dir, attribute_whiteouts: marks.attribute_whiteouts };
                    found.get_or_insert_with(|| show(stat, parent)).merged.push(below);
                }
                Has::Other { stat } => found = Some(show(stat, parent)),
                Has::Absent | Has::Whiteout => {}
            }
        }
        Ok(found)
    }

    /// The path that was asked about, for messages.
    fn asked(&self, root: &Location, here: Option<&Location>, trail: &Trail) -> PathBuf {
        match trail {
            Trail::Beside(name) => self.path(here.unwrap_or(root), name),
            Trail::At(path) => self.path(root, path.as_os_str()),
        }
    }
}
