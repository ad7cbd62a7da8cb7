//! From a repository's domain to the places that may have it.
//!
//! | domain | places, tried in this order |
//! | --- | --- |
//! | `docker.io` | the mirrors, then Docker's own registry |
//! | loopback | plain HTTP, then HTTPS with any certificate; the other way round where `certs.d` has a folder for it |
//! | listed as insecure | HTTPS with any certificate, then plain HTTP |
//! | any other | HTTPS |
//!
//! Docker asks a loopback address by HTTPS first, too. Whoever answers there could turn HTTPS down as well, so that this guards nothing; and asking by
//! plain HTTP first spares the 30 ms of CPU that it takes to gather what a first handshake needs of chance.
//!
//! Source: moby 20.10, `registry/service_v2.go`, `registry/config.go`.

use reqwest::Url;

use crate::{
    Error,
    auth::docker_config::DEFAULT_REGISTRY_KEY,
    settings::{Settings, is_loopback},
};

/// The domain that a reference without one has.
const DEFAULT_DOMAIN: &str = "docker.io";
/// Where the default domain's registry answers.
const DEFAULT_HOST: &str = "registry-1.docker.io";

/// One place to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port, as `certs.d` names it.
    pub host: String,
    /// Addresses without a path, the preferred one first.
    pub bases: Vec<Url>,
    /// Whether its certificate counts.
    pub verify: Verify,
    /// What `config.json` calls it.
    pub credentials_key: String,
    pub is_mirror: bool,
}

/// Whether a certificate must be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    Full,
    /// Any will do, and so will none: plain HTTP.
    Nothing,
}

/// What to do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Pull,
    /// Mirrors take nothing.
    Push,
}

/// The places to ask for what lies under `domain`.
pub fn endpoints(domain: &str, direction: Direction, settings: &Settings) -> Result<Vec<Endpoint>, Error> {
    if domain.is_empty() {
        return Err(Error::invalid("the reference", "names no host that could be asked"));
    }
    if domain != DEFAULT_DOMAIN {
        return Ok(vec![of_host(domain, settings)?]);
    }
    let mut found = Vec::new();
    if direction == Direction::Pull {
        for mirror in &settings.mirrors {
            found.push(of_mirror(mirror, settings)?);
        }
    }
    let own = of_host(DEFAULT_HOST, settings)?;
    found.push(Endpoint { credentials_key: credentials_key(domain), ..own });
    Ok(found)
}

/// What `config.json` calls the registry `host`.
pub fn credentials_key(host: &str) -> String {
    match host {
        DEFAULT_DOMAIN | "index.docker.io" | DEFAULT_HOST => DEFAULT_REGISTRY_KEY.to_owned(),
        host => host.to_owned(),
    }
}

fn of_host(host: &str, settings: &Settings) -> Result<Endpoint, Error> {
    let url = |scheme: &str| {
        let base: Result<Url, _> = format!("{scheme}://{host}/").parse();
        base.map_err(|error| Error::invalid(format!("the registry {host:?}"), format!("is no host: {error}")))
    };
    let (verify, bases) = match settings.is_insecure(host) {
        true if is_loopback(host) && !settings.certs.join(host).is_dir() => {
            (Verify::Nothing, vec![url("http")?, url("https")?])
        }
        true => (Verify::Nothing, vec![url("https")?, url("http")?]),
        false => (Verify::Full, vec![url("https")?]),
    };
    Ok(Endpoint { host: host.to_owned(), bases, verify, credentials_key: credentials_key(host), is_mirror: false })
}

fn of_mirror(mirror: &str, settings: &Settings) -> Result<Endpoint, Error> {
    let wrong = |why: String| Error::invalid(format!("the mirror {mirror:?}"), why);
    let text = if mirror.contains("://") { mirror.to_owned() } else { format!("https://{mirror}") };
    let mut base: Url = text.parse().map_err(|error| wrong(format!("is no address: {error}")))?;
    let is_plain = matches!(base.scheme(), "http" | "https") && base.query().is_none() && base.username().is_empty();
    let Some(host) = base.host_str().filter(|_| is_plain) else {
        return Err(wrong("is not of the form https://host[:port]".to_owned()));
    };
    let host = base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    let insecure = settings.is_insecure(&host) || base.scheme() == "http";
    Ok(Endpoint {
        credentials_key: host.clone(),
        host,
        bases: vec![base],
        verify: if insecure { Verify::Nothing } else { Verify::Full },
        is_mirror: true,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn settings(mirrors: &[&str]) -> Settings {
        Settings {
            mirrors: mirrors.iter().map(|&mirror| mirror.to_owned()).collect(),
            insecure: vec!["plain.test".to_owned()],
            insecure_all: false,
            certs: PathBuf::new(),
            docker_config: PathBuf::new(),
        }
    }

    fn bases(domain: &str, direction: Direction) -> Vec<String> {
        let found = endpoints(domain, direction, &settings(&["http://m.test:81/cache", "n.test"])).unwrap();
        found.iter().flat_map(|endpoint| endpoint.bases.iter().map(Url::to_string)).collect()
    }

    #[test]
    fn where_to_ask() {
        let docker = "https://registry-1.docker.io/";
        assert_eq!(bases("docker.io", Direction::Pull), ["http://m.test:81/cache/", "https://n.test/", docker]);
        assert_eq!(bases("docker.io", Direction::Push), [docker]);
        assert_eq!(bases("r.test:5000", Direction::Pull), ["https://r.test:5000/"]);
        assert_eq!(bases("plain.test", Direction::Pull), ["https://plain.test/", "http://plain.test/"]);
        assert_eq!(bases("[::1]:5000", Direction::Pull), ["http://[::1]:5000/", "https://[::1]:5000/"]);
        assert!(endpoints("", Direction::Pull, &settings(&[])).is_err());
        for mirror in ["ftp://x", "http://user:secret@x", "http://x?y", "http://"] {
            let error = endpoints("docker.io", Direction::Pull, &settings(&[mirror])).unwrap_err().to_string();
            assert!(error.contains("mirror"), "{error}");
        }
    }

    #[test]
    fn docker_has_its_own_name_in_the_config() {
        let found = endpoints("docker.io", Direction::Push, &settings(&[])).unwrap();
        assert_eq!(found[0].credentials_key, DEFAULT_REGISTRY_KEY);
        assert_eq!(credentials_key("r.test:5000"), "r.test:5000");
    }
}
