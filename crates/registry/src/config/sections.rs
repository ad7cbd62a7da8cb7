//! What each section of the configuration means.
//!
//! Keys of distribution that mean nothing here (caches, health checks, hooks of logs) are passed over; those whose absence would change
//! what is allowed or stored (another storage driver, a proxy, middleware) are mistakes.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::{
    Auth, Collecting, Config,
    read::{Mistakes, Section},
};
use crate::{
    auth::{
        Action,
        htpasswd::Htpasswd,
        issuer::Pair,
        policy::Policy,
        token::{DEFAULT_ALGORITHMS, Keys, Verifier},
    },
    gc::Untagged,
    http::{
        handle::{Locations, Settings},
        rate::Rate,
        tls::{Files, Tls, Version},
    },
    notify::Endpoint,
    quota::Quota,
    store::{Images, Indexes, Rules, UrlPolicy},
    upload::Limits,
};

/// Reads a whole configuration. What is returned may be used only if there were no mistakes.
pub fn config(tree: &Value, mistakes: &mut Mistakes) -> Option<Config> {
    let mut root = super::root(tree);
    root.ignore(&["version", "loglevel", "redis", "health", "compatibility", "catalog"]);
    let log = log(&mut root, mistakes);
    let storage = super::storage::storage(&mut root, mistakes);
    let http = http(&mut root, mistakes);
    let mut ours = root.section("strata", mistakes);
    let (collecting, grace) = collecting(&mut ours, mistakes);
    let (limits, manifest_size, connections, rate) = limits(&mut ours, mistakes);
    let quotas = quotas(&mut ours, mistakes);
    let policies = policies(&mut ours, mistakes);
    let auth = auth(&mut root, &mut ours, mistakes);
    let Validation { indexes, images, urls } = validation(&mut root, &mut ours, mistakes);
    let endpoints = notifications(&mut root, mistakes);
    let metrics_here = ours.flag("metrics", false, mistakes);
    ours.end(mistakes);
    proxy(&mut root, mistakes);
    root.end(mistakes);
    if !policies.is_empty() && matches!(auth, Some(Auth::Open | Auth::Outside { .. })) {
        mistakes.add(
            "strata.policies",
            "need auth.htpasswd: without names and passwords of its own the registry knows no users",
        );
    }
    let (place, deletes, writes, redirect, purging) = storage?;
    let http = http?;
    Some(Config {
        tree: Value::Null,
        log_level: log.0,
        address: http.address,
        debug: http.debug,
        drain: http.drain,
        tls: http.tls,
        place,
        rules: Rules { manifest_size, grace, indexes, images, urls },
        limits,
        connections,
        rate,
        settings: Settings {
            base: http.base,
            locations: http.locations,
            deletes,
            writes,
            redirect,
            headers: http.headers,
            access_log: log.1,
            metrics_here,
        },
        auth: auth?,
        policies,
        quotas,
        collecting,
        purging,
        endpoints,
    })
}

/// Level, and whether each request is logged.
fn log(root: &mut Section<'_>, mistakes: &mut Mistakes) -> (String, bool) {
    let mut log = root.section("log", mistakes);
    log.ignore(&["fields", "formatter", "hooks", "reportcaller"]);
    let level = log.text("level", mistakes).unwrap_or_else(|| "info".into());
    let known = ["error", "warn", "info", "debug"];
    if !known.contains(&level.as_str()) {
        mistakes.add(&log.place("level"), format!("{level:?} is none of {}", known.join(", ")));
    }
    let mut access = log.section("accesslog", mistakes);
    let is_off = access.flag("disabled", true, mistakes);
    access.end(mistakes);
    log.end(mistakes);
    (level, !is_off)
}

struct Http {
    address: SocketAddr,
    debug: Option<SocketAddr>,
    drain: Duration,
    tls: Option<Files>,
    base: Option<String>,
    locations: Locations,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Reads `HOST:PORT`; `:PORT` is every address of the machine.
fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    let mut found = whole.to_socket_addrs().map_err(|error| format!("{text:?} is no HOST:PORT: {error}"))?;
    found.next().ok_or_else(|| format!("{text:?} has no address"))
}

