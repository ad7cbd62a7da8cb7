//! Graph drivers: how layers lie on disk and how they are mounted as one root.
//!
//! | module | owns |
//! | --- | --- |
//! | [`driver`] | the [`GraphDriver`] trait, what every driver promises |
//! | [`overlay2`] | `overlay2/<cache ID>/{diff,link,lower,work,committed}` and `overlay2/l/`; `fuse-overlayfs/` alike |
//! | [`aufs`] | `aufs/{diff,layers,mnt}/<cache ID>`: our own union, with AUFS's marks |
//! | [`overlay`] | `overlay/<cache ID>/{root \| upper,work,merged,lower-id}`: hard links between layers |
//! | [`btrfs`] | `btrfs/subvolumes/<cache ID>`: snapshots |
//! | [`vfs`] | `vfs/dir/<cache ID>`: a whole copy a layer |
//! | [`Closed`] | a driver that cannot be opened here: records can be read, directories cannot |
//! | [`choose`] | which drivers work on a filesystem, and the best of them |
//! | `home` | what the drivers' homes have alike |
//! | `seats` | who uses a mount, and when it goes |
//! | `union` | the union in user space, as drivers mount it |
//! | `plink` | names of one lower file, made into hard links when a union goes |
//! | `copy` | a tree like another, by copies or hard links |
//! | `views` | what changed between whole views |
//! | [`terms`] | a folder in its driver's own terms: marks, links, shared bytes |
//! | `walk` | a tree, a directory at a time |
//! | [`size`] | what a folder takes, as Docker counts |
//! | [`error`] | what a driver can fail with |
#![forbid(unsafe_code)]

pub mod aufs;
pub mod btrfs;
pub mod choose;
mod closed;
mod copy;
pub mod driver;
pub mod error;
mod home;
pub mod names;
pub mod overlay;
pub mod overlay2;
mod plink;
mod seats;
pub mod size;
pub mod terms;
mod union;
pub mod vfs;
mod views;
mod walk;

pub use closed::Closed;
pub use driver::{Access, End, Fault, Folder, GraphDriver, Mounted, Parent};
pub use error::Error;
pub use size::of_tree as tree_size;
pub use strata_sys::fs::Feature;
pub use terms::Term;
pub use union::unmount as unmount_union;

use std::{path::Path, sync::Arc};

/// Drivers this build has, best first.
pub const DRIVERS: &[&str] = &["overlay2", "btrfs", "fuse-overlayfs", "aufs", "overlay", "vfs"];

/// Opens the driver `name` on the data root `root`; with `ReadOnly` nothing is made.
pub fn open(name: &str, root: &Path, access: Access) -> Result<Arc<dyn GraphDriver>, Error> {
    match name {
        "overlay2" => Ok(Arc::new(overlay2::Overlay2::open(root, access)?)),
        "aufs" => Ok(Arc::new(aufs::Aufs::open(root, access)?)),
        "fuse-overlayfs" => Ok(Arc::new(overlay2::Overlay2::open_fuse(root, access)?)),
        "btrfs" => Ok(Arc::new(btrfs::Btrfs::open(root, access)?)),
        "overlay" => Ok(Arc::new(overlay::Overlay::open(root, access)?)),
        "vfs" => Ok(Arc::new(vfs::Vfs::open(root, access)?)),
        _ => Err(Error::UnknownDriver(name.to_owned())),
    }
}
