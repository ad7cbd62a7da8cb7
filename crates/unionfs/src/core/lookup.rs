//! Looking up a name: the branches that hold it, as their marks allow.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    sync::Arc,
};

use strata_sys::tree::Kind;

use crate::{
    Union,
    config::{Dialect, RedirectDir},
    core::branch::{Branches, OpenBranch},
    core::nodes::{Below, Index, Node, id_of, index_of},
    core::raw::{self, Statx},
    dialect::{
        Redirect, aufs,
        overlay::{is_attribute_whiteout, parse_redirect},
    },
    types::*,
};

/// Most redirects that one lookup follows.
const REDIRECTS: usize = 1024;

/// The objects behind a name.
#[derive(Debug)]
pub(crate) struct Found {
    /// The branch of the topmost object.
    pub top: u16,
    pub stat: Statx,
    /// Attributes of a directory's second part.
    pub below: Option<Statx>,
    /// All parts of a directory.
    pub stack: Option<Vec<Below>>,
}

/// What one branch has at a name.
#[expect(clippy::large_enum_variant, reason = "lives for a moment on the stack")]
pub(crate) enum Probe {
    Absent,
    Whiteout,
    There(Statx),
}

/// Where the branches below hold the next part of a directory.
enum Trail {
    /// In their parts of the parent, under this name.
    Parent(Vec<u8>),
    /// This path from each branch's root.
    Root(Vec<u8>),
}

/// The marks of a directory's part.
struct DirMarks {
    opaque: bool,
    attribute_whiteouts: bool,
    redirect: Option<Redirect>,
}

impl Union {
    /// Looks up `name` in `parent` and counts one lookup. `ENOENT` if it is not there, `EIO` if marks contradict each other.
    pub fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Entry> {
        match self.check_name(name.as_bytes()) {
            // The union shows no such name.
            Err(Errno::INVAL) if self.is_mixed() => return Err(Errno::NOENT),
            result => result?,
        }
        let ns = self.look();
        let (index, node, stat) = self.lookup_in(&ns, index_of(parent)?, name.as_bytes(), None)?;
        Ok(self.entry_of(&ns, index, &node, &stat))
    }

    /// Looks up a name and counts one lookup. `hint` is the topmost branch that can have it.
    pub(crate) fn lookup_in(
        &self,
        ns: &Branches,
        parent_index: Index,
        name: &[u8],
        hint: Option<u16>,
    ) -> Result<(Index, Node, Statx)> {
        let (parent, known) = {
            let table = self.nodes();
            let parent = table.get(parent_index)?;
            parent.dir()?;
            let known =
                table.find(parent_index, name).map(|index| Ok::<_, Errno>((index, table.get(index)?))).transpose()?;
            (parent, known)
        };
        if let Some((index, node)) = known {
            match self.stat_node(ns, index, &node) {
                Ok(stat) => {
                    let mut table = self.nodes();
                    if let Ok(live) = table.edit(index)
                        && live.generation == node.generation
                    {
                        live.lookups += 1;
                        return Ok((index, node, stat));
                    }
                }
                Err(Errno::STALE) => self.lost(parent_index, name, index),
                Err(errno) => return Err(errno),
            }
        }
        let found = self.resolve(ns, parent_index, &parent, name, hint)?.ok_or(Errno::NOENT)?;
        let (index, node, mut stat) = self.adopt(ns, parent_index, name, found)?;
        self.show_room(ns, index, &node, &mut stat);
        Ok((index, node, stat))
    }

    /// Drops a name that another process has changed in a branch.
    fn lost(&self, parent: Index, name: &[u8], index: Index) {
        tracing::warn!(name = %OsStr::from_bytes(name).display(), "a branch was changed from under the union");
        let mut table = self.nodes();
        if table.find(parent, name) == Some(index) {
            table.detach(parent, name);
        }
        drop(table);
        self.tell(Invalidation::Entry { parent: id_of(parent), name: OsString::from_vec(name.to_vec()) });
    }

