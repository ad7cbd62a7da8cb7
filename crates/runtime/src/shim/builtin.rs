//! The built-in runtime: libcontainer, called in this process.

use std::path::Path;

use libcontainer::{
    container::{Container, builder::ContainerBuilder},
    error::LibcontainerError,
    syscall::syscall::SyscallType,
};

use super::{confine::Confinement, executor::Command, log};
use crate::{
    cgroup,
    error::{Context, Error, Refusal},
    protocol::{CreateTask, FILTER},
    state::StateDir,
};

/// Creates the container, whose first process then waits for [`start`] as a child of this process.
pub(super) fn create(task: &CreateTask, console: Option<&Path>) -> Result<(Container, i32), Error> {
    cgroup::check_writable()?;
    let (log, records) = log::pipe().context("make a pipe for", &task.state)?;
    log.install();
    match build(task, console, Command::new(log, confinement(task)?)) {
        Ok(container) => match container.pid() {
            Some(pid) => {
                let pid = pid.as_raw();
                Ok((container, pid))
            }
            None => Err(Error::Create { refusal: Refusal::Other, reason: "the container has no process".to_owned() }),
        },
        Err(error) => Err(explain(&error, records.read())),
    }
}

/// Reads the filter that is ours to load.
fn confinement(task: &CreateTask) -> Result<Option<Confinement>, Error> {
    let Some(lent) = task.filter.clone() else { return Ok(None) };
    let path = task.bundle.join(FILTER);
    let program = std::fs::read(&path).context("read", &path)?;
    Ok(Some(Confinement { program, lent }))
}

fn build(task: &CreateTask, console: Option<&Path>, command: Command) -> Result<Container, LibcontainerError> {
    ContainerBuilder::new(task.id.clone(), SyscallType::default())
        .with_root_path(StateDir::at(&task.state).runtime_root())?
        .with_console_socket(console)
        .with_executor(command)
        .validate_id()?
        .as_init(&task.bundle)
        .with_systemd(false)
        .build()
}

fn explain(error: &LibcontainerError, told: log::Told) -> Error {
    if let Some((refusal, text)) = told.refused {
        return Error::Create { refusal, reason: format!("unable to start container process: {text}") };
    }
    let mut reason = chain(error);
    if let Some(first) = told.first_error
        && !reason.contains(&first)
    {
        reason = format!("{reason}: {first}");
    }
    Error::Create { refusal: Refusal::Other, reason: format!("unable to start container process: {reason}") }
}

/// The texts of `error` and of what caused it, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Lets the container's first process execute its command.
pub(super) fn start(container: &mut Container) -> Result<(), Error> {
    container.start().map_err(|error| Error::Start { reason: chain(&error) })
}
