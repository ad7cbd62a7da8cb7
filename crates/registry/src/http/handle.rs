//! One request: its endpoint, its rights, its answer, its line in the log.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Instant, SystemTime},
};

use hyper::{
    HeaderMap, Method, Request, Version,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};

use super::{
    Body, Response, blobs, failure, finish, header as header_text, lists, manifests, origin,
    rate::Limiter,
    reply, request,
    route::{self, Route},
    splice::Spans,
    warn,
};
use crate::{
    auth::{Access, Action, Identity, Need},
    error::{Code, Error},
    metrics::{Gauge, Metrics, label},
    name::RepoName,
    notify::{Notifier, ORIGIN, Origin},
    store::Store,
    upload::Uploads,
};

/// Settings of responses, from the configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The URL by which clients reach this server, if it is fixed.
    pub base: Option<String>,
    /// The form of `Location` headers.
    pub locations: Locations,
    /// Whether HTTP/2 is spoken without TLS.
    pub cleartext_http2: CleartextHttp2,
    /// Entries on one page of the catalog, at most.
    pub catalog_page: Option<usize>,
    /// Whether `/metrics` is served on the debug address.
    pub metrics_debug: bool,
    /// Whether deletions are allowed.
    pub deletes: Deletes,
    /// Whether writes are allowed.
    pub writes: Writes,
    /// Whether clients are redirected to the object store for blobs.
    pub redirect: bool,
    /// Headers of every response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether each request is logged.
    pub access_log: bool,
    /// Whether `/metrics` is served on the registry's own address.
    pub metrics_here: bool,
}

/// The form of `Location` headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locations {
    #[default]
    /// A URL.
    Absolute,
    /// A path.
    Relative,
}

/// Whether HTTP/2 is spoken without TLS, to clients that begin with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CleartextHttp2 {
    /// It is.
    Allowed,
    /// Such a client is refused.
    #[default]
    Refused,
}

/// Whether tags, manifests and blobs may be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletes {
    /// They may be.
    Allowed,
    #[default]
    /// They may not.
    Refused,
}

/// Whether anything may be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    #[default]
    /// The registry is writable.
    Allowed,
    /// The registry is read-only.
    Refused,
}

/// The state that requests are answered from.
pub struct Service {
    /// Repositories.
    pub store: Arc<Store>,
    /// Open uploads.
    pub uploads: Arc<Uploads>,
    /// Authentication.
    pub access: Access,
    /// Webhooks.
    pub notify: Notifier,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The rate limit.
    pub limiter: Option<Limiter>,
    /// Settings of responses.
    pub settings: Settings,
}

/// Where a request came from.
#[derive(Clone)]
pub struct Connection {
    /// Address of the client.
    pub peer: SocketAddr,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// Parts of files to send by `sendfile`, where the connection can.
    pub spans: Option<Spans>,
}

struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Service {
    /// Fails if the registry is read-only.
    pub fn may_write(&self) -> Result<(), Error> {
        match self.settings.writes {
            Writes::Allowed => Ok(()),
            Writes::Refused => Err(Error::new(Code::Unsupported, "the registry is read-only now")),
        }
    }

    /// Fails if deletions are refused.
    pub fn may_delete(&self) -> Result<(), Error> {
        self.may_write()?;
        match self.settings.deletes {
            Deletes::Allowed => Ok(()),
            Deletes::Refused => Err(Error::new(
                Code::Unsupported,
                "deleting is off; the configuration's storage.delete.enabled turns it on",
            )),
        }
    }

    /// This server's URL as the client knows it; `None` if it is unknown.
    pub fn base(&self, connection: &Connection, headers: &HeaderMap) -> Option<String> {
        match &self.settings.base {
            Some(base) => Some(base.clone()),
            None => origin::url(headers, if connection.is_tls { "https" } else { "http" }),
        }
    }

    /// The value of a `Location` header for `path`.
    pub fn url(&self, connection: &Connection, headers: &HeaderMap, path: &str) -> String {
        match self.settings.locations {
            Locations::Relative => path.to_owned(),
            Locations::Absolute => format!("{}{path}", self.base(connection, headers).unwrap_or_default()),
        }
    }

    /// Answers a request.
    pub async fn handle(self: Arc<Self>, connection: Arc<Connection>, mut request: Request<Incoming>) -> Response {
        let begun = Instant::now();
        name_host(&mut request);
        self.metrics.in_flight.fetch_add(1, Relaxed);
        let in_flight = InFlight(&self.metrics);
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let agent = header_text(request.headers(), header::USER_AGENT).unwrap_or_default().to_owned();
        let received = header_text(request.headers(), header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let route = Route::parse(uri.path());
        let word = route.as_ref().map_or("none", Route::word);
        let answered = self.answer(&connection, route, request).await;
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                if error.status() >= 500 {
                    tracing::error!(%method, path = uri.path(), %error, "a request failed");
                } else {
                    tracing::debug!(%method, path = uri.path(), %error, "a request was refused");
                }
                failure(&error)
            }
        };
        let headers = response.headers_mut();
        headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        for (name, _) in &self.settings.headers {
            headers.remove(name);
        }
        for (name, value) in &self.settings.headers {
            headers.append(name, value.clone());
        }
        let (status, sent) = (response.status().as_u16(), response.body().len());
        self.metrics.request(word, method.as_str(), status, begun.elapsed());
        self.metrics.sent.fetch_add(sent, Relaxed);
        self.metrics.received.fetch_add(received.unwrap_or(0), Relaxed);
        if self.settings.access_log {
            let (peer, ms) = (connection.peer, begun.elapsed().as_secs_f64() * 1e3);
            tracing::info!(target: "access", %peer, %method, path = uri.path(), status, sent, ms, agent);
        }
        drop(in_flight);
        response
    }

    async fn answer(
        self: &Arc<Self>,
        connection: &Connection,
        route: Result<Route, Error>,
        request: Request<Incoming>,
    ) -> Result<Response, Error> {
        if let Some(limiter) = &self.limiter {
            limiter.admit(connection.peer.ip(), Instant::now())?;
        }
        let route = route?;
        let (parts, body) = request.into_parts();
        check_host(&parts)?;
        let base = self.base(connection, &parts.headers).unwrap_or_default();
        let query = route::query(parts.uri.query());
        if let Some(response) = self.answer_anybody(&route, &parts, &query).await? {
            return Ok(response);
        }
        let need = need(&route, &parts.method, &query)?;
        let identity = self.access.authorize(&parts.headers, &need, &base).await?;
        let origin = Origin {
            id: crate::upload::new_id(),
            address: connection.peer.to_string(),
            host: header_text(&parts.headers, header::HOST).unwrap_or_default().to_owned(),
            method: parts.method.to_string(),
            user_agent: header_text(&parts.headers, header::USER_AGENT).unwrap_or_default().to_owned(),
            base,
        };
        let request =
            request::Request { service: self, connection, identity: &identity, headers: &parts.headers, query: &query };
        let changed = changed(&route, &parts.method);
        let mut response = ORIGIN.scope(Arc::new(origin), dispatch(&request, &parts.method, route, body)).await?;
        self.warn(&identity, changed.as_ref(), response.headers_mut());
        Ok(response)
    }

    /// Answers the endpoints that need no rights; `None` for the others.
    async fn answer_anybody(
        &self,
        route: &Route,
        parts: &Parts,
        query: &[(String, String)],
    ) -> Result<Option<Response>, Error> {
        let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
        let answered = match route {
            // A browser asks so before a request of another site's page, and never sends credentials with it.
            _ if parts.method == Method::OPTIONS => {
                let allow = format!("OPTIONS, {}", methods(route));
                finish(reply(200).header(header::ALLOW, allow).header(header::CONTENT_LENGTH, 0), Body::empty())
            }
            Route::Root if is_read => {
                // Load balancers ask here whether the server is alive.
                let builder = reply(200).header(header::CACHE_CONTROL, "no-cache");
                finish(builder.header(header::CONTENT_LENGTH, 0), Body::empty())
            }
            Route::Root => Err(not_allowed(methods(route))),
            Route::Health => finish(reply(200).header(header::CONTENT_TYPE, "application/json"), b"{}\n".to_vec()),
            Route::Metrics if self.settings.metrics_here => self.metrics(),
            Route::Metrics => Err(Error::new(Code::Unsupported, "there is no such endpoint").with_status(404)),
            Route::Token => self.token(&parts.method, &parts.headers, query).await,
            _ => return Ok(None),
        };
        answered.map(Some)
    }

    /// Adds warnings of limits that are nearly reached; `changed` is the repository that the request pushed to.
    fn warn(&self, identity: &Identity, changed: Option<&RepoName>, headers: &mut HeaderMap) {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let left = identity.ends.map(|ends| ends.saturating_sub(now())).filter(|left| *left <= warn::TOKEN_ENDS);
        if let Some(left) = left {
            warn::add(headers, &format!("your token ends in {left} seconds"));
        }
        let Some(name) = changed else { return };
        let (open, most) = (self.uploads.count() as u64, self.uploads.limits().count as u64);
        if warn::nearly(open, most).is_some() {
            warn::add(headers, &format!("{open} uploads are open; the limit of this registry is {most}"));
        }
        for (place, used, limit) in self.store.quotas().about(name) {
            if let Some(hundredths) = warn::nearly(used, limit) {
                let text = format!("the quota of {place} is {hundredths} % used: {used} of {limit} bytes");
                warn::add(headers, &text);
            }
        }
    }

    async fn token(&self, method: &Method, headers: &HeaderMap, query: &[(String, String)]) -> Result<Response, Error> {
        let Access::Bearer { issuer: Some(issuer), .. } = &self.access else {
            return Err(Error::new(Code::Unsupported, "this registry issues no tokens").with_status(404));
        };
        if method != Method::GET {
            return Err(not_allowed("GET"));
        }
        let document = issuer.issue(headers, query).await?;
        let builder =
            reply(200).header(header::CONTENT_TYPE, "application/json").header(header::CACHE_CONTROL, "no-store");
        finish(builder, document)
    }

    /// Answers with the metrics.
    pub fn metrics(&self) -> Result<Response, Error> {
        let gauge = |name, labels, value| Gauge { name, labels, value };
        let mut gauges = vec![gauge("uploads_open", String::new(), self.uploads.count() as u64)];
        let quotas = self.store.quotas().report();
        for (at, name) in ["quota_used_bytes", "quota_reserved_bytes", "quota_limit_bytes"].into_iter().enumerate() {
            for (prefix, used, reserved, limit) in &quotas {
                let labels = format!("{{prefix=\"{}\"}}", label(prefix));
                gauges.push(gauge(name, labels, [*used, *reserved, *limit][at]));
            }
        }
        let text = self.metrics.text(&gauges).into_bytes();
        finish(reply(200).header(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), text)
    }
}

