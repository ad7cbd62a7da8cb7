//! Polling for the kernel's next request before sleeping.
//!
//! A program that walks a tree sends its next request as soon as it has an answer. A thread that sleeps by then must be woken, on a
//! processor that may sleep too, which on a virtual machine takes longer than most answers. So one thread polls for a while,
//! yielding in between, and backs off when polls are in vain.
//!
//! The kernel wakes a sleeping reader for each request, even if another takes it. So the other threads rest meanwhile, until
//! requests come faster than one thread answers, or until a time-out in case a disk delays that thread.

use std::{
    os::fd::OwnedFd,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::awake::Awake;
use crate::Switch;

/// Longest poll.
const LOOK: Duration = Duration::from_micros(40);

/// Most chances to poll that are passed over after polls in vain.
const IN_VAIN: u32 = 64;

/// Time that a thread rests, times the number of threads that rest.
const REST: Duration = Duration::from_millis(1);

/// After this many requests in a row without waiting, resting threads wake.
const CROWD: u32 = 8;

/// After this many requests in a row during polls, processors are kept awake if the mount asks for it.
const STREAM: u32 = 64;

#[derive(Debug, Default)]
struct State {
    /// Whether a thread polls.
    looking: bool,
    /// Chances to poll that are still passed over, and their number last time.
    pass: u32,
    passed: u32,
    /// Requests in a row that needed no waiting.
    at_once: u32,
    /// Requests in a row that came during polls.
    stream: u32,
    resting: u32,
    /// Incremented to wake resting threads.
    calls: u32,
}

/// State that the threads of a mount share.
#[derive(Debug)]
pub(super) struct BusyPoll {
    device: OwnedFd,
    awake: Awake,
    state: Mutex<State>,
    wanted: Condvar,
}

/// A request that is being answered; polls for the next one on drop.
pub(super) struct Answering<'a>(&'a BusyPoll);

/// The result of a poll.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    AtOnce,
    Later,
    Nothing,
}

impl BusyPoll {
    /// `device` is an open `/dev/fuse`.
    pub fn new(device: OwnedFd, awake: Switch) -> Self {
        Self { device, awake: Awake::new(awake), state: Mutex::default(), wanted: Condvar::new() }
    }

    /// Called at the start of a request that others are likely to follow.
    pub fn answering(&self) -> Answering<'_> {
        Answering(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_asked(&self) -> bool {
        // True after an unmount too; the next read reports that.
        poll(&mut [PollFd::new(&self.device, PollFlags::IN)], Some(&Timespec::default())) != Ok(0)
    }

    fn look(&self) -> Found {
        if self.is_asked() {
            return Found::AtOnce;
        }
        let start = Instant::now();
        while start.elapsed() < LOOK {
            rustix::thread::sched_yield();
            if self.is_asked() {
                return Found::Later;
            }
        }
        Found::Nothing
    }

    fn rest(&self, mut state: MutexGuard<'_, State>) {
        state.resting += 1;
        let (time, calls) = (REST * state.resting, state.calls);
        let (mut state, _) = self
            .wanted
            .wait_timeout_while(state, time, |state| state.calls == calls)
            .unwrap_or_else(PoisonError::into_inner);
        state.resting -= 1;
    }

    /// Polls before the read that sleeps.
    fn poll_for_next(&self) {
        let mut state = self.state();
        if state.pass > 0 {
            state.pass -= 1;
            return;
        }
        if state.looking {
            return self.rest(state);
        }
        state.looking = true;
        drop(state);
        let found = self.look();
        let mut state = self.state();
        state.looking = false;
        state.passed = if found == Found::Nothing { (state.passed * 2).clamp(1, IN_VAIN) } else { 0 };
        state.pass = state.passed;
        if found == Found::Nothing {
            state.stream = 0;
            self.awake.settle();
        } else {
            state.stream = state.stream.saturating_add(1);
            if state.stream >= STREAM {
                self.awake.request();
            }
        }
        state.at_once = if found == Found::AtOnce { state.at_once + 1 } else { 0 };
        if state.at_once >= CROWD && state.resting > 0 {
            (state.at_once, state.calls) = (0, state.calls.wrapping_add(1));
            self.wanted.notify_all();
        }
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.poll_for_next();
    }
}
