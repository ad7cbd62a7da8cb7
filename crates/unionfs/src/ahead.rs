//! Reading ahead of who reads a tree, file after file, from a disk.
//!
//! Small files cannot be read ahead by their readers' own reads: each waits for the disk once, and a disk that is asked for one
//! thing at a time gives a tenth of what it can. So when a file's content was not in memory, the union goes ahead of the reader:
//! the files that come next in its folder, then what lies in the folders after that, in the order in which the reader was
//! seen to go. It begins with few files and gets further ahead the more of them were wanted; it stops when they are not wanted,
//! and when nobody has asked for a while. As long as nothing is missed, nothing is done.
//!
//! What is read lands in the kernel's page cache below the union. Here are kept the folders that are being gone through.

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
    handle::KEPT_SIZE,
    raw,
    table::{Index, Node, ROOT, id_of},
    types::*,
};

/// Files ahead of a reader at first, and at most.
const FIRST: u64 = 8;
const MOST: u64 = 512;

/// After so many files at least every fourth must have been wanted.
const TRIAL: u64 = 64;

/// Misses that are let pass at most.
const PASSED: u32 = 64;

/// Readers that are followed at one time.
const WALKS: usize = 4;

/// Folders of a walk that are remembered.
const FOLDERS: usize = 1024;

/// Steps in a folder that are remembered; who gets further is followed anew.
const STEPS: usize = 8192;

/// Nobody has asked for so long: the end.
const IDLE: Duration = Duration::from_secs(1);

/// In which order a reader goes through a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As `tar` does, by inode number.
    Inode,
    /// As it is listed.
    Place,
    /// As a shell's `*`.
    Name,
}

const ORDERS: [Order; 3] = [Order::Inode, Order::Place, Order::Name];

/// A file that was opened to be read.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub folder: Index,
    pub name: Arc<[u8]>,
    pub ino: u64,
    pub place: u64,
}

/// What comes next in a folder.
enum Step {
    File { dir: Arc<OwnedFd>, name: Box<[u8]>, ino: u64 },
    Folder { name: Box<[u8]> },
}

/// A folder that is being gone through; counts as a lookup of it.
struct Frame {
    folder: Index,
    /// The numbers of the steps that lead here from the outermost folder: what has the least number comes first.
    key: Vec<u32>,
    taken: u32,
    steps: std::vec::IntoIter<Step>,
    /// Folders in it that are being entered.
    entering: usize,
}

/// What a thread does next.
enum Task {
    Read {
        dir: Arc<OwnedFd>,
        name: Box<[u8]>,
    },
    /// Read folder `name` of `parent`, to go through all of it.
    Enter {
        walk: u64,
        parent: Index,
        key: Vec<u32>,
        name: Box<[u8]>,
        order: Order,
    },
    /// Read `folder`, to go through what comes after `name` there. Gives a lookup of it.
    GoOn {
        walk: u64,
        folder: Index,
        name: Arc<[u8]>,
        order: Order,
    },
    /// Go on in the folder that `folder` lies in. Gives a lookup of it.
    Leave {
        walk: u64,
        folder: Index,
        order: Order,
    },
    /// Give back lookups.
    Forget(Vec<Index>),
}

/// One reader.
struct Walk {
    number: u64,
    /// Begins after this file.
    begin: Option<Seen>,
    /// The outermost first.
    frames: Vec<Frame>,
    /// Outermost folders that are being read.
    busy: usize,
    /// Those it went through, as far as remembered.
    folders: HashSet<Index>,
    /// Files read ahead, by inode number: which each was, counted from 1.
    ahead: HashMap<u64, u64>,
    /// Files that the reader came to first, by inode number, as far as remembered: to be left out.
    overtaken: HashSet<u64>,
    issued: u64,
    /// The furthest one that was wanted.
    reached: u64,
    wanted: u64,
    last: Seen,
    /// For each of [`ORDERS`], how well the reader keeps to it.
    votes: [i8; 3],
}

#[derive(Default)]
struct State {
    /// The one that was asked last at the end.
    walks: Vec<Walk>,
    walk_number: u64,
    /// Misses to let pass before the next one is followed, and how many there were the last time: the more, the more often it
    /// was in vain.
    pass: u32,
    passed: u32,
    asked: Option<Instant>,
    closed: bool,
}

