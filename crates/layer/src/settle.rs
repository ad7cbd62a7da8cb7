//! What dead operations left is undone or finished.

use std::collections::HashSet;

use strata_durable::sweep_tmp;
use strata_spec::{CacheId, ChainId};

use crate::{Error, Note, Store, lease::Registered};

impl Store {
    /// Undoes or finishes what the notes of a dead operation say. Notes of other stores are passed over. Doing it twice, or being
    /// killed in between, is no harm.
    ///
    /// `needed` says whether an image names a layer: one that the dead operation registered goes unless something needs it.
    /// For `Journal::settle`, which calls this under the dead operation's lock. Where a dockerd lives on the root, neither this nor
    /// [`Store::sweep`] may be called.
    pub fn settle(&self, entry: &[serde_json::Value], needed: &dyn Fn(ChainId) -> bool) -> Result<(), Error> {
        let notes: Vec<Note> = entry.iter().map(Note::of).filter(|note| self.concerns(note)).collect();
        if notes.is_empty() {
            return Ok(());
        }
        let unpacked = |note: &Note| match note {
            Note::Unpack { cache_id, .. } => Some(cache_id.clone()),
            _ => None,
        };
        self.drop_folders(&notes.iter().filter_map(unpacked).collect::<Vec<_>>())?;
        for note in notes.iter().rev() {
            match note {
                Note::Register { layers, .. } => self.settle_registered(layers, entry, needed)?,
                Note::Mount { container, mount_id, .. } => match self.mount(container) {
                    // It was made whole; whether its container was is for the container's own notes to say.
                    Ok(layer) if layer.mount_id == *mount_id => {}
                    Ok(_) | Err(Error::MountNotFound(_) | Error::Damaged { .. }) => {
                        self.drop_folders(&[mount_id.clone(), mount_id.init()])?;
                    }
                    Err(error) => return Err(error),
                },
                Note::Unmount { container, folders, .. } => match self.mount(container) {
                    // Its record still stands: nothing had happened.
                    Ok(layer) if folders.contains(&layer.mount_id) => {}
                    _ => self.drop_folders(folders)?,
                },
                Note::Release { layers, .. } => {
                    let folders: Vec<CacheId> = layers.iter().filter_map(|layer| layer.cache_id.clone()).collect();
                    self.drop_folders(&folders)?;
                }
                Note::Unpack { .. } | Note::Lease { .. } | Note::Hold { .. } | Note::Other => {}
            }
        }
        self.driver.tidy()?;
        self.sweep()
    }

    fn settle_registered(
        &self,
        layers: &[Registered],
        entry: &[serde_json::Value],
        needed: &dyn Fn(ChainId) -> bool,
    ) -> Result<(), Error> {
        for layer in layers.iter().rev() {
            let ours = self.layout.read_cache_id(layer.chain_id).ok();
            if ours.is_some() && ours == layer.cache_id {
                self.release_but(entry, layer.chain_id, needed)?;
            }
        }
        let folders: Vec<CacheId> = layers.iter().filter_map(|layer| layer.cache_id.clone()).collect();
        self.drop_folders(&folders)
    }

    /// Removes the folders that no layer and no container names and that no live operation works on.
    pub(crate) fn drop_folders(&self, folders: &[CacheId]) -> Result<(), Error> {
        let mut left: Vec<&CacheId> = folders.iter().filter(|id| self.driver.exists(id)).collect();
        if left.is_empty() {
            return Ok(());
        }
        {
            let _lock = self.lock()?;
            let named = self.named()?;
            left.retain(|id| !named.contains(*id));
        }
        for id in left {
            self.driver.remove(id)?;
            tracing::info!(folder = %id, "removed what an interrupted operation left");
        }
        Ok(())
    }

    /// Every folder that a layer or a container names.
    fn named(&self) -> Result<HashSet<CacheId>, Error> {
        let mut named = HashSet::new();
        for id in self.list()? {
            named.extend(self.layout.read_cache_id(id).ok());
        }
        for container in self.list_mounts()? {
            if let Ok(mount) = self.mount(&container) {
                named.extend(mount.init_id);
                named.insert(mount.mount_id);
            }
        }
        Ok(named)
    }

    /// Deletes what dead processes left half-made or half-deleted in `tmp`; what live ones work on stays. Costs nothing where there is
    /// nothing: for every opening of the store that may write.
    pub fn sweep(&self) -> Result<(), Error> {
        sweep_tmp(&self.layout.tmp())?;
        Ok(self.driver.sweep()?)
    }
}
