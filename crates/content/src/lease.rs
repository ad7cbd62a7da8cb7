//! Leases: what a running operation uses, so that no collection removes it meanwhile.

use strata_durable::{Deferred, Intent, Journal, lock::Mode};
use strata_spec::Digest;

use crate::{Error, Store};

/// The blobs of one operation; dropped, it ends. A process that dies loses its leases.
///
/// Nothing of it is synced: after a power cut no operation runs.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    /// `None` when the lease has ended.
    intent: Option<Intent>,
}

impl Lease {
    pub(crate) fn begin(store: &Store) -> Result<Self, Error> {
        let journal = journal(store)?;
        let intent = Deferred::when(true).during(|| journal.begin_with::<Digest>(&[]))?;
        Ok(Self { store: store.clone(), intent: Some(intent) })
    }

    /// Keeps a blob, here or to come, for as long as the lease lives; returns its size in bytes if it is here.
    pub fn hold(&mut self, digest: Digest) -> Result<Option<u64>, Error> {
        let intent = self.intent.as_mut().expect("a lease has its entry until it ends");
        let _lock = self.store.lock(Mode::Shared)?;
        Deferred::when(true).during(|| intent.note(&digest))?;
        Ok(self.store.size(digest))
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Ends the lease: pins keep what is needed from here on.
    pub fn done(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some(intent) = self.intent.take() else { return Ok(()) };
        Ok(Deferred::when(true).during(|| intent.done())?)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "a lease of blobs stays until the next collection");
        }
    }
}

/// The entries of running operations.
pub(crate) fn journal(store: &Store) -> Result<Journal, Error> {
    Ok(Journal::open(&store.layout().leases())?)
}
