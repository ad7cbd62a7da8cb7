//! A tree, a directory at a time, however deep.

use std::{
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use strata_durable::Context;
use strata_sys::tree::{Dir, Entry, Kind};

use crate::Error;

/// From here on a path is shortened by a directory that stays open: the kernel takes 4096 bytes, and a tree may be deeper.
const LONG: usize = 2048;

/// Calls `visit` with each directory of `root`, itself first, and what lies in it; directories that it takes out are not gone into.
/// What goes meanwhile is passed over.
pub(crate) fn each_dir(
    root: &Path,
    mut visit: impl FnMut(&Dir, &mut Vec<Entry>) -> io::Result<()>,
) -> Result<(), Error> {
    let mut left = vec![(Rc::new(Dir::open(root).context("open", root)?), PathBuf::from("."))];
    while let Some((base, path)) = left.pop() {
        let mut look = || -> io::Result<()> {
            let dir = Rc::new(base.dir_beneath(&path)?);
            let mut entries = dir.entries()?;
            visit(&dir, &mut entries)?;
            for entry in entries.into_iter().filter(|entry| entry.kind == Kind::Dir) {
                left.push(match path.as_os_str().len() + entry.name.len() < LONG {
                    true => (base.clone(), path.join(entry.name)),
                    false => (dir.clone(), entry.name.into()),
                });
            }
            Ok(())
        };
        // A running container's files come and go.
        match look() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.context("walk", root.join(&path))?,
        }
    }
    Ok(())
}

/// What `look` answers; `None` if what it looks at has gone.
pub(crate) fn if_there<T>(look: io::Result<T>) -> io::Result<Option<T>> {
    match look {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}
