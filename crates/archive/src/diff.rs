//! A layer's folder back to a tar, and what changed against the layers below.

mod changes;
mod export;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use strata_durable::Context;

use strata_tree::{
    marks::{Marks, aufs},
    tree::Tree,
};

use crate::Error;

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

impl ChangeKind {
    /// The letter that `docker diff` prints.
    pub fn letter(self) -> char {
        match self {
            Self::Modified => 'C',
            Self::Added => 'A',
            Self::Deleted => 'D',
        }
    }
}

/// One changed path, absolute within the container (`/etc/hosts`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    pub path: PathBuf,
    pub kind: ChangeKind,
}

/// Lists what the read-write folder `upper` changes over `lower` (folders from the topmost down).
///
/// Says what `docker diff` says; only the order is fixed here: each directory before what is in it, names sorted by their bytes. A path
/// that was only copied up, and is as it was, is not listed. Only `upper` is walked, and what it replaced or renamed; `lower` is
/// otherwise asked about single names. Understands redirect, metacopy, opaque marks and both forms of overlay's whiteouts.
///
/// Under [`Marks::None`] both `upper` and the first of `lower` are whole views, and both are walked.
pub fn changes<T: Tree>(upper: &(impl Tree + ?Sized), lower: &[T], marks: Marks) -> Result<Vec<Change>, Error> {
    changes::Walk::new(upper, lower, marks)?.run()
}

/// Writes the folder `upper` as a layer's tar: deletion marks become `.wh.` entries, in a deterministic order, with headers
/// as Go's `archive/tar` and Docker write them.
///
/// `lower` is needed for what `upper` only refers to (metacopy content, renamed directories, which are written whole), and under
/// [`Marks::None`] to know what changed.
///
/// Entries come in the order of [`changes`]. A deletion is an empty file `.wh.NAME` of mode 0600, owner 0:0 and time 0, so that the same
/// folder gives the same bytes. An opaque directory is followed by its `.wh..wh..opq`. Times keep their nanoseconds; all extended
/// attributes are kept but overlay's own, SELinux labels and IMA/EVM signatures. Sparse files are written in full, because Docker
/// cannot rebuild layers with sparse entries; unpacking makes the holes again. Sockets are left out. The root has no entry.
/// A file that is itself called `.wh.NAME` is refused: unpacked again, it would delete NAME.
pub fn diff<T: Tree, W: Write>(upper: &(impl Tree + ?Sized), lower: &[T], marks: Marks, out: W) -> Result<(), Error> {
    if marks == Marks::None && !lower.is_empty() {
        return write(upper, &changes(upper, lower, marks)?, out);
    }
    export::Walk::new(upper, lower, marks, out)?.run().map(drop)
}

/// Writes a whole tree as a tar, as `docker export` does: like [`diff`] over nothing, without marks; any name stands for itself.
pub fn tree<W: Write>(root: &(impl Tree + ?Sized), out: W) -> Result<(), Error> {
    export::Walk::<PathBuf, _>::new(root, &[], Marks::None, out)?.plain().run().map(drop)
}

/// Writes only what changed, where the folder itself does not tell: `view` is the whole new view, `changes` as [`changes`] lists them.
pub fn write<W: Write>(view: &(impl Tree + ?Sized), changes: &[Change], out: W) -> Result<(), Error> {
    let root = view.root().context("open", view.path())?;
    let mut exporter = export::Exporter::new(out);
    // Changes come directory by directory.
    let mut last = (PathBuf::new(), Arc::clone(&root));
    for Change { path, kind } in changes {
        let entry = path.strip_prefix("/").unwrap_or(path);
        let name = entry.file_name().unwrap_or(OsStr::new(""));
        let parent = entry.parent().unwrap_or(Path::new(""));
        if *kind == ChangeKind::Deleted {
            exporter.mark(&parent.join(aufs::whiteout_name(name)), 0o600, 0, 0)?;
            continue;
        }
        let path = view.path().join(entry);
        if last.0 != parent {
            let open = || parent.iter().try_fold(Arc::clone(&root), |dir, name| dir.open_dir(name));
            last = (parent.to_owned(), open().context("open the directory of", &path)?);
        }
        let dir = &*last.1;
        let stat = dir.stat(name).context("look at", &path)?;
        let source = export::Source::open(dir, name, &stat).context("open", &path)?;
        exporter.file(dir, name, &stat, entry, &path, source)?;
    }
    exporter.finish().map(drop)
}
