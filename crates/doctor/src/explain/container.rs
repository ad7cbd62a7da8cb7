//! A container: its record, its layers, what is mounted.

use std::{fmt, path::PathBuf};

use serde::Serialize;
use strata_container::Record;
use strata_graphdriver::{Access, names::overlay2};
use strata_spec::{CacheId, ChainId};

use super::{
    facts::{DriverFact, LayerFacts, MountLine, driver_facts, folder_facts, has_links, link_owner, lower_of},
    file::layer,
    trace::{Role, Stacked},
};
use crate::{
    Stores,
    survey::{ContainerUse, ImageName, Survey},
    text::{Rows, bytes, problems},
    value::{Problem, Sourced},
};

/// A container.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContainerExplanation {
    pub id: Sourced<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `created`, `running`, `exited` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Of its first process, if it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The image that it was made of; absent if it is not in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageName>,
    /// As the record has it.
    pub image_id: Sourced<String>,
    /// Folder of its read-write layer.
    pub mount_id: Sourced<CacheId>,
    pub init_id: Sourced<CacheId>,
    /// ChainID of the image's topmost layer.
    pub parent: Sourced<ChainId>,
    /// From the topmost down: read-write, init, the image's.
    pub layers: Vec<ContainerLayer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<MountLine>,
    /// What the driver tells of the read-write layer's folder, in its own terms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub driver: Vec<DriverFact>,
    /// What is bound into it while it runs.
    pub bound: Vec<Bound>,
    /// Bytes of its read-write layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes of the image's layers.
    pub image_size: u64,
    pub problems: Vec<Problem>,
}

/// A layer of a container.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContainerLayer {
    pub role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<ChainId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_id: Option<CacheId>,
    pub link: Sourced<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Bytes, where they are written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A path of the host seen in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    pub destination: String,
    pub source: String,
    pub read_only: bool,
    /// Whether the source is there.
    pub exists: bool,
}

pub(super) fn explain(stores: &Stores<'_>, survey: &Survey, container: &ContainerUse) -> ContainerExplanation {
    let id = &container.name.id;
    let record_path = stores.containers.layout().container(id).record();
    let record = container.record.as_ref().ok();
    let mut found: Vec<Problem> = container.record.as_ref().err().cloned().into_iter().collect();
    let dir = stores.layers.layout().mount(id);
    let mount_id: Sourced<CacheId> = Sourced::of_file(stores, &dir.join("mount-id"));
    let init_id = Sourced::of_file_if_there(stores, &dir.join("init-id"), "no file: no init layer");
    let parent = Sourced::of_file_if_there(stores, &dir.join("parent"), "no file: stands on nothing");
    found.extend([mount_id.problem(), init_id.problem(), parent.problem()].into_iter().flatten());
    let image_id = match record {
        Some(record) => Sourced::read(record.image.clone(), stores, &record_path, "Image"),
        None => Sourced::unknown("the record cannot be read"),
    };
    let image = record.and_then(Record::image_id).and_then(|id| survey.image(id)).map(|image| image.name.clone());
    if let (Some(id), None) = (&image_id.value, &image) {
        found.push(Problem { path: stores.show(&record_path), reason: format!("its image {id} is not in the store") });
    }
    let layers = layers(stores, &mount_id, &init_id, parent.value, &mut found);
    let top = layers.iter().find(|layer| layer.role == Role::Image).and_then(|layer| layer.cache_id.as_ref());
    let below = init_id.value.as_ref().or(top);
    let driver = driver_facts(stores, mount_id.value.as_ref(), below, Access::ReadWrite, &mut found);
    let size = stores.layers.mount(id).and_then(|mount| mount.size(stores.layers)).ok();
    ContainerExplanation {
        id: Sourced::read(id.to_string(), stores, &record_path, "ID"),
        name: container.name.name.clone(),
        state: record.map(|record| record.state.status().as_str().to_owned()),
        pid: record.map(|record| record.state.pid).filter(|pid| *pid > 0),
        exit_code: record.map(|record| record.state.exit_code),
        created: record.map(|record| record.created.clone()),
        image,
        image_id,
        mount: mount_id.value.as_ref().and_then(|id| mount_line(stores, id, &mut found)),
        driver,
        bound: record.map(|record| bound(stores, container, record)).unwrap_or_default(),
        size,
        image_size: layers.iter().filter_map(|layer| layer.size).fold(0, u64::saturating_add),
        mount_id,
        init_id,
        parent,
        layers,
        problems: found,
    }
}

