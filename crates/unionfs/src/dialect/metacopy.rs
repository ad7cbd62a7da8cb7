//! Metacopies: files of the writable branch that hold attributes alone. Finding their data, copying it, and moving them.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    sync::{Arc, PoisonError},
};

use rustix::fs::{self, XattrFlags};
use strata_sys::tree::Kind;

use crate::{
    Union,
    config::{Durability, Metacopy},
    core::branch::{Branches, Work},
    core::copy_up::{Data, copy_data, set_times},
    core::lookup::Probe,
    core::nodes::{Below, Index, Link, Node, index_of},
    core::raw::{self, Statx},
    core::union::Spot,
    dialect::{Redirect, overlay::parse_redirect},
    types::{Errno, NodeId, OFlags, Result},
};

impl Union {
    /// Copies the data of a metacopy, as much as `data` says, without the lock on names.
    pub(crate) fn complete_data(&self, index: Index, data: Data) -> Result<()> {
        if self.keys().is_none() {
            return Ok(());
        }
        let _one = self.copying[index as usize % self.copying.len()].lock().unwrap_or_else(PoisonError::into_inner);
        let found = {
            let ns = self.look();
            let node = self.known(index)?;
            self.without_data(&ns, index, &node)?
        };
        let Some(found) = found else { return Ok(()) };
        let file = self.fill(&found, data)?;
        let ns = self.change();
        // The file may have got another name meanwhile, or lost its last one and got its data.
        let node = self.known(index)?;
        if !self.is_copy_without_data(&ns, index, &node)? {
            return Ok(());
        }
        self.mark_whole(index, &self.spot(&ns, index, &node)?, &found.stat, file)
    }

    /// As [`Union::complete_data`], under the lock on names.
    pub(crate) fn complete_data_in(&self, ns: &Branches, index: Index) -> Result<()> {
        let node = self.known(index)?;
        let Some(found) = self.without_data(ns, index, &node)? else { return Ok(()) };
        let file = self.fill(&found, Data::All)?;
        self.mark_whole(index, &self.spot(ns, index, &node)?, &found.stat, file)
    }

    /// Opens a metacopy and its data; `None` for other nodes.
    fn without_data(&self, ns: &Branches, index: Index, node: &Node) -> Result<Option<WithoutData>> {
        if !self.is_copy_without_data(ns, index, node)? {
            return Ok(None);
        }
        let spot = self.spot(ns, index, node)?;
        let source = self.metacopy_data(ns, index, node)?;
        let work = Arc::clone(ns.writable()?.1);
        Ok(Some(WithoutData { stat: spot.stat()?, file: spot.open(OFlags::RDWR)?, source, work }))
    }

    /// Whether a node is a metacopy in the writable branch.
    pub(crate) fn is_copy_without_data(&self, ns: &Branches, index: Index, node: &Node) -> Result<bool> {
        let Some(keys) = self.keys() else { return Ok(false) };
        if node.kind != Kind::File || Some(node.top) != ns.writer || node.link.is_none() {
            return Ok(false);
        }
        let spot = self.spot(ns, index, node)?;
        Ok(raw::xattr_at(&*spot.dir, &spot.name, keys.metacopy)?.is_some())
    }

    /// Writes a metacopy's attributes to disk; does nothing for other nodes.
    pub(crate) fn fsync_attributes(&self, node: NodeId) -> Result<()> {
        let ns = self.look();
        let index = index_of(node)?;
        let node = self.known(index)?;
        if !self.is_copy_without_data(&ns, index, &node)? {
            return Ok(());
        }
        fs::fsync(self.spot(&ns, index, &node)?.open(OFlags::RDONLY)?)
    }

    /// Opens the data of a metacopy: follows its redirect or its name through the branches below.
    pub(crate) fn metacopy_data(&self, ns: &Branches, index: Index, node: &Node) -> Result<OwnedFd> {
        let keys = self.keys().ok_or(Errno::IO)?;
        let link = node.link.clone().ok_or(Errno::STALE)?;
        let spot = self.spot(ns, index, node)?;
        let mut redirect = raw::xattr_at(&*spot.dir, &spot.name, keys.redirect)?;
        let mut name = link.name.to_vec();
        let mut after = node.top;
        let parent = self.known(link.parent)?;
        // The directories to search, with their paths in the branches; `None`: the parent's part.
        let mut parts: Vec<Below> = parent.dir()?.iter().map(|part| Below { at: None, ..part.clone() }).collect();
        loop {
            match redirect.as_deref().map(parse_redirect).transpose()? {
                Some(Redirect::Absolute(path)) => {
                    let slash = path.iter().rposition(|&byte| byte == b'/');
                    name = path[slash.map_or(0, |at| at + 1)..].to_vec();
                    parts = self.dirs_at(ns, after, path[..slash.unwrap_or(0)].to_vec(), &name)?;
                }
                Some(Redirect::Sibling(to)) => name = to,
                None => {}
            }
            let Some((part, dir)) = self.next_file(ns, &link, &parent, &parts, after, &name)? else { break };
            if raw::xattr_at(&dir, &name, keys.metacopy)?.is_none() {
                return raw::open_at(&dir, &name, OFlags::RDONLY);
            }
            redirect = raw::xattr_at(&dir, &name, keys.redirect)?;
            after = part;
        }
        tracing::warn!(path = %OsStr::from_bytes(&self.nodes().path(index)).display(),
            "a file holds attributes alone, and its data is in no branch below");
        Err(Errno::IO)
    }

