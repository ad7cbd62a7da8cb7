//! A read-only layer.

use std::{fmt, fs::File, io::BufReader};

use serde::Serialize;
use strata_archive::split::{Record, Unpacker};
use strata_graphdriver::Access;
use strata_spec::{ChainId, DiffId};

use super::facts::{DriverFact, LayerFacts, driver_facts};
use crate::{
    Stores,
    survey::{ContainerName, ImageName, Survey},
    text::{Rows, bytes, problems, uses},
    value::{Problem, Sourced},
};

/// A layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerExplanation {
    pub facts: LayerFacts,
    /// Layers in the chain, this one included.
    pub depth: usize,
    /// What the driver tells of its folder, in its own terms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub driver: Vec<DriverFact>,
    /// Entries of its tar.
    pub entries: Sourced<u64>,
    /// Other layers with the same files, over other parents.
    pub same_diff_id: Vec<ChainId>,
    /// Images that have it.
    pub images: Vec<ImageName>,
    /// Containers that stand on it.
    pub containers: Vec<ContainerName>,
    pub problems: Vec<Problem>,
}

pub(super) fn explain(stores: &Stores<'_>, survey: &Survey, chain: ChainId) -> LayerExplanation {
    let mut facts = LayerFacts::of(stores, chain);
    if facts.diff_id.value.is_none() {
        facts.diff_id = from_config(stores, survey, chain).unwrap_or(facts.diff_id);
    }
    let entries = entries(stores, chain);
    let same = facts.diff_id.value.and_then(|diff| stores.layers.find_by_diff(diff).ok()).unwrap_or_default();
    let mut found = facts.problems();
    found.extend(entries.problem());
    let below = facts.parent.value.and_then(|parent| LayerFacts::of(stores, parent).cache_id.value);
    let driver = driver_facts(stores, facts.cache_id.value.as_ref(), below.as_ref(), Access::ReadOnly, &mut found);
    LayerExplanation {
        depth: depth(stores, chain),
        driver,
        entries,
        same_diff_id: same.into_iter().filter(|id| *id != chain).collect(),
        images: survey.images_with(chain),
        containers: survey.containers_on(stores, chain),
        problems: found,
        facts,
    }
}

/// The DiffID that an image's config gives a layer whose own record is lost.
fn from_config(stores: &Stores<'_>, survey: &Survey, chain: ChainId) -> Option<Sourced<DiffId>> {
    let image = survey.images.iter().find(|image| image.chains.contains(&chain))?;
    let n = image.chains.iter().position(|id| *id == chain)?;
    let file = stores.images.layout().content(image.name.id);
    let mut value = Sourced::read(*image.config.diff_ids().get(n)?, stores, &file, format!("rootfs.diff_ids[{n}]"));
    let diff: Sourced<DiffId> = Sourced::of_file(stores, &stores.layers.layout().layer(chain).join("diff"));
    value.problem = diff.problem.filter(|_| stores.layers.layout().layer(chain).is_dir());
    Some(value)
}

fn depth(stores: &Stores<'_>, chain: ChainId) -> usize {
    // Whole layers only: their ChainIDs are hashes of their parents', so there are no circles.
    let mut depth = 1;
    let mut next = stores.layers.get(chain).ok().and_then(|layer| layer.parent);
    while let Some(id) = next {
        depth += 1;
        next = stores.layers.get(id).ok().and_then(|layer| layer.parent);
    }
    depth
}

/// Counts the entries that the layer's tar has, by its record.
fn entries(stores: &Stores<'_>, chain: ChainId) -> Sourced<u64> {
    let path = stores.layers.layout().tar_split(chain);
    let mut entries =
        Sourced { value: None, file: Some(stores.show(&path)), how: "names in the record".into(), problem: None };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(_) if !stores.layers.layout().layer(chain).is_dir() => return entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            entries.problem =
                Some("the file is missing: the layer's tar cannot be rebuilt; load the image again".into());
            return entries;
        }
        Err(error) => {
            entries.problem = Some(format!("cannot be read: {error}"));
            return entries;
        }
    };
    let mut records = Unpacker::new(BufReader::new(file));
    let mut count = 0;
    loop {
        match records.next_record() {
            Ok(Some(Record::File(_))) => count += 1,
            Ok(Some(Record::Segment(_))) => {}
            Ok(None) => break entries.value = Some(count),
            Err(error) => break entries.problem = Some(error.to_string()),
        }
    }
    entries
}

impl fmt::Display for LayerExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        writeln!(f, "Layer {}", facts.chain_id.value.map(|id| id.to_string()).unwrap_or_default())?;
        let mut rows = Rows::default();
        rows.value("ChainID", &facts.chain_id, None);
        rows.value("DiffID", &facts.diff_id, None);
        rows.value("parent", &facts.parent, None);
        rows.value("cache ID", &facts.cache_id, None);
        if facts.link.value.is_some() || facts.link.problem.is_some() {
            rows.value("link", &facts.link, None);
        }
        rows.add("files", [facts.folder.as_deref().unwrap_or("?")]);
        let size = facts.size.value.map_or_else(|| "?".to_owned(), |size| format!("{size} bytes ({})", bytes(size)));
        rows.add("size", [&size, facts.size.file.as_deref().unwrap_or_default()]);
        let entries = self.entries.value.map_or_else(|| "?".to_owned(), |count| count.to_string());
        rows.add("entries", [&entries, self.entries.file.as_deref().unwrap_or_default()]);
        self.driver.iter().for_each(|fact| fact.add_to(&mut rows));
        rows.add("depth", [&self.depth.to_string()]);
        rows.add("images", [&uses(&self.images)]);
        let containers: Vec<String> = self.containers.iter().map(ContainerName::short).collect();
        rows.add(
            "containers",
            [if containers.is_empty() { "none".to_owned() } else { containers.join(", ") }.as_str()],
        );
        for id in &self.same_diff_id {
            rows.add("same files", [&id.to_string(), "over another parent"]);
        }
        write!(f, "{rows}")?;
        problems(f, &self.problems)
    }
}
