//! Graph drivers: how layers lie on disk and how they are mounted as one root.
//!
//! | module | owns |
//! | --- | --- |
//! | [`driver`] | the [`GraphDriver`] trait, what every driver promises |
//! | [`overlay2`] | `overlay2/<cache ID>/{diff,link,lower,work,committed}` and `overlay2/l/` |
//! | [`size`] | what a folder takes, as Docker counts |
//! | [`error`] | what a driver can fail with |
#![forbid(unsafe_code)]

pub mod driver;
pub mod error;
pub mod overlay2;
pub mod size;

pub use driver::{Access, End, Fault, Folder, GraphDriver, Mounted, Parent};
pub use error::Error;
pub use size::of_tree as tree_size;
pub use strata_sys::fs::Feature;

use std::{path::Path, sync::Arc};

/// Drivers this build has, best first.
pub const DRIVERS: &[&str] = &["overlay2"];

/// Opens the driver `name` on the data root `root`; with `ReadOnly` nothing is made.
pub fn open(name: &str, root: &Path, access: Access) -> Result<Arc<dyn GraphDriver>, Error> {
    match name {
        "overlay2" => Ok(Arc::new(overlay2::Overlay2::open(root, access)?)),
        _ => Err(Error::UnknownDriver(name.to_owned())),
    }
}
