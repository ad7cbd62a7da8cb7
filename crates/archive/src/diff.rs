//! A layer's folder back to a tar, and what changed against the layers below.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use crate::{Error, Marks};

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// `C` in `docker diff`.
    Modified,
    /// `A`.
    Added,
    /// `D`.
    Deleted,
}

/// One changed path, absolute within the container (`/etc/hosts`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    pub path: PathBuf,
    pub kind: ChangeKind,
}

/// Lists what the read-write folder `upper` changes over `lower` (folders from the topmost down).
///
/// Only `upper` is walked; `lower` is asked about single names. Sorted by path as `docker diff` prints it. Understands
/// redirect, metacopy and opaque marks.
pub fn changes(upper: &Path, lower: &[PathBuf], marks: Marks) -> Result<Vec<Change>, Error> {
    let _ = (upper, lower, marks);
    todo!()
}

/// Writes the folder `upper` as a layer's tar: deletion marks become `.wh.` entries, in a deterministic order, with headers
/// as Go's `archive/tar` and Docker write them.
///
/// `lower` is needed for what `upper` only refers to (metacopy content, redirected directories).
pub fn diff<W: Write>(upper: &Path, lower: &[PathBuf], marks: Marks, out: W) -> Result<(), Error> {
    let _ = (upper, lower, marks, out);
    todo!()
}

/// Writes a whole tree as a tar, as `docker export` does.
pub fn tree<W: Write>(root: &Path, out: W) -> Result<(), Error> {
    let _ = (root, out);
    todo!()
}
