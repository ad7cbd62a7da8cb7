//! One container process, from a root filesystem and an OCI configuration. Knows no store and no images.
//!
//! ```text
//! strata ──spawns──> watcher ("strata-shim", this program again, single-threaded)
//!    │                  │  creates by libcontainer, or by an external runtime's command line
//!    │                  └─> the container's first process, a child of the watcher
//!    └─ a socket: create, start, kill  ->      <- created, started, exited
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`spec`] | Docker's default OCI configuration, and its setters |
//! | [`task`] | create, start, kill, wait: a container through its watcher |
//! | [`attach`](run) | the foreground: terminal, signals, exit status |
//! | `shim` | the watcher: one process a container, which no thread and no other container shares |
//! | `state` | what is known across processes, and cleaning up after dead ones |
//!
//! The watcher is what a detached container will keep: it is in a session of its own, reaps the container, and removes
//! the container's cgroup and state when it ends. In the foreground it kills the container when `strata` dies, and
//! the container dies with its watcher, so that nothing runs which nobody watches.
//!
//! # Limitations
//!
//! - A container whose `strata run` is killed with SIGKILL is killed too; with dockerd it would go on, for there the
//!   daemon holds it. Detached containers will.
//! - The detach keys (`ctrl-p ctrl-q`) are passed to the container.
//! - Without `-t` the container's standard streams are the caller's own files, not pipes: a program inside that opens
//!   `/dev/stdout` as another user than the caller's needs the right to. `--user` on a pipe gets it, on a file not.
//! - Real-time signals are not passed on; they end `strata run`, and the container with it.
//! - With control groups of version 1 the container is in no group of the hierarchies that have no controller
//!   (`systemd`), and does not see them: a systemd inside it needs `--runtime runc`.
//! - Control groups are needed. Where `/sys/fs/cgroup` is read-only (inside another container), creating fails and
//!   says so; give that container its own writable cgroups.
#![forbid(unsafe_code)]

mod attach;
mod cgroup;
mod error;
mod filter;
pub mod freezer;
mod protocol;
mod shim;
pub mod spec;
mod state;
pub mod task;
mod terminal;

use serde::{Deserialize, Serialize};

pub use attach::run;
pub use error::{Error, Refusal};
pub use shim::init;
pub use spec::{Spec, SpecBuilder};
pub use state::{Known, ProcessId, cleanup, list};
pub use task::{Created, Running, Runtime, Stdin, Task};

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code, or 128 and the signal's number, as Docker has it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the container for lack of memory.
    pub oom_killed: bool,
}
