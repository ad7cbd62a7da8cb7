//! The watcher: this program, executed again, single-threaded, for one container.
//!
//! libcontainer forks without exec, so it must never run in a process with threads; and somebody must be the parent of
//! the container's first process. [`init`] turns a process into a watcher if it was started as one.

mod builtin;
mod confine;
mod executor;
mod external;
mod log;
mod loopback;
mod propagation;
mod sealed;
mod watch;

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

pub(crate) use confine::Lent;

use crate::{
    error::{Context, Error},
    protocol::Channel,
};

/// How a watcher knows itself: the name under which it was started, which no user's argument can be.
const NAME: &str = "strata-shim";

/// Runs the watcher and never returns, if this process was started as one; else returns at once.
///
/// A program that runs containers calls this first of all in `main`, before it has threads, reads arguments or opens
/// files.
pub fn init() {
    if std::env::args_os().next().is_some_and(|name| name == NAME) {
        std::process::exit(watch::main());
    }
}

/// Starts a watcher. Its control socket is its standard input; its standard output and error are the caller's.
pub(crate) fn spawn() -> Result<(Child, Channel), Error> {
    let (ours, theirs): (Channel, OwnedFd) = Channel::pair()?;
    let program = sealed::own_program()?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program.as_fd()));
    let mut command = Command::new(&path);
    command.arg0(NAME).env_clear().current_dir("/").stdin(Stdio::from(theirs));
    // An external runtime is looked up by it. Anything else could change what the container is.
    if let Some(search) = std::env::var_os("PATH") {
        command.env("PATH", search);
    }
    let child = command.spawn().context("execute this program again from", Path::new(&path))?;
    Ok((child, ours))
}
