//! The merged view of layers in user space.
//!
//! [`Union`] is the view itself, without FUSE and without a clock: the operations of a filesystem over branches, each of
//! which answers with what `errno` would be. It speaks two dialects of marks on disk, the kernel's overlayfs and AUFS
//! (`docs/formats/overlay-marks.md`, `docs/formats/aufs.md`).
//!
//! Every method takes `&self` and may be called from many threads.
#![forbid(unsafe_code)]

mod acl;
mod ahead;
mod attr;
mod config;
mod copyup;
mod create;
mod dirs;
mod flags;
mod fuse;
mod handle;
mod inos;
mod layer;
mod listed;
mod listing;
mod lookup;
mod marks;
mod metacopy;
pub mod mount;
mod open;
mod origin;
mod raw;
mod readdir;
mod remount;
mod remove;
mod rename;
mod share;
mod table;
mod types;
mod union;

pub use config::*;
pub use handle::{Handle, Keep};
pub use strata_sys::fs::ExtendedFlags;
pub use types::*;
pub use union::{Notifier, Union};
