//! Creating files, directories and links.

use std::{
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    sync::{Arc, MutexGuard, PoisonError},
};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, RenameFlags, Uid, XattrFlags};
use strata_sys::tree::Kind;

use crate::{
    Handle, Union,
    config::Dialect,
    core::acl,
    core::branch::{Branches, Temp, Work},
    core::copy_up::{Data, set_mode},
    core::lookup::Probe,
    core::nodes::{Below, Index, Node, ROOT, index_of},
    core::raw::{self, Statx},
    dialect::aufs,
    types::*,
};

/// An object to create.
#[derive(Clone, Copy)]
enum New<'a> {
    File { mode: u32, flags: OFlags },
    Node { mode: u32, rdev: u64 },
    Dir { mode: u32 },
    Symlink { target: &'a OsStr },
}

impl New<'_> {
    fn kind(self) -> Kind {
        match self {
            Self::File { .. } => Kind::File,
            Self::Dir { .. } => Kind::Dir,
            Self::Symlink { .. } => Kind::Symlink,
            Self::Node { mode, .. } => match FileType::from_raw_mode(mode) {
                FileType::Fifo => Kind::Fifo,
                FileType::Socket => Kind::Socket,
                FileType::CharacterDevice => Kind::CharDevice,
                FileType::BlockDevice => Kind::BlockDevice,
                _ => Kind::File,
            },
        }
    }

    fn mode(self) -> u32 {
        match self {
            Self::File { mode, .. } | Self::Node { mode, .. } | Self::Dir { mode } => mode & 0o7777,
            Self::Symlink { .. } => 0o777,
        }
    }
}

/// The directory of a new object.
pub(crate) struct Place {
    pub up: Arc<OwnedFd>,
    defaults: Defaults,
    merged: bool,
}

/// Defaults that new objects inherit from their directory.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    /// Its group, if it has the set-group-ID bit.
    group: Option<u32>,
    default_acl: Option<Arc<[u8]>>,
}

/// A directory with its defaults.
#[derive(Debug)]
pub(crate) struct ParentDefaults {
    index: Index,
    generation: u32,
    defaults: Defaults,
}

/// What the writable branch has at the name of a new object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Nothing,
    Whiteout,
}

impl Union {
    /// Creates and opens a regular file; `EEXIST` if the name is taken. `mode` has permission bits alone.
    pub fn create(
        &self,
        parent: NodeId,
        name: &OsStr,
        mode: u32,
        flags: OFlags,
        caller: &Caller,
    ) -> Result<(Entry, Arc<Handle>)> {
        let ns = self.change();
        let (entry, index, node, fd) = self.make(&ns, parent, name, New::File { mode, flags }, caller)?;
        let flags = if entry.attr.mode & 0o6000 == 0 { flags | OFlags::CREATE } else { flags };
        Ok((entry, self.handle(&ns, index, &node, Some(fd.ok_or(Errno::IO)?), flags)))
    }

    /// Creates a file, FIFO, socket or device. `mode` includes the type; `rdev` is as in `stat(2)`.
    pub fn mknod(&self, parent: NodeId, name: &OsStr, mode: u32, rdev: u64, caller: &Caller) -> Result<Entry> {
        if self.keys().is_some() && FileType::from_raw_mode(mode) == FileType::CharacterDevice && rdev == 0 {
            // It would be a whiteout.
            return Err(Errno::PERM);
        }
        let mode = if FileType::from_raw_mode(mode) == FileType::Unknown { mode | libc::S_IFREG } else { mode };
        Ok(self.make(&self.change(), parent, name, New::Node { mode, rdev }, caller)?.0)
    }

    /// Creates a directory.
    pub fn mkdir(&self, parent: NodeId, name: &OsStr, mode: u32, caller: &Caller) -> Result<Entry> {
        Ok(self.make(&self.change(), parent, name, New::Dir { mode }, caller)?.0)
    }

    /// Creates a symbolic link.
    pub fn symlink(&self, parent: NodeId, name: &OsStr, target: &OsStr, caller: &Caller) -> Result<Entry> {
        Ok(self.make(&self.change(), parent, name, New::Symlink { target }, caller)?.0)
    }

