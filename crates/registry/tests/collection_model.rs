//! The argument of garbage collection, tried out in every order: two pushes, a deletion and a collection, step by step.
//!
//! What each does is what the code does, a step where others may come between: see `docs/formats/registry.md`. A rule that is left out
//! must lead to a loss, or the model would show nothing.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

/// Which of the rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    /// A publication relies on what it names before it writes.
    rely: bool,
    /// A publication is inside the gate from the first look to the last write, the sweep alone in it.
    gate: bool,
    /// The collection's beginning is taken alone inside the gate.
    begin_alone: bool,
    /// The sweep asks again for each blob when somebody last relied on it.
    ask_again: bool,
}

const ALL: Rules = Rules { rely: true, gate: true, begin_alone: true, ask_again: true };

/// A registry with one blob and two places that may name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    clock: u32,
    /// When somebody last relied on the blob; `None` if it is not there.
    blob: Option<u32>,
    /// Whether each place names the blob.
    names: [bool; 2],
    /// Publications inside the gate.
    inside: u32,
    pushes: [Push; 2],
    deletion: bool,
    collection: Collection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Push {
    Start,
    Entered,
    /// It has seen the blob.
    Looked,
    Relied,
    Written,
    Done,
    /// The blob was not there: the client was told so.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Collection {
    Start,
    Begun {
        at: u32,
    },
    /// So many places were looked at; whether one named the blob.
    Marking {
        at: u32,
        looked: usize,
        found: bool,
    },
    /// What the sweep holds to be the time of the blob, if it does not ask again.
    Sweeping {
        at: u32,
        stale: Option<u32>,
    },
    /// It is alone inside the gate, and has decided.
    Removing,
    Done,
}

impl World {
    fn new(named: bool) -> Self {
        Self {
            clock: 2,
            blob: Some(1),
            names: [named, false],
            inside: 0,
            pushes: [Push::Start; 2],
            deletion: false,
            collection: Collection::Start,
        }
    }

    /// The worlds after one step of each that can take one.
    fn next(&self, rules: Rules) -> Vec<Self> {
        let mut worlds: Vec<Self> = (0..2).filter_map(|at| self.push(at, rules)).collect();
        worlds.extend(self.delete());
        worlds.extend(self.collect(rules));
        worlds
    }

    fn push(&self, at: usize, rules: Rules) -> Option<Self> {
        let mut world = self.clone();
        world.clock += 1;
        world.pushes[at] = match self.pushes[at] {
            Push::Start if rules.gate && self.collection == Collection::Removing => return None,
            Push::Start => {
                world.inside += 1;
                Push::Entered
            }
            Push::Entered if self.blob.is_none() => {
                world.inside -= 1;
                Push::Refused
            }
            Push::Entered => Push::Looked,
            Push::Looked if rules.rely && self.blob.is_none() => {
                world.inside -= 1;
                Push::Refused
            }
            Push::Looked => {
                if rules.rely {
                    world.blob = Some(world.clock);
                }
                Push::Relied
            }
            Push::Relied => {
                world.names[at] = true;
                Push::Written
            }
            Push::Written => {
                world.inside -= 1;
                Push::Done
            }
            Push::Done | Push::Refused => return None,
        };
        Some(world)
    }

    /// Somebody deletes what the first place names, once it stands there.
    fn delete(&self) -> Option<Self> {
        let is_quiet = matches!(self.pushes[0], Push::Start | Push::Done | Push::Refused);
        (!self.deletion && self.names[0] && is_quiet).then(|| {
            let mut world = self.clone();
            world.clock += 1;
            world.deletion = true;
            world.names[0] = false;
            world
        })
    }

    fn collect(&self, rules: Rules) -> Option<Self> {
        let is_free = self.inside == 0 || !rules.gate;
        let mut world = self.clone();
        world.clock += 1;
        world.collection = match self.collection {
            Collection::Start if rules.begin_alone && self.inside > 0 => return None,
            Collection::Start => Collection::Begun { at: world.clock },
            Collection::Begun { at } => Collection::Marking { at, looked: 0, found: false },
            Collection::Marking { at, looked: 2, found: false } => Collection::Sweeping { at, stale: self.blob },
            Collection::Marking { looked: 2, .. } => Collection::Done,
            Collection::Marking { at, looked, found } => {
                Collection::Marking { at, looked: looked + 1, found: found || self.names[looked] }
            }
            Collection::Sweeping { .. } if !is_free => return None,
            Collection::Sweeping { at, stale } => {
                let relied = if rules.ask_again { self.blob } else { stale };
                if relied.is_some_and(|relied| relied < at) { Collection::Removing } else { Collection::Done }
            }
            Collection::Removing => {
                world.blob = None;
                Collection::Done
            }
            Collection::Done => return None,
        };
        Some(world)
    }

    /// Whether something names a blob that is not there, and was answered or stood before.
    fn is_lost(&self) -> bool {
        self.blob.is_none() && self.names.contains(&true)
    }
}

/// Tries all orders; returns how many worlds there are, and one in which something is lost.
fn explore(rules: Rules) -> (usize, Option<World>) {
    let (mut seen, mut open) = (HashSet::new(), vec![World::new(true), World::new(false)]);
    while let Some(world) = open.pop() {
        if world.is_lost() {
            return (seen.len(), Some(world));
        }
        if seen.insert(world.clone()) {
            open.extend(world.next(rules));
        }
    }
    (seen.len(), None)
}

#[test]
fn nothing_is_lost_in_any_order() {
    let (worlds, lost) = explore(ALL);
    assert_eq!(lost, None);
    assert!(worlds > 1000, "{worlds}");
}

#[test]
fn each_rule_is_needed() {
    for rules in [
        Rules { rely: false, ..ALL },
        Rules { gate: false, ..ALL },
        Rules { begin_alone: false, ..ALL },
        Rules { ask_again: false, ..ALL },
    ] {
        assert!(explore(rules).1.is_some(), "{rules:?}");
    }
}

#[test]
fn what_nobody_names_is_removed() {
    let (mut open, mut is_removed) = (vec![World::new(false)], false);
    let mut seen = HashSet::new();
    while let Some(world) = open.pop() {
        is_removed |= world.blob.is_none();
        if seen.insert(world.clone()) {
            open.extend(world.next(ALL));
        }
    }
    assert!(is_removed);
}
