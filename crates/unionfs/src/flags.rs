//! Inode flags: what `lsattr` and `chattr` ask for (`FS_IOC_GETFLAGS`, `FS_IOC_FSGETXATTR` and their reverse).
//!
//! Flags are those of the object below. One in the writable branch is protected by its own filesystem. An immutable or append-only
//! object of a lower branch cannot be copied up, removed or renamed; an append-only file can be copied up to append to it, and
//! its copy is append-only too.
//!
//! # Limitations
//!
//! An immutable lower directory is not copied up either, so that nothing below it can change; the kernel's overlayfs allows that
//! for what it holds already. The flags that the kernel keeps in `overlay.protattr` are not read.

use std::os::fd::OwnedFd;

use rustix::fs::{IFlags, StatxAttributes};
use strata_sys::{fs::ExtendedFlags, tree::Kind};

use crate::{
    Union,
    copyup::Data,
    raw::{self, Statx},
    table::index_of,
    types::{Errno, NodeId, OFlags, Result},
};

/// `FS_CASEFOLD_FL` of linux/fs.h.
const CASEFOLD: u32 = 0x4000_0000;

impl Union {
    /// Returns the inode flags of a file or directory; `ENOTTY` for others, and where the filesystem below has none.
    pub fn inode_flags(&self, node: NodeId) -> Result<u32> {
        Ok(rustix::fs::ioctl_getflags(&self.open_for_flags(node)?)?.bits())
    }

    /// Sets the inode flags of a file or directory, copying up first. The caller may change them: the kernel has checked that.
    pub fn set_inode_flags(&self, node: NodeId, flags: u32) -> Result<()> {
        let flags = IFlags::from_bits_retain(flags);
        let now = IFlags::from_bits_retain(self.inode_flags(node)?);
        if (now ^ flags).bits() & CASEFOLD != 0 {
            // Names of the union are compared byte by byte.
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
