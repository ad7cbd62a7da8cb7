//! `login`, `logout` and `search`.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use strata_spec::Reference;

use crate::{
    Client, Error,
    auth::{
        Scope,
        docker_config::{Credentials, DockerConfig, Stored},
    },
    endpoint::credentials_key,
    error::shorten,
    http::{Call, Remote, failure, read_all},
};

/// Bytes of an answer to a search.
const SEARCH_MAX: u64 = 8 << 20;
/// The domain that is meant where none is said.
const DEFAULT_DOMAIN: &str = "docker.io";
/// Where Docker's own search is answered.
const DEFAULT_SEARCH: &str = "index.docker.io";

/// One repository that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    pub name: String,
    pub description: String,
    #[serde(rename = "star_count")]
    pub stars: u64,
    pub is_official: bool,
    pub is_automated: bool,
}

impl Client {
    /// Checks a name and password with the registry `server` (Docker's if `None`), and keeps them; returns where.
    pub fn login(&self, server: Option<&str>, user: &str, password: &str) -> Result<Stored, Error> {
        let domain = domain(server);
        let remote = self.registry(&domain)?;
        let credentials = Credentials::Password { user: user.to_owned(), password: password.to_owned() };
        remote.auth().set(Some(credentials.clone()));
        let identity = self.net.wait(check(&remote))?;
        let kept = match identity {
            Some(token) => Credentials::Identity { user: user.to_owned(), token },
            None => credentials,
        };
        let mut config = DockerConfig::read(&self.settings().docker_config)?;
        config.store(&credentials_key(&domain), &kept)
    }

    /// Forgets the login for `server`; returns whether there was one.
    pub fn logout(&self, server: Option<&str>) -> Result<bool, Error> {
        let mut config = DockerConfig::read(&self.settings().docker_config)?;
        config.erase(&credentials_key(&domain(server)))
    }

    /// Looks for repositories: with the registry's search if it has one, else by the names in its catalog.
    pub fn search(&self, term: &str, limit: usize) -> Result<Vec<Found>, Error> {
        let (host, term) = match term.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (DEFAULT_SEARCH, term),
        };
        let remote = self.registry(host)?;
        self.net.wait(async {
            match search_v1(&remote, term, limit).await {
                Ok(found) => Ok(found),
                Err(Error::Status { status: 404 | 405, .. } | Error::Invalid { .. }) => {
                    catalog(&remote, host, term, limit).await
                }
                Err(error) => Err(error),
            }
        })
    }
}

/// Docker's name for what the user said.
pub fn domain(server: Option<&str>) -> String {
    let Some(server) = server.filter(|server| !server.is_empty()) else { return DEFAULT_DOMAIN.to_owned() };
    let host = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match host.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN.to_owned(),
        host => host.to_owned(),
    }
}

/// Asks with the login; returns the token to keep, if the registry gives one.
async fn check(remote: &Remote) -> Result<Option<String>, Error> {
    let (status, headers) = remote.ping().await?;
    if status == StatusCode::OK {
        return Ok(None);
    }
    let identity = remote.auth().identity(remote.client(), &headers).await?;
    if identity.is_some() {
        return Ok(identity);
    }
    let response = remote.send(Call::new(Method::GET, remote.url("v2/"), &Scope::new())).await?;
    match response.status() {
        StatusCode::OK => Ok(None),
        StatusCode::UNAUTHORIZED => Err(Error::Unauthorized {
            registry: remote.host.clone(),
            reason: "incorrect username or password".to_owned(),
        }),
        _ => Err(failure(response).await),
    }
}

async fn search_v1(remote: &Remote, term: &str, limit: usize) -> Result<Vec<Found>, Error> {
    #[derive(Deserialize)]
    struct Answer {
        results: Vec<Found>,
    }
    let mut url = remote.url("v1/search");
    url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
    let response = remote.send(Call::new(Method::GET, url, &Scope::new())).await?;
    if response.status() != StatusCode::OK {
        return Err(failure(response).await);
    }
    let body = read_all(response, SEARCH_MAX, "the answer to the search").await?;
    let mut answer: Answer = serde_json::from_slice(&body)
        .map_err(|error| Error::invalid("the answer to the search", shorten(&error.to_string())))?;
    answer.results.truncate(limit);
    Ok(answer.results)
}

async fn catalog(remote: &Remote, host: &str, term: &str, limit: usize) -> Result<Vec<Found>, Error> {
    #[derive(Deserialize)]
    struct Catalog {
        repositories: Option<Vec<String>>,
    }
    let mut url = remote.url("v2/_catalog");
    url.query_pairs_mut().append_pair("n", "1000");
    let scope = vec!["registry:catalog:*".to_owned()];
    let response = remote.send(Call::new(Method::GET, url, &scope)).await?;
    if response.status() != StatusCode::OK {
        return Err(failure(response).await);
    }
    let body = read_all(response, SEARCH_MAX, "the catalog").await?;
    let catalog: Catalog =
        serde_json::from_slice(&body).map_err(|error| Error::invalid("the catalog", shorten(&error.to_string())))?;
    let names = catalog.repositories.unwrap_or_default().into_iter().filter(|name| name.contains(term));
    let found = names.filter_map(|name| Reference::parse_name(&format!("{host}/{name}")).ok());
    Ok(found.take(limit).map(|name| Found { name: name.name(), ..Found::default() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_one_name() {
        for (said, meant) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("http://r.test:5000/v2/"), "r.test:5000"),
            (Some("r.test"), "r.test"),
        ] {
            assert_eq!(domain(said), meant);
        }
    }
}