fn http(root: &mut Section<'_>, mistakes: &mut Mistakes) -> Option<Http> {
    let mut http = root.section("http", mistakes);
    http.ignore(&["secret", "http2", "h2c"]);
    if http.text("net", mistakes).is_some_and(|net| net != "tcp") {
        mistakes.add(&http.place("net"), "is not tcp");
    }
    if http.text("prefix", mistakes).is_some_and(|prefix| !prefix.is_empty() && prefix != "/") {
        mistakes.add(&http.place("prefix"), "the registry is served at / alone; have a proxy take the prefix away");
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
    let tls = tls(http.section("tls", mistakes), mistakes);
    let mut debug = http.section("debug", mistakes);
    let debug_address = debug.text("addr", mistakes).filter(|text| !text.is_empty());
    let debug_address = debug_address
        .and_then(|text| address(&text).map_err(|problem| mistakes.add(&debug.place("addr"), problem)).ok());
    let mut prometheus = debug.section("prometheus", mistakes);
    prometheus.ignore(&["enabled"]);
    if prometheus.text("path", mistakes).is_some_and(|path| path != "/metrics") {
        mistakes.add(&prometheus.place("path"), "the numbers are at /metrics");
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
        headers,
    })
}

fn tls(mut section: Section<'_>, mistakes: &mut Mistakes) -> Option<Files> {
    if !section.is_there() {
        return None;
    }
    section.ignore(&["ciphersuites"]);
    if section.get("letsencrypt").is_some_and(|value| value.as_object().is_some_and(|map| !map.is_empty())) {
        mistakes.add(&section.place("letsencrypt"), "certificates are not fetched; give certificate and key");
    }
    let minimum = section.parsed("minimumtls", mistakes, |text| match text {
        "tls1.2" => Ok(Version::Tls12),
        "tls1.3" => Ok(Version::Tls13),
        other => Err(format!("{other:?} is neither tls1.2 nor tls1.3")),
    });
    let (certificate, key) = (section.text("certificate", mistakes), section.text("key", mistakes));
    let client_roots = section.texts("clientcas", mistakes).into_iter().map(PathBuf::from).collect();
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
    let files = Files { certificate, key, client_roots, minimum: minimum.unwrap_or(Version::Tls12) };
    match Tls::open(files.clone()) {
        Ok(_) => Some(files),
        Err(problem) => {
            mistakes.add("http.tls", problem);
            None
        }
    }
}