fn layers(
    stores: &Stores<'_>,
    mount_id: &Sourced<CacheId>,
    init_id: &Sourced<CacheId>,
    top: Option<ChainId>,
    found: &mut Vec<Problem>,
) -> Vec<ContainerLayer> {
    let mut layers = Vec::new();
    for (role, id) in [(Role::ReadWrite, &mount_id.value), (Role::Init, &init_id.value)] {
        let Some(id) = id else { continue };
        let (link, folder) = folder_facts(stores, Some(id), found);
        found.extend(link.problem());
        layers.push(ContainerLayer { role, chain_id: None, cache_id: Some(id.clone()), link, folder, size: None });
    }
    for facts in chain(stores, top) {
        found.extend(facts.problems());
        layers.push(ContainerLayer {
            role: Role::Image,
            chain_id: facts.chain_id.value,
            cache_id: facts.cache_id.value,
            link: facts.link,
            folder: facts.folder,
            size: facts.size.value,
        });
    }
    layers
}

/// The layers from `top` down, as far as their records lead.
fn chain(stores: &Stores<'_>, top: Option<ChainId>) -> Vec<LayerFacts> {
    let mut layers: Vec<LayerFacts> = Vec::new();
    let mut next = top;
    // A damaged record may lead round in a circle.
    while let Some(id) = next.filter(|id| layers.iter().all(|layer| layer.chain_id.value != Some(*id))) {
        let facts = LayerFacts::of(stores, id);
        next = facts.parent.value;
        layers.push(facts);
    }
    layers
}

/// A container's layers from the topmost down, to look for files in; what is lost is told beside.
///
/// By layerdb; where that is damaged, by the driver's own files.
pub(super) fn stacked(stores: &Stores<'_>, container: &ContainerUse) -> (Vec<Stacked>, Vec<Problem>) {
    let dir = stores.layers.layout().mount(&container.name.id);
    let mount_id: Sourced<CacheId> = Sourced::of_file(stores, &dir.join("mount-id"));
    let init_id: Sourced<CacheId> = Sourced::of_file_if_there(stores, &dir.join("init-id"), "no file");
    let mut found: Vec<Problem> = [mount_id.problem(), init_id.problem()].into_iter().flatten().collect();
    let mut layers = Vec::new();
    layers.extend(mount_id.value.clone().map(|id| layer(stores, Role::ReadWrite, None, id)));
    layers.extend(init_id.value.clone().map(|id| layer(stores, Role::Init, None, id)));
    let top: Sourced<ChainId> = Sourced::of_file_if_there(stores, &dir.join("parent"), "no file");
    found.extend(top.problem());
    let chain = chain(stores, top.value);
    let whole = top.problem.is_none()
        && chain.iter().all(|facts| facts.cache_id.value.is_some() && facts.parent.problem.is_none());
    found.extend(chain.iter().flat_map(LayerFacts::problems));
    if whole {
        let of =
            |facts: &LayerFacts| Some(layer(stores, Role::Image, facts.chain_id.value, facts.cache_id.value.clone()?));
        layers.extend(chain.iter().filter_map(of));
    } else if let Some(id) = mount_id.value.as_ref().filter(|_| has_links(stores)) {
        let lower = lower_of(stores, id);
        found.extend(lower.problem());
        let links = stores.layers.driver().home().join(overlay2::LINKS);
        let folders = lower.value.unwrap_or_default().into_iter().filter_map(|link| link_owner(&links.join(link)).ok());
        layers.extend(folders.filter(|id| !id.is_init()).map(|id| layer(stores, Role::Image, None, id)));
    }
    (layers, found)
}

/// The live mount, or what would be mounted.
fn mount_line(stores: &Stores<'_>, id: &CacheId, found: &mut Vec<Problem>) -> Option<MountLine> {
    let mut line = if has_links(stores) {
        let lower = lower_of(stores, id);
        found.extend(lower.problem());
        let lower: Vec<String> = lower.value.unwrap_or_default().iter().map(|link| format!("l/{link}")).collect();
        MountLine::planned(stores, id.as_str(), lower)
    } else {
        MountLine::by_names(stores, id.as_str(), &below(stores, id))?
    };
    let target = stores.layers.driver().home().join(&line.target);
    let mounts = strata_sys::mount::mounts_under(&target).unwrap_or_default();
    if let Some(mount) = mounts.iter().rev().find(|mount| mount.target == target) {
        line.mounted = true;
        line.line =
            format!("{} on {} type {} ({})", mount.source, target.display(), mount.fs_type, mount.super_options);
        let option = |name: &str| {
            mount
                .super_options
                .split(',')
                .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
                .map(str::to_owned)
        };
        // The kernel lists `lowerdir+` ones each on its own.
        let pieces = mount.super_options.split(',').filter_map(|option| option.strip_prefix("lowerdir+="));
        let mut lower: Vec<String> = pieces.map(str::to_owned).collect();
        if let Some(joined) = option("lowerdir") {
            lower.extend(joined.split(':').map(str::to_owned));
        }
        // A union in user space does not list them there.
        if !lower.is_empty() {
            line.lowerdir = lower;
        }
        line.upperdir = option("upperdir").unwrap_or(line.upperdir);
        line.workdir = option("workdir").unwrap_or(line.workdir);
    }
    Some(line)
}

