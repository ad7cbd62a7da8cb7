//! Hard links of lower files, which stay one file over copy-up.
//!
//! The first copy-up of such a file links the copy under a name that derives from the lower inode:
//! `work/index/<file handle in hex>`, as the kernel's `index=on` does, or `.wh..wh.plnk/<number>.<inode>` in AUFS.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
};

use rustix::fs::{AtFlags, XattrFlags};
use strata_sys::tree::Kind;

use crate::{
    Union,
    config::{Dialect, Switch, Xattrs},
    core::branch::{Branches, OpenBranch},
    core::lookup::Found,
    core::nodes::{Index, Real, Shared},
    core::raw::{self, Statx},
    dialect::Keys,
    dialect::aufs::plink_name,
    types::{Errno, Result},
};

/// `version`, `magic`, length, flags, handle type, UUID.
pub(crate) const HANDLE_HEAD: usize = 21;

impl Union {
    /// Whether lower files with several names are one node.
    pub(crate) fn keeps_links(&self, ns: &Branches, kind: Kind) -> bool {
        match &ns.work {
            None => true,
            // The copy needs its origin as an attribute, and only files take user attributes.
            Some(_) if self.dialect == (Dialect::Overlay { xattrs: Xattrs::User }) && kind != Kind::File => false,
            Some(work) => work.index.is_some() && (self.dialect == Dialect::Aufs || self.options.index == Switch::On),
        }
    }

    /// Returns the key and the copy of `found`, a file with several names, if it has been copied up as one.
    pub(crate) fn find_shared(
        &self,
        ns: &Branches,
        parent: Index,
        name: &[u8],
        found: &Found,
        real: Real,
    ) -> Result<Option<(Arc<[u8]>, Statx)>> {
        let Some(work) = ns.work.as_ref().filter(|_| self.keeps_links(ns, raw::kind_of(&found.stat))) else {
            return Ok(None);
        };
        let Some(index) = &work.index else { return Ok(None) };
        let in_upper = Some(found.top) == ns.writer;
        if in_upper && let Some(key) = self.nodes().by_upper.get(&real) {
            return Ok(Some((Arc::clone(key), found.stat)));
        }
        if !self.indexed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let node = self.known(parent)?;
        let dir = self.dir_fd(ns, parent, &node, found.top)?;
        let key: Arc<[u8]> = match self.keys() {
            None if in_upper => return Ok(None),
            None => plink_name(real, self.inos.number(real)),
            Some(keys) if in_upper => match raw::xattr_at(&*dir, name, keys.origin)? {
                Some(origin) if origin.len() > HANDLE_HEAD => hex(&origin),
                _ => return Ok(None),
            },
            Some(_) => match origin_of(ns.get(found.top)?, &dir, name) {
                Some(origin) => hex(&origin),
                None => return Ok(None),
            },
        };
        if self.keys().is_none() && !self.nodes().shared.contains_key(&key) {
            return Ok(None);
        }
        let Some(upper) = raw::find_at(&**index, &key)? else { return Ok(None) };
        let upper_real = self.inos.real(&upper)?;
        if in_upper && upper_real != real || raw::kind_of(&upper) != raw::kind_of(&found.stat) {
            return Ok(None);
        }
        if !in_upper && self.keys().is_none() {
            let number = self.inos.number(upper_real);
            self.inos.give(real, number);
        } else if !in_upper && !self.inos.is_given(upper_real) {
            self.inos.give(upper_real, self.inos.number(real));
        }
        if !self.nodes().shared.contains_key(&key) {
            let Some(keys) = self.keys() else { return Ok(None) };
            let lower_links = (!in_upper).then_some(found.stat.stx_nlink);
            let delta = read_delta(keys, index, &key, upper.stx_nlink, lower_links)?;
            self.nodes().share(key.clone(), Shared { lower: (!in_upper).then_some(real), upper: upper_real, delta });
        }
        if !in_upper && self.dialect == Dialect::Aufs {
            self.materialize(ns, parent, &node, name, index, &key)?;
        }
        Ok(Some((key, upper)))
    }

