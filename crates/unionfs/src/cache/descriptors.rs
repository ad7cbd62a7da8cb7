//! Descriptors of recently used directories.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use crate::core::nodes::Index;

/// Most descriptors, if there are few branches.
const KEPT: usize = 384;

/// A directory in a branch: node, generation, branch.
type Key = (Index, u32, u16);

#[derive(Default)]
struct State {
    open: HashMap<Key, (Arc<OwnedFd>, u64)>,
    clock: u64,
    /// Room beyond [`KEPT`].
    more: usize,
}

/// Bounded: when it is full, the least recently used half goes.
#[derive(Default)]
pub(crate) struct DirCache(Mutex<State>);

impl DirCache {
    /// Makes room for a directory with parts in all of `branches`, within the limit on descriptors.
    pub fn make_room(&self, branches: usize, limit: u64) {
        let spare = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(branches + 2 * KEPT);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).more = (2 * branches).min(spare / 2);
    }

    pub fn get(&self, key: Key) -> Option<Arc<OwnedFd>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let now = state.clock;
        let (fd, used) = state.open.get_mut(&key)?;
        *used = now;
        Some(Arc::clone(fd))
    }

    pub fn put(&self, key: Key, fd: Arc<OwnedFd>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let now = state.clock;
        let mut dropped = Vec::new();
        if state.open.len() >= KEPT + state.more {
            let mut uses: Vec<u64> = state.open.values().map(|(_, used)| *used).collect();
            uses.sort_unstable();
            let middle = uses[uses.len() / 2];
            dropped.extend(state.open.extract_if(|_, (_, used)| *used < middle));
        }
        state.open.insert(key, (fd, now));
        drop(state);
        drop(dropped);
    }

    pub fn drop_dir(&self, index: Index, generation: u32, layers: impl IntoIterator<Item = u16>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in layers {
            state.open.remove(&(index, generation, layer));
        }
    }

    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open.clear();
    }
}
