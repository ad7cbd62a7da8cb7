//! What the tests of the other crates share. A dev-dependency only.
//!
//! | module | owns |
//! | --- | --- |
//! | [`crash`] | records a store's writes, and shows the disk as a power cut after any of them would leave it |
//! | [`dockerd`] | a real dockerd on a data root |
//! | [`named`] | tests by name, without the standard harness |
//! | [`proxy`] | what lies between a client and a server, and cuts connections |
//! | [`registry`] | registries: a real `docker-registry`, and one in memory whose answers can be spoilt |
//! | [`server`] | the HTTP server under that |
//! | [`require`] | what a test needs of the machine; says `skip: …` where it lacks |
//! | [`scratch`](mod@scratch) | temporary folders on a real disk |
//! | [`loopfs`] | small filesystems of one's own: to fill up, to make read-only |
#![forbid(unsafe_code)]
// The crate is test code: what goes wrong here should stop the test, with its place.
#![allow(clippy::unwrap_used)]

pub mod crash;
pub mod dockerd;
pub mod loopfs;
pub mod named;
pub mod proxy;
pub mod registry;
pub mod require;
pub mod scratch;
pub mod server;

pub use dockerd::Dockerd;
pub use loopfs::LoopFs;
pub use scratch::{Scratch, scratch};

/// Reports that the test is skipped and why, and returns from it.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::require::report_skip(&format!($($reason)*));
        return;
    }};
}
