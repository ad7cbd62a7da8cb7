//! All layers asked at once, one component of a path after the other.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use strata_sys::tree::{Dir, Kind};

use super::{
    super::facts::lossy,
    Hidden, InDir, LayerSays, Stacked, State, Why,
    disk::{Here, at_path, look, open_dir},
};

struct Column<'a> {
    layer: &'a Stacked,
    here: Here,
    /// The path so far as this layer names it.
    path: PathBuf,
    hidden: Option<Hidden>,
}

pub(super) struct Walk<'a>(Vec<Column<'a>>);

/// Where to look in the next layer down.
enum Next {
    /// Below the directory where this layer is.
    Beside(OsString),
    /// At this path from the layer's root.
    At(PathBuf),
}

impl<'a> Walk<'a> {
    pub fn open(layers: &'a [Stacked]) -> Self {
        let open = |layer: &'a Stacked| {
            let here = Dir::open(&layer.folder).and_then(open_dir);
            let here = here.unwrap_or_else(|error| Here::Unreadable(error.to_string()));
            Column { layer, here, path: PathBuf::from("/"), hidden: None }
        };
        Self(layers.iter().map(open).collect())
    }

    /// Goes on to `name` in every layer.
    pub fn step(&mut self, name: &OsStr) {
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
    pub fn link(&self) -> Option<(usize, OsString)> {
        let (n, column) = self.0.iter().enumerate().find(|(_, column)| column.shows())?;
        match &column.here {
            Here::Other { stat, parent, name } if stat.kind == Kind::Symlink => Some((n, parent.read_link(name).ok()?)),
            _ => None,
        }
    }

    pub fn finish(self) -> (Vec<LayerSays>, Vec<InDir>) {
        let top = self.0.iter().position(Column::shows);
        let mut says = Vec::with_capacity(self.0.len());
        let mut files = Vec::with_capacity(self.0.len());
        for (n, column) in self.0.into_iter().enumerate() {
            let (file, problem) = match column.here.facts() {
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
}

fn next_of(redirect: &Path) -> Next {
    match redirect.is_absolute() {
        true => Next::At(redirect.to_owned()),
        false => Next::Beside(redirect.as_os_str().to_owned()),
    }
}
