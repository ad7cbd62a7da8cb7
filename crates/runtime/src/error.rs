//! What can go wrong between a bundle and an exit status, and the exit code that Docker gives it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strata_spec::ErrorKind;

pub use strata_durable::Context;

/// Why the command of a container was not run; Docker's words, and its exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// There is no such file: exit code 127.
    NotFound,
    /// There is, and it cannot be invoked: exit code 126.
    NotInvocable,
    /// Anything else: exit code 125.
    Other,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime could not create the container; `reason` ends as Docker's message does.
    #[error("OCI runtime create failed: {reason}: unknown")]
    Create { refusal: Refusal, reason: String },
    #[error("OCI runtime start failed: {reason}: unknown")]
    Start { reason: String },
    #[error("cannot run the OCI runtime {}: {source}; install it, or use the built-in one", path.display())]
    RuntimeMissing { path: PathBuf, source: std::io::Error },
    #[error("container {id} cannot be created: the runtime still knows one of that ID under {}", path.display())]
    InUse { id: String, path: PathBuf },
    #[error("the process that watches container {id} has died; its container was removed")]
    ShimDied { id: String },
    #[error("the input device is not a TTY")]
    NotATerminal,
    #[error("unknown capability {name:?}: see capabilities(7) for the names")]
    Capability { name: String },
    #[error("container ID {id:?} is not usable: letters, digits, `_`, `+`, `-` and `.` only")]
    Id { id: String },
    #[error("cannot use control groups at {}: {reason}; run as root on a machine with writable cgroups", path.display())]
    Cgroup { path: PathBuf, reason: &'static str },
    #[error("the message between strata and its container's watcher is unreadable: {reason}")]
    Protocol { reason: String },
    #[error(transparent)]
    Io(#[from] strata_durable::Error),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Create { refusal: Refusal::NotFound, .. } => ErrorKind::NotFound,
            Self::Create { refusal: Refusal::NotInvocable, .. } => ErrorKind::PermissionDenied,
            Self::RuntimeMissing { source, .. } => ErrorKind::of_io(source),
            Self::InUse { .. } => ErrorKind::Conflict,
            Self::NotATerminal | Self::Capability { .. } | Self::Id { .. } => ErrorKind::Invalid,
            Self::Cgroup { .. } => ErrorKind::Unsupported,
            Self::Io(error) => error.kind(),
            Self::Create { .. } | Self::Start { .. } | Self::ShimDied { .. } | Self::Protocol { .. } => {
                ErrorKind::System
            }
        }
    }

    /// Returns the exit code that `docker run` has for this: 127, 126, or 125; 1 for input that is no terminal.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Create { refusal: Refusal::NotFound, .. } => 127,
            Self::Create { refusal: Refusal::NotInvocable, .. } => 126,
            Self::NotATerminal => 1,
            _ => 125,
        }
    }
}

impl Refusal {
    /// Reads a runtime's message as the `docker` command does.
    pub fn of_message(message: &str) -> Self {
        let has = |text| message.contains(text);
        if has("executable file not found") || has("no such file or directory") {
            Self::NotFound
        } else if has("permission denied") || has("is a directory") {
            Self::NotInvocable
        } else {
            Self::Other
        }
    }
}
