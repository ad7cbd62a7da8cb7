//! Changing the branches of an open union.

use std::{collections::HashMap, ffi::OsString, os::unix::ffi::OsStringExt, path::Path, sync::Arc};

use strata_sys::tree::Kind;

use crate::{
    Union,
    config::*,
    core::assemble::{Place, check_number, check_overlap, open_branch, root_stack},
    core::branch::Branches,
    core::nodes::{Index, Link, ROOT, id_of},
    core::raw,
    dialect::aufs::open_aufs_work,
    types::*,
};

impl Union {
    /// Inserts a branch at `index` (0 is the top, `usize::MAX` the bottom). AUFS dialect alone.
    /// The notifier receives every known name that now shows something else.
    pub fn add_branch(&self, index: usize, branch: Branch) -> std::result::Result<(), OpenError> {
        let layer = self.fixed().and_then(|()| open_branch(&branch, self.dialect))?;
        let stat = raw::stat_at(&*layer.root, b"");
        if stat.is_ok_and(|stat| self.own_device.get() == Some(&raw::dev_of(&stat))) {
            return Err(OpenError::Itself { path: layer.path });
        }
        let mut ns = self.change();
        check_number(ns.list.len() + 1)?;
        let mut places: Vec<_> = ns.list.iter().map(|layer| Place::of(layer, self.dialect)).collect();
        places.push(Place::of(&layer, self.dialect));
        check_overlap(&places)?;
        let mut list = ns.list.clone();
        let index = if index == usize::MAX { list.len() } else { index };
        if index > list.len() {
            return Err(OpenError::NoSuchPlace { index, count: list.len() });
        }
        list.insert(index, Arc::new(layer));
        self.replace(&mut ns, list)
    }

    /// Removes a branch; [`OpenError::Busy`] if files of it are open. AUFS dialect alone.
    pub fn remove_branch(&self, path: &Path) -> std::result::Result<(), OpenError> {
        self.fixed()?;
        let mut ns = self.change();
        let index = position(&ns, path)?;
        if ns.list.len() == 1 {
            return Err(OpenError::NoBranches);
        }
        {
            let table = self.nodes();
            let busy = table.open.iter().any(|(node, state)| {
                state.strong_count() > 0 && table.peek(*node).is_ok_and(|node| usize::from(node.top) == index)
            });
            if busy {
                return Err(OpenError::Busy { path: path.into() });
            }
        }
        let mut list = ns.list.clone();
        list.remove(index);
        self.replace(&mut ns, list)
    }

    /// Changes what may be done in a branch. AUFS dialect alone.
    pub fn set_access(&self, path: &Path, access: Access) -> std::result::Result<(), OpenError> {
        self.fixed()?;
        let mut ns = self.change();
        let index = position(&ns, path)?;
        let branch = Branch { path: ns.list[index].path.clone(), access };
        let mut list = ns.list.clone();
        list[index] = Arc::new(open_branch(&branch, self.dialect)?);
        self.replace(&mut ns, list)
    }

    fn fixed(&self) -> std::result::Result<(), OpenError> {
        if self.dialect == Dialect::Aufs { Ok(()) } else { Err(OpenError::Fixed) }
    }

    /// Replaces the branches, and looks up every known node in the new ones.
    fn replace(
        &self,
        ns: &mut Branches,
        list: Vec<Arc<crate::core::branch::OpenBranch>>,
    ) -> std::result::Result<(), OpenError> {
        let writer = list.iter().position(|layer| layer.access == Access::ReadWrite);
        let same = match (ns.writer, writer) {
            (Some(before), Some(after)) => ns.list[usize::from(before)].path == list[after].path,
            (None, None) => true,
            _ => false,
        };
        if !same {
            // The old lock goes first: the new branch may be the same directory.
            let old = ns.work.take();
            ns.work = match writer.map(|writer| open_aufs_work(&list[writer])).transpose() {
                Ok(work) => work.map(Arc::new),
                Err(error) => {
                    ns.work = old;
                    return Err(error);
                }
            };
        }
        let numbers: HashMap<u16, u16> = ns
            .list
            .iter()
            .enumerate()
            .filter_map(|(before, layer)| {
                let after = list.iter().position(|new| new.path == layer.path)?;
                Some((before as u16, after as u16))
            })
            .collect();
        ns.list = list;
        ns.writer = writer.map(|writer| writer as u16);
        self.dirs.clear();
        self.listed.clear();
        *self.parent_defaults() = None;
        let changed = self.find_again(ns, &numbers);
        for what in changed {
            self.tell(what);
        }
        Ok(())
    }

    fn find_again(&self, ns: &Branches, numbers: &HashMap<u16, u16>) -> Vec<Invalidation> {
        let mut changed = Vec::new();
        let mut children: HashMap<Index, Vec<(Index, Link)>> = HashMap::new();
        {
            let mut table = self.nodes();
            table.clear_plain();
            for index in table.indices() {
                for link in table.links(index) {
                    children.entry(link.parent).or_default().push((index, link));
                }
                // A branch's number may have changed.
                if let Ok(node) = table.edit(index) {
                    node.top = numbers.get(&node.top).copied().unwrap_or(node.top);
                }
            }
            if let Ok(root) = table.edit(ROOT) {
                root.stack = Some(root_stack(ns, false).into());
                root.top = 0;
                root.version += 1;
            }
        }
        if let Ok(stat) = raw::stat_at(&*ns.list[0].root, b"")
            && let Ok(real) = self.inos.real(&stat)
            && let Ok(root) = self.nodes().edit(ROOT)
        {
            root.real = real;
        }
        changed.push(Invalidation::Node(NodeId::ROOT));
        let mut queue = vec![ROOT];
        while let Some(parent) = queue.pop() {
            for (index, Link { name, .. }) in children.remove(&parent).unwrap_or_default() {
                if self.find_one_again(ns, parent, index, &name) {
                    queue.push(index);
                    changed.push(Invalidation::Node(id_of(index)));
                } else {
                    self.nodes().detach(parent, &name);
                }
                changed.push(Invalidation::Entry { parent: id_of(parent), name: OsString::from_vec(name.to_vec()) });
            }
        }
        changed
    }

    /// Whether the name still shows the node; updates the node's location.
    fn find_one_again(&self, ns: &Branches, parent: Index, index: Index, name: &[u8]) -> bool {
        let Ok(parent_node) = self.known(parent) else { return false };
        let Ok(Some(found)) = self.resolve(ns, parent, &parent_node, name, None) else { return false };
        let Ok(real) = self.inos.real(&found.stat) else { return false };
        let kind = raw::kind_of(&found.stat);
        let mut table = self.nodes();
        let stack = found.stack.map(|stack| table.stack(stack));
        let Ok(node) = table.edit(index) else { return false };
        if node.kind != kind || kind != Kind::Dir && node.real != real && node.shared.is_none() {
            return false;
        }
        if node.shared.is_none() {
            node.top = found.top;
            node.real = real;
        }
        node.stack = stack;
        node.kept = false;
        node.version += 1;
        true
    }
}

fn position(ns: &Branches, path: &Path) -> std::result::Result<usize, OpenError> {
    let wanted = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    ns.list.iter().position(|layer| layer.path == wanted).ok_or_else(|| OpenError::NoSuchBranch { path: path.into() })
}
