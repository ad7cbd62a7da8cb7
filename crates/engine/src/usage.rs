//! `system df`: how much images and containers take, each byte counted once.
//!
//! Source: moby 20.10, `daemon/disk_usage.go`; docker/cli `formatter/disk_usage.go`.

use std::collections::{HashMap, HashSet};

use strata_container::ps;
use strata_image::{Summary, tags::Names};
use strata_spec::{ChainId, ImageId, Reference};

use crate::{DriverStores, Error, Root, containers::ContainerQuery};

/// What a data root holds under one storage driver.
#[derive(Clone, Debug)]
pub struct DriverUsage {
    pub driver: String,
    /// Bytes of all layers, each once.
    pub layers_size: u64,
    pub images: Vec<ImageUsage>,
    /// With their sizes, where those are known; the newest first.
    pub containers: Vec<ps::Summary>,
}

#[derive(Clone, Debug)]
pub struct ImageUsage {
    pub summary: Summary,
    /// Its first tag.
    pub tag: Option<Reference>,
    /// Bytes of its layers that other images have too.
    pub shared: u64,
    /// Containers made from it.
    pub containers: usize,
}

#[derive(Clone, Debug)]
pub struct VolumeUsage {
    pub name: String,
    pub size: u64,
    /// Containers that mount it.
    pub containers: usize,
}

impl DriverUsage {
    /// Bytes that would be free without the images that no container uses.
    pub fn reclaimable_images(&self) -> u64 {
        let used: u64 = self.images.iter().filter(|i| i.containers > 0).map(|i| i.summary.size - i.shared).sum();
        self.layers_size.saturating_sub(used)
    }
}

impl Root {
    /// Adds up what lies under each driver. One that fails hides no other; its error is told apart.
    pub fn usage(&self) -> Result<(Vec<DriverUsage>, Vec<Error>), Error> {
        let query = ContainerQuery { all: true, sizes: true, ..ContainerQuery::default() };
        let containers = self.list_containers(&query)?.rows;
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for stores in self.stores() {
            // Damaged names stop nothing but names.
            let names = stores.images().tags().read().unwrap_or_else(|error| {
                failures.push(Error::Unread { driver: stores.driver(), why: error.to_string() });
                Names::default()
            });
            match self.usage_under(stores, &names, &containers) {
                Ok(usage) => found.push(usage),
                Err(error) if self.has_several_drivers() => {
                    failures.push(Error::Unread { driver: stores.driver(), why: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok((found, failures))
    }

    fn usage_under(
        &self,
        stores: &DriverStores,
        names: &Names,
        containers: &[ps::Summary],
    ) -> Result<DriverUsage, Error> {
        let mut named = stores.name_images(names)?.0;
        // Untagged parents are no images of their own to Docker.
        named.retain(|named| !named.is_intermediate());
        let (tags, summaries): (Vec<_>, Vec<_>) = named
            .into_iter()
            .map(|named| (named.references.into_iter().find(|name| name.tag().is_some()), named.image))
            .unzip();
        let possible = self.possible_users_of(stores)?;
        let layers = layer_usage(stores, &summaries)?;
        let images = summaries
            .into_iter()
            .zip(tags)
            .map(|(summary, tag)| ImageUsage {
                tag,
                shared: layers.shared_by(&summary),
                containers: possible.iter().filter(|user| user.image == Some(summary.id)).count(),
                summary,
            })
            .collect();
        Ok(DriverUsage {
            driver: stores.driver().to_owned(),
            layers_size: layers.sizes.values().map(|(size, _)| size).sum(),
            images,
            containers: containers.iter().filter(|row| row.driver == stores.driver()).cloned().collect(),
        })
    }

    /// Adds up the volumes, named and anonymous ones.
    pub fn volume_usage(&self) -> Result<Vec<VolumeUsage>, Error> {
        let mounted: Vec<String> = self
            .containers()
            .records()?
            .into_iter()
            .flat_map(|record| record.mount_points.into_values().map(|mount| mount.name))
            .collect();
        let usage = |name: String| VolumeUsage {
            size: strata_graphdriver::tree_size(&self.containers().layout().volume_data(&name)).unwrap_or(0),
            containers: mounted.iter().filter(|mounted| **mounted == name).count(),
            name,
        };
        Ok(self.containers().volumes()?.into_iter().map(usage).collect())
    }
}

fn layer_usage(stores: &DriverStores, images: &[Summary]) -> Result<LayerUsage, Error> {
    let mut usage = LayerUsage::default();
    for chain in stores.layers().list()? {
        // A damaged layer has no size to count; `fsck` reports it.
        if let Ok(layer) = stores.layers().get(chain) {
            usage.sizes.insert(chain, (layer.size, layer.parent));
        }
    }
    for image in images {
        for chain in usage.below(image.chain) {
            usage.users.entry(chain).or_default().insert(image.id);
        }
    }
    Ok(usage)
}

#[derive(Default)]
struct LayerUsage {
    sizes: HashMap<ChainId, (u64, Option<ChainId>)>,
    users: HashMap<ChainId, HashSet<ImageId>>,
}

impl LayerUsage {
    /// `top` and the layers below it.
    fn below(&self, top: Option<ChainId>) -> Vec<ChainId> {
        std::iter::successors(top, |id| self.sizes.get(id).and_then(|(_, parent)| *parent))
            .take(self.sizes.len())
            .collect()
    }

    fn shared_by(&self, image: &Summary) -> u64 {
        self.below(image.chain)
            .iter()
            .filter(|chain| self.users.get(chain).is_some_and(|users| users.len() > 1))
            .filter_map(|chain| self.sizes.get(chain))
            .map(|(size, _)| size)
            .sum()
    }
}