/// Writes the host that HTTP/2 names in `:authority` where HTTP/1 has it.
fn name_host(request: &mut Request<Incoming>) {
    if request.version() != Version::HTTP_2 || request.headers().contains_key(header::HOST) {
        return;
    }
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
}

/// Checks that the request names one host, as RFC 9112 (3.2) demands: of two, a proxy and this server might each believe another.
fn check_host(parts: &Parts) -> Result<(), Error> {
    match (parts.headers.get_all(header::HOST).iter().count(), parts.version) {
        (1, _) | (0, Version::HTTP_10) => Ok(()),
        (found, _) => {
            let message = format!("the request has {found} Host headers; it must have one");
            Err(Error::new(Code::Unsupported, message).with_status(400).with_header("connection", "close"))
        }
    }
}

fn not_allowed(allow: &str) -> Error {
    Error::new(Code::Unsupported, format!("the endpoint takes only {allow}")).with_header("allow", allow)
}

/// The repository that a request pushes to.
fn changed(route: &Route, method: &Method) -> Option<RepoName> {
    match route {
        Route::Manifest(name, _) if method == Method::PUT => Some(name.clone()),
        Route::Uploads(name) => Some(name.clone()),
        Route::Upload(name, _) if [Method::PATCH, Method::PUT].contains(method) => Some(name.clone()),
        _ => None,
    }
}

