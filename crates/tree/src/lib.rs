//! A layer's files, and what a stack of layers shows.
//!
//! | module | owns |
//! | --- | --- |
//! | [`marks`] | whiteouts, opaque directories, redirects, metacopy: each spelling, and nowhere else |
//!
//! ```
//! use strata_tree::marks::{Mark, aufs};
//!
//! assert_eq!(Mark::of(b".wh.hosts"), Mark::Whiteout(b"hosts"));
//! assert_eq!(aufs::whiteout(b"hosts"), b".wh.hosts");
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod marks;

pub use marks::Marks;