    /// Prepares to create `name`: `EEXIST` if the union shows it. Copies up the parent.
    pub(crate) fn free_place(&self, ns: &Branches, parent_index: Index, name: &[u8]) -> Result<Place> {
        self.check_name(name)?;
        let (writer, _) = ns.writable()?;
        let (parent, known) = {
            let table = self.nodes();
            let parent = table.get(parent_index)?;
            parent.dir()?;
            (parent, table.find(parent_index, name).map(|index| (index, table.get(index))))
        };
        if parent.link.is_none() && parent_index != ROOT {
            return Err(Errno::NOENT);
        }
        if let Some((index, node)) = known
            && self.stat_node(ns, index, &node?).is_ok()
        {
            return Err(Errno::EXIST);
        }
        let merged = parent.has_lower(Some(writer));
        if merged && self.resolve(ns, parent_index, &parent, name, None)?.is_some() {
            return Err(Errno::EXIST);
        }
        let up = self.dir_up(ns, parent_index)?;
        self.own_whiteout(ns, &up, name)?;
        let defaults = self.defaults_of(parent_index, parent.generation, &up)?;
        Ok(Place { up, defaults, merged })
    }

    pub(crate) fn parent_defaults(&self) -> MutexGuard<'_, Option<ParentDefaults>> {
        self.parent_defaults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the cached defaults of a directory whose attributes change.
    pub(crate) fn forget_defaults(&self, index: Index) {
        self.parent_defaults().take_if(|cached| cached.index == index);
    }

    fn defaults_of(&self, index: Index, generation: u32, up: &OwnedFd) -> Result<Defaults> {
        let mut cached = self.parent_defaults();
        if let Some(cached) = &*cached
            && (cached.index, cached.generation) == (index, generation)
        {
            return Ok(cached.defaults.clone());
        }
        let stat = raw::stat_at(up, b"")?;
        let group = (u32::from(stat.stx_mode) & 0o2000 != 0).then_some(stat.stx_gid);
        let defaults = Defaults { group, default_acl: raw::xattr_at(up, b"", acl::DEFAULT)?.map(Into::into) };
        *cached = Some(ParentDefaults { index, generation, defaults: defaults.clone() });
        Ok(defaults)
    }

    /// Returns what the writable branch has at a name that the union does not show; `EEXIST` for anything but a whiteout.
    pub(crate) fn mark_at(&self, ns: &Branches, up: &OwnedFd, name: &[u8]) -> Result<Mark> {
        let layer = ns.get(ns.writable()?.0)?;
        let attributes = match self.keys() {
            Some(keys) => raw::xattr_at(up, b"", keys.opaque)?.as_deref() == Some(b"x"),
            None => false,
        };
        match self.probe(layer, attributes, up, name)? {
            Probe::Absent => Ok(Mark::Nothing),
            Probe::Whiteout => Ok(Mark::Whiteout),
            Probe::There(_) => Err(Errno::EXIST),
        }
    }

    fn make(
        &self,
        ns: &Branches,
        parent: NodeId,
        name: &OsStr,
        new: New<'_>,
        caller: &Caller,
    ) -> Result<(Entry, Index, Node, Option<OwnedFd>)> {
        let (parent, name) = (index_of(parent)?, name.as_bytes());
        let place = self.free_place(ns, parent, name)?;
        let (_, work) = ns.writable()?;
        let mark = match self.dialect {
            Dialect::Aufs => self.mark_at(ns, &place.up, name)?,
            Dialect::Overlay { .. } => Mark::Nothing,
        };
        let umask = if place.defaults.default_acl.is_some() { 0 } else { caller.umask };
        let mode = new.mode() & !umask;
        let direct = if mark == Mark::Nothing { put(&place.up, name, new, mode) } else { Err(Errno::EXIST) };
        let (stat, fd) = match direct {
            Ok(fd) => {
                let stat = self.own(&place, &place.up, name, new.kind(), mode, caller).inspect_err(|_| {
                    let flags = if new.kind() == Kind::Dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                    _ = fs::unlinkat(&*place.up, name, flags);
                })?;
                if new.kind() == Kind::Dir && place.merged {
                    // No branch below has the name. The mark spares lookups there, as the kernel's does.
                    self.set_opaque(&place.up, name).or_else(unsupported)?;
                }
                (stat, fd)
            }
            Err(Errno::EXIST) => {
                if mark == Mark::Nothing && self.mark_at(ns, &place.up, name)? == Mark::Nothing {
                    return Err(Errno::EXIST);
                }
                self.make_over_whiteout(&place, work, name, new, mode, caller)?
            }
            Err(errno) => return Err(errno),
        };
        let (index, node) = self.made(ns, parent, name, &stat)?;
        Ok((self.entry_of(ns, index, &node, &stat), index, node, fd))
    }