    /// Returns the node of what was found, adding it if it is new, and counts one lookup.
    pub(crate) fn adopt(
        &self,
        ns: &Branches,
        parent: Index,
        name: &[u8],
        found: Found,
    ) -> Result<(Index, Node, Statx)> {
        let real = self.inos.real(&found.stat)?;
        let kind = raw::kind_of(&found.stat);
        let shares = kind != Kind::Dir
            && found.stat.stx_nlink > 1
            && (Some(found.top) == ns.writer || self.keeps_links(ns, kind));
        let shared = if shares { self.find_shared(ns, parent, name, &found, real)? } else { None };
        let mut stat = found.stat;
        self.give_number_of_origin(ns, parent, name, &found, real, shared.is_some())?;
        let (top, real) = match &shared {
            Some((_, upper)) if Some(found.top) != ns.writer => {
                stat = *upper;
                (ns.writable()?.0, self.inos.real(upper)?)
            }
            _ => (found.top, real),
        };
        let mut table = self.nodes();
        if let Some(old) = table.find(parent, name) {
            let node = table.get(old)?;
            if node.real == real && node.kind == kind {
                table.edit(old)?.lookups += 1;
                return Ok((old, table.get(old)?, stat));
            }
            table.detach(parent, name);
        }
        let known = if shares {
            table.find_inode(real).filter(|&index| table.peek(index).is_ok_and(|node| node.kind == kind))
        } else {
            None
        };
        let index = match known {
            Some(index) => index,
            None => {
                let stack = found.stack.map(|stack| table.stack(stack));
                let index = table.add(kind, top, real, self.inos.number(real), stack);
                if shares {
                    table.set_inode(real, index);
                }
                index
            }
        };
        table.edit(index)?.lookups += 1;
        table.attach(index, parent, name);
        if let Some((key, _)) = shared {
            table.edit(index)?.shared = Some(key);
        }
        Ok((index, table.get(index)?, stat))
    }

    /// Searches the branches of `parent` for `name`.
    pub(crate) fn resolve(
        &self,
        ns: &Branches,
        parent_index: Index,
        parent: &Node,
        name: &[u8],
        hint: Option<u16>,
    ) -> Result<Option<Found>> {
        let mut first: Option<(u16, Statx)> = None;
        let mut below: Option<Statx> = None;
        let mut stack: Vec<Below> = Vec::new();
        let mut trail = Trail::Parent(name.to_vec());
        let parts = parent.dir()?;
        let mut turns = 0;
        let from = hint.unwrap_or(0);
        for part in parts.iter().filter(|part| part.layer >= from) {
            let Trail::Parent(here) = &trail else { break };
            let layer = ns.get(part.layer)?;
            let dir = self.dir_fd(ns, parent_index, parent, part.layer)?;
            let stat = match self.probe(layer, part.attribute_whiteouts, &dir, here)? {
                Probe::Absent => continue,
                Probe::Whiteout => break,
                Probe::There(stat) => stat,
            };
            if raw::kind_of(&stat) == Kind::Dir && ns.is_root(&stat) {
                return Err(Errno::LOOP);
            }
            if raw::kind_of(&stat) != Kind::Dir {
                if first.is_none() {
                    return Ok(Some(Found { top: part.layer, stat, below: None, stack: None }));
                }
                if self.dialect == Dialect::Aufs {
                    continue;
                }
                break;
            }
            let at = if &here[..] == name {
                None
            } else {
                let mut at = self.nodes().place(parent_index, part.layer)?;
                if !at.is_empty() {
                    at.push(b'/');
                }
                at.extend_from_slice(here);
                Some(at.into_boxed_slice())
            };
            let marks = self.dir_marks(ns, layer, &dir, here)?;
            match first {
                None => first = Some((part.layer, stat)),
                Some(_) => _ = below.get_or_insert(stat),
            }
            let attribute_whiteouts = marks.attribute_whiteouts || ns.has_attribute_whiteouts(part.layer);
            stack.push(Below { layer: part.layer, attribute_whiteouts, at });
            if marks.opaque {
                break;
            }
            match self.follow(marks.redirect, name, &mut turns)? {
                None => {}
                Some(Redirect::Sibling(to)) => trail = Trail::Parent(to),
                Some(Redirect::Absolute(path)) => trail = Trail::Root(path),
            }
        }
        let Some((top, stat)) = first else { return Ok(None) };
        if let Trail::Root(path) = trail {
            self.resolve_from_root(ns, &mut stack, path, name, turns)?;
        }
        Ok(Some(Found { top, stat, below, stack: Some(stack) }))
    }

