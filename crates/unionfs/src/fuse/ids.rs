//! The kernel's node numbers, and its lookup counts.
//!
//! A node's number is the inode number that `stat` shows: fuser sends one number as both.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use fuser::INodeNo;

use crate::NodeId;

/// Made-up numbers start here. A node gets one if another node has its inode number.
const MADE_UP: u64 = 1 << 63;

/// The root's number, whatever its inode number.
pub(super) const ROOT: u64 = 1;

/// The nodes that the kernel holds.
#[derive(Debug, Default)]
pub(super) struct Ids(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    nodes: HashMap<u64, NodeId>,
    /// By [`NodeId`].
    slots: Vec<Slot>,
    /// Deleted nodes that the kernel still holds while another node has their number.
    ghosts: Vec<Ghost>,
    made_up: u64,
    generation: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    id: u64,
    count: u64,
    generation: u32,
}

#[derive(Debug)]
struct Ghost {
    id: u64,
    node: NodeId,
    count: u64,
}

/// The kernel's name of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub id: u64,
    pub generation: u64,
}

impl Ids {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a lookup of `node`, whose inode number is `ino`. `is_gone` tells whether a node has been deleted.
    pub fn enter(&self, node: NodeId, ino: u64, is_gone: impl FnOnce(NodeId) -> bool) -> Name {
        if node == NodeId::ROOT {
            return Name { id: ROOT, generation: 0 };
        }
        let mut state = self.state();
        let index = node.0 as usize;
        if state.slots.len() <= index {
            state.slots.resize(index + 1, Slot::default());
        }
        if state.slots[index].count == 0 {
            let (mut id, mut generation) = (ino, 0);
            if let Some(&other) = state.nodes.get(&ino) {
                drop(state);
                let gone = is_gone(other);
                state = self.state();
                if gone && state.nodes.get(&ino) == Some(&other) {
                    let count = std::mem::take(&mut state.slots[other.0 as usize].count);
                    state.ghosts.push(Ghost { id: ino, node: other, count });
                    state.nodes.remove(&ino);
                }
            }
            if state.ghosts.iter().any(|ghost| ghost.id == ino) {
                state.generation += 1;
                generation = state.generation;
            }
            if ino <= ROOT || ino >= MADE_UP || state.nodes.get(&ino).is_some_and(|&other| other != node) {
                state.made_up += 1;
                id = MADE_UP | state.made_up;
            }
            // Another thread may have added it meanwhile.
            if state.slots[index].count == 0 {
                state.slots[index] = Slot { id, count: 0, generation };
                state.nodes.insert(id, node);
            }
        }
        let slot = &mut state.slots[index];
        slot.count += 1;
        Name { id: slot.id, generation: slot.generation.into() }
    }

    /// Returns a number of no node, for a name whose lookup fails.
    pub fn placeholder(&self) -> INodeNo {
        let mut state = self.state();
        state.made_up += 1;
        INodeNo(MADE_UP | state.made_up)
    }

    /// Returns the node of a number.
    pub fn node(&self, id: u64) -> Option<NodeId> {
        if id == ROOT { Some(NodeId::ROOT) } else { self.state().nodes.get(&id).copied() }
    }

    /// Returns the number of a node that the kernel holds.
    pub fn id(&self, node: NodeId) -> Option<u64> {
        if node == NodeId::ROOT {
            return Some(ROOT);
        }
        let state = self.state();
        state.slots.get(node.0 as usize).filter(|slot| slot.count > 0).map(|slot| slot.id)
    }

    /// Takes lookups back; calls `release` with each node's share.
    pub fn forget(&self, id: u64, mut count: u64, mut release: impl FnMut(NodeId, u64)) {
        if id == ROOT {
            return;
        }
        let mut released = Vec::with_capacity(1);
        {
            let mut state = self.state();
            if let Some(position) = state.ghosts.iter().position(|ghost| ghost.id == id) {
                let ghost = &mut state.ghosts[position];
                let taken = count.min(ghost.count);
                ghost.count -= taken;
                count -= taken;
                released.push((ghost.node, taken));
                if ghost.count == 0 {
                    state.ghosts.swap_remove(position);
                }
            }
            if count > 0
                && let Some(&node) = state.nodes.get(&id)
            {
                let slot = &mut state.slots[node.0 as usize];
                let taken = count.min(slot.count);
                slot.count -= taken;
                if slot.count == 0 {
                    state.nodes.remove(&id);
                }
                released.push((node, taken));
            }
        }
        for (node, count) in released {
            release(node, count);
        }
    }

    /// Takes back the lookup of an answer that was not sent.
    pub fn leave(&self, node: NodeId) {
        if let Some(id) = self.id(node) {
            self.forget(id, 1, |_, _| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forget(ids: &Ids, id: u64, count: u64) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        ids.forget(id, count, |node, count| all.push((node.0, count)));
        all
    }

    #[test]
    fn a_node_keeps_its_number_while_it_is_held() {
        let ids = Ids::default();
        assert_eq!(ids.enter(NodeId(7), 50, |_| false), Name { id: 50, generation: 0 });
        assert_eq!(ids.enter(NodeId(7), 51, |_| false).id, 50);
        assert_eq!(ids.node(50), Some(NodeId(7)));
        assert_eq!(forget(&ids, 50, 1), [(7, 1)]);
        assert_eq!(forget(&ids, 50, 1), [(7, 1)]);
        assert_eq!((ids.node(50), ids.id(NodeId(7))), (None, None));
    }

    #[test]
    fn two_living_nodes_never_share_a_number() {
        let ids = Ids::default();
        ids.enter(NodeId(7), 50, |_| false);
        let second = ids.enter(NodeId(8), 50, |_| false);
        assert!(second.id >= MADE_UP);
        assert_eq!((ids.node(50), ids.node(second.id)), (Some(NodeId(7)), Some(NodeId(8))));
        assert!(ids.enter(NodeId(9), 1, |_| false).id >= MADE_UP);
    }

    #[test]
    fn a_deleted_node_gives_its_number_away_and_counts_stay_right() {
        let ids = Ids::default();
        ids.enter(NodeId(7), 50, |_| false);
        ids.enter(NodeId(7), 50, |_| false);
        let second = ids.enter(NodeId(8), 50, |node| node == NodeId(7));
        assert_eq!(second, Name { id: 50, generation: 1 });
        ids.enter(NodeId(8), 50, |_| false);
        assert_eq!(forget(&ids, 50, 2), [(7, 2)]);
        assert_eq!(ids.node(50), Some(NodeId(8)));
        assert_eq!(forget(&ids, 50, 2), [(8, 2)]);
        assert_eq!(ids.node(50), None);
    }
}
