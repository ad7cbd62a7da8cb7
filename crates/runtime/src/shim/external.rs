//! A runtime of the user's choice, by the command line that runc, crun and youki share.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitStatus},
};

use serde::Deserialize;

use crate::{
    error::{Context, Error, Refusal},
    protocol::CreateTask,
    state::StateDir,
};

/// `<runtime> create`: the container's first process then waits for [`start`].
///
/// That process is reparented to this one, which must be a child subreaper.
pub(super) fn create(task: &CreateTask, program: &Path, console: Option<&Path>) -> Result<i32, Error> {
    let pid_file = task.state.join("pid");
    let mut command = runtime(task, program);
    command.arg("create").arg("--bundle").arg(&task.bundle).arg("--pid-file").arg(&pid_file);
    if let Some(console) = console {
        command.arg("--console-socket").arg(console);
    }
    let status = run(command.arg(&task.id), program)?;
    if !status.success() {
        let reason = reason(task, program, status);
        return Err(Error::Create { refusal: Refusal::of_message(&reason), reason });
    }
    let text = fs::read_to_string(&pid_file).context("read", &pid_file)?;
    text.trim().parse().map_err(|_| Error::Create {
        refusal: Refusal::Other,
        reason: format!("{} wrote no process ID to {}", program.display(), pid_file.display()),
    })
}

pub(super) fn start(task: &CreateTask, program: &Path) -> Result<(), Error> {
    let status = run(runtime(task, program).arg("start").arg(&task.id), program)?;
    if status.success() { Ok(()) } else { Err(Error::Start { reason: reason(task, program, status) }) }
}

/// `<runtime> delete --force`; that it fails is no error, since it may not have created the container.
pub(super) fn delete(task: &CreateTask, program: &Path) {
    if let Err(error) = runtime(task, program).args(["delete", "--force"]).arg(&task.id).output() {
        tracing::warn!(id = task.id, runtime = %program.display(), %error, "the container's runtime cannot be run");
    }
}

fn runtime(task: &CreateTask, program: &Path) -> Command {
    let state = StateDir::at(&task.state);
    let mut command = Command::new(program);
    command.arg("--root").arg(state.runtime_root());
    command.arg("--log").arg(log_file(task)).args(["--log-format", "json"]);
    command
}

fn log_file(task: &CreateTask) -> std::path::PathBuf {
    task.state.join("runtime.log")
}

fn run(command: &mut Command, program: &Path) -> Result<ExitStatus, Error> {
    command.status().map_err(|source| Error::RuntimeMissing { path: program.to_owned(), source })
}

#[derive(Deserialize)]
struct LogLine {
    level: String,
    msg: String,
}

/// What the runtime logged last as an error.
fn reason(task: &CreateTask, program: &Path, status: ExitStatus) -> String {
    let lines = fs::File::open(log_file(task)).map(BufReader::new).into_iter().flat_map(BufRead::lines);
    lines
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<LogLine>(&line).ok())
        .filter(|line| line.level == "error" || line.level == "fatal")
        .last()
        .map_or_else(|| format!("{} ended with {status}", program.display()), |line| line.msg)
}
