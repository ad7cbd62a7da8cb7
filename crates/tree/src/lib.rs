//! A layer's files, and what a stack of layers shows.
//!
//! | module | owns |
//! | --- | --- |
//! | [`marks`] | whiteouts, opaque directories, redirects, metacopy: each spelling, and nowhere else |
//! | [`tree`] | the files of one layer, wherever they lie |
//! | [`lookup`] | what one layer has under a name, and what that means for the layers below |
//! | [`stack`] | layers on top of each other, as one merged view |
//! | [`columns`] | all layers asked about one path, also those that others hide |
//!
//! ```
//! use strata_tree::marks::{Mark, aufs};
//!
//! assert_eq!(Mark::of(b".wh.hosts"), Mark::Whiteout(b"hosts"));
//! assert_eq!(aufs::whiteout(b"hosts"), b".wh.hosts");
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod columns;
pub mod lookup;
pub mod marks;
pub mod stack;
pub mod tree;

pub use marks::Marks;
pub use tree::{DirTree, Tree};