    /// Follows an absolute redirect: appends the parts of the directory at `path` in the branches below the last one in `stack`.
    pub(crate) fn resolve_from_root(
        &self,
        ns: &Branches,
        stack: &mut Vec<Below>,
        mut path: Vec<u8>,
        name: &[u8],
        mut turns: usize,
    ) -> Result<()> {
        let after = stack.last().map_or(0, |below| below.layer);
        for number in after + 1..=ns.last() {
            let layer = ns.get(number)?;
            let mut dir = Arc::clone(&layer.root);
            let mut attribute_whiteouts = layer.attribute_whiteouts;
            let mut stop = false;
            let mut next = path.clone();
            let mut at = 0;
            let here = path.clone();
            let mut there = true;
            let mut walked: Vec<u8> = Vec::new();
            for part in here.split(|&byte| byte == b'/') {
                let last = at + part.len() == here.len();
                match self.probe(layer, attribute_whiteouts, &dir, part)? {
                    Probe::There(stat) if raw::kind_of(&stat) == Kind::Dir && ns.is_root(&stat) => {
                        return Err(Errno::LOOP);
                    }
                    Probe::There(stat) if raw::kind_of(&stat) == Kind::Dir => {}
                    Probe::Absent => {
                        there = false;
                        break;
                    }
                    Probe::Whiteout | Probe::There(_) => {
                        (there, stop) = (false, true);
                        break;
                    }
                }
                let marks = self.dir_marks(ns, layer, &dir, part)?;
                let rest = &here[at + part.len()..];
                match self.follow(marks.redirect, name, &mut turns)? {
                    None => {}
                    // An opaque directory hides what lies at its own path, not the target of a redirect inside it.
                    Some(Redirect::Absolute(to)) => (next, stop) = ([&to, rest].concat(), false),
                    Some(Redirect::Sibling(to)) => {
                        let before = if walked.is_empty() { Vec::new() } else { [&walked[..], b"/"].concat() };
                        next = [&before, &to, rest].concat();
                    }
                }
                stop |= marks.opaque;
                attribute_whiteouts = marks.attribute_whiteouts;
                dir = Arc::new(raw::open_dir_at(&*dir, part)?);
                if !walked.is_empty() {
                    walked.push(b'/');
                }
                walked.extend_from_slice(part);
                at += part.len() + 1;
                if last {
                    break;
                }
            }
            if there {
                stack.push(Below { layer: number, attribute_whiteouts, at: Some(here.into_boxed_slice()) });
            }
            if stop {
                break;
            }
            path = next;
        }
        Ok(())
    }

    fn follow(&self, redirect: Option<Redirect>, name: &[u8], turns: &mut usize) -> Result<Option<Redirect>> {
        let Some(redirect) = redirect else { return Ok(None) };
        let refuse = |why: &str, errno| {
            tracing::warn!(name = %OsStr::from_bytes(name).display(), "{why}");
            Err(errno)
        };
        if self.options.redirect_dir == RedirectDir::NoFollow {
            return refuse("a redirect is not followed: the union was opened so", Errno::PERM);
        }
        *turns += 1;
        if *turns > REDIRECTS {
            return refuse("redirects lead in a circle", Errno::LOOP);
        }
        Ok(Some(redirect))
    }

