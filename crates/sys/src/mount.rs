//! Mounts: overlay by the new mount API (`fsopen`, `fsconfig`, `fsmount`, `move_mount`), one `lowerdir+` a layer, and by
//! `mount(2)` on kernels before 6.8; bind mounts; unmounting; the mount table.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An overlay mount to make.
#[derive(Clone, Debug, Default)]
pub struct Overlay<'a> {
    /// From the topmost down; absolute paths.
    pub lower: Vec<&'a Path>,
    /// Upper and work directory; absent for a read-only mount.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// Further options, `name` or `name=value`: `redirect_dir=off`, `metacopy=off`, `index=off`, `userxattr`, `volatile`.
    pub options: Vec<&'a str>,
}

/// Mounts an overlay on `target`. At most 500 lower layers with the new API.
pub fn overlay(target: &Path, overlay: &Overlay<'_>) -> io::Result<()> {
    let _ = (target, overlay);
    todo!()
}

/// Unmounts `target`; a busy one is detached at once and goes when its last user does.
pub fn unmount(target: &Path) -> io::Result<()> {
    let _ = target;
    todo!()
}

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    pub id: u64,
    pub target: PathBuf,
    pub fs_type: String,
    pub source: String,
    pub super_options: String,
}

/// The mounts that this process sees, in the kernel's order.
pub fn mounts() -> io::Result<Vec<MountInfo>> {
    todo!()
}

/// Whether something is mounted exactly at `target`.
pub fn is_mounted(target: &Path) -> io::Result<bool> {
    let _ = target;
    todo!()
}
