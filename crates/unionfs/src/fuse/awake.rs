//! Keeping processors from sleeping under load, for mounts that ask for it (`awake=on`).
//!
//! A client sleeps until its answer comes, and so does its processor if it is idle. On a virtual machine, waking one takes longer
//! than most answers. The setting is held only while requests come; a thread releases it.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::Switch;

/// While it is open, processors enter no state that takes longer to leave than the microseconds written to it (Linux,
/// Documentation/power/pm_qos_interface.rst). The end of the process closes it.
const LATENCY: &str = "/dev/cpu_dma_latency";

/// Time without requests after which processors may sleep.
const QUIET: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    /// Requests so far.
    requests: u64,
    watched: bool,
    /// Whether opening it has failed.
    denied: bool,
}

#[derive(Debug)]
pub(super) struct Awake {
    wanted: Switch,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Awake {
    pub fn new(wanted: Switch) -> Self {
        Self { wanted, state: Arc::default() }
    }

    /// Records a request under load.
    pub fn request(&self) {
        if self.wanted == Switch::Off {
            return;
        }
        let mut state = lock(&self.state);
        state.requests += 1;
        if state.file.is_none() && !state.denied {
            state.file = hold();
            state.denied = state.file.is_none();
        }
        if state.file.is_some() && !state.watched {
            let shared = Arc::clone(&self.state);
            state.watched = std::thread::Builder::new().name("awake".into()).spawn(move || watch(&shared)).is_ok();
            if !state.watched {
                state.file = None;
            }
        }
    }

    /// Releases the setting.
    pub fn settle(&self) {
        if self.wanted == Switch::On {
            lock(&self.state).file = None;
        }
    }
}

/// `None` without permission.
fn hold() -> Option<File> {
    let mut file = OpenOptions::new().write(true).open(LATENCY).ok()?;
    file.write_all(&0_i32.to_ne_bytes()).ok()?;
    Some(file)
}

fn watch(shared: &Mutex<State>) {
    let mut before = lock(shared).requests;
    loop {
        std::thread::sleep(QUIET);
        let mut state = lock(shared);
        if state.file.is_none() || state.requests == before {
            (state.file, state.watched) = (None, false);
            return;
        }
        before = state.requests;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_may_sleep_when_nobody_asks() {
        let awake = Awake::new(Switch::On);
        awake.request();
        let held = lock(&awake.state).file.is_some();
        if !held {
            strata_testkit::skip!("needs the right to write /dev/cpu_dma_latency");
        }
        while lock(&awake.state).watched {
            std::thread::sleep(QUIET);
        }
        assert!(lock(&awake.state).file.is_none());
        awake.request();
        assert!(lock(&awake.state).file.is_some());
        awake.settle();
        assert!(lock(&awake.state).file.is_none());
    }

    #[test]
    fn they_are_left_alone_unless_wanted() {
        let awake = Awake::new(Switch::Off);
        awake.request();
        assert!(lock(&awake.state).file.is_none());
    }
}
