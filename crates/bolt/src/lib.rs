//! Reads bbolt files, the databases of Docker, BuildKit and containerd: read-only, without a lock, also while their owner runs.
//!
//! | module | owns |
//! | --- | --- |
//! | [`database`] | a file, one transaction of it, and its buckets |
//! | [`page`] | the elements of one page, each checked against the page's bounds |
//! | [`meta`] | the two meta pages |
//! | [`error`] | what can fail, and what was found damaged |
//!
//! The format, all numbers little-endian:
//!
//! ```text
//! file    pages of equal size; pages 0 and 1 are meta pages, written in turn, one transaction each
//! page    id 8, flags 2 (1 branch, 2 leaf, 4 meta, 16 free list), count 2, overflow 4, then the elements;
//!         a page with overflow n continues in the n pages after it
//! branch  element: key offset 4 (from the element), key length 4, child page 8
//! leaf    element: flags 4 (1 bucket), key offset 4 (from the element), key length 4, value length 4; the value follows the key
//! bucket  value of a leaf element: root page 8, sequence 8; root page 0: the bucket is inline, its only page follows
//! ```
//!
//! A database is a tree: each page has one parent. [`Database::open`] walks the whole tree once, so that everything read later is
//! known: an unreadable page costs its subtree and is named in [`Database::damage`], the second reference to a page is refused, so that no
//! walk loops. Where the
//! newer transaction is damaged and the older one is whole, the older one is read.
//!
//! # Example
//!
//! ```
//! # fn main() -> Result<(), strata_bolt::Error> {
//! use strata_bolt::{Database, Value};
//!
//! let database = Database::open("tests/fixtures/volumes.db".as_ref())?;
//! assert!(database.damage().is_empty());
//! let volumes = database.bucket(&[b"volumes"]).expect("dockerd makes this bucket");
//! let names: Vec<_> = database.entries(&volumes).flatten().map(|entry| entry.key).collect();
//! assert_eq!(names, [b"vol1"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Limitations
//!
//! The free list is not read: a reader does not need it, and containerd does not store one. A page run of more than 256 MiB is refused
//! and named as damage.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod database;
pub mod error;
pub mod meta;
pub mod page;

pub use database::{Bucket, Database, Entries, Entry, Value, read};
pub use error::{Damage, Error};
