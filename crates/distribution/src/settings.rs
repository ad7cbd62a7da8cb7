//! What this machine says of registries: mirrors, those that need no certificate, and where certificates lie.
//!
//! ```text
//! /etc/docker/daemon.json       {"registry-mirrors": ["https://mirror"], "insecure-registries": ["host:5000", "10.0.0.0/8"]}
//! /etc/docker/certs.d/<host>/   *.crt: CAs; <name>.cert with <name>.key: a client's certificate
//! STRATA_REGISTRY_MIRRORS, STRATA_INSECURE_REGISTRIES      the same lists, with commas between; they go first
//! ```
//!
//! Docker also looks a host's name up, and takes it for insecure if an address of it is. Here the host itself must be listed, or be an address in a
//! listed network: what a name server says shall not turn certificates off.
//!
//! Source: moby 20.10, `registry/config.go`, `registry/registry.go`.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::{Error, auth::docker_config::DockerConfig};

/// Where Docker keeps what its users say of registries.
const DAEMON_JSON: &str = "/etc/docker/daemon.json";
const CERTS: &str = "/etc/docker/certs.d";

/// What a client is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses of mirrors of the default registry, tried in this order before it.
    pub mirrors: Vec<String>,
    /// Hosts (`host` or `host:port`) and networks (`10.0.0.0/8`) that may speak plain HTTP, or show any certificate.
    pub insecure: Vec<String>,
    /// Whether all may.
    pub insecure_all: bool,
    /// `certs.d`.
    pub certs: PathBuf,
    /// The user's `config.json`.
    pub docker_config: PathBuf,
}

impl Settings {
    /// Reads what the machine and the environment say.
    pub fn of_machine() -> Result<Self, Error> {
        let mut settings = Self {
            mirrors: listed("STRATA_REGISTRY_MIRRORS"),
            insecure: listed("STRATA_INSECURE_REGISTRIES"),
            insecure_all: false,
            certs: std::env::var_os("STRATA_CERTS_DIR").map_or_else(|| CERTS.into(), PathBuf::from),
            docker_config: DockerConfig::default_path(),
        };
        let path = Path::new(DAEMON_JSON);
        match strata_durable::read(path) {
            Ok(bytes) => settings.add_daemon_json(path, &bytes)?,
            Err(error) if error.is_not_found() => {}
            Err(error) => tracing::warn!(%error, "mirrors and insecure registries are not known"),
        }
        Ok(settings)
    }

    /// Adds the lists of a `daemon.json`.
    pub fn add_daemon_json(&mut self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Daemon {
            #[serde(default)]
            registry_mirrors: Vec<String>,
            #[serde(default)]
            insecure_registries: Vec<String>,
        }
        if bytes.trim_ascii().is_empty() {
            return Ok(());
        }
        let daemon: Daemon = serde_json::from_slice(bytes)
            .map_err(|error| Error::Config { path: path.to_owned(), reason: error.to_string() })?;
        self.mirrors.extend(daemon.registry_mirrors);
        self.insecure.extend(daemon.insecure_registries);
        Ok(())
    }

    /// Whether `host` (with its port, if it has one) may speak plain HTTP or show any certificate. Loopback always may, as with Docker.
    pub fn is_insecure(&self, host: &str) -> bool {
        let name = host_only(host);
        let address: Option<IpAddr> = name.parse().ok();
        let listed = |entry: &String| {
            entry == host || entry == name || address.is_some_and(|address| in_network(entry, address))
        };
        self.insecure_all || is_loopback(host) || self.insecure.iter().any(listed)
    }
}

/// Whether `host` (with its port, if it has one) is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = host_only(host);
    name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// `[::1]:5000` and `host:5000` without port and brackets.
pub(crate) fn host_only(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// Whether `entry`, like `10.0.0.0/8`, has `address` in it.
fn in_network(entry: &str, address: IpAddr) -> bool {
    let Some((network, bits)) = entry.split_once('/') else { return false };
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let (network, address, width) = match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return false,
    };
    bits <= width && (bits == 0 || (network ^ address) >> (width - bits) == 0)
}

fn listed(variable: &str) -> Vec<String> {
    let text = std::env::var(variable).unwrap_or_default();
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(insecure: &[&str]) -> Settings {
        Settings {
            mirrors: Vec::new(),
            insecure: insecure.iter().map(|&host| host.to_owned()).collect(),
            insecure_all: false,
            certs: PathBuf::new(),
            docker_config: PathBuf::new(),
        }
    }

    #[test]
    fn who_needs_no_certificate() {
        let settings = settings(&["r.test:5000", "plain.test", "10.1.0.0/16", "fd00::/8", "bad/99"]);
        for (host, insecure) in [
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("localhost:1", true),
            ("[::1]:5000", true),
            ("r.test:5000", true),
            ("r.test", false),
            ("plain.test:1", true),
            ("10.1.2.3:5000", true),
            ("10.2.2.3", false),
            ("[fd00::1]:5000", true),
            ("[fe00::1]", false),
            ("docker.io", false),
            ("localhost.test", false),
        ] {
            assert_eq!(settings.is_insecure(host), insecure, "{host}");
        }
    }

    #[test]
    fn daemon_json_adds_to_what_is_known() {
        let mut settings = settings(&["a"]);
        let json = br#"{"registry-mirrors":["https://m.test"],"insecure-registries":["b"],"debug":true}"#;
        settings.add_daemon_json(Path::new("daemon.json"), json).unwrap();
        assert_eq!((settings.mirrors.len(), settings.insecure.as_slice()), (1, &["a".to_owned(), "b".to_owned()][..]));
        let error = settings.add_daemon_json(Path::new("daemon.json"), b"{").unwrap_err().to_string();
        assert!(error.contains("daemon.json"), "{error}");
    }
}
