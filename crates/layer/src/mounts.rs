//! `mounts/<container ID>`: a container's init and read-write layer.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use strata_archive::diff::Change;
use strata_durable::{Context, Intent, NewDir, remove_dir, trace::content};
use strata_graphdriver::{Access, Mounted, Parent};
use strata_spec::{CacheId, ChainId, ContainerId};

use crate::{Error, Note, Store};

/// A container's read-write layer over its init layer over its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RwLayer {
    pub container: ContainerId,
    /// The read-write layer's folder.
    pub mount_id: CacheId,
    /// The init layer's folder, between image and read-write layer.
    pub init_id: Option<CacheId>,
    /// The image's top layer.
    pub parent: Option<ChainId>,
}

impl Store {
    /// Makes the read-write layer of `container` over `parent`, with an init layer that `init` fills through its mounted root.
    /// All of it is there and on disk when this returns, or nothing. After a crash, too: the record in `mounts` appears whole, last.
    ///
    /// The folders' names are told by the container's ID: where syncs are put off, since the journal says of the container that it is
    /// being made, [`Store::remove_unfinished_mount`] finds whatever a crash leaves.
    pub fn create_mount(
        &self,
        container: &ContainerId,
        parent: Option<ChainId>,
        init: impl FnOnce(&Path) -> Result<(), strata_durable::Error>,
    ) -> Result<RwLayer, Error> {
        let mount_id = folder_of(container);
        let layer = RwLayer { container: container.clone(), init_id: Some(mount_id.init()), mount_id, parent };
        let (intent, below) = {
            let _lock = self.lock()?;
            if self.layout.mount(container).exists() {
                return Err(Error::MountExists(container.clone()));
            }
            let below = parent.map(|id| self.get(id)).transpose()?.map(|layer| layer.cache_id);
            let (driver, mount_id) = (self.driver_name(), layer.mount_id.clone());
            (self.journal.begin(&Note::Mount { driver, container: container.clone(), mount_id, parent })?, below)
        };
        let made = self.make_folders(&layer, below.as_ref(), init).and_then(|()| self.record(&layer));
        match made {
            Ok(()) => {
                end(intent);
                tracing::info!(%container, mount = %layer.mount_id, "read-write layer made");
                Ok(layer)
            }
            Err(error) => {
                // If that fails too, the intent stays, and whoever settles the journal tries again.
                if self.remove_folders(&[layer.mount_id.clone(), layer.mount_id.init()]).is_ok() {
                    end(intent);
                }
                Err(error)
            }
        }
    }

    fn make_folders(
        &self,
        layer: &RwLayer,
        below: Option<&CacheId>,
        init: impl FnOnce(&Path) -> Result<(), strata_durable::Error>,
    ) -> Result<(), Error> {
        let init_id = layer.mount_id.init();
        self.driver.create(&init_id, below.map_or(Parent::None, Parent::Of), Access::ReadWrite)?;
        let root = self.driver.mount(&init_id, Access::ReadWrite)?;
        init(root.path())?;
        content(root.path());
        drop(root);
        self.driver.create(&layer.mount_id, Parent::Of(&init_id), Access::ReadWrite)?;
        Ok(self.driver.sync()?)
    }

