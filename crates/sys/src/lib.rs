//! The kernel, as the other crates use it. The only `unsafe` of the project lives here.
//!
//! | module | owns |
//! | --- | --- |
//! | [`mount`] | overlay, bind and tmpfs mounts, by the new mount API where the kernel has it; the mount table |
//! | [`tree`] | resolving and making files under a directory descriptor, never outside it |
//! | [`xattr`] | extended attributes by path and by descriptor |
//! | [`fs`] | what a filesystem is and can do; syncfs, reflinks, holes |
//! | [`process`] | processes: alive, their daemon, random bytes, user and host names |

pub mod fs;
pub mod mount;
pub mod process;
pub mod tree;
pub mod xattr;
