//! The table of nodes: their names, and their locations in the branches.
//!
//! A node takes some 200 bytes with its name, and holds no descriptor while it has one.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{Hash, Hasher},
    os::fd::OwnedFd,
    sync::{Arc, Weak},
};

use strata_sys::tree::Kind;

use crate::{
    core::handle::FileState,
    types::{Errno, NodeId, Result},
};

/// Index of a node in the table; its [`NodeId`] is one more.
pub(crate) type Index = u32;

pub(crate) const ROOT: Index = 0;

/// Most objects without a name that the table holds open.
pub(crate) const NAMELESS: usize = 1024;

pub(crate) fn id_of(index: Index) -> NodeId {
    NodeId(u64::from(index) + 1)
}

pub(crate) fn index_of(node: NodeId) -> Result<Index> {
    node.0.checked_sub(1).and_then(|index| Index::try_from(index).ok()).ok_or(Errno::STALE)
}

/// An inode of a branch's filesystem: its device's index in [`Inos`](crate::cache::inode_numbers::Inos), and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Real {
    pub dev: u16,
    pub ino: u64,
}

/// A name of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub parent: Index,
    pub name: Arc<[u8]>,
}

/// A directory's part in one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Below {
    pub layer: u16,
    /// Whether the directory holds whiteouts that are attributes (`opaque` is `x`).
    pub attribute_whiteouts: bool,
    /// Its path in the branch; `None`: its parent's path there and its own name.
    pub at: Option<Box<[u8]>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub kind: Kind,
    /// The branch of the topmost object; for a directory, that of the first part.
    pub top: u16,
    /// The topmost object.
    pub real: Real,
    /// `st_ino`.
    pub ino: u64,
    pub generation: u32,
    /// Incremented by each change of a directory's names and of a node's extended attributes.
    pub version: u32,
    /// Whether a [`Keep`](crate::Keep) has taken the file's content.
    pub kept: bool,
    /// Whether a directory's part in the writable branch is marked impure, that is, may hold copies; `None`: unknown.
    pub impure: Option<bool>,
    /// Whether the node surely has no `security.capability`. The kernel asks for it before many changes.
    pub no_capability: bool,
    /// One of its names; `None` if it has none left. [`Nodes::extra`] has the others.
    pub link: Option<Link>,
    /// The parts of a directory, from the top down.
    pub stack: Option<Arc<[Below]>>,
    /// Set on files whose lower hard links stay one file: the copy's name in `work/index/` or `.wh..wh.plnk/`, and its key in
    /// [`Nodes::shared`].
    pub shared: Option<Arc<[u8]>>,
    pub lookups: u64,
    pub children: u32,
    used: bool,
}

impl Node {
    /// Returns the parts of a directory; `ENOTDIR` for other nodes.
    pub fn dir(&self) -> Result<&Arc<[Below]>> {
        self.stack.as_ref().ok_or(Errno::NOTDIR)
    }

    pub fn has_lower(&self, writer: Option<u16>) -> bool {
        self.stack.as_ref().is_some_and(|stack| stack.iter().any(|below| Some(below.layer) != writer))
    }
}

/// The way from an open directory to a directory's part in a branch.
pub(crate) struct Way {
    /// The nearest ancestor that is open; `None`: the branch's root.
    pub base: Option<Arc<OwnedFd>>,
    /// The path from `base` to the first step.
    pub at: Vec<u8>,
    /// The directories on the way; the last is the target.
    pub steps: Vec<Step>,
}

/// A directory on the way, and its name in the one before it; empty if [`Way::at`] is its path.
pub(crate) struct Step {
    pub key: (Index, u32, u16),
    pub name: Arc<[u8]>,
}

/// A lower file with several names that has been copied up. All its names show the copy.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// The lower object, if known.
    pub lower: Option<Real>,
    /// The copy.
    pub upper: Real,
    /// The link count that the union shows, minus the copy's own.
    pub delta: i64,
}

#[derive(Clone)]
struct Key(Index, Arc<[u8]>);

trait AsKey {
    fn parts(&self) -> (Index, &[u8]);
}

impl AsKey for Key {
    fn parts(&self) -> (Index, &[u8]) {
        (self.0, &self.1)
    }
}

