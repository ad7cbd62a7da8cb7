//! The Registry V2 server: OCI distribution 1.1 on a folder in CNCF distribution's layout, or on an object store.
//!
//! | module | owns |
//! | --- | --- |
//! | [`name`], [`manifest`], [`layout`], [`error`] | words, documents, keys, the error document |
//! | [`storage`] | a trait and two places for bytes: a folder, an object store |
//! | [`store`] | repositories, manifests, tags, blobs, referrers |
//! | [`upload`] | uploads under way |
//! | [`gc`], [`quota`] | removing what nobody names; how much there may be |
//! | [`auth`] | who may do what |
//! | [`notify`], [`metrics`] | telling others |
//! | [`config`] | the configuration file |
//! | [`run`] | a server made from its configuration, running |
//! | [`http`] | connections, endpoints |
//!
//! # Limitations
//!
//! HTTP/1.1 only, also under TLS. A file that is not in memory is read from disk by the thread that sends it, while other
//! connections of that thread wait. On an object store one server at a time may write and collect garbage.
#![forbid(unsafe_code)]
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