fn headers(http: &mut Section<'_>, mistakes: &mut Mistakes) -> Vec<(HeaderName, HeaderValue)> {
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

fn collecting(ours: &mut Section<'_>, mistakes: &mut Mistakes) -> (Collecting, Duration) {
    let mut gc = ours.section("gc", mistakes);
    let interval = gc.duration("interval", mistakes).unwrap_or_default();
    let grace = gc.duration("grace", mistakes).unwrap_or(crate::gc::DEFAULT_GRACE);
    let untagged = if gc.flag("deleteuntagged", false, mistakes) { Untagged::Remove } else { Untagged::Keep };
    gc.end(mistakes);
    (Collecting { interval, untagged }, grace)
}

fn limits(ours: &mut Section<'_>, mistakes: &mut Mistakes) -> (Limits, u64, usize, Option<Rate>) {
    let mut section = ours.section("limits", mistakes);
    let manifest = section.bytes("manifest", mistakes).unwrap_or(crate::manifest::DEFAULT_SIZE_LIMIT);
    if !(1024..=64 << 20).contains(&manifest) {
        mistakes.add(&section.place("manifest"), "must be from 1KiB to 64MiB");
    }
    let number = |text: &str| {
        text.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(|| format!("{text:?} is not a number above 0"))
    };
    let default = Limits::default();
    let limits = Limits {
        blob_size: section.bytes("blob", mistakes).unwrap_or(default.blob_size),
        count: section.parsed("uploads", mistakes, number).unwrap_or(default.count),
    };
    let connections = section.parsed("connections", mistakes, number).unwrap_or(4096);
    let many = |text: &str| {
        text.parse::<f64>()
            .ok()
            .filter(|n| n.is_finite() && *n > 0.0)
            .ok_or_else(|| format!("{text:?} is not a number above 0"))
    };
    let rate = section.parsed("rate", mistakes, many);
    let burst = section.parsed("burst", mistakes, many);
    let rate = rate.map(|per_second| Rate { per_second, burst: burst.unwrap_or(per_second).max(1.0) });
    section.end(mistakes);
    (limits, manifest, connections, rate)
}

fn quotas(ours: &mut Section<'_>, mistakes: &mut Mistakes) -> Vec<Quota> {
    let mut quotas: Vec<Quota> = Vec::new();
    for mut section in ours.sections("quotas", mistakes) {
        let prefix = section.text("prefix", mistakes).unwrap_or_default();
        let prefix = prefix.trim_end_matches('/').to_owned();
        if !prefix.is_empty() && prefix.parse::<crate::name::RepoName>().is_err() {
            mistakes.add(&section.place("prefix"), format!("{prefix:?} is not a repository's name"));
        }
        if quotas.iter().any(|other| other.prefix == prefix) {
            mistakes.add(&section.place("prefix"), format!("{prefix:?} has a quota already"));
        }
        match section.bytes("bytes", mistakes) {
            Some(bytes) => quotas.push(Quota { prefix, bytes }),
            None => mistakes.add(&section.place("bytes"), "says how much there may be, such as 10GB"),
        }
        section.end(mistakes);
    }
    quotas
}

fn policies(ours: &mut Section<'_>, mistakes: &mut Mistakes) -> Vec<Policy> {
    let mut policies = Vec::new();
    for mut section in ours.sections("policies", mistakes) {
        let users = section.texts("users", mistakes);
        let repositories = section.texts("repositories", mistakes);
        let mut actions = Vec::new();
        for word in section.texts("actions", mistakes) {
            match Action::ALL.iter().find(|action| action.word() == word) {
                Some(action) => actions.push(*action),
                None => mistakes.add(&section.place("actions"), format!("{word:?} is none of pull, push, delete")),
            }
        }
        for (key, is_empty) in
            [("users", users.is_empty()), ("repositories", repositories.is_empty()), ("actions", actions.is_empty())]
        {
            if is_empty {
                mistakes.add(&section.place(key), "names none");
            }
        }
        policies.push(Policy { users, repositories, actions });
        section.end(mistakes);
    }
    policies
}

fn auth(root: &mut Section<'_>, ours: &mut Section<'_>, mistakes: &mut Mistakes) -> Option<Auth> {
    let mut section = root.section("auth", mistakes);
    let (htpasswd, token) = (section.section("htpasswd", mistakes), section.section("token", mistakes));
    let own = ours.section("token", mistakes);
    section.end(mistakes);
    match (htpasswd.is_there(), token.is_there(), own.is_there()) {
        (false, false, false) => Some(Auth::Open),
        (true, false, false) => {
            let (realm, path) = users(htpasswd, mistakes)?;
            Some(Auth::Htpasswd { realm, path })
        }
        (true, false, true) => {
            let (realm, path) = users(htpasswd, mistakes)?;
            own_token(own, realm, path, mistakes)
        }
        (false, true, false) => outside(token, mistakes),
        (_, true, _) => {
            mistakes.add("auth.token", "stands beside auth.htpasswd or strata.token; one alone may be");
            None
        }
        (false, false, true) => {
            mistakes.add("strata.token", "needs the names and passwords of auth.htpasswd");
            None
        }
    }
}

/// Realm and path of the file of users, which must be good.
fn users(mut section: Section<'_>, mistakes: &mut Mistakes) -> Option<(String, PathBuf)> {
    let realm = section.text("realm", mistakes).unwrap_or_else(|| "registry".into());
    check_word(&realm, &section.place("realm"), mistakes);
    let path = section.text("path", mistakes).map(PathBuf::from);
    let place = section.place("path");
    section.end(mistakes);
    let Some(path) = path else {
        mistakes.add(&place, "names no file; make one with `htpasswd -B`");
        return None;
    };
    match Htpasswd::open(&path) {
        Ok(_) => Some((realm, path)),
        Err(problem) => {
            mistakes.add(&place, problem);
            None
        }
    }
}

/// What stands in a challenge must not break out of its quotes.
fn check_word(text: &str, place: &str, mistakes: &mut Mistakes) {
    if text.is_empty() || text.bytes().any(|b| b == b'"' || b == b'\\' || !(0x20..0x7f).contains(&b)) {
        mistakes.add(place, "must be of ASCII characters but \" and \\, and not empty");
    }
}

fn own_token(mut section: Section<'_>, realm: String, path: PathBuf, mistakes: &mut Mistakes) -> Option<Auth> {
    let service = section.text("service", mistakes).unwrap_or(realm);
    check_word(&service, &section.place("service"), mistakes);
    let lifetime = section.duration("lifetime", mistakes).unwrap_or(Duration::from_secs(300));
    if lifetime < Duration::from_secs(60) {
        mistakes.add(&section.place("lifetime"), "must be a minute at least: clients take it for one");
    }
    let key = section.text("key", mistakes).map(PathBuf::from);
    if let Err(problem) = Pair::load(key.as_deref()) {
        mistakes.add(&section.place("key"), problem);
    }
    section.end(mistakes);
    Some(Auth::Own { path, service, lifetime, key })
}

fn outside(mut section: Section<'_>, mistakes: &mut Mistakes) -> Option<Auth> {
    section.ignore(&["autoredirect", "autoredirectpath"]);
    let mut need = |key: &'static str| {
        let text = section.text(key, mistakes).unwrap_or_default();
        check_word(&text, &section.place(key), mistakes);
        text
    };
    let (realm, service, issuer) = (need("realm"), need("service"), need("issuer"));
    let mut keys = Vec::new();
    keys.extend(
        section.text("rootcertbundle", mistakes).filter(|path| !path.is_empty()).map(|path| Keys::Bundle(path.into())),
    );
    keys.extend(section.text("jwks", mistakes).filter(|path| !path.is_empty()).map(|path| Keys::Jwks(path.into())));
    let mut algorithms: Vec<jsonwebtoken::Algorithm> = Vec::new();
    for word in section.texts("signingalgorithms", mistakes) {
        match word.parse() {
            Ok(algorithm) if DEFAULT_ALGORITHMS.contains(&algorithm) => algorithms.push(algorithm),
            _ => {
                mistakes.add(&section.place("signingalgorithms"), format!("{word:?} is not a signature that is taken"))
            }
        }
    }
    if algorithms.is_empty() {
        algorithms = DEFAULT_ALGORITHMS.to_vec();
    }
    section.end(mistakes);
    if keys.is_empty() {
        mistakes.add("auth.token", "needs the issuer's keys: rootcertbundle or jwks");
        return None;
    }
    match Verifier::open(&issuer, &service, algorithms.clone(), keys.clone()) {
        Ok(_) => Some(Auth::Outside { realm, service, issuer, algorithms, keys }),
        Err(problem) => {
            mistakes.add("auth.token", problem);
            None
        }
    }
}

