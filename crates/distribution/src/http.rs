//! Requests to one registry: authorised, repeated where that may help, redirected without their credentials.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use reqwest::{
    Certificate, Client, Identity, Method, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
    redirect::Policy,
};
use serde::Deserialize;

use crate::{
    Error,
    auth::{Auth, Scope},
    endpoint::{Endpoint, Verify},
    error::shorten,
    range::retry_after,
    settings::{Settings, is_loopback},
};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(20);
/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(60);
/// Times that a request is made before its failure counts.
pub(crate) const ATTEMPTS: u32 = 6;
/// The first wait between two attempts; each one doubles it.
const WAIT: Duration = Duration::from_millis(200);
/// The longest wait, whatever the other end asks for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Redirects in a row.
const REDIRECTS: usize = 10;
/// Bytes of an error's text that are read.
const FAILURE_MAX: u64 = 64 << 10;

/// A registry that answers.
pub(crate) struct Remote {
    /// Host and port.
    pub host: String,
    base: Url,
    client: Client,
    auth: Auth,
    verify: Verify,
}

/// One request.
#[derive(Clone)]
pub(crate) struct Call {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    pub scope: Scope,
    /// Whether it may be made again after a failure that leaves open whether it was carried out.
    pub again: bool,
}

impl Call {
    pub fn new(method: Method, url: Url, scope: &Scope) -> Self {
        let again = !matches!(method, Method::PATCH);
        Self { method, url, headers: HeaderMap::new(), body: None, scope: scope.clone(), again }
    }

    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }
}

impl Remote {
    /// Finds out at which of its addresses an endpoint answers.
    pub async fn connect(endpoint: &Endpoint, settings: &Settings) -> Result<Self, Error> {
        let mut telling = None;
        for base in &endpoint.bases {
            let client = client(endpoint, base, settings)?;
            let plain = base.scheme() == "http";
            let auth = Auth::new(&endpoint.host, plain, &endpoint.credentials_key, settings.docker_config.clone());
            let remote =
                Self { host: endpoint.host.clone(), base: base.clone(), client, auth, verify: endpoint.verify };
            match remote.ping().await {
                Ok(_) => return Ok(remote),
                Err(error) => {
                    tracing::debug!(%base, %error, "no registry here");
                    // A registry that is down refuses in both ways. One that answers speaks in one of them, and what it says tells more than that it
                    // does not speak the other: 400 or a redirect is what such a port says to plain HTTP.
                    if !matches!(telling, Some(Error::Status { status: 401.., .. })) {
                        telling = Some(error);
                    }
                }
            }
        }
        Err(telling.unwrap_or(Error::Stopped))
    }

    /// Asks whether it is a registry; returns the headers of its answer, which may be a challenge.
    pub async fn ping(&self) -> Result<(StatusCode, HeaderMap), Error> {
        let url = self.url("v2/");
        let mut attempt = 0;
        loop {
            let request = self.client.get(url.clone());
            let response = request.send().await.map_err(|error| network("reach the registry", &url, &error))?;
            let status = response.status();
            if matches!(status, StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return Ok((status, response.headers().clone()));
            }
            let error = failure(response).await;
            attempt += 1;
            if !error.is_transient() || attempt == ATTEMPTS {
                return Err(error);
            }
            pause(attempt, error.wait()).await;
        }
    }

    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The address of `path`, which begins with `v2/`.
    pub fn url(&self, path: &str) -> Url {
        self.base.join(path).expect("a path of checked parts joins to an address")
    }

    /// The address that a `Location` leads to from `from`.
    pub fn location(&self, from: &Url, response: &Response) -> Result<Url, Error> {
        let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        from.join(text)
            .ok()
            .filter(|to| !text.is_empty() && matches!(to.scheme(), "http" | "https"))
            .ok_or_else(|| Error::invalid(shown(from), "answers with no place to go on"))
    }

    /// Makes a request, and again where that may help. Any answer that is no error in passing is returned, whatever its status.
    pub async fn send(&self, call: Call) -> Result<Response, Error> {
        let mut attempt = 0;
        loop {
            let error = match self.try_once(&call).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            attempt += 1;
            let refused = matches!(error, Error::Status { status: 429 | 503, .. });
            if !error.is_transient() || attempt == ATTEMPTS || !(call.again || refused) {
                return Err(error);
            }
            tracing::debug!(%error, attempt, "trying again");
            pause(attempt, error.wait()).await;
        }
    }

