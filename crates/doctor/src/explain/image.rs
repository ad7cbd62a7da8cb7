//! An image: from its ID to the mount line of a container of it.

use std::fmt;

use serde::Serialize;
use strata_spec::{ChainId, DiffId, ImageConfig, ImageId, chain_ids};

use super::facts::{LayerFacts, MountLine, has_links};
use crate::{
    Error, Stores,
    survey::{ContainerName, ImageName, Survey, problem},
    text::{Rows, bytes, indent, one_line, problems, short, uses},
    value::{Problem, Sourced},
};

/// An image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageExplanation {
    pub id: Sourced<ImageId>,
    pub names: Sourced<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    pub platform: String,
    /// The image that it was built or committed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Sourced<ImageId>>,
    /// Bytes of all layers, as far as they are known.
    pub size: u64,
    /// From the base up.
    pub layers: Vec<ImageLayer>,
    /// Of a container of it.
    /// What a container of it would mount; absent where the driver mounts nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<MountLine>,
    /// Containers made of it.
    pub containers: Vec<ContainerName>,
    pub problems: Vec<Problem>,
}

/// A layer in its image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageLayer {
    /// From 1, the base.
    pub number: usize,
    /// As the image's config names it.
    pub diff_id: Sourced<DiffId>,
    /// Computed from the DiffIDs of this layer and those below.
    pub chain_id: Sourced<ChainId>,
    /// Read from the layer store and the driver.
    pub facts: LayerFacts,
    /// The step of the history that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Other images that have it.
    pub shared_with: Vec<ImageName>,
}

pub(super) fn explain(stores: &Stores<'_>, survey: &Survey, id: ImageId) -> Result<ImageExplanation, Error> {
    let path = stores.images.layout().content(id);
    let mut found: Vec<Problem> = Vec::new();
    let config = match stores.images.get(id) {
        Ok(config) => Some(config),
        Err(error) => {
            found.push(problem(stores, &path, error));
            None
        }
    };
    let names_file = stores.images.layout().repositories();
    let names = survey.names.of(id).iter().map(|name| name.familiar()).collect();
    found.extend(survey.problems.iter().filter(|problem| problem.path == stores.show(&names_file)).cloned());
    let parent = stores.images.layout().parent(id);
    let parent = parent.exists().then(|| Sourced::of_file(stores, &parent));
    found.extend(parent.as_ref().and_then(Sourced::problem));
    let layers = config.as_ref().map(|config| layers(stores, survey, id, config)).unwrap_or_default();
    found.extend(layers.iter().flat_map(|layer| layer.facts.problems()));
    let containers = survey
        .containers
        .iter()
        .filter(|container| container.record.as_ref().is_ok_and(|record| record.image_id() == Some(id)));
    let document = config.as_ref().map(ImageConfig::document);
    Ok(ImageExplanation {
        id: Sourced::read(id, stores, &path, "sha256 of the file"),
        names: Sourced::read(names, stores, &names_file, "entries with this ID"),
        created: document.and_then(|document| document.created.clone()),
        platform: document.map(platform).unwrap_or_default(),
        parent,
        size: layers.iter().filter_map(|layer| layer.facts.size.value).fold(0, u64::saturating_add),
        mount: mount_line(stores, &layers),
        layers,
        containers: containers.map(|container| container.name.clone()).collect(),
        problems: found,
    })
}

fn platform(document: &strata_spec::config::Document) -> String {
    let parts = [&document.os, &document.architecture, &document.variant];
    parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("/")
}

fn layers(stores: &Stores<'_>, survey: &Survey, id: ImageId, config: &ImageConfig) -> Vec<ImageLayer> {
    let file = stores.images.layout().content(id);
    let history: Vec<&str> = config.document().history.iter().filter(|step| !step.empty_layer).map(step_text).collect();
    let diffs = config.diff_ids();
    let chains: Vec<ChainId> = chain_ids(diffs).collect();
    let layer = |(n, chain): (usize, &ChainId)| {
        let how = match n {
            0 => "= DiffID 1".to_owned(),
            n => format!("sha256(\"ChainID {n} DiffID {}\") = sha256(\"{} {}\")", n + 1, chains[n - 1], diffs[n]),
        };
        let facts = LayerFacts::of(stores, *chain);
        ImageLayer {
            number: n + 1,
            diff_id: Sourced::read(diffs[n], stores, &file, format!("rootfs.diff_ids[{n}]")),
            chain_id: Sourced::computed(*chain, how),
            facts,
            created_by: history.get(n).filter(|step| !step.is_empty()).map(|step| (*step).to_owned()),
            shared_with: survey.images_with(*chain).into_iter().filter(|image| image.id != id).collect(),
        }
    };
    chains.iter().enumerate().map(layer).collect()
}

/// A step's command; of an import, its comment.
fn step_text(step: &strata_spec::config::History) -> &str {
    if step.created_by.is_empty() { &step.comment } else { &step.created_by }
}

