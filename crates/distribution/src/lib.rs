//! The registry client: who is asked, who is asking, and how images come in and go out.
//!
//! | module | owns |
//! | --- | --- |
//! | [`settings`], [`endpoint`] | from a repository's domain to the places to ask |
//! | [`docker_config`], [`helper`] | the user's logins |
//! | [`challenge`], `auth` | answering what a registry wants to see |
//! | `http`, [`net`], [`range`] | requests, repeated and redirected; the crossing between threads and the network |
//! | [`manifest`] | manifests and indexes, checked |
//! | [`partial`], `fetch` | blobs as they come, kept across interruptions |
//! | [`pull`] | an image comes in |
//! | [`push`], `compress` | an image goes out |
//! | [`platforms`] | images with all their platforms, kept and pushed as they were served |
//! | `source`, `send`, `upload` | one blob goes out, and on where it was cut off |
//! | [`login`] | `login`, `logout`, `search` |
//! | [`mappings`] | Docker's `distribution/`: which blobs are which layers |
//! | [`client`] | what all of these share |
//! | [`times`] | where the time went |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod auth;
pub mod challenge;
pub mod client;
mod compress;
pub mod docker_config;
pub mod endpoint;
pub mod error;
mod fetch;
pub mod helper;
mod http;
pub mod login;
pub mod manifest;
pub mod mappings;
pub mod net;
pub mod partial;
pub mod platforms;
pub mod pull;
pub mod push;
pub mod range;
mod send;
pub mod settings;
mod source;
pub mod times;
mod upload;

pub use client::{Client, Stores};
pub use error::Error;
pub use settings::Settings;
pub use times::Times;
