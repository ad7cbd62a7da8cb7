//! Holding a container still: its control group frozen, and thawed again.
//!
//! Source: the kernel's `Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst` and `cgroup-v2.rst` (`cgroup.freeze`).

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    cgroup::{self, MOUNT},
    error::{Context, Error},
};

/// How long a group may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_micros(500);

/// Where a container's freezer is.
struct Freezer {
    /// Takes the wish.
    switch: PathBuf,
    /// Tells what is.
    state: PathBuf,
    frozen: &'static str,
    thawed: &'static str,
    /// The line of `state` that says that all is at rest.
    at_rest: &'static str,
}

impl Freezer {
    fn of(id: &str) -> Self {
        let group = cgroup::path_of(id);
        let below = group.strip_prefix("/").unwrap_or(&group);
        if cgroup::is_unified() {
            let group = Path::new(MOUNT).join(below);
            Self {
                switch: group.join("cgroup.freeze"),
                state: group.join("cgroup.events"),
                frozen: "1",
                thawed: "0",
                at_rest: "frozen 1",
            }
        } else {
            let state = Path::new(MOUNT).join("freezer").join(below).join("freezer.state");
            Self { switch: state.clone(), state, frozen: "FROZEN", thawed: "THAWED", at_rest: "FROZEN" }
        }
    }

    fn is_at_rest(&self) -> Result<bool, Error> {
        let state = fs::read_to_string(&self.state).context("read", &self.state)?;
        Ok(state.lines().any(|line| line == self.at_rest))
    }
}

/// Freezes every process of container `id`; returns when all stand still.
///
/// Whoever freezes one thaws it, and has noted so in the journal for the case that it is killed: a frozen process cannot even die.
pub fn freeze(id: &str) -> Result<(), Error> {
    let freezer = Freezer::of(id);
    fs::write(&freezer.switch, freezer.frozen).context("freeze the container through", &freezer.switch)?;
    let begun = Instant::now();
    while !freezer.is_at_rest()? {
        if begun.elapsed() > PATIENCE {
            thaw(id)?;
            return Err(Error::Cgroup { path: freezer.switch, reason: "its processes do not come to rest" });
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Lets container `id` go on; one that has ended meanwhile is no error.
pub fn thaw(id: &str) -> Result<(), Error> {
    let freezer = Freezer::of(id);
    match fs::write(&freezer.switch, freezer.thawed) {
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound)
                || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
        {
            Ok(())
        }
        result => result.context("thaw the container through", &freezer.switch).map_err(Error::from),
    }
}
