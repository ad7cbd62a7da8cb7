//! What is known of running containers across processes: one folder each under the state root.
//!
//! ```text
//! <state root>/<id>/
//!   task.json       the task and its watcher's process: what `cleanup` needs if that process is gone
//!   console.sock    while a terminal is being handed over
//!   runtime/        the OCI runtime's own state (its --root)
//! ```
//!
//! The folder describes processes, so it means nothing after a reboot and is not synced to disk: the state root belongs
//! on a tmpfs such as `/run`. A folder whose `task.json` is missing or torn is one that nobody watches.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use crate::{
    cgroup,
    error::{Context, Error},
    protocol::CreateTask,
};

const TASK_FILE: &str = "task.json";
const RUNTIME_DIR: &str = "runtime";
const CONSOLE_SOCKET: &str = "console.sock";

/// A process that stays the same one: the kernel reuses numbers, not numbers and start times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// In clock ticks since boot: field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
}

impl ProcessId {
    /// Returns the identity of the running process `pid`; `None` if there is none.
    pub fn of(pid: i32) -> Option<Self> {
        let start_time = strata_sys::process::start_time(pid.try_into().ok()?)?;
        Some(Self { pid, start_time })
    }

    /// Whether the process still runs; a zombie counts as ended.
    pub fn is_alive(self) -> bool {
        let stat = fs::read(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        Self::of(self.pid) == Some(self) && !matches!(run_state(&stat), None | Some(b'Z' | b'X'))
    }
}

/// The state is what follows the command's name, which is in parentheses and may hold some itself.
fn run_state(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    stat.get(end + 2).copied()
}

/// A container that has a folder under the state root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub id: String,
    /// Whether somebody watches it; if not, [`cleanup`] is due.
    pub watched: bool,
}

#[derive(Serialize, Deserialize)]
struct Record {
    task: CreateTask,
    watcher: ProcessId,
}

/// The folder of one container.
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// Returns the folder of `id`, which need not exist. Fails with [`Error::Id`] on what cannot be a file name.
    pub fn of(state_root: &Path, id: &str) -> Result<Self, Error> {
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
        if id.is_empty() || id.starts_with('.') || id.len() > 128 || !id.chars().all(usable) {
            return Err(Error::Id { id: id.to_owned() });
        }
        Ok(Self(state_root.join(id)))
    }

    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The runtime's `--root`.
    pub fn runtime_root(&self) -> PathBuf {
        self.0.join(RUNTIME_DIR)
    }

    pub fn console_socket(&self) -> PathBuf {
        self.0.join(CONSOLE_SOCKET)
    }

    /// Makes the folder and records `task` as watched by this process.
    ///
    /// Fails with [`Error::InUse`] if the folder is there.
    pub fn create(&self, task: &CreateTask) -> Result<(), Error> {
        if let Some(root) = self.0.parent() {
            fs::create_dir_all(root).context("create", root)?;
        }
        match fs::create_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::InUse { id: task.id.clone(), path: self.0.clone() });
            }
            result => result.context("create", &self.0)?,
        }
        let root = self.runtime_root();
        fs::create_dir(&root).context("create", &root)?;
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let watcher =
            ProcessId::of(pid).ok_or_else(|| Error::Protocol { reason: "/proc is not mounted".to_owned() })?;
        let record = Record { task: task.clone(), watcher };
        let text = serde_json::to_vec(&record).map_err(|error| Error::Protocol { reason: error.to_string() })?;
        let file = self.0.join(TASK_FILE);
        let new = self.0.join("task.json.new");
        fs::write(&new, text).context("write", &new)?;
        fs::rename(&new, &file).context("rename into place", &file)?;
        Ok(())
    }

    pub fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => Ok(result.context("remove", &self.0)?),
        }
    }

    fn record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.0.join(TASK_FILE)).ok()?).ok()
    }
}

/// Returns the containers under `state_root`, sorted by ID; none if it does not exist.
pub fn list(state_root: &Path) -> Result<Vec<Known>, Error> {
    let entries = match fs::read_dir(state_root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.context("read", state_root)?,
    };
    let mut known = Vec::new();
    for entry in entries {
        let name = entry.context("read", state_root)?.file_name();
        let Some(dir) = name.to_str().and_then(|id| StateDir::of(state_root, id).ok()) else { continue };
        let watched = dir.record().is_some_and(|record| record.watcher.is_alive());
        known.push(Known { id: name.to_string_lossy().into_owned(), watched });
    }
    known.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(known)
}

/// Ends what is left of container `id` after its watcher died: its processes, its cgroup, its state folder.
///
/// Returns `false`, having done nothing, if its watcher is alive; `true` if nothing is left, also if nothing was.
/// The root filesystem's mount is the caller's to undo.
pub fn cleanup(state_root: &Path, id: &str) -> Result<bool, Error> {
    let dir = StateDir::of(state_root, id)?;
    let record = dir.record();
    if record.as_ref().is_some_and(|record| record.watcher.is_alive()) {
        return Ok(false);
    }
    let cgroup = record.as_ref().map_or_else(|| cgroup::path_of(id), |record| record.task.cgroup.clone());
    if let Some(program) = record.and_then(|record| record.task.runtime) {
        // It may not know the container any more, or be gone itself: what counts is that nothing is left below.
        let delete =
            Command::new(&program).arg("--root").arg(dir.runtime_root()).args(["delete", "--force", id]).output();
        if let Err(error) = delete {
            tracing::warn!(id, runtime = %program.display(), %error, "the container's runtime cannot be run");
        }
    }
    cgroup::remove(&cgroup)?;
    dir.remove()?;
    tracing::info!(id, "what a dead watcher left was removed");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_past_any_command_name() {
        for name in ["sh", "a b", "x) R (", ")"] {
            assert_eq!(run_state(format!("12 ({name}) S 1 2").as_bytes()), Some(b'S'), "{name}");
        }
        for damaged in ["", "12 (sh", "12 (sh)"] {
            assert_eq!(run_state(damaged.as_bytes()), None, "{damaged:?}");
        }
    }

    #[test]
    fn a_process_is_itself_and_no_other() {
        let me = ProcessId::of(std::process::id() as i32).expect("this process runs");
        assert!(me.is_alive());
        assert!(!ProcessId { start_time: me.start_time + 1, ..me }.is_alive());
    }

    #[test]
    fn only_plain_names_are_ids() {
        let root = Path::new("/run/x");
        for good in ["4f0c7a53", "a_b-c.d+e"] {
            assert!(StateDir::of(root, good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", ".hidden", "ü"] {
            assert!(matches!(StateDir::of(root, bad), Err(Error::Id { .. })), "{bad}");
        }
    }

    #[test]
    fn leftovers_without_a_watcher_are_listed_and_removed() {
        let root = tempfile::tempdir().expect("temp dir");
        fs::create_dir_all(root.path().join("dead/runtime")).expect("create");
        fs::write(root.path().join("dead/task.json"), "{torn").expect("write");
        assert_eq!(list(root.path()).expect("list"), [Known { id: "dead".to_owned(), watched: false }]);
        assert!(cleanup(root.path(), "dead").expect("cleanup"));
        assert!(list(root.path()).expect("list").is_empty());
        assert!(cleanup(root.path(), "dead").expect("nothing left to do"));
    }
}