/// What a pushed manifest may name.
struct Validation {
    indexes: Indexes,
    images: Images,
    urls: UrlPolicy,
}

fn validation(root: &mut Section<'_>, ours: &mut Section<'_>, mistakes: &mut Mistakes) -> Validation {
    let mut validation = root.section("validation", mistakes);
    let is_off = validation.flag("disabled", false, mistakes);
    // distribution 2 had `enabled: true` mean that no URL is allowed unless a list says so.
    let is_on = validation.flag("enabled", false, mistakes);
    let mut manifests = validation.section("manifests", mistakes);
    let urls = urls(manifests.section("urls", mistakes), is_on, mistakes);
    let indexes = indexes(manifests.section("indexes", mistakes), mistakes);
    manifests.end(mistakes);
    validation.end(mistakes);
    let mut images = ours.section("images", mistakes);
    let blobs = images.parsed("blobs", mistakes, |text| match text {
        "all" => Ok(Images::MustBeWhole),
        "none" => Ok(Images::MayBeSparse),
        other => Err(format!("{other:?} is neither all nor none")),
    });
    images.end(mistakes);
    let images = blobs.unwrap_or(Images::MustBeWhole);
    if is_off {
        return Validation { indexes: Indexes::MayBeSparse, images, urls: UrlPolicy::default() };
    }
    Validation { indexes, images, urls }
}

