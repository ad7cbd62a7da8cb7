//! Reading files ahead of a program that reads a tree file by file from a disk.
//!
//! The kernel reads ahead within a file, not across small files: each of them waits for the disk once, and a disk with one request
//! in flight delivers a tenth of what it can. So when a file's content is not in memory, the union reads the files that come next
//! in its directory, then those in the directories after that, in the order that the reader is seen to follow. It starts with few
//! files and gets further ahead as they are used. It stops when they are not used, and when no request has come for a while. While
//! every file is in memory, it does nothing.
//!
//! The content goes to the kernel's page cache below the union. This module keeps only the directories of each walk.

use std::{
    collections::{HashMap, HashSet},
    os::fd::OwnedFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::fs::{self, Advice};
use strata_sys::tree::Kind;

use crate::{
    Union,
    core::handle::KEPT_SIZE,
    core::nodes::{Index, Node, ROOT, id_of},
    core::raw,
    types::*,
};

/// Fewest and most files ahead of a reader.
const FIRST: u64 = 8;
const MOST: u64 = 512;

/// After this many files, a quarter must have been used for the walk to continue.
const TRIAL: u64 = 64;

/// Most misses that start no walk.
const PASSED: u32 = 64;

/// Most readers that are followed at a time.
const WALKS: usize = 4;

/// Most directories that a walk remembers.
const DIRS: usize = 1024;

/// Most steps of one directory. A reader that gets further starts a new walk.
const STEPS: usize = 8192;

/// A walk ends after this time without requests.
const IDLE: Duration = Duration::from_secs(1);

/// The order in which a reader takes a directory's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// By inode number, as `tar` does.
    Inode,
    /// In the order of the listing.
    Place,
    /// By name, as a shell's `*` does.
    Name,
}

const ORDERS: [Order; 3] = [Order::Inode, Order::Place, Order::Name];

/// A file that was opened for reading.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub dir: Index,
    pub name: Arc<[u8]>,
    pub ino: u64,
    pub place: u64,
}

/// An entry to visit.
enum Step {
    File { dir: Arc<OwnedFd>, name: Box<[u8]>, ino: u64 },
    Dir { name: Box<[u8]> },
}

/// A directory of a walk; holds one lookup of it.
struct Frame {
    dir: Index,
    /// The step numbers from the outermost directory to this one. The least key comes first.
    key: Vec<u32>,
    taken: u32,
    steps: std::vec::IntoIter<Step>,
    /// Subdirectories that threads are reading.
    entering: usize,
}

/// A thread's next task.
enum Task {
    Read {
        dir: Arc<OwnedFd>,
        name: Box<[u8]>,
    },
    /// Reads subdirectory `name` of `parent`, to visit all of it.
    Enter {
        walk: u64,
        parent: Index,
        key: Vec<u32>,
        name: Box<[u8]>,
        order: Order,
    },
    /// Reads `dir`, to visit what follows `name`.
    GoOn {
        walk: u64,
        dir: Index,
        name: Arc<[u8]>,
        order: Order,
    },
    /// Continues in the parent of `dir`. Passes on a lookup of `dir`.
    Leave {
        walk: u64,
        dir: Index,
        order: Order,
    },
    /// Returns lookups.
    Forget(Vec<Index>),
}

/// The walk of one reader.
struct Walk {
    number: u64,
    /// Starts after this file.
    begin: Option<Seen>,
    /// Outermost first.
    frames: Vec<Frame>,
    /// Outermost directories that threads are reading.
    busy: usize,
    /// Directories that the walk has visited, as far as remembered.
    dirs: HashSet<Index>,
    /// Inode numbers of files that were read ahead, with their sequence numbers from 1.
    ahead: HashMap<u64, u64>,
    /// Inode numbers of files that the reader opened first, as far as remembered; the walk skips them.
    overtaken: HashSet<u64>,
    issued: u64,
    /// Sequence number of the furthest file that was used.
    reached: u64,
    wanted: u64,
    last: Seen,
    /// For each of [`ORDERS`], how well the reader follows it.
    votes: [i8; 3],
}

