//! From what a user names to the object and the driver that has it.
//!
//! A container's name is given once for all drivers. An image may lie under several drivers of a root, the very same or another one of that
//! name: the driver that new things go to comes first, and where that is not decided the user must say which.

use std::collections::BTreeSet;

use strata_container::Container;
use strata_spec::{ErrorKind, ImageId};

use crate::{DriverStores, Error, Root};

/// An image that a user named.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    pub id: ImageId,
    /// The stores of the driver that has it.
    pub stores: &'a DriverStores,
}

/// What an image is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// The very same image will do under any driver.
    Read,
    /// Its driver must be certain, and work here.
    Change,
}

/// A driver that has an image of a name.
struct Hit<'a> {
    stores: &'a DriverStores,
    /// `None` if the name is the beginning of several IDs.
    id: Option<ImageId>,
}

impl Root {
    /// Finds the container that `text` names, and reads it.
    pub fn container(&self, text: &str) -> Result<Container, Error> {
        Ok(self.containers().get(text)?)
    }

    /// Finds the image that `text` names, to change it or to make something of it.
    pub fn image(&self, text: &str) -> Result<Image<'_>, Error> {
        let texts = [text.to_owned()];
        let stores = self.stores_with(&texts, Use::Change)?;
        stores.usable()?;
        Ok(Image { id: stores.images().resolve(text)?, stores })
    }

    /// Finds the image that `text` names, to look at it.
    pub fn image_to_read(&self, text: &str) -> Result<Image<'_>, Error> {
        let stores = self.stores_with(&[text.to_owned()], Use::Read)?;
        Ok(Image { id: stores.images().resolve(text)?, stores })
    }

    /// The driver that has all of these images, to look at them.
    pub fn stores_with_all(&self, texts: &[String]) -> Result<&DriverStores, Error> {
        self.stores_with(texts, Use::Read)
    }

    /// The driver that has the image that `text` names, or that one is to be pulled to.
    pub fn stores_with_or_for_new(&self, text: &str) -> Result<&DriverStores, Error> {
        let is_missing = |stores: &DriverStores| {
            stores.images().resolve(text).is_err_and(|error| error.kind() == ErrorKind::NotFound)
        };
        match self.hits(text) {
            Ok(hits) if hits.is_empty() => self.for_new(),
            // Damage under another driver keeps nobody from pulling.
            Err(Error::Image(_)) if is_missing(self.main()) => self.for_new(),
            _ => {
                let stores = self.stores_with(&[text.to_owned()], Use::Change)?;
                stores.usable()?;
                Ok(stores)
            }
        }
    }

    fn stores_with(&self, texts: &[String], wanted: Use) -> Result<&DriverStores, Error> {
        if !self.has_several_drivers() {
            return Ok(self.main());
        }
        let hits = texts.iter().map(|text| self.hits(text)).collect::<Result<Vec<_>, _>>()?;
        let ids = |stores: &DriverStores| {
            let under =
                |hits: &Vec<Hit<'_>>| hits.iter().find(|hit| std::ptr::eq(hit.stores, stores)).map(|hit| hit.id);
            hits.iter().map(under).collect::<Option<Vec<_>>>()
        };
        let found: Vec<_> = self.stores().iter().filter_map(|stores| Some((stores, ids(stores)?))).collect();
        let chosen = found.iter().find(|(stores, _)| self.chosen().is_some_and(|chosen| std::ptr::eq(*stores, chosen)));
        let same = || found.iter().all(|(_, ids)| *ids == found[0].1 && ids.iter().all(Option::is_some));
        match (chosen, found.as_slice()) {
            (Some((stores, _)), _) | (None, [(stores, _)]) => Ok(stores),
            // Of those that have the very same images, one whose layers can be reached.
            (None, [(first, _), ..]) if wanted == Use::Read && same() => {
                let usable = found.iter().map(|(stores, _)| *stores).find(|stores| stores.usable().is_ok());
                Ok(usable.unwrap_or(first))
            }
            (None, []) => self.apart(texts, &hits),
            (None, several) => {
                let several: Vec<&DriverStores> = several.iter().map(|(stores, _)| *stores).collect();
                Err(in_several(&texts.join(" "), &several))
            }
        }
    }

    /// The drivers that have an image that `text` may mean. If it is found, damage elsewhere does not matter.
    fn hits(&self, text: &str) -> Result<Vec<Hit<'_>>, Error> {
        let (mut hits, mut failed) = (Vec::new(), None);
        for stores in self.stores() {
            match stores.images().resolve(text) {
                Ok(id) => hits.push(Hit { stores, id: Some(id) }),
                Err(strata_image::Error::Ambiguous { .. }) => hits.push(Hit { stores, id: None }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let ids: BTreeSet<Option<ImageId>> = hits.iter().map(|hit| hit.id).collect();
        let are_beginnings = ids.iter().flatten().all(|id| id.hex().starts_with(digits));
        match failed {
            Some(error) if hits.is_empty() => Err(error.into()),
            _ if ids.len() > 1 && are_beginnings => {
                let stores: Vec<&DriverStores> = hits.iter().map(|hit| hit.stores).collect();
                Err(in_several(text, &stores))
            }
            _ => Ok(hits),
        }
    }

    /// No driver has all of these images.
    fn apart(&self, texts: &[String], hits: &[Vec<Hit<'_>>]) -> Result<&DriverStores, Error> {
        let all = || texts.iter().zip(hits);
        if let Some((missing, _)) = all().find(|(_, hits)| hits.is_empty()) {
            self.main().images().resolve(missing)?;
            return Ok(self.main());
        }
        let drivers = |hits: &[Hit<'_>]| hits.iter().map(|hit| hit.stores.driver()).collect::<Vec<_>>().join(" and ");
        let places: Vec<String> = all().map(|(text, hits)| format!("{text} under {}", drivers(hits))).collect();
        Err(Error::Apart(places.join(", ")))
    }
}

fn in_several(name: &str, stores: &[&DriverStores]) -> Error {
    let drivers = stores.iter().map(|stores| stores.driver()).collect::<Vec<_>>().join(", ");
    Error::InSeveral { name: name.to_owned(), drivers }
}