impl AsKey for (Index, &[u8]) {
    fn parts(&self) -> (Index, &[u8]) {
        (self.0, self.1)
    }
}

impl PartialEq for dyn AsKey + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn AsKey + '_ {}

impl Hash for dyn AsKey + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl<'a> Borrow<dyn AsKey + 'a> for Key {
    fn borrow(&self) -> &(dyn AsKey + 'a) {
        self
    }
}

#[derive(Default)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    free: Vec<Index>,
    names: HashMap<Key, Index>,
    extra: HashMap<Index, Vec<Link>>,
    /// Files with several names, by their topmost object.
    inodes: HashMap<Real, Index>,
    pub shared: HashMap<Arc<[u8]>, Shared>,
    /// Keys of [`Nodes::shared`] by the copy.
    pub by_upper: HashMap<Real, Arc<[u8]>>,
    pub open: HashMap<Index, Weak<FileState>>,
    /// Objects of nodes that have lost their last name and are not open files, while a process holds the node: as its working
    /// directory, by `O_PATH`, or by a watch. At most [`NAMELESS`].
    pub nameless: HashMap<Index, Arc<OwnedFd>>,
    /// Descriptors of released nodes, to be closed after the lock on the table.
    pub released: Vec<Arc<OwnedFd>>,
    /// One shared copy of the stack that most directories have: one branch, their own name.
    plain: HashMap<u16, Arc<[Below]>>,
}

impl Nodes {
    /// Returns a copy of a node; `ESTALE` if there is none.
    pub fn get(&self, index: Index) -> Result<Node> {
        self.peek(index).cloned()
    }

    pub fn peek(&self, index: Index) -> Result<&Node> {
        self.nodes.get(index as usize).filter(|node| node.used).ok_or(Errno::STALE)
    }

    pub fn edit(&mut self, index: Index) -> Result<&mut Node> {
        self.nodes.get_mut(index as usize).filter(|node| node.used).ok_or(Errno::STALE)
    }

    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Returns the indices of all nodes.
    pub fn indices(&self) -> Vec<Index> {
        (0..self.nodes.len() as Index).filter(|&index| self.nodes[index as usize].used).collect()
    }

    pub fn find(&self, parent: Index, name: &[u8]) -> Option<Index> {
        self.names.get(&(parent, name) as &dyn AsKey).copied()
    }

    pub fn find_inode(&self, real: Real) -> Option<Index> {
        self.inodes.get(&real).copied()
    }

    pub fn set_inode(&mut self, real: Real, index: Index) {
        self.inodes.insert(real, index);
    }

    pub fn drop_inode(&mut self, real: Real) {
        self.inodes.remove(&real);
    }

    pub fn share(&mut self, key: Arc<[u8]>, shared: Shared) {
        self.by_upper.insert(shared.upper, Arc::clone(&key));
        self.shared.insert(key, shared);
    }

    pub fn unshare(&mut self, key: &[u8]) {
        if let Some(shared) = self.shared.remove(key) {
            self.by_upper.remove(&shared.upper);
        }
    }

    /// Shares the stacks that most directories have.
    pub fn stack(&mut self, stack: Vec<Below>) -> Arc<[Below]> {
        match &stack[..] {
            [one] if one.at.is_none() && !one.attribute_whiteouts => {
                Arc::clone(self.plain.entry(one.layer).or_insert_with(|| stack.into()))
            }
            _ => stack.into(),
        }
    }

    pub fn clear_plain(&mut self) {
        self.plain.clear();
    }

    /// Adds a node that has no name and no lookups yet.
    pub fn add(&mut self, kind: Kind, top: u16, real: Real, ino: u64, stack: Option<Arc<[Below]>>) -> Index {
        let mut node = Node {
            kind,
            top,
            real,
            ino,
            generation: 0,
            version: 0,
            kept: false,
            impure: None,
            no_capability: false,
            link: None,
            stack,
            shared: None,
            lookups: 0,
            children: 0,
            used: true,
        };
        match self.free.pop() {
            Some(index) => {
                node.generation = self.nodes[index as usize].generation + 1;
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as Index
            }
        }
    }

