//! What a union filesystem asks of the kernel beside the rest: file handles, filesystem identities, the limit on descriptors.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What names an inode on its filesystem for as long as it lives (`name_to_handle_at(2)`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileHandle {
    /// The filesystem's own type of handle.
    pub kind: i32,
    /// At most 128 bytes.
    pub bytes: Vec<u8>,
}

#[repr(C)]
struct RawHandle {
    handle_bytes: libc::c_uint,
    handle_type: libc::c_int,
    bytes: [u8; libc::MAX_HANDLE_SZ as usize],
}

/// Returns the handle of `name` in `dir`, of a link itself; of `dir` if `name` is empty. `EOPNOTSUPP` where the filesystem has none.
#[allow(unsafe_code)]
pub fn file_handle(dir: &impl AsFd, name: impl AsRef<Path>) -> io::Result<FileHandle> {
    let name = CString::new(name.as_ref().as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let mut raw = RawHandle {
        handle_bytes: libc::MAX_HANDLE_SZ as libc::c_uint,
        handle_type: 0,
        bytes: [0; libc::MAX_HANDLE_SZ as usize],
    };
    let mut mount = 0;
    // SAFETY: `raw` is laid out as `struct file_handle` with room for `handle_bytes` bytes, ours for the call, as are `name`,
    // which ends in NUL, and `mount`.
    let result = unsafe {
        let handle = (&raw mut raw).cast::<libc::file_handle>();
        libc::name_to_handle_at(dir.as_fd().as_raw_fd(), name.as_ptr(), handle, &raw mut mount, flags)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let len = (raw.handle_bytes as usize).min(raw.bytes.len());
    Ok(FileHandle { kind: raw.handle_type, bytes: raw.bytes[..len].to_vec() })
}

/// Opens (`O_PATH`) what a handle names on the filesystem that `mount`, not an `O_PATH` descriptor itself, is on. `ESTALE` if it is
/// gone, `EPERM` without the right to go past directories' permissions (`CAP_DAC_READ_SEARCH`).
#[allow(unsafe_code)]
pub fn open_by_handle(mount: &impl AsFd, handle: &FileHandle) -> io::Result<OwnedFd> {
    let mut raw = RawHandle {
        handle_bytes: handle.bytes.len() as libc::c_uint,
        handle_type: handle.kind,
        bytes: [0; libc::MAX_HANDLE_SZ as usize],
    };
    raw.bytes.get_mut(..handle.bytes.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(&handle.bytes);
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: `raw` is laid out as `struct file_handle` with `handle_bytes` bytes, ours for the call.
    let fd = unsafe {
        libc::open_by_handle_at(mount.as_fd().as_raw_fd(), (&raw mut raw).cast::<libc::file_handle>(), flags)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the UUID of the filesystem that `file` (not `O_PATH`) is on; `ENOTTY` where it or the kernel (before 6.9) tells none.
#[allow(unsafe_code)]
pub fn filesystem_uuid(file: &impl AsFd) -> io::Result<[u8; 16]> {
    #[repr(C)]
    struct Uuid {
        len: u8,
        uuid: [u8; 16],
    }
    // _IOR(0x15, 0, struct fsuuid2), from linux/fs.h.
    const FS_IOC_GETFSUUID: libc::c_ulong = 0x8011_1500;
    let mut uuid = Uuid { len: 0, uuid: [0; 16] };
    // SAFETY: the kernel writes a `struct fsuuid2`, which `uuid` is laid out as and which is ours for the call.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FS_IOC_GETFSUUID as _, &raw mut uuid) };
    match result {
        0 if uuid.len == 16 => Ok(uuid.uuid),
        0 => Err(io::Error::from_raw_os_error(libc::ENOTTY)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises this process's soft limit on open descriptors towards `wanted`, as far as the hard limit allows; returns what it is then.
pub fn allow_descriptors(wanted: u64) -> io::Result<u64> {
    let now = getrlimit(Resource::Nofile);
    let current = now.current.unwrap_or(u64::MAX);
    let raised = wanted.min(now.maximum.unwrap_or(u64::MAX));
    if current >= raised {
        return Ok(current);
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: now.maximum })?;
    Ok(raised)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn handles_name_inodes_not_names() {
        let temp = tempfile::tempdir().unwrap();
        let dir = File::open(temp.path()).unwrap();
        File::create(temp.path().join("a")).unwrap();
        File::create(temp.path().join("b")).unwrap();
        std::fs::hard_link(temp.path().join("a"), temp.path().join("c")).unwrap();
        let a = match file_handle(&dir, "a") {
            Ok(handle) => handle,
            Err(error) => {
                strata_testkit::require::report_skip(&format!("no file handles here: {error}"));
                return;
            }
        };
        assert_eq!(a, file_handle(&dir, "c").unwrap());
        assert_ne!(a, file_handle(&dir, "b").unwrap());
        if let Ok(opened) = open_by_handle(&dir, &a) {
            assert_eq!(a, file_handle(&opened, "").unwrap());
        }
        assert_ne!(a, file_handle(&dir, "").unwrap());
        assert_eq!(file_handle(&dir, "none").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_filesystem_keeps_its_uuid() {
        let temp = tempfile::tempdir().unwrap();
        match (filesystem_uuid(&File::open(temp.path()).unwrap()), filesystem_uuid(&File::open(temp.path()).unwrap())) {
            (Ok(one), Ok(two)) => assert_eq!(one, two),
            (Err(error), _) | (_, Err(error)) => {
                strata_testkit::require::report_skip(&format!("no UUID here: {error}"))
            }
        }
    }

    #[test]
    fn the_limit_only_grows() {
        let before = allow_descriptors(0).unwrap();
        assert!(allow_descriptors(before).unwrap() >= before);
    }
}
