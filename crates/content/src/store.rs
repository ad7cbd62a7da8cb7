//! The store itself: reading blobs, storing small ones.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;
use strata_durable::{Context, Lock, create_dir_all, lock::Mode};
use strata_spec::Digest;

use crate::{
    Error, Ingest, Layout, Lease,
    layout::{ALGORITHMS, DIR_MODE, FILE_MODE},
};

/// A content store.
#[derive(Clone, Debug)]
pub struct Store {
    layout: Layout,
}

impl Store {
    /// The store in the directory `root`. Touches no disk: the directories are made by what first writes.
    pub fn new(root: &Path) -> Self {
        Self { layout: Layout::new(root) }
    }

    /// The file names.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes the directories that are missing. Every function that writes calls it.
    pub(crate) fn make(&self) -> Result<(), Error> {
        let layout = &self.layout;
        if layout.leases().is_dir() {
            return Ok(());
        }
        // Before the directories that say that this is done: a crash in between leaves it to the next opener.
        remove_former(layout.root().parent().unwrap_or(layout.root()));
        let blobs = ALGORITHMS.map(|algorithm| layout.blobs(algorithm));
        for dir in blobs.iter().chain(&[layout.ingests(), layout.pins(), layout.leases()]) {
            create_dir_all(dir, DIR_MODE)?;
        }
        Ok(())
    }

    /// Locks out collection (`Shared`), or everybody (`Exclusive`).
    pub(crate) fn lock(&self, mode: Mode) -> Result<Lock, Error> {
        Ok(Lock::acquire(&self.layout.lock(), mode)?)
    }

    /// Returns the size in bytes of a blob that is here.
    ///
    /// Only a [`Lease`] keeps it here: see [`Lease::hold`].
    pub fn size(&self, digest: Digest) -> Option<u64> {
        let found = fs::symlink_metadata(self.layout.blob(digest)).ok()?;
        found.is_file().then_some(found.len())
    }

    /// Opens a blob that is here; `None` if it is not. Its bytes are not checked again.
    pub fn open(&self, digest: Digest) -> Result<Option<File>, Error> {
        let path = self.layout.blob(digest);
        match OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => Ok(Some(file.context("open", &path)?)),
        }
    }

    /// Reads a blob of at most `limit` bytes into memory and checks its digest; `None` if it is not here.
    pub fn read(&self, digest: Digest, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.layout.blob(digest);
        let Some(mut file) = self.open(digest)? else { return Ok(None) };
        let found = file.metadata().context("look at", &path)?.len();
        if found > limit {
            return Err(Error::TooLarge { digest: Box::new(digest), found, limit });
        }
        let mut bytes = Vec::with_capacity(found as usize);
        file.read_to_end(&mut bytes).context("read", &path)?;
        match Digest::of(digest.algorithm(), &bytes) {
            found if found == digest => Ok(Some(bytes)),
            found => Err(Error::Damaged { path, reason: format!("its digest is {found}") }),
        }
    }

    /// Stores a blob that is at hand, such as a manifest; `lease` keeps it. On disk when this returns.
    ///
    /// The rename of the file is the commit point: after a crash the blob is here whole, or not at all.
    pub fn put(&self, lease: &mut Lease, digest: Digest, bytes: &[u8]) -> Result<(), Error> {
        check(digest, bytes)?;
        if lease.hold(digest)? == Some(bytes.len() as u64) && self.is_whole(digest, bytes.len() as u64) {
            return Ok(());
        }
        Ok(strata_durable::write(&self.layout.blob(digest), bytes, FILE_MODE)?)
    }

    /// Whether a small blob that is here, of `len` bytes, has its digest. One that has not is written again.
    pub(crate) fn is_whole(&self, digest: Digest, len: u64) -> bool {
        matches!(self.read(digest, len), Ok(Some(_)))
    }

    /// Removes a blob that is damaged, so that it is fetched again; one that is not here is no error.
    pub fn remove(&self, digest: Digest) -> Result<(), Error> {
        Ok(strata_durable::remove_file(&self.layout.blob(digest))?)
    }

    /// Opens the file of a blob that is to arrive. If another process is fetching it, the file has no name and is not resumable.
    pub fn ingest(&self, digest: Digest) -> Result<Ingest, Error> {
        self.make()?;
        Ingest::open(&self.layout, digest)
    }

    /// Begins an operation that uses blobs.
    pub fn lease(&self) -> Result<Lease, Error> {
        self.make()?;
        Lease::begin(self)
    }
}

/// Fails unless `bytes` have the digest.
pub(crate) fn check(digest: Digest, bytes: &[u8]) -> Result<(), Error> {
    match Digest::of(digest.algorithm(), bytes) {
        found if found == digest => Ok(()),
        found => Err(Error::Digest { expected: Box::new(digest), found: Box::new(found) }),
    }
}

/// Removes what versions before this layout kept in three places beside it. All of it can be fetched again.
fn remove_former(strata: &Path) {
    for name in ["partial", "platforms", "cache/manifests"] {
        let path = strata.join(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "blobs of an earlier version stay");
            }
            _ => {}
        }
    }
}
