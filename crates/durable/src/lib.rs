//! Files and folders that survive a crash: every metadata write of every store passes through here.
//!
//! | module | owns |
//! | --- | --- |
//! | [`file`] | replacing one file, or several, atomically |
//! | [`dir`] | a folder that has no name until it is whole; removal that runs backwards |
//! | [`lock`] | locks between processes |
//! | [`journal`] | the intents of running operations, and what dead ones left |
//! | [`defer`] | syncs put off, for what an operation makes and removes again |
//! | [`trace`] | the writes as events, for the crash recorder of `testkit` |
//! | [`error`] | I/O errors that name the action and the path |
//!
//! The order is the same everywhere: bytes, `fsync` of the file, rename, `fsync` of the folder. Content that others write in bulk
//! (layers) is put on disk by one [`sync_filesystem`] before metadata names it.
//!
//! # Limitations
//!
//! A filesystem that lies about `fsync`, or a disk with a volatile cache and barriers off, keeps no promise made here.
#![forbid(unsafe_code)]

pub mod defer;
pub mod dir;
pub mod error;
pub mod file;
pub mod journal;
pub mod lock;
mod step;
pub mod trace;

pub use defer::Deferred;
pub use dir::{NewDir, create_dir_all, remove_dir, rename, sweep_tmp, sync_dir, sync_filesystem, sync_filesystems};
pub use error::{Context, Error};
pub use file::{NewFile, read, read_to_string, remove_file, replace, sweep_files, symlink, write, write_many};
pub use journal::{Intent, Journal, Notes};
pub use lock::Lock;
