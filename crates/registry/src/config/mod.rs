//! The configuration: one YAML file with distribution's keys, and our own in the section `strata`.
//!
//! | module | owns |
//! | --- | --- |
//! | [`yaml`] | the document, with `REGISTRY_…` variables laid over it |
//! | [`section`] | one map of keys, and the list of mistakes |
//! | [`root`] | the whole |
//! | [`auth`], [`http`], [`notifications`], [`storage`], [`strata`], [`validation`] | the section of that name |
//!
//! Every key of distribution works, or the server says why not: a key whose absence would change what is stored, served or allowed
//! keeps it from starting; one without effect is a warning. An unknown key is a mistake. `docs/formats/registry.md` has all keys.

mod auth;
mod http;
mod notifications;
mod root;
pub mod section;
mod storage;
mod strata;
mod validation;
pub mod yaml;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value};

use crate::{
    auth::{Realm, policy::Policy, token::Keys},
    gc::Untagged,
    http::{handle::Settings, rate::Rate, tls::Files},
    notify::Endpoint,
    quota::Quota,
    storage::services::Service,
    store::Rules,
    upload::Limits,
};
use section::Mistakes;

/// Defaults. They are YAML, so that they are read as a file is.
const DEFAULTS: &str = "
version: '0.1'
log:
  level: info
  accesslog:
    disabled: true
storage:
  delete:
    enabled: false
  redirect:
    disable: false
  maintenance:
    uploadpurging:
      enabled: true
      age: 168h
      interval: 24h
      dryrun: false
    readonly:
      enabled: false
http:
  addr: 127.0.0.1:5000
  relativeurls: false
  draintimeout: 60s
strata:
  gc:
    interval: 0s
    grace: 24h
    deleteuntagged: false
  limits:
    manifest: 4MiB
    blob: 100GiB
    uploads: 10000
    connections: 4096
  metrics: false
";

/// Default directory of the registry.
const DEFAULT_ROOT: &str = "/var/lib/registry";
/// Text in place of a secret.
const HIDDEN: &str = "<hidden>";
/// Keys of secrets, in any section.
const SECRETS: [&str; 9] = [
    "secretkey",
    "accesskey",
    "accountkey",
    "accesskeysecret",
    "credentials",
    "tempurlcontainerkey",
    "secret",
    "password",
    "authorization",
];

/// The storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory.
    Directory(PathBuf),
    /// An object store.
    Objects {
        /// The service and the location on it.
        service: Box<Service>,
        /// Size of a part of an upload in bytes.
        part: usize,
    },
}

/// Authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// None: every client may do everything.
    Open,
    /// Names and passwords.
    Htpasswd {
        /// The realm of the challenge.
        realm: String,
        /// The file of users.
        path: PathBuf,
    },
    /// Tokens of another issuer.
    Outside {
        /// Where clients get tokens.
        realm: Realm,
        /// The audience of tokens.
        service: String,
        /// The issuer of tokens.
        issuer: String,
        /// Accepted signatures.
        algorithms: Vec<jsonwebtoken::Algorithm>,
        /// Files with the issuer's keys.
        keys: Vec<Keys>,
    },
    /// Our own tokens, at `/token`.
    Own {
        /// The file of users.
        path: PathBuf,
        /// The audience of tokens.
        service: String,
        /// Validity of a token.
        lifetime: Duration,
        /// The signing key; generated on start if not given.
        key: Option<PathBuf>,
    },
}

/// When garbage is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collecting {
    /// Time between collections; zero for none.
    pub interval: Duration,
    /// What happens to untagged manifests.
    pub untagged: Untagged,
}

/// When abandoned uploads are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purging {
    /// Age at which an idle upload is removed.
    pub age: Duration,
    /// Time between purges.
    pub interval: Duration,
    /// Whether anything is removed.
    pub run: crate::gc::Run,
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    tree: Value,
    /// Keys that have no effect here, with the reason.
    pub warnings: Vec<String>,
    /// `error`, `warn`, `info` or `debug`.
    pub log_level: String,
    /// The address to listen on.
    pub address: SocketAddr,
    /// Address of metrics and health.
    pub debug: Option<SocketAddr>,
    /// Time limit for requests under way on stop.
    pub drain: Duration,
    /// Certificate and key.
    pub tls: Option<Files>,
    /// The storage.
    pub place: Place,
    /// Rules for content.
    pub rules: Rules,
    /// Limits on uploads.
    pub limits: Limits,
    /// Maximum number of connections.
    pub connections: usize,
    /// Limit on requests of one address.
    pub rate: Option<Rate>,
    /// Settings of responses.
    pub settings: Settings,
    /// Authentication.
    pub auth: Auth,
    /// Rights of users.
    pub policies: Vec<Policy>,
    /// Limits on what prefixes hold.
    pub quotas: Vec<Quota>,
    /// Garbage collection by the server.
    pub collecting: Collecting,
    /// Removal of abandoned uploads.
    pub purging: Option<Purging>,
    /// Webhooks.
    pub endpoints: Vec<Endpoint>,
}

