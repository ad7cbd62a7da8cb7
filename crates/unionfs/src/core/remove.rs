//! Removing names.

use std::{
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    sync::Arc,
};

use rustix::fs::{self, AtFlags, RenameFlags};
use strata_sys::tree::Kind;

use crate::{
    Union,
    core::branch::{Branches, Temp, Work},
    core::copy_up::Data,
    core::flags::check_unprotected,
    core::nodes::{Index, NAMELESS, Node, index_of},
    core::union::Spot,
    dialect::aufs,
    types::*,
};

impl Union {
    /// Removes a name of a file that is no directory.
    pub fn unlink(&self, parent: NodeId, name: &OsStr) -> Result<()> {
        self.remove(parent, name.as_bytes(), Removal::File)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: NodeId, name: &OsStr) -> Result<()> {
        self.remove(parent, name.as_bytes(), Removal::Dir)
    }

    fn remove(&self, parent: NodeId, name: &[u8], what: Removal) -> Result<()> {
        self.check_name(name)?;
        let parent = index_of(parent)?;
        let ns = self.change();
        let (index, node, stat) = self.lookup_in(&ns, parent, name, None)?;
        let result = match (what, node.kind) {
            (Removal::File, Kind::Dir) => Err(Errno::ISDIR),
            _ if Some(node.top) != ns.writer && check_unprotected(&stat).is_err() => Err(Errno::PERM),
            (Removal::File, _) => self.remove_file(&ns, parent, name, index, &node, stat.stx_nlink),
            (Removal::Dir, Kind::Dir) => self.remove_dir(&ns, parent, name, index, &node),
            (Removal::Dir, _) => Err(Errno::NOTDIR),
        };
        self.nodes().forget(index, 1);
        result
    }

    fn remove_file(
        &self,
        ns: &Branches,
        parent: Index,
        name: &[u8],
        index: Index,
        node: &Node,
        links: u32,
    ) -> Result<()> {
        let (writer, work) = ns.writable()?;
        if node.top < writer {
            return Err(Errno::ROFS);
        }
        let mut node = node.clone();
        // A node outside the writable branch lies below it.
        let below = node.top != writer;
        if below && links > 1 && self.keys().is_some() && self.keeps_links(ns, node.kind) {
            // The copy keeps the count of the remaining names.
            self.copy_up(ns, index, Data::All)?;
            node = self.known(index)?;
        }
        if let Some(key) = &node.shared {
            self.link_up(ns, parent, name, key)?;
        }
        self.keep_open(ns, index, &node)?;
        let parent_node = self.known(parent)?;
        let lower = below || self.lower_has(ns, parent, &parent_node, name)?;
        let last = node.top == writer && self.spot(ns, index, &node)?.stat()?.stx_nlink == 1;
        if node.top == writer {
            let up = self.dir_fd(ns, parent, &parent_node, writer)?;
            if lower {
                self.turn_to_whiteout(work, &up, name, node.kind)?
            } else {
                fs::unlinkat(&*up, name, AtFlags::empty())?
            }
        } else {
            let up = self.dir_up(ns, parent)?;
            self.put_whiteout(work, &up, name)?;
        }
        self.removed(ns, parent, name, index, &node, last)
    }