    /// Makes a request once, for callers that begin again by themselves. An error in passing is an error, any other answer is returned.
    pub async fn try_once(&self, call: &Call) -> Result<Response, Error> {
        let response = self.once(call).await?;
        match response.status().as_u16() {
            408 | 425 | 429 | 500 | 502 | 503 | 504 => Err(failure(response).await),
            _ => Ok(response),
        }
    }

    /// Makes a request whose body can be sent once. After a 401 the challenge is answered, for the next attempt.
    pub async fn stream(&self, call: &Call, body: reqwest::Body) -> Result<Response, Error> {
        let own = self.auth.header(&call.scope).filter(|_| same_origin(&call.url, &self.base));
        let mut request = self.client.request(call.method.clone(), call.url.clone()).headers(call.headers.clone());
        if let Some(header) = &own {
            request = request.header(AUTHORIZATION, header.clone());
        }
        let response = request.body(body).send().await.map_err(|error| network("send to", &call.url, &error))?;
        if response.status() == StatusCode::UNAUTHORIZED && same_origin(&call.url, &self.base) {
            self.auth.answer(&self.client, response.headers(), &call.scope, own.as_ref()).await?;
        }
        Ok(response)
    }

    /// One request, with its challenges answered and its redirects followed.
    async fn once(&self, call: &Call) -> Result<Response, Error> {
        let mut url = call.url.clone();
        let mut answered = false;
        let mut redirects = 0;
        loop {
            let mut request = self.client.request(call.method.clone(), url.clone()).headers(call.headers.clone());
            // Nobody else sees what this registry is shown.
            let own = self.auth.header(&call.scope).filter(|_| same_origin(&url, &self.base));
            if let Some(header) = &own {
                request = request.header(AUTHORIZATION, header.clone());
            }
            if let Some(body) = &call.body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(|error| network("reach", &url, &error))?;
            match response.status().as_u16() {
                401 if !answered && same_origin(&url, &self.base) => {
                    answered = true;
                    let headers = response.headers().clone();
                    self.auth.answer(&self.client, &headers, &call.scope, own.as_ref()).await?;
                }
                // 307 and 308 keep method and body; the others are followed where there is no body.
                status @ (301 | 302 | 303 | 307 | 308)
                    if status >= 307 || matches!(call.method, Method::GET | Method::HEAD) =>
                {
                    redirects += 1;
                    let to = self.location(&url, &response)?;
                    if redirects > REDIRECTS {
                        return Err(Error::invalid(shown(&call.url), "leads in circles (too many redirects)"));
                    }
                    if url.scheme() == "https" && to.scheme() == "http" && self.verify == Verify::Full {
                        let what = format!("leads to {}, in the clear; that is not followed", shown(&to));
                        return Err(Error::invalid(shown(&call.url), what));
                    }
                    tracing::debug!(from = %shown(&url), to = %shown(&to), "redirected");
                    url = to;
                }
                _ => return Ok(response),
            }
        }
    }
}

/// Waits before attempt `attempt` + 1.
pub(crate) async fn pause(attempt: u32, asked: Option<Duration>) {
    let own = WAIT.saturating_mul(1 << attempt.saturating_sub(1).min(8));
    tokio::time::sleep(asked.unwrap_or(own).max(WAIT).min(WAIT_MAX)).await;
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host_str() == b.host_str() && a.port_or_known_default() == b.port_or_known_default()
}