    /// Records that the copy has `-change` more links while the file shows as many as before. The copy stores the count.
    pub(crate) fn shift_links(&self, ns: &Branches, key: &Arc<[u8]>, change: i64) -> Result<()> {
        let delta = {
            let mut table = self.nodes();
            let shared = table.shared.get_mut(key).ok_or(Errno::IO)?;
            shared.delta += change;
            shared.delta
        };
        self.write_delta(ns, key, delta)
    }

    pub(crate) fn write_delta(&self, ns: &Branches, key: &[u8], delta: i64) -> Result<()> {
        let Some(keys) = self.keys() else { return Ok(()) };
        let index = ns.writable()?.1.index.clone().ok_or(Errno::IO)?;
        raw::set_xattr_at(&*index, key, keys.nlink, format!("U{delta:+}").as_bytes(), XattrFlags::empty())
    }

    /// Returns the key of a lower file with several names; `None` if its copy is to be a file of its own.
    pub(crate) fn share_key(
        &self,
        ns: &Branches,
        layer: u16,
        dir: &OwnedFd,
        name: &[u8],
        stat: &Statx,
    ) -> Result<Option<Arc<[u8]>>> {
        let has_index = ns.work.as_ref().is_some_and(|work| work.index.is_some());
        if stat.stx_nlink < 2 || !has_index || !self.keeps_links(ns, raw::kind_of(stat)) {
            return Ok(None);
        }
        if self.dialect == Dialect::Aufs {
            let real = self.inos.real(stat)?;
            return Ok(Some(plink_name(real, self.inos.number(real))));
        }
        Ok(origin_of(ns.get(layer)?, dir, name).map(|origin| hex(&origin)))
    }

    /// Removes the index's link of a shared file that has no name left.
    pub(crate) fn settle_shared(&self, ns: &Branches, key: &Arc<[u8]>) -> Result<()> {
        let Some(index) = ns.work.as_ref().and_then(|work| work.index.clone()) else { return Ok(()) };
        let Some(stat) = raw::find_at(&*index, key)? else { return Ok(()) };
        let Some(shared) = self.nodes().shared.get(key).cloned() else { return Ok(()) };
        if i64::from(stat.stx_nlink) + shared.delta <= 0 {
            rustix::fs::unlinkat(&*index, &**key, AtFlags::empty())?;
            self.nodes().unshare(key);
            self.inos.drop_real(shared.upper);
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> Arc<[u8]> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// Returns a copy's origin as the kernel's overlayfs stores it: the lower file's handle behind a header.
/// `None` if the filesystem has no handles or no UUID.
///
/// ```text
/// 0  version 0   1  magic 0xfb   2  length of all   3  flags (1: written on a big-endian machine)
/// 4  type of the handle          5  UUID of the filesystem, 16 bytes   21  the handle
/// ```
///
/// Source: Linux, fs/overlayfs/overlayfs.h, `struct ovl_fb`.
pub(crate) fn origin_of(layer: &OpenBranch, dir: &OwnedFd, name: &[u8]) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let uuid = layer.uuid?;
    let handle = strata_sys::union::file_handle(dir, std::ffi::OsStr::from_bytes(name)).ok()?;
    let len = u8::try_from(HANDLE_HEAD + handle.bytes.len()).ok()?;
    let kind = u8::try_from(handle.kind).ok().filter(|&kind| kind != 0 && kind != 0xff)?;
    let mut bytes = vec![0, 0xfb, len, u8::from(cfg!(target_endian = "big")), kind];
    bytes.extend_from_slice(&uuid);
    bytes.extend_from_slice(&handle.bytes);
    Some(bytes)
}

/// Reads the link count to show, minus the copy's, from `U+1` (relative to the copy) or `L-1` (relative to the lower file).
fn read_delta(keys: &Keys, index: &OwnedFd, key: &[u8], upper_links: u32, lower_links: Option<u32>) -> Result<i64> {
    let text = raw::xattr_at(index, key, keys.nlink)?.unwrap_or_default();
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i32>().ok().map(i64::from);
    let delta = match text.split_first() {
        Some((b'U', rest)) => number(rest),
        Some((b'L', rest)) => {
            number(rest).zip(lower_links).map(|(n, lower)| i64::from(lower) + n - i64::from(upper_links))
        }
        _ => None,
    };
    Ok(delta.unwrap_or(-1))
}
