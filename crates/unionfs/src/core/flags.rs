//! Inode flags, for `lsattr` and `chattr`: `FS_IOC_GETFLAGS`, `FS_IOC_FSGETXATTR` and their counterparts.
//!
//! A node has the flags of its topmost object. The filesystem of the writable branch enforces them there. The union refuses to
//! copy up, remove or rename a lower object that is immutable or append-only, except to append to an append-only file, whose copy
//! is append-only too.
//!
//! # Limitations
//!
//! An immutable lower directory cannot be copied up, so nothing below it can change; the kernel's overlayfs lets its entries
//! change. The union does not read the flags that the kernel keeps in `overlay.protattr`.

use std::os::fd::OwnedFd;

use rustix::fs::{IFlags, StatxAttributes};
use strata_sys::{fs::ExtendedFlags, tree::Kind};

use crate::{
    Union,
    core::copy_up::Data,
    core::nodes::index_of,
    core::raw::{self, Statx},
    types::{Errno, NodeId, OFlags, Result},
};

/// `FS_CASEFOLD_FL` of linux/fs.h.
const CASEFOLD: u32 = 0x4000_0000;

impl Union {
    /// Returns the inode flags of a file or directory; `ENOTTY` for other types, and on filesystems without flags.
    pub fn inode_flags(&self, node: NodeId) -> Result<u32> {
        Ok(rustix::fs::ioctl_getflags(&self.open_for_flags(node)?)?.bits())
    }

    /// Copies up a file or directory and sets its inode flags. The front has checked that the caller may.
    pub fn set_inode_flags(&self, node: NodeId, flags: u32) -> Result<()> {
        let flags = IFlags::from_bits_retain(flags);
        let now = IFlags::from_bits_retain(self.inode_flags(node)?);
        if (now ^ flags).bits() & CASEFOLD != 0 {
            // The union compares names byte by byte.
            return Err(Errno::OPNOTSUPP);
        }
        if now == flags {
            return Ok(());
        }
        self.raise(index_of(node)?, Data::All)?;
        rustix::fs::ioctl_setflags(&self.open_for_flags(node)?, flags)
    }

    /// As [`Union::inode_flags`], with the project and the extent sizes.
    pub fn extended_flags(&self, node: NodeId) -> Result<ExtendedFlags> {
        strata_sys::fs::extended_flags(&self.open_for_flags(node)?).map_err(|error| raw::errno(&error))
    }

    /// As [`Union::set_inode_flags`], with the project and the extent sizes.
    pub fn set_extended_flags(&self, node: NodeId, flags: &ExtendedFlags) -> Result<()> {
        self.raise(index_of(node)?, Data::All)?;
        strata_sys::fs::set_extended_flags(&self.open_for_flags(node)?, flags).map_err(|error| raw::errno(&error))
    }

    fn open_for_flags(&self, node: NodeId) -> Result<OwnedFd> {
        let ns = self.look();
        let index = index_of(node)?;
        let node = self.known(index)?;
        match node.kind {
            Kind::File => self.spot(&ns, index, &node)?.open(OFlags::RDONLY),
            Kind::Dir => self.spot(&ns, index, &node)?.open(OFlags::RDONLY | OFlags::DIRECTORY),
            _ => Err(Errno::NOTTY),
        }
    }
}

/// Refuses (`EPERM`) to change a lower object that is immutable or append-only.
pub(crate) fn check_unprotected(lower: &Statx) -> Result<()> {
    let protecting = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    if lower.stx_attributes.intersects(protecting) { Err(Errno::PERM) } else { Ok(()) }
}

/// Refuses (`EPERM`) to copy up an immutable object, or an append-only one unless it is appended to.
pub(crate) fn check_copied_up(lower: &Statx, data: Data) -> Result<()> {
    let appends = matches!(data, Data::Append) && !lower.stx_attributes.contains(StatxAttributes::IMMUTABLE);
    if appends { Ok(()) } else { check_unprotected(lower) }
}

/// Makes the copy of an append-only file append-only.
pub(crate) fn keep_append_only(lower: &Statx, copy: &OwnedFd) -> Result<()> {
    if !lower.stx_attributes.contains(StatxAttributes::APPEND) {
        return Ok(());
    }
    let flags = rustix::fs::ioctl_getflags(copy)?;
    rustix::fs::ioctl_setflags(copy, flags | IFlags::APPEND)
}