/// The methods that an endpoint takes, beside `OPTIONS`.
fn methods(route: &Route) -> &'static str {
    match route {
        Route::Token => "GET",
        Route::Root | Route::Base | Route::Catalog | Route::Tags(_) | Route::Referrers(..) => "GET, HEAD",
        Route::Health | Route::Metrics => "GET, HEAD",
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
    }
}

/// The rights that a request needs. Fails with `UNSUPPORTED` for a method that the endpoint does not take.
fn need(route: &Route, method: &Method, query: &[(String, String)]) -> Result<Need, Error> {
    use Action::{Delete, Pull, Push};
    if !methods(route).split(", ").any(|known| known == method.as_str()) {
        return Err(not_allowed(methods(route)));
    }
    let of = |name: &RepoName, actions| Need::Repository(name.clone(), actions);
    let need = match route {
        Route::Root | Route::Base | Route::Token | Route::Health | Route::Metrics => Need::Known,
        Route::Catalog => Need::Catalog,
        Route::Tags(name) | Route::Referrers(name, _) => of(name, &[Pull]),
        Route::Manifest(name, _) | Route::Blob(name, _) => match *method {
            Method::GET | Method::HEAD => of(name, &[Pull]),
            Method::DELETE => of(name, &[Delete]),
            _ => of(name, &[Pull, Push]),
        },
        Route::Upload(name, _) => of(name, &[Pull, Push]),
        Route::Uploads(into) => match route::param(query, "from").map(str::parse) {
            Some(Ok(from)) if route::param(query, "mount").is_some() => Need::Mount { into: into.clone(), from },
            _ => of(into, &[Pull, Push]),
        },
    };
    Ok(need)
}

async fn dispatch(
    request: &request::Request<'_>,
    method: &Method,
    route: Route,
    body: Incoming,
) -> Result<Response, Error> {
    let request::Request { service, connection, identity, headers, query } = *request;
    let identity: &Identity = identity;
    match (route, method) {
        (Route::Catalog, _) => lists::catalog(service, identity, query).await,
        (Route::Tags(name), _) => lists::tags(service, name, query).await,
        (Route::Referrers(name, subject), _) => lists::referrers(service, name, subject, query).await,
        (Route::Manifest(name, target), &Method::PUT) => manifests::put(request, (name, target), body).await,
        (Route::Manifest(name, target), &Method::DELETE) => manifests::delete(service, identity, name, target).await,
        (Route::Manifest(name, target), _) => manifests::get(service, method, headers, name, target).await,
        (Route::Blob(name, digest), &Method::DELETE) => blobs::delete(service, name, digest).await,
        (Route::Blob(name, digest), _) => blobs::get(service, connection, method, headers, name, digest).await,
        (Route::Uploads(name), _) => request.begin(name, body).await,
        (Route::Upload(name, id), &Method::PATCH) => request.append(name, &id, body).await,
        (Route::Upload(name, id), &Method::PUT) => request.complete(name, &id, body).await,
        (Route::Upload(name, id), &Method::DELETE) => request.cancel(name, &id).await,
        (Route::Upload(name, id), _) => request.status(name, &id).await,
        (Route::Base | Route::Root | Route::Token | Route::Health | Route::Metrics, _) => {
            let builder = reply(200).header(header::CONTENT_TYPE, "application/json");
            finish(builder, Body::from(b"{}".to_vec()))
        }
    }
}
