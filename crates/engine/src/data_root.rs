//! The data root as a directory: who else is on it, what of it is ours.
//!
//! ```text
//! <data root>/                 0711, as Docker makes it
//!   image/<driver>/            the stores of one driver
//!   <driver>/                  its layers
//!   containers/                the containers
//!   volumes/metadata.db        held locked by a live dockerd
//!   strata/                    ours alone: may be deleted at any time
//!     version                  the format of what is in here, in decimal
//!     journal/                 what running operations intend
//!     locks/                   locks between processes
//!     tmp/                     folders being made or removed
//!     cache/                   what can be computed again
//!     ballast                  room for an operation on a full disk, which begins by removing it
//! ```
//!
//! A dockerd keeps its volume database, `volumes/metadata.db`, open under an exclusive `flock` for as long as it lives, in
//! whatever PID namespace. A root opened for writing holds a shared one: Strata then knows that no dockerd is there, and a dockerd
//! started meanwhile refuses to start instead of meeting a root that changes under it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use strata_durable::{Context, Journal, Lock, lock::Mode};
use strata_sys::fs::nearest_existing;

use crate::Error;

/// The format of `strata/` that this build writes.
const FORMAT: u32 = 1;

/// What a root is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing is changed; a live dockerd, a read-only filesystem and missing rights are no obstacle.
    Read,
    Write,
}

/// A data root that is locked for what it was opened for.
#[derive(Debug)]
pub struct DataRoot {
    path: PathBuf,
    purpose: Purpose,
    /// Held while the root is open for writing, where a dockerd has been before.
    _daemon_lock: Option<Lock>,
}

impl DataRoot {
    /// Opens `path`; for writing, makes it if it is missing. Fails with `DaemonAlive` for writing while a dockerd lives on it.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Self, Error> {
        let path = resolve(path)?;
        let daemon_lock = match purpose {
            Purpose::Read => None,
            Purpose::Write => {
                may_write(&path)?;
                crate::containerd::refuse(&path)?;
                strata_durable::create_dir_all(&path, 0o711)?;
                lock_out_daemon(&path)?
            }
        };
        let root = Self { path, purpose, _daemon_lock: daemon_lock };
        root.check_format()?;
        Ok(root)
    }

    /// Absolute, and free of links where it exists.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Opens `strata/journal`.
    pub(crate) fn journal(&self) -> Result<Journal, Error> {
        match self.purpose {
            Purpose::Read => Ok(self.journal_reader()),
            Purpose::Write => Ok(Journal::open(&self.own("journal"))?.knowing(crate::settle::is_known)),
        }
    }

    /// `strata/journal`, in which nothing can begin.
    pub(crate) fn journal_reader(&self) -> Journal {
        Journal::reader(&self.own("journal")).knowing(crate::settle::is_known)
    }

    /// Whether an operation is running, or died and left something to settle.
    pub(crate) fn has_journal_entries(&self) -> bool {
        fs::read_dir(self.own("journal")).is_ok_and(|mut entries| entries.next().is_some())
    }

    pub fn locks(&self) -> PathBuf {
        self.own("locks")
    }

    pub fn tmp(&self) -> PathBuf {
        self.own("tmp")
    }

    pub fn cache(&self) -> PathBuf {
        self.own("cache")
    }

    fn own(&self, name: &str) -> PathBuf {
        self.path.join("strata").join(name)
    }

    fn check_format(&self) -> Result<(), Error> {
        let found = match strata_durable::read_to_string(&self.own("version")) {
            Ok(text) => text.trim().parse().unwrap_or(FORMAT),
            Err(_) => return Ok(()),
        };
        if found > FORMAT {
            return Err(Error::NewerFormat { root: self.path.clone(), found, known: FORMAT });
        }
        Ok(())
    }

    /// Makes what is ours in a root that is opened for writing.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        if self.purpose == Purpose::Read {
            return Ok(());
        }
        self.make_ballast();
        if self.own("version").exists() && self.own("cache").exists() {
            return Ok(());
        }
        for name in ["journal", "locks", "tmp", "cache"] {
            strata_durable::create_dir_all(&self.own(name), 0o700)?;
        }
        Ok(strata_durable::write(&self.own("version"), format!("{FORMAT}\n").as_bytes(), 0o600)?)
    }
}

/// Bytes that are kept free for making room on a full disk.
const BALLAST: u64 = 128 << 10;

impl DataRoot {
    /// Keeps some room for the next operation on a full disk; without room for that there is none to keep.
    fn make_ballast(&self) {
        let path = self.own("ballast");
        if path.exists() || !self.own("journal").is_dir() {
            return;
        }
        let made = fs::File::create(&path).and_then(|file| strata_sys::fs::allocate(&file, 0, BALLAST));
        if made.is_err() {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Names the process that holds the root as dockerd does, if one does.
pub fn live_daemon(root: &Path) -> Result<Option<String>, Error> {
    match lock_out_daemon(root) {
        Ok(_) => Ok(None),
        Err(Error::DaemonAlive { holder, .. }) => Ok(Some(holder.unwrap_or_else(|| "dockerd".to_owned()))),
        Err(error) if error.kind() == strata_spec::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

/// `path`, absolute, and free of links where it is there.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(path).context("resolve", path)?;
    Ok(fs::canonicalize(&path).unwrap_or(path))
}

fn volume_database(root: &Path) -> PathBuf {
    root.join("volumes/metadata.db")
}

fn lock_out_daemon(root: &Path) -> Result<Option<Lock>, Error> {
    let database = volume_database(root);
    if !database.exists() {
        return Ok(None);
    }
    match Lock::try_acquire(&database, Mode::Shared)? {
        Some(lock) => Ok(Some(lock)),
        None => {
            let holder = strata_sys::process::lock_holders(&database).unwrap_or_default().into_iter().next();
            let holder =
                holder.map(|holder| format!("{}, PID {}", holder.name.as_deref().unwrap_or("dockerd"), holder.pid));
            Err(Error::DaemonAlive { root: root.to_owned(), holder })
        }
    }
}

/// Whether this process may change what lies at `path`.
pub(crate) fn may_write(path: &Path) -> Result<(), Error> {
    let existing = nearest_existing(path);
    match rustix::fs::access(&existing, rustix::fs::Access::WRITE_OK).map_err(io::Error::from) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            Err(Error::ReadOnly { root: path.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Error::NoRights { root: path.to_owned(), needs: "writing below it" })
        }
        _ if !rustix::process::geteuid().is_root() => {
            Err(Error::NoRights { root: path.to_owned(), needs: "mounting, device nodes and owners" })
        }
        _ => Ok(()),
    }
}
