//! What changed between whole views of a root, for drivers whose folders are such.

use std::{
    collections::HashSet,
    io::{self, Write},
    path::{Path, PathBuf},
};

use strata_archive::{
    Marks,
    diff::{self, Change, ChangeKind},
};
use strata_durable::Context;
use strata_sys::tree::{Kind, Stat};

use crate::Error;

/// What `root` changes over the view `below`, or over nothing. Walks both.
pub(crate) fn changes(root: &Path, below: Option<PathBuf>) -> Result<Vec<Change>, Error> {
    let below: Vec<PathBuf> = below.into_iter().collect();
    Ok(diff::changes(root, &below, Marks::None)?)
}

/// The same as a layer's tar.
pub(crate) fn diff(root: &Path, below: Option<PathBuf>, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let below: Vec<PathBuf> = below.into_iter().collect();
    Ok(diff::diff(root, &below, Marks::None, out)?)
}

/// Bytes of what `changes` adds or modifies below `root`: lengths, hard links once, directories not at all.
///
/// Source: moby `pkg/archive/changes.go`, `ChangesSize`.
pub(crate) fn size(root: &Path, changes: &[Change]) -> Result<u64, Error> {
    let (mut seen, mut total) = (HashSet::new(), 0);
    for change in changes.iter().filter(|change| change.kind != ChangeKind::Deleted) {
        let path = root.join(change.path.strip_prefix("/").unwrap_or(&change.path));
        match Stat::of_path(&path) {
            Ok(stat) if stat.kind == Kind::Dir => {}
            Ok(stat) => {
                if stat.nlink < 2 || seen.insert((stat.dev, stat.inode)) {
                    total += stat.size;
                }
            }
            // A running container's files come and go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => Err(error).context("look at", &path)?,
        }
    }
    Ok(total)
}