    /// Creates it in the work directory and moves it over the whiteout in one step.
    fn make_over_whiteout(
        &self,
        place: &Place,
        work: &Work,
        name: &[u8],
        new: New<'_>,
        mode: u32,
        caller: &Caller,
    ) -> Result<(Statx, Option<OwnedFd>)> {
        let mut fd = None;
        let temp = work.temp(|temp| {
            fd = put(&work.dir, temp, new, mode)?;
            Ok(())
        })?;
        let mut mode = mode;
        if let Some(default) = &place.defaults.default_acl
            && new.kind() != Kind::Symlink
        {
            let (access, masked) = acl::inherit(default, mode)?;
            mode = masked;
            if let Some(access) = access {
                raw::set_xattr_at(&*temp.dir, &temp.name, acl::ACCESS, &access, XattrFlags::empty())?;
            }
            if new.kind() == Kind::Dir {
                raw::set_xattr_at(&*temp.dir, &temp.name, acl::DEFAULT, default, XattrFlags::empty())?;
            }
        }
        let defaults = Defaults { default_acl: None, ..place.defaults.clone() };
        let plain = Place { up: Arc::clone(&place.up), defaults, merged: place.merged };
        let stat = self.own(&plain, &temp.dir, &temp.name, new.kind(), mode, caller)?;
        if new.kind() == Kind::Dir {
            self.set_opaque(&temp.dir, &temp.name)?;
        }
        self.put_over_whiteout(work, temp, &place.up, name, new.kind())?;
        Ok((stat, fd))
    }

    /// Moves an object from the work directory over the whiteout of its name.
    pub(crate) fn put_over_whiteout(
        &self,
        work: &Work,
        temp: Temp,
        up: &OwnedFd,
        name: &[u8],
        kind: Kind,
    ) -> Result<()> {
        match self.dialect {
            Dialect::Overlay { .. } if kind != Kind::Dir => temp.rename(up, name),
            Dialect::Overlay { .. } if work.can.exchange => temp.exchange(up, name),
            Dialect::Overlay { .. } => {
                fs::unlinkat(up, name, AtFlags::empty())?;
                temp.rename(up, name)
            }
            // The object replaces `.wh.NAME`, where it still is a whiteout, and then gets its name: no moment has both or neither.
            Dialect::Aufs => {
                let whiteout = aufs::whiteout(name);
                if kind != Kind::Dir {
                    temp.rename(up, &whiteout)?;
                } else if work.can.exchange {
                    temp.exchange(up, &whiteout)?;
                } else {
                    fs::unlinkat(up, &*whiteout, AtFlags::empty())?;
                    return temp.rename(up, name);
                }
                fs::renameat(up, &*whiteout, up, name)
            }
        }
    }

    /// Marks a directory opaque.
    pub(crate) fn set_opaque(&self, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        match self.keys() {
            Some(keys) => raw::set_xattr_at(dir, name, keys.opaque, b"y", XattrFlags::empty()),
            // AUFS marks only directories that replace a whiteout; those are in the work directory.
            None if name.starts_with(b"#") => self.set_opaque_aufs(dir, name),
            None => Ok(()),
        }
    }

