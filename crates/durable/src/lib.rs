//! Files and folders that survive a crash: every metadata write of every store passes through here.
//!
//! | module | owns |
//! | --- | --- |
//! | [`file`] | replacing one file atomically |
//! | [`dir`] | a folder that has no name until it is whole; removal that runs backwards |
//! | [`lock`] | locks between processes |
//! | [`journal`] | the intents of running operations, and what dead ones left |
//! | [`trace`] | the writes as events, for the crash recorder of `testkit` |
//! | [`error`] | I/O errors that name the action and the path |
#![forbid(unsafe_code)]

pub mod dir;
pub mod error;
pub mod file;
pub mod journal;
pub mod lock;
pub mod trace;

pub use dir::{NewDir, create_dir_all, remove_dir};
pub use error::{Context, Error};
pub use file::{read, read_to_string, remove_file, symlink, write};
pub use journal::{Intent, Journal};
pub use lock::Lock;
