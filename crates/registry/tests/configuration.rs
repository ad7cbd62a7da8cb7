//! Every key of distribution works, keeps the server from starting, or is warned of.
#![allow(clippy::unwrap_used)]

use strata_registry::{
    Config,
    config::{Overrides, Place},
};

const BASE: &str = "version: 0.1\nhttp: {addr: '127.0.0.1:0'}\n";

fn with_variables(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yml");
    std::fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&path), variables, &Overrides::default()).map_err(|error| error.to_string())
}

#[test]
fn a_key_without_effect_is_warned_of() {
    for (text, place) in [
        ("redis: {addrs: ['localhost:6379']}", "redis"),
        ("health: {storagedriver: {enabled: true}}", "health"),
        ("compatibility: {schema1: {enabled: true}}", "compatibility"),
        ("reporting: {bugsnag: {apikey: x}}", "reporting"),
        ("log: {fields: {service: registry}}", "log.fields"),
        ("log: {formatter: json}", "log.formatter"),
        ("log: {reportcaller: true}", "log.reportcaller"),
        ("storage: {cache: {blobdescriptor: inmemory}}", "storage.cache"),
        ("storage: {tag: {concurrencylimit: 8}}", "storage.tag"),
        ("storage: {filesystem: {rootdirectory: /r, maxthreads: 100}}", "storage.filesystem.maxthreads"),
        ("storage: {s3: {bucket: b, region: r, loglevel: debug}}", "storage.s3.loglevel"),
        ("http: {addr: '127.0.0.1:0', secret: x}", "http.secret"),
    ] {
        let base = if text.starts_with("http:") { "version: 0.1\n" } else { BASE };
        let config = Config::parse(&format!("{base}{text}\n")).unwrap_or_else(|error| panic!("{text}: {error}"));
        let [warning] = &config.warnings[..] else { panic!("{text}: {:?}", config.warnings) };
        assert!(warning.starts_with(&format!("{place}: has no effect: ")), "{warning}");
    }
    assert_eq!(Config::parse(BASE).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn a_key_whose_absence_would_change_something_is_refused() {
    for (text, place) in [
        ("proxy: {remoteurl: 'https://x'}", "proxy"),
        ("middleware: {storage: [{name: redirect}]}", "middleware"),
        ("auth: {silly: {realm: x, service: y}}", "auth.silly"),
        ("storage: {inmemory: }", "storage.inmemory"),
        ("storage: {s3: {bucket: b, region: r, accelerate: true}}", "storage.s3.accelerate"),
        ("policy: {repository: {classes: [image]}}", "policy"),
        ("nonsense: 1", "nonsense"),
        ("version: 0.2", "version"),
        ("validation: {manifests: {urls: {allow: ['(']}}}", "validation.manifests.urls.allow"),
        ("validation: {manifests: {indexes: {platforms: list}}}", "validation.manifests.indexes.platforms"),
        (
            "validation: {manifests: {indexes: {platforms: all, platformlist: [{os: a, architecture: b}]}}}",
            "platformlist",
        ),
        ("validation: {manifests: {indexes: {platforms: some}}}", "validation.manifests.indexes.platforms"),
        ("http: {addr: '127.0.0.1:0', prefix: /x/}", "http.prefix"),
        ("http: {addr: '127.0.0.1:0', net: unix}", "http.net"),
        ("http: {addr: '127.0.0.1:0', tls: {letsencrypt: {hosts: [a]}}}", "http.tls.letsencrypt"),
        ("http: {addr: '127.0.0.1:0', tls: {clientauth: request-client-cert}}", "http.tls.clientauth"),
        ("http: {addr: '127.0.0.1:0', tls: {ciphersuites: [TLS_NONE]}}", "http.tls.ciphersuites"),
        ("http: {addr: '127.0.0.1:0', h2c: {enabled: perhaps}}", "http.h2c.enabled"),
        ("catalog: {maxentries: many}", "catalog.maxentries"),
    ] {
        let base = match text.split(':').next().unwrap() {
            "http" => "version: 0.1\n",
            "version" => "http: {addr: '127.0.0.1:0'}\n",
            _ => BASE,
        };
        let refused = Config::parse(&format!("{base}{text}\n")).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert!(refused.to_string().contains(place), "{text}: {refused}");
    }
}

#[test]
fn a_cipher_suite_that_is_not_implemented_is_warned_of_and_the_others_are_offered() {
    let suites = "TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_RSA_WITH_AES_128_CBC_SHA";
    let text = format!("version: 0.1\nhttp: {{addr: '127.0.0.1:0', tls: {{ciphersuites: [{suites}]}}}}\n");
    let config = Config::parse(&text).unwrap();
    assert!(config.warnings.len() == 1 && config.warnings[0].contains("CBC"), "{:?}", config.warnings);
}

#[test]
fn short_and_older_forms_mean_what_they_mean_in_distribution() {
    let config = with_variables(BASE, &[("REGISTRY_STORAGE", "filesystem")]).unwrap();
    assert_eq!(config.place, Place::Directory("/var/lib/registry".into()));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("htpasswd");
    std::fs::write(&path, format!("ann:$2y$05${}\n", "a".repeat(53))).unwrap();
    let path = path.to_str().unwrap();
    let variables =
        [("REGISTRY_AUTH", "htpasswd"), ("REGISTRY_AUTH_HTPASSWD_REALM", "r"), ("REGISTRY_AUTH_HTPASSWD_PATH", path)];
    let config = with_variables(BASE, &variables).unwrap();
    assert!(config.text().contains(path), "{}", config.text());
    let config = Config::parse(&format!("{BASE}loglevel: debug\n")).unwrap();
    assert_eq!((config.log_level.as_str(), config.warnings.len()), ("debug", 0));
    let config = Config::parse(&format!("{BASE}storage: {{delete: {{enabled: yes}}}}\n")).unwrap();
    assert!(config.text().contains("enabled"));
}

#[test]
fn variables_of_a_kubernetes_service_called_registry_are_passed_over_with_a_warning() {
    let variables = [("REGISTRY_PORT", "tcp://10.0.0.1:5000"), ("REGISTRY_PORT_5000_TCP_PROTO", "tcp")];
    let config = with_variables(BASE, &variables).unwrap();
    assert_eq!(config.warnings.len(), 2);
    assert!(config.warnings[0].contains("REGISTRY_PORT"), "{:?}", config.warnings);
    assert!(with_variables(BASE, &[("REGISTRY_HTTP_ADRR", "x")]).unwrap_err().contains("http.adrr"));
}
