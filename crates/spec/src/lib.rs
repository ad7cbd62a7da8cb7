//! The words of the field as types: digests, IDs, references, image configs and manifests. No I/O.
//!
//! | module | owns |
//! | --- | --- |
//! | [`digest`] | `sha256:<hex>` and `sha512:<hex>`, and computing them |
//! | [`id`] | DiffID, ChainID, image ID, cache ID, container ID |
//! | [`mod@reference`] | Docker's reference grammar and normalisation |
//! | [`config`] | the image config, Docker's and OCI's |
//! | [`manifest`] | manifests, indexes, descriptors, media types |
//! | [`platform`] | operating system and architecture, and what runs where |
//! | [`time`] | times as Go writes them |
//! | [`gojson`] | JSON as Go's `encoding/json` writes it |
//! | [`error`] | the kinds of failure that every crate's error maps to |
//! | [`progress`], [`cancel`] | what a long operation reports, and how a caller ends it |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cancel;
pub mod config;
pub mod digest;
pub mod error;
pub mod gojson;
pub mod id;
pub mod manifest;
pub mod platform;
pub mod progress;
pub mod quantity;
pub mod reference;
pub mod time;

pub use cancel::Cancel;
pub use config::ImageConfig;
pub use digest::{Algorithm, Digest, Hasher};
pub use error::ErrorKind;
pub use id::{CacheId, ChainId, ContainerId, DiffId, ImageId, chain_id, chain_ids};
pub use platform::Platform;
pub use reference::Reference;
