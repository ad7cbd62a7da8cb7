//! Blobs by digest: what arrives from registries, what is kept of it, and who needs it.
//!
//! | module | owns |
//! | --- | --- |
//! | [`layout`] | the file names below `strata/content` |
//! | [`store`] | reading blobs, storing small ones |
//! | [`ingest`] | a blob on its way in: written by one, resumed after an interruption, read while it arrives |
//! | [`lease`] | what a running operation uses |
//! | [`pin`] | what is kept for later, under a name |
//! | [`collect`] | removal of what neither a pin nor a lease names |
//! | [`error`] | what can fail |
//!
//! The life of a blob: [`Store::ingest`] opens its file, [`Ingest::append`] adds bytes, [`Ingest::finish`] checks the digest, and
//! [`Ingest::commit`] gives it its name, under a [`Lease`] that keeps it until a [`Pin`] does. [`Store::collect`] removes blobs that
//! neither names. Everything here can be fetched again, so that the whole directory may be deleted while no process runs.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! use strata_content::{Pin, Store};
//! use strata_spec::Digest;
//!
//! let store = Store::new(&dir.path().join("content"));
//! let mut lease = store.lease()?;
//! let digest = Digest::sha256("hello");
//!
//! // Half of it arrives, and the process ends.
//! let mut ingest = store.ingest(digest)?;
//! ingest.append(b"hel")?;
//! drop(ingest);
//!
//! // The next one resumes.
//! let mut ingest = store.ingest(digest)?;
//! ingest.resume()?;
//! assert_eq!(ingest.len(), 3);
//! ingest.append(b"lo")?;
//! ingest.finish()?;
//! ingest.commit(&mut lease)?;
//! store.pin("example", "greeting", &Pin { blobs: vec![digest], note: Default::default() })?;
//! lease.done()?;
//!
//! store.collect(|_kind, _name| true)?;
//! assert_eq!(store.read(digest, 100)?.as_deref(), Some(&b"hello"[..]));
//! store.collect(|_kind, name| name != "greeting")?;
//! assert_eq!(store.read(digest, 100)?, None);
//! # Ok(())
//! # }
//! ```
//!
//! # Limitations
//!
//! One ingest of a digest is resumable at a time. A second process that wants the same blob fetches it into a file without a name,
//! which is not resumed; waiting for the first could be a wait in a circle.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod collect;
pub mod error;
pub mod ingest;
pub mod layout;
pub mod lease;
pub mod pin;
pub mod store;

pub use collect::Collected;
pub use error::Error;
pub use ingest::{Arriving, Ingest, Tail};
pub use layout::Layout;
pub use lease::Lease;
pub use pin::Pin;
pub use store::Store;
