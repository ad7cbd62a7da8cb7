//! Renaming.

use std::{
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
};

use rustix::fs::{self, Mode, RenameFlags, XattrFlags};
use strata_sys::tree::Kind;

use crate::{
    Union,
    config::{Dialect, RedirectDir},
    core::branch::{Branches, Work},
    core::copy_up::Data,
    core::create::{Mark, RENAMES},
    core::flags::check_unprotected,
    core::nodes::{Below, Index, Node, index_of},
    core::raw,
    types::*,
};

/// One side of a rename.
struct Side {
    parent: Index,
    name: Vec<u8>,
    index: Index,
    node: Node,
}

/// What the writable branch has at the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Nothing,
    Whiteout,
    File,
    Dir,
}

impl Union {
    /// Renames, as `renameat2(2)` does with `NOREPLACE` or `EXCHANGE`.
    ///
    /// `EXDEV` for a directory that a lower branch holds too: in AUFS always, in overlay unless [`RedirectDir::On`].
    pub fn rename(
        &self,
        parent: NodeId,
        name: &OsStr,
        new_parent: NodeId,
        new_name: &OsStr,
        flags: RenameFlags,
    ) -> Result<()> {
        if !RENAMES.contains(flags) || flags == RENAMES {
            return Err(Errno::INVAL);
        }
        let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
        self.check_name(name)?;
        self.check_name(new_name)?;
        let (parent, new_parent) = (index_of(parent)?, index_of(new_parent)?);
        let (from, to) = ((parent, name), (new_parent, new_name));
        self.prepare_rename(from, to, flags)?;
        let ns = self.change();
        let sides = self.sides(&ns, from, to)?;
        let result = match (&sides, self.check_sides(&ns, &sides, new_parent, flags)) {
            (_, Err(errno)) => Err(errno),
            ((old, Some(new)), _) if new.index == old.index => Ok(()),
            ((old, Some(new)), _) if flags.contains(RenameFlags::EXCHANGE) => self.exchange_sides(&ns, old, new),
            ((old, new), _) => self.rename_to(&ns, old, new_parent, new_name, new.as_ref()),
        };
        self.drop_sides(&sides);
        result
    }

    /// Looks up both names and counts a lookup of each that exists.
    fn sides(&self, ns: &Branches, from: (Index, &[u8]), to: (Index, &[u8])) -> Result<(Side, Option<Side>)> {
        let find = |(parent, name): (Index, &[u8])| {
            let (index, node, stat) = self.lookup_in(ns, parent, name, None)?;
            if Some(node.top) != ns.writer
                && let Err(errno) = check_unprotected(&stat)
            {
                self.nodes().forget(index, 1);
                return Err(errno);
            }
            Ok(Side { parent, name: name.to_vec(), index, node })
        };
        let old = find(from)?;
        match find(to) {
            Ok(new) => Ok((old, Some(new))),
            Err(Errno::NOENT) => Ok((old, None)),
            Err(errno) => {
                self.nodes().forget(old.index, 1);
                Err(errno)
            }
        }
    }

    fn drop_sides(&self, (old, new): &(Side, Option<Side>)) {
        let mut table = self.nodes();
        table.forget(old.index, 1);
        if let Some(new) = new {
            table.forget(new.index, 1);
        }
    }

    /// Checks a rename before any copy-up, then copies up files without the lock on names.
    fn prepare_rename(&self, from: (Index, &[u8]), to: (Index, &[u8]), flags: RenameFlags) -> Result<()> {
        let (sides, checked) = {
            let ns = self.look();
            ns.writable()?;
            let sides = self.sides(&ns, from, to)?;
            let checked = self.check_sides(&ns, &sides, to.0, flags);
            (sides, checked)
        };
        let both = flags.contains(RenameFlags::EXCHANGE);
        let same = sides.1.as_ref().is_some_and(|new| new.index == sides.0.index);
        let files = [Some(&sides.0), sides.1.as_ref().filter(|_| both)].into_iter().flatten();
        let mut files = files.filter(|side| side.node.kind == Kind::File && !same);
        let result = checked.and_then(|()| {
            files.try_for_each(|side| {
                self.ensure_upper(side.index, Data::Below)?;
                // A metacopy may stay one only if redirects lead to its data.
                if self.makes_metacopies() { Ok(()) } else { self.complete_data(side.index, Data::All) }
            })
        });
        self.drop_sides(&sides);
        result
    }

