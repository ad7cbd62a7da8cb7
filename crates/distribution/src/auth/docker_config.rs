//! `config.json`: who this user is at which registry, as the docker command line keeps it.
//!
//! ```text
//! $DOCKER_CONFIG/config.json, or ~/.docker/config.json     0600
//! {
//!   "auths":       {"<registry>": {"auth": base64(user:password), "identitytoken": "…"}},
//!   "credsStore":  "<suffix>",                   docker-credential-<suffix> keeps all logins
//!   "credHelpers": {"<registry>": "<suffix>"}    the same, for one registry
//! }
//! ```
//!
//! What this module does not know in the file stays as it is. The file is replaced as a whole.
//!
//! Source: docker/cli 20.10, `cli/config/configfile/file.go`, `cli/config/credentials/`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::helper::Helper;
use crate::Error;

/// Under this key Docker keeps the login of its default registry.
pub const DEFAULT_REGISTRY_KEY: &str = "https://index.docker.io/v1/";
/// Name that a helper gives with an identity token instead of a password.
const TOKEN_USER: &str = "<token>";
/// Bytes of the largest `config.json` that is read.
const CONFIG_MAX: u64 = 4 << 20;

/// What a user shows to a registry. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// What a login gave instead of the password: a refresh token.
    Identity {
        user: String,
        token: String,
    },
}

impl Credentials {
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } | Self::Identity { user, .. } => user,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?}, …)", self.user())
    }
}

/// Where a login was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In the file, readable by whoever can read it.
    File(PathBuf),
    Helper(String),
}

/// The user's `config.json`; one that is not there is empty.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    path: PathBuf,
    document: Map<String, Value>,
}

impl DockerConfig {
    /// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    pub fn default_path() -> PathBuf {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("DOCKER_CONFIG").unwrap_or_else(|| set("HOME").unwrap_or("/root".into()).join(".docker"));
        folder.join("config.json")
    }

    /// Reads `path`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let damaged = |reason: String| Error::Config { path: path.to_owned(), reason };
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > CONFIG_MAX) {
            return Err(damaged(format!("it has more than {CONFIG_MAX} bytes")));
        }
        let bytes = match strata_durable::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(Self { path: path.to_owned(), document: Map::new() }),
            Err(error) => return Err(error.into()),
        };
        Self::parse(path, &bytes).map_err(damaged)
    }

    /// Reads the bytes of a `config.json`, which lies at `path`.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, String> {
        let document = match bytes.trim_ascii() {
            [] => Map::new(),
            bytes => serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON object: {error}"))?,
        };
        Ok(Self { path: path.to_owned(), document })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The login for `registry`: a host with its port, or [`DEFAULT_REGISTRY_KEY`].
    pub fn credentials(&self, registry: &str) -> Result<Option<Credentials>, Error> {
        if let Some(helper) = self.helper(registry) {
            return Ok(helper.get(registry)?.map(|(user, secret)| match user.as_str() {
                TOKEN_USER => Credentials::Identity { user: String::new(), token: secret },
                _ => Credentials::Password { user, password: secret },
            }));
        }
        Ok(self.entry(registry).and_then(credentials_of))
    }

    /// Keeps a login. The file, or the helper that it names, has it when this returns.
    pub fn store(&mut self, registry: &str, credentials: &Credentials) -> Result<Stored, Error> {
        if let Some(helper) = self.helper(registry) {
            let (user, secret) = match credentials {
                Credentials::Password { user, password } => (user.as_str(), password),
                Credentials::Identity { token, .. } => (TOKEN_USER, token),
            };
            helper.store(registry, user, secret)?;
            self.auths()?.insert(registry.to_owned(), json!({}));
            self.write()?;
            return Ok(Stored::Helper(helper.program().to_owned()));
        }
        let entry = match credentials {
            Credentials::Password { user, password } => json!({"auth": STANDARD.encode(format!("{user}:{password}"))}),
            Credentials::Identity { user, token } => {
                json!({"auth": STANDARD.encode(format!("{user}:")), "identitytoken": token})
            }
        };
        self.auths()?.insert(registry.to_owned(), entry);
        self.write()?;
        Ok(Stored::File(self.path.clone()))
    }

    /// Forgets a login; returns whether there was one.
    pub fn erase(&mut self, registry: &str) -> Result<bool, Error> {
        let helper = self.helper(registry);
        let mut was = false;
        if let Some(helper) = helper {
            was |= helper.get(registry)?.is_some();
            helper.erase(registry)?;
        }
        let keys: Vec<String> = self.auths()?.keys().filter(|key| same_registry(key, registry)).cloned().collect();
        for key in &keys {
            self.auths()?.shift_remove(key);
        }
        if !keys.is_empty() {
            was = true;
            self.write()?;
        }
        Ok(was)
    }

    /// Whether it names programs that keep logins.
    pub fn has_helpers(&self) -> bool {
        ["credHelpers", "credsStore"].iter().any(|key| self.document.contains_key(*key))
    }

    fn entry(&self, registry: &str) -> Option<&Value> {
        let auths = self.document.get("auths")?.as_object()?;
        auths.get(registry).or_else(|| auths.iter().find(|(key, _)| same_registry(key, registry)).map(|(_, v)| v))
    }

    /// The helper that keeps the login of `registry`.
    fn helper(&self, registry: &str) -> Option<Helper> {
        let own = self.document.get("credHelpers").and_then(|helpers| helpers.get(registry));
        let all = self.document.get("credsStore");
        own.or(all).and_then(Value::as_str).filter(|suffix| !suffix.is_empty()).map(Helper::new)
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>, Error> {
        let path = self.path.clone();
        let auths = self.document.entry("auths").or_insert_with(|| json!({}));
        if auths.is_null() {
            *auths = json!({});
        }
        auths.as_object_mut().ok_or(Error::Config { path, reason: "\"auths\" in it is no object".to_owned() })
    }

    fn write(&self) -> Result<(), Error> {
        if let Some(folder) = self.path.parent() {
            strata_durable::create_dir_all(folder, 0o700)?;
        }
        // Go's json.MarshalIndent with a tab, as docker writes the file.
        let bytes = strata_spec::gojson::to_vec_indent(&self.document, "\t").expect("a JSON value is JSON");
        // What the name leads to stays what it is: people link this file.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        Ok(strata_durable::write(&path, &bytes, 0o600)?)
    }
}