/// Values that override the file and the variables.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The registry's directory. Without a file it also allows deletions.
    pub root: Option<PathBuf>,
    /// The address to listen on.
    pub address: Option<String>,
}

/// A configuration with mistakes, all of which it lists.
#[derive(Debug, Default)]
pub struct Invalid(pub Vec<String>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Invalid {}

impl Config {
    /// Reads the file `path`, if one is given, and lays `variables` and `overrides` over it. Files that it names must be valid, too.
    pub fn load(
        path: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, Invalid> {
        let fail = |problem: String| Invalid(vec![problem]);
        let text = match path {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| fail(format!("cannot read {}: {error}", path.display())))?,
            None => String::new(),
        };
        let mut tree = yaml::parse(&text).map_err(|problem| match path {
            Some(path) => fail(format!("{}: {problem}", path.display())),
            None => fail(problem),
        })?;
        let foreign = yaml::overlay(&mut tree, variables).map_err(fail)?;
        if let Some(root) = &overrides.root {
            let root = Value::String(root.to_string_lossy().into_owned());
            lay(&mut tree, &["storage", "filesystem", "rootdirectory"], root);
            if path.is_none() {
                lay(&mut tree, &["storage", "delete", "enabled"], Value::Bool(true));
            }
        }
        if let Some(address) = &overrides.address {
            lay(&mut tree, &["http", "addr"], Value::String(address.clone()));
        }
        let mut config = Self::from_tree(tree)?;
        let no_section = |name| format!("the variable {name}: has no effect: it names no section of the configuration");
        config.warnings.extend(foreign.into_iter().map(no_section));
        Ok(config)
    }

    /// Reads a configuration from its text, without variables.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::from_tree(yaml::parse(text).map_err(|problem| Invalid(vec![problem]))?)
    }

    fn from_tree(mut tree: Value) -> Result<Self, Invalid> {
        short_forms(&mut tree);
        let defaults = yaml::parse(DEFAULTS).map_err(|problem| Invalid(vec![problem]))?;
        fill(&mut tree, &defaults);
        // A value that is no map is reported as a mistake later.
        let has_driver = tree["storage"]
            .as_object()
            .is_none_or(|storage| storage.keys().any(|key| storage::DRIVERS.contains(&key.to_lowercase().as_str())));
        if !has_driver {
            lay(&mut tree, &["storage", "filesystem", "rootdirectory"], Value::String(DEFAULT_ROOT.into()));
        }
        let mut mistakes = Mistakes::default();
        let config = root::config(&tree, &mut mistakes);
        match config {
            Some(config) if mistakes.errors.is_empty() => Ok(Self { tree, warnings: mistakes.warnings, ..config }),
            _ => Err(Invalid(mistakes.errors)),
        }
    }

    /// The effective configuration as YAML, without secrets.
    pub fn text(&self) -> String {
        let mut shown = self.tree.clone();
        hide(&mut shown);
        yaml::write(&shown)
    }
}

/// Writes short and older forms out: `storage: filesystem`, `auth: htpasswd`, `loglevel`.
fn short_forms(tree: &mut Value) {
    for key in ["storage", "auth"] {
        if let Value::String(driver) = &tree[key] {
            let driver = driver.clone();
            lay(tree, &[key], serde_json::json!({ driver: {} }));
        }
    }
    if tree["log"]["level"].is_null()
        && let Some(level) = tree["loglevel"].as_str().map(str::to_owned)
    {
        lay(tree, &["log", "level"], Value::String(level));
        lay(tree, &["loglevel"], Value::Null);
    }
}

/// Fills in `defaults` where `tree` has no value.
fn fill(tree: &mut Value, defaults: &Value) {
    match (tree, defaults) {
        (Value::Object(map), Value::Object(defaults)) => {
            for (key, default) in defaults {
                let own = map.keys().find(|own| own.to_lowercase() == *key).cloned();
                match own.and_then(|own| map.get_mut(&own)) {
                    Some(value) => fill(value, default),
                    None => drop(map.insert(key.clone(), default.clone())),
                }
            }
        }
        (tree @ Value::Null, defaults) => *tree = defaults.clone(),
        _ => {}
    }
}

/// Sets one key.
fn lay(tree: &mut Value, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *tree = value;
        return;
    };
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    let Value::Object(map) = tree else { return };
    let key = map.keys().find(|key| key.to_lowercase() == *first).cloned().unwrap_or_else(|| (*first).to_owned());
    lay(map.entry(key).or_insert(Value::Null), rest, value);
}

fn hide(tree: &mut Value) {
    match tree {
        Value::Object(map) => {
            for (key, value) in map {
                if SECRETS.contains(&key.to_lowercase().as_str()) && !value.is_null() {
                    *value = Value::String(HIDDEN.into());
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(hide),
        _ => {}
    }
}