fn urls(mut section: Section<'_>, is_on: bool, mistakes: &mut Mistakes) -> UrlPolicy {
    let is_there = section.is_there();
    let (allow, deny) = (section.texts("allow", mistakes), section.texts("deny", mistakes));
    let policy = if is_there || is_on { UrlPolicy::new(&allow, &deny) } else { Ok(UrlPolicy::default()) };
    let policy = policy.map_err(|problem| mistakes.add(&section.place("allow"), problem)).unwrap_or_default();
    section.end(mistakes);
    policy
}

fn indexes(mut section: Section<'_>, mistakes: &mut Mistakes) -> Indexes {
    let mut list = Vec::new();
    for mut one in section.sections("platformlist", mistakes) {
        let (os, architecture) = (one.text("os", mistakes), one.text("architecture", mistakes));
        match os.zip(architecture) {
            Some(platform) => list.push(platform),
            None => mistakes.add(&one.place("os"), "a platform needs os and architecture"),
        }
        one.end(mistakes);
    }
    let rule = section.parsed("platforms", mistakes, |text| match text.to_lowercase().as_str() {
        "all" => Ok(Indexes::MustBeWhole),
        "none" => Ok(Indexes::MayBeSparse),
        "list" if list.is_empty() => Err("list needs a platformlist".into()),
        "list" => Ok(Indexes::MustHave(list.clone())),
        other => Err(format!("{other:?} is none of all, none and list")),
    });
    if !list.is_empty() && matches!(rule, Some(Indexes::MustBeWhole | Indexes::MayBeSparse) | None) {
        mistakes.add(&section.place("platformlist"), "has a meaning with platforms: list alone");
    }
    section.end(mistakes);
    rule.unwrap_or(Indexes::MayBeSparse)
}

fn proxy(root: &mut Section<'_>, mistakes: &mut Mistakes) {
    for key in ["proxy", "middleware"] {
        let is_set = root.get(key).is_some_and(|value| value.as_object().is_none_or(|map| !map.is_empty()));
        if is_set {
            mistakes.add(key, "is not one of the things that this registry does");
        }
    }
}

fn notifications(root: &mut Section<'_>, mistakes: &mut Mistakes) -> Vec<Endpoint> {
    let mut section = root.section("notifications", mistakes);
    section.ignore(&["events"]);
    let mut endpoints = Vec::new();
    for mut one in section.sections("endpoints", mistakes) {
        let is_off = one.flag("disabled", false, mistakes);
        let url = one.text("url", mistakes).unwrap_or_default();
        if reqwest::Url::parse(&url).is_err_and(|_| !is_off) {
            mistakes.add(&one.place("url"), format!("{url:?} is not a URL"));
        }
        let mut ignore = one.section("ignore", mistakes);
        let mut ignored_media_types = ignore.texts("mediatypes", mistakes);
        let ignored_actions = ignore.texts("actions", mistakes);
        ignore.end(mistakes);
        ignored_media_types.extend(one.texts("ignoredmediatypes", mistakes));
        let headers = self::headers(&mut one, mistakes);
        let endpoint = Endpoint {
            name: one.text("name", mistakes).unwrap_or_else(|| url.clone()),
            headers: headers
                .iter()
                .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
                .collect(),
            timeout: one.duration("timeout", mistakes).unwrap_or(Duration::from_secs(1)),
            threshold: one
                .parsed("threshold", mistakes, |text| text.parse().map_err(|_| format!("{text:?} is not a number")))
                .unwrap_or(10),
            backoff: one.duration("backoff", mistakes).unwrap_or(Duration::from_secs(1)),
            ignored_media_types,
            ignored_actions,
            url,
        };
        one.end(mistakes);
        if !is_off {
            endpoints.push(endpoint);
        }
    }
    section.end(mistakes);
    endpoints
}