/// All that is read ahead in a union.
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
            folders: HashSet::from([seen.folder]),
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

    /// Notes that the reader opened a file.
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
        if self.last.folder == seen.folder {
            let last = &self.last;
            let later = [seen.ino > last.ino, seen.place > last.place, seen.name > last.name];
            for (vote, later) in self.votes.iter_mut().zip(later) {
                *vote = (*vote + if later { 1 } else { -1 }).clamp(-8, 8);
            }
        }
        self.last = seen.clone();
    }

    fn remember(&mut self, folder: Index) {
        if self.folders.len() >= FOLDERS {
            self.folders.clear();
        }
        self.folders.insert(folder);
    }

    fn next(&mut self) -> Option<Task> {
        let is_through = |frame: &mut Frame| frame.steps.len() + frame.entering == 0 && !frame.key.is_empty();
        let through: Vec<Index> = self.frames.extract_if(.., is_through).map(|frame| frame.folder).collect();
        if !through.is_empty() {
            return Some(Task::Forget(through));
        }
        if !self.may_go_on() {
            return None;
        }
        let (walk, order) = (self.number, self.order());
        if let Some(Seen { folder, name, .. }) = self.begin.take() {
            self.busy += 1;
            return Some(Task::GoOn { walk, folder, name, order });
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
            Step::Folder { name } => {
                frame.entering += 1;
                Task::Enter { walk, parent: frame.folder, key: path(frame), name, order }
            }
        })
    }

    /// No step is left in the folders at hand.
    fn leave(&mut self, order: Order) -> Option<Task> {
        if self.busy > 0 || self.frames.iter().any(|frame| frame.entering > 0) {
            return None;
        }
        let folder = self.frames.pop()?.folder;
        self.busy += 1;
        Some(Task::Leave { walk: self.number, folder, order })
    }
}

impl Ahead {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a reader is being followed.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// A file is opened whose content is in memory (`missed`: is not). Returns lookups to give back.
    fn opened(&self, seen: &Seen, missed: bool) -> Vec<Index> {
        let mut state = self.state();
        let mut over = Vec::new();
        if state.closed {
            return over;
        }
        let wanted = |walk: &Walk| walk.ahead.contains_key(&seen.ino);
        let near = |walk: &Walk| walk.folders.contains(&seen.folder) && !walk.is_in_vain();
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
                    over.extend(state.walks.remove(0).frames.into_iter().map(|frame| frame.folder));
                }
                state.walk_number += 1;
                self.active.store(true, Ordering::Relaxed);
                Walk::new(state.walk_number, seen)
            }
            None => return over,
        };
        state.asked = Some(Instant::now());
        // Not for each file.
        let is_near = walk.issued + walk.window() / 4 <= walk.reached + walk.window();
        state.walks.push(walk);
        drop(state);
        if is_near {
            self.changed.notify_all();
        }
        over
    }

    /// Waits for something to do; `None` at the end.
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
                return Some(Task::Forget(frames.map(|frame| frame.folder).collect()));
            }
        }
    }

    /// A folder was read, or could not be; `key` leads to it. Returns lookups to give back.
    fn entered(&self, walk: u64, key: Vec<u32>, found: Option<(Index, Vec<Step>)>) -> Option<Index> {
        let mut state = self.state();
        let Some(walk) = state.walks.iter_mut().find(|other| other.number == walk) else {
            return found.map(|(folder, _)| folder);
        };
        match key.split_last() {
            None => walk.busy -= 1,
            Some((_, above)) => {
                if let Some(frame) = walk.frames.iter_mut().find(|frame| frame.key == above) {
                    frame.entering -= 1;
                }
            }
        }
        if let Some((folder, steps)) = found {
            walk.remember(folder);
            walk.frames.push(Frame { folder, key, taken: 0, steps: steps.into_iter(), entering: 0 });
        }
        drop(state);
        self.changed.notify_all();
        None
    }
}

impl Union {
    /// Reads files ahead of those who read trees, until [`Union::stop_reading_ahead`]: for threads that have nothing else to do.
    /// Some, since each waits for the disk. To be called when [`Union::wants_ahead`].
    pub fn read_ahead(&self) {
        while let Some(task) = self.ahead.next() {
            match task {
                Task::Read { dir, name } => read(&dir, &name),
                Task::Enter { walk, parent, key, name, order } => {
                    let found = self.enter(parent, &name, order);
                    self.give_back(self.ahead.entered(walk, key, found.ok()));
                }
                Task::GoOn { walk, folder, name, order } => {
                    let found = self.rest(folder, &name, order);
                    self.give_back(self.ahead.entered(walk, Vec::new(), found.ok()));
                }
                Task::Leave { walk, folder, order } => {
                    let found = self.above(folder, order);
                    self.give_back([folder]);
                    self.give_back(self.ahead.entered(walk, Vec::new(), found.ok()));
                }
                Task::Forget(folders) => self.give_back(folders),
            }
        }
    }

