//! What nobody needs goes: stopped containers, images without a name or without a user.
//!
//! Source: moby 20.10, `daemon/prune.go`, `daemon/images/image_prune.go`.

use std::collections::HashMap;

use jiff::Timestamp;
use strata_spec::{ChainId, ImageId, chain_ids};

use crate::{
    DriverStores, Error, Root,
    filter::Filters,
    remove::{RemoveOptions, Removed},
};

/// Filters that pruning containers knows.
const CONTAINER_FILTERS: &[&str] = &["until", "label", "label!"];
/// Filters that pruning images knows.
const IMAGE_FILTERS: &[&str] = &["until", "label", "label!", "dangling"];

/// What a prune took away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned<T> {
    pub items: Vec<T>,
    /// Bytes of the layers that are gone.
    pub reclaimed: u64,
}

impl<T> Default for Pruned<T> {
    fn default() -> Self {
        Self { items: Vec::new(), reclaimed: 0 }
    }
}

impl Root {
    /// Removes the images that no tag names (all that no container uses, with `all`) and that `filters` let through.
    pub fn prune_images(&self, all: bool, filters: &Filters) -> Result<Pruned<Removed>, Error> {
        filters.only(IMAGE_FILTERS)?;
        let dangling_only = !all && filters.flag("dangling")?.unwrap_or(true);
        let until = filters.until(Timestamp::now())?;
        let stores = self.for_new()?;
        require_whole_records(stores)?;
        let (images, _) = stores.named_images()?;
        let mut pruned = Pruned::default();
        for named in &images {
            let (image, references) = (&named.image, &named.references);
            let young = until.is_some_and(|until| created(image.created.as_deref()).is_some_and(|time| time > until));
            if named.is_intermediate() || young || !filters.labels(|name| image.labels.get(name).map(String::as_str)) {
                continue;
            }
            if dangling_only && references.iter().any(|reference| reference.tag().is_some()) {
                continue;
            }
            let sizes = layer_sizes(stores, image.id);
            // Asked for each image: a container may have been made meanwhile.
            let users = self.possible_users_of(stores)?;
            let by_name = references.iter().map(|reference| {
                let name = reference.familiar();
                // The name may have come to mean another image.
                let id = stores.images().resolve(&name)?;
                stores.remove(&name, id, &users, RemoveOptions::default())
            });
            let results: Vec<_> = match references.is_empty() {
                // Not by its ID: that would take a name with it which it was given meanwhile.
                true => vec![stores.remove_unnamed(image.id, &users)],
                false => by_name.collect(),
            };
            for result in results {
                match result {
                    Ok(removed) => pruned.add(removed, &sizes),
                    // In use, or gone meanwhile: that is what prune leaves alone.
                    Err(error) => tracing::debug!(image = %image.id, %error, "not pruned"),
                }
            }
        }
        Ok(pruned)
    }

    /// Removes the containers that do not run and that `filters` let through; returns their IDs.
    pub fn prune_containers(&self, filters: &Filters) -> Result<Pruned<String>, Error> {
        filters.only(CONTAINER_FILTERS)?;
        let driver = self.for_new()?.driver();
        let until = filters.until(Timestamp::now())?;
        let mut pruned = Pruned::default();
        for container in self.containers().list()?.containers {
            let record = &container.record;
            let young = until.is_some_and(|until| created(Some(&record.created)).is_some_and(|time| time > until));
            let labels = record.config.labels.as_ref();
            if record.driver != driver
                || record.state.running
                || young
                || !filters.labels(|name| labels?.get(name).map(String::as_str))
            {
                continue;
            }
            let size = self.containers().size(&container).map_or(0, |size| size.rw);
            let options = strata_container::RemoveOptions { volumes: true, ..Default::default() };
            match self.remove_container_by_id(&container.id, options) {
                Ok(()) => {
                    pruned.items.push(container.id.to_string());
                    pruned.reclaimed += size;
                }
                Err(error) => tracing::debug!(container = %container.id, %error, "not pruned"),
            }
        }
        Ok(pruned)
    }
}

/// Fails while the record of a layer is lost that others stand on: what it stood on would count as unused.
fn require_whole_records(stores: &DriverStores) -> Result<(), Error> {
    match stores.layers().gaps()?.first() {
        None => Ok(()),
        Some(gap) => Err(Error::Conflict(format!(
            "nothing is pruned: the record of layer {gap} is missing, and other layers or containers stand on it; `fsck` names what heals it"
        ))),
    }
}

impl Root {
    /// Removes the volumes without a name of their own that no container has; returns their names.
    pub fn prune_volumes(&self) -> Result<Pruned<String>, Error> {
        let mut pruned = Pruned::default();
        for name in self.containers().unused_volumes()? {
            let size = strata_graphdriver::tree_size(&self.containers().layout().volume_data(&name)).unwrap_or(0);
            self.containers().remove_volume(&name)?;
            pruned.items.push(name);
            pruned.reclaimed += size;
        }
        Ok(pruned)
    }
}

fn layer_sizes(stores: &DriverStores, id: ImageId) -> HashMap<ChainId, u64> {
    let Ok(config) = stores.images().get(id) else { return HashMap::new() };
    chain_ids(config.diff_ids())
        .filter_map(|chain| stores.layers().get(chain).ok().map(|layer| (chain, layer.size)))
        .collect()
}

impl Pruned<Removed> {
    fn add(&mut self, removed: Vec<Removed>, sizes: &HashMap<ChainId, u64>) {
        for item in &removed {
            if let Removed::Deleted(id) = item
                && let Some(size) = id.parse().ok().and_then(|chain: ChainId| sizes.get(&chain))
            {
                self.reclaimed += size;
            }
        }
        self.items.extend(removed);
    }
}

pub(crate) fn created(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(|text| text.parse().ok())
}
