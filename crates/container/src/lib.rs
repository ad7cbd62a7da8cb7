//! placeholder
#![forbid(unsafe_code)]

pub mod change;
pub mod env;
pub mod error;
mod gojson;
pub mod host_config;
pub mod layout;
pub mod mounts;
pub mod names;
pub mod record;
pub mod signal;
pub mod user;

pub use error::Error;
pub use host_config::HostConfig;
pub use layout::{ContainerDir, Layout};
pub use record::{Record, State, Status};
