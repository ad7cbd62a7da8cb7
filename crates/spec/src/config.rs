//! The image config: what `imagedb/content` holds and the image ID is the hash of.
//!
//! Fields that this module does not know survive in `extra`; the raw bytes survive in [`ImageConfig::raw`].
//! Reading takes `null` for any field, as Go does. Writing keeps Docker's order, and leaves out what Docker leaves
//! out: a field that Docker always writes, and that is `None` here, is left out too, as other tools do.
//!
//! Source: moby `image/image.go`, `image/rootfs.go`, `api/types/container/config.go`, version 20.10; OCI image-spec,
//! config.md.
//!
//! Go matches the names of fields whatever their case, so that `{"config": {"cmd": […]}}` is a command to Docker. Here, too;
//! two keys that differ in case alone are an error.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    gojson,
    id::{DiffId, ImageId},
    time,
};

/// The only kind of `rootfs` that Linux images have.
const LAYERS: &str = "layers";

/// An image config as it was read, with its raw bytes.
#[derive(Clone, Debug)]
pub struct ImageConfig {
    raw: Vec<u8>,
    document: Document,
}

/// A config that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the image config is not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the image config {0}")]
    Invalid(String),
}

impl ImageConfig {
    /// Reads a config; the bytes are kept.
    ///
    /// Fails where Docker fails to load it (no JSON object, a field of the wrong type, no `rootfs`), and on a `rootfs`
    /// that is not of layers.
    pub fn parse(raw: impl Into<Vec<u8>>) -> Result<Self, ConfigError> {
        let raw = raw.into();
        let mut fields = match gojson::from_slice(&raw)? {
            Value::Object(fields) => fields,
            other => return Err(invalid(format!("is {}, not a JSON object", kind_of(&other)))),
        };
        fold(&mut fields).map_err(|key| invalid(format!("has the key {key:?} twice, in different case")))?;
        let document = Document::from_fields(fields)?;
        Ok(Self { raw, document })
    }

    /// Writes `document` as Docker would and keeps the bytes.
    pub fn from_document(document: Document) -> Self {
        let fields = serde_json::to_value(&document).expect("strings, numbers and maps of strings are JSON");
        let Value::Object(mut fields) = fields else { unreachable!("a struct is written as an object") };
        // Docker writes through a map of the top level, and Go sorts a map's keys.
        fields.sort_keys();
        let raw = gojson::to_vec(&fields).expect("a JSON value is JSON");
        Self { raw, document }
    }

    /// The bytes that the image ID is the hash of.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Gives the bytes that the image ID is the hash of.
    pub fn into_raw(self) -> Vec<u8> {
        self.raw
    }

    pub fn id(&self) -> ImageId {
        ImageId::new(crate::Digest::sha256(&self.raw))
    }

    pub fn document(&self) -> &Document {
        &self.document
    }

    /// DiffIDs from the base layer up.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.document.rootfs.diff_ids
    }
}