#[derive(Default)]
struct State {
    /// The most recently used last.
    walks: Vec<Walk>,
    walk_number: u64,
    /// Misses left that start no walk, and the number of them last time: it doubles with each walk that was in vain.
    pass: u32,
    passed: u32,
    asked: Option<Instant>,
    closed: bool,
}

/// The walks of a union.
#[derive(Default)]
pub(crate) struct Ahead {
    active: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

impl Walk {
    fn new(number: u64, seen: &Seen) -> Self {
        Self {
            number,
            begin: Some(seen.clone()),
            frames: Vec::new(),
            busy: 0,
            dirs: HashSet::from([seen.dir]),
            ahead: HashMap::new(),
            overtaken: HashSet::new(),
            issued: 0,
            reached: 0,
            wanted: 0,
            last: seen.clone(),
            votes: [0; 3],
        }
    }

    fn window(&self) -> u64 {
        (FIRST + 2 * self.wanted).min(MOST)
    }

    fn may_go_on(&self) -> bool {
        self.issued < self.reached + self.window() && !self.is_in_vain()
    }

    fn is_in_vain(&self) -> bool {
        self.reached >= TRIAL && self.wanted * 4 < self.reached
    }

    fn order(&self) -> Order {
        let mut best = 0;
        for at in 1..ORDERS.len() {
            if self.votes[at] > self.votes[best] {
                best = at;
            }
        }
        ORDERS[best]
    }

    /// Records that the reader opened a file.
    fn note(&mut self, seen: &Seen) {
        if let Some(number) = self.ahead.remove(&seen.ino) {
            self.reached = self.reached.max(number);
            self.wanted += 1;
            if self.ahead.len() as u64 > 2 * MOST {
                let reached = self.reached;
                self.ahead.retain(|_, number| *number > reached);
            }
        } else {
            if self.overtaken.len() >= STEPS {
                self.overtaken.clear();
            }
            self.overtaken.insert(seen.ino);
        }
        if self.last.dir == seen.dir {
            let last = &self.last;
            let later = [seen.ino > last.ino, seen.place > last.place, seen.name > last.name];
            for (vote, later) in self.votes.iter_mut().zip(later) {
                *vote = (*vote + if later { 1 } else { -1 }).clamp(-8, 8);
            }
        }
        self.last = seen.clone();
    }

    fn remember(&mut self, dir: Index) {
        if self.dirs.len() >= DIRS {
            self.dirs.clear();
        }
        self.dirs.insert(dir);
    }

    fn next(&mut self) -> Option<Task> {
        let is_through = |frame: &mut Frame| frame.steps.len() + frame.entering == 0 && !frame.key.is_empty();
        let through: Vec<Index> = self.frames.extract_if(.., is_through).map(|frame| frame.dir).collect();
        if !through.is_empty() {
            return Some(Task::Forget(through));
        }
        if !self.may_go_on() {
            return None;
        }
        let (walk, order) = (self.number, self.order());
        if let Some(Seen { dir, name, .. }) = self.begin.take() {
            self.busy += 1;
            return Some(Task::GoOn { walk, dir, name, order });
        }
        let path = |frame: &Frame| [&frame.key[..], &[frame.taken]].concat();
        let Some(frame) = self.frames.iter_mut().filter(|frame| frame.steps.len() > 0).min_by_key(|frame| path(frame))
        else {
            return self.leave(order);
        };
        let is_ahead = |step: &Step| !matches!(step, Step::File { ino, .. } if self.overtaken.contains(ino));
        let Some(step) = frame.steps.find(is_ahead) else { return self.next() };
        frame.taken += 1;
        Some(match step {
            Step::File { dir, name, ino } => {
                self.issued += 1;
                self.ahead.insert(ino, self.issued);
                Task::Read { dir, name }
            }
            Step::Dir { name } => {
                frame.entering += 1;
                Task::Enter { walk, parent: frame.dir, key: path(frame), name, order }
            }
        })
    }

