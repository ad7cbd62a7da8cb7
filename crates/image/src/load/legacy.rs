//! Docker archives before 1.10, without `manifest.json`: a folder for each layer, which was an image.
//!
//! ```text
//! repositories            {"debian":{"7":"<old ID>"}}
//! <old ID>/json           the image's config, its parent's old ID in it
//! <old ID>/layer.tar      its layer
//! <old ID>/VERSION        1.0
//! ```
//!
//! Old IDs were random. A config of today is made of each step's `json`: the fields about the old store go, `rootfs` and
//! `history` come. It must have Docker's own bytes, so that both get the same image ID; and it needs the layers' DiffIDs, so the layers
//! of such an archive are read once more than those of others.
//!
//! Source: moby 20.10, `image/tarexport/load.go` (`legacyLoadImage`), `image/v1/imagev1.go`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, value::RawValue};
use strata_spec::{
    DiffId, Reference,
    config::{History, RootFs, RunConfig},
    gojson, time,
};

use super::{
    names::{shorten, wanted},
    plan::{LayerFile, Plan, Planned, Source, json, required},
};
use crate::Error;

const REPOSITORIES: &str = "repositories";
/// As many layers as any driver takes.
const DEPTH_MAX: usize = 500;
/// Docker versions before this one wrote configs that were read field by field, losing those that 1.8 did not know.
const KEEPS_UNKNOWN_FIELDS: (u32, u32, u32) = (1, 8, 3);

/// Reads `repositories`.
pub(super) fn plan(source: &dyn Source, repositories: &[u8]) -> Result<Plan, Error> {
    let repositories: BTreeMap<String, BTreeMap<String, String>> = json(REPOSITORIES, repositories)?;
    let mut plan = Plan::default();
    let mut diffs = BTreeMap::new();
    for (name, tags) in &repositories {
        for (tag, old_id) in tags {
            let reference = Reference::parse_name(name)
                .and_then(|name| name.with_tag(tag))
                .map_err(|error| Error::load(REPOSITORIES, error.to_string()))?;
            let mut steps = ancestry(source, old_id)?;
            for step in &mut steps {
                step.diff = Some(match diffs.get(&step.old_id) {
                    Some(diff) => *diff,
                    None => *diffs.entry(step.old_id.clone()).or_insert(source.diff_id(&step.layer())?),
                });
            }
            add_steps(&mut plan, &steps, reference)?;
        }
    }
    Ok(plan)
}

/// One folder of the archive.
struct Step {
    old_id: String,
    /// The fields of its `json`, each as it stands there.
    json: Vec<u8>,
    diff: Option<DiffId>,
}

impl Step {
    fn layer(&self) -> String {
        format!("{}/layer.tar", self.old_id)
    }
}

/// The steps that made `old_id`, from the base up.
fn ancestry(source: &dyn Source, old_id: &str) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = Some(old_id.to_owned());
    while let Some(old_id) = next {
        let valid = old_id.len() == 64 && old_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !valid {
            return Err(Error::load(
                REPOSITORIES,
                format!("{:?} is not an image ID of 64 hexadecimal digits", shorten(&old_id)),
            ));
        }
        if !seen.insert(old_id.clone()) || seen.len() > DEPTH_MAX {
            return Err(Error::load(
                format!("{old_id}/json"),
                "its parents go round in a circle, or are more than any driver takes",
            ));
        }
        let name = wanted(&format!("{old_id}/json"))?;
        let bytes = required(source, &name, REPOSITORIES)?;
        #[derive(serde::Deserialize)]
        struct Parent {
            #[serde(default)]
            parent: Option<String>,
        }
        next = json::<Parent>(&name, &bytes)?.parent.filter(|parent| !parent.is_empty());
        steps.push(Step { old_id, json: bytes, diff: None });
    }
    steps.reverse();
    Ok(steps)
}

/// Each step becomes an image, the one below its parent; the last gets the name.
fn add_steps(plan: &mut Plan, steps: &[Step], reference: Reference) -> Result<(), Error> {
    let mut diff_ids = Vec::new();
    let mut history = Vec::new();
    let mut layers = Vec::new();
    let mut parent = None;
    for (at, step) in steps.iter().enumerate() {
        let name = format!("{}/json", step.old_id);
        diff_ids.push(step.diff.expect("plan filled it in"));
        history.push(step_history(&name, &step.json)?);
        layers.push(LayerFile::new(step.layer()));
        let config = config(&name, &step.json, &diff_ids, &history)?;
        let mut image = Planned::new(&name, config, layers.clone())?;
        image.parent = parent;
        image.shown = at + 1 == steps.len();
        if image.shown {
            image.names.push(reference.clone());
        }
        parent = Some(image.config.id());
        plan.add(image)?;
    }
    Ok(())
}

