//! A registry server: OCI distribution 1.1 on a directory in CNCF distribution's layout, or on an object store.
//!
//! ```
//! use strata_registry::{Config, Running};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let config = Config::parse(&format!(
//!     "version: 0.1\nhttp: {{addr: '127.0.0.1:0'}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}",
//!     directory.path().display()
//! ))?;
//! tokio::runtime::Runtime::new()?.block_on(async {
//!     let running = Running::start(config).await?;
//!     let answer = reqwest::get(format!("http://{}/v2/", running.address())).await?;
//!     assert_eq!(answer.status(), 200);
//!     running.stop().await;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`name`], [`manifest`], [`layout`], [`error`] | names, manifests, paths, the error document |
//! | [`storage`] | a trait for storage, with a directory and an object store |
//! | [`store`] | repositories, manifests, tags, blobs, referrers |
//! | [`upload`] | open uploads |
//! | [`gc`], [`quota`] | garbage collection; limits on size |
//! | [`auth`] | authentication and rights |
//! | [`notify`], [`metrics`] | webhooks; Prometheus |
//! | [`config`] | the configuration file |
//! | [`run`] | a running server |
//! | [`http`] | connections, endpoints |
//!
//! # Limitations
//!
//! A file that is not in the page cache is read from disk by the thread that sends it; other connections of that thread wait. Under TLS
//! and HTTP/2 files pass through memory. On an object store one server at a time may write and collect garbage.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod auth;
pub mod config;
pub mod error;
pub mod gc;
pub mod http;
pub mod layout;
pub mod manifest;
pub mod metrics;
pub mod name;
pub mod notify;
pub mod quota;
pub mod run;
pub mod storage;
pub mod store;
pub mod upload;

pub use config::Config;
pub use run::Running;
