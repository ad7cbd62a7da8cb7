//! Whiteouts and opaque directories: as names in a tar, and as marks on disk.

/// How deletions stand on disk in a layer's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Character device 0/0, and `trusted.overlay.opaque=y`.
    Overlay,
    /// Files named `.wh.NAME` and `.wh..wh..opq`, as in the tar.
    Aufs,
    /// None: the folder is the whole view, a deletion deletes.
    None,
}

/// Before a name: that name is deleted.
pub const WHITEOUT_PREFIX: &str = ".wh.";
/// In a directory: what lies below it is hidden.
pub const OPAQUE: &str = ".wh..wh..opq";
/// Before a name: AUFS's own bookkeeping, never unpacked.
pub const META_PREFIX: &str = ".wh..wh.";
