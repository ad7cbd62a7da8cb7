//! placeholder
#![forbid(unsafe_code)]

mod bundle;
pub mod change;
pub mod commit;
pub mod cp;
pub mod create;
pub mod env;
pub mod error;
pub mod export;
mod files;
mod gojson;
pub mod host_config;
mod in_root;
pub mod init_layer;
pub mod inspect;
pub mod layout;
pub mod mounts;
pub mod names;
mod plan;
pub mod ps;
pub mod record;
pub mod remove;
pub mod settle;
pub mod signal;
pub mod start;
pub mod store;
pub mod user;
mod volumes;

pub use commit::CommitRequest;
pub use cp::CopyOptions;
pub use create::{Created, Request};
pub use error::Error;
pub use host_config::HostConfig;
pub use layout::{ContainerDir, Layout};
pub use record::{Record, State, Status};
pub use remove::RemoveOptions;
pub use settle::Note;
pub use store::{Config, Container, Damage, Listing, Store, default_exec_root};
