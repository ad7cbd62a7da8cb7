//! Logging in to OpenStack Swift: Keystone 2 and 3, and the first protocol, which Swift's own TempAuth and Ceph speak.
//!
//! A token lives for hours only: each request is sent with the newest, and when it is refused (401) there is one login more.
//!
//! Source: OpenStack, Identity API v3, "Password authentication with scoped authorization"; Identity API v2, `POST /v2.0/tokens`;
//! Swift, "Auth v1".

use std::{fmt, sync::Arc, time::Duration};

use hyper::{Request, Response, StatusCode, header::HeaderValue};
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport};
use opendal_http_transport_reqwest::ReqwestTransport;
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// Time limit for a login.
const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: &str = "x-auth-token";

/// A login to Swift.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// URL of the identity service, such as `https://keystone:5000/v3` or `https://swift/auth/v1.0`.
    pub url: String,
    /// The protocol.
    pub version: Version,
    /// Name of the user.
    pub user: String,
    /// The password.
    pub password: String,
    /// Domain of the user and of the project.
    pub domain: Option<Named>,
    /// Project or tenant.
    pub project: Option<Named>,
    /// ID of a trust.
    pub trust: Option<String>,
    /// Region in the catalogue; the first entry if not given.
    pub region: Option<String>,
    /// `public`, `internal` or `admin`.
    pub interface: String,
}

/// A domain or project of the identity service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By name.
    Name(String),
    /// By ID.
    Id(String),
}

impl Named {
    fn json(&self) -> Value {
        match self {
            Self::Name(name) => json!({ "name": name }),
            Self::Id(id) => json!({ "id": id }),
        }
    }
}

/// A protocol of the identity service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Swift's own.
    V1,
    /// Keystone 2.
    V2,
    /// Keystone 3.
    V3,
}

