//! Opening, looking up, listing.

use std::{
    fs::File,
    io::{BufReader, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use strata_archive::split::{Check, Files, assemble_from};
use strata_durable::{Context, Journal, Lock, create_dir_all, lock::Mode};
use strata_graphdriver::GraphDriver;
use strata_spec::{CacheId, ChainId, DiffId, ErrorKind};

use crate::{
    BuildCache, Error, Layout,
    layout::{FolderName, damaged},
};

/// What a store is opened with.
pub struct Config<'a> {
    /// The data root.
    pub root: &'a Path,
    pub driver: Arc<dyn GraphDriver>,
    /// `strata/journal`: unpacking and creating mounts write intents there.
    pub journal: Journal,
    /// `strata/locks`.
    pub locks: &'a Path,
}

/// The layer store of one driver on one data root.
pub struct Store {
    pub(crate) driver: Arc<dyn GraphDriver>,
    pub(crate) layout: Layout,
    pub(crate) journal: Journal,
    pub(crate) locks: PathBuf,
    /// `strata/damaged`: what stood in a new layer's way.
    pub(crate) aside: PathBuf,
    /// The data root.
    root: PathBuf,
}

/// A committed read-only layer, as its folder in layerdb says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub chain_id: ChainId,
    pub diff_id: DiffId,
    pub parent: Option<ChainId>,
    pub cache_id: CacheId,
    /// Bytes of this layer alone.
    pub size: u64,
}

impl Store {
    /// Opens the store; makes its folders when the root is writable. Costs the same however much it holds.
    pub fn open(config: Config<'_>) -> Result<Self, Error> {
        let store = Self {
            layout: Layout::new(config.root, config.driver.name()),
            driver: config.driver,
            journal: config.journal,
            locks: config.locks.to_owned(),
            aside: config.root.join("strata").join("damaged"),
            root: config.root.to_owned(),
        };
        // As Docker makes them: `image` and below closed, what is in layerdb open.
        let folders = [
            (store.layout.root.clone(), 0o700),
            (store.layout.layers(), 0o755),
            (store.layout.mounts(), 0o755),
            (store.layout.tmp(), 0o755),
            (store.locks.clone(), 0o700),
        ];
        for (path, mode) in folders {
            if path.is_dir() || !store.is_writable() {
                continue;
            }
            match create_dir_all(&path, mode) {
                Err(error) if !matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::PermissionDenied) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(store)
    }

    /// Whether this store may be changed: its journal can be written.
    pub fn is_writable(&self) -> bool {
        self.journal.is_writable()
    }

    /// Reads what the root's build cache holds.
    pub fn build_cache(&self) -> BuildCache {
        BuildCache::read(&self.root)
    }

    pub fn driver(&self) -> &Arc<dyn GraphDriver> {
        &self.driver
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The most layers that an image may have, so that a container of it can be mounted: one place is the init layer's.
    pub fn max_layers(&self) -> usize {
        self.driver.max_depth() - 1
    }

    /// Looks one layer up. `NotFound` if there is none; `Damaged`, naming the file, if its folder is not whole.
    pub fn get(&self, id: ChainId) -> Result<Layer, Error> {
        self.layout.read_layer(id)
    }

    /// All ChainIDs in layerdb (one readdir), in no order.
    pub fn list(&self) -> Result<Vec<ChainId>, Error> {
        let names: Vec<FolderName> = self.layout.names(&self.layout.layers())?;
        Ok(names.into_iter().map(|name| name.0).collect())
    }

    /// The layers from `top` down to the base.
    pub fn chain(&self, top: ChainId) -> Result<Vec<Layer>, Error> {
        let mut layers: Vec<Layer> = Vec::new();
        let mut next = Some(top);
        while let Some(id) = next {
            // A ChainID is a hash of its parent's: there are no circles.
            let layer = match (self.get(id), layers.last()) {
                (Err(Error::NotFound(_)), Some(above)) => {
                    let path = self.layout.layer(above.chain_id).join("parent");
                    return Err(damaged(&path, format!("the layer {id} that it names is not in the store")));
                }
                (result, _) => result?,
            };
            next = layer.parent;
            layers.push(layer);
        }
        Ok(layers)
    }

    /// All layers with this DiffID, over whatever parents. Reads a file of every layer.
    pub fn find_by_diff(&self, diff: DiffId) -> Result<Vec<ChainId>, Error> {
        let mut ids = self.list()?;
        ids.retain(|id| self.layout.read_diff(*id).is_ok_and(|found| found == diff));
        Ok(ids)
    }

    /// Writes the exact tar of layer `id`; fails if its files are no longer what they were when it was registered.
    ///
    /// What is checked is the length and CRC-64 of each file against the layer's record, and the record by the CRC-32 of its gzip stream:
    /// no damage passes. The digest of the whole is not computed, as Docker does not: it would take more time than all else together, and
    /// catches one thing more, files and record that were both replaced by those of another layer. That is for whoever reads the tar,
    /// because it is named by its DiffID, and for [`verify`](Self::verify).
    pub fn write_tar(&self, id: ChainId, out: impl Write) -> Result<(), Error> {
        let layer = self.get(id)?;
        self.assemble(&layer, out, Check::Crc).map(drop)
    }

    /// Rebuilds the layer's tar from its files and returns the tar's digest, if `check` asks for it.
    pub(crate) fn assemble(&self, layer: &Layer, out: impl Write, check: Check) -> Result<Option<DiffId>, Error> {
        let path = self.layout.tar_split(layer.chain_id);
        let split = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(damaged(&path, "the file is missing; get the image again"));
            }
            result => result.context("open", &path)?,
        };
        let tree = self.driver.tree(&layer.cache_id)?;
        let files = Files::open(&tree)?;
        Ok(assemble_from(BufReader::new(split), files, out, check)?.diff_id)
    }

    /// The lock under which layerdb changes. Held for moments.
    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        Ok(Lock::acquire(&self.locks.join("layers"), Mode::Exclusive)?)
    }
}