/// What `docker history` shall say of a step.
fn step_history(name: &str, bytes: &[u8]) -> Result<History, Error> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct V1 {
        created: Option<String>,
        author: Option<String>,
        comment: Option<String>,
        container_config: Option<RunConfig>,
    }
    let v1: V1 = json(name, bytes)?;
    let command = v1.container_config.and_then(|config| config.cmd).unwrap_or_default().join(" ");
    Ok(History {
        created: Some(go_time(v1.created.as_deref())),
        author: v1.author.unwrap_or_default(),
        created_by: command,
        comment: v1.comment.unwrap_or_default(),
        ..History::default()
    })
}

/// A time as Go reads and writes it; none is Go's zero.
fn go_time(text: Option<&str>) -> String {
    text.and_then(|text| time::parse(text).ok()).map_or_else(|| time::ZERO.to_owned(), time::format)
}

/// The config of today: the fields sorted, each with its own bytes.
fn config(name: &str, bytes: &[u8], diff_ids: &[DiffId], history: &[History]) -> Result<Vec<u8>, Error> {
    let mut fields: BTreeMap<String, Value> = json(name, bytes)?;
    let version = fields.get("docker_version").and_then(Value::as_str).unwrap_or_default();
    if before(version, KEEPS_UNKNOWN_FIELDS) {
        fields = known_fields(name, fields)?;
    }
    for gone in ["id", "parent", "Size", "parent_id", "layer_id", "throwaway"] {
        fields.remove(gone);
    }
    let rootfs = RootFs { kind: "layers".to_owned(), diff_ids: diff_ids.to_vec() };
    let mut raw: BTreeMap<String, Box<RawValue>> = BTreeMap::new();
    for (key, value) in &fields {
        raw.insert(key.clone(), go_raw(value));
    }
    raw.insert("rootfs".to_owned(), go_raw(&rootfs));
    raw.insert("history".to_owned(), go_raw(&history));
    Ok(gojson::to_vec(&raw).expect("maps of JSON are JSON"))
}

/// What is left of the fields when Docker reads and writes them by its `V1Image`.
fn known_fields(name: &str, fields: BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>, Error> {
    let created = go_time(fields.get("created").and_then(Value::as_str));
    let mut known = BTreeMap::new();
    for (key, value) in fields {
        let value = match key.as_str() {
            "comment" | "container" | "docker_version" | "author" | "architecture" | "variant" | "os"
                if value.as_str().is_some_and(|text| !text.is_empty()) =>
            {
                value
            }
            "config" | "container_config" if !value.is_null() => run_config(name, value)?,
            _ => continue,
        };
        known.insert(key, value);
    }
    known.insert("created".to_owned(), Value::String(created));
    if !known.contains_key("container_config") {
        known.insert("container_config".to_owned(), run_config(name, Value::Object(Map::new()))?);
    }
    Ok(known)
}

fn run_config(name: &str, value: Value) -> Result<Value, Error> {
    let mut config: RunConfig = serde_json::from_value(value).map_err(|error| Error::load(name, error.to_string()))?;
    config.extra.clear();
    Ok(serde_json::to_value(config).expect("a run config is JSON"))
}

fn go_raw<T: serde::Serialize>(value: &T) -> Box<RawValue> {
    let text = String::from_utf8(gojson::to_vec(value).expect("it is JSON")).expect("JSON is UTF-8");
    RawValue::from_string(text).expect("it was just written as JSON")
}

/// Whether the version `text` (`1.7.1`, `1.10.0-dev`, nothing) is before `limit`.
fn before(text: &str, limit: (u32, u32, u32)) -> bool {
    let mut parts = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) < limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_number_by_number() {
        for (text, is_before) in
            [("", true), ("1.7.1", true), ("1.8.2", true), ("1.8.3", false), ("1.10.0-dev", false), ("20.10.24", false)]
        {
            assert_eq!(before(text, KEEPS_UNKNOWN_FIELDS), is_before, "{text:?}");
        }
    }
}
