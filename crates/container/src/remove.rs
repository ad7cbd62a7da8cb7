//! A container goes.

use std::{
    collections::HashSet,
    fs, thread,
    time::{Duration, Instant},
};

use strata_durable::{Deferred, Intent, Lock, remove_dir};
use strata_spec::{ContainerId, ErrorKind};

use crate::{Container, Error, Note, Status, Store, store::PATIENCE};

/// What else goes, and what stands in the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it if it runs; remove it even if its record is damaged.
    pub force: bool,
    /// Its volumes without a name go too.
    pub volumes: bool,
}

impl Store {
    /// Removes the container `id`.
    ///
    /// Its folder goes first, by a rename, which is the commit point: after a crash the container is there whole, or it is
    /// gone, and the journal says what else must go.
    pub fn remove(&self, id: &ContainerId, options: RemoveOptions) -> Result<(), Error> {
        let container = match self.load(id) {
            Ok(container) => Some(container),
            Err(error @ Error::Damaged { .. }) if !options.force => return Err(error),
            Err(Error::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(container) = &container {
            // Its record must not go while its layers cannot.
            self.layers_of(container).map_or(Ok(()), |layers| layers.driver().usable())?;
            self.stop_for_removal(container, options.force)?;
        }
        let Some(lock) = self.run_lock(id)? else {
            return Err(Error::conflict(format!("removal of container {id}: it is in use by another process")));
        };
        if !self.exists(id) {
            // Whoever ran it has removed it at its end.
            return if options.force { Ok(()) } else { Err(Error::NotFound(id.to_string())) };
        }
        let container = self.read(id).ok();
        if let Some(running) = container.as_ref().filter(|c| c.record.state.running) {
            // Nobody here runs it: it was another engine's, and its process is on its way out.
            self.await_end(running)?;
        }
        self.remove_locked(id, lock, container.as_ref(), options.volumes)
    }

    /// Kills a container that runs, if it may be; whoever runs it then records its end.
    fn stop_for_removal(&self, container: &Container, force: bool) -> Result<(), Error> {
        if !container.record.state.running {
            return Ok(());
        }
        if !force {
            return Err(running_error(container));
        }
        let Some(pid) = self.live_pid(container) else { return Ok(()) };
        tracing::info!(container = %container.id, pid = pid.as_raw_nonzero(), "killed for its removal");
        match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::conflict(format!("cannot kill container {}: {errno}", container.id))),
        }
    }

    /// Waits until the process of a container that was killed is gone.
    fn await_end(&self, container: &Container) -> Result<(), Error> {
        let start = Instant::now();
        while self.live_pid(container).is_some() {
            if start.elapsed() > PATIENCE {
                return Err(running_error(container));
            }
            thread::sleep(Duration::from_millis(5));
        }
        strata_runtime::cleanup(&self.state_root(), container.id.as_str())?;
        Ok(())
    }

    /// The container's first process, if the one of that number still is it.
    fn live_pid(&self, container: &Container) -> Option<rustix::process::Pid> {
        let pid = i32::try_from(container.record.state.pid).ok().filter(|pid| *pid > 1)?;
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        groups.contains(container.id.as_str()).then(|| rustix::process::Pid::from_raw(pid))?
    }

    /// Removes what is there of `id`, whose lock is held.
    pub(crate) fn remove_locked(
        &self,
        id: &ContainerId,
        lock: Lock,
        container: Option<&Container>,
        volumes: bool,
    ) -> Result<(), Error> {
        let intent = self.journal.begin(&self.removal(id, container, volumes))?;
        self.remove_noted(id, lock, container, volumes, intent, Deferred::default())
    }

    /// What is about to go.
    pub(crate) fn removal(&self, id: &ContainerId, container: Option<&Container>, volumes: bool) -> Note {
        Note::Remove { container: id.clone(), volumes: volumes_of(container, volumes) }
    }

    /// As [`Self::remove_locked`], once the journal knows of it.
    pub(crate) fn remove_noted(
        &self,
        id: &ContainerId,
        lock: Lock,
        container: Option<&Container>,
        volumes: bool,
        intent: Intent,
        mut syncs: Deferred,
    ) -> Result<(), Error> {
        let used = self.removal_lock(id)?;
        syncs.during(|| {
            remove_dir(self.layout.container(id).path(), &self.layout.tmp())?;
            self.remove_rest(id, &volumes_of(container, volumes))
        })?;
        syncs.finish()?;
        // Should the entry come back, there is nothing left to settle.
        syncs.during(|| intent.done())?;
        // Only small files: one that stays is no harm.
        let _ = used.remove();
        let _ = lock.remove();
        tracing::info!(container = %id, "container removed");
        Ok(())
    }

    /// Removes what belongs to a container whose folder is gone.
    pub(crate) fn remove_rest(&self, id: &ContainerId, volumes: &[String]) -> Result<(), Error> {
        self.usable_layers().try_for_each(|layers| layers.remove_mount(id))?;
        self.unused(id, volumes)?.into_iter().try_for_each(|name| self.remove_volume(name))?;
        self.remove_bundle(id);
        Ok(())
    }

    /// The `volumes` that no container but `id` mounts; none while the record of another one is damaged, which may mount any.
    fn unused<'a>(&self, id: &ContainerId, volumes: &'a [String]) -> Result<Vec<&'a String>, Error> {
        if volumes.is_empty() {
            return Ok(Vec::new());
        }
        let mut used = HashSet::new();
        for other in self.all_ids()?.into_iter().filter(|other| other != id) {
            match self.read(&other) {
                Ok(other) => used.extend(other.record.mount_points.into_values().map(|point| point.name)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(container = %other, %error, "volumes stay: a damaged container may use them");
                    return Ok(Vec::new());
                }
            }
        }
        Ok(volumes.iter().filter(|name| !used.contains(*name)).collect())
    }

    pub(crate) fn remove_bundle(&self, id: &ContainerId) {
        let path = self.bundle(id);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a bundle stays behind");
            }
            _ => {}
        }
    }

    /// Removes the lock files of a container that is not there.
    pub(crate) fn forget_locks(&self, id: &ContainerId) {
        if let Ok(Some(lock)) = self.try_run_lock(id) {
            let _ = lock.remove();
        }
    }
}

/// The volumes without a name, if they are to go.
fn volumes_of(container: Option<&Container>, volumes: bool) -> Vec<String> {
    let points = container.filter(|_| volumes).into_iter().flat_map(|c| c.record.mount_points.values());
    points.filter(|point| point.is_anonymous_volume()).map(|point| point.name.clone()).collect()
}

fn running_error(container: &Container) -> Error {
    let (state, advice) = match container.record.state.status() {
        Status::Paused => ("paused", "Unpause and then stop the container before attempting removal or force remove"),
        Status::Restarting => ("restarting", "Stop the container before attempting removal or force remove"),
        _ => ("running", "Stop the container before attempting removal or force remove"),
    };
    Error::conflict(format!("You cannot remove a {state} container {}. {advice}", container.id))
}
