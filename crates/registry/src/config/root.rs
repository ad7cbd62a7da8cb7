//! The whole configuration: its sections, and the keys that stand beside them.

use serde_json::Value;

use super::{
    Auth, Config, auth,
    http::http,
    notifications::notifications,
    section::{Mistakes, Section},
    storage::storage,
    strata,
    validation::{Validation, validation},
};
use crate::{http::handle::Settings, store::Rules};

/// Reads a whole configuration. What is returned may be used only if there were no mistakes.
pub fn config(tree: &Value, mistakes: &mut Mistakes) -> Option<Config> {
    let mut root = Section::root(tree);
    version(&mut root, mistakes);
    root.without_effect(
        &[
            ("redis", "the registry needs no cache beside its own memory"),
            ("health", "nothing else is checked; /healthz and /debug/health answer while the server runs"),
            ("compatibility", "stored manifests of schema 1 are served as they are, and none is accepted"),
            ("reporting", "no service is told of errors; they are in the log"),
            ("loglevel", "log.level is given"),
        ],
        mistakes,
    );
    let log = log(&mut root, mistakes);
    let catalog_page = catalog(root.section("catalog", mistakes), mistakes);
    let storage = storage(&mut root, mistakes);
    let http = http(&mut root, mistakes);
    let mut ours = root.section("strata", mistakes);
    let (collecting, grace) = strata::collecting(&mut ours, mistakes);
    let (limits, manifest_size, connections, rate) = strata::limits(&mut ours, mistakes);
    let quotas = strata::quotas(&mut ours, mistakes);
    let policies = strata::policies(&mut ours, mistakes);
    let auth = auth::auth(&mut root, &mut ours, mistakes);
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
        warnings: Vec::new(),
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
            metrics_debug: http.metrics_debug,
            cleartext_http2: http.cleartext_http2,
            catalog_page,
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
    log.without_effect(&[("fields", "lines of the log have no fields that are the same on each")], mistakes);
    if log.text("formatter", mistakes).is_some_and(|text| text != "text") {
        mistakes.warn(&log.place("formatter"), "the log is text");
    }
    for mut hook in log.sections("hooks", mistakes) {
        if !hook.flag("disabled", false, mistakes) {
            mistakes.warn(&hook.place("type"), "nobody is sent mail; have the log watched");
        }
    }
    if log.flag("reportcaller", false, mistakes) {
        mistakes.warn(&log.place("reportcaller"), "lines of the log have no place in the source");
    }
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

/// The format of the file, of which there is one.
fn version(root: &mut Section<'_>, mistakes: &mut Mistakes) {
    if root.text("version", mistakes).is_some_and(|text| text != "0.1") {
        mistakes.add("version", "is not 0.1");
    }
}

/// Entries on one page of the catalog, at most.
fn catalog(mut section: Section<'_>, mistakes: &mut Mistakes) -> Option<usize> {
    let most = section.parsed("maxentries", mistakes, |text| {
        text.parse::<usize>().map_err(|_| format!("{text:?} is not a number of entries"))
    });
    section.end(mistakes);
    most.filter(|most| *most > 0)
}

fn proxy(root: &mut Section<'_>, mistakes: &mut Mistakes) {
    for key in ["proxy", "middleware"] {
        let is_set = root.get(key).is_some_and(|value| value.as_object().is_none_or(|map| !map.is_empty()));
        if is_set {
            mistakes.add(key, "is not implemented, and would change what clients are served");
        }
    }
}
