//! `system df`: how much images and containers take, each byte counted once.
//!
//! Source: moby 20.10, `daemon/disk_usage.go`; docker/cli `formatter/disk_usage.go`.

use std::collections::{HashMap, HashSet};

use strata_image::Summary;
use strata_spec::{ChainId, ContainerId, ImageId};

use crate::{DriverStores, Error, Root};

/// What a data root holds under one storage driver.
#[derive(Clone, Debug)]
pub struct DriverUsage {
    pub driver: String,
    /// Bytes of all layers, each once.
    pub layers_size: u64,
    pub images: Vec<ImageUsage>,
    pub containers: Vec<ContainerUsage>,
}

#[derive(Clone, Debug)]
pub struct ImageUsage {
    pub summary: Summary,
    /// Bytes of its layers that other images have too.
    pub shared: u64,
    /// Containers made from it.
    pub containers: usize,
}

#[derive(Clone, Debug)]
pub struct ContainerUsage {
    pub id: ContainerId,
    pub running: bool,
    /// Bytes of its read-write layer.
    pub size: u64,
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
    /// Adds up what lies under the driver of `stores`.
    pub fn usage_under(&self, stores: &DriverStores) -> Result<DriverUsage, Error> {
        let listing = stores.images().images()?;
        let (users, possible) = (self.users_of(stores)?, self.possible_users_of(stores)?);
        let layers = layer_usage(stores, &listing.images)?;
        let images = listing
            .images
            .into_iter()
            .map(|summary| ImageUsage {
                shared: layers.shared_by(&summary),
                containers: possible.iter().filter(|user| user.image == Some(summary.id)).count(),
                summary,
            })
            .collect();
        let size = |id: &ContainerId| stores.layers().mount(id).and_then(|layer| layer.size(stores.layers()));
        let containers: Vec<_> = users
            .iter()
            .map(|user| ContainerUsage {
                id: user.container.clone(),
                running: user.running,
                size: size(&user.container).unwrap_or(0),
            })
            .collect();
        Ok(DriverUsage {
            driver: stores.driver().to_owned(),
            layers_size: layers.sizes.values().map(|(size, _)| size).sum(),
            images,
            containers,
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
        let dir = self.containers().layout().volumes();
        let Ok(entries) = std::fs::read_dir(&dir) else { return Ok(Vec::new()) };
        let mut volumes: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().join("_data").is_dir())
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                VolumeUsage {
                    size: strata_graphdriver::tree_size(&entry.path().join("_data")).unwrap_or(0),
                    containers: mounted.iter().filter(|mounted| **mounted == name).count(),
                    name,
                }
            })
            .collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
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
