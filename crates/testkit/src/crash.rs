//! Records a store's writes, and shows the disk as a crash after any of them would leave it.
//!
//! ```
//! # use strata_testkit::{crash, scratch};
//! let scratch = scratch();
//! let file = scratch.join("f");
//! let run = crash::record(scratch.path(), || {
//!     strata_durable::write(&file, b"new", 0o600).unwrap();
//!     crash::mark(scratch.path(), "written");
//! });
//! for disk in run.images() {
//!     let found = std::fs::read(disk.root().join("f")).ok();
//!     assert!(found.is_none() || found.as_deref() == Some(b"new"), "after {disk}");
//!     assert!(found.is_some() || !disk.is_after("written"), "lost after {disk}");
//! }
//! ```
//!
//! After each durable write (the events of `durable::trace`) the whole tree, which must be small, is read into memory. Beside it
//! goes an account of what is certainly on disk: a file's bytes since its last `fsync`, a folder's entries since its last, and
//! everything since the last `syncfs`. From the two, each step gives up to four disks ([`Loss`]). That covers content that is
//! written by other means than `durable` too: it counts as lost until a sync.
//!
//! # What a filesystem may do here
//!
//! - An entry that was made, removed or renamed may be lost until its folder is synced. A rename is atomic: once one of its two
//!   folders is synced, both have it. A synced file may lack a name; a synced name may lead to an empty file.
//! - Permission bits, owners and attributes are as they were last; times are not kept.
//! - What is mounted below the root is not part of it.

mod disk;
mod synced;

use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use strata_durable::trace::{self, Event, Recorder};

use crate::{Scratch, scratch};
use disk::Disk;
use synced::Synced;

/// What of the writes up to the crash is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// Nothing: a process was killed, or the disk was quick.
    Nothing,
    /// All that was not synced: names, and the bytes behind them.
    Unsynced,
    /// Names are there, but bytes that were not synced are not: new files are empty, changed ones old.
    Bytes,
    /// Names are there, and half of the bytes that were not synced.
    HalfOfBytes,
}

/// The writes of one run.
pub struct Recording {
    root: PathBuf,
    steps: Vec<Step>,
}

/// The disk after one write.
struct Step {
    name: String,
    live: Disk,
    synced: Synced,
    marks: Vec<String>,
}

/// A disk as a crash would leave it, in a temporary folder of its own. Its text names the last write and what is lost.
pub struct Image {
    scratch: Scratch,
    name: String,
    marks: Vec<String>,
    pub loss: Loss,
    /// Which write, from 0, the state before the first.
    pub step: usize,
}

/// Runs `run`, and records what it, on any thread, durably writes under `root`.
///
/// What is under `root` before counts as on disk. Writes to other places are left out, so that tests may run side by side.
pub fn record(root: &Path, run: impl FnOnce()) -> Recording {
    let given = std::path::absolute(root).unwrap_or_else(|error| panic!("record {}: {error}", root.display()));
    let root = root.canonicalize().unwrap_or_else(|error| panic!("record {}: {error}", root.display()));
    let live = Disk::read(&root, None);
    let synced = Synced::all_of(&live);
    let first = Step { name: "the start".into(), live, synced, marks: Vec::new() };
    let tape = Arc::new(Tape { root: root.clone(), given, steps: Mutex::new(vec![first]) });
    let installed = trace::install(tape.clone());
    run();
    drop(installed);
    tape.add("the end".into(), |_, _| {}, None);
    let steps = std::mem::take(&mut *tape.steps.lock().unwrap_or_else(PoisonError::into_inner));
    Recording { root, steps }
}

/// Notes that `label` was reported done: from here on a crash must not lose it; see [`Image::is_after`].
pub fn mark(root: &Path, label: &str) {
    match root.canonicalize() {
        Ok(root) => trace::mark(&root, label),
        Err(error) => panic!("mark {}: {error}", root.display()),
    }
}