fn mount_line(stores: &Stores<'_>, layers: &[ImageLayer]) -> Option<MountLine> {
    if !has_links(stores) {
        let id = |layer: &ImageLayer| layer.facts.cache_id.value.as_ref().map_or("?".to_owned(), ToString::to_string);
        let names: Vec<String> = match stores.layers.driver().name() {
            // One root has all layers.
            "overlay" => layers.last().map(id).into_iter().collect(),
            _ => std::iter::once("<init>".to_owned()).chain(layers.iter().rev().map(id)).collect(),
        };
        return MountLine::by_names(stores, "<new>", &names);
    }
    let links = layers.iter().rev().map(|layer| layer.facts.link.value.as_deref());
    let links = links.map(|link| format!("l/{}", link.unwrap_or("?")));
    let lower = std::iter::once("l/<init>".to_owned()).chain(links).collect();
    Some(MountLine::planned(stores, "<new>", lower))
}

/// With more layers than this, a line each has to do.
const IN_FULL: usize = 4;

impl fmt::Display for ImageExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id.value.map(|id| id.to_string()).unwrap_or_default();
        let names = self.names.value.clone().unwrap_or_default();
        let title = if names.is_empty() { "(untagged)".to_owned() } else { names.join(", ") };
        writeln!(f, "Image {title}")?;
        let mut rows = Rows::default();
        rows.add("ID", [&id, &format!("{} {}", self.id.how, self.id.file.as_deref().unwrap_or_default())]);
        rows.add("names", [&title, self.names.file.as_deref().unwrap_or_default()]);
        let made = self.created.as_deref().unwrap_or("at a time not told");
        let layers = match self.layers.len() {
            1 => "1 layer".to_owned(),
            n => format!("{n} layers"),
        };
        rows.add("made", [&format!("{made}, {}, {layers}, {}", self.platform, bytes(self.size))]);
        if let Some(parent) = self.parent.as_ref().and_then(|parent| parent.value) {
            rows.add("parent", [&parent.to_string()]);
        }
        if !self.containers.is_empty() {
            let names: Vec<String> = self.containers.iter().map(ContainerName::short).collect();
            rows.add("containers", [&names.join(", ")]);
        }
        write!(f, "{rows}\nLayers, from the base up\n")?;
        match self.layers.len() {
            0..=IN_FULL => self.layers_in_full(f)?,
            _ => self.layers_in_columns(f)?,
        }
        if let Some(mount) = &self.mount {
            write!(f, "\nFor a container of it\n{mount}")?;
        }
        problems(f, &self.problems)
    }
}

impl ImageExplanation {
    fn layers_in_full(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for layer in &self.layers {
            let facts = &layer.facts;
            writeln!(
                f,
                "  {}  {}",
                layer.number,
                one_line(layer.created_by.as_deref().unwrap_or("(its history does not tell)"), 100)
            )?;
            let mut rows = Rows::default();
            rows.value("DiffID", &layer.diff_id, Some("of the config"));
            let how = layer.chain_id.how.split(" = ").next().unwrap_or_default();
            rows.add("ChainID", [&layer.chain_id.value.map(|id| id.to_string()).unwrap_or_default(), how]);
            rows.value("cache ID", &facts.cache_id, None);
            match facts.link.value.is_some() || facts.link.problem.is_some() {
                true => rows.value("link", &facts.link, None),
                false => rows.add("files", [facts.folder.as_deref().unwrap_or("?")]),
            }
            let size = facts.size.value.map_or_else(|| "?".to_owned(), |size| format!("{size} bytes"));
            rows.add("size", [&size, facts.size.file.as_deref().unwrap_or_default()]);
            if !layer.shared_with.is_empty() {
                rows.add("shared", [&uses(&layer.shared_with)]);
            }
            write!(f, "{}", indent(&rows.to_string()))?;
        }
        Ok(())
    }

    fn layers_in_columns(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "    # DiffID       ChainID      cache ID     link                       size      shared made by"
        )?;
        for layer in &self.layers {
            let facts = &layer.facts;
            let cache = facts.cache_id.value.as_ref().map(|id| id.as_str().to_owned());
            writeln!(
                f,
                "  {:>3} {:<12} {:<12} {:<12} {:<26} {:<9} {:<6} {}",
                layer.number,
                layer.diff_id.value.map(|id| id.short()).unwrap_or_default(),
                layer.chain_id.value.map(|id| id.short()).unwrap_or_default(),
                short(cache.as_deref()),
                facts.link.value.as_deref().unwrap_or(if facts.link.problem.is_some() { "?" } else { "-" }),
                facts.size.value.map_or_else(|| "?".to_owned(), bytes),
                layer.shared_with.len(),
                one_line(layer.created_by.as_deref().unwrap_or_default(), 60),
            )?;
        }
        let layerdb = self.layers.first().and_then(|layer| layer.facts.chain_id.file.clone()).unwrap_or_default();
        let layerdb = layerdb.rsplit_once('/').map(|(dir, _)| dir.to_owned()).unwrap_or_default();
        writeln!(
            f,
            "  DiffID n: rootfs.diff_ids[n-1] of the config; ChainID 1 = DiffID 1, ChainID n = sha256(\"ChainID(n-1) DiffID(n)\")"
        )?;
        writeln!(
            f,
            "  cache ID, size: {layerdb}/<ChainID>/{{cache-id,size}}; link: <driver>/<cache ID>/link; files: <driver>/<cache ID>/diff"
        )
    }
}
