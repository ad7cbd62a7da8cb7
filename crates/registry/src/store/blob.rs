//! Blobs of a repository: a link for each, and the bytes, which all repositories share.

use std::time::SystemTime;

use strata_spec::Digest;

use super::{Store, blob_unknown, walk};
use crate::{error::Error, layout, name::RepoName, quota::Reservation, storage::Content};

/// The result of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// The blob is linked.
    Yes,
    /// The source lacks the blob; the client uploads it.
    NotThere,
}

impl Store {
    /// Returns the size of a blob in bytes; `None` if the repository lacks it.
    ///
    /// The blob is kept for the grace time, because a client that finds a layer here does not send it.
    pub fn blob_size(&self, name: &RepoName, digest: Digest) -> Result<Option<u64>, Error> {
        if self.storage.stat(&layout::layer_link(name, digest))?.is_none() {
            return Ok(None);
        }
        let key = layout::blob(digest);
        let Some(stat) = self.storage.stat(&key)? else { return Ok(None) };
        // Renewed only after half of the grace time, so that most requests write nothing.
        let is_fresh = SystemTime::now().duration_since(stat.relied).is_ok_and(|age| age < self.rules.grace / 2);
        if !is_fresh {
            let _gate = self.storage.publishing()?;
            if !self.storage.rely(&key)? {
                return Ok(None);
            }
        }
        Ok(Some(stat.size))
    }

    /// Opens a blob; `None` if the repository lacks it.
    pub fn blob(&self, name: &RepoName, digest: Digest) -> Result<Option<Content>, Error> {
        if self.storage.stat(&layout::layer_link(name, digest))?.is_none() {
            return Ok(None);
        }
        Ok(self.storage.open(&layout::blob(digest))?)
    }

    /// Links a stored blob into the repository. The caller is inside the gate and relies on the blob.
    ///
    /// `reserved` is the reservation of the blob's upload.
    pub(crate) fn link_blob(
        &self,
        name: &RepoName,
        digest: Digest,
        size: u64,
        reserved: Reservation,
    ) -> Result<(), Error> {
        let key = layout::layer_link(name, digest);
        if self.link(&key).ok().flatten() == Some(digest) {
            return Ok(());
        }
        let counted = self.quotas.link_reserved(name, digest, size, reserved)?;
        self.storage.write(&[(key, digest.to_string().into_bytes())])?;
        counted.keep();
        Ok(())
    }

    /// Links a blob of `from` into `name`. Without `from`, any stored blob is linked; the caller has checked the client's rights.
    pub fn mount(&self, name: &RepoName, digest: Digest, from: Option<&RepoName>) -> Result<Mounted, Error> {
        if let Some(from) = from
            && self.storage.stat(&layout::layer_link(from, digest))?.is_none()
        {
            return Ok(Mounted::NotThere);
        }
        let key = layout::blob(digest);
        let _lock = self.lock(name);
        let _gate = self.storage.publishing()?;
        if !self.storage.rely(&key)? {
            return Ok(Mounted::NotThere);
        }
        let Some(stat) = self.storage.stat(&key)? else { return Ok(Mounted::NotThere) };
        self.link_blob(name, digest, stat.size, Reservation::default())?;
        Ok(Mounted::Yes)
    }

    /// Whether the repository has the blob.
    pub fn has_blob(&self, name: &RepoName, digest: Digest) -> Result<bool, Error> {
        Ok(self.storage.stat(&layout::layer_link(name, digest))?.is_some()
            && self.storage.stat(&layout::blob(digest))?.is_some())
    }

    /// Whether a repository that `may_read` allows has the blob. Visits repositories until one has it.
    pub fn is_readable(&self, digest: Digest, may_read: &mut dyn FnMut(&RepoName) -> bool) -> Result<bool, Error> {
        let mut found = false;
        walk::repositories(&*self.storage, None, &mut |name| {
            found = may_read(&name) && self.storage.stat(&layout::layer_link(&name, digest))?.is_some();
            Ok(if found { walk::Next::Stop } else { walk::Next::GoOn })
        })?;
        Ok(found)
    }

    /// Removes a blob from the repository. The collector removes its bytes when no repository needs them.
    pub fn delete_blob(&self, name: &RepoName, digest: Digest) -> Result<(), Error> {
        let _lock = self.lock(name);
        let below = layout::layers(name, digest.algorithm());
        if !self.storage.remove(&layout::layer_link(name, digest), &below)? {
            return Err(blob_unknown(name, digest));
        }
        self.quotas.unlink(name, digest);
        Ok(())
    }
}
