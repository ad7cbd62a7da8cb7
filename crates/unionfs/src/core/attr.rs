//! Changing attributes, and extended attributes.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
};

use rustix::fs::{self, AtFlags, Gid, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};
use strata_sys::tree::Kind;

use crate::{
    Handle, Union,
    core::copy_up::{Data, put_times, set_mode},
    core::handle::without_privileges,
    core::nodes::{Index, index_of},
    core::raw,
    core::union::Spot,
    dialect::mixed,
    types::*,
};

/// The attribute that the kernel asks for before it changes a file.
pub(crate) const CAPABILITY: &str = "security.capability";

impl Union {
    /// Copies up a node and changes its attributes. `handle`, an open file of the node, finds it when it has no name left.
    pub fn set_attr(&self, node: NodeId, handle: Option<&Handle>, change: &SetAttr) -> Result<Attr> {
        let index = index_of(node)?;
        let kind = self.nodes().peek(index)?.kind;
        if change.size.is_some() {
            match kind {
                Kind::File => {}
                Kind::Dir => return Err(Errno::ISDIR),
                _ => return Err(Errno::INVAL),
            }
        }
        if change.mode.is_some() && kind == Kind::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        let data = change.size.map_or(Data::Below, Data::First);
        self.raise(index, data)?;
        if change.size.is_some() {
            self.complete_data(index, data)?;
        }
        let ns = self.look();
        let spot = self.spot(&ns, index, &self.known(index)?)?;
        if let Some(size) = change.size {
            let file = spot.open(OFlags::WRONLY)?;
            fs::ftruncate(&file, size)?;
            if change.privileges == Privileges::Clear && change.mode.is_none() {
                crate::core::handle::clear_privileges(&file)?;
            }
        }
        self.forget_defaults(index);
        set_owner(&spot, change)?;
        if let Some(mode) = change.mode {
            set_mode(&spot.dir, &spot.name, mode & 0o7777)?;
        }
        set_times(&spot, change)?;
        self.attr_in(&ns, index, handle)
    }

    /// Copies up a node of any type.
    pub(crate) fn raise(&self, index: Index, data: Data) -> Result<()> {
        if self.nodes().peek(index)?.kind != Kind::Dir {
            return self.ensure_upper(index, data).map(drop);
        }
        let ns = self.change();
        let (writer, _) = ns.writable()?;
        let node = self.known(index)?;
        if node.top < writer {
            return Err(Errno::ROFS);
        }
        if node.top == writer { Ok(()) } else { self.dir_up(&ns, index).map(drop) }
    }

    /// The name under which a branch stores a user's attribute; `EOPNOTSUPP` for a mark of others, which cannot be escaped.
    fn stored_name(&self, name: &OsStr) -> Result<Vec<u8>> {
        match self.keys() {
            _ if self.is_mixed() && mixed::is_mark(name.as_bytes()) => Err(Errno::OPNOTSUPP),
            Some(keys) => Ok(keys.escape(name.as_bytes())),
            None => Ok(name.as_bytes().to_vec()),
        }
    }

    /// Returns an extended attribute; `ENODATA` if there is none, or it is a mark.
    pub fn get_xattr(&self, node: NodeId, name: &OsStr) -> Result<Vec<u8>> {
        let ns = self.look();
        let index = index_of(node)?;
        let known = self.known(index)?;
        let asks_capability = name == CAPABILITY;
        if asks_capability && known.no_capability {
            return Err(Errno::NODATA);
        }
        let spot = self.spot(&ns, index, &known)?;
        let value = raw::xattr_at(&*spot.dir, &spot.name, &self.stored_name(name)?)?;
        if asks_capability && value.is_none() && ns.is_ours(known.top) {
            let mut table = self.nodes();
            // Another thread may have set one meanwhile.
            if let Ok(node) = table.edit(index)
                && (node.generation, node.version) == (known.generation, known.version)
            {
                node.no_capability = true;
            }
        }
        value.ok_or(Errno::NODATA)
    }

    /// Returns the names of the extended attributes, without marks.
    pub fn list_xattr(&self, node: NodeId) -> Result<Vec<OsString>> {
        let ns = self.look();
        let index = index_of(node)?;
        let spot = self.spot(&ns, index, &self.known(index)?)?;
        let names = raw::xattrs_at(&*spot.dir, &spot.name)?;
        Ok(names.iter().filter_map(|name| self.shown_attribute(name)).map(OsString::from_vec).collect())
    }

    /// Copies up a node and sets an extended attribute.
    pub fn set_xattr(&self, node: NodeId, name: &OsStr, value: &[u8], flags: XattrFlags) -> Result<()> {
        let index = index_of(node)?;
        let kind = self.nodes().peek(index)?.kind;
        if name.as_bytes().starts_with(b"user.") && !matches!(kind, Kind::File | Kind::Dir) {
            // Fails before the copy-up.
            return Err(Errno::PERM);
        }
        self.raise(index, Data::Below)?;
        let ns = self.look();
        let spot = self.spot(&ns, index, &self.known(index)?)?;
        let result = raw::set_xattr_at(&*spot.dir, &spot.name, &self.stored_name(name)?, value, flags);
        self.xattrs_changed(index);
        result
    }

    /// Copies up a node and removes an extended attribute; `ENODATA` if there is none.
    pub fn remove_xattr(&self, node: NodeId, name: &OsStr) -> Result<()> {
        // Fails before the copy-up.
        self.get_xattr(node, name)?;
        let index = index_of(node)?;
        self.raise(index, Data::Below)?;
        let ns = self.look();
        let spot = self.spot(&ns, index, &self.known(index)?)?;
        let result = raw::remove_xattr_at(&*spot.dir, &spot.name, &self.stored_name(name)?);
        self.xattrs_changed(index);
        result
    }

    /// Drops cached facts about a node's extended attributes.
    fn xattrs_changed(&self, index: Index) {
        if let Ok(node) = self.nodes().edit(index) {
            node.version += 1;
            node.no_capability = false;
        }
        self.forget_defaults(index);
    }
}

fn set_owner(spot: &Spot, change: &SetAttr) -> Result<()> {
    if change.uid.is_none() && change.gid.is_none() {
        return Ok(());
    }
    let (uid, gid) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
    if spot.name.is_empty() {
        fs::chownat(fs::CWD, &*raw::proc_path(spot.dir.as_fd(), b""), uid, gid, AtFlags::empty())?;
    } else {
        fs::chownat(&*spot.dir, &*spot.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if change.mode.is_none() && change.privileges == Privileges::Clear {
        let stat = spot.stat()?;
        let mode = u32::from(stat.stx_mode) & 0o7777;
        if raw::kind_of(&stat) == Kind::File && without_privileges(mode) != mode {
            set_mode(&spot.dir, &spot.name, without_privileges(mode))?;
        }
    }
    Ok(())
}

fn set_times(spot: &Spot, change: &SetAttr) -> Result<()> {
    if change.accessed.is_none() && change.modified.is_none() {
        return Ok(());
    }
    let spec = |time: Option<SetTime>| match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(time)) => Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() },
    };
    let times = Timestamps { last_access: spec(change.accessed), last_modification: spec(change.modified) };
    put_times(&spot.dir, &spot.name, &times)
}
