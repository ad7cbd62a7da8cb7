//! What a user can do with a data root, one function each; no terminal, no HTTP.
//!
//! | module | owns |
//! | --- | --- |
//! | [`root`] | the data root: who else is on it, `strata/`, which driver |
//! | [`open`] | the stores over one root, and settling what a dead process left |
//! | [`create`] | an image becomes a container |
//! | [`distribution`] | `pull` and `push` |
//! | [`inspect`] | `inspect` of an image |
//! | [`info`] | `info` and `version` |
//! | [`usage`] | `system df` |
//! | [`prune`] | what nobody needs goes |
//! | [`remove`] | `rmi` and what it releases |
//! | [`save`] | archives into files that have their names when they are whole |
//! | [`users`] | which containers stand on which images |
//! | [`filter`] | `--filter KEY=VALUE` |
//! | [`error`] | what an operation can fail with |
#![forbid(unsafe_code)]

pub mod create;
pub mod distribution;
pub mod error;
pub mod filter;
pub mod info;
pub mod inspect;
pub mod open;
pub mod prune;
pub mod remove;
pub mod root;
pub mod save;
pub mod usage;
pub mod users;

pub use error::Error;
pub use open::{Engine, Options};
pub use root::{Purpose, Root};