/// The folders below `id`, topmost first, as far as the driver's own files lead.
fn below(stores: &Stores<'_>, id: &CacheId) -> Vec<String> {
    let mut names = Vec::new();
    let mut next = stores.layers.driver().parent(id).ok().flatten();
    // A damaged file may lead round in a circle.
    while let Some(id) = next.filter(|id| names.len() < 1000 && !names.contains(&id.to_string())) {
        names.push(id.to_string());
        next = stores.layers.driver().parent(&id).ok().flatten();
    }
    names
}

fn bound(stores: &Stores<'_>, container: &ContainerUse, record: &Record) -> Vec<Bound> {
    let dir = stores.containers.layout().container(&container.name.id);
    let own = [("/etc/hostname", dir.hostname()), ("/etc/hosts", dir.hosts()), ("/etc/resolv.conf", dir.resolv_conf())];
    let bind = |destination: &str, source: PathBuf, read_only| Bound {
        destination: destination.to_owned(),
        exists: source.exists(),
        source: stores.show(&source),
        read_only,
    };
    let mut bound: Vec<Bound> = own.into_iter().map(|(at, source)| bind(at, source, false)).collect();
    bound.extend(record.mount_points.iter().map(|(at, mount)| bind(at, PathBuf::from(&mount.source), !mount.rw)));
    bound
}

impl fmt::Display for ContainerExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id.value.clone().unwrap_or_default();
        writeln!(f, "Container {}", self.name.as_deref().unwrap_or("(its name is not known)"))?;
        let mut rows = Rows::default();
        rows.add("ID", [&id, self.id.file.as_deref().unwrap_or_default()]);
        let state = self.state.as_deref().unwrap_or("unknown");
        let state = match (self.pid, self.exit_code) {
            (Some(pid), _) => format!("{state}, PID {pid}"),
            (None, Some(code)) if state == "exited" => format!("exited with {code}"),
            _ => state.to_owned(),
        };
        rows.add("state", [&format!("{state}; created {}", self.created.as_deref().unwrap_or("at a time not known"))]);
        let image = self.image_id.value.clone().unwrap_or_else(|| "?".to_owned());
        rows.add("image", [&image, &self.image.as_ref().map(ImageName::short).unwrap_or_default()]);
        rows.value("mount-id", &self.mount_id, None);
        rows.value("init-id", &self.init_id, None);
        rows.value("parent", &self.parent, None);
        let size = self.size.map_or_else(|| "?".to_owned(), bytes);
        rows.add("size", [&format!("{size} of its own, over {} of its image", bytes(self.image_size))]);
        write!(f, "{rows}\nLayers, from the topmost down\n")?;
        for (n, layer) in self.layers.iter().enumerate() {
            let role = match layer.role {
                Role::ReadWrite => "read-write",
                Role::Init => "init",
                Role::Image => "image",
            };
            let unnamed = if layer.link.problem.is_some() { "?" } else { "-" };
            let (link, folder) =
                (layer.link.value.as_deref().unwrap_or(unnamed), layer.folder.as_deref().unwrap_or("?"));
            let size = layer.size.map(bytes).unwrap_or_default();
            writeln!(f, "{}", format!("  {:>3} {role:<10} {link:<26} {folder}  {size}", n + 1).trim_end())?;
        }
        if !self.driver.is_empty() {
            let mut rows = Rows::default();
            self.driver.iter().for_each(|fact| fact.add_to(&mut rows));
            write!(f, "\nRead-write layer, as its driver has it\n{rows}")?;
        }
        // Branches stand above, each with its marks.
        let branches = |mount: &MountLine| !mount.mounted && mount.workdir.is_empty();
        if let Some(mount) = self.mount.as_ref().filter(|mount| !branches(mount)) {
            write!(f, "\n{mount}")?;
        }
        if !self.bound.is_empty() {
            writeln!(f, "\nBound into it when it runs")?;
        }
        for bound in &self.bound {
            let access = if bound.read_only { ", read-only" } else { "" };
            let exists = if bound.exists { "" } else { "  (not there)" };
            writeln!(f, "  {:<18} {}{access}{exists}", bound.destination, bound.source)?;
        }
        problems(f, &self.problems)
    }
}
