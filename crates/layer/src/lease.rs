//! What running operations hold, and waiting for one that makes the same layer.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use strata_durable::{Deferred, Intent, Lock, lock::Mode};
use strata_spec::{CacheId, ChainId, ContainerId, ErrorKind};

use crate::{Error, Layer, Store};

/// What an operation on layers writes to the journal before it does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op")]
pub enum Note {
    /// An operation begins that will hold layers.
    #[serde(rename = "layer.lease")]
    Lease { driver: String },
    /// A layer that must stay.
    #[serde(rename = "layer.hold")]
    Hold { driver: String, chain_id: ChainId },
    /// A folder is being filled; no layer names it yet.
    #[serde(rename = "layer.unpack")]
    Unpack { driver: String, cache_id: CacheId, parent: Option<ChainId> },
    /// Layers are being registered, from the base up, over `parent`; all must stay.
    #[serde(rename = "layer.register")]
    Register { driver: String, parent: Option<ChainId>, layers: Vec<Registered> },
    /// A container's layers are being made over `parent`, which must stay.
    #[serde(rename = "layer.mount")]
    Mount { driver: String, container: ContainerId, mount_id: CacheId, parent: Option<ChainId> },
    /// A container's layers are going.
    #[serde(rename = "layer.unmount")]
    Unmount { driver: String, container: ContainerId, folders: Vec<CacheId> },
    /// Layers are going, from the topmost down.
    #[serde(rename = "layer.release")]
    Release { driver: String, layers: Vec<Registered> },
    /// A note of another store.
    #[serde(other)]
    Other,
}

/// A layer and its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub chain_id: ChainId,
    /// Absent where the layer's folder in layerdb no longer tells.
    pub cache_id: Option<CacheId>,
}

impl Note {
    /// Reads a note of any store; what is not ours is [`Note::Other`].
    pub fn of(value: &serde_json::Value) -> Self {
        Self::deserialize(value).unwrap_or(Self::Other)
    }

    fn driver(&self) -> Option<&str> {
        match self {
            Self::Lease { driver }
            | Self::Hold { driver, .. }
            | Self::Unpack { driver, .. }
            | Self::Register { driver, .. }
            | Self::Mount { driver, .. }
            | Self::Unmount { driver, .. }
            | Self::Release { driver, .. } => Some(driver),
            Self::Other => None,
        }
    }

    /// The layers that must stay while the operation lives.
    fn holds(&self) -> Vec<ChainId> {
        match self {
            Self::Hold { chain_id, .. } => vec![*chain_id],
            Self::Unpack { parent, .. } | Self::Mount { parent, .. } => parent.iter().copied().collect(),
            Self::Register { parent, layers, .. } => {
                parent.iter().copied().chain(layers.iter().map(|layer| layer.chain_id)).collect()
            }
            Self::Lease { .. } | Self::Unmount { .. } | Self::Release { .. } | Self::Other => Vec::new(),
        }
    }

    /// The driver folders that the operation works on.
    fn folders(&self) -> Vec<CacheId> {
        match self {
            Self::Unpack { cache_id, .. } => vec![cache_id.clone()],
            Self::Register { layers, .. } | Self::Release { layers, .. } => {
                layers.iter().filter_map(|layer| layer.cache_id.clone()).collect()
            }
            Self::Mount { mount_id, .. } => vec![mount_id.clone(), mount_id.init()],
            Self::Unmount { folders, .. } => folders.clone(),
            Self::Lease { .. } | Self::Hold { .. } | Self::Other => Vec::new(),
        }
    }
}

/// What the operations that are alive need.
#[derive(Debug, Default)]
pub struct Alive {
    pub layers: HashSet<ChainId>,
    pub folders: HashSet<CacheId>,
}

/// Layers that must stay until something names them: taken before they are looked up or registered, ended when the image that
/// names them is on disk.
///
/// A lease speaks to the living: what a crash leaves of it holds nothing. So it need not be on disk before a layer is registered.
///
/// An operation that fails just drops its lease: layers that it registered stay noted in the journal, and the next
/// [`Store::settle`] removes those that nothing names.
#[must_use]
pub struct Lease<'a> {
    store: &'a Store,
    intent: Option<Intent>,
    registered: bool,
}

