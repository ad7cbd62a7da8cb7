//! Removal of blobs that neither a pin nor a lease names, and of arrivals that nobody resumed.

use std::{
    collections::HashSet,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::OFlags;
use strata_durable::{Context, lock::Mode};
use strata_spec::Digest;
use strata_sys::process::{LockMode, try_lock_file};

use crate::{Error, Store, layout::ALGORITHMS, lease};

/// How long a blob that did not arrive whole waits to be resumed.
const RESUMABLE: Duration = Duration::from_secs(14 * 24 * 3600);

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Whole blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes the pins that `keep`, called with kind and name, does not want; then the blobs that no pin and no lease names.
    ///
    /// Holds the store's lock exclusively: it waits for those who take hold of a blob, which takes them moments. A crash leaves some
    /// blobs that the next collection removes. A pin that cannot be read is removed with a warning; its owner fetches the blobs again.
    pub fn collect(&self, keep: impl Fn(&str, &str) -> bool) -> Result<Collected, Error> {
        if !self.layout().leases().is_dir() {
            return Ok(Collected::default());
        }
        let _lock = self.lock(Mode::Exclusive)?;
        let journal = lease::journal(self)?;
        // Entries of dead processes go; those of living ones count.
        journal.settle::<Digest, Error>(|_| Ok(()))?;
        let mut needed: HashSet<Digest> =
            journal.alive::<Digest>()?.into_iter().flat_map(|entry| entry.notes).collect();
        for (kind, dir) in list(&self.layout().pins())? {
            for (name, path) in list(&dir)? {
                // One that is being written, or was when its process died.
                if strata_durable::file::is_temporary(name.as_ref()) {
                    continue;
                }
                match keep(&kind, &name).then(|| self.pinned(&kind, &name)).transpose() {
                    Ok(Some(pin)) => needed.extend(pin.into_iter().flat_map(|pin| pin.blobs)),
                    Ok(None) => strata_durable::remove_file(&path)?,
                    Err(error @ Error::Damaged { .. }) => {
                        tracing::warn!(%error, "the pin is removed");
                        strata_durable::remove_file(&path)?;
                    }
                    Err(error) => return Err(error),
                }
            }
            strata_durable::sweep_files(&dir)?;
        }
        let mut collected = Collected::default();
        for algorithm in ALGORITHMS {
            for (hex, path) in list(&self.layout().blobs(algorithm))? {
                let digest = format!("{}:{hex}", algorithm.name()).parse::<Digest>().ok();
                if digest.is_some_and(|digest| needed.contains(&digest))
                    || strata_durable::file::is_temporary(hex.as_ref())
                {
                    continue;
                }
                collected.blobs += 1;
                collected.bytes += fs::symlink_metadata(&path).map_or(0, |found| found.len());
                // Not synced: one that comes back after a power cut goes the next time.
                fs::remove_file(&path).context("remove", &path)?;
            }
            strata_durable::sweep_files(&self.layout().blobs(algorithm))?;
        }
        Ok(collected)
    }

    /// Removes what arrived of blobs and was not resumed for two weeks; returns how many.
    pub fn expire(&self) -> Result<usize, Error> {
        self.remove_ingests(|_, modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > RESUMABLE))
    }

    /// Removes what arrived of the blobs `digests`, unless another process is fetching them.
    pub fn forget_ingests(&self, digests: impl IntoIterator<Item = Digest>) -> Result<(), Error> {
        for digest in digests {
            remove_unlocked(&self.layout().ingest(digest), |_| true)?;
        }
        Ok(())
    }

    fn remove_ingests(&self, unwanted: impl Fn(&str, SystemTime) -> bool) -> Result<usize, Error> {
        let mut removed = 0;
        for (name, path) in list(&self.layout().ingests())? {
            removed += usize::from(remove_unlocked(&path, |modified| unwanted(&name, modified))?);
        }
        Ok(removed)
    }
}

/// Removes an ingest's file that is `unwanted` by its time of modification and that no process holds; returns whether it did.
fn remove_unlocked(path: &Path, unwanted: impl Fn(SystemTime) -> bool) -> Result<bool, Error> {
    let file = match OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.context("open", path)?,
    };
    let modified = file.metadata().and_then(|found| found.modified()).context("look at", path)?;
    if !unwanted(modified) || !try_lock_file(&file, LockMode::Exclusive).context("lock", path)? {
        return Ok(false);
    }
    if !crate::ingest::has_name(&file, path)? {
        return Ok(false);
    }
    fs::remove_file(path).context("remove", path)?;
    Ok(true)
}

/// The names in `dir` that are text, with their paths; none if there is no such directory.
fn list(dir: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context("list", dir)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.context("list", dir)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}
