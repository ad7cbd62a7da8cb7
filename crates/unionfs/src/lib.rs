//! The merged view of layers in user space: a union filesystem that reads and writes the marks of AUFS and of the kernel's overlayfs.
//!
//! [`Union`] is the view itself, without FUSE: each method is an operation of a filesystem and answers with the error number that
//! the system call answers with. Every method takes `&self` and may be called from many threads. [`mount`] shows a union to the
//! kernel over FUSE, in this process or in one of its own.
//!
//! ```
//! use std::{ffi::OsStr, fs};
//! use strata_unionfs::{Access, Branch, Config, Dialect, NodeId, OFlags, Options, Union};
//!
//! let temp = tempfile::tempdir()?;
//! for name in ["top", "image"] {
//!     fs::create_dir(temp.path().join(name))?;
//! }
//! fs::write(temp.path().join("image/motd"), "hello")?;
//!
//! let branch = |name, access| Branch { path: temp.path().join(name), access };
//! let union = Union::open(Config {
//!     branches: vec![branch("top", Access::ReadWrite), branch("image", Access::ReadOnlyWhiteouts)],
//!     dialect: Dialect::Aufs,
//!     work: None,
//!     options: Options::default(),
//! })?;
//! let found = union.lookup(NodeId::ROOT, OsStr::new("motd"))?;
//! let file = union.open_file(found.node, OFlags::RDONLY)?;
//! let mut text = [0; 16];
//! let len = union.read(&file, 0, &mut text)?;
//! assert_eq!(&text[..len], b"hello");
//!
//! union.unlink(NodeId::ROOT, OsStr::new("motd"))?;
//! assert!(temp.path().join("top/.wh.motd").exists());
//! assert!(temp.path().join("image/motd").exists());
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | `config` | what a union is made of: branches, dialect, options |
//! | `types` | what goes in and out of its operations |
//! | `core` | the operations, over a table of nodes and the open branches |
//! | `dialect` | the marks on disk, a module for AUFS and one for overlayfs |
//! | `cache` | what is remembered to answer sooner |
//! | `fuse` | the kernel's requests, answered from a union |
//! | [`mount`] | mounts: making, changing, listing and ending them |
//!
//! # Limitations
//!
//! - No `O_TMPFILE` and no time of birth over FUSE: the crate that speaks the protocol does not know `FUSE_TMPFILE` and
//!   `FUSE_STATX`. [`Union::tmpfile`] and [`Attr::born`] have both for other fronts.
//! - Inode numbers outlast a mount in the overlay dialect alone, where the filesystem has file handles and a UUID.
//! - A node that has lost its last name is held by a descriptor, for 1,024 of them at a time; further ones answer `ESTALE`.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod cache;
mod config;
mod core;
mod dialect;
mod fuse;
pub mod mount;
mod types;

pub use config::*;
pub use core::{
    handle::{Handle, Keep},
    union::{Notifier, Union},
};
pub use strata_sys::fs::ExtendedFlags;
pub use types::*;