    /// Leaves the outermost directory once all its steps are done.
    fn leave(&mut self, order: Order) -> Option<Task> {
        if self.busy > 0 || self.frames.iter().any(|frame| frame.entering > 0) {
            return None;
        }
        let dir = self.frames.pop()?.dir;
        self.busy += 1;
        Some(Task::Leave { walk: self.number, dir, order })
    }
}

impl Ahead {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a walk.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// Records that a file was opened; `missed` if its content was not in memory. Returns lookups to return.
    fn opened(&self, seen: &Seen, missed: bool) -> Vec<Index> {
        let mut state = self.state();
        let mut over = Vec::new();
        if state.closed {
            return over;
        }
        let wanted = |walk: &Walk| walk.ahead.contains_key(&seen.ino);
        let near = |walk: &Walk| walk.dirs.contains(&seen.dir) && !walk.is_in_vain();
        let mine = state.walks.iter().position(wanted).or_else(|| state.walks.iter().position(near));
        let walk = match mine {
            Some(at) => {
                let mut walk = state.walks.remove(at);
                walk.note(seen);
                walk
            }
            None if missed && state.pass > 0 => {
                state.pass -= 1;
                return over;
            }
            None if missed => {
                let in_vain = state.walks.last().is_some_and(|last| last.wanted * 4 < last.issued);
                state.passed = if in_vain { (state.passed * 2).clamp(1, PASSED) } else { 0 };
                state.pass = state.passed;
                if state.walks.len() == WALKS {
                    over.extend(state.walks.remove(0).frames.into_iter().map(|frame| frame.dir));
                }
                state.walk_number += 1;
                self.active.store(true, Ordering::Relaxed);
                Walk::new(state.walk_number, seen)
            }
            None => return over,
        };
        state.asked = Some(Instant::now());
        // Wakes the threads in batches.
        let is_near = walk.issued + walk.window() / 4 <= walk.reached + walk.window();
        state.walks.push(walk);
        drop(state);
        if is_near {
            self.changed.notify_all();
        }
        over
    }

    /// Waits for a task; `None` at the end.
    fn next(&self) -> Option<Task> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(task) = state.walks.iter_mut().rev().find_map(Walk::next) {
                return Some(task);
            }
            if state.walks.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            (state, _) = self.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            if state.asked.is_none_or(|asked| asked.elapsed() >= IDLE) {
                self.active.store(false, Ordering::Relaxed);
                let frames = state.walks.drain(..).flat_map(|walk| walk.frames);
                return Some(Task::Forget(frames.map(|frame| frame.dir).collect()));
            }
        }
    }

    /// Adds a directory that was read (`found`) or could not be; `key` is its key. Returns a lookup to return.
    fn entered(&self, walk: u64, key: Vec<u32>, found: Option<(Index, Vec<Step>)>) -> Option<Index> {
        let mut state = self.state();
        let Some(walk) = state.walks.iter_mut().find(|other| other.number == walk) else {
            return found.map(|(dir, _)| dir);
        };
        match key.split_last() {
            None => walk.busy -= 1,
            Some((_, above)) => {
                if let Some(frame) = walk.frames.iter_mut().find(|frame| frame.key == above) {
                    frame.entering -= 1;
                }
            }
        }
        if let Some((dir, steps)) = found {
            walk.remember(dir);
            walk.frames.push(Frame { dir, key, taken: 0, steps: steps.into_iter(), entering: 0 });
        }
        drop(state);
        self.changed.notify_all();
        None
    }
}