    /// Returns the parts of the directory at a path from the branches' roots, in the branches below `after`.
    fn dirs_at(&self, ns: &Branches, after: u16, path: Vec<u8>, name: &[u8]) -> Result<Vec<Below>> {
        let below = |layer| Below { layer, attribute_whiteouts: false, at: Some(Box::default()) };
        if path.is_empty() {
            return Ok((after + 1..=ns.last()).map(below).collect());
        }
        let mut parts = vec![below(after)];
        self.resolve_from_root(ns, &mut parts, path, name, 0)?;
        parts.remove(0);
        Ok(parts)
    }

    /// Returns the next branch below `after` that holds a file of that name, and the file's directory.
    fn next_file(
        &self,
        ns: &Branches,
        link: &Link,
        parent: &Node,
        parts: &[Below],
        after: u16,
        name: &[u8],
    ) -> Result<Option<(u16, OwnedFd)>> {
        for part in parts.iter().filter(|part| part.layer > after) {
            let layer = ns.get(part.layer)?;
            let dir = match &part.at {
                Some(at) => raw::open_dir_path(layer.root.as_fd(), at)?,
                None => {
                    let dir = self.dir_fd(ns, link.parent, parent, part.layer)?;
                    dir.try_clone().map_err(|error| raw::errno(&error))?
                }
            };
            match self.probe(layer, part.attribute_whiteouts, &dir, name)? {
                Probe::Absent => {}
                Probe::There(stat) if raw::kind_of(&stat) == Kind::File => return Ok(Some((part.layer, dir))),
                Probe::Whiteout | Probe::There(_) => break,
            }
        }
        Ok(None)
    }

    fn fill(&self, found: &WithoutData, data: Data) -> Result<OwnedFd> {
        let size = match data {
            Data::First(len) => len.min(found.stat.stx_size),
            Data::All | Data::Append | Data::Below => found.stat.stx_size,
        };
        copy_data(&found.source, &found.file, size)?;
        fs::ftruncate(&found.file, size)?;
        if self.options.durability == Durability::CopyUpSynced {
            found.work.data_first(&found.file)?;
        }
        found.file.try_clone().map_err(|error| raw::errno(&error))
    }

    /// Removes the mark: the file is no metacopy any more, and open handles read it.
    fn mark_whole(&self, index: Index, spot: &Spot, before: &Statx, file: OwnedFd) -> Result<()> {
        let keys = self.keys().ok_or(Errno::IO)?;
        set_times(&spot.dir, &spot.name, Some(before))?;
        for key in [keys.metacopy, keys.redirect] {
            match raw::remove_xattr_at(&*spot.dir, &spot.name, key) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(errno) => return Err(errno),
            }
        }
        if let Some(state) = self.nodes().open.get(&index).and_then(std::sync::Weak::upgrade) {
            state.moved(Arc::new(file));
        }
        Ok(())
    }

    /// Prepares a file that is about to move in the writable branch: a metacopy gets a redirect to its data, or the data itself if a
    /// redirect is not possible.
    pub(crate) fn point_to_data(
        &self,
        ns: &Branches,
        from: (Index, &[u8]),
        index: Index,
        same_parent: bool,
        up: &OwnedFd,
    ) -> Result<()> {
        let Some(keys) = self.keys() else { return Ok(()) };
        if !self.is_copy_without_data(ns, index, &self.known(index)?)? {
            return Ok(());
        }
        let (parent, name) = from;
        match self.redirect_text(ns, keys, parent, name, same_parent, up) {
            Ok(None) => Ok(()),
            Ok(Some(text)) => raw::set_xattr_at(up, name, keys.redirect, &text, XattrFlags::empty()),
            Err(_) => self.complete_data_in(ns, index),
        }
    }

    /// Sets the room on disk of a metacopy to that of its data.
    pub(crate) fn show_room(&self, ns: &Branches, index: Index, node: &Node, stat: &mut Statx) {
        let seems = stat.stx_blocks * 512 < stat.stx_size && node.kind == Kind::File;
        if !seems || self.keys().is_none() || self.options.metacopy == Metacopy::Refuse {
            return;
        }
        if let Ok(true) = self.is_copy_without_data(ns, index, node)
            && let Ok(data) = self.metacopy_data(ns, index, node)
            && let Ok(data) = raw::stat_at(&data, b"")
        {
            stat.stx_blocks = data.stx_blocks;
        }
    }
}

/// A metacopy and its data.
struct WithoutData {
    stat: Statx,
    file: OwnedFd,
    source: OwnedFd,
    work: Arc<Work>,
}