    /// Sets owner and mode of a new object, from the caller and the directory's set-group-ID bit.
    fn own(&self, place: &Place, dir: &OwnedFd, name: &[u8], kind: Kind, mode: u32, caller: &Caller) -> Result<Statx> {
        let mut stat = raw::stat_at(dir, name)?;
        let by_parent = place.defaults.group.is_some();
        let gid = place.defaults.group.unwrap_or(caller.gid);
        let mut mode = mode;
        if by_parent && kind == Kind::Dir {
            mode |= 0o2000;
        } else if by_parent && mode & 0o2010 == 0o2010 {
            let member = caller.uid == 0 || caller.gid == gid || caller.groups.contains(&gid);
            mode &= if member { 0o7777 } else { 0o5777 };
        }
        let mut changed = false;
        if (stat.stx_uid, stat.stx_gid) != (caller.uid, gid) {
            let (uid, gid) = (Uid::from_raw(caller.uid), Gid::from_raw(gid));
            fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            changed = true;
            stat = raw::stat_at(dir, name)?;
        }
        let have = u32::from(stat.stx_mode) & 0o7777;
        let want = if place.defaults.default_acl.is_some() { have & 0o777 | mode & 0o7000 } else { mode };
        if kind != Kind::Symlink && have != want {
            set_mode(dir, name, want)?;
            changed = true;
        }
        if changed { raw::stat_at(dir, name) } else { Ok(stat) }
    }

    /// Adds the node of a new object, with one lookup.
    pub(crate) fn made(&self, ns: &Branches, parent: Index, name: &[u8], stat: &Statx) -> Result<(Index, Node)> {
        let (writer, _) = ns.writable()?;
        let real = self.inos.real(stat)?;
        self.inos.drop_real(real);
        let kind = raw::kind_of(stat);
        let mut table = self.nodes();
        let stack = (kind == Kind::Dir)
            .then(|| table.stack(vec![Below { layer: writer, attribute_whiteouts: false, at: None }]));
        let index = table.add(kind, writer, real, self.inos.number(real), stack);
        let node = table.edit(index)?;
        node.lookups = 1;
        node.no_capability = kind == Kind::File;
        node.impure = (kind == Kind::Dir).then_some(false);
        table.attach(index, parent, name);
        table.edit(parent)?.version += 1;
        Ok((index, table.get(index)?))
    }

