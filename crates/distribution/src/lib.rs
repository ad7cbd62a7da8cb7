//! The registry client: who is asked, who is asking, and how images come in and go out.
//!
//! | module | owns |
//! | --- | --- |
//! | [`settings`], [`endpoint`] | from a repository's domain to the places to ask |
//! | [`auth`] | challenges, tokens, the user's logins |
//! | `http`, [`net`], [`range`] | requests, repeated and redirected; the crossing between threads and the network |
//! | [`manifest`] | manifests and indexes, checked |
//! | [`pull`] | an image comes in |
//! | [`push`] | an image goes out |
//! | [`kept`] | what the content store keeps of images, to be pushed as it was served |
//! | [`login`] | `login`, `logout`, `search` |
//! | [`mappings`] | Docker's `distribution/`: which blobs are which layers |
//! | [`client`] | what all of these share |
//! | [`times`] | where the time went |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod auth;
pub mod client;
pub mod endpoint;
pub mod error;
mod http;
pub mod kept;
pub mod login;
pub mod manifest;
pub mod mappings;
pub mod net;
pub mod pull;
pub mod push;
pub mod range;
pub mod settings;
pub mod times;

pub use client::{Client, Stores};
pub use error::Error;
pub use settings::Settings;
pub use times::Times;
