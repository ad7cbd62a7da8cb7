//! btrfs: subvolumes, snapshots and quota groups, by the ioctls of `linux/btrfs.h`.
//!
//! A subvolume is a directory with inode 256 on a btrfs; a snapshot is a subvolume that begins as another. Both are made and destroyed in
//! one step; a crash leaves one or the other state of a filesystem transaction.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use crate::{
    StepContext,
    tree::{Dir, Kind, Stat},
};

/// `f_type` of a btrfs.
pub const MAGIC: u64 = 0x9123_683e;

/// The inode of a subvolume's root directory.
const ROOT_INODE: u64 = 256;

const NAME_MAX: usize = 255;
const SUBVOL_RDONLY: u64 = 1 << 1;
const QUOTA_CTL_ENABLE: u64 = 1;
const QGROUP_LIMIT_MAX_RFER: u64 = 1;

/// What the kernel knows of a subvolume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subvolume {
    /// Its number in the filesystem.
    pub id: u64,
    /// The transaction that last changed it.
    pub generation: u64,
    pub uuid: [u8; 16],
    /// The subvolume it is a snapshot of; zeros if it is none.
    pub parent_uuid: [u8; 16],
    pub read_only: bool,
}

/// The quota group of a subvolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Bytes that it refers to, and how many of them nothing else does.
    pub referenced: u64,
    pub exclusive: u64,
    /// Bytes that it may refer to at most, if there is a limit.
    pub limit: Option<u64>,
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolArgs2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct QuotaCtl {
    cmd: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct QgroupLimit {
    qgroup: u64,
    flags: u64,
    max_rfer: u64,
    max_excl: u64,
    rsv_rfer: u64,
    rsv_excl: u64,
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[repr(C)]
struct QgroupCreate {
    create: u64,
    qgroup: u64,
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
struct SubvolInfo {
    treeid: u64,
    name: [u8; NAME_MAX + 1],
    parent_id: u64,
    dirid: u64,
    generation: u64,
    flags: u64,
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    transids: [u64; 4],
    times: [[u64; 2]; 4],
    reserved: [u64; 8],
}

/// `struct btrfs_ioctl_search_args`: a key range, then room for what is found.
#[repr(C)]
struct Search {
    tree: u64,
    objects: [u64; 2],
    offsets: [u64; 2],
    transids: [u64; 2],
    types: [u32; 2],
    items: u32,
    unused: u32,
    unused_too: [u64; 4],
    found: [u8; 4096 - 104],
}

const QUOTA_TREE: u64 = 8;
const QGROUP_INFO_KEY: u32 = 242;
const QGROUP_LIMIT_KEY: u32 = 244;
/// Bytes of `struct btrfs_ioctl_search_header`, which stands before each item.
const SEARCH_HEADER: usize = 32;

const WRITE: u64 = 1;
const READ: u64 = 2;

const fn opcode<T>(direction: u64, number: u64) -> u64 {
    (direction << 30) | ((size_of::<T>() as u64) << 16) | (0x94 << 8) | number
}

const SNAP_DESTROY: u64 = opcode::<VolArgs>(WRITE, 15);
const TREE_SEARCH: u64 = opcode::<Search>(READ | WRITE, 17);
const SNAP_CREATE_V2: u64 = opcode::<VolArgs2>(WRITE, 23);
const SUBVOL_CREATE_V2: u64 = opcode::<VolArgs2>(WRITE, 24);
const SUBVOL_GETFLAGS: u64 = opcode::<u64>(READ, 25);
const SUBVOL_SETFLAGS: u64 = opcode::<u64>(WRITE, 26);
const QUOTA_CTL: u64 = opcode::<QuotaCtl>(READ | WRITE, 40);
const QGROUP_CREATE: u64 = opcode::<QgroupCreate>(WRITE, 42);
const QGROUP_LIMIT: u64 = opcode::<QgroupLimit>(READ, 43);
const QUOTA_RESCAN_WAIT: u64 = opcode::<()>(0, 46);
const GET_SUBVOL_INFO: u64 = opcode::<SubvolInfo>(READ, 60);
const SNAP_DESTROY_V2: u64 = opcode::<VolArgs2>(WRITE, 63);

/// Whether `path` is on a btrfs.
pub fn is_btrfs(path: &Path) -> io::Result<bool> {
    Ok(crate::fs::info(path)?.magic == MAGIC)
}

/// Whether `stat`, of something on a btrfs, is a subvolume's root.
pub fn is_subvolume(stat: &Stat) -> bool {
    stat.kind == Kind::Dir && stat.inode == ROOT_INODE
}

/// Makes the empty subvolume `name` in `dir`.
pub fn create(dir: &Dir, name: &OsStr) -> io::Result<()> {
    let mut args = args(0, 0, name)?;
    call(dir, SUBVOL_CREATE_V2, &mut args).step(|| format!("create the subvolume {}", name.display()))
}

/// Makes `name` in `dir` a writable snapshot of the subvolume `of`.
pub fn snapshot(of: &impl AsFd, dir: &Dir, name: &OsStr) -> io::Result<()> {
    let mut args = args(of.as_fd().as_raw_fd().into(), 0, name)?;
    call(dir, SNAP_CREATE_V2, &mut args).step(|| format!("make the snapshot {}", name.display()))
}

/// Destroys the subvolume `name` in `dir`, the subvolumes in it first. Its blocks are freed by the kernel in its own time.
pub fn destroy(dir: &Dir, name: &OsStr) -> io::Result<()> {
    let destroyed = match destroy_one(dir, name) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EROFS | libc::EPERM)) => {
            let subvolume = dir.open_dir(name)?;
            if is_read_only(&subvolume)? {
                set_read_only(&subvolume, false)?;
            }
            destroy_nested(&subvolume)?;
            drop(subvolume);
            destroy_one(dir, name)
        }
        result => result,
    };
    destroyed.step(|| format!("destroy the subvolume {}", name.display()))
}