    /// Creates a hard link.
    pub fn link(&self, node: NodeId, parent: NodeId, name: &OsStr) -> Result<Entry> {
        let (index, parent, name) = (index_of(node)?, index_of(parent)?, name.as_bytes());
        if self.nodes().peek(index)?.kind == Kind::Dir {
            return Err(Errno::PERM);
        }
        self.check_name(name)?;
        {
            let ns = self.look();
            ns.writable()?;
            // Fails before the copy-up.
            match self.lookup_in(&ns, parent, name, None) {
                Ok((there, ..)) => {
                    self.nodes().forget(there, 1);
                    return Err(Errno::EXIST);
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.ensure_upper(index, Data::All)?;
        self.complete_data(index, Data::All)?;
        let ns = self.change();
        self.copy_up(&ns, index, Data::All)?;
        let place = self.free_place(&ns, parent, name)?;
        let node = self.known(index)?;
        let (writer, work) = ns.writable()?;
        if self.dialect == Dialect::Aufs
            && node.link.is_some()
            && node.shared.is_none()
            && raw_links(self, &ns, index, &node)? == 1
        {
            self.make_plink(&ns, index, &node)?;
        }
        let node = self.known(index)?;
        let spot = self.spot(&ns, index, &node)?;
        let make = |dir: &OwnedFd, to: &[u8]| {
            if spot.name.is_empty() {
                fs::linkat(
                    fs::CWD,
                    &*raw::proc_path(std::os::fd::AsFd::as_fd(&*spot.dir), b""),
                    dir,
                    to,
                    AtFlags::SYMLINK_FOLLOW,
                )
            } else {
                fs::linkat(&*spot.dir, &*spot.name, dir, to, AtFlags::empty())
            }
        };
        let mark = match self.dialect {
            Dialect::Aufs => self.mark_at(&ns, &place.up, name)?,
            Dialect::Overlay { .. } => Mark::Nothing,
        };
        match if mark == Mark::Nothing { make(&place.up, name) } else { Err(Errno::EXIST) } {
            Err(Errno::EXIST) => {
                if mark == Mark::Nothing && self.mark_at(&ns, &place.up, name)? == Mark::Nothing {
                    return Err(Errno::EXIST);
                }
                let temp = work.temp(|temp| make(&work.dir, temp))?;
                self.put_over_whiteout(work, temp, &place.up, name, node.kind)?;
            }
            result => result?,
        }
        self.carry_impure(&ns, index, &node, parent, &place.up)?;
        let stat = raw::stat_at(&*place.up, name)?;
        let mut table = self.nodes();
        table.edit(index)?.lookups += 1;
        table.attach(index, parent, name);
        table.edit(parent)?.version += 1;
        table.set_inode(node.real, index);
        let node = table.get(index)?;
        drop(table);
        debug_assert_eq!(node.top, writer);
        Ok(self.entry_of(&ns, index, &node, &stat))
    }

    /// Creates a file without a name (`O_TMPFILE`), which [`Union::link`] can give one.
    pub fn tmpfile(&self, parent: NodeId, mode: u32, flags: OFlags, caller: &Caller) -> Result<(Entry, Arc<Handle>)> {
        let ns = self.change();
        let parent = index_of(parent)?;
        let (writer, _) = ns.writable()?;
        let up = self.dir_up(&ns, parent)?;
        let defaults = self.defaults_of(parent, self.known(parent)?.generation, &up)?;
        let umask = if defaults.default_acl.is_some() { 0 } else { caller.umask };
        let mode = mode & 0o7777 & !umask;
        let open = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | (flags & OFlags::EXCL);
        let fd = fs::openat(&*up, c".", open, Mode::from_raw_mode(mode))?;
        let gid = defaults.group.unwrap_or(caller.gid);
        fs::fchown(&fd, Some(Uid::from_raw(caller.uid)), Some(Gid::from_raw(gid)))?;
        if defaults.default_acl.is_none() {
            fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        }
        let stat = raw::stat_at(&fd, b"")?;
        let real = self.inos.real(&stat)?;
        self.inos.drop_real(real);
        let (index, node) = {
            let mut table = self.nodes();
            let index = table.add(Kind::File, writer, real, self.inos.number(real), None);
            table.edit(index)?.lookups = 1;
            (index, table.get(index)?)
        };
        let keep = rustix::io::dup(&fd)?;
        let handle = self.handle(&ns, index, &node, Some(fd), flags | OFlags::RDWR);
        if let Some(state) = self.nodes().open.get(&index).and_then(std::sync::Weak::upgrade) {
            state.keep(keep);
        }
        Ok((self.entry_of(&ns, index, &node, &stat), handle))
    }
}

fn raw_links(union: &Union, ns: &Branches, index: Index, node: &Node) -> Result<u32> {
    Ok(union.spot(ns, index, node)?.stat()?.stx_nlink)
}

fn unsupported(errno: Errno) -> Result<()> {
    if errno == Errno::OPNOTSUPP || errno == Errno::PERM { Ok(()) } else { Err(errno) }
}

/// Creates an object at a free name; returns a regular file open.
fn put(dir: &OwnedFd, name: &[u8], new: New<'_>, mode: u32) -> Result<Option<OwnedFd>> {
    let plain = Mode::from_raw_mode(mode & 0o1777);
    match new {
        New::File { flags, .. } => {
            let access = flags & (OFlags::RWMODE | OFlags::DIRECT);
            let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
            return Ok(Some(fs::openat(dir, name, flags, plain)?));
        }
        New::Node { mode, rdev } => fs::mknodat(dir, name, FileType::from_raw_mode(mode), plain, rdev)?,
        New::Dir { .. } => fs::mkdirat(dir, name, plain)?,
        New::Symlink { target } => fs::symlinkat(target, dir, name)?,
    }
    Ok(None)
}

/// The flags that [`Union::rename`] takes.
pub(crate) const RENAMES: RenameFlags = RenameFlags::NOREPLACE.union(RenameFlags::EXCHANGE);
