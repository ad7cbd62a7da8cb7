//! Inode numbers of copies that outlast the mount: a copied-up object shows the number of what it was copied from.
//!
//! `overlay.origin` on the copy holds the file handle of the lower object, as the kernel's overlayfs writes it
//! ([`origin_of`](crate::dialect::hard_links::origin_of)). It is looked for in directories alone that `overlay.impure` says to hold copies.
//! The lower object tells its number as long as it is there. As in the kernel, a copy of a lower file with several names that is
//! not kept in the index has a number of its own: there may be another copy of the same file.

use std::os::fd::OwnedFd;

use strata_sys::union::FileHandle;

use crate::{
    Union,
    core::branch::Branches,
    core::lookup::Found,
    core::nodes::{Index, Node, Real},
    core::raw,
    dialect::hard_links::HANDLE_HEAD,
    types::Result,
};

impl Union {
    /// Lets what was found in the writable branch show the number of what it was copied from.
    pub(crate) fn give_number_of_origin(
        &self,
        ns: &Branches,
        parent: Index,
        name: &[u8],
        found: &Found,
        real: Real,
        is_indexed: bool,
    ) -> Result<()> {
        if Some(found.top) != ns.writer || self.keys().is_none() || self.inos.is_given(real) {
            return Ok(());
        }
        let lower = match &found.below {
            Some(below) => Some(self.inos.real(below)?),
            None if found.stack.is_some() => None,
            None => {
                let node = self.known(parent)?;
                let dir = self.dir_fd(ns, parent, &node, found.top)?;
                if !self.is_impure(parent, &node, &dir)? {
                    return Ok(());
                }
                self.origin(ns, &dir, name, is_indexed)?
            }
        };
        if let Some(lower) = lower {
            self.inos.give(real, self.inos.number(lower));
        }
        Ok(())
    }

    /// Whether a directory of the writable branch may hold copies.
    pub(crate) fn is_impure(&self, index: Index, node: &Node, dir: &OwnedFd) -> Result<bool> {
        let Some(keys) = self.keys() else { return Ok(false) };
        if let Some(known) = node.impure {
            return Ok(known);
        }
        let is_impure = raw::xattr_at(dir, b"", keys.impure)?.is_some();
        if let Ok(live) = self.nodes().edit(index)
            && live.generation == node.generation
        {
            live.impure.get_or_insert(is_impure);
        }
        Ok(is_impure)
    }

    /// The lower object that a name of the writable branch was copied from; `None` if it is not there any more, or may have
    /// other copies.
    pub(crate) fn origin(&self, ns: &Branches, dir: &OwnedFd, name: &[u8], is_indexed: bool) -> Result<Option<Real>> {
        let Some(keys) = self.keys() else { return Ok(None) };
        let Some(origin) = raw::xattr_at(dir, name, keys.origin)? else { return Ok(None) };
        if origin.len() <= HANDLE_HEAD {
            return Ok(None);
        }
        let handle = FileHandle { kind: origin[4].into(), bytes: origin[HANDLE_HEAD..].to_vec() };
        let uuid = &origin[5..HANDLE_HEAD];
        let lower = ns.list.iter().enumerate().filter(|(number, _)| Some(*number as u16) != ns.writer);
        let mut lower = lower.filter(|(_, layer)| layer.uuid.as_ref().is_some_and(|own| own == uuid));
        let Some((_, layer)) = lower.next() else { return Ok(None) };
        let Ok(file) = layer.open_by_handle(&handle) else { return Ok(None) };
        let stat = raw::stat_at(&file, b"")?;
        if stat.stx_nlink == 1 || is_indexed { self.inos.real(&stat).map(Some) } else { Ok(None) }
    }
}
