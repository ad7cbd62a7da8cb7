//! The section `http`: address, TLS, protocols, and what is added to answers.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::section::{Mistakes, Section};
use crate::http::{
    handle::{CleartextHttp2, Locations},
    tls::{self, Clients, Files, Tls, Version},
};

/// The section's meaning.
pub(super) struct Http {
    pub address: SocketAddr,
    pub debug: Option<SocketAddr>,
    pub drain: Duration,
    pub tls: Option<Files>,
    pub base: Option<String>,
    pub locations: Locations,
    pub cleartext_http2: CleartextHttp2,
    pub metrics_debug: bool,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Reads `HOST:PORT`; `:PORT` is every address of the machine.
fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    let mut found = whole.to_socket_addrs().map_err(|error| format!("{text:?} is no HOST:PORT: {error}"))?;
    found.next().ok_or_else(|| format!("{text:?} has no address"))
}

pub(super) fn http(root: &mut Section<'_>, mistakes: &mut Mistakes) -> Option<Http> {
    let mut http = root.section("http", mistakes);
    http.without_effect(
        &[("secret", "the state of an upload is kept in the storage and not signed for the client")],
        mistakes,
    );
    if http.text("net", mistakes).is_some_and(|net| net != "tcp") {
        mistakes.add(&http.place("net"), "is not tcp");
    }
    if http.text("prefix", mistakes).is_some_and(|prefix| !prefix.is_empty() && prefix != "/") {
        mistakes.add(&http.place("prefix"), "the registry is served at / alone; have the proxy remove the prefix");
    }
    let own = http.parsed("addr", mistakes, address);
    let base = http.text("host", mistakes).filter(|host| !host.is_empty());
    if let Some(base) = &base
        && !base.starts_with("http://")
        && !base.starts_with("https://")
    {
        mistakes.add(&http.place("host"), "is not a URL that begins with http:// or https://");
    }
    let is_relative = http.flag("relativeurls", false, mistakes);
    let drain = http.duration("draintimeout", mistakes).unwrap_or(Duration::from_secs(60));
    let mut http2 = http.section("http2", mistakes);
    let protocols: &[&str] = if http2.flag("disabled", false, mistakes) { &["http/1.1"] } else { &["h2", "http/1.1"] };
    http2.end(mistakes);
    let mut h2c = http.section("h2c", mistakes);
    let is_h2c = h2c.flag("enabled", false, mistakes);
    h2c.end(mistakes);
    let tls = tls(http.section("tls", mistakes), protocols, mistakes);
    let mut debug = http.section("debug", mistakes);
    let debug_address = debug.text("addr", mistakes).filter(|text| !text.is_empty());
    let debug_address = debug_address
        .and_then(|text| address(&text).map_err(|problem| mistakes.add(&debug.place("addr"), problem)).ok());
    let mut prometheus = debug.section("prometheus", mistakes);
    let metrics_debug = prometheus.flag("enabled", true, mistakes);
    if prometheus.text("path", mistakes).is_some_and(|path| path != "/metrics") {
        mistakes.add(&prometheus.place("path"), "the metrics are at /metrics");
    }
    prometheus.end(mistakes);
    debug.end(mistakes);
    let headers = headers(&mut http, mistakes);
    http.end(mistakes);
    Some(Http {
        address: own?,
        debug: debug_address,
        drain,
        tls,
        base: base.map(|base| base.trim_end_matches('/').to_owned()),
        locations: if is_relative { Locations::Relative } else { Locations::Absolute },
        cleartext_http2: if is_h2c { CleartextHttp2::Allowed } else { CleartextHttp2::Refused },
        metrics_debug,
        headers,
    })
}

fn tls(mut section: Section<'_>, protocols: &[&'static str], mistakes: &mut Mistakes) -> Option<Files> {
    if !section.is_there() {
        return None;
    }
    if section.get("letsencrypt").is_some_and(|value| value.as_object().is_some_and(|map| !map.is_empty())) {
        mistakes
            .add(&section.place("letsencrypt"), "the registry does not fetch certificates; give certificate and key");
    }
    let minimum = section.parsed("minimumtls", mistakes, |text| match text {
        "tls1.2" => Ok(Version::Tls12),
        "tls1.3" => Ok(Version::Tls13),
        other => Err(format!("{other:?} is neither tls1.2 nor tls1.3")),
    });
    let (certificate, key) = (section.text("certificate", mistakes), section.text("key", mistakes));
    let client_roots = section.texts("clientcas", mistakes).into_iter().map(PathBuf::from).collect();
    let clients = section.parsed("clientauth", mistakes, |text| match text {
        "require-and-verify-client-cert" => Ok(Clients::MustProve),
        "verify-client-cert-if-given" => Ok(Clients::MayProve),
        "request-client-cert" | "require-any-client-cert" => {
            Err(format!("{text} would let in any certificate; say verify-client-cert-if-given"))
        }
        other => Err(format!("{other:?} is neither require-and-verify-client-cert nor verify-client-cert-if-given")),
    });
    let cipher_suites = cipher_suites(&mut section, mistakes);
    let place = section.place("certificate");
    section.end(mistakes);
    let (certificate, key) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate.into(), key.into()),
        (None, None) => return None,
        _ => {
            mistakes.add(&place, "certificate and key must be given together");
            return None;
        }
    };
    let files = Files {
        certificate,
        key,
        client_roots,
        clients: clients.unwrap_or(Clients::MustProve),
        minimum: minimum.unwrap_or(Version::Tls12),
        cipher_suites,
        protocols: protocols.to_vec(),
    };
    match Tls::open(files.clone()) {
        Ok(_) => Some(files),
        Err(problem) => {
            mistakes.add("http.tls", problem);
            None
        }
    }
}

/// The cipher suites to offer. One that is not implemented is left out with a warning, as long as another is left.
fn cipher_suites(section: &mut Section<'_>, mistakes: &mut Mistakes) -> Vec<String> {
    let wanted = section.texts("ciphersuites", mistakes);
    let known = tls::cipher_suites();
    let place = section.place("ciphersuites");
    for name in wanted.iter().filter(|name| !known.contains(name)) {
        mistakes.warn(&place, format!("{name:?} is not implemented; these are: {}", known.join(", ")));
    }
    if !wanted.is_empty() && !wanted.iter().any(|name| known.contains(name)) {
        mistakes.add(&place, format!("none of them is implemented; these are: {}", known.join(", ")));
    }
    wanted
}

/// Reads a map of header names to lists of values.
pub(super) fn headers(http: &mut Section<'_>, mistakes: &mut Mistakes) -> Vec<(HeaderName, HeaderValue)> {
    let mut found = Vec::new();
    let place = http.place("headers");
    let Some(value) = http.get("headers") else { return found };
    let Some(map) = value.as_object() else {
        mistakes.add(&place, "is not a map of names to lists of values");
        return found;
    };
    for (name, values) in map {
        let place = format!("{place}.{name}");
        let values = match values {
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        for value in values {
            let header = name.parse::<HeaderName>().ok().zip(value.as_str().and_then(|text| text.parse().ok()));
            match header {
                Some(header) => found.push(header),
                None => mistakes.add(&place, "is not a header"),
            }
        }
    }
    found
}
