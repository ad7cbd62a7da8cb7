//! A file inside a container or an image: which layer it comes from, and what hides what.

use std::{fmt, path::Path};

use serde::Serialize;
use strata_container::Record;
use strata_spec::{CacheId, ChainId};
use strata_tree::Marks;

use super::{
    container::stacked,
    facts::FileFacts,
    trace::{Hidden, Hop, LayerSays, Role, Stacked, State, Trace, Why, trace},
};
use crate::{
    Error, Stores,
    survey::{ContainerName, ContainerUse, ImageName, ImageUse, Survey, read_host_config},
    text::{one_line, problems},
    value::Problem,
};

/// A file inside a container or an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileExplanation {
    pub object: Object,
    /// As it was asked for.
    pub path: String,
    /// Free of links, but for the last component.
    pub resolved: String,
    /// Links that were followed on the way.
    pub hops: Vec<Hop>,
    /// The layer that provides what the container sees, from 1, the topmost; absent if it sees nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provided_by: Option<usize>,
    /// The layer that has the bytes, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_from: Option<usize>,
    /// A layer below with a file of the same bytes: it was copied up, and only owner, mode, times or attributes differ, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_content_as: Option<usize>,
    /// All of that in a sentence.
    pub verdict: String,
    /// What is mounted over the path while the container runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cover: Option<Cover>,
    /// From the topmost down.
    pub layers: Vec<LayerSays>,
    pub problems: Vec<Problem>,
}

/// Whose file it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Object {
    Container(ContainerName),
    Image(ImageName),
}

/// A mount over a path of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cover {
    /// Where it is mounted: the path or a folder above it.
    pub at: String,
    /// What: a path of the host, or `tmpfs`, `proc` and the like.
    pub source: String,
}

pub(super) fn of_container(
    stores: &Stores<'_>,
    survey: &Survey,
    container: &ContainerUse,
    path: &str,
) -> Result<FileExplanation, Error> {
    let (layers, found) = stacked(stores, container);
    let mut explained = explain(&layers, Object::Container(container.name.clone()), path, found)?;
    if let Ok(record) = &container.record {
        explained.cover = cover(stores, container, record, &explained.resolved);
    }
    explained.problems.extend(survey.problems.iter().filter(|problem| problem.path == "containers").cloned());
    Ok(explained)
}

pub(super) fn of_image(stores: &Stores<'_>, image: &ImageUse, path: &str) -> Result<FileExplanation, Error> {
    let mut found = Vec::new();
    let layers = image_layers(stores, &image.chains, &mut found);
    explain(&layers, Object::Image(image.name.clone()), path, found)
}

/// An image's layers from the topmost down; those that are lost are told in `found`.
pub(super) fn image_layers(stores: &Stores<'_>, chains: &[ChainId], found: &mut Vec<Problem>) -> Vec<Stacked> {
    let mut layers = Vec::with_capacity(chains.len());
    for chain in chains.iter().rev() {
        let facts = super::facts::LayerFacts::of(stores, *chain);
        found.extend(facts.problems());
        if let Some(cache_id) = facts.cache_id.value {
            layers.push(layer(stores, Role::Image, Some(*chain), cache_id));
        }
    }
    layers
}

pub(super) fn layer(stores: &Stores<'_>, role: Role, chain_id: Option<ChainId>, cache_id: CacheId) -> Stacked {
    let found = stores.layers.driver().folder(&cache_id).map(|folder| (folder.path, folder.marks));
    let (folder, marks) = found.unwrap_or_else(|_| (super::facts::folder_of(stores, &cache_id), Marks::None));
    Stacked { role, chain_id, cache_id, folder, marks }
}

fn explain(layers: &[Stacked], object: Object, path: &str, found: Vec<Problem>) -> Result<FileExplanation, Error> {
    let lookup = |reason| {
        let object = match &object {
            Object::Container(container) => container.short(),
            Object::Image(image) => image.short(),
        };
        Error::Lookup { object, path: path.to_owned(), reason }
    };
    if layers.is_empty() {
        return Err(lookup("none of its layers is known".to_owned()));
    }
    let traced = trace(layers, Path::new(path)).map_err(lookup)?;
    let visible = traced.visible();
    let metadata_only = visible.filter(|n| traced.says[*n].file.as_ref().is_some_and(|file| file.metadata_only));
    let content_from = metadata_only.and_then(|_| traced.content_from(layers));
    let below = visible.filter(|_| metadata_only.is_none()).and_then(|n| Some((n, traced.file_below(n)?)));
    let same = below.filter(|(n, m)| traced.same_content(*n, *m).unwrap_or(false)).map(|(_, m)| m);
    Ok(FileExplanation {
        verdict: verdict(&traced, visible, content_from, same),
        object,
        path: path.to_owned(),
        resolved: super::facts::lossy(traced.path.as_os_str()),
        hops: traced.hops,
        provided_by: visible.map(|n| n + 1),
        content_from: content_from.map(|n| n + 1),
        same_content_as: same.map(|n| n + 1),
        cover: None,
        layers: traced.says,
        problems: found,
    })
}

fn verdict(traced: &Trace, visible: Option<usize>, content: Option<usize>, same: Option<usize>) -> String {
    let Some(n) = visible else { return verdict_of_nothing(traced) };
    let mut text = format!("comes from {}", named(&traced.says[n]));
    let hidden = traced.says.iter().filter(|says| says.state == State::Hidden).count();
    let merged = traced.says.iter().filter(|says| says.state == State::Merged).count();
    match (content, same) {
        (Some(m), _) => text += &format!(" (owner, mode and times) and {} (content)", named(&traced.says[m])),
        (None, Some(m)) => text += &format!(", copied up from {}: the content is the same", named(&traced.says[m])),
        (None, None) if hidden == 1 => text += ", which hides 1 layer's",
        (None, None) if hidden > 1 => text += &format!(", which hides {hidden} layers'"),
        (None, None) => {}
    }
    if merged > 0 {
        text += &format!("; its content merges with {merged} below");
    }
    text
}

