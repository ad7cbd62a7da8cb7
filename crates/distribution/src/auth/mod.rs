//! Who is asking: challenges answered with a name and password, with tokens, or with nothing.
//!
//! ```text
//! registry: 401, WWW-Authenticate: Bearer realm="https://auth…",service="…",scope="repository:a:pull"
//!   no login         GET realm?service=…&scope=…                          {"token": …}
//!   password         the same, with Authorization: Basic
//!   identity token   POST realm  grant_type=refresh_token&refresh_token=…  {"access_token": …}
//! registry: the same request again, Authorization: Bearer
//! ```
//!
//! Source: distribution, `docs/spec/auth/{token,oauth}.md`; moby 20.10, `registry/auth.go`.

pub mod challenge;
pub mod docker_config;
pub mod helper;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE},
};
use serde::Deserialize;

use crate::{
    Error,
    error::shorten,
    http::{self, network},
    settings::host_only,
};

use challenge::Challenge;
use docker_config::{Credentials, DockerConfig};

/// What this client calls itself to token servers.
const CLIENT_ID: &str = "strata";
/// Bytes of the largest answer of a token server.
const TOKEN_MAX: u64 = 1 << 20;

/// What a request is for: `repository:library/debian:pull`. Empty for the registry itself.
pub(crate) type Scope = Vec<String>;

/// The scope of reading a repository.
pub(crate) fn pull_scope(repository: &str) -> Scope {
    vec![format!("repository:{repository}:pull")]
}

/// The scope of writing a repository.
pub(crate) fn push_scope(repository: &str) -> Scope {
    vec![format!("repository:{repository}:pull,push")]
}

/// How one registry wants to be asked, and what it was shown.
pub(crate) struct Auth {
    /// Host and port of the registry, for messages.
    registry: String,
    /// Whether the registry itself was reached in the clear.
    plain: bool,
    credentials_key: String,
    docker_config: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    credentials: Option<Option<Credentials>>,
    /// Whether a name and password go with each request.
    basic: bool,
    tokens: HashMap<Scope, String>,
}

/// What a token server answers.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

impl Auth {
    pub fn new(registry: &str, plain: bool, credentials_key: &str, docker_config: PathBuf) -> Self {
        Self {
            registry: registry.to_owned(),
            plain,
            credentials_key: credentials_key.to_owned(),
            docker_config,
            state: Mutex::default(),
        }
    }

    /// Uses `credentials`, whatever `config.json` says.
    pub fn set(&self, credentials: Option<Credentials>) {
        self.state().credentials = Some(credentials);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this")
    }

    /// What to send with a request for `scope`, as far as that is known.
    pub fn header(&self, scope: &Scope) -> Option<HeaderValue> {
        let state = self.state();
        if let Some(token) = state.tokens.get(scope) {
            return secret(&format!("Bearer {token}"));
        }
        match &state.credentials {
            Some(Some(credentials)) if state.basic => secret(&basic(credentials)?),
            _ => None,
        }
    }

