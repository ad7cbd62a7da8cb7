//! What a user can do with a data root, one function each; no terminal, no HTTP.
//!
//! | module | owns |
//! | --- | --- |
//! | [`root`] | the data root: who else is on it, `strata/` |
//! | [`drivers`] | which storage drivers a root has, and which of them new things go to |
//! | [`open`] | the stores of one driver over one root |
//! | [`engines`] | all drivers of a root side by side |
//! | `settle` | what dead processes left, under whatever driver |
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
pub mod drivers;
pub mod engines;
pub mod error;
pub mod filter;
pub mod info;
pub mod inspect;
pub mod open;
pub mod prune;
pub mod remove;
pub mod root;
pub mod save;
mod settle;
pub mod usage;
pub mod users;

pub use engines::Engines;
pub use error::Error;
pub use open::{Engine, Options};
pub use root::{Purpose, Root};
