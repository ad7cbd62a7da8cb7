//! The stores of one driver over one root.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use strata_durable::Journal;
use strata_graphdriver::Access;
use strata_spec::{ChainId, ImageId};

use crate::{Error, Purpose, Root};

/// Where an engine works.
#[derive(Clone, Debug)]
pub struct Options {
    pub data_root: PathBuf,
    /// Where running containers keep their state; a folder of this root's own below `/run/strata` if `None`.
    pub exec_root: Option<PathBuf>,
    /// The storage driver; the root's own if `None`.
    pub driver: Option<String>,
}

/// The stores of one storage driver over one data root.
pub struct Engine {
    root: Root,
    pub(crate) journal: Journal,
    layers: Arc<strata_layer::Store>,
    images: Arc<strata_image::Store>,
    containers: strata_container::Store,
}

/// What the engine itself writes to the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op")]
pub(crate) enum Note {
    /// An image is going, and with it the layers from `top` down that nothing else needs.
    #[serde(rename = "image.delete")]
    DeleteImage { driver: String, image: ImageId, top: Option<ChainId> },
    /// A note of a store.
    #[serde(other)]
    Other,
}

impl Engine {
    /// Opens the stores of one driver; for writing, what dead processes left is settled first, under whatever driver.
    ///
    /// Costs the same however much the root holds, unless there is something to settle.
    pub fn open(options: &Options, purpose: Purpose) -> Result<Self, Error> {
        let engine = Self::unsettled(options, purpose)?;
        crate::settle::settle(std::slice::from_ref(&engine), options)?;
        Ok(engine)
    }

    /// The same, but that nothing is settled.
    pub(crate) fn unsettled(options: &Options, purpose: Purpose) -> Result<Self, Error> {
        let root = Root::open(&options.data_root, options.driver.as_deref(), purpose)?;
        let access = match purpose {
            Purpose::Read => Access::ReadOnly,
            Purpose::Write => Access::ReadWrite,
        };
        let driver = strata_graphdriver::open(root.driver(), root.path(), access)?;
        let journal = root.journal()?;
        let layers = Arc::new(strata_layer::Store::open(strata_layer::store::Config {
            root: root.path(),
            driver,
            journal: journal.clone(),
            locks: &root.locks(),
        })?);
        let images = Arc::new(strata_image::Store::open(strata_image::Config {
            root: root.path(),
            driver_name: root.driver(),
            layers: layers.clone(),
            locks: &root.locks(),
            cache: &root.cache(),
        })?);
        let exec_root = options.exec_root.clone();
        let containers = strata_container::Store::open(strata_container::store::Config {
            root: root.path(),
            layers: layers.clone(),
            journal: journal.clone(),
            locks: &root.locks(),
            exec_root: exec_root.unwrap_or_else(|| strata_container::store::default_exec_root(root.path())),
            access,
        })?;
        Ok(Self { root, journal, layers, images, containers })
    }

    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The storage driver's name.
    pub fn driver(&self) -> &str {
        self.root.driver()
    }

    pub fn layers(&self) -> &Arc<strata_layer::Store> {
        &self.layers
    }

    pub fn images(&self) -> &Arc<strata_image::Store> {
        &self.images
    }

    pub fn containers(&self) -> &strata_container::Store {
        &self.containers
    }

    /// Whether an image stands on layer `chain` itself; the layers below are held by those above.
    ///
    /// Asked anew each time, under the layer store's lock: an image that was made a moment ago counts.
    pub(crate) fn needs(&self, chain: ChainId) -> bool {
        match self.images.needed() {
            Ok(needed) => {
                if let Some(damage) = needed.damaged.first() {
                    tracing::warn!(image = %damage.id, reason = %damage.reason, "layers stay: a damaged image may need them");
                }
                !needed.damaged.is_empty() || needed.tops.contains(&chain)
            }
            Err(error) => {
                tracing::warn!(%error, "layers stay: it cannot be told which are needed");
                true
            }
        }
    }

    /// Removes the layers from `top` down that no image, container or running operation needs.
    pub(crate) fn release(&self, top: ChainId) -> Result<Vec<ChainId>, Error> {
        Ok(self.layers.release(top, &|chain| self.needs(chain))?)
    }

    /// Removes image `image`, which nobody names, with its own layers, and returns those; completed by the next opener after a crash.
    ///
    /// `None` if it was given a name meanwhile: then it stays.
    pub(crate) fn delete_image(&self, image: ImageId, top: Option<ChainId>) -> Result<Option<Vec<ChainId>>, Error> {
        let intent = self.journal.begin(&Note::DeleteImage { driver: self.driver().to_owned(), image, top })?;
        if !self.images.delete_unnamed(image)? {
            intent.done()?;
            return Ok(None);
        }
        let released = top.map(|top| self.release(top)).transpose()?.unwrap_or_default();
        intent.done()?;
        strata_distribution::platforms::sweep(&self.stores())?;
        Ok(Some(released))
    }
}
