//! Keeping processors awake while requests follow each other, where the mount was told to.
//!
//! A client sleeps until it is answered, and so does its processor when it has nothing else to do; on a virtual machine
//! waking one takes longer than most answers. Held only as long as requests come: a thread looks after that.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::Switch;

/// As long as it is open, processors sleep no deeper than wakes them within the microseconds written to it
/// (Linux, Documentation/power/pm_qos_interface.rst). Closed with the process, however that ends.
const LATENCY: &str = "/dev/cpu_dma_latency";

/// Without requests for so long, they may sleep.
const QUIET: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    /// Requests so far.
    requests: u64,
    watched: bool,
    /// It was tried, and may not be.
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

    /// Another of many requests came.
    pub fn stir(&self) {
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

    /// No request came for a while.
    pub fn settle(&self) {
        if self.wanted == Switch::On {
            lock(&self.state).file = None;
        }
    }
}

/// `None` where that is not allowed.
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
        awake.stir();
        let held = lock(&awake.state).file.is_some();
        if !held {
            strata_testkit::skip!("needs the right to write /dev/cpu_dma_latency");
        }
        while lock(&awake.state).watched {
            std::thread::sleep(QUIET);
        }
        assert!(lock(&awake.state).file.is_none());
        awake.stir();
        assert!(lock(&awake.state).file.is_some());
        awake.settle();
        assert!(lock(&awake.state).file.is_none());
    }

    #[test]
    fn they_are_left_alone_unless_wanted() {
        let awake = Awake::new(Switch::Off);
        awake.stir();
        assert!(lock(&awake.state).file.is_none());
    }
}
