//! A container runs in the foreground.
//!
//! ```text
//! <exec root>/bundles/<ID>/config.json    what its runtime is told; gone with the run
//! <exec root>/runtime/<ID>/               the runtime's own state
//! <exec root>/filters/                    compiled seccomp filters, for all containers
//! ```
//!
//! The lock `container-<ID>.run` is held by the process that runs a container, for as long as it does. A record that says that its
//! container runs, and whose lock is free, tells of a process that died: whoever reads it next settles it.

use std::fs;

use jiff::Timestamp;
use strata_durable::{Context, Deferred, Intent, Lock, create_dir_all};
use strata_graphdriver::Access;
use strata_runtime::{Exit, Runtime, Stdin, Task};
use strata_spec::ContainerId;

use crate::{
    Container, Created, Error, Note, Request, State, Store, bundle,
    create::{Base, end, unsupported},
    files, plan,
};

/// The exit code of a container that could not be started, where neither its command nor an earlier run gives another.
const NOT_STARTED: i64 = 128;

impl Store {
    /// Runs a container to its end, attached to this process's standard streams, and returns how it ended. A container that is
    /// to be removed at its end is gone then.
    ///
    /// Its state is in its record before its command is executed, and on disk after. Where it cannot be started the record says why, as
    /// `docker inspect` shows it.
    pub fn run(&self, id: &ContainerId) -> Result<Exit, Error> {
        // Whoever ran it before may have died.
        self.load(id)?;
        let Some(lock) = self.run_lock_or_running(id)? else {
            return Err(Error::AlreadyRunning(id.to_string()));
        };
        let container = self.read(id)?;
        may_start(&container)?;
        // After a power cut nothing runs, and a record that says so is settled by itself; but what goes at its end is noted for good.
        let intent = Deferred::when(!container.host.auto_remove)
            .during(|| self.journal.begin(&Note::Run { container: id.clone() }))?;
        self.run_noted(container, lock, intent, Deferred::default())
    }

    /// Creates a container and runs it, as [`Self::create`] and [`Self::run`] do, in one operation: one that is to be removed at
    /// its end goes even if this process dies. `ready` is called in between.
    pub fn create_and_run(
        &self,
        image: Base<'_>,
        request: &Request,
        ready: impl FnOnce(&Created),
    ) -> Result<Exit, Error> {
        let (created, mut intent, syncs) = self.begin(image, request, request.auto_remove)?;
        let id = &created.container.id;
        let lock = self
            .run_lock(id)?
            .ok_or_else(|| Error::conflict(format!("container {id} is in use by another process")))?;
        ready(&created);
        if !request.auto_remove {
            Deferred::when(true).during(|| intent.note(&Note::Run { container: id.clone() }))?;
        }
        self.run_noted(created.container, lock, intent, syncs)
    }

    /// Runs a container whose lock is held, once the journal knows of it.
    fn run_noted(
        &self,
        mut container: Container,
        lock: Lock,
        mut intent: Intent,
        mut syncs: Deferred,
    ) -> Result<Exit, Error> {
        let id = container.id.clone();
        let before = container.record.state.clone();
        let result = self.run_locked(&mut container, &mut syncs);
        self.remove_bundle(&id);
        record_end(&mut container, before, &result);
        if container.host.auto_remove {
            // Of a passing one the journal knows from the first that all of it goes.
            if !syncs.is_on() {
                intent.note(&self.removal(&id, Some(&container), true))?;
            }
            self.remove_noted(&id, lock, Some(&container), true, intent, syncs)?;
        } else {
            self.save(&container)?;
            end(intent, &container);
        }
        result
    }

    /// The lock, or `None` at once where the container runs; one that is busy otherwise is waited for.
    fn run_lock_or_running(&self, id: &ContainerId) -> Result<Option<Lock>, Error> {
        if let Some(lock) = self.try_run_lock(id)? {
            return Ok(Some(lock));
        }
        if self.read(id)?.record.state.running {
            return Ok(None);
        }
        self.run_lock(id)
    }

    fn run_locked(&self, container: &mut Container, syncs: &mut Deferred) -> Result<Exit, Error> {
        let mounted = self.mount(container, Access::ReadWrite)?;
        let dir = self.layout.container(&container.id);
        files::write(&dir, container)?;
        let path_text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        container.record.hostname_path = path_text(dir.hostname());
        container.record.hosts_path = path_text(dir.hosts());
        container.record.resolv_conf_path = path_text(dir.resolv_conf());

        let spec = bundle::spec(container, mounted.path(), &self.layout)?;
        let bundle = self.bundle(&container.id);
        create_dir_all(&self.exec_root, 0o711)?;
        fs::create_dir_all(&bundle).context("make", &bundle)?;
        let (id, state_root, runtime) = (container.id.clone(), self.state_root(), runtime_of(&container.host.runtime));
        let filters = self.exec_root.join("filters");
        let task = Task {
            id: id.as_str(),
            bundle: &bundle,
            state_root: &state_root,
            filters: &filters,
            spec: &spec,
            stdin: if container.record.config.open_stdin { Stdin::Attached } else { Stdin::Null },
            runtime: &runtime,
        };
        let on_created = |pid: i32| {
            container.record.state.set_running(pid.into(), Timestamp::now());
            container.record.has_been_started_before = true;
            container.record.has_been_manually_stopped = false;
            syncs.during(|| self.save_for_now(container))
        };
        let exit = strata_runtime::run::<Error>(&task, on_created, |_| {})?;
        drop(mounted);
        Ok(exit)
    }
}

/// Refuses what cannot run here.
fn may_start(container: &Container) -> Result<(), Error> {
    let state = &container.record.state;
    if state.removal_in_progress || state.dead {
        return Err(Error::conflict("container is marked for removal and cannot be started"));
    }
    if state.running {
        return Err(Error::AlreadyRunning(container.id.to_string()));
    }
    let name = container.name();
    if !matches!(container.host.network_mode.as_str(), "none" | "host") {
        return Err(Error::Unsupported(format!(
            "container {name} is made for network {:?}: there are `none` and `host`; commit it and run its image on one of them",
            container.host.network_mode
        )));
    }
    match unsupported(&container.host) {
        Some(what) => {
            Err(Error::Unsupported(format!("container {name} was made with {what}, which is not available yet")))
        }
        None => Ok(()),
    }
}

/// Puts into the record how the run went.
fn record_end(container: &mut Container, before: State, result: &Result<Exit, Error>) {
    let state = &mut container.record.state;
    match result {
        Ok(exit) => {
            state.set_exited(exit.code.into(), Timestamp::now());
            state.oom_killed = exit.oom_killed;
        }
        Err(error) => {
            *state = before;
            state.error = error.to_string();
            // As dockerd: a container that could not be started keeps the exit code of its last run, unless the command is to blame.
            state.exit_code = match (error.exit_code(), state.exit_code) {
                (code @ (126 | 127), _) => code.into(),
                (_, 0) => NOT_STARTED,
                (_, before) => before,
            };
        }
    }
}

/// The program that a record names.
fn runtime_of(name: &str) -> Runtime {
    match name {
        "" | "runc" => Runtime::BuiltIn,
        plan::RUNC | "io.containerd.runtime.v1.linux" => Runtime::External("runc".into()),
        other => Runtime::External(other.into()),
    }
}