    /// Whether there is a reader for whom to read ahead.
    pub fn wants_ahead(&self) -> bool {
        self.ahead.is_active()
    }

    /// Lets all calls of [`Union::read_ahead`] return, now and later.
    pub fn stop_reading_ahead(&self) {
        self.ahead.state().closed = true;
        self.ahead.changed.notify_all();
    }

    /// Tells that a node is opened whose content is in memory (`missed`: is not).
    pub(crate) fn tell_ahead(&self, node: &Node, missed: bool) {
        let Some(link) = &node.link else { return };
        let (folder, name) = (link.parent, Arc::clone(&link.name));
        let place = self.listings.place(&name);
        self.give_back(self.ahead.opened(&Seen { folder, name, ino: node.ino, place }, missed));
    }

    fn give_back(&self, folders: impl IntoIterator<Item = Index>) {
        for folder in folders {
            self.forget(id_of(folder), 1);
        }
    }

    /// Looks a folder up and reads it. In all branches: since its name was listed it may have got marks above.
    fn enter(&self, parent: Index, name: &[u8], order: Order) -> Result<(Index, Vec<Step>)> {
        let folder = self.lookup_in(&self.look(), parent, name, None)?.0;
        let steps = self.steps(folder, order).inspect_err(|_| self.give_back([folder]))?;
        Ok((folder, steps.into_iter().take(STEPS).map(|(_, step)| step).collect()))
    }

    /// The folder that `folder` lies in, with a lookup, and what comes after it there.
    fn above(&self, folder: Index, order: Order) -> Result<(Index, Vec<Step>)> {
        if folder == ROOT {
            return Err(Errno::NOENT);
        }
        let link = self.known(folder)?.link.ok_or(Errno::STALE)?;
        self.rest(link.parent, &link.name, order)
    }

    /// A folder, with a lookup, and what comes after `name` in it: nothing if that is not there.
    fn rest(&self, folder: Index, name: &[u8], order: Order) -> Result<(Index, Vec<Step>)> {
        self.table().edit(folder)?.lookups += 1;
        let steps = self.steps(folder, order).inspect_err(|_| self.give_back([folder]))?.into_iter();
        Ok((
            folder,
            steps.skip_while(|(found, _)| **found != *name).skip(1).take(STEPS).map(|(_, step)| step).collect(),
        ))
    }

    /// The files and folders of a folder that a reader in this order comes to, with their names.
    fn steps(&self, folder: Index, order: Order) -> Result<Vec<(Box<[u8]>, Step)>> {
        let ns = self.look();
        let node = self.known(folder)?;
        let mut items = self.read_parts(&ns, folder, &node)?;
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
                    let dir = self.dir_fd(&ns, folder, &node, item.layer)?;
                    Step::File { dir, name: item.name, ino: item.ino }
                }
                Kind::Dir => Step::Folder { name: item.name },
                _ => continue,
            };
            steps.push((name, step));
        }
        Ok(steps)
    }
}

/// Lets the kernel read the beginning of a file: all of a small one.
fn read(dir: &OwnedFd, name: &[u8]) {
    let length = std::num::NonZeroU64::new(KEPT_SIZE);
    if let Ok(file) = raw::open_at(dir, name, OFlags::RDONLY) {
        // Who comes to read it sees what is wrong with it.
        _ = fs::fadvise(&file, 0, length, Advice::WillNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(folder: Index, ino: u64) -> Seen {
        Seen { folder, name: format!("{ino:05}").into_bytes().into(), ino, place: ino }
    }

    fn files(inos: std::ops::Range<u64>) -> Vec<Step> {
        let dir = Arc::new(OwnedFd::from(std::fs::File::open("/").unwrap()));
        inos.map(|ino| Step::File { dir: Arc::clone(&dir), name: Box::default(), ino }).collect()
    }

    /// Takes what is to be done until there is nothing; the number of files that were read.
    fn work(ahead: &Ahead, answers: &mut Vec<Vec<Step>>) -> usize {
        let mut read = 0;
        loop {
            let task = ahead.state().walks.iter_mut().rev().find_map(Walk::next);
            match task {
                None => return read,
                Some(Task::Read { .. }) => read += 1,
                Some(Task::GoOn { walk, folder, .. }) => {
                    ahead.entered(walk, Vec::new(), answers.pop().map(|steps| (folder, steps)));
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
        // All before the folder is read.
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
            // Each in a folder of its own, none that was read ahead.
            ahead.opened(&seen(turn, 1_000_000 + u64::from(turn)), true);
            read += work(&ahead, &mut vec![files(0..100)]) as u64;
        }
        assert!(read < 2000 / 4, "{read}");
    }
}
