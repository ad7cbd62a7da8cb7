//! What a union is made of: branches, the dialect of their marks, options; and what can be wrong with that.

use std::{io, path::PathBuf};

/// All that [`Union::open`](crate::Union::open) needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// From the topmost down. In the overlay dialect only the first may be [`Access::ReadWrite`].
    pub branches: Vec<Branch>,
    pub dialect: Dialect,
    /// Overlay: a folder of ours on the filesystem of the writable branch, needed if there is one; `work/` and `index/` are
    /// made in it, as the kernel does. AUFS: not used, `.wh..wh.orph/` of the branch serves.
    pub work: Option<PathBuf>,
    pub options: Options,
}

impl Config {
    /// Whether nothing is ever written, in no branch: overlay's branches do not change, and none is writable.
    pub(crate) fn never_writes(&self) -> bool {
        let writable = self.branches.iter().any(|branch| branch.access == Access::ReadWrite);
        matches!(self.dialect, Dialect::Overlay { .. }) && !writable
    }
}

/// One folder of a union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    pub path: PathBuf,
    pub access: Access,
}

/// What may be done in a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Changes go here: into the leftmost branch of this kind. Its marks are read.
    ReadWrite,
    /// Never written. AUFS reads such a branch without regard to marks in it (`=ro`); overlay reads them.
    ReadOnly,
    /// Never written, its marks are read (`=ro+wh`). The same as [`Access::ReadOnly`] in the overlay dialect.
    ReadOnlyWhiteouts,
}

/// How deletions, opaque directories and the rest are written on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `.wh.NAME`, `.wh..wh..opq`, `.wh..wh.plnk/`, `.wh..wh.orph/`, `.wh..wh.aufs`.
    Aufs,
    /// Character devices 0/0 and extended attributes, as the kernel's overlayfs.
    Overlay {
        /// Where the attributes are.
        xattrs: Xattrs,
    },
}

/// The namespace of the overlay dialect's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xattrs {
    /// `trusted.overlay.*`: needs `CAP_SYS_ADMIN` in the first user namespace.
    Trusted,
    /// `user.overlay.*`: what the kernel uses under `userxattr`.
    User,
}

/// What to do about directories that were renamed while they also lie in a lower branch. Overlay dialect alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectDir {
    /// Follow redirects, and make them.
    #[default]
    On,
    /// Follow redirects that are there; renaming such a directory is `EXDEV`. What `redirect_dir=off` means to the kernel by default.
    Follow,
    /// Refuse (`EPERM`) a directory with a redirect; renaming is `EXDEV`.
    NoFollow,
}

/// Whether something is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    On,
    Off,
}

/// How hard a copy-up is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A copied-up file's data is on disk before its name is: a power cut loses nothing that the lower branch had. Where the
    /// filesystem keeps that order by itself, the data is written and nothing else waited for; elsewhere each copy is an `fsync`.
    #[default]
    CopyUpSynced,
    /// No waiting for the disk, in copy-up or `fsync` (`volatile`): after a power cut the writable branch may hold empty files.
    Volatile,
}

/// What to do about files that hold attributes alone, their data in a lower branch. Overlay dialect alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metacopy {
    /// Follow those that are there, and make them: a change of attributes, or a new name, copies up no data. Needs
    /// [`RedirectDir::On`] and [`Xattrs::Trusted`], as the kernel does.
    Make,
    /// Follow those that are there.
    #[default]
    Follow,
    /// Refuse to open them (`EPERM`).
    Refuse,
}

/// Choices with a default that suits an image's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub redirect_dir: RedirectDir,
    /// Overlay: keep hard links of lower files together over copy-up, by `work/index/` as the kernel's `index=on`.
    /// Falls back to `Off` where the filesystem has no file handles.
    pub index: Switch,
    pub metacopy: Metacopy,
    pub durability: Durability,
    /// Overlay: heed too what AUFS and the program `fuse-overlayfs` mark with (`.wh.NAME`, `.wh..wh..opq`, `user.fuseoverlayfs.*`, the
    /// other namespace's `opaque`). New marks are overlay's own, which that program reads.
    pub mixed_marks: Switch,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            redirect_dir: RedirectDir::On,
            index: Switch::On,
            metacopy: Metacopy::Follow,
            durability: Durability::CopyUpSynced,
            mixed_marks: Switch::Off,
        }
    }
}

/// Why a union could not be opened, or its branches not changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("a union needs at least one branch")]
    NoBranches,
    #[error("{} branches are too many: at most {max}", count)]
    TooManyBranches { count: usize, max: usize },
    #[error("cannot use the branch {}: {source}", path.display())]
    Branch { path: PathBuf, source: io::Error },
    #[error("cannot use the branch {}: its mount cannot be copied, since it is unbindable or holds mounts that belong to a more privileged user namespace ({source}); bind it elsewhere first", path.display())]
    Locked { path: PathBuf, source: io::Error },
    #[error("the branch {} is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("the branch {} lies in this union itself", path.display())]
    Itself { path: PathBuf },
    #[error("the branch {} is given twice", path.display())]
    Twice { path: PathBuf },
    #[error("{} lies inside {}, and only a writable branch and its work directory may lie inside a lower one", inner.display(), outer.display())]
    Overlap { inner: PathBuf, outer: PathBuf },
    #[error("the overlay dialect writes to its first branch alone, and {} is not the first", path.display())]
    WritableBelow { path: PathBuf },
    #[error("the branch {} is writable: it needs a work folder on the same filesystem", path.display())]
    NoWork { path: PathBuf },
    #[error("cannot use the work folder {}: {source}", path.display())]
    Work { path: PathBuf, source: io::Error },
    #[error("the work folder {} is on another filesystem than the branch {}: put it beside the branch", work.display(), branch.display())]
    WorkElsewhere { work: PathBuf, branch: PathBuf },
    #[error("{} is in use by another union: unmount that first", path.display())]
    InUse { path: PathBuf },
    #[error("the filesystem of {} is mounted read-only: give the branch as read-only, or mount it for writing", path.display())]
    ReadOnlyFilesystem { path: PathBuf },
    #[error(
        "the filesystem of {} takes no {namespace}.* extended attributes, which mark directories ({source}): use another filesystem, or user attributes where trusted ones are not allowed",
        path.display()
    )]
    NoXattrs { path: PathBuf, namespace: &'static str, source: io::Error },
    #[error("the branch {} is not in this union", path.display())]
    NoSuchBranch { path: PathBuf },
    #[error("there is no place {index} for a branch: the union has {count}, counted from 0")]
    NoSuchPlace { index: usize, count: usize },
    #[error("the branch {} has open files: close them first", path.display())]
    Busy { path: PathBuf },
    #[error("branches of a mounted union change in the AUFS dialect alone")]
    Fixed,
}
