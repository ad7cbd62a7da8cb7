//! Layers as tar streams: reading, taking apart, unpacking, and the way back.
//!
//! | module | owns |
//! | --- | --- |
//! | [`compression`] | gzip, zstd, xz, bzip2 and plain input, recognised by content |
//! | `gzip` | streams of gzip members, by the fastest decoder there is |
//! | [`tar`] | one reader (raw bytes and entries) and one writer (Go-compatible headers) |
//! | [`split`] | tar-split: what rebuilds a layer's tar byte for byte |
//! | [`apply`] | a tar onto a folder |
//! | [`diff`] | a folder back to a tar |
//! | [`pipe`](mod@pipe) | from one of these to the next, in memory |
//! | [`limits`] | how much a stream from outside may claim |
#![forbid(unsafe_code)]

pub mod apply;
pub mod compression;
pub mod diff;
pub mod error;
mod gzip;
pub mod limits;
mod piece;
pub mod pipe;
pub mod split;
pub mod tar;

pub use error::Error;
pub use limits::Limits;
pub use pipe::pipe;
pub use strata_tree::Marks;
