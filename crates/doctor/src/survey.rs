//! Who uses what: the images and containers of a root, each with the layers that it stands on.

use std::collections::BTreeMap;

use serde::Serialize;
use strata_container::{HostConfig, Record};
use strata_image::tags::Names;
use strata_layer::RwLayer;
use strata_spec::{CacheId, ChainId, ContainerId, ImageConfig, ImageId, chain_ids};

use crate::{Stores, value::Problem};

/// An image by ID and names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageName {
    pub id: ImageId,
    /// As Docker shows them; empty for an untagged image.
    pub names: Vec<String>,
}

/// A container by ID and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerName {
    pub id: ContainerId,
    /// Absent if its record cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

pub(crate) struct ImageUse {
    pub name: ImageName,
    pub config: ImageConfig,
    /// From the base up.
    pub chains: Vec<ChainId>,
}

pub(crate) struct ContainerUse {
    pub name: ContainerName,
    /// Why there is no record, if so.
    pub record: Result<Record, Problem>,
    pub mount: Result<RwLayer, strata_layer::Error>,
}

/// Everything that uses layers. What is damaged is left out, and told in `problems`.
pub(crate) struct Survey {
    pub images: Vec<ImageUse>,
    pub containers: Vec<ContainerUse>,
    pub names: Names,
    pub problems: Vec<Problem>,
}

impl ImageName {
    /// The first name, or the short ID.
    pub fn short(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| self.id.short())
    }
}

impl ContainerName {
    /// The name, or the short ID.
    pub fn short(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.short().to_owned())
    }
}

impl Survey {
    pub fn of(stores: &Stores<'_>) -> Self {
        let mut problems = Vec::new();
        let names = stores.images.tags().read().unwrap_or_else(|error| {
            problems.push(problem(stores, &stores.images.layout().repositories(), error));
            Names::default()
        });
        let mut by_image = names.by_image();
        let mut images = Vec::new();
        let ids = stores.images.list().unwrap_or_else(|error| {
            problems.push(problem(stores, &stores.images.layout().contents(), error));
            Vec::new()
        });
        for id in ids {
            match stores.images.get(id) {
                Ok(config) => {
                    let names = by_image.remove(&id).unwrap_or_default().iter().map(|name| name.familiar()).collect();
                    let chains = chain_ids(config.diff_ids()).collect();
                    images.push(ImageUse { name: ImageName { id, names }, config, chains });
                }
                Err(error) => problems.push(problem(stores, &stores.images.layout().content(id), error)),
            }
        }
        let containers = containers(stores, &mut problems);
        Self { images, containers, names, problems }
    }

    pub fn image(&self, id: ImageId) -> Option<&ImageUse> {
        self.images.iter().find(|image| image.name.id == id)
    }

    pub fn container(&self, id: &ContainerId) -> Option<&ContainerUse> {
        self.containers.iter().find(|container| container.name.id == *id)
    }

    /// The container that a folder of the driver belongs to, as its read-write or init layer.
    pub fn owner_of_folder(&self, folder: &CacheId) -> Option<&ContainerUse> {
        self.containers.iter().find(|container| {
            let mount = container.mount.as_ref().ok();
            mount.is_some_and(|mount| mount.mount_id == *folder || mount.init_id.as_ref() == Some(folder))
        })
    }

    /// The images that have this layer.
    pub fn images_with(&self, chain: ChainId) -> Vec<ImageName> {
        self.images.iter().filter(|image| image.chains.contains(&chain)).map(|image| image.name.clone()).collect()
    }

    /// The containers that stand on this layer, directly or through others.
    pub fn containers_on(&self, stores: &Stores<'_>, chain: ChainId) -> Vec<ContainerName> {
        let mut reaches: BTreeMap<ChainId, bool> = BTreeMap::new();
        let mut stands = |container: &&ContainerUse| {
            let Some(top) = container.mount.as_ref().ok().and_then(|mount| mount.parent) else { return false };
            *reaches.entry(top).or_insert_with(|| {
                let mut next = Some(top);
                while let Some(id) = next.filter(|id| *id != chain) {
                    next = stores.layers.get(id).ok().and_then(|layer| layer.parent);
                }
                next.is_some()
            })
        };
        self.containers.iter().filter(|container| stands(container)).map(|container| container.name.clone()).collect()
    }
}

/// All containers that have a folder in `containers` or a mount in layerdb.
fn containers(stores: &Stores<'_>, problems: &mut Vec<Problem>) -> Vec<ContainerUse> {
    let mut ids = stores.containers.ids_under(stores.driver_name()).unwrap_or_else(|error| {
        problems.push(Problem { path: "containers".into(), reason: error.to_string() });
        Vec::new()
    });
    ids.extend(stores.layers.list_mounts().unwrap_or_default());
    ids.sort();
    ids.dedup();
    let container = |id: ContainerId| {
        let record = read_record(stores, &id);
        let mount = stores.layers.mount(&id);
        let name = record.as_ref().ok().map(|record| record.short_name().to_owned());
        ContainerUse { name: ContainerName { id, name }, record, mount }
    };
    ids.into_iter().map(container).collect()
}

/// Reads `config.v2.json`, or says what is wrong with it.
pub(crate) fn read_record(stores: &Stores<'_>, id: &ContainerId) -> Result<Record, Problem> {
    let path = stores.containers.layout().container(id).record();
    let fail = |reason| Problem { path: stores.show(&path), reason };
    let record = Record::parse(&read_document(&path).map_err(fail)?).map_err(|error| fail(error.to_string()))?;
    match record.id == id.as_str() {
        true => Ok(record),
        false => Err(fail(format!("speaks of container {}", crate::value::quote(&record.id)))),
    }
}

/// Reads `hostconfig.json`, or says what is wrong with it.
pub(crate) fn read_host_config(stores: &Stores<'_>, id: &ContainerId) -> Result<HostConfig, Problem> {
    let path = stores.containers.layout().container(id).host_config();
    let fail = |reason| Problem { path: stores.show(&path), reason };
    HostConfig::parse(&read_document(&path).map_err(fail)?).map_err(|error| fail(error.to_string()))
}

/// Bytes of the largest record of a container that is read.
const DOCUMENT: u64 = 8 << 20;

fn read_document(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "the file is missing".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    match metadata.len() {
        _ if !metadata.is_file() => Err("is not a regular file".into()),
        0 => Err("the file is empty, as after a power cut".into()),
        len if len > DOCUMENT => Err(format!("has {len} bytes, a record has at most {DOCUMENT}")),
        _ => std::fs::read(path).map_err(|error| format!("cannot be read: {error}")),
    }
}

/// An image store's error as a problem at its own path if it has one.
pub(crate) fn problem(stores: &Stores<'_>, path: &std::path::Path, error: strata_image::Error) -> Problem {
    use strata_image::Error;
    match error {
        Error::Damaged { path, reason } | Error::Layer(strata_layer::Error::Damaged { path, reason }) => {
            Problem { path: stores.show(&path), reason }
        }
        other => Problem { path: stores.show(path), reason: other.to_string() },
    }
}
