//! What each driver calls its files, said once: for the drivers, and for those who read a root without one.
//!
//! ```text
//! aufs/{diff,layers,mnt}/<id>
//! btrfs/{subvolumes,quotas}/<id>
//! fuse-overlayfs/…                                   as overlay2
//! overlay/<id>/{root | upper,work,merged,lower-id}
//! overlay2/<id>/{diff,link,lower,work,merged,committed}   overlay2/l/<link>
//! vfs/dir/<id>
//! ```

pub mod aufs {
    /// The layers' own files, with AUFS's marks.
    pub const DIFF: &str = "diff";
    /// A file a layer: those below it, topmost first.
    pub const LAYERS: &str = "layers";
    pub const MNT: &str = "mnt";
}

pub mod btrfs {
    pub const SUBVOLUMES: &str = "subvolumes";
    /// Bytes that a container's root may take, a file each.
    pub const QUOTAS: &str = "quotas";
}

pub mod overlay {
    /// A read-only layer's whole view.
    pub const ROOT: &str = "root";
    pub const UPPER: &str = "upper";
    pub const WORK: &str = "work";
    pub const MERGED: &str = "merged";
    /// Names the folder whose root is the lower one.
    pub const LOWER_ID: &str = "lower-id";
}

pub mod overlay2 {
    pub const DIFF: &str = "diff";
    pub const WORK: &str = "work";
    pub const MERGED: &str = "merged";
    /// The folder's short name.
    pub const LINK: &str = "link";
    /// The short names of all below it.
    pub const LOWER: &str = "lower";
    /// Other layers stand on it.
    pub const COMMITTED: &str = "committed";
    /// The folder of short names.
    pub const LINKS: &str = "l";
}

pub mod vfs {
    pub const DIR: &str = "dir";
}
