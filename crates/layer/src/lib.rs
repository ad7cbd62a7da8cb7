//! The layer store: which read-only layers exist, what each is made of, and the containers' read-write layers over them.
//!
//! | module | owns |
//! | --- | --- |
//! | [`build_cache`] | what BuildKit's cache holds |
//! | [`layout`] | the names in `image/<driver>/layerdb` |
//! | [`store`] | opening, looking up, listing |
//! | [`lease`] | what running operations hold, and waiting for one that makes the same layer |
//! | [`register`] | a tar becomes a layer |
//! | [`flush`] | early write-back |
//! | [`mounts`] | a container's init and read-write layer |
//! | [`release`] | a layer that nobody needs goes |
//! | [`settle`] | what dead operations left is undone or finished |
//! | [`verify`] | whether what lies on disk is what was written |
//! | [`error`] | what the store can fail with |
//!
//! # Crash and concurrency
//!
//! A layer's files are unpacked into a driver folder that only the journal names, synced, and then named by its folder in layerdb, which
//! appears whole by a rename. So after a crash a layer is there whole or not at all, and [`Store::settle`] removes what the journal names.
//! Any number of processes may use a store: one lock is held while layerdb changes, never while files are unpacked or deleted; what an
//! operation will need it notes in the journal first, under that lock, and [`Store::release`] leaves it alone for as long as the operation lives.
#![forbid(unsafe_code)]

pub mod build_cache;
pub mod error;
mod flush;
pub mod layout;
pub mod lease;
pub mod mounts;
pub mod place;
pub mod register;
pub mod release;
pub mod settle;
pub mod store;
pub mod verify;

pub use build_cache::BuildCache;
pub use error::Error;
pub use layout::Layout;
pub use lease::{Flight, Lease, Note};
pub use mounts::RwLayer;
pub use place::Place;
pub use register::Unpacked;
pub use store::{Config, Layer, Store};
pub use verify::{Depth, Finding};
