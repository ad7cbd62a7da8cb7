//! Extended attributes: by path without following a link, and by descriptor, `O_PATH` ones included.
//!
//! Names are whole (`user.x`, `trusted.overlay.opaque`); values are bytes. A filesystem without extended attributes answers
//! `EOPNOTSUPP`; [`list`] and [`list_of`] then return no names, since there are none.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{fd::AsFd, unix::ffi::OsStringExt},
    path::Path,
};

use rustix::{
    fs::{self, XattrFlags},
    io::Errno,
};

use crate::tree::proc_path;

/// The first guess at the size of a value or a list; most fit.
const FIRST: usize = 512;

/// The kernel's own limit on a value and on a list (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const LIMIT: usize = 64 * 1024;

/// Returns the names of the attributes of `path`, of a link itself, in the filesystem's order.
pub fn list(path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
    let path = path.as_ref();
    names(grow(|buffer| fs::llistxattr(path, buffer)))
}

/// Returns the value of `name` on `path`, of a link itself; `None` if it has none.
pub fn get(path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
    let (path, name) = (path.as_ref(), name.as_ref());
    present(grow(|buffer| fs::lgetxattr(path, name, buffer)))
}

/// Sets `name` on `path`, on a link itself.
pub fn set(path: impl AsRef<Path>, name: impl AsRef<OsStr>, value: &[u8]) -> io::Result<()> {
    Ok(fs::lsetxattr(path.as_ref(), name.as_ref(), value, XattrFlags::empty())?)
}

/// Removes `name` from `path`, from a link itself; one that is not there is no error.
pub fn remove(path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> io::Result<()> {
    absent(fs::lremovexattr(path.as_ref(), name.as_ref()))
}

/// Returns the names of the attributes of what `fd` is open on.
pub fn list_of(fd: &impl AsFd) -> io::Result<Vec<OsString>> {
    match grow(|buffer| fs::flistxattr(fd, buffer)) {
        Err(Errno::BADF) => names(grow(|buffer| fs::listxattr(proc_path(fd), buffer))),
        result => names(result),
    }
}

/// Returns the value of `name` on what `fd` is open on; `None` if it has none.
pub fn get_of(fd: &impl AsFd, name: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
    let name = name.as_ref();
    match grow(|buffer| fs::fgetxattr(fd, name, buffer)) {
        Err(Errno::BADF) => present(grow(|buffer| fs::getxattr(proc_path(fd), name, buffer))),
        result => present(result),
    }
}

/// Sets `name` on what `fd` is open on.
pub fn set_of(fd: &impl AsFd, name: impl AsRef<OsStr>, value: &[u8]) -> io::Result<()> {
    let name = name.as_ref();
    match fs::fsetxattr(fd, name, value, XattrFlags::empty()) {
        Err(Errno::BADF) => Ok(fs::setxattr(proc_path(fd), name, value, XattrFlags::empty())?),
        result => Ok(result?),
    }
}

/// Removes `name` from what `fd` is open on; one that is not there is no error.
pub fn remove_of(fd: &impl AsFd, name: impl AsRef<OsStr>) -> io::Result<()> {
    let name = name.as_ref();
    match fs::fremovexattr(fd, name) {
        Err(Errno::BADF) => absent(fs::removexattr(proc_path(fd), name)),
        result => absent(result),
    }
}

/// Calls `read` with more and more room until the answer fits.
fn grow(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; FIRST];
    loop {
        match read(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < LIMIT => buffer.resize(LIMIT.min(buffer.len() * 8), 0),
            Err(errno) => return Err(errno),
        }
    }
}

fn names(list: Result<Vec<u8>, Errno>) -> io::Result<Vec<OsString>> {
    let list = match list {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        list => list?,
    };
    let names = list.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| OsString::from_vec(name.to_vec())).collect())
}

fn present(value: Result<Vec<u8>, Errno>) -> io::Result<Option<Vec<u8>>> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn absent(removed: Result<(), Errno>) -> io::Result<()> {
    match removed {
        Err(Errno::NODATA) => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::tree::Dir;

    #[test]
    fn values_of_any_bytes_and_size_come_back_by_path_descriptor_and_handle() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let file = dir.create_file("f", 0o644).unwrap();
        let path = temp.path().join("f");
        let handle = dir.open_handle("f").unwrap();
        let name = OsStr::from_bytes(b"user.n\xff\xfe");
        if let Err(error) = set(&path, name, b"") {
            strata_testkit::require::report_skip(&format!("no user extended attributes here: {error}"));
            return;
        }
        for value in [&b""[..], b"\0\xff\n", &[7; FIRST], &[8; FIRST + 1], &[9; 3000]] {
            set(&path, name, value).unwrap();
            assert_eq!(get_of(&file, name).unwrap().as_deref(), Some(value));
            set_of(&handle, name, value).unwrap();
            assert_eq!(get(&path, name).unwrap().as_deref(), Some(value));
            set_of(&file, name, value).unwrap();
            assert_eq!(get_of(&handle, name).unwrap().as_deref(), Some(value));
        }
        for list in [list(&path).unwrap(), list_of(&file).unwrap(), list_of(&handle).unwrap()] {
            assert!(list.iter().any(|found| found == name), "{list:?}");
        }
        remove_of(&handle, name).unwrap();
        assert_eq!(get(&path, name).unwrap(), None);
        remove(&path, name).unwrap();
        remove_of(&file, name).unwrap();
    }

    #[test]
    fn a_link_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        dir.create_file("f", 0o644).unwrap();
        dir.symlink("f", "link").unwrap();
        if set(temp.path().join("f"), "user.x", b"1").is_err() {
            strata_testkit::require::report_skip("no user extended attributes here");
            return;
        }
        assert_eq!(get(temp.path().join("link"), "user.x").unwrap(), None);
        assert!(set(temp.path().join("link"), "user.x", b"2").is_err(), "user attributes are not for links");
        assert_eq!(get(temp.path().join("f"), "user.x").unwrap().as_deref(), Some(&b"1"[..]));
    }

    #[test]
    fn a_long_list_comes_whole() {
        let temp = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..40).map(|n| format!("user.{n:060}")).collect();
        for name in &names {
            if let Err(error) = set(temp.path(), name, b"v") {
                strata_testkit::require::report_skip(&format!("cannot set {name}: {error}"));
                return;
            }
        }
        let mut found = list(temp.path()).unwrap();
        found.retain(|name| name.as_bytes().starts_with(b"user."));
        found.sort();
        assert_eq!(found, names.into_iter().map(OsString::from).collect::<Vec<_>>());
    }
}
