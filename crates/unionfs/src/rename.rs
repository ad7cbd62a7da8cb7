//! Renaming.

use std::{
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    sync::Arc,
};

use rustix::fs::{self, AtFlags, Mode, RenameFlags, XattrFlags};
use strata_sys::tree::Kind;

use crate::{
    Union,
    config::{Dialect, RedirectDir},
    copyup::Data,
    create::{Mark, RENAMES},
    flags::check_unprotected,
    layer::{Layers, Work},
    marks::{Keys, Redirect, aufs},
    raw,
    table::{Below, Index, Node, ROOT, index_of},
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
enum Target {
    Nothing,
    Whiteout,
    File,
    Dir,
}

impl Union {
    /// Renames, by the rules of `renameat2(2)` with `NOREPLACE` or `EXCHANGE`.
    ///
    /// `EXDEV` for a directory that lies in a lower branch too, in AUFS always and in overlay unless redirects may be made.
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

    /// Finds both names; each found counts as a lookup.
    fn sides(&self, ns: &Layers, from: (Index, &[u8]), to: (Index, &[u8])) -> Result<(Side, Option<Side>)> {
        let find = |(parent, name): (Index, &[u8])| {
            let (index, node, stat) = self.lookup_in(ns, parent, name, None)?;
            if Some(node.top) != ns.writer
                && let Err(errno) = check_unprotected(&stat)
            {
                self.table().forget(index, 1);
                return Err(errno);
            }
            Ok(Side { parent, name: name.to_vec(), index, node })
        };
        let old = find(from)?;
        match find(to) {
            Ok(new) => Ok((old, Some(new))),
            Err(Errno::NOENT) => Ok((old, None)),
            Err(errno) => {
                self.table().forget(old.index, 1);
                Err(errno)
            }
        }
    }

    fn drop_sides(&self, (old, new): &(Side, Option<Side>)) {
        let mut table = self.table();
        table.forget(old.index, 1);
        if let Some(new) = new {
            table.forget(new.index, 1);
        }
    }

    /// Refuses what cannot be, before anything is copied up for it; then copies up files without the lock on names.
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
                // Only a file without data that has to be found by a redirect may stay one.
                if self.makes_metacopies() { Ok(()) } else { self.complete_data(side.index, Data::All) }
            })
        });
        self.drop_sides(&sides);
        result
    }

    fn check_sides(
        &self,
        ns: &Layers,
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

    /// Whether something can move into a directory: not a directory into itself, and not one that needs a redirect where none is made.
    fn check_moves(&self, side: &Side, into: Index, writer: u16) -> Result<()> {
        if side.node.top < writer {
            return Err(Errno::ROFS);
        }
        if side.node.kind != Kind::Dir {
            return Ok(());
        }
        if self.table().is_below(into, side.index) {
            return Err(Errno::INVAL);
        }
        if side.node.has_lower(Some(writer)) && !self.makes_redirects() { Err(Errno::XDEV) } else { Ok(()) }
    }

    fn rename_to(&self, ns: &Layers, old: &Side, new_parent: Index, new_name: &[u8], new: Option<&Side>) -> Result<()> {
        let (_, work) = ns.writable()?;
        let is_dir = old.node.kind == Kind::Dir;
        // What a removal of the target would do first.
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

    /// Does to a file that is about to be replaced what its removal would; returns it as it is then, and whether it has no other name.
    fn prepare_target(&self, ns: &Layers, new: &Side) -> Result<(Node, bool)> {
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

    /// Marks a directory for its new place: a redirect if it lies in lower branches, opaque if it must not be merged there.
    /// Returns its parts with where they are.
    fn prepare_dir(&self, ns: &Layers, old: &Side, new_parent: Index, node: &Node, up: &OwnedFd) -> Result<Vec<Below>> {
        let (writer, _) = ns.writable()?;
        let mut places = node.dir()?.to_vec();
        for part in places.iter_mut().filter(|part| part.layer != writer && part.at.is_none()) {
            part.at = Some(self.table().place(old.index, part.layer)?.into_boxed_slice());
        }
        let Some(keys) = self.keys() else { return Ok(places) };
        if node.has_lower(Some(writer)) {
            let text = self.redirect_text(ns, keys, old.parent, &old.name, old.parent == new_parent, up)?;
            if let Some(text) = text {
                raw::set_xattr_at(up, &old.name, keys.redirect, &text, XattrFlags::empty())?;
            }
        } else if self.table().peek(new_parent)?.has_lower(Some(writer)) {
            self.set_opaque(up, &old.name)?;
        }
        Ok(places)
    }

    /// The redirect that a directory of the writable branch needs before it moves; `None` if the one it has will do.
    ///
    /// The path that its lower part has to those below: names of the merged view, but each directory on the way that was
    /// redirected itself by where that leads.
    pub(crate) fn redirect_text(
        &self,
        ns: &Layers,
        keys: &Keys,
        parent: Index,
        name: &[u8],
        same_parent: bool,
        up: &OwnedFd,
    ) -> Result<Option<Vec<u8>>> {
        let (writer, _) = ns.writable()?;
        let own = match raw::xattr_at(up, name, keys.redirect)? {
            Some(text) => Some(Redirect::parse(&text)?),
            None => None,
        };
        let mut path: Vec<Vec<u8>> = match own {
            Some(Redirect::Absolute(_)) => return Ok(None),
            Some(Redirect::Sibling(_)) if same_parent => return Ok(None),
            Some(Redirect::Sibling(below)) => vec![below],
            None if same_parent => return Ok(Some(name.to_vec())),
            None => vec![name.to_vec()],
        };
        let mut at = parent;
        while at != ROOT {
            let node = self.known(at)?;
            let link = node.link.clone().ok_or(Errno::STALE)?;
            let dir = self.dir_fd(ns, at, &node, writer)?;
            match raw::xattr_at(&*dir, b"", keys.redirect)?.map(|text| Redirect::parse(&text)).transpose()? {
                Some(Redirect::Absolute(base)) => {
                    path.push(base);
                    break;
                }
                Some(Redirect::Sibling(name)) => path.push(name),
                None => path.push(link.name.to_vec()),
            }
            at = link.parent;
        }
        path.reverse();
        let text = [b"/".as_slice(), &path.join(&b'/')].concat();
        if text.len() > Redirect::MAX { Err(Errno::XDEV) } else { Ok(Some(text)) }
    }

    fn target(&self, ns: &Layers, up: &OwnedFd, name: &[u8]) -> Result<Target> {
        match self.mark_at(ns, up, name) {
            Ok(Mark::Nothing) => Ok(Target::Nothing),
            Ok(Mark::Whiteout) => Ok(Target::Whiteout),
            Err(Errno::EXIST) if raw::kind_of(&raw::stat_at(up, name)?) == Kind::Dir => Ok(Target::Dir),
            Err(Errno::EXIST) => Ok(Target::File),
            Err(errno) => Err(errno),
        }
    }

    /// Moves in the writable branch, the old name turning to a whiteout in the same step where the filesystem can.
    fn move_overlay(
        &self,
        work: &Arc<Work>,
        (up, name): (&OwnedFd, &[u8]),
        (new_up, new): (&OwnedFd, &[u8]),
        target: Target,
        is_dir: bool,
        lower: bool,
    ) -> Result<()> {
        if target == Target::Dir {
            self.clear_dir(work, new_up, new)?;
        }
        if is_dir && target == Target::Whiteout {
            if work.can.exchange {
                Self::exchange(up, name, new_up, new)?;
                return if lower { Ok(()) } else { fs::unlinkat(up, name, AtFlags::empty()) };
            }
            fs::unlinkat(new_up, new, AtFlags::empty())?;
        }
        if !lower {
            return fs::renameat(up, name, new_up, new);
        }
        if work.can.rename_whiteout && work.can.device_whiteouts {
            return fs::renameat_with(up, name, new_up, new, RenameFlags::WHITEOUT);
        }
        if work.can.exchange && target != Target::Dir {
            // The target goes first, so that the exchange leaves a whiteout at the old name.
            if target != Target::Whiteout {
                self.put_whiteout(work, new_up, new)?;
            }
            self.mark_for_whiteout(work, up)?;
            return Self::exchange(up, name, new_up, new);
        }
        fs::renameat(up, name, new_up, new)?;
        self.put_whiteout(work, up, name)
    }

    fn mark_for_whiteout(&self, work: &Work, up: &OwnedFd) -> Result<()> {
        let Some(keys) = self.keys() else { return Ok(()) };
        if !work.can.device_whiteouts && raw::xattr_at(up, b"", keys.opaque)?.is_none() {
            raw::set_xattr_at(up, b"", keys.opaque, b"x", XattrFlags::empty())?;
        }
        Ok(())
    }

    /// Makes sure that a directory of the writable branch which shows nothing holds no marks either: an empty one takes its place.
    fn clear_dir(&self, work: &Work, up: &OwnedFd, name: &[u8]) -> Result<()> {
        let empty = work.temp(|temp| fs::mkdirat(&*work.dir, temp, Mode::RWXU))?;
        self.set_opaque(&empty.dir, &empty.name)?;
        if work.can.exchange {
            return empty.exchange(up, name);
        }
        let away = work.temp_name();
        fs::renameat(up, name, &*work.dir, &*away)?;
        drop(crate::layer::Temp::adopt(&work.dir, away));
        empty.rename(up, name)
    }

    #[expect(clippy::too_many_arguments, reason = "two sides and what is known of each")]
    fn move_aufs(
        &self,
        ns: &Layers,
        work: &Arc<Work>,
        (up, name): (&OwnedFd, &[u8]),
        (new_up, new): (&OwnedFd, &[u8]),
        target: Target,
        node: &Node,
        lower: bool,
        new_parent: Index,
    ) -> Result<()> {
        if node.kind == Kind::Dir {
            let new_parent = (new_parent, self.known(new_parent)?);
            let over = self.lower_has(ns, new_parent.0, &new_parent.1, new)?;
            if target == Target::Dir {
                let away = work.temp_name();
                fs::renameat(new_up, new, &*work.dir, &*away)?;
                drop(crate::layer::Temp::adopt(&work.dir, away));
            }
            if over || target == Target::Whiteout {
                let inside = raw::open_dir_at(up, name)?;
                let root = &ns.get(ns.writable()?.0)?.root;
                match fs::linkat(&**root, aufs::BASE, &inside, aufs::OPAQUE, AtFlags::empty()) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(_) => self.make_aufs_mark(&inside, aufs::OPAQUE)?,
                }
            }
            fs::renameat(up, name, new_up, new)?;
            if target == Target::Whiteout {
                fs::unlinkat(new_up, &*aufs::whiteout(new), AtFlags::empty())?;
            }
            return if lower { self.put_whiteout(work, up, name) } else { Ok(()) };
        }
        if target != Target::Whiteout && !lower {
            return fs::renameat(up, name, new_up, new);
        }
        // The new name first, as a further link: no moment has neither.
        let temp = work.temp(|temp| fs::linkat(up, name, &*work.dir, temp, AtFlags::empty()))?;
        if target == Target::Whiteout {
            self.put_over_whiteout(work, temp, new_up, new, node.kind)?;
        } else {
            temp.rename(new_up, new)?;
        }
        if lower { self.turn_to_whiteout(work, up, name, node.kind) } else { fs::unlinkat(up, name, AtFlags::empty()) }
    }

    fn moved(&self, old: &Side, new_parent: Index, new_name: &[u8], places: Vec<Below>) -> Result<()> {
        let mut table = self.table();
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

    fn exchange_sides(&self, ns: &Layers, old: &Side, new: &Side) -> Result<()> {
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
        let mut table = self.table();
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