/// Whether a key of `auths` means `registry`: older files spell it as an address.
fn same_registry(key: &str, registry: &str) -> bool {
    let host = |text: &str| -> String {
        let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        text.split('/').next().unwrap_or_default().to_owned()
    };
    key == registry || host(key) == host(registry)
}

fn credentials_of(entry: &Value) -> Option<Credentials> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
    let decoded = STANDARD.decode(text("auth")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (user, password) = match decoded.as_deref().and_then(|decoded| decoded.split_once(':')) {
        Some((user, password)) => (user.to_owned(), password.trim_end_matches('\0').to_owned()),
        None => (text("username").to_owned(), text("password").to_owned()),
    };
    match text("identitytoken") {
        "" if user.is_empty() && password.is_empty() => None,
        "" => Some(Credentials::Password { user, password }),
        token => Some(Credentials::Identity { user, token: token.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, DockerConfig) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let config = DockerConfig::read(&path).unwrap();
        (dir, config)
    }

    fn login(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.into(), password: password.into() }
    }

    #[test]
    fn logins_of_every_spelling_are_found() {
        let (_dir, config) = config(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"http://old.test/v1/":{"username":"a","password":"b"},
               "r.test:5000":{"auth":"dTo=","identitytoken":"t"},"none.test":{}}}"#,
        );
        assert_eq!(config.credentials(DEFAULT_REGISTRY_KEY).unwrap(), Some(login("u", "p")));
        assert_eq!(config.credentials("old.test").unwrap(), Some(login("a", "b")));
        let identity = Credentials::Identity { user: "u".into(), token: "t".into() };
        assert_eq!(config.credentials("r.test:5000").unwrap(), Some(identity));
        assert_eq!(config.credentials("none.test").unwrap(), None);
        assert_eq!(config.credentials("r.test").unwrap(), None, "another port is another registry");
    }

    #[test]
    fn a_login_is_kept_and_forgotten_and_nothing_else_changes() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, mut config) =
            config(r#"{"psFormat":"x","auths":{"a.test":{"auth":"dTpw"}},"HttpHeaders":{"K":"<v>"}}"#);
        let stored = config.store("b.test", &login("me", "s:e:c")).unwrap();
        assert_eq!(stored, Stored::File(config.path().to_owned()));
        let mut again = DockerConfig::read(config.path()).unwrap();
        assert_eq!(again.credentials("b.test").unwrap(), Some(login("me", "s:e:c")));
        assert_eq!(again.document["psFormat"], "x");
        assert_eq!(std::fs::metadata(config.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(again.erase("b.test").unwrap());
        assert!(!again.erase("b.test").unwrap());
        let text = std::fs::read_to_string(config.path()).unwrap();
        assert!(text.contains("a.test") && !text.contains("b.test") && text.contains("HttpHeaders"), "{text}");
    }

    #[test]
    fn what_is_no_config_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        assert_eq!(DockerConfig::read(&path).unwrap().credentials("x").unwrap(), None, "no file, no login");
        std::fs::write(&path, "[1]").unwrap();
        let error = DockerConfig::read(&path).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("no JSON object"), "{error}");
    }

    #[test]
    fn credentials_do_not_show_themselves() {
        assert!(!format!("{:?}", login("me", "secret")).contains("secret"));
    }
}