fn destroy_one(dir: &Dir, name: &OsStr) -> io::Result<()> {
    match call(dir, SNAP_DESTROY_V2, &mut args(0, 0, name)?) {
        // Before Linux 5.7.
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {
            let mut args = VolArgs { fd: 0, name: [0; 4088] };
            args.name[..name.len()].copy_from_slice(name.as_bytes());
            call(dir, SNAP_DESTROY, &mut args)
        }
        result => result,
    }
}

/// Destroys all subvolumes below `dir`, wherever they are.
fn destroy_nested(dir: &Dir) -> io::Result<()> {
    let mut pending = vec![dir.open_dir(".")?];
    while let Some(here) = pending.pop() {
        for entry in here.entries()? {
            if entry.kind != Kind::Dir {
                continue;
            }
            if is_subvolume(&here.stat(&entry.name)?) {
                destroy(&here, &entry.name)?;
            } else {
                pending.push(here.open_dir(&entry.name)?);
            }
        }
    }
    Ok(())
}

/// Returns what the kernel knows of the subvolume that holds `fd`.
pub fn info(fd: &impl AsFd) -> io::Result<Subvolume> {
    // SAFETY: all fields are integers or arrays of them, for which zero bits are a value.
    #[allow(unsafe_code)]
    let mut info: SubvolInfo = unsafe { std::mem::zeroed() };
    call(fd, GET_SUBVOL_INFO, &mut info)?;
    Ok(Subvolume {
        id: info.treeid,
        generation: info.generation,
        uuid: info.uuid,
        parent_uuid: info.parent_uuid,
        read_only: info.flags & SUBVOL_RDONLY != 0 || is_read_only(fd)?,
    })
}

fn is_read_only(fd: &impl AsFd) -> io::Result<bool> {
    let mut flags = 0u64;
    call(fd, SUBVOL_GETFLAGS, &mut flags)?;
    Ok(flags & SUBVOL_RDONLY != 0)
}

/// Makes a subvolume read-only, or writable again.
pub fn set_read_only(subvolume: &impl AsFd, read_only: bool) -> io::Result<()> {
    let mut flags = 0u64;
    call(subvolume, SUBVOL_GETFLAGS, &mut flags)?;
    flags = if read_only { flags | SUBVOL_RDONLY } else { flags & !SUBVOL_RDONLY };
    call(subvolume, SUBVOL_SETFLAGS, &mut flags)
}

/// Switches quotas on for the whole filesystem, and waits until all there is has been counted; that they are on already is no error.
pub fn enable_quota(fs: &impl AsFd) -> io::Result<()> {
    match call(fs, QUOTA_CTL, &mut QuotaCtl { cmd: QUOTA_CTL_ENABLE, status: 0 }) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        result => result.step(|| "switch quotas on".to_owned())?,
    }
    call(fs, QUOTA_RESCAN_WAIT, &mut ()).step(|| "wait until what there is has been counted".to_owned())
}