    /// Gives a node a name.
    pub fn attach(&mut self, index: Index, parent: Index, name: &[u8]) {
        let name: Arc<[u8]> = name.into();
        if let Some(old) = self.names.insert(Key(parent, Arc::clone(&name)), index) {
            if old == index {
                return;
            }
            self.unlink_node(old, parent, &name);
        }
        self.released.extend(self.nameless.remove(&index));
        let link = Link { parent, name };
        let node = &mut self.nodes[index as usize];
        if node.link.is_none() {
            node.link = Some(link);
        } else {
            self.extra.entry(index).or_default().push(link);
        }
        self.nodes[parent as usize].children += 1;
    }

    /// Takes a name from its node, which it returns.
    pub fn detach(&mut self, parent: Index, name: &[u8]) -> Option<Index> {
        let index = self.names.remove(&(parent, name) as &dyn AsKey)?;
        self.unlink_node(index, parent, name);
        Some(index)
    }

    fn unlink_node(&mut self, index: Index, parent: Index, name: &[u8]) {
        let mut extra = self.extra.remove(&index).unwrap_or_default();
        let node = &mut self.nodes[index as usize];
        let is_it = |link: &Link| link.parent == parent && &*link.name == name;
        if node.link.as_ref().is_some_and(is_it) {
            node.link = extra.pop();
        } else {
            extra.retain(|link| !is_it(link));
        }
        if !extra.is_empty() {
            self.extra.insert(index, extra);
        }
        self.nodes[parent as usize].children -= 1;
        self.release(parent);
        self.release(index);
    }

    /// Returns the known names of a node.
    pub fn links(&self, index: Index) -> Vec<Link> {
        let first = self.peek(index).ok().and_then(|node| node.link.clone());
        first.into_iter().chain(self.extra.get(&index).into_iter().flatten().cloned()).collect()
    }

    pub fn forget(&mut self, index: Index, count: u64) {
        if let Ok(node) = self.edit(index) {
            node.lookups = node.lookups.saturating_sub(count);
            self.release(index);
        }
    }

    /// Drops a node without references, then each parent that only it kept.
    pub fn release(&mut self, index: Index) {
        let mut next = vec![index];
        while let Some(index) = next.pop() {
            let Ok(node) = self.peek(index) else { continue };
            if index == ROOT || node.lookups > 0 || node.children > 0 {
                continue;
            }
            if self.open.get(&index).is_some_and(|state| state.strong_count() > 0) {
                continue;
            }
            for link in self.links(index) {
                self.names.remove(&(link.parent, &*link.name) as &dyn AsKey);
                self.nodes[link.parent as usize].children -= 1;
                next.push(link.parent);
            }
            self.extra.remove(&index);
            self.open.remove(&index);
            self.released.extend(self.nameless.remove(&index));
            let node = &mut self.nodes[index as usize];
            node.used = false;
            node.link = None;
            node.stack = None;
            let (real, shared) = (node.real, node.shared.take());
            let lower = shared.and_then(|name| self.shared.get(&name)?.lower);
            for key in [Some(real), lower].into_iter().flatten() {
                if self.inodes.get(&key) == Some(&index) {
                    self.inodes.remove(&key);
                }
            }
            self.free.push(index);
        }
    }

    /// Returns the way to directory `index` in branch `layer` from the nearest ancestor that `at_hand` has a descriptor of.
    /// `ENOENT` if it does not lie in the branch or has no name left.
    pub fn way(
        &self,
        index: Index,
        layer: u16,
        at_hand: impl Fn((Index, u32, u16)) -> Option<Arc<OwnedFd>>,
    ) -> Result<Way> {
        let mut steps = Vec::new();
        let mut at = index;
        let (base, start) = loop {
            if at == ROOT {
                break (None, Vec::new());
            }
            let node = self.peek(at)?;
            let key = (at, node.generation, layer);
            if at != index
                && let Some(fd) = at_hand(key)
            {
                break (Some(fd), Vec::new());
            }
            let below = node.dir()?.iter().find(|below| below.layer == layer).ok_or(Errno::NOENT)?;
            if let Some(base) = &below.at {
                steps.push(Step { key, name: Arc::default() });
                break (None, base.to_vec());
            }
            let link = node.link.as_ref().ok_or(Errno::NOENT)?;
            steps.push(Step { key, name: Arc::clone(&link.name) });
            at = link.parent;
        };
        steps.reverse();
        Ok(Way { base, at: start, steps })
    }