impl Version {
    /// Returns the protocol that a URL names in its path.
    pub fn of_url(url: &str) -> Option<Self> {
        let has = |word: &str| url.contains(word);
        [(Self::V3, "v3"), (Self::V2, "v2"), (Self::V1, "v1")]
            .into_iter()
            .find_map(|(one, word)| has(word).then_some(one))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

/// The result of a login.
struct Session {
    token: HeaderValue,
    endpoint: String,
}

impl Login {
    async fn ask(&self, client: &reqwest::Client) -> Result<Session, String> {
        let fail = |problem: String| format!("the login to Swift as {} at {}: {problem}", self.user, self.url);
        let base = self.url.trim_end_matches('/');
        let request = match self.version {
            Version::V1 => client.get(base).header("x-auth-user", &self.user).header("x-auth-key", &self.password),
            Version::V2 => client.post(format!("{base}/tokens")).body(self.body_v2().to_string()),
            Version::V3 => client.post(format!("{base}/auth/tokens")).body(self.body_v3().to_string()),
        };
        let request = request.header("accept", "application/json").header("content-type", "application/json");
        let answer = request.timeout(PATIENCE).send().await.map_err(|error| fail(error.without_url().to_string()))?;
        if !answer.status().is_success() {
            return Err(fail(format!("it was answered with {}", answer.status())));
        }
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (token, endpoint) = match self.version {
            Version::V1 => (header(TOKEN), header("x-storage-url")),
            Version::V2 => {
                let document = document(answer).await.map_err(fail)?;
                let access = &document["access"];
                (access["token"]["id"].as_str().map(str::to_owned), self.endpoint_v2(&access["serviceCatalog"]))
            }
            Version::V3 => {
                let token = header("x-subject-token");
                let document = document(answer).await.map_err(fail)?;
                (token, self.endpoint_v3(&document["token"]["catalog"]))
            }
        };
        let token = token.and_then(|token| token.parse().ok()).ok_or_else(|| fail("no token came back".into()))?;
        let endpoint = endpoint.ok_or_else(|| {
            let region = self.region.as_deref().unwrap_or("any region");
            fail(format!("the catalogue has no {} object-store in {region}", self.interface))
        })?;
        Ok(Session { token, endpoint })
    }

    fn body_v2(&self) -> Value {
        let mut auth = json!({"passwordCredentials": {"username": self.user, "password": self.password}});
        match &self.project {
            Some(Named::Name(name)) => auth["tenantName"] = json!(name),
            Some(Named::Id(id)) => auth["tenantId"] = json!(id),
            None => {}
        }
        json!({ "auth": auth })
    }

    fn body_v3(&self) -> Value {
        let mut user = json!({"name": self.user, "password": self.password});
        if let Some(domain) = &self.domain {
            user["domain"] = domain.json();
        }
        let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": user}}});
        match (&self.trust, &self.project) {
            (Some(trust), _) => auth["scope"] = json!({"OS-TRUST:trust": {"id": trust}}),
            (None, Some(project)) => {
                let mut scope = project.json();
                if let (Named::Name(_), Some(domain)) = (project, &self.domain) {
                    scope["domain"] = domain.json();
                }
                auth["scope"] = json!({ "project": scope });
            }
            (None, None) => {}
        }
        json!({ "auth": auth })
    }

    fn is_here(&self, endpoint: &Value) -> bool {
        self.region.as_ref().is_none_or(|region| endpoint["region"] == **region || endpoint["region_id"] == **region)
    }

    fn endpoint_v2(&self, catalogue: &Value) -> Option<String> {
        let key = format!("{}URL", self.interface);
        let found = stores(catalogue).find(|endpoint| self.is_here(endpoint))?;
        found[&key].as_str().map(str::to_owned)
    }

    fn endpoint_v3(&self, catalogue: &Value) -> Option<String> {
        let fits = |endpoint: &&Value| endpoint["interface"] == *self.interface && self.is_here(endpoint);
        stores(catalogue).find(fits)?["url"].as_str().map(str::to_owned)
    }
}

async fn document(answer: reqwest::Response) -> Result<Value, String> {
    let bytes = answer.bytes().await.map_err(|error| error.without_url().to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| format!("what came back is not JSON: {error}"))
}

/// Endpoints of the object stores of a catalogue.
fn stores(catalogue: &Value) -> impl Iterator<Item = &Value> {
    let services = catalogue.as_array().into_iter().flatten().filter(|service| service["type"] == "object-store");
    services.flat_map(|service| service["endpoints"].as_array().into_iter().flatten())
}

/// Sends requests with the newest token.
pub struct Transport {
    inner: ReqwestTransport,
    client: reqwest::Client,
    login: Login,
    token: Arc<Mutex<HeaderValue>>,
}

impl Transport {
    /// Logs in; returns the URL of the account, too.
    pub async fn login(login: Login) -> Result<(Self, String), String> {
        // No redirects: a token is for one host.
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| error.to_string())?;
        let Session { token, endpoint } = login.ask(&client).await?;
        let inner = ReqwestTransport::new(client.clone());
        Ok((Self { inner, client, login, token: Arc::new(Mutex::new(token)) }, endpoint))
    }

    /// The token after `refused`: a new one, unless another request has got it meanwhile.
    async fn renew(&self, refused: &HeaderValue) -> Result<HeaderValue, String> {
        let mut token = self.token.lock().await;
        if *token == *refused {
            *token = self.login.ask(&self.client).await?.token;
        }
        Ok(token.clone())
    }
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let token = self.token.lock().await.clone();
        let mut first = request.clone();
        first.headers_mut().insert(TOKEN, token.clone());
        let answer = self.inner.fetch(first).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let renewed =
            self.renew(&token).await.map_err(|problem| opendal::Error::new(ErrorKind::PermissionDenied, problem))?;
        let mut again = request;
        again.headers_mut().insert(TOKEN, renewed);
        self.inner.fetch(again).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            url: "http://k/v3".into(),
            version: Version::V3,
            user: "ann".into(),
            password: "secret".into(),
            domain: Some(Named::Name("Default".into())),
            project: Some(Named::Name("images".into())),
            trust: None,
            region: Some("two".into()),
            interface: "public".into(),
        }
    }

    #[test]
    fn the_protocol_is_told_by_the_url() {
        for (url, version) in [
            ("http://h:5000/v3", Some(Version::V3)),
            ("http://h:5000/v2.0/", Some(Version::V2)),
            ("http://h:8080/auth/v1.0", Some(Version::V1)),
            ("http://h/", None),
        ] {
            assert_eq!(Version::of_url(url), version, "{url}");
        }
    }

    #[test]
    fn keystone_is_asked_in_its_words() {
        let mut login = login();
        let expected = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {"name": "ann", "password": "secret", "domain": {"name": "Default"}}}},
            "scope": {"project": {"name": "images", "domain": {"name": "Default"}}}}});
        assert_eq!(login.body_v3(), expected);
        login.project = Some(Named::Id("p1".into()));
        assert_eq!(login.body_v3()["auth"]["scope"], json!({"project": {"id": "p1"}}));
        login.trust = Some("t1".into());
        assert_eq!(login.body_v3()["auth"]["scope"], json!({"OS-TRUST:trust": {"id": "t1"}}));
        let expected =
            json!({"auth": {"passwordCredentials": {"username": "ann", "password": "secret"}, "tenantId": "p1"}});
        assert_eq!(login.body_v2(), expected);
        assert!(!format!("{login:?}").contains("secret"));
    }

    #[test]
    fn the_catalogue_names_the_store_of_the_region() {
        let mut login = login();
        let v3 = json!([
            {"type": "identity", "endpoints": [{"interface": "public", "region": "two", "url": "http://no"}]},
            {"type": "object-store", "endpoints": [
                {"interface": "public", "region": "one", "url": "http://one"},
                {"interface": "internal", "region": "two", "url": "http://internal"},
                {"interface": "public", "region_id": "two", "url": "http://two"}]}]);
        assert_eq!(login.endpoint_v3(&v3).as_deref(), Some("http://two"));
        let v2 = json!([{"type": "object-store", "endpoints": [
            {"region": "one", "publicURL": "http://one"}, {"region": "two", "publicURL": "http://two", "internalURL": "http://i"}]}]);
        assert_eq!(login.endpoint_v2(&v2).as_deref(), Some("http://two"));
        login.region = None;
        assert_eq!(login.endpoint_v3(&v3).as_deref(), Some("http://one"));
        login.region = Some("three".into());
        assert_eq!((login.endpoint_v3(&v3), login.endpoint_v2(&v2)), (None, None));
    }
}
