//! Mounts: overlay by the new mount API (`fsopen`, `fsconfig`, `fsmount`, `move_mount`), one `lowerdir+` a layer, and by
//! `mount(2)` on kernels before 6.8; bind mounts; unmounting; the mount table.
//!
//! A failure names the step and the option that failed, and quotes what the kernel's mount log says of it.

mod overlay;
mod table;

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, StatxAttributes, StatxFlags},
    io::Errno,
    mount::{self as raw, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

pub use overlay::{Overlay, has_lowerdir_plus, overlay};
pub use table::{MountInfo, mounts, mounts_under, parse_mountinfo};

use crate::StepContext;

/// Whether what is mounted may be changed through the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// Shows `source`, and all that is mounted below it, at `target` too.
///
/// A read-only bind is so from its first instant, with all below it, where the kernel has `mount_setattr` (5.12);
/// before, a moment after it appears, and at its top only.
pub fn bind(source: &Path, target: &Path, access: Access) -> io::Result<()> {
    let describe = || format!("bind {} to {}", source.display(), target.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = match raw::open_tree(CWD, source, flags) {
        Err(Errno::NOSYS) => return bind_by_mount(source, target, access).step(describe),
        result => result.step(describe)?,
    };
    if access == Access::ReadOnly {
        match set_read_only(&tree) {
            Err(Errno::NOSYS) => return bind_by_mount(source, target, access).step(describe),
            result => result.step(describe)?,
        }
    }
    raw::move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(describe)
}

fn bind_by_mount(source: &Path, target: &Path, access: Access) -> Result<(), Errno> {
    raw::mount_bind_recursive(source, target)?;
    if access == Access::ReadOnly
        && let Err(errno) = raw::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "")
    {
        let _ = raw::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        return Err(errno);
    }
    Ok(())
}

/// Returns a private copy of the mount that `dir` is on, with `dir` as its root, attached nowhere: it shows what lies below
/// `dir` on that filesystem alone, whatever is or will be mounted there. It ends with the descriptor.
///
/// This is how the kernel's overlayfs holds its layers. Fails with `EPERM` without the right to mount, and with `EINVAL` where
/// the mount is unbindable, or where a more privileged user namespace has locked mounts below `dir`.
pub fn private_copy(dir: &impl AsFd) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = raw::open_tree(dir, c"", flags)?;
    // A copy of a shared mount is its peer: what is mounted on the one appears in the other.
    let attr = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    set_attributes(&tree, &attr, 0)?;
    Ok(tree)
}

/// Makes a mount that is not attached yet, and all below it, read-only.
fn set_read_only(tree: &impl AsFd) -> Result<(), Errno> {
    let attr = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    set_attributes(tree, &attr, libc::AT_RECURSIVE)
}

/// `mount_setattr(2)` on an open mount.
#[allow(unsafe_code)]
fn set_attributes(tree: &impl AsFd, attr: &libc::mount_attr, flags: libc::c_int) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | flags;
    // SAFETY: the kernel reads the NUL-terminated empty path and `size_of::<mount_attr>()` bytes of `attr`, a `struct mount_attr`;
    // both live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// Mounts an empty tmpfs on `target`; `options` as `mount -o` takes them for tmpfs: `size=64m,mode=1777`. No device nodes, no set-user-ID.
pub fn tmpfs(target: &Path, options: &str) -> io::Result<()> {
    let data = std::ffi::CString::new(options).map_err(|_| io::ErrorKind::InvalidInput)?;
    raw::mount("tmpfs", target, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, data.as_c_str())
        .step(|| format!("mount tmpfs ({options}) on {}", target.display()))
}

/// Unmounts what is on top at `target`; a busy one is detached at once and goes when its last user does.
///
/// Fails with `InvalidInput` if nothing is mounted there.
pub fn unmount(target: &Path) -> io::Result<()> {
    raw::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).step(|| format!("unmount {}", target.display()))
}

/// Whether something is mounted exactly at `target`; `false` if there is no such path.
///
/// A single `statx(2)` on Linux 5.8 and later, however long the mount table.
pub fn is_mounted(target: &Path) -> io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(CWD, target, flags, StatxFlags::TYPE) {
        Ok(statx) if statx.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        Ok(_) | Err(Errno::NOSYS) => {
            let target = std::fs::canonicalize(target)?;
            Ok(mounts()?.iter().any(|mount| mount.target == target))
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Keeps later mounts below `target`, itself a mount, from spreading to other mount namespaces, and theirs from coming here.
pub fn make_private(target: &Path) -> io::Result<()> {
    raw::mount_change(target, MountPropagationFlags::PRIVATE).step(|| format!("make {} private", target.display()))
}

/// As [`make_private`], for `target` and all that is mounted below it.
pub fn make_private_recursive(target: &Path) -> io::Result<()> {
    raw::mount_change(target, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step(|| format!("make {} and all below private", target.display()))
}

#[cfg(test)]
mod tests;