    /// Answers the challenge of a 401, which came though `shown` was sent; the request may then be made again. Fails if there is no
    /// answer to give.
    pub async fn answer(
        &self,
        client: &reqwest::Client,
        headers: &HeaderMap,
        scope: &Scope,
        shown: Option<&HeaderValue>,
    ) -> Result<(), Error> {
        let challenges: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|header| header.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let credentials = self.credentials()?;
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            let (token, _) = self.token(client, bearer, scope, credentials.as_ref(), false).await?;
            self.state().tokens.insert(scope.clone(), token);
            return Ok(());
        }
        let basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        match (basic, &credentials) {
            // Another request may have found out meanwhile that a password is wanted.
            (true, Some(Credentials::Password { .. })) if shown.is_none() => {
                self.state().basic = true;
                Ok(())
            }
            (true, Some(_)) => Err(self.unauthorized("incorrect username or password")),
            (true, None) => Err(self.unauthorized("no basic auth credentials")),
            (false, _) => Err(self.unauthorized("it does not say how (no challenge that is known)")),
        }
    }

    /// Asks for what a login keeps: an identity token if the server gives one.
    pub async fn identity(&self, client: &reqwest::Client, headers: &HeaderMap) -> Result<Option<String>, Error> {
        let header = headers.get(WWW_AUTHENTICATE).and_then(|header| header.to_str().ok()).unwrap_or_default();
        let challenges = challenge::parse(header);
        let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") else { return Ok(None) };
        let credentials = self.credentials()?;
        Ok(self.token(client, bearer, &Scope::new(), credentials.as_ref(), true).await?.1)
    }

    /// The user's login, read when it is first needed.
    fn credentials(&self) -> Result<Option<Credentials>, Error> {
        if let Some(known) = &self.state().credentials {
            return Ok(known.clone());
        }
        let found = match DockerConfig::read(&self.docker_config)?.credentials(&self.credentials_key) {
            // As with Docker: much can be had without a login.
            Err(error @ Error::Helper { .. }) => {
                tracing::warn!(%error, registry = self.registry, "going on without a login");
                None
            }
            found => found?,
        };
        self.state().credentials = Some(found.clone());
        Ok(found)
    }

    /// Asks the server that a challenge names for a token, and for one to keep if `offline`.
    async fn token(
        &self,
        client: &reqwest::Client,
        bearer: &Challenge,
        scope: &Scope,
        credentials: Option<&Credentials>,
        offline: bool,
    ) -> Result<(String, Option<String>), Error> {
        let realm = bearer.param("realm").unwrap_or_default();
        let realm: Url = realm
            .parse()
            .map_err(|_| self.unauthorized(&format!("it names {:?} as the place for tokens", shorten(realm))))?;
        self.check_realm(&realm, credentials)?;
        let mut scopes = scope.clone();
        for asked in bearer.param("scope").unwrap_or_default().split(' ').filter(|asked| !asked.is_empty()) {
            if !scopes.iter().any(|known| covers(known, asked)) {
                scopes.push(asked.to_owned());
            }
        }
        let service = bearer.param("service").unwrap_or_default();
        let request = match credentials {
            Some(Credentials::Identity { token, .. }) => {
                let scopes = scopes.join(" ");
                let fields = [
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("client_id", CLIENT_ID),
                    ("scope", &scopes),
                    ("refresh_token", token),
                ];
                let body = form(&fields);
                client.post(realm.clone()).header("content-type", "application/x-www-form-urlencoded").body(body)
            }
            credentials => {
                let mut url = realm.clone();
                {
                    let mut query = url.query_pairs_mut();
                    query.append_pair("service", service);
                    for scope in &scopes {
                        query.append_pair("scope", scope);
                    }
                    if let Some(credentials) = credentials {
                        query.append_pair("account", credentials.user());
                    }
                    if offline {
                        query.append_pair("client_id", CLIENT_ID).append_pair("offline_token", "true");
                    }
                }
                let request = client.get(url);
                match credentials.and_then(basic).as_deref().and_then(secret) {
                    Some(header) => request.header("authorization", header),
                    None => request,
                }
            }
        };
        let response = request.send().await.map_err(|error| network("get a token from", &realm, &error))?;
        let status = response.status();
        if status.as_u16() == 401 || status.as_u16() == 403 {
            let what = if credentials.is_some() { "incorrect username or password" } else { "it is not public" };
            let said = http::failure(response).await;
            return Err(self.unauthorized(&format!("{what} ({said})")));
        }
        if !status.is_success() {
            return Err(http::failure(response).await);
        }
        let body = http::read_all(response, TOKEN_MAX, "the token server's answer").await?;
        let answer: Token = serde_json::from_slice(&body)
            .map_err(|_| self.unauthorized("its token server answers something that is no token"))?;
        // Some servers send both, one of them empty.
        let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.unauthorized("its token server gave no token"))?;
        Ok((token, answer.refresh_token.filter(|token| offline && !token.is_empty())))
    }

    /// A password does not travel in the clear to a token server, unless the registry itself is spoken to so.
    fn check_realm(&self, realm: &Url, credentials: Option<&Credentials>) -> Result<(), Error> {
        let loopback = realm.host_str().is_some_and(|host| {
            let host = host_only(host);
            host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        });
        match realm.scheme() {
            "https" => Ok(()),
            "http" if self.plain || loopback || credentials.is_none() => Ok(()),
            _ => Err(self.unauthorized(&format!(
                "it names {} for tokens, and a password is not sent there in the clear",
                http::shown(realm)
            ))),
        }
    }

    fn unauthorized(&self, reason: &str) -> Error {
        Error::Unauthorized { registry: self.registry.clone(), reason: reason.to_owned() }
    }
}

/// Whether the scope `known` allows all that `asked` does: `repository:a:pull,push` covers `repository:a:pull`.
fn covers(known: &str, asked: &str) -> bool {
    let (Some((of, actions)), Some((same, wanted))) = (known.rsplit_once(':'), asked.rsplit_once(':')) else {
        return known == asked;
    };
    of == same && wanted.split(',').all(|action| actions.split(',').any(|known| known == action))
}

fn basic(credentials: &Credentials) -> Option<String> {
    match credentials {
        Credentials::Password { user, password } => {
            Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        }
        Credentials::Identity { .. } => None,
    }
}

/// A header that no log shows.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `application/x-www-form-urlencoded`.
fn form(fields: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form/").expect("an address");
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}
