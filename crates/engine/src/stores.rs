//! The image and layer stores of one storage driver.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use strata_durable::Journal;
use strata_graphdriver::{Access, Closed, GraphDriver};
use strata_spec::{ChainId, ErrorKind, ImageId};

use crate::{DataRoot, Error, Purpose};

/// The image and layer stores of one storage driver of a root.
pub struct DriverStores {
    journal: Journal,
    layers: Arc<strata_layer::Store>,
    images: Arc<strata_image::Store>,
    /// The data root.
    root: PathBuf,
}

/// What the engine itself writes to the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op")]
pub(crate) enum Note {
    /// An image is being deleted, and with it the layers from `top` down that nothing else needs.
    #[serde(rename = "image.delete")]
    DeleteImage { driver: String, image: ImageId, top: Option<ChainId> },
    /// A note of a store.
    #[serde(other)]
    Other,
}

impl DriverStores {
    /// Opens the stores of the driver `name`; for writing, makes what is missing of them.
    pub(crate) fn open(data: &DataRoot, name: &str, journal: &Journal) -> Result<Self, Error> {
        let access = match data.purpose() {
            Purpose::Read => Access::ReadOnly,
            Purpose::Write => Access::ReadWrite,
        };
        Self::over(data, strata_graphdriver::open(name, data.path(), access)?, journal.clone())
    }

    /// Opens the records of the driver `name`, whose stores `error` keeps from being opened. Nothing can be written there.
    pub(crate) fn open_closed(data: &DataRoot, name: &str, error: &Error) -> Result<Self, Error> {
        let (why, kind) = match error {
            Error::Driver(strata_graphdriver::Error::UnknownDriver(_)) => {
                ("this build does not have it".to_owned(), ErrorKind::Unsupported)
            }
            other => (other.to_string(), other.kind()),
        };
        Self::over(data, Arc::new(Closed::new(name, data.path(), why, kind)), data.journal_reader())
    }

    fn over(data: &DataRoot, driver: Arc<dyn GraphDriver>, journal: Journal) -> Result<Self, Error> {
        let name = driver.name();
        let layers = Arc::new(strata_layer::Store::open(strata_layer::store::Config {
            root: data.path(),
            driver,
            journal: journal.clone(),
            locks: &data.locks(),
        })?);
        let images = Arc::new(strata_image::Store::open(strata_image::Config {
            root: data.path(),
            driver_name: name,
            layers: layers.clone(),
            locks: &data.locks(),
            cache: &data.cache(),
        })?);
        Ok(Self { journal, layers, images, root: data.path().to_owned() })
    }

    /// The storage driver's name.
    pub fn driver(&self) -> &'static str {
        self.layers.driver().name()
    }

    /// Fails if the layers' own files cannot be reached: then the records alone can be read.
    pub fn usable(&self) -> Result<(), Error> {
        Ok(self.layers.driver().usable()?)
    }

    pub fn layers(&self) -> &Arc<strata_layer::Store> {
        &self.layers
    }

    pub fn images(&self) -> &Arc<strata_image::Store> {
        &self.images
    }

    /// What a registry client works on.
    pub(crate) fn distribution(&self) -> strata_distribution::Stores<'_> {
        strata_distribution::Stores {
            images: &self.images,
            mappings: strata_distribution::mappings::Mappings::new(&self.root, self.driver()),
            content: strata_content::Store::new(&self.root.join("strata/content")),
        }
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
                tracing::warn!(%error, "layers stay: the images that need them cannot be read");
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
        self.forget_kept(image);
        intent.done()?;
        Ok(Some(released))
    }

    /// Removes what is kept for pushes of image `image`, which is gone. It can be fetched again, so a failure leaves it to the next sweep.
    pub(crate) fn forget_kept(&self, image: ImageId) {
        if let Err(error) = strata_distribution::kept::forget(&self.distribution(), image) {
            tracing::warn!(%image, %error, "what is kept for pushes of a removed image stays for now");
        }
    }
}