    /// Returns what one branch has at a name. AUFS dialect: `EIO` if that is both an object and a whiteout.
    pub(crate) fn probe(
        &self,
        layer: &OpenBranch,
        attribute_whiteouts: bool,
        dir: &OwnedFd,
        name: &[u8],
    ) -> Result<Probe> {
        let there = raw::find_at(dir, name)?;
        match self.dialect {
            Dialect::Aufs => {
                let whiteout = layer.marks && raw::find_at(dir, &aufs::whiteout(name))?.is_some();
                Ok(match (there, whiteout) {
                    (Some(_), true) => {
                        tracing::warn!(branch = %layer.path.display(), name = %OsStr::from_bytes(name).display(),
                            "the branch holds both a file and its whiteout; remove one of them");
                        return Err(Errno::IO);
                    }
                    (None, true) => Probe::Whiteout,
                    (Some(stat), false) => Probe::There(stat),
                    (None, false) => Probe::Absent,
                })
            }
            Dialect::Overlay { xattrs } => {
                let Some(stat) = there else {
                    return Ok(if self.has_file_whiteout(dir, name)? { Probe::Whiteout } else { Probe::Absent });
                };
                let whiteout = raw::is_device_zero(&stat)
                    || attribute_whiteouts && is_attribute_whiteout(xattrs.keys(), dir, name, &stat)?;
                Ok(if whiteout { Probe::Whiteout } else { Probe::There(stat) })
            }
        }
    }

    /// Reads the marks of directory `name` in `dir`.
    fn dir_marks(&self, ns: &Branches, layer: &OpenBranch, dir: &OwnedFd, name: &[u8]) -> Result<DirMarks> {
        let mut marks = DirMarks { opaque: false, attribute_whiteouts: false, redirect: None };
        let Some(keys) = self.keys() else {
            let bottom = ns.list.last().is_some_and(|last| Arc::ptr_eq(&last.root, &layer.root));
            if layer.marks && !bottom {
                let path = [name, b"/", aufs::OPAQUE].concat();
                marks.opaque = raw::find_at(dir, &path)?.is_some();
            }
            return Ok(marks);
        };
        let names = raw::xattrs_at(dir, name)?;
        if names.iter().any(|found| found == keys.opaque.as_bytes()) {
            match raw::xattr_at(dir, name, keys.opaque)?.as_deref() {
                Some(b"y") => marks.opaque = true,
                Some(b"x") => marks.attribute_whiteouts = true,
                _ => {}
            }
        }
        if !marks.opaque && self.is_mixed() {
            marks.opaque = self.is_opaque_otherwise(dir, name, &names)?;
        }
        if !marks.opaque && names.iter().any(|found| found == keys.redirect.as_bytes()) {
            let text = raw::xattr_at(dir, name, keys.redirect)?.unwrap_or_default();
            marks.redirect = Some(parse_redirect(&text).inspect_err(|_| {
                tracing::warn!(branch = %layer.path.display(), name = %OsStr::from_bytes(name).display(),
                    text = %String::from_utf8_lossy(&text), "a redirect leads nowhere; remove the attribute or the directory");
            })?);
        }
        Ok(marks)
    }

    /// Whether the branches below the writable one show `name` in `parent`.
    pub(crate) fn lower_has(&self, ns: &Branches, parent_index: Index, parent: &Node, name: &[u8]) -> Result<bool> {
        let writer = ns.writer.unwrap_or(0);
        for part in parent.dir()?.iter().filter(|part| part.layer > writer) {
            let dir = self.dir_fd(ns, parent_index, parent, part.layer)?;
            match self.probe(ns.get(part.layer)?, part.attribute_whiteouts, &dir, name)? {
                Probe::Absent => {}
                Probe::Whiteout => return Ok(false),
                Probe::There(_) => return Ok(true),
            }
        }
        Ok(false)
    }
}
