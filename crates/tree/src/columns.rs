//! All layers asked about one path, also those that others hide: what is hidden still takes space.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
};

use strata_sys::tree::Kind;

use crate::{
    lookup::{Cut, Descent, DirMarks, Has, Location, Meaning, Trail, ask},
    marks::Marks,
    tree::Tree,
};

/// What one layer has at the path so far.
pub enum Here {
    /// A directory.
    Dir(Location, DirMarks),
    /// Anything else, by the directory that has it and its name there.
    Other(Kind, Location, OsString),
    /// A whiteout of the path, or of a directory on the way.
    Whiteout,
    /// Nothing.
    Absent,
    /// The layer cannot be read.
    Unreadable(io::Error),
}

/// One layer's part in the answer.
pub struct Column {
    /// What it has.
    pub here: Here,
    /// The path in this layer, relative to its root: another one than asked for below a renamed directory. Of a whiteout, what it deletes.
    pub path: PathBuf,
    /// The layer that hides it, and the path there.
    pub hidden: Option<(Cut, PathBuf)>,
    root: Option<Location>,
}

impl Column {
    /// Returns whether the layer has something at the path that no layer above hides.
    pub fn shows(&self) -> bool {
        self.hidden.is_none() && matches!(self.here, Here::Dir(..) | Here::Other(..))
    }
}

/// Layers from the topmost down, all at one path. Starts at the root.
pub struct Columns {
    columns: Vec<Column>,
    marks: Marks,
}

impl Columns {
    /// Opens the roots of `trees`, the topmost first.
    pub fn open<T: Tree>(trees: &[T], marks: Marks) -> Self {
        let column = |(layer, tree): (usize, &T)| {
            let open = || -> io::Result<(Location, DirMarks)> {
                let dir = tree.root()?;
                let own = DirMarks::of(&*dir, marks)?;
                let attribute_whiteouts = own.attribute_whiteouts;
                Ok((Location { layer, path: PathBuf::new(), dir, attribute_whiteouts }, own))
            };
            let (here, root) = match open() {
                Ok((location, own)) => (Here::Dir(location.clone(), own), Some(location)),
                Err(error) => (Here::Unreadable(error), None),
            };
            Column { here, path: PathBuf::new(), hidden: None, root }
        };
        Self { columns: trees.iter().enumerate().map(column).collect(), marks }
    }

    /// One column a layer.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Returns the columns.
    pub fn into_columns(self) -> Vec<Column> {
        self.columns
    }

    /// The layer that the view shows.
    pub fn top(&self) -> Option<usize> {
        self.columns.iter().position(Column::shows)
    }

    /// Descends to `name` in every layer.
    pub fn step(&mut self, name: &OsStr) {
        let mut descent = Descent::new(Trail::Beside(name.to_owned()), self.marks);
        let mut at: Option<PathBuf> = None;
        for (layer, column) in self.columns.iter_mut().enumerate() {
            let cut = descent.cut();
            if column.hidden.is_none()
                && let (Some(cut), Some(at)) = (cut, &at)
            {
                column.hidden = Some((cut, at.clone()));
            }
            let Some(root) = &column.root else { continue };
            let here = match &column.here {
                Here::Dir(location, _) => Some(location),
                // A whiteout deletes all below it; what cannot be read stays so.
                Here::Whiteout | Here::Unreadable(_) if matches!(descent.trail(), Trail::Beside(_)) => continue,
                _ => None,
            };
            let answer = ask(root, here, descent.trail(), self.marks);
            match descent.trail() {
                Trail::Beside(name) => column.path.push(name),
                Trail::At(path) => column.path.clone_from(path),
            }
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    column.here = Here::Unreadable(error);
                    continue;
                }
            };
            if column.hidden.is_none() {
                let meaning = descent.take(layer, &answer);
                if let Meaning::Hidden(cut) = meaning {
                    column.hidden = Some((cut, column.path.clone()));
                }
                if cut.is_none() && descent.cut().is_some() {
                    at = Some(column.path.clone());
                }
            }
            column.here = match answer.has {
                Has::Absent => Here::Absent,
                Has::Whiteout => Here::Whiteout,
                Has::Other { stat } => match answer.parent {
                    Some(parent) => Here::Other(stat.kind, parent, answer.name),
                    None => Here::Absent,
                },
                Has::Dir { dir, marks, .. } => {
                    let attribute_whiteouts = marks.attribute_whiteouts;
                    Here::Dir(Location { layer, path: column.path.clone(), dir, attribute_whiteouts }, marks)
                }
            };
        }
    }

    /// The target of the symbolic link that the view shows at the path, and its layer.
    pub fn link(&self) -> Option<(usize, OsString)> {
        let layer = self.top()?;
        match &self.columns[layer].here {
            Here::Other(Kind::Symlink, parent, name) => Some((layer, parent.dir.read_link(name).ok()?)),
            _ => None,
        }
    }
}
