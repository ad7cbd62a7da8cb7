//! Folders that layers are to be unpacked into, noted in the journal before they are made, all of one operation together.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use strata_durable::Intent;
use strata_spec::{CacheId, ChainId};

use crate::{Error, Note, Store, mounts::random_id};

/// The name of a driver folder that nobody else has and that the journal knows of: what is made there does not outlive a crash unless a
/// layer names it.
#[derive(Debug)]
#[must_use]
pub struct Place {
    pub(crate) cache_id: CacheId,
    pub(crate) parent: Option<ChainId>,
    entry: Arc<Entry>,
}

/// The journal's entry of the places that were noted together; it ends with the last of them.
#[derive(Debug)]
struct Entry {
    intent: Option<Intent>,
    /// Something was left that whoever settles the journal has to remove.
    left: AtomicBool,
}

impl Store {
    /// Notes a folder for one layer over `parent`, which the caller holds.
    pub fn place(&self, parent: Option<ChainId>) -> Result<Place, Error> {
        Ok(self.places(1, parent)?.pop().expect("one was asked for"))
    }

    /// Notes folders for `count` layers, for about the price of one. Places that stay unused cost nothing.
    pub fn places(&self, count: usize, parent: Option<ChainId>) -> Result<Vec<Place>, Error> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let ids = (0..count).map(|_| random_id()).collect::<Result<Vec<_>, _>>()?;
        let note = |id: &CacheId| Note::Unpack { driver: self.driver_name(), cache_id: id.clone(), parent };
        let intent = self.journal.begin_with(&ids.iter().map(note).collect::<Vec<_>>())?;
        let entry = Arc::new(Entry { intent: Some(intent), left: AtomicBool::new(false) });
        Ok(ids.into_iter().map(|cache_id| Place { cache_id, parent, entry: entry.clone() }).collect())
    }
}

impl Place {
    /// Ends a place whose folder could not be removed: the journal keeps the note.
    pub(crate) fn leave(self) {
        self.entry.left.store(true, Relaxed);
    }

    /// Ends places whose folders are named on disk, or gone: those that were noted apart for about the price of one too.
    pub(crate) fn done_all(places: Vec<Self>) -> Result<(), Error> {
        let ended = places.into_iter().filter_map(|place| Arc::into_inner(place.entry));
        Ok(Intent::done_all(ended.filter_map(|mut entry| entry.end()).collect())?)
    }
}

impl Entry {
    /// The intent, to be ended; none where it has to stay.
    fn end(&mut self) -> Option<Intent> {
        self.intent.take().filter(|_| !*self.left.get_mut())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.end().map(Intent::done) {
            tracing::warn!(%error, "a finished unpacking stays in the journal until the store is settled");
        }
    }
}
