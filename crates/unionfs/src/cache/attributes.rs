//! Attributes of read-only directories, from the listing of their parent.
//!
//! The kernel caches attributes too, but drops a directory's after reading it, since that changes the access time. The union
//! reads read-only branches without changing times. A second traversal asks for nothing else.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    core::branch::Branches,
    core::nodes::{Index, Node},
    types::{Attr, Kind},
};

/// Most directories; some 150 bytes each.
const KNOWN: usize = 16_384;

/// A node's generation, version and topmost branch. Each change by the union changes the key.
type Key = (u32, u32, u16);

/// Bounded: cleared when full.
#[derive(Default)]
pub(crate) struct Listed(Mutex<HashMap<Index, (Key, Attr)>>);

impl Listed {
    fn known(&self) -> MutexGuard<'_, HashMap<Index, (Key, Attr)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, ns: &Branches, index: Index, node: &Node, attr: &Attr) {
        if node.kind != Kind::Dir || !ns.is_read_only(node.top) {
            return;
        }
        let mut known = self.known();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(index, (key(node), *attr));
    }

    pub fn get(&self, index: Index, node: &Node) -> Option<Attr> {
        if node.kind != Kind::Dir {
            return None;
        }
        self.known().get(&index).filter(|(at, _)| *at == key(node)).map(|(_, attr)| *attr)
    }

    /// Drops everything; the branches have changed.
    pub fn clear(&self) {
        self.known().clear();
    }
}

fn key(node: &Node) -> Key {
    (node.generation, node.version, node.top)
}