    fn record(&self, layer: &RwLayer) -> Result<(), Error> {
        let mut record = NewDir::begin(&self.layout.tmp(), 0o755)?;
        record.write("mount-id", layer.mount_id.as_str().as_bytes(), 0o644)?;
        if let Some(init_id) = &layer.init_id {
            record.write("init-id", init_id.as_str().as_bytes(), 0o644)?;
        }
        if let Some(parent) = layer.parent {
            record.write("parent", parent.to_string().as_bytes(), 0o644)?;
        }
        record.commit(&self.layout.mount(&layer.container)).map_err(|error| match error.source.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
                Error::MountExists(layer.container.clone())
            }
            _ => error.into(),
        })
    }

    /// Looks a container's layers up. `MountNotFound` if it has none; `Damaged`, naming the file, if its record is not whole.
    pub fn mount(&self, container: &ContainerId) -> Result<RwLayer, Error> {
        self.layout.read_mount(container)
    }

    /// All containers that have a read-write layer, in no order.
    pub fn list_mounts(&self) -> Result<Vec<ContainerId>, Error> {
        self.layout.names(&self.layout.mounts())
    }

    /// Removes the read-write and the init layer, unmounting what is mounted; one that is not there is no error.
    ///
    /// The record goes first: after a crash either all is there, or the journal says what is to be removed.
    pub fn remove_mount(&self, container: &ContainerId) -> Result<(), Error> {
        let dir = self.layout.mount(container);
        if !dir.exists() {
            return Ok(());
        }
        let folders = match self.mount(container) {
            Ok(layer) => [Some(layer.mount_id), layer.init_id].into_iter().flatten().collect(),
            Err(Error::MountNotFound(_)) => return Ok(()),
            Err(Error::Damaged { path, reason }) => {
                tracing::warn!(%container, path = %path.display(), reason, "removing a damaged record");
                folders_of_damaged(&dir)
            }
            Err(error) => return Err(error),
        };
        let note = Note::Unmount { driver: self.driver_name(), container: container.clone(), folders };
        let intent = self.journal.begin(&note)?;
        remove_dir(&dir, &self.layout.tmp())?;
        let Note::Unmount { folders, .. } = note else { unreachable!("made above") };
        self.remove_folders(&folders)?;
        end(intent);
        tracing::info!(%container, "read-write layer removed");
        Ok(())
    }

    /// Removes what a crash left of what [`Store::create_mount`] made, syncs put off; nothing is no error.
    pub fn remove_unfinished_mount(&self, container: &ContainerId) -> Result<(), Error> {
        self.remove_mount(container)?;
        let id = folder_of(container);
        self.drop_folders(&[id.init(), id])?;
        Ok(self.driver.tidy()?)
    }

    pub(crate) fn remove_folders(&self, folders: &[CacheId]) -> Result<(), Error> {
        folders.iter().try_for_each(|id| Ok(self.driver.remove(id)?))
    }
}

/// The folder of a container's read-write layer, as we name it.
fn folder_of(container: &ContainerId) -> CacheId {
    container.as_str().parse().expect("both are 64 hex digits")
}

/// Whichever of the two IDs still can be read gives both.
pub(crate) fn folders_of_damaged(dir: &Path) -> Vec<CacheId> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok()?.parse::<CacheId>().ok();
    let mount_id = read("mount-id").or_else(|| read("init-id")?.as_str().trim_end_matches("-init").parse().ok());
    mount_id.map_or_else(Vec::new, |id| vec![id.clone(), id.init()])
}

/// Ends an operation that is done; if that cannot be written, settling the journal finds nothing left to do.
pub(crate) fn end(intent: Intent) {
    if let Err(error) = intent.done() {
        tracing::warn!(%error, "a finished operation stays in the journal until the store is settled");
    }
}

/// The name of a new folder.
pub(crate) fn random_id() -> Result<CacheId, Error> {
    let random = strata_sys::process::random().context("get random bytes for", "a layer's folder")?;
    Ok(CacheId::from_random(random))
}

impl RwLayer {
    /// Mounts the container's root.
    pub fn mount(&self, store: &Store, access: Access) -> Result<Mounted, Error> {
        Ok(store.driver.mount(&self.mount_id, access)?)
    }

    /// Lets the container's root take at most `bytes`, the image included.
    pub fn limit(&self, store: &Store, bytes: u64) -> Result<(), Error> {
        Ok(store.driver.limit(&self.mount_id, bytes)?)
    }

    /// What the container changed over its init layer.
    pub fn changes(&self, store: &Store) -> Result<Vec<Change>, Error> {
        Ok(store.driver.changes(&self.mount_id, self.below(store)?.as_ref())?)
    }

    /// Writes what the container changed over its init layer as a layer's tar.
    pub fn diff(&self, store: &Store, out: &mut (dyn Write + Send)) -> Result<(), Error> {
        Ok(store.driver.diff(&self.mount_id, self.below(store)?.as_ref(), out)?)
    }

    /// Bytes that the container wrote, as `docker ps --size` counts.
    pub fn size(&self, store: &Store) -> Result<u64, Error> {
        Ok(store.driver.diff_size(&self.mount_id, self.below(store)?.as_ref())?)
    }

    /// The folder that the read-write layer stands on.
    fn below(&self, store: &Store) -> Result<Option<CacheId>, Error> {
        match (&self.init_id, self.parent) {
            (Some(init), _) => Ok(Some(init.clone())),
            (None, Some(parent)) => Ok(Some(store.get(parent)?.cache_id)),
            (None, None) => Ok(None),
        }
    }
}
