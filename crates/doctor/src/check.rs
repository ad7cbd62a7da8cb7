//! The whole root: what is damaged, what is lost, what is left over; nothing is changed.
//!
//! A [`Report`] serialises to
//!
//! ```text
//! {"root": …, "drivers": [names], "depth": "metadata" | "contents",
//!  "layers": n, "images": n, "containers": n,        how many were looked at
//!  "findings": [{"severity": "error" | "warning",
//!                "object": {"kind": "layer", "id": "sha256:…"},
//!                "path": …, "reason": …, "remedy": …, "affects": [names]}]}
//! ```
//!
//! An `error` is something that cannot be used as it is; a `warning` takes space or stands in the way, and nothing is lost.
//! May run beside other operations: what they work on is passed over.

mod containers;
mod contents;
mod databases;
mod entries;
mod left;
mod remedy;
mod stores;

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use strata_layer::Depth;
use strata_spec::{CacheId, ChainId, ContainerId, ImageId};

use crate::{
    Stores,
    survey::Survey,
    text::{one_line, printable},
};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something cannot be used as it is.
    Error,
    /// Nothing is lost; it takes space or is no longer true.
    Warning,
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", content = "id", rename_all = "lowercase")]
pub enum Object {
    /// All that lies under a storage driver.
    Driver(String),
    Layer(ChainId),
    Image(ImageId),
    /// A name in `repositories.json`.
    Name(String),
    /// `repositories.json` as a whole.
    Names,
    Container(ContainerId),
    /// A folder of the driver.
    Folder(CacheId),
    /// A database of Docker or BuildKit.
    Database,
    /// A mount below the root.
    Mount,
    /// An operation that ended before its time.
    Operation,
    /// Anything else.
    Stray,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    pub object: Object,
    /// Relative to the data root where it lies in it.
    pub path: String,
    pub reason: String,
    /// What to do.
    pub remedy: String,
    /// Images and containers that cannot be used for it, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub affects: Vec<String>,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub root: String,
    /// The storage drivers whose stores were looked at.
    pub drivers: Vec<String>,
    /// `metadata`, or `contents` if every layer's files were read too.
    pub depth: &'static str,
    pub layers: usize,
    pub images: usize,
    pub containers: usize,
    /// Errors first, then by object.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether there is no error; warnings may be.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Checks one driver's stores: [`check_all`] of them alone.
pub fn check(stores: &Stores<'_>, depth: Depth) -> Report {
    check_all(std::slice::from_ref(stores), depth)
}

/// Checks everything under all of these drivers, which are of one root, at least one: the stores' records against each other and against
/// the driver's files; with [`Depth::Contents`] also each layer's files against what was unpacked, on all cores.
///
/// One damaged thing hides no other. A driver that cannot be opened here is an error; only its records are checked.
pub fn check_all(all: &[Stores<'_>], depth: Depth) -> Report {
    let mut findings: Vec<Finding> = all.iter().flat_map(|stores| findings(stores, depth)).collect();
    findings.extend(all.iter().filter_map(closed));
    findings
        .sort_by(|a, b| (a.severity, &a.object, &a.path, &a.reason).cmp(&(b.severity, &b.object, &b.path, &b.reason)));
    // What all drivers share is looked at with each.
    findings.dedup_by(|a, b| (&a.object, &a.path, &a.reason) == (&b.object, &b.path, &b.reason));
    Report {
        root: all[0].root.display().to_string(),
        drivers: all.iter().map(|stores| stores.driver_name().to_owned()).collect(),
        depth: match depth {
            Depth::Metadata => "metadata",
            Depth::Contents => "contents",
        },
        layers: all.iter().map(|stores| stores.layers.list().map_or(0, |layers| layers.len())).sum(),
        images: all.iter().map(|stores| stores.images.list().map_or(0, |images| images.len())).sum(),
        containers: all
            .iter()
            .map(|stores| stores.containers.ids_under(stores.driver_name()).map_or(0, |containers| containers.len()))
            .sum(),
        findings,
    }
}

/// Reports a driver that cannot be opened here.
fn closed(stores: &Stores<'_>) -> Option<Finding> {
    let error = stores.layers.driver().usable().err()?;
    Some(Finding {
        severity: Severity::Error,
        object: Object::Driver(stores.driver_name().to_owned()),
        path: stores.show(stores.images.layout().root()),
        reason: error.to_string(),
        remedy: remedy::CLOSED.to_owned(),
        affects: Vec::new(),
    })
}

/// What is not as it should be under one driver.
fn findings(stores: &Stores<'_>, depth: Depth) -> Vec<Finding> {
    let mut findings = stores::check(stores);
    findings.extend(containers::check(stores));
    findings.extend(left::check(stores));
    findings.extend(databases::check(stores));
    let layers = stores.layers.list().unwrap_or_default();
    if depth == Depth::Contents {
        findings.extend(contents::check(stores, &layers, &findings));
    }
    let survey = Survey::of(stores);
    for finding in &mut findings {
        if let Object::Layer(id) = finding.object {
            let images =
                survey.images_with(id).iter().map(|image| format!("image {}", image.short())).collect::<Vec<_>>();
            let containers = survey.containers_on(stores, id);
            finding.affects = images;
            finding.affects.extend(containers.iter().map(|container| format!("container {}", container.short())));
        }
    }
    drop_repeated(stores, &mut findings);
    findings
}

/// One damaged file is found again at whatever stands on it: it stays as the finding of the lowest layer, which names the others.
fn drop_repeated(stores: &Stores<'_>, findings: &mut Vec<Finding>) {
    let rank = |finding: &Finding| match finding.object {
        Object::Layer(id) => depth(stores, id),
        Object::Container(_) => usize::MAX - 1,
        _ => usize::MAX,
    };
    let mut first: BTreeMap<(String, String), (usize, Object)> = BTreeMap::new();
    for finding in findings.iter() {
        let own = (rank(finding), finding.object.clone());
        let best = first.entry((finding.path.clone(), finding.reason.clone())).or_insert_with(|| own.clone());
        if own.0 < best.0 {
            *best = own;
        }
    }
    findings.retain(|finding| {
        let best = &first[&(finding.path.clone(), finding.reason.clone())];
        best.1 == finding.object
    });
}

/// Layers below.
fn depth(stores: &Stores<'_>, id: ChainId) -> usize {
    let parent = |id: &ChainId| stores.layers.get(*id).ok()?.parent;
    std::iter::successors(Some(id), parent).count()
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(name) => write!(f, "storage driver {name}"),
            Self::Layer(id) => write!(f, "layer {}", id.short()),
            Self::Image(id) => write!(f, "image {}", id.short()),
            Self::Name(name) => write!(f, "name {name}"),
            Self::Names => f.write_str("names"),
            Self::Container(id) => write!(f, "container {}", id.short()),
            Self::Folder(id) => write!(f, "folder {}", id.as_str().chars().take(12).collect::<String>()),
            Self::Database => f.write_str("database"),
            Self::Mount => f.write_str("mount"),
            Self::Operation => f.write_str("interrupted operation"),
            Self::Stray => f.write_str("stray"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity:<8}{}: {}", self.object, self.path)?;
        writeln!(f, "        {}", one_line(&self.reason, 400))?;
        if !self.affects.is_empty() {
            writeln!(f, "        affects {}", self.affects.join(", "))?;
        }
        writeln!(f, "        -> {}", self.remedy)
    }
}

impl fmt::Display for Report {
    /// The text for people; ends in a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| f.write_str(&printable(&finding.to_string())))?;
        let depth = match self.depth {
            "contents" => "records and contents",
            _ => "records",
        };
        write!(
            f,
            "{}: {depth} of {} layers, {} images, {} containers{}: ",
            self.root,
            self.layers,
            self.images,
            self.containers,
            if self.drivers.len() > 1 { format!(" under {}", self.drivers.join(", ")) } else { String::new() }
        )?;
        match (self.count(Severity::Error), self.count(Severity::Warning)) {
            (0, 0) => writeln!(f, "sound"),
            (0, warnings) => writeln!(f, "sound; {warnings} warnings"),
            (errors, warnings) => writeln!(f, "{errors} errors, {warnings} warnings"),
        }
    }
}