impl Union {
    /// Reads files ahead of readers until [`Union::stop_reading_ahead`]. For a few dedicated threads, since each waits for the disk;
    /// needed once [`Union::wants_ahead`].
    pub fn read_ahead(&self) {
        while let Some(task) = self.ahead.next() {
            match task {
                Task::Read { dir, name } => read(&dir, &name),
                Task::Enter { walk, parent, key, name, order } => {
                    let found = self.enter(parent, &name, order);
                    self.give_back(self.ahead.entered(walk, key, found.ok()));
                }
                Task::GoOn { walk, dir, name, order } => {
                    let found = self.rest(dir, &name, order);
                    self.give_back(self.ahead.entered(walk, Vec::new(), found.ok()));
                }
                Task::Leave { walk, dir, order } => {
                    let found = self.above(dir, order);
                    self.give_back([dir]);
                    self.give_back(self.ahead.entered(walk, Vec::new(), found.ok()));
                }
                Task::Forget(dirs) => self.give_back(dirs),
            }
        }
    }

    /// Whether [`Union::read_ahead`] has work.
    pub fn wants_ahead(&self) -> bool {
        self.ahead.is_active()
    }

    /// Makes all calls of [`Union::read_ahead`] return, present and future ones.
    pub fn stop_reading_ahead(&self) {
        self.ahead.state().closed = true;
        self.ahead.changed.notify_all();
    }

    /// Records that a node is opened; `missed` if its content was not in memory.
    pub(crate) fn tell_ahead(&self, node: &Node, missed: bool) {
        let Some(link) = &node.link else { return };
        let (dir, name) = (link.parent, Arc::clone(&link.name));
        let place = self.listings.place(&name);
        self.give_back(self.ahead.opened(&Seen { dir, name, ino: node.ino, place }, missed));
    }

    fn give_back(&self, dirs: impl IntoIterator<Item = Index>) {
        for dir in dirs {
            self.forget(id_of(dir), 1);
        }
    }

    /// Looks up a directory and reads it, in all branches: it may have got marks since its name was listed.
    fn enter(&self, parent: Index, name: &[u8], order: Order) -> Result<(Index, Vec<Step>)> {
        let dir = self.lookup_in(&self.look(), parent, name, None)?.0;
        let steps = self.steps(dir, order).inspect_err(|_| self.give_back([dir]))?;
        Ok((dir, steps.into_iter().take(STEPS).map(|(_, step)| step).collect()))
    }

    /// Returns the parent of a directory, with a lookup, and the steps that follow the directory there.
    fn above(&self, dir: Index, order: Order) -> Result<(Index, Vec<Step>)> {
        if dir == ROOT {
            return Err(Errno::NOENT);
        }
        let link = self.known(dir)?.link.ok_or(Errno::STALE)?;
        self.rest(link.parent, &link.name, order)
    }

    /// Returns a directory, with a lookup, and its steps after `name`; none if `name` is gone.
    fn rest(&self, dir: Index, name: &[u8], order: Order) -> Result<(Index, Vec<Step>)> {
        self.nodes().edit(dir)?.lookups += 1;
        let steps = self.steps(dir, order).inspect_err(|_| self.give_back([dir]))?.into_iter();
        Ok((dir, steps.skip_while(|(found, _)| **found != *name).skip(1).take(STEPS).map(|(_, step)| step).collect()))
    }

    /// Returns the files and subdirectories of a directory in a reader's order, with their names.
    fn steps(&self, dir: Index, order: Order) -> Result<Vec<(Box<[u8]>, Step)>> {
        let ns = self.look();
        let node = self.known(dir)?;
        let mut items = self.read_parts(&ns, dir, &node)?;
        match order {
            Order::Inode => items.sort_unstable_by_key(|item| item.ino),
            Order::Place => items.sort_unstable_by_key(|item| self.listings.place(&item.name)),
            Order::Name => items.sort_unstable_by(|one, other| one.name.cmp(&other.name)),
        }
        let mut steps = Vec::with_capacity(items.len());
        for item in items {
            let name = item.name.clone();
            let step = match item.kind {
                Kind::File if ns.is_read_only(item.layer) => {
                    let dir = self.dir_fd(&ns, dir, &node, item.layer)?;
                    Step::File { dir, name: item.name, ino: item.ino }
                }
                Kind::Dir => Step::Dir { name: item.name },
                _ => continue,
            };
            steps.push((name, step));
        }
        Ok(steps)
    }
}