/// Removes the quota group of the subvolume `id` of the filesystem of `fs`, which is gone.
pub fn destroy_group(fs: &impl AsFd, id: u64) -> io::Result<()> {
    match call(fs, QGROUP_CREATE, &mut QgroupCreate { create: 0, qgroup: id }) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.step(|| format!("remove the quota group 0/{id}")),
    }
}

/// Lets the subvolume refer to at most `bytes`.
pub fn limit(subvolume: &impl AsFd, bytes: u64) -> io::Result<()> {
    let mut limit =
        QgroupLimit { qgroup: 0, flags: QGROUP_LIMIT_MAX_RFER, max_rfer: bytes, max_excl: 0, rsv_rfer: 0, rsv_excl: 0 };
    call(subvolume, QGROUP_LIMIT, &mut limit).step(|| format!("limit a subvolume to {bytes} bytes"))
}

/// Returns the quota group of the subvolume `id` of the filesystem of `fs`; `None` while quotas are off. Needs root.
pub fn group(fs: &impl AsFd, id: u64) -> io::Result<Option<Group>> {
    let Some([_, referenced, _, exclusive, _]) = quota_item(fs, QGROUP_INFO_KEY, id)? else { return Ok(None) };
    let limit = match quota_item(fs, QGROUP_LIMIT_KEY, id)? {
        Some([flags, max_rfer, ..]) if flags & QGROUP_LIMIT_MAX_RFER != 0 => Some(max_rfer),
        _ => None,
    };
    Ok(Some(Group { referenced, exclusive, limit }))
}

/// Five little-endian numbers: what `struct btrfs_qgroup_info_item` and `btrfs_qgroup_limit_item` both are.
fn quota_item(fs: &impl AsFd, key: u32, id: u64) -> io::Result<Option<[u64; 5]>> {
    let mut search = Search {
        tree: QUOTA_TREE,
        objects: [0, 0],
        offsets: [id, id],
        transids: [0, u64::MAX],
        types: [key, key],
        items: 1,
        unused: 0,
        unused_too: [0; 4],
        found: [0; 4096 - 104],
    };
    match call(fs, TREE_SEARCH, &mut search) {
        // Quotas are off.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        result => result.step(|| format!("read the quota group 0/{id}"))?,
    }
    let number = |n: usize| {
        let at = SEARCH_HEADER + 8 * n;
        u64::from_le_bytes(search.found[at..at + 8].try_into().expect("eight bytes"))
    };
    Ok((search.items > 0).then(|| std::array::from_fn(number)))
}

fn args(fd: i64, flags: u64, name: &OsStr) -> io::Result<VolArgs2> {
    if name.len() > NAME_MAX || name.is_empty() || name.as_bytes().contains(&b'/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut args = VolArgs2 { fd, transid: 0, flags, unused: [0; 4], name: [0; 4040] };
    args.name[..name.len()].copy_from_slice(name.as_bytes());
    Ok(args)
}

#[allow(unsafe_code)]
fn call<T>(fd: &impl AsFd, opcode: u64, argument: &mut T) -> io::Result<()> {
    // SAFETY: `opcode` carries the size of `T`, which is `#[repr(C)]` and laid out as the structure of that ioctl in `linux/btrfs.h`;
    // the kernel reads and writes no more than it, and only during the call. The constants above pair each opcode with its type.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), opcode as libc::Ioctl, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<VolArgs>(), 4096);
        assert_eq!(size_of::<VolArgs2>(), 4096);
        assert_eq!(size_of::<QuotaCtl>(), 16);
        assert_eq!(size_of::<QgroupLimit>(), 48);
        assert_eq!(size_of::<QgroupCreate>(), 16);
        assert_eq!(size_of::<SubvolInfo>(), 504);
        assert_eq!(size_of::<Search>(), 4096);
        assert_eq!(TREE_SEARCH, 0xd000_9411);
        assert_eq!(QGROUP_CREATE, 0x4010_942a);
        assert_eq!(QUOTA_RESCAN_WAIT, 0x942e);
        assert_eq!(SNAP_CREATE_V2, 0x5000_9417);
        assert_eq!(SUBVOL_CREATE_V2, 0x5000_9418);
    }

    #[test]
    fn elsewhere_it_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        if is_btrfs(temp.path()).unwrap() {
            return;
        }
        let dir = Dir::open(temp.path()).unwrap();
        assert!(create(&dir, OsStr::new("x")).is_err());
        assert!(create(&dir, OsStr::new("a/b")).unwrap_err().kind() == io::ErrorKind::InvalidInput);
    }
}