/// A client for one address, with what `certs.d` has for its host. Proxies come from the environment; loopback has none.
fn client(endpoint: &Endpoint, base: &Url, settings: &Settings) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .user_agent(concat!("strata/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .tcp_nodelay(true);
    if is_loopback(&endpoint.host) {
        builder = builder.no_proxy();
        if base.scheme() == "http" {
            // Nothing on the way has a certificate, so that reading the system's authorities is spared.
            builder = builder.tls_certs_only([]);
        }
    }
    if base.scheme() == "https" {
        let own = certificates(&settings.certs.join(&endpoint.host))?;
        if let Some(identity) = own.identity {
            builder = builder.identity(identity);
        }
        builder = match endpoint.verify {
            Verify::Full => builder.tls_certs_merge(own.authorities),
            Verify::Nothing => builder.tls_danger_accept_invalid_certs(true),
        };
    }
    builder.build().map_err(|error| network("prepare for", base, &error))
}

struct Certificates {
    authorities: Vec<Certificate>,
    identity: Option<Identity>,
}

/// Reads a folder of `certs.d`; no folder, no certificates.
fn certificates(folder: &Path) -> Result<Certificates, Error> {
    let mut found = Certificates { authorities: Vec::new(), identity: None };
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(found) };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let wrong = |reason: String| Error::Config { path: path.clone(), reason };
        let of = |extension: &str| path.extension().is_some_and(|found| found == extension);
        if of("crt") {
            let pem = strata_durable::read(&path)?;
            let authorities = Certificate::from_pem_bundle(&pem)
                .map_err(|error| wrong(format!("it holds no certificates: {}", reason(&error))))?;
            found.authorities.extend(authorities);
        } else if of("cert") {
            let key = path.with_extension("key");
            let mut pem = strata_durable::read(&path)?;
            pem.push(b'\n');
            match strata_durable::read(&key) {
                Ok(key) => pem.extend(key),
                Err(error) if error.is_not_found() => {
                    return Err(wrong(format!("a certificate needs its key: {} is missing", key.display())));
                }
                Err(error) => return Err(error.into()),
            }
            let identity = Identity::from_pem(&pem)
                .map_err(|error| wrong(format!("it is no certificate with its key: {}", reason(&error))))?;
            found.identity = Some(identity);
        }
    }
    Ok(found)
}

/// An address for messages: without its query, which may hold a signature, and without a password.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}

pub(crate) fn network(action: &'static str, url: &Url, error: &reqwest::Error) -> Error {
    Error::Network { action, url: shown(url), reason: reason(error) }
}

/// The innermost causes of a failure: the outer ones only say that there was a request.
fn reason(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    match causes.last() {
        None if error.is_timeout() => "nothing came for too long".to_owned(),
        None => shorten(&error.to_string()),
        Some(last) => shorten(last),
    }
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read_all(mut response: Response, limit: u64, object: &str) -> Result<Vec<u8>, Error> {
    let too_large = || Error::TooLarge { object: object.to_owned(), limit };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let url = response.url().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| network("read from", &url, &error))? {
        if body.len() as u64 + chunk.len() as u64 > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error of an answer that says no: the registry's own words, if it has some.
pub(crate) async fn failure(response: Response) -> Error {
    let status = response.status().as_u16();
    let url = shown(response.url());
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
    let mut body = Vec::new();
    let mut response = response;
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(FAILURE_MAX as usize - body.len())]);
        if body.len() as u64 == FAILURE_MAX {
            break;
        }
    }
    Error::Status { url, status, message: said(&body), wait }
}

/// What an error document says, in Docker's form: `manifest unknown: manifest unknown`. Empty if it is none.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        errors: Vec<One>,
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        message: Option<String>,
    }
    let Ok(document) = serde_json::from_slice::<Document>(body) else { return String::new() };
    let one = |error: &One| {
        let code = error.code.to_lowercase().replace('_', " ");
        match error.message.as_deref() {
            None | Some("") => code,
            Some(message) => format!("{code}: {message}"),
        }
    };
    let mut all: Vec<String> = document.errors.iter().take(4).map(one).collect();
    all.extend(document.details);
    shorten(&all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_said_in_dockers_words() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#;
        assert_eq!(said(body), "manifest unknown: manifest unknown");
        assert_eq!(said(br#"{"errors":[{"code":"DENIED"}]}"#), "denied");
        assert_eq!(said(b"<html>"), "");
        assert_eq!(said(b"{\"errors\":[{\"code\":\"X\",\"message\":\"a\\u001b[2Jb\"}]}"), "x: a [2Jb");
    }

    #[test]
    fn origins_are_told_apart() {
        let url = |text: &str| Url::parse(text).unwrap();
        for (a, b, same) in [
            ("https://a/x", "https://a:443/y", true),
            ("https://a/x", "http://a/x", false),
            ("https://a/x", "https://a:444/x", false),
            ("https://a/x", "https://b.a/x", false),
        ] {
            assert_eq!(same_origin(&url(a), &url(b)), same, "{a} {b}");
        }
        assert_eq!(shown(&url("https://u:p@a/x?sig=1")), "https://a/x");
    }
}