fn verdict_of_nothing(traced: &Trace) -> String {
    // What a whiteout hides was there before; the topmost of those is what was deleted.
    let deleted = traced.says.iter().find(|says| says.state == State::Hidden);
    let Some((deleted, hidden)) = deleted.and_then(|says| Some((says, says.hidden.as_ref()?))) else {
        return "is in no layer".to_owned();
    };
    let by = traced.says.get(hidden.by - 1).map(named).unwrap_or_default();
    let how = match hidden.why {
        Why::Whiteout if hidden.at == lossy_path(traced) => format!("deleted by {by}"),
        Why::Whiteout => format!("gone: {by} deletes {}", hidden.at),
        Why::Opaque => format!("gone: {by} replaces the directory {}", hidden.at),
        Why::File | Why::Directory => format!("gone: {by} has something else at {}", hidden.at),
    };
    let size = deleted.file.as_ref().filter(|file| file.kind == "file").map(|file| format!(" ({} bytes)", file.size));
    format!("{how}; {} still has it{}", named(deleted), size.unwrap_or_default())
}

fn lossy_path(traced: &Trace) -> String {
    super::facts::lossy(traced.path.as_os_str())
}

/// A layer, as a person calls it.
fn named(says: &LayerSays) -> String {
    match says.role {
        Role::ReadWrite => "the container's own layer".to_owned(),
        Role::Init => "the init layer".to_owned(),
        Role::Image => format!("layer {}", says.position),
    }
}

/// What is mounted over `path` while the container runs; the mount that is nearest to it.
fn cover(stores: &Stores<'_>, container: &ContainerUse, record: &Record, path: &str) -> Option<Cover> {
    let dir = stores.containers.layout().container(&container.name.id);
    let own = [("/etc/hosts", dir.hosts()), ("/etc/hostname", dir.hostname()), ("/etc/resolv.conf", dir.resolv_conf())];
    let mut covers: Vec<Cover> =
        own.into_iter().map(|(at, source)| Cover { at: at.to_owned(), source: stores.show(&source) }).collect();
    for (at, source) in [("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "tmpfs")] {
        covers.push(Cover { at: at.to_owned(), source: source.to_owned() });
    }
    for (at, mount) in &record.mount_points {
        covers.push(Cover { at: at.clone(), source: mount.source.clone() });
    }
    if let Ok(host) = read_host_config(stores, &container.name.id) {
        covers.extend(host.tmpfs.keys().map(|at| Cover { at: at.clone(), source: "tmpfs".to_owned() }));
    }
    covers.retain(|cover| Path::new(path).starts_with(&cover.at));
    covers.into_iter().max_by_key(|cover| cover.at.len())
}

impl fmt::Display for FileExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = match &self.object {
            Object::Container(container) => format!("container {}", container.short()),
            Object::Image(image) => format!("image {}", image.short()),
        };
        writeln!(f, "{} in {object}", self.path)?;
        for hop in &self.hops {
            writeln!(f, "  {} -> {}  (a link in layer {})", hop.link, hop.target, hop.layer)?;
        }
        if self.resolved != self.path {
            writeln!(f, "  leads to {}", self.resolved)?;
        }
        writeln!(f, "  {}", self.verdict)?;
        if let Some(cover) = &self.cover {
            writeln!(f, "  while the container runs, {} is mounted over {}", cover.source, cover.at)?;
        }
        writeln!(f, "\nLayers, from the topmost down")?;
        for says in &self.layers {
            write!(f, "{says}")?;
        }
        problems(f, &self.problems)
    }
}

impl fmt::Display for LayerSays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::ReadWrite => "read-write",
            Role::Init => "init",
            Role::Image => "image",
        };
        let state = match self.state {
            State::Visible => "visible",
            State::Merged => "merged",
            State::Hidden => "hidden",
            State::Whiteout => "deletes",
            State::Absent => "-",
            State::Unreadable => "DAMAGED",
        };
        let file = self.file.as_ref().map(file_text).unwrap_or_default();
        let cache: String = self.cache_id.as_str().chars().take(12).collect();
        let line = format!("  {:>3} {role:<10} {cache} {state:<8} {file}", self.position);
        write!(f, "{}", line.trim_end())?;
        match (&self.hidden, self.state) {
            (Some(hidden), State::Hidden) => write!(f, "  {}", hidden_text(hidden))?,
            (_, State::Whiteout) => write!(f, " {}", self.at)?,
            _ => {}
        }
        if let Some(problem) = &self.problem {
            write!(f, "  {problem}")?;
        }
        writeln!(f)
    }
}

fn hidden_text(hidden: &Hidden) -> String {
    let how = match hidden.why {
        Why::Whiteout => "deleted",
        Why::Opaque => "opaque directory",
        Why::File => "replaced",
        Why::Directory => "directory",
    };
    format!("({how} by {} at {})", hidden.by, hidden.at)
}

fn file_text(file: &FileFacts) -> String {
    let mut text = format!("{} {} {}:{} {} {}", file.kind, file.mode, file.uid, file.gid, file.size, file.modified);
    if let Some(target) = &file.target {
        text += &format!(" -> {}", one_line(target, 60));
    }
    if file.opaque {
        text += " opaque";
    }
    if file.metadata_only {
        text += " metadata only";
    }
    if let Some(redirect) = &file.redirect {
        text += &format!(" renamed from {}", one_line(redirect, 60));
    }
    text
}