impl Recording {
    /// How many writes were recorded, with the states at the start and at the end.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The writes in order, with paths relative to the root.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.name.as_str())
    }

    /// Where the run was recorded.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All disks that a crash may leave, each made when it is asked for; equal ones come once.
    pub fn images(&self) -> impl Iterator<Item = Image> {
        let mut seen = HashSet::new();
        let losses = [Loss::Nothing, Loss::Unsynced, Loss::Bytes, Loss::HalfOfBytes];
        let all = self.steps.iter().enumerate().flat_map(move |step| losses.map(|loss| (step, loss)));
        all.filter_map(move |((n, step), loss)| {
            let disk = match loss {
                Loss::Nothing => step.live.clone(),
                Loss::Unsynced => step.synced.without_unsynced(),
                Loss::Bytes => step.synced.without_bytes(&step.live),
                Loss::HalfOfBytes => step.synced.with_half_of_bytes(&step.live),
            };
            if !seen.insert((disk.fingerprint(), step.marks.len())) {
                return None;
            }
            let scratch = scratch();
            disk.write(scratch.path());
            Some(Image { scratch, name: step.name.clone(), marks: step.marks.clone(), loss, step: n })
        })
    }
}

impl Image {
    /// The folder that stands for the recorded root.
    pub fn root(&self) -> &Path {
        self.scratch.path()
    }

    /// Whether the crash came after [`mark`] noted `label`.
    pub fn is_after(&self, label: &str) -> bool {
        self.marks.iter().any(|mark| mark == label)
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loss = match self.loss {
            Loss::Nothing => "nothing lost",
            Loss::Unsynced => "all that was not synced lost",
            Loss::Bytes => "unsynced bytes lost",
            Loss::HalfOfBytes => "unsynced bytes half lost",
        };
        write!(f, "step {}, {}, {loss}", self.step, self.name)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} in {}", self.root().display())
    }
}

/// What is told of each write while the run goes on.
struct Tape {
    root: PathBuf,
    /// The root as the test spells it, perhaps through a link; its writes spell it so too.
    given: PathBuf,
    steps: Mutex<Vec<Step>>,
}

impl Tape {
    fn add(&self, name: String, account: impl FnOnce(&mut Synced, &Disk), mark: Option<&str>) {
        // One writer at a time: others wait here before their next write.
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let last = steps.last().expect("the start is the first step");
        let live = Disk::read(&self.root, Some(&last.live));
        let (mut synced, mut marks) = (last.synced.clone(), last.marks.clone());
        synced.learn(&live);
        account(&mut synced, &live);
        marks.extend(mark.map(str::to_owned));
        steps.push(Step { name, live, synced, marks });
    }

    fn name(&self, event: &Event<'_>) -> String {
        let name = event.to_string().replace(&format!("{}/", self.root.display()), "");
        name.replace(&format!("{}/", self.given.display()), "")
    }

    /// `path` relative to the root; `None` if it is elsewhere.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).ok()?;
        let inside = path.strip_prefix(&self.root).or_else(|_| path.strip_prefix(&self.given)).ok()?;
        Some(inside.to_owned())
    }
}

impl Recorder for Tape {
    fn event(&self, event: &Event<'_>) {
        let Some(inside) = self.inside(event.path()) else {
            if matches!(event, Event::Rename { from, .. } if self.inside(from).is_some()) {
                self.add(self.name(event), |_, _| {}, None);
            }
            return;
        };
        let name = self.name(event);
        match *event {
            Event::SyncFile(_) => self.add(name, |synced, live| synced.sync_file(live, &inside), None),
            Event::SyncDir(_) => self.add(name, |synced, live| synced.sync_dir(live, &inside), None),
            Event::SyncFilesystem(_) => self.add(name, |synced, live| *synced = Synced::all_of(live), None),
            Event::Mark(_, label) => self.add(name, |_, _| {}, Some(label)),
            _ => self.add(name, |_, _| {}, None),
        }
    }
}

#[cfg(test)]
mod tests;
