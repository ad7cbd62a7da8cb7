//! The last step: from the prepared process to the container's command.
//!
//! Runs as the container's user, in its root, under its seccomp filter. The command is looked up as Docker does, and
//! its messages are Docker's, since people and scripts match on them.

use std::{
    ffi::CString,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use oci_spec::runtime::Spec;
use rustix::{fs::Access, io::Errno};

use super::{confine::Confinement, log::Log};
use crate::error::Refusal;

/// The exit code of a command that was found and that the kernel then refused to execute.
const EXEC_FAILED: i32 = 1;

#[derive(Clone)]
pub(super) struct Command {
    log: Log,
    /// Absent where libcontainer has confined the process, or nothing does.
    confinement: Option<Confinement>,
}

impl Command {
    pub fn new(log: Log, confinement: Option<Confinement>) -> Self {
        Self { log, confinement }
    }
}

impl Executor for Command {
    /// The last that libcontainer asks before the process waits for its start: from here on it is as its command will find it.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        if let Err(error) = reopen_null() {
            let text = format!("cannot open /dev/null: {error}");
            self.log.refuse(Refusal::Other, &text);
            return Err(ExecutorValidationError::ArgValidationError(text));
        }
        if let Some(Err(error)) = self.confinement.as_ref().map(Confinement::apply) {
            let text = format!("cannot load the seccomp filter: {error}");
            self.log.refuse(Refusal::Other, &text);
            return Err(ExecutorValidationError::ArgValidationError(text));
        }
        let (name, search) = name_and_path(spec);
        find(name, search).map(drop).map_err(|error| {
            let text = error.text(name);
            self.log.refuse(error.refusal(), &text);
            ExecutorValidationError::ArgValidationError(text)
        })
    }

    /// Nothing: the command gets its environment when it is executed, in the order of the configuration.
    fn setup_envs(&self, _: std::collections::HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (name, search) = name_and_path(spec);
        let invalid = |_| ExecutorError::InvalidArg;
        let strings = |list: &[String]| -> Result<Vec<CString>, ExecutorError> {
            list.iter().map(|text| CString::new(text.as_str()).map_err(invalid)).collect()
        };
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let program = find(name, search).map_err(|error| ExecutorError::Other(error.text(name)))?;
        let args = strings(process.args().as_deref().unwrap_or_default())?;
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|line| line.starts_with("HOME=")) {
            let passwd = fs::read("/etc/passwd").unwrap_or_default();
            env.push(format!("HOME={}", home_of(&passwd, process.user().uid())));
        }
        let env = strings(&env)?;
        let path = CString::new(program.as_os_str().as_bytes()).map_err(invalid)?;
        // Whatever ends the watcher ends the container: nothing may run that nobody reaps.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        let Err(errno) = nix::unistd::execve(&path, &args, &env);
        // The container counts as started by now, so this is its own output and exit code, as with dockerd.
        eprintln!("exec {}: {}", program.display(), go_text(io::Error::from(errno).raw_os_error()));
        std::process::exit(EXEC_FAILED)
    }
}

/// Opens for reading and writing the standard streams that are `/dev/null`; libcontainer has opened them for reading alone.
fn reopen_null() -> io::Result<()> {
    let null = rustix::fs::stat("/dev/null")?.st_rdev;
    let is_null = |stream| rustix::fs::fstat(stream).is_ok_and(|stat| stat.st_rdev == null);
    let open = || fs::File::options().read(true).write(true).open("/dev/null");
    if is_null(rustix::stdio::stdin()) {
        rustix::stdio::dup2_stdin(open()?)?;
    }
    if is_null(rustix::stdio::stdout()) {
        rustix::stdio::dup2_stdout(open()?)?;
    }
    if is_null(rustix::stdio::stderr()) {
        rustix::stdio::dup2_stderr(open()?)?;
    }
    Ok(())
}

fn name_and_path(spec: &Spec) -> (&str, &str) {
    let process = spec.process().as_ref();
    let name = process.and_then(|process| process.args().as_ref()?.first()).map_or("", String::as_str);
    let env = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
    // As the kernel and libc do, the first of two equal names counts.
    let search = env.iter().find_map(|line| line.strip_prefix("PATH=")).unwrap_or("");
    (name, search)
}