    fn check_sides(
        &self,
        ns: &Branches,
        (old, new): &(Side, Option<Side>),
        new_parent: Index,
        flags: RenameFlags,
    ) -> Result<()> {
        let (writer, _) = ns.writable()?;
        let Some(new) = new else {
            if flags.contains(RenameFlags::EXCHANGE) {
                return Err(Errno::NOENT);
            }
            return self.check_moves(old, new_parent, writer);
        };
        if flags.contains(RenameFlags::NOREPLACE) {
            return Err(Errno::EXIST);
        }
        if new.index == old.index {
            return Ok(());
        }
        self.check_moves(old, new_parent, writer)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            return self.check_moves(new, old.parent, writer);
        }
        match (old.node.kind == Kind::Dir, new.node.kind == Kind::Dir) {
            (true, false) => Err(Errno::NOTDIR),
            (false, true) => Err(Errno::ISDIR),
            (true, true) if !self.is_empty(ns, new.index, &new.node)? => Err(Errno::NOTEMPTY),
            _ if new.node.top < writer => Err(Errno::ROFS),
            _ => Ok(()),
        }
    }

    /// Refuses to move a directory into itself (`EINVAL`), and one that needs a redirect if none may be made (`EXDEV`).
    fn check_moves(&self, side: &Side, into: Index, writer: u16) -> Result<()> {
        if side.node.top < writer {
            return Err(Errno::ROFS);
        }
        if side.node.kind != Kind::Dir {
            return Ok(());
        }
        if self.nodes().is_below(into, side.index) {
            return Err(Errno::INVAL);
        }
        if side.node.has_lower(Some(writer)) && !self.makes_redirects() { Err(Errno::XDEV) } else { Ok(()) }
    }

    fn rename_to(
        &self,
        ns: &Branches,
        old: &Side,
        new_parent: Index,
        new_name: &[u8],
        new: Option<&Side>,
    ) -> Result<()> {
        let (_, work) = ns.writable()?;
        let is_dir = old.node.kind == Kind::Dir;
        // The target is removed by the rename.
        let target_links = match new {
            Some(new) if !is_dir => Some(self.prepare_target(ns, new)?),
            Some(new) => {
                self.keep_open(ns, new.index, &new.node)?;
                None
            }
            None => None,
        };
        self.copy_up(ns, old.index, Data::All)?;
        let up = self.dir_up(ns, old.parent)?;
        let new_up = self.dir_up(ns, new_parent)?;
        let node = self.known(old.index)?;
        if let Some(key) = &node.shared {
            self.link_up(ns, old.parent, &old.name, key)?;
        }
        let places = if is_dir {
            self.prepare_dir(ns, old, new_parent, &node, &up)?
        } else {
            self.point_to_data(ns, (old.parent, &old.name), old.index, old.parent == new_parent, &up)?;
            Vec::new()
        };
        let parent_node = self.known(old.parent)?;
        let lower = self.lower_has(ns, old.parent, &parent_node, &old.name)?;
        self.own_whiteout(ns, &new_up, new_name)?;
        let target = self.target(ns, &new_up, new_name)?;
        self.carry_impure(ns, old.index, &node, new_parent, &new_up)?;
        match self.dialect {
            Dialect::Overlay { .. } => {
                self.move_overlay(work, (&up, &old.name), (&new_up, new_name), target, is_dir, lower)?;
            }
            Dialect::Aufs => {
                self.move_aufs(ns, work, (&up, &old.name), (&new_up, new_name), target, &node, lower, new_parent)?
            }
        }
        if let Some(new) = new {
            let (fresh, last) = target_links.unwrap_or_else(|| (new.node.clone(), true));
            self.removed(ns, new.parent, &new.name, new.index, &fresh, last)?;
        }
        self.moved(old, new_parent, new_name, places)
    }

    fn makes_redirects(&self) -> bool {
        self.keys().is_some() && self.options.redirect_dir == RedirectDir::On
    }

    /// Prepares a file for its replacement as for its removal; returns its node, and whether this is its last name.
    fn prepare_target(&self, ns: &Branches, new: &Side) -> Result<(Node, bool)> {
        let (writer, _) = ns.writable()?;
        let mut node = new.node.clone();
        if node.top != writer && self.keys().is_some() && self.keeps_links(ns, node.kind) {
            let links = self.stat_node(ns, new.index, &node)?.stx_nlink;
            if links > 1 {
                self.copy_up(ns, new.index, Data::All)?;
                node = self.known(new.index)?;
            }
        }
        if let Some(key) = &node.shared {
            self.link_up(ns, new.parent, &new.name, key)?;
        }
        self.keep_open(ns, new.index, &node)?;
        let last = node.top == writer && self.spot(ns, new.index, &node)?.stat()?.stx_nlink == 1;
        Ok((node, last))
    }

    /// Marks a directory before it moves: with a redirect if lower branches hold it, opaque if it must not merge at its new
    /// location. Returns its parts with their paths.
    fn prepare_dir(
        &self,
        ns: &Branches,
        old: &Side,
        new_parent: Index,
        node: &Node,
        up: &OwnedFd,
    ) -> Result<Vec<Below>> {
        let (writer, _) = ns.writable()?;
        let mut places = node.dir()?.to_vec();
        for part in places.iter_mut().filter(|part| part.layer != writer && part.at.is_none()) {
            part.at = Some(self.nodes().place(old.index, part.layer)?.into_boxed_slice());
        }
        let Some(keys) = self.keys() else { return Ok(places) };
        if node.has_lower(Some(writer)) {
            let text = self.redirect_text(ns, keys, old.parent, &old.name, old.parent == new_parent, up)?;
            if let Some(text) = text {
                raw::set_xattr_at(up, &old.name, keys.redirect, &text, XattrFlags::empty())?;
            }
        } else if self.nodes().peek(new_parent)?.has_lower(Some(writer)) {
            self.set_opaque(up, &old.name)?;
        }
        Ok(places)
    }

    fn target(&self, ns: &Branches, up: &OwnedFd, name: &[u8]) -> Result<Target> {
        match self.mark_at(ns, up, name) {
            Ok(Mark::Nothing) => Ok(Target::Nothing),
            Ok(Mark::Whiteout) => Ok(Target::Whiteout),
            Err(Errno::EXIST) if raw::kind_of(&raw::stat_at(up, name)?) == Kind::Dir => Ok(Target::Dir),
            Err(Errno::EXIST) => Ok(Target::File),
            Err(errno) => Err(errno),
        }
    }

    /// Replaces a directory of the writable branch that shows nothing, but may hold marks, by an empty one.
    pub(crate) fn clear_dir(&self, work: &Work, up: &OwnedFd, name: &[u8]) -> Result<()> {
        let empty = work.temp(|temp| fs::mkdirat(&*work.dir, temp, Mode::RWXU))?;
        self.set_opaque(&empty.dir, &empty.name)?;
        if work.can.exchange {
            return empty.exchange(up, name);
        }
        let away = work.temp_name();
        fs::renameat(up, name, &*work.dir, &*away)?;
        drop(crate::core::branch::Temp::adopt(&work.dir, away));
        empty.rename(up, name)
    }

    fn moved(&self, old: &Side, new_parent: Index, new_name: &[u8], places: Vec<Below>) -> Result<()> {
        let mut table = self.nodes();
        if !places.is_empty() {
            let stack = table.stack(places);
            table.edit(old.index)?.stack = Some(stack);
        }
        table.edit(new_parent)?.lookups += 1;
        table.detach(old.parent, &old.name);
        table.attach(old.index, new_parent, new_name);
        table.edit(old.parent)?.version += 1;
        table.edit(new_parent)?.version += 1;
        table.forget(new_parent, 1);
        Ok(())
    }

    fn exchange_sides(&self, ns: &Branches, old: &Side, new: &Side) -> Result<()> {
        let mut places = Vec::new();
        for (one, other) in [(old, new), (new, old)] {
            self.copy_up(ns, one.index, Data::All)?;
            let up = self.dir_up(ns, one.parent)?;
            let node = self.known(one.index)?;
            if let Some(key) = &node.shared {
                self.link_up(ns, one.parent, &one.name, key)?;
            }
            places.push(if node.kind == Kind::Dir {
                self.prepare_dir(ns, one, other.parent, &node, &up)?
            } else {
                self.point_to_data(ns, (one.parent, &one.name), one.index, one.parent == other.parent, &up)?;
                Vec::new()
            });
        }
        let (up, new_up) = (self.dir_up(ns, old.parent)?, self.dir_up(ns, new.parent)?);
        self.carry_impure(ns, old.index, &self.known(old.index)?, new.parent, &new_up)?;
        self.carry_impure(ns, new.index, &self.known(new.index)?, old.parent, &up)?;
        Self::exchange(&up, &old.name, &new_up, &new.name)?;
        let mut table = self.nodes();
        for (side, places) in [old, new].into_iter().zip(places) {
            if !places.is_empty() {
                let stack = table.stack(places);
                table.edit(side.index)?.stack = Some(stack);
            }
            table.edit(side.parent)?.lookups += 1;
        }
        table.detach(old.parent, &old.name);
        table.detach(new.parent, &new.name);
        table.attach(old.index, new.parent, &new.name);
        table.attach(new.index, old.parent, &old.name);
        for side in [old, new] {
            table.edit(side.parent)?.version += 1;
            table.forget(side.parent, 1);
        }
        Ok(())
    }
}
