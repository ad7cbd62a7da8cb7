//! Attributes of read-only directories, as they were when the directory above was listed.
//!
//! The kernel keeps them too, and yet asks again for those of each directory that it has read: reading changes the access time. Not here, where what
//! lies in a read-only branch is read without a trace. Who goes through a tree a second time asks for nothing else.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    layer::Layers,
    table::{Index, Node},
    types::{Attr, Kind},
};

/// Directories known at most; some 150 bytes each.
const KNOWN: usize = 16_384;

/// Node, its generation, version and topmost branch: it changes with whatever changes by our doing.
type Key = (u32, u32, u16);

/// Bounded: begins anew when it is full.
#[derive(Default)]
pub(crate) struct Listed(Mutex<HashMap<Index, (Key, Attr)>>);

impl Listed {
    fn known(&self) -> MutexGuard<'_, HashMap<Index, (Key, Attr)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, ns: &Layers, index: Index, node: &Node, attr: &Attr) {
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

    /// The branches are others.
    pub fn clear(&self) {
        self.known().clear();
    }
}

fn key(node: &Node) -> Key {
    (node.generation, node.version, node.top)
}
