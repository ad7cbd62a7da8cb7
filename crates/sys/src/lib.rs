//! The kernel, as the other crates use it, and ISA-L. The only `unsafe` of the project lives here.
//!
//! | module | owns |
//! | --- | --- |
//! | [`mount`] | overlay, bind and tmpfs mounts, by the new mount API where the kernel has it; the mount table |
//! | [`tree`] | resolving and making files under a directory descriptor, never outside it |
//! | [`xattr`] | extended attributes by path and by descriptor |
//! | [`fs`] | what a filesystem is and can do; syncfs, reflinks, holes |
//! | [`btrfs`] | subvolumes, snapshots, quota groups |
//! | [`process`] | who is alive, who holds a lock, random bytes, rights, kernel and memory |
//! | [`seccomp`] | putting a system call filter on this process |
//! | [`gunzip`] | gzip members, by ISA-L (x86-64, feature `isal`) |
//! | [`union`] | file handles, filesystem identities, the limit on descriptors |
//!
//! Functions return [`std::io::Error`]. Where one call takes several steps, the error's text says which step failed on what;
//! its kind stays the kernel's, and [`errno`] finds the number below the text.

pub mod btrfs;
pub mod fs;
#[cfg(all(feature = "isal", target_arch = "x86_64"))]
pub mod gunzip;
pub mod mount;
pub mod process;
pub mod seccomp;
pub mod tree;
pub mod union;
pub mod xattr;

use std::{fmt, io};

/// The flags of `open(2)`, for the functions of [`tree`] that take them.
pub use rustix::fs::OFlags;

/// Returns the errno at the bottom of an error from this crate; `None` if no system call caused it.
pub fn errno(error: &io::Error) -> Option<i32> {
    match error.raw_os_error() {
        Some(code) => Some(code),
        None => error.get_ref()?.downcast_ref::<Step>().and_then(|step| errno(&step.source)),
    }
}

/// A failed step of a longer operation; travels inside an [`io::Error`] of the same kind.
#[derive(Debug)]
struct Step {
    step: String,
    source: io::Error,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.source)
    }
}

impl std::error::Error for Step {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Adds to a failure which step it was.
trait StepContext<T> {
    fn step(self, step: impl FnOnce() -> String) -> io::Result<T>;
}

impl<T, E: Into<io::Error>> StepContext<T> for Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> io::Result<T> {
        self.map_err(|error| {
            let source = error.into();
            io::Error::new(source.kind(), Step { step: step(), source })
        })
    }
}

/// Calls `f` again for as long as a signal interrupts it.
fn retry<T>(mut f: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match f() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_keeps_kind_and_errno_and_says_where() {
        let bottom: Result<(), _> = Err(rustix::io::Errno::NOSPC);
        let error = bottom.step(|| "write a".into()).step(|| "fill b".into()).expect_err("an error stays one");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(errno(&error), Some(libc::ENOSPC));
        assert!(error.to_string().starts_with("fill b: write a: No space left"), "{error}");
        assert_eq!(errno(&io::Error::other("no system call")), None);
    }
}
