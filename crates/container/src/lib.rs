//! Containers: what is known of each, and what happens to one between its creation and its removal.
//!
//! ```text
//! image config + request ──plan──> record, host config
//!          │ create: name, init layer + read-write layer, volumes, folder
//!          v
//!   containers/<ID>/ ──start: mount, files, bundle──> runtime ──> exit code back into the record
//!          │ commit: changes -> layer -> image      cp, export, changes: its tree
//!          v
//!        remove
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`layout`] | the names in `containers/` and `volumes/` |
//! | [`record`], [`host_config`] | `config.v2.json` and `hostconfig.json`, byte for byte as Docker 20.10 writes them |
//! | [`store`] | opening, looking up, listing, locking |
//! | [`names`], [`env`], [`mounts`], [`signal`] | what users write: names, variables, `-v` and `--tmpfs`, signals |
//! | [`create`] | from an image and a request to a container |
//! | [`init_layer`] | what every container finds, and no commit takes along |
//! | [`user`] | users and groups by the container's own files |
//! | [`start`] | running in the foreground |
//! | [`settle`] | what dead operations left is undone or finished |
//! | [`remove`](mod@remove) | a container goes |
//! | [`change`] | `--change` of `commit` and `import` |
//! | [`commit`] | a container becomes an image |
//! | [`cp`] | copying into and out of a container |
//! | [`export`] | what changed, and the whole tree as a tar |
//! | [`inspect`], [`ps`] | what is shown of a container |
//! | [`error`] | what can fail, in Docker's words |
//!
//! # Crash and concurrency
//!
//! A container appears by the rename of its folder, when its layers and volumes are on disk, and goes by the rename of its folder;
//! what else belongs to it the journal names meanwhile, and [`Store::settle`] finishes. Any number of processes may use a store.
//! Whoever runs or removes a container holds `strata/locks/container-<ID>.run`; whoever reads its layers holds `….use` shared;
//! names are given under `strata/locks/containers`.
//!
//! # Limitations
//!
//! - Networks are `none` and `host`. A container that dockerd made for another one is listed, shown, committed and removed, and
//!   not started: commit it, and run the image on one of the two.
//! - Resource limits, published ports, devices, `--privileged`, `--init` and namespaces of other containers are not available: a
//!   record that asks for them is not started, and the error names what it asks for.
//! - Named volumes are not available (give a path of the host); volumes without a name, which an image or `-v /path` asks for, are.
//! - The output of a container is not kept: `docker logs` finds none.
//! - See also [`commit`] and [`cp`].
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

pub use commit::{CommitRequest, Meanwhile};
pub use cp::CopyOptions;
pub use create::{Base, Created, Request};
pub use error::Error;
pub use host_config::HostConfig;
pub use layout::{ContainerDir, Layout};
pub use record::{Record, State, Status};
pub use remove::RemoveOptions;
pub use settle::Note;
pub use store::{Config, Container, Damage, Listing, Store, default_exec_root};