/// The typed fields of an image config. Serialised with its top-level keys sorted, as Docker does.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Document {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<RunConfig>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_config: Option<RunConfig>,
    /// RFC 3339 with nanoseconds, as it stands in the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os: String,
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    pub rootfs: RootFs,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Document {
    /// Takes the known fields out of `fields` by hand, so that an error names the field.
    fn from_fields(mut fields: Map<String, Value>) -> Result<Self, ConfigError> {
        let f = &mut fields;
        Ok(Self {
            architecture: take(f, "architecture")?.unwrap_or_default(),
            author: take(f, "author")?.unwrap_or_default(),
            comment: take(f, "comment")?.unwrap_or_default(),
            config: take(f, "config")?,
            container: take(f, "container")?.unwrap_or_default(),
            container_config: take(f, "container_config")?,
            created: take(f, "created")?,
            docker_version: take(f, "docker_version")?.unwrap_or_default(),
            history: take(f, "history")?.unwrap_or_default(),
            os: take(f, "os")?.unwrap_or_default(),
            os_features: take(f, "os.features")?.unwrap_or_default(),
            os_version: take(f, "os.version")?.unwrap_or_default(),
            rootfs: take::<RootFs>(f, "rootfs")?.ok_or_else(|| invalid("has no rootfs key"))?.checked()?,
            variant: take(f, "variant")?.unwrap_or_default(),
            extra: fields,
        })
    }

    /// When the image was made; `None` if the document does not say, or not in a form that can be read.
    pub fn created_at(&self) -> Option<jiff::Timestamp> {
        self.created.as_deref().and_then(known_time)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::from_fields(Map::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

const TOP: &[&str] = &[
    "architecture",
    "author",
    "comment",
    "config",
    "container",
    "container_config",
    "created",
    "docker_version",
    "history",
    "os",
    "os.features",
    "os.version",
    "rootfs",
    "variant",
];
const ROOTFS: &[&str] = &["type", "diff_ids"];
const HISTORY: &[&str] = &["created", "author", "created_by", "comment", "empty_layer"];
const RUN_CONFIG: &[&str] = &[
    "Hostname",
    "Domainname",
    "User",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "ExposedPorts",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Env",
    "Cmd",
    "Healthcheck",
    "ArgsEscaped",
    "Image",
    "Volumes",
    "WorkingDir",
    "Entrypoint",
    "NetworkDisabled",
    "MacAddress",
    "OnBuild",
    "Labels",
    "StopSignal",
    "StopTimeout",
    "Shell",
];
const HEALTHCHECK: &[&str] = &["Test", "Interval", "Timeout", "StartPeriod", "Retries"];

/// Gives the known fields of a config their own case. Keys that users choose (labels, volumes) stay.
fn fold(fields: &mut Map<String, Value>) -> Result<(), String> {
    gojson::fold_keys(fields, TOP)?;
    for (name, names) in [("config", RUN_CONFIG), ("container_config", RUN_CONFIG), ("rootfs", ROOTFS)] {
        let Some(Value::Object(inner)) = fields.get_mut(name) else { continue };
        gojson::fold_keys(inner, names)?;
        if let Some(Value::Object(healthcheck)) = inner.get_mut("Healthcheck") {
            gojson::fold_keys(healthcheck, HEALTHCHECK)?;
        }
    }
    let history = fields.get_mut("history").and_then(Value::as_array_mut).into_iter().flatten();
    history.filter_map(Value::as_object_mut).try_for_each(|entry| gojson::fold_keys(entry, HISTORY))
}

/// Takes a field out; `None` if it is absent or null.
fn take<T: DeserializeOwned>(fields: &mut Map<String, Value>, name: &str) -> Result<Option<T>, ConfigError> {
    // The order of what stays matters: it is written again.
    match fields.shift_remove(name) {
        None => Ok(None),
        Some(value) => Option::<T>::deserialize(value).map_err(|error| invalid(format!("has a bad {name:?}: {error}"))),
    }
}

fn invalid(text: impl Into<String>) -> ConfigError {
    ConfigError::Invalid(text.into())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Reads a time; Go's zero time is no time.
fn known_time(text: &str) -> Option<jiff::Timestamp> {
    time::parse(text).ok().filter(|time| *time != time::zero())
}

/// `rootfs`: the layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// `layers`; empty in documents of some other tools.
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    /// From the base layer up.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub diff_ids: Vec<DiffId>,
}

impl RootFs {
    /// Returns a root filesystem of layers, from the base layer up.
    pub fn layers(diff_ids: Vec<DiffId>) -> Self {
        Self { kind: LAYERS.to_owned(), diff_ids }
    }

    fn checked(self) -> Result<Self, ConfigError> {
        match self.kind.as_str() {
            LAYERS | "" => Ok(self),
            kind => Err(invalid(format!("has a rootfs of type {kind:?}; only \"layers\" can be used"))),
        }
    }
}

/// One entry of `history`, from the base up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// RFC 3339 with nanoseconds, as it stands in the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub author: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub created_by: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub comment: String,
    /// The step made no layer: the entry stands for none of `rootfs.diff_ids`.
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub empty_layer: bool,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl History {
    /// When the step was made; `None` if the document does not say, or not in a form that can be read.
    pub fn created_at(&self) -> Option<jiff::Timestamp> {
        self.created.as_deref().and_then(known_time)
    }
}

/// The value of a map that Docker uses as a set: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Option::<Map<String, Value>>::deserialize(from).map(|_| Self {})
    }
}

/// A set as Docker writes it: `{"80/tcp":{}}`.
pub type Set = BTreeMap<String, Empty>;

/// `config`: how a container of the image runs. Docker's `container.Config`, in its field order.
///
/// Source: moby `api/types/container/config.go`, version 20.10.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    #[serde(deserialize_with = "null_is_default")]
    pub hostname: String,
    #[serde(deserialize_with = "null_is_default")]
    pub domainname: String,
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    #[serde(deserialize_with = "null_is_default")]
    pub attach_stdin: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub attach_stdout: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub attach_stderr: bool,
    /// Ports as `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub exposed_ports: Set,
    #[serde(deserialize_with = "null_is_default")]
    pub tty: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub open_stdin: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub stdin_once: bool,
    /// `NAME=value`.
    #[serde(deserialize_with = "strings")]
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "string_or_strings")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub args_escaped: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub image: String,
    /// Paths in the container.
    pub volumes: Option<Set>,
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    #[serde(deserialize_with = "string_or_strings")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub network_disabled: bool,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub mac_address: String,
    #[serde(deserialize_with = "strings")]
    pub on_build: Option<Vec<String>>,
    #[serde(deserialize_with = "string_map")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "no_strings", deserialize_with = "string_or_strings")]
    pub shell: Option<Vec<String>>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How to see whether a container is well. Durations are in nanoseconds; zero means that the default holds.
///
/// Source: moby `api/types/container/config.go`, `HealthConfig`, version 20.10.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", argument…]` or `["CMD-SHELL", command]`.
    #[serde(skip_serializing_if = "no_strings", deserialize_with = "strings")]
    pub test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub retries: i64,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn no_strings(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

pub(crate) fn null_is_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Reads a list of strings or null; a null in the list is an empty string, as in Go.
fn strings<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let list = Option::<Vec<Option<String>>>::deserialize(from)?;
    Ok(list.map(|list| list.into_iter().map(Option::unwrap_or_default).collect()))
}

/// Reads a map of strings or null; a null in the map is an empty string, as in Go.
fn string_map<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let map = Option::<BTreeMap<String, Option<String>>>::deserialize(from)?;
    Ok(map.map(|map| map.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect()))
}

/// Reads a list of strings, one string alone, or null (moby's `strslice`).
fn string_or_strings<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "neither a string nor a list of strings")]
    enum Either<'a> {
        List(Vec<Option<String>>),
        One(Cow<'a, str>),
    }
    Ok(Option::<Either<'de>>::deserialize(from)?.map(|either| match either {
        Either::List(list) => list.into_iter().map(Option::unwrap_or_default).collect(),
        Either::One(one) => vec![one.into_owned()],
    }))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
