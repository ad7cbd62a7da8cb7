//! Marks of others that count beside the overlay dialect's own: AUFS's whiteouts, and those of the program fuse-overlayfs.

use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags};

use super::aufs;
use crate::{
    Union,
    core::{branch::Branches, raw},
    types::Result,
};

pub(crate) use strata_tree::marks::mixed::{OPAQUE, OPAQUE_DEVICE, is_mark, whiteout};

impl Union {
    /// Replaces an AUFS whiteout in the writable branch by one of the overlay dialect.
    pub(crate) fn own_whiteout(&self, ns: &Branches, up: &OwnedFd, name: &[u8]) -> Result<()> {
        if !self.has_file_whiteout(up, name)? {
            return Ok(());
        }
        if raw::find_at(up, name)?.is_none() {
            self.put_whiteout(ns.writable()?.1, up, name)?;
        }
        fs::unlinkat(up, aufs::whiteout(name), AtFlags::empty())
    }

    /// Whether `name` has an AUFS whiteout that counts.
    pub(crate) fn has_file_whiteout(&self, dir: &OwnedFd, name: &[u8]) -> Result<bool> {
        match whiteout(name).filter(|_| self.is_mixed()) {
            Some(whiteout) => Ok(raw::find_at(dir, &whiteout)?.is_some()),
            None => Ok(false),
        }
    }

    /// Whether a directory is opaque by the marks of others. One beside its own AUFS whiteout is.
    pub(crate) fn is_opaque_otherwise(&self, dir: &OwnedFd, name: &[u8], attributes: &[Vec<u8>]) -> Result<bool> {
        for key in OPAQUE.iter().filter(|&&key| attributes.iter().any(|found| found == key.as_bytes())) {
            if raw::xattr_at(dir, name, key)?.as_deref() == Some(b"y") {
                return Ok(true);
            }
        }
        for mark in [aufs::OPAQUE, OPAQUE_DEVICE.as_bytes()] {
            if raw::find_at(dir, &[name, b"/", mark].concat())?.is_some() {
                return Ok(true);
            }
        }
        self.has_file_whiteout(dir, name)
    }
}
