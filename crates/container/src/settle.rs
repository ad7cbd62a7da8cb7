//! What dead operations left is undone or finished.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use strata_spec::ContainerId;

use crate::{Container, Error, Store, store::PATIENCE};

/// The exit code of a container that nobody watched to its end: killed.
const KILLED: i64 = 137;

/// What an operation on containers writes to the journal before it does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op")]
pub enum Note {
    /// A container is being made; the name is taken. One that is `passing` goes with the operation, whatever became of it.
    #[serde(rename = "container.create")]
    Create { container: ContainerId, name: String, passing: bool },
    /// A volume is being made for it.
    #[serde(rename = "container.volume")]
    Volume { name: String },
    /// It runs.
    #[serde(rename = "container.run")]
    Run { container: ContainerId },
    /// It stands still, and is to go on.
    #[serde(rename = "container.pause")]
    Pause { container: ContainerId },
    /// It is going, and these volumes with it.
    #[serde(rename = "container.remove")]
    Remove { container: ContainerId, volumes: Vec<String> },
    /// A note of another store.
    #[serde(other)]
    Other,
}

impl Note {
    /// Reads a note of any store; what is not ours is [`Note::Other`].
    pub fn of(value: &serde_json::Value) -> Self {
        Self::deserialize(value).unwrap_or(Self::Other)
    }
}

impl Store {
    /// Undoes or finishes what the notes of a dead operation say. Notes of other stores are passed over. Doing it twice, or
    /// being killed in between, is no harm.
    ///
    /// For `Journal::settle`, which calls this under the dead operation's lock. What is left of a container that is gone may lie under
    /// any driver, so the store must have the layers of all.
    pub fn settle(&self, notes: &[serde_json::Value]) -> Result<(), Error> {
        let notes: Vec<Note> = notes.iter().map(Note::of).filter(|note| *note != Note::Other).collect();
        for note in &notes {
            match note {
                Note::Create { container, passing: true, .. } => self.settle_passing(container, &notes)?,
                Note::Create { container, .. } if !self.exists(container) => {
                    self.remove_unfinished_layers(container)?;
                    self.remove_volumes(&notes)?;
                    self.forget_locks(container);
                }
                Note::Pause { container } => strata_runtime::freezer::thaw(container.as_str())?,
                Note::Run { container } if self.exists(container) => self.settle_run(container)?,
                Note::Remove { container, volumes } if !self.exists(container) => {
                    self.remove_rest(container, volumes)?;
                }
                _ => {}
            }
        }
        if !notes.is_empty() {
            strata_durable::dir::sweep_tmp(&self.layout.tmp())?;
        }
        Ok(())
    }

    /// Removes a container that was to go at its end, with whatever is there of it: nothing of it was put on disk for good.
    fn settle_passing(&self, id: &ContainerId, notes: &[Note]) -> Result<(), Error> {
        {
            let Some(_lock) = self.try_run_lock(id)? else { return Ok(()) };
            self.await_watcher(id)?;
        }
        if let Ok(container) = self.read(id)
            && container.record.state.running
        {
            self.settle_running(container)?;
        }
        if self.exists(id) {
            let Some(lock) = self.try_run_lock(id)? else { return Ok(()) };
            let container = self.read(id).ok();
            if container.as_ref().is_some_and(|container| container.record.state.running) {
                // Another engine's by now.
                return Ok(());
            }
            self.remove_locked(id, lock, container.as_ref(), true)?;
        }
        self.remove_unfinished_layers(id)?;
        self.remove_volumes(notes)?;
        self.forget_locks(id);
        Ok(())
    }

    /// Records the end of a dead run, and clears what it left, unless somebody runs the container anew.
    fn settle_run(&self, id: &ContainerId) -> Result<(), Error> {
        {
            let Some(_lock) = self.try_run_lock(id)? else { return Ok(()) };
            self.await_watcher(id)?;
        }
        match self.read(id) {
            Ok(container) if container.record.state.running => self.settle_running(container).map(drop),
            Ok(_) => self.settle_unstarted(id),
            // Of a damaged one listing tells.
            Err(Error::Damaged { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends what a dead run left running. A watcher whose master died ends by itself, in a moment.
    fn await_watcher(&self, id: &ContainerId) -> Result<(), Error> {
        let begun = Instant::now();
        while !strata_runtime::cleanup(&self.state_root(), id.as_str())? {
            if begun.elapsed() > PATIENCE {
                return Err(Error::conflict(format!(
                    "container {id} is still watched by a process of a run that died"
                )));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Undoes the preparations for a run that did not come to it, or the rest of one whose end is recorded.
    fn settle_unstarted(&self, id: &ContainerId) -> Result<(), Error> {
        let Some(_lock) = self.try_run_lock(id)? else { return Ok(()) };
        if self.read(id)?.record.state.running {
            return Ok(());
        }
        self.unmount(id)?;
        self.remove_bundle(id);
        Ok(())
    }

    /// Removes what a creation that died left of the container's layers, under whatever driver.
    fn remove_unfinished_layers(&self, id: &ContainerId) -> Result<(), Error> {
        self.usable_layers().try_for_each(|layers| Ok(layers.remove_unfinished_mount(id)?))
    }

    /// Removes the volumes that an operation noted.
    fn remove_volumes(&self, notes: &[Note]) -> Result<(), Error> {
        notes.iter().try_for_each(|note| match note {
            Note::Volume { name } => self.remove_volume(name),
            _ => Ok(()),
        })
    }

    pub(crate) fn exists(&self, id: &ContainerId) -> bool {
        self.layout.container(id).path().exists()
    }

    /// Records the end of a container that is said to run, if nobody runs it any more; one that was to go then, goes.
    ///
    /// Returns it as it now is.
    pub(crate) fn settle_running(&self, container: Container) -> Result<Container, Error> {
        let Some(lock) = self.try_run_lock(&container.id)? else { return Ok(container) };
        // It may have ended, and been recorded as ended, before the lock was ours.
        let mut container = self.read(&container.id)?;
        let state = &container.record.state;
        if !state.running || is_alive_elsewhere(state.pid, &container.id) {
            return Ok(container);
        }
        if !strata_runtime::cleanup(&self.state_root(), container.id.as_str())? {
            return Ok(container);
        }
        tracing::warn!(container = %container.id, "its end went unseen; recorded as killed");
        self.unmount(&container.id)?;
        self.remove_bundle(&container.id);
        container.record.state.set_exited(KILLED, jiff::Timestamp::now());
        self.save(&container)?;
        if container.host.auto_remove {
            self.remove_locked(&container.id, lock, Some(&container), true)?;
        }
        Ok(container)
    }
}

/// Whether process `pid` runs in a control group of the container's name: another engine's, whose daemon is gone.
fn is_alive_elsewhere(pid: i64, id: &ContainerId) -> bool {
    pid > 0
        && std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .is_ok_and(|groups| groups.lines().any(|line| line.contains(id.as_str()) && !line.contains("/strata/")))
}
