//! No text from outside panics a parser, and what is taken is within the grammar.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use strata_registry::{
    Config,
    auth::{htpasswd, token},
    config::section,
    http::{
        range::{self, Wanted},
        route::{self, Route},
    },
    manifest::Document,
    name::{RepoName, Target},
};

/// Words that parsers know, between any characters.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("/v2/".to_owned()),
        Just("blobs/uploads/".to_owned()),
        Just("manifests/".to_owned()),
        Just("sha256:".to_owned()),
        Just("..".to_owned()),
        Just("%2f".to_owned()),
        Just("bytes=".to_owned()),
        Just("a".repeat(64)),
        "[a-z0-9._/-]{0,12}",
        "[0-9]{1,22}[-smhGiB]{0,3}",
        "\\PC{0,6}",
    ];
    proptest::collection::vec(word, 0..8).prop_map(|words| words.concat())
}

/// Lines that a configuration may have, and others.
fn yaml() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("storage: {filesystem: {rootdirectory: /x}}".to_owned()),
        Just("http: {addr: '127.0.0.1:0', headers: {X-A: [b]}}".to_owned()),
        Just("strata: {quotas: [{prefix: a, bytes: 1}]}".to_owned()),
        Just("auth: {htpasswd: {path: /nonexistent}}".to_owned()),
        Just("notifications: {endpoints: [{url: x}]}".to_owned()),
        "[a-z]{1,8}: [a-z0-9{}\\[\\],:&*' -]{0,20}",
        "\\PC{0,20}",
    ];
    proptest::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn paths_and_names(text in text()) {
        if let Ok(name) = text.parse::<RepoName>() {
            prop_assert!(name.as_str().split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '_', '-'])));
        }
        let _ = text.parse::<Target>();
        if let Ok(Route::Manifest(name, _) | Route::Tags(name) | Route::Uploads(name)) = Route::parse(&text) {
            prop_assert!(!name.as_str().contains("..") && name.as_str().len() <= 255);
        }
        let _ = route::query(Some(&text));
    }

    #[test]
    fn ranges(text in text(), size in 0u64..1000) {
        if let Wanted::Part { first, last } = range::wanted(Some(&text), size) {
            prop_assert!(first <= last && last < size);
        }
        if let Some((first, last)) = range::chunk(&text) {
            prop_assert!(first <= last);
        }
    }

    #[test]
    fn suffixes(first in any::<u64>(), last in any::<u64>(), size in any::<u64>()) {
        for header in [format!("bytes={first}-{last}"), format!("bytes={first}-"), format!("bytes=-{last}")] {
            if let Wanted::Part { first, last } = range::wanted(Some(&header), size) {
                prop_assert!(first <= last && last < size);
            }
        }
    }

    #[test]
    fn configurations(text in yaml()) {
        if let Ok(config) = Config::parse(&text) {
            // What is in force can be read again, and is the same.
            prop_assert_eq!(Config::parse(&config.text()).unwrap().text(), config.text());
        }
        let _ = (section::bytes(&text), section::duration(&text), htpasswd::parse(&text));
    }

    #[test]
    fn bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Document::parse(&bytes, None);
        let _ = (token::jwks(&bytes).is_ok(), token::bundle(&bytes).is_ok());
    }
}

#[test]
fn keys_of_s3_that_would_change_what_is_stored_are_refused_not_passed_over() {
    let config = |more: &str| {
        let text =
            format!("version: 0.1\nstorage: {{s3: {{bucket: b, region: r{more}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n");
        Config::parse(&text).map_err(|error| error.to_string())
    };
    let defaults =
        ", encrypt: false, secure: true, skipverify: false, v4auth: true, storageclass: STANDARD, objectacl: private";
    assert!(config(defaults).is_ok());
    for (key, value) in [
        ("encrypt", "true"),
        ("skipverify", "true"),
        ("v4auth", "false"),
        ("keyid", "k"),
        ("storageclass", "REDUCED_REDUNDANCY"),
        ("objectacl", "public-read"),
    ] {
        let mistakes = config(&format!(", {key}: {value}")).err().unwrap_or_else(|| panic!("{key} is passed over"));
        assert!(mistakes.contains(&format!("storage.s3.{key}")), "{key}: {mistakes}");
    }
}
