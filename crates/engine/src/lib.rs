//! What a user can do with a data root, one function each; no terminal, no HTTP.
//!
//! | module | owns |
//! | --- | --- |
//! | [`root`] | an open data root: its journal, its containers, the stores of each driver in use |
//! | [`data_root`] | the data root as a directory: who else is on it, what of it is ours |
//! | [`containerd`] | whether a root keeps its images in containerd's store |
//! | [`drivers`] | which storage drivers a root has, and which of them new things go to |
//! | [`stores`] | the image and layer stores of one driver |
//! | [`resolve`] | from what a user names to the object and the driver that has it |
//! | `settle` | what dead processes left, under whatever driver |
//! | [`containers`], [`images`] | which containers and images a user wants to see |
//! | [`create`] | an image becomes a container |
//! | [`distribution`] | `pull` and `push` |
//! | [`inspect`] | `inspect` of an image |
//! | [`info`] | `info` and `version` |
//! | [`usage`] | `system df` |
//! | [`prune`] | what nobody needs goes |
//! | [`remove`] | `rmi` and what it releases |
//! | [`save`] | archives into files that have their names when they are whole |
//! | [`users`] | which containers stand on which images |
//! | [`filter`] | filters, `KEY=VALUE` |
//! | [`error`] | what an operation can fail with |
#![forbid(unsafe_code)]

pub mod containerd;
pub mod containers;
pub mod create;
pub mod data_root;
pub mod distribution;
pub mod drivers;
pub mod error;
pub mod filter;
pub mod images;
pub mod info;
pub mod inspect;
mod pattern;
pub mod prune;
pub mod remove;
pub mod resolve;
pub mod root;
pub mod save;
mod settle;
pub mod stores;
pub mod usage;
pub mod users;

pub use containers::{ContainerList, ContainerQuery};
pub use data_root::{DataRoot, Purpose};
pub use distribution::PullPolicy;
pub use error::Error;
pub use filter::Filters;
pub use images::{ImageList, ImageQuery, ImageRow};
pub use resolve::Image;
pub use root::{Options, Root};
pub use stores::DriverStores;