#[derive(Debug, PartialEq, Eq)]
enum NotFound {
    /// A bare name that no folder of `$PATH` has as a program.
    InPath,
    /// A path that cannot be looked at.
    Stat(Errno),
    /// A path to what is no program, or not for this user.
    Permission,
}

impl NotFound {
    fn text(&self, name: &str) -> String {
        let quoted = format!("{name:?}");
        match self {
            Self::InPath => format!("exec: {quoted}: executable file not found in $PATH"),
            Self::Stat(errno) => format!("exec: {quoted}: stat {name}: {}", go_text(Some(errno.raw_os_error()))),
            Self::Permission => format!("exec: {quoted}: permission denied"),
        }
    }

    fn refusal(&self) -> Refusal {
        match self {
            Self::InPath | Self::Stat(Errno::NOENT) => Refusal::NotFound,
            Self::Permission | Self::Stat(Errno::ACCESS) => Refusal::NotInvocable,
            Self::Stat(_) => Refusal::Other,
        }
    }
}

/// Looks `name` up: with a slash as a path from the working directory, else in the folders of `search`.
fn find(name: &str, search: &str) -> Result<PathBuf, NotFound> {
    if name.contains('/') {
        let path = Path::new(name);
        let kind = rustix::fs::stat(path).map_err(NotFound::Stat)?;
        return if is_program(path, kind.st_mode) { Ok(path.to_owned()) } else { Err(NotFound::Permission) };
    }
    let folders = search.split(':').map(|folder| if folder.is_empty() { "." } else { folder });
    folders
        .filter(|_| !name.is_empty())
        .map(|folder| Path::new(folder).join(name))
        .find(|path| rustix::fs::stat(path).is_ok_and(|stat| is_program(path, stat.st_mode)))
        .ok_or(NotFound::InPath)
}

fn is_program(path: &Path, mode: u32) -> bool {
    !rustix::fs::FileType::from_raw_mode(mode).is_dir() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

/// Returns the home folder of `uid` by the bytes of `/etc/passwd`; `/` if it is not listed.
fn home_of(passwd: &[u8], uid: u32) -> String {
    let text = String::from_utf8_lossy(passwd);
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2).is_some_and(|field| field.parse() == Ok(uid)))
        .and_then(|fields| fields.get(5).filter(|home| !home.is_empty()).map(|home| (*home).to_owned()))
        .unwrap_or_else(|| "/".to_owned())
}

/// An errno's text as Go has it, which is what Docker's messages are made of.
fn go_text(errno: Option<i32>) -> String {
    let Some(errno) = errno else { return "unknown error".to_owned() };
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn commands_are_found_or_refused_in_dockers_words() {
        let root = tempfile::tempdir().expect("temp dir");
        let file = |name: &str, mode| {
            let path = root.path().join(name);
            fs::write(&path, "").expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        };
        file("run", 0o755);
        file("data", 0o644);
        fs::create_dir(root.path().join("dir")).expect("mkdir");
        let dir = root.path().display().to_string();
        let search = format!("/nonexistent:{dir}");
        let absolute = |name: &str| format!("{dir}/{name}");
        assert_eq!(find("run", &search), Ok(root.path().join("run")));
        assert_eq!(find(&absolute("run"), ""), Ok(root.path().join("run")));
        let refused = |name: &str| {
            let error = find(name, &search).expect_err("not a program");
            (error.text(name), error.refusal())
        };
        let in_path = |name: &str| format!("exec: {name:?}: executable file not found in $PATH");
        for name in ["nope", "data", "dir", ""] {
            assert_eq!(refused(name), (in_path(name), Refusal::NotFound));
        }
        for name in [absolute("data"), absolute("dir")] {
            assert_eq!(refused(&name), (format!("exec: {name:?}: permission denied"), Refusal::NotInvocable));
        }
        let gone = absolute("gone");
        let text = format!("exec: {gone:?}: stat {gone}: no such file or directory");
        assert_eq!(refused(&gone), (text, Refusal::NotFound));
        assert_eq!(refused(&absolute("run/x")).1, Refusal::Other);
    }

    #[test]
    fn homes_are_looked_up_by_number() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbad line\nu:x:1000:1000::/home/u:\nv:x:7:7:::\n\xff:x:8:8::/e:\n";
        for (uid, home) in [(0, "/root"), (1000, "/home/u"), (7, "/"), (8, "/e"), (9, "/")] {
            assert_eq!(home_of(passwd, uid), home, "{uid}");
        }
    }
}
