//! `inspect` of an image, as `docker inspect` shows it.
//!
//! Source: moby 20.10, `api/types/types.go` (`ImageInspect`), `daemon/images/image_inspect.go`.

use std::collections::BTreeMap;

use serde::Serialize;
use strata_spec::{chain_id, config::RunConfig, time};

use crate::{Error, Root, resolve::Image};

/// The document, in Docker's field order.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageInspect {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub parent: String,
    pub comment: String,
    pub created: String,
    pub container: String,
    pub container_config: RunConfig,
    pub docker_version: String,
    pub author: String,
    pub config: Option<RunConfig>,
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes of all layers.
    pub size: u64,
    pub virtual_size: u64,
    pub graph_driver: GraphDriverData,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: Metadata,
}

/// Where the top layer lies.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriverData {
    /// Null where the driver has nothing to tell, as Docker's.
    pub data: Option<BTreeMap<String, String>>,
    pub name: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootFs {
    pub r#type: String,
    /// DiffIDs from the base up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    pub last_tag_time: String,
}

impl Root {
    /// Everything there is to tell about the image that `name` means.
    pub fn inspect_image(&self, name: &str) -> Result<ImageInspect, Error> {
        self.image_to_read(name)?.inspect()
    }
}

impl Image<'_> {
    fn inspect(self) -> Result<ImageInspect, Error> {
        let (id, images) = (self.id, self.stores.images());
        let config = images.get(id)?;
        let size = images.summarize(id)?.size;
        let names = images.tags().read()?.of(id);
        let document = config.document();
        let comment = match (document.comment.is_empty(), document.history.last()) {
            (true, Some(last)) => last.comment.clone(),
            _ => document.comment.clone(),
        };
        let (digests, tags): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.digest().is_some());
        let driver = self.stores.layers().driver();
        let data: BTreeMap<String, String> = match chain_id(config.diff_ids()) {
            Some(top) => driver.metadata(&self.stores.layers().get(top)?.cache_id)?.into_iter().collect(),
            None => BTreeMap::new(),
        };
        Ok(ImageInspect {
            id: id.to_string(),
            repo_tags: tags.iter().map(|name| name.familiar()).collect(),
            repo_digests: digests.iter().map(|name| name.familiar()).collect(),
            parent: images.parent(id)?.map(|parent| parent.to_string()).unwrap_or_default(),
            comment,
            created: document.created_at().map_or_else(|| time::ZERO.to_owned(), time::format),
            container: document.container.clone(),
            container_config: document.container_config.clone().unwrap_or_default(),
            docker_version: document.docker_version.clone(),
            author: document.author.clone(),
            config: document.config.clone(),
            architecture: document.architecture.clone(),
            variant: document.variant.clone(),
            os: document.os.clone(),
            os_version: document.os_version.clone(),
            size,
            virtual_size: size,
            graph_driver: GraphDriverData {
                data: Some(data).filter(|data| !data.is_empty()),
                name: driver.name().to_owned(),
            },
            root_fs: RootFs {
                r#type: "layers".to_owned(),
                layers: config.diff_ids().iter().map(ToString::to_string).collect(),
            },
            metadata: Metadata { last_tag_time: images.last_updated(id)?.unwrap_or_else(|| time::ZERO.to_owned()) },
        })
    }
}