/// Makes the kernel read the beginning of a file, all of a small one.
fn read(dir: &OwnedFd, name: &[u8]) {
    let length = std::num::NonZeroU64::new(KEPT_SIZE);
    if let Ok(file) = raw::open_at(dir, name, OFlags::RDONLY) {
        // An error here recurs for the reader itself.
        _ = fs::fadvise(&file, 0, length, Advice::WillNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(dir: Index, ino: u64) -> Seen {
        Seen { dir, name: format!("{ino:05}").into_bytes().into(), ino, place: ino }
    }

    fn files(inos: std::ops::Range<u64>) -> Vec<Step> {
        let dir = Arc::new(OwnedFd::from(std::fs::File::open("/").unwrap()));
        inos.map(|ino| Step::File { dir: Arc::clone(&dir), name: Box::default(), ino }).collect()
    }

    /// Runs tasks until there are none; returns the number of files read.
    fn work(ahead: &Ahead, answers: &mut Vec<Vec<Step>>) -> usize {
        let mut read = 0;
        loop {
            let task = ahead.state().walks.iter_mut().rev().find_map(Walk::next);
            match task {
                None => return read,
                Some(Task::Read { .. }) => read += 1,
                Some(Task::GoOn { walk, dir, .. }) => {
                    ahead.entered(walk, Vec::new(), answers.pop().map(|steps| (dir, steps)));
                }
                Some(Task::Leave { walk, .. }) => {
                    ahead.entered(walk, Vec::new(), None);
                }
                Some(Task::Enter { .. } | Task::Forget(_)) => {}
            }
        }
    }

    #[test]
    fn nothing_is_read_while_nothing_is_missed() {
        let ahead = Ahead::default();
        for ino in 0..100 {
            ahead.opened(&seen(1, ino), false);
        }
        assert!(!ahead.is_active() && work(&ahead, &mut Vec::new()) == 0);
    }

    #[test]
    fn it_gets_further_ahead_of_who_wants_what_it_read() {
        let ahead = Ahead::default();
        let mut answers = vec![files(1..5000)];
        ahead.opened(&seen(1, 0), true);
        assert_eq!(work(&ahead, &mut answers) as u64, FIRST);
        let mut read = FIRST;
        for ino in 1..1000 {
            ahead.opened(&seen(1, ino), false);
            read += work(&ahead, &mut answers) as u64;
            assert!(read <= ino + MOST, "{read} at {ino}");
        }
        assert_eq!(read, 999 + MOST);
    }

    #[test]
    fn who_overtakes_is_followed_from_where_they_are() {
        let ahead = Ahead::default();
        // All before the directory is read.
        for ino in 0..20 {
            ahead.opened(&seen(1, ino), true);
        }
        assert_eq!(work(&ahead, &mut vec![files(1..100)]) as u64, FIRST);
        let mut found: Vec<u64> = ahead.state().walks[0].ahead.keys().copied().collect();
        found.sort_unstable();
        assert_eq!(found, (20..20 + FIRST).collect::<Vec<_>>());
    }

    #[test]
    fn of_what_is_read_at_random_little_is_read_in_vain() {
        let ahead = Ahead::default();
        let mut read = 0;
        for turn in 0..2000_u32 {
            // Each in a directory of its own, none that was read ahead.
            ahead.opened(&seen(turn, 1_000_000 + u64::from(turn)), true);
            read += work(&ahead, &mut vec![files(0..100)]) as u64;
        }
        assert!(read < 2000 / 4, "{read}");
    }
}
