//! This program, opened so that no container can write to it.
//!
//! The watcher forks the container's first process, so inside the container `/proc/self/exe` is, for a moment, the
//! program of the host, and a hostile image can keep it open and overwrite it once nobody executes it (CVE-2019-5736).
//! Executed from a read-only overlay mount that exists nowhere in the tree, or else from a sealed copy in memory,
//! there is nothing to overwrite.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{MemfdFlags, Mode, OFlags, SealFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags},
};

use crate::error::{Context, Error};

const SELF: &str = "/proc/self/exe";

/// Opens this program for execution as `/proc/self/fd/<fd>`.
pub(super) fn own_program() -> Result<OwnedFd, Error> {
    match through_overlay() {
        Ok(program) => Ok(program),
        Err(error) => {
            tracing::debug!(%error, "no read-only overlay of the program; it is copied into memory");
            Ok(copy_in_memory().context("copy into memory", Path::new(SELF))?)
        }
    }
}

/// An overlay of lower layers alone refuses every write, whoever asks, and cannot be remounted writable.
fn through_overlay() -> io::Result<OwnedFd> {
    let program = std::fs::read_link(SELF)?;
    let (Some(folder), Some(name)) = (program.parent(), program.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    // Two layers are needed; the second is an empty tmpfs.
    let empty = new_mount("tmpfs", &[])?;
    let lower = folder.to_str().filter(|text| !text.contains([':', ',', '\\'])).ok_or(io::ErrorKind::InvalidInput)?;
    let lowers = format!("{lower}:/proc/self/fd/{}", empty.as_raw_fd());
    let mount = new_mount("overlay", &[("lowerdir", &lowers)])?;
    let file = rustix::fs::openat(mount, name, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    // Between reading the link and opening the name, an upgrade may have put another program there.
    let (found, running) = (rustix::fs::fstat(&file)?, rustix::fs::stat(SELF)?);
    if (found.st_size, found.st_mtime, found.st_mtime_nsec)
        != (running.st_size, running.st_mtime, running.st_mtime_nsec)
    {
        return Err(io::ErrorKind::StaleNetworkFileHandle.into());
    }
    Ok(file)
}

/// A read-only mount of a new filesystem, attached nowhere.
fn new_mount(kind: &str, options: &[(&str, &str)]) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn copy_in_memory() -> io::Result<OwnedFd> {
    let copy = rustix::fs::memfd_create("strata", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(SELF)?, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses_writing(program: &OwnedFd) -> bool {
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        let bytes = std::fs::read(&path).expect("the program can be read");
        assert_eq!(bytes, std::fs::read(SELF).expect("so can we"));
        match File::options().write(true).open(&path) {
            Err(_) => true,
            Ok(mut file) => io::Write::write_all(&mut file, b"x").is_err(),
        }
    }

    #[test]
    fn the_copy_in_memory_cannot_be_written() {
        assert!(refuses_writing(&copy_in_memory().expect("memfd")));
    }

    #[test]
    fn the_overlay_cannot_be_written() {
        match through_overlay() {
            Ok(program) => assert!(refuses_writing(&program)),
            Err(error) => strata_testkit::require::report_skip(&format!("no overlay of the program here: {error}")),
        }
    }
}
