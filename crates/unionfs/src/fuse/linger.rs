//! Waiting a moment for the kernel's next request before going to sleep.
//!
//! Who walks a tree asks again as soon as it is answered. A thread that has gone to sleep by then is woken on a processor
//! that may have gone to sleep too, which on a virtual machine takes longer than most answers. So one thread looks for the
//! next request for a while, lets others run in between, and gives up sooner the more often it looked in vain.
//!
//! The kernel wakes a sleeping reader for each request, whoever takes it. So the other threads rest meanwhile, for a moment:
//! until requests come faster than one thread can answer, or until their time is over, should the one be held up by a disk.

use std::{
    os::fd::OwnedFd,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::awake::Awake;
use crate::Switch;

/// How long a thread looks for a request.
const LOOK: Duration = Duration::from_micros(40);

/// After so many times in vain it is tried once in as many chances.
const IN_VAIN: u32 = 64;

/// How long a thread rests, times the threads that rest already.
const REST: Duration = Duration::from_millis(1);

/// After so many requests in a row that were there at once, one thread is not enough.
const CROWD: u32 = 8;

/// After so many requests in a row that came while one was looked for, processors are kept awake if that is wanted.
const STREAM: u32 = 64;

#[derive(Debug, Default)]
struct State {
    /// A thread looks for requests.
    looking: bool,
    /// Chances to let pass before the next look, and how many there were the last time.
    pass: u32,
    passed: u32,
    /// Requests in a row that were there at once.
    at_once: u32,
    /// Requests in a row that came while one was looked for.
    stream: u32,
    resting: u32,
    /// Grows when those who rest are wanted.
    calls: u32,
}

/// What the threads that serve a mount know of each other.
#[derive(Debug)]
pub(super) struct Linger {
    device: OwnedFd,
    awake: Awake,
    state: Mutex<State>,
    wanted: Condvar,
}

/// When it goes, the request has been answered.
pub(super) struct Answering<'a>(&'a Linger);

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    AtOnce,
    Later,
    Nothing,
}

impl Linger {
    /// `device` is an open `/dev/fuse`.
    pub fn new(device: OwnedFd, awake: Switch) -> Self {
        Self { device, awake: Awake::new(awake), state: Mutex::default(), wanted: Condvar::new() }
    }

    /// To be called first when a request is served that others are likely to follow.
    pub fn answering(&self) -> Answering<'_> {
        Answering(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_asked(&self) -> bool {
        // Also when the mount is gone: the read that follows tells.
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

    /// Before the read that sleeps.
    fn linger(&self) {
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
                self.awake.stir();
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
        self.0.linger();
    }
}