    /// Opens a node that is about to lose its last name, so that it keeps answering those who hold it: as an open file, as a
    /// working directory, by `O_PATH`.
    pub(crate) fn keep_open(&self, ns: &Branches, index: Index, node: &Node) -> Result<()> {
        let (state, is_kept) = {
            let table = self.nodes();
            if table.links(index).len() > 1 {
                return Ok(());
            }
            let is_kept = table.nameless.contains_key(&index) || table.nameless.len() >= NAMELESS;
            (table.open.get(&index).and_then(std::sync::Weak::upgrade), is_kept)
        };
        let open = |spot: &Spot| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if spot.name.is_empty() {
                rustix::io::dup(&*spot.dir)
            } else {
                fs::openat(&*spot.dir, &*spot.name, flags, fs::Mode::empty())
            }
        };
        let Some(state) = state else {
            if !is_kept && let Ok(fd) = self.spot(ns, index, node).and_then(|spot| open(&spot)) {
                self.nodes().nameless.insert(index, Arc::new(fd));
            }
            return Ok(());
        };
        if state.real().is_some() {
            return Ok(());
        }
        // A metacopy finds its data by its name.
        self.complete_data_in(ns, index)?;
        if state.real().is_none() {
            state.keep(open(&self.spot(ns, index, node)?)?);
        }
        Ok(())
    }

    /// Updates the table after a removal; `last` if no name of the object is left.
    pub(crate) fn removed(
        &self,
        ns: &Branches,
        parent: Index,
        name: &[u8],
        index: Index,
        node: &Node,
        last: bool,
    ) -> Result<()> {
        if last {
            self.inos.drop_real(node.real);
        }
        {
            let mut table = self.nodes();
            table.detach(parent, name);
            if let Ok(parent) = table.edit(parent) {
                parent.version += 1;
            }
            if last {
                table.drop_inode(node.real);
            }
        }
        if let Some(stack) = &node.stack {
            self.dirs.drop_dir(index, node.generation, stack.iter().map(|part| part.layer));
        }
        match &node.shared {
            Some(key) => self.settle_shared(ns, key),
            None => Ok(()),
        }
    }

    fn remove_dir(&self, ns: &Branches, parent: Index, name: &[u8], index: Index, node: &Node) -> Result<()> {
        let (writer, work) = ns.writable()?;
        if node.top < writer {
            return Err(Errno::ROFS);
        }
        if !self.is_empty(ns, index, node)? {
            return Err(Errno::NOTEMPTY);
        }
        self.keep_open(ns, index, node)?;
        let parent_node = self.known(parent)?;
        let lower = self.lower_has(ns, parent, &parent_node, name)?;
        if node.top == writer {
            let up = self.dir_fd(ns, parent, &parent_node, writer)?;
            self.remove_upper_dir(work, &up, name, lower)?;
        } else {
            let up = self.dir_up(ns, parent)?;
            self.put_whiteout(work, &up, name)?;
        }
        self.removed(ns, parent, name, index, node, node.top == writer)
    }

    /// Removes a directory of the writable branch that shows nothing but may hold marks; leaves a whiteout if `lower`.
    pub(crate) fn remove_upper_dir(&self, work: &Work, up: &OwnedFd, name: &[u8], lower: bool) -> Result<()> {
        if lower {
            return self.turn_to_whiteout(work, up, name, Kind::Dir);
        }
        match fs::unlinkat(up, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            result => return result,
        }
        let away = work.temp_name();
        fs::renameat(up, name, &*work.dir, &*away)?;
        drop(Temp::adopt(&work.dir, away));
        Ok(())
    }

    /// Makes a whiteout for a name that the writable branch does not have.
    pub(crate) fn put_whiteout(&self, work: &Work, up: &OwnedFd, name: &[u8]) -> Result<()> {
        let Some(keys) = self.keys() else { return self.put_aufs_whiteout(work, up, name) };
        if !work.can.device_whiteouts {
            self.mark_attribute_whiteouts(up)?;
        }
        work.overlay_whiteout(keys.whiteout)?.rename(up, name)
    }

    /// Replaces an object of the writable branch by its whiteout. A kill between the steps leaves the one or the other.
    pub(crate) fn turn_to_whiteout(&self, work: &Work, up: &OwnedFd, name: &[u8], kind: Kind) -> Result<()> {
        if let Some(keys) = self.keys() {
            if !work.can.device_whiteouts {
                self.mark_attribute_whiteouts(up)?;
            }
            let whiteout = work.overlay_whiteout(keys.whiteout)?;
            if kind != Kind::Dir {
                return whiteout.rename(up, name);
            }
            if work.can.exchange {
                return whiteout.exchange(up, name);
            }
            let away = work.temp_name();
            fs::renameat(up, name, &*work.dir, &*away)?;
            let _away = Temp::adopt(&work.dir, away);
            return whiteout.rename(up, name);
        }
        let whiteout = aufs::whiteout(name);
        let mark = self.aufs_whiteout(work)?;
        if kind == Kind::Dir && !work.can.exchange {
            mark.rename(up, &whiteout)?;
            let away = work.temp_name();
            fs::renameat(up, name, &*work.dir, &*away)?;
            drop(Temp::adopt(&work.dir, away));
            return Ok(());
        }
        // Any object under the whiteout's name is a whiteout.
        fs::renameat(up, name, up, &*whiteout)?;
        if kind == Kind::Dir { mark.exchange(up, &whiteout) } else { mark.rename(up, &whiteout) }
    }

    /// Exchanges two names of the writable branch.
    pub(crate) fn exchange(from: &OwnedFd, name: &[u8], to: &OwnedFd, new: &[u8]) -> Result<()> {
        fs::renameat_with(from, name, to, new, RenameFlags::EXCHANGE)
    }
}

#[derive(Clone, Copy)]
enum Removal {
    File,
    Dir,
}