    /// Returns the path of directory `index` in branch `layer`, relative to the branch's root; `""` for the root.
    /// `ENOENT` if it does not lie in the branch, `ESTALE` if it has no name left.
    pub fn place(&self, index: Index, layer: u16) -> Result<Vec<u8>> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = index;
        let base: &[u8] = loop {
            let node = self.peek(at)?;
            let below = node.dir()?.iter().find(|below| below.layer == layer).ok_or(Errno::NOENT)?;
            if let Some(base) = &below.at {
                break base;
            }
            if at == ROOT {
                break b"";
            }
            let link = node.link.as_ref().ok_or(Errno::STALE)?;
            names.push(&link.name);
            at = link.parent;
        };
        let mut path = base.to_vec();
        for name in names.iter().rev() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        Ok(path)
    }

    /// Returns the path of a node in the merged view; `""` for the root.
    pub fn path(&self, index: Index) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = index;
        while at != ROOT {
            let Some(link) = self.peek(at).ok().and_then(|node| node.link.as_ref()) else { break };
            names.push(&link.name);
            at = link.parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Whether `index` is `ancestor` or lies below it.
    pub fn is_below(&self, index: Index, ancestor: Index) -> bool {
        let mut at = index;
        loop {
            if at == ancestor {
                return true;
            }
            match self.peek(at).ok().and_then(|node| node.link.as_ref()) {
                Some(link) => at = link.parent,
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(layer: u16, at: Option<&[u8]>) -> Below {
        Below { layer, attribute_whiteouts: false, at: at.map(Into::into) }
    }

    fn table() -> Nodes {
        let mut table = Nodes::default();
        let stack = table.stack(vec![below(0, None), below(1, None)]);
        table.add(Kind::Dir, 0, Real { dev: 0, ino: 1 }, 1, Some(stack));
        table
    }

    fn dir(table: &mut Nodes, parent: Index, name: &str, stack: Vec<Below>) -> Index {
        let stack = table.stack(stack);
        let ino = table.len() as u64 + 10;
        let index = table.add(Kind::Dir, stack[0].layer, Real { dev: 0, ino }, ino, Some(stack));
        table.attach(index, parent, name.as_bytes());
        table.edit(index).unwrap().lookups = 1;
        index
    }

    #[test]
    fn places_follow_redirects() {
        let mut table = table();
        let a = dir(&mut table, ROOT, "a", vec![below(0, None), below(1, Some(b"x/y"))]);
        let b = dir(&mut table, a, "b", vec![below(1, None)]);
        assert_eq!(table.place(b, 1).unwrap(), b"x/y/b");
        assert_eq!(table.place(a, 0).unwrap(), b"a");
        assert_eq!(table.place(b, 0), Err(Errno::NOENT));
        assert_eq!(table.path(b), b"a/b");
        assert_eq!(table.place(ROOT, 1).unwrap(), b"");
        assert!(table.is_below(b, a) && !table.is_below(a, b));
    }

    #[test]
    fn a_forgotten_node_stays_while_a_child_needs_it() {
        let mut table = table();
        let a = dir(&mut table, ROOT, "a", vec![below(1, None)]);
        let b = dir(&mut table, a, "b", vec![below(1, None)]);
        table.forget(a, 1);
        assert_eq!(table.place(b, 1).unwrap(), b"a/b");
        table.forget(b, 1);
        assert_eq!(table.len(), 1);
        assert_eq!(table.peek(ROOT).unwrap().children, 0);
        let again = dir(&mut table, ROOT, "c", vec![below(1, None)]);
        assert_eq!(table.peek(again).unwrap().generation, 1);
    }

    #[test]
    fn names_of_one_node() {
        let mut table = table();
        let file = table.add(Kind::File, 0, Real { dev: 0, ino: 50 }, 50, None);
        table.edit(file).unwrap().lookups = 2;
        table.attach(file, ROOT, b"one");
        table.attach(file, ROOT, b"two");
        table.attach(file, ROOT, b"two");
        assert_eq!(table.links(file).len(), 2);
        assert_eq!(table.detach(ROOT, b"one"), Some(file));
        assert_eq!(table.find(ROOT, b"one"), None);
        assert_eq!(table.path(file), b"two");
        table.forget(file, 2);
        assert_eq!((table.find(ROOT, b"two"), table.len()), (None, 1));
    }
}
