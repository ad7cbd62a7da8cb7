//! What a union is made of: branches, the dialect of their marks and options; and the errors of opening one.

use std::{io, path::PathBuf};

/// The input of [`Union::open`](crate::Union::open).
#[derive(Clone, Debug)]
pub struct Config {
    /// From the topmost down. In the overlay dialect only the first may be [`Access::ReadWrite`].
    pub branches: Vec<Branch>,
    /// How the branches are marked.
    pub dialect: Dialect,
    /// The overlay dialect's work directory, required with a writable branch and on its mount; the union makes `work/` and
    /// `index/` in it, as the kernel does. The AUFS dialect ignores it and uses the branch's `.wh..wh.orph/`.
    pub work: Option<PathBuf>,
    /// Choices that have a default.
    pub options: Options,
}

impl Config {
    /// Whether the union never writes to any branch. The AUFS dialect may get a writable branch later.
    pub(crate) fn never_writes(&self) -> bool {
        let writable = self.branches.iter().any(|branch| branch.access == Access::ReadWrite);
        matches!(self.dialect, Dialect::Overlay { .. }) && !writable
    }
}

/// A directory that the union shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its path; relative to the working directory if not absolute.
    pub path: PathBuf,
    /// What the union may do in it.
    pub access: Access,
}

/// What the union may do in a branch, and whether marks in it count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The leftmost branch of this kind takes all changes. Its marks count.
    ReadWrite,
    /// Never written. The AUFS dialect ignores its marks (`=ro`); the overlay dialect reads them.
    ReadOnly,
    /// Never written; its marks count (`=ro+wh`). The same as [`Access::ReadOnly`] in the overlay dialect.
    ReadOnlyWhiteouts,
}

/// How whiteouts, opaque directories and the other marks are written on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `.wh.NAME`, `.wh..wh..opq`, `.wh..wh.plnk/`, `.wh..wh.orph/`, `.wh..wh.aufs`.
    Aufs,
    /// Character devices 0/0 and extended attributes, as the kernel's overlayfs.
    Overlay {
        /// The namespace of the attributes.
        xattrs: Xattrs,
    },
}

/// The namespace of the overlay dialect's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xattrs {
    /// `trusted.overlay.*`: needs `CAP_SYS_ADMIN` in the first user namespace.
    Trusted,
    /// `user.overlay.*`: the kernel's under `userxattr`.
    User,
}

/// How the overlay dialect treats a renamed directory that a lower branch holds too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectDir {
    /// Follow redirects, and make them.
    #[default]
    On,
    /// Follow existing redirects; renaming such a directory is `EXDEV`. The kernel's default for `redirect_dir=off`.
    Follow,
    /// Refuse (`EPERM`) a directory with a redirect; renaming is `EXDEV`.
    NoFollow,
}

/// A setting that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Wanted.
    On,
    /// Not wanted.
    Off,
}

/// What a power cut may take from a copy-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A copy's data reaches the disk before its name: a power cut loses nothing that the lower branch had. On a filesystem that
    /// commits in order, the copy-up writes the data back and waits for nothing else; on others it calls `fsync`.
    #[default]
    CopyUpSynced,
    /// Neither copy-up nor `fsync` waits for the disk (`volatile`): after a power cut the writable branch may hold empty files.
    Volatile,
}

/// How the overlay dialect treats metacopies: files that hold attributes alone, with their data in a lower branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metacopy {
    /// Follow them and make them: a change of attributes or of the name copies up no data. Requires [`RedirectDir::On`] and
    /// [`Xattrs::Trusted`], as in the kernel.
    Make,
    /// Follow existing ones.
    #[default]
    Follow,
    /// Refuse to open them (`EPERM`).
    Refuse,
}

/// Settings whose defaults suit an image's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Overlay: renamed directories.
    pub redirect_dir: RedirectDir,
    /// Overlay: lower hard links stay one file over copy-up, by `work/index/`, as with the kernel's `index=on`. Falls back to
    /// `Off` where the filesystem has no file handles or no UUID.
    pub index: Switch,
    /// Overlay: files that hold attributes alone.
    pub metacopy: Metacopy,
    /// What a power cut may take.
    pub durability: Durability,
    /// Overlay: the marks of AUFS and of the program `fuse-overlayfs` count too (`.wh.NAME`, `.wh..wh..opq`,
    /// `user.fuseoverlayfs.*`, the other namespace's `opaque`). New marks are overlay's own, which that program reads.
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

/// Why a union cannot be opened, or its branches cannot be changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant means")]
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
    #[error("the branch {} is writable: it needs a work directory on the same filesystem", path.display())]
    NoWork { path: PathBuf },
    #[error("cannot use the work directory {}: {source}", path.display())]
    Work { path: PathBuf, source: io::Error },
    #[error("the work directory {} is on another filesystem than the branch {}: put it beside the branch", work.display(), branch.display())]
    WorkElsewhere { work: PathBuf, branch: PathBuf },
    #[error("{} is in use by another union; unmount that first", path.display())]
    InUse { path: PathBuf },
    #[error("the filesystem of {} is mounted read-only; give the branch as read-only, or remount the filesystem for writing", path.display())]
    ReadOnlyFilesystem { path: PathBuf },
    #[error(
        "the filesystem of {} takes no {namespace}.* extended attributes, which mark directories ({source}): use another filesystem, or user attributes where trusted ones are not allowed",
        path.display()
    )]
    NoXattrs { path: PathBuf, namespace: &'static str, source: io::Error },
    #[error("the branch {} is not in this union", path.display())]
    NoSuchBranch { path: PathBuf },
    #[error("a branch cannot be inserted at {index}: the union has {count}, counted from 0")]
    NoSuchPlace { index: usize, count: usize },
    #[error("the branch {} has open files; close them first", path.display())]
    Busy { path: PathBuf },
    #[error("only an AUFS union can change its branches while mounted")]
    Fixed,
}