impl Store {
    /// Begins to hold layers.
    pub fn lease(&self) -> Result<Lease<'_>, Error> {
        let intent = unsynced(|| self.journal.begin(&Note::Lease { driver: self.driver_name() }))?;
        Ok(Lease { store: self, intent: Some(intent), registered: false })
    }

    pub(crate) fn driver_name(&self) -> String {
        self.driver.name().to_owned()
    }

    /// Whether a note speaks of this store.
    pub(crate) fn concerns(&self, note: &Note) -> bool {
        note.driver() == Some(self.driver.name())
    }

    /// What live operations hold, but for the entry `settled`, which is locked by whoever settles it. Complete only under the store's lock.
    pub(crate) fn alive(&self, settled: &[serde_json::Value]) -> Result<Alive, Error> {
        let mut alive = Alive::default();
        for entry in self.journal.alive::<serde_json::Value>()? {
            // No two entries are equal where it matters: they name folders by random IDs.
            if entry.notes == settled {
                continue;
            }
            for note in entry.notes.iter().map(Note::of).filter(|note| self.concerns(note)) {
                alive.layers.extend(note.holds());
                alive.folders.extend(note.folders());
            }
        }
        Ok(alive)
    }
}

impl Lease<'_> {
    /// Takes hold of a layer that is whole. `NotFound` or `Damaged` where it must be unpacked anew.
    pub fn hold(&mut self, id: ChainId) -> Result<Layer, Error> {
        let _lock = self.store.lock()?;
        let layer = self.store.whole(id)?;
        self.note(&Note::Hold { driver: self.store.driver_name(), chain_id: id })?;
        Ok(layer)
    }

    /// Takes hold of as many layers of an image, from the base up, as are there and whole; `chain` runs from the base up. All above
    /// them is to be unpacked, also where a layer is there: it does not stand on what will be made.
    pub fn hold_lowest(&mut self, chain: &[ChainId]) -> Result<Vec<Layer>, Error> {
        let _lock = self.store.lock()?;
        let mut layers = Vec::new();
        for id in chain {
            match self.store.whole(*id) {
                Ok(layer) => layers.push(layer),
                Err(Error::NotFound(_)) => break,
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    tracing::warn!(chain = %id, %error, "a damaged layer counts as absent");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        // The others stay for its sake.
        if let Some(top) = layers.last() {
            self.note(&Note::Hold { driver: self.store.driver_name(), chain_id: top.chain_id })?;
        }
        Ok(layers)
    }

    /// Notes what is held. What registers layers calls [`Store::sync`] before it does.
    pub(crate) fn note(&mut self, note: &Note) -> Result<(), Error> {
        self.registered |= matches!(note, Note::Register { .. });
        let intent = self.intent.as_mut().expect("a lease has its intent until it ends");
        Ok(unsynced(|| intent.note(note))?)
    }

    /// Ends the lease: something on disk names the layers now, or nothing needs them.
    pub fn done(mut self) -> Result<(), Error> {
        unsynced(|| self.intent.take().map_or(Ok(()), Intent::done))?;
        Ok(())
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.registered {
            return;
        }
        if let Some(Err(error)) = unsynced(|| self.intent.take().map(Intent::done)) {
            tracing::warn!(%error, "a lease stays until the store is settled");
        }
    }
}

fn unsynced<T>(change: impl FnOnce() -> T) -> T {
    Deferred::when(true).during(change)
}

/// The right to make certain layers; others who want one of them wait meanwhile, and then find it made.
#[derive(Debug)]
#[must_use]
pub struct Flight(Vec<Lock>);

impl Store {
    /// Waits until nobody, in this process or another, is making one of these layers. Look them up after, not before.
    ///
    /// Ask once for all that an operation may make: the locks are taken in one order, so two who want the same cannot wait for each other.
    pub fn flight(&self, layers: &[ChainId]) -> Result<Flight, Error> {
        let layers: BTreeSet<ChainId> = layers.iter().copied().collect();
        let path = |id: &ChainId| self.locks.join(format!("layer-{}", id.hex()));
        let locks = layers.iter().map(|id| Lock::acquire(&path(id), Mode::Exclusive));
        Ok(Flight(locks.collect::<Result<_, _>>()?))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        for lock in self.0.drain(..) {
            // One that stays is only a small file.
            let _ = lock.remove();
        }
    }
}
