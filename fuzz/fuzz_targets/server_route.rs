//! Any text as the path and query of a request to the registry, as a repository, a tag, a digest: no key leaves the storage's root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_registry::{
    http::route::{self, Route},
    layout,
    name::{RepoName, Tag, Target, parse_digest},
};

fn check(name: &RepoName) {
    assert!(name.as_str().len() <= 255);
    assert!(name.as_str().split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '_', '-'])), "{name}");
}

fuzz_target!(|text: &str| {
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    if let Ok(Route::Manifest(name, _) | Route::Tags(name) | Route::Uploads(name)) = Route::parse(path) {
        check(&name);
        for key in [layout::uploads(&name), layout::tags(&name)] {
            assert!(key.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{key}");
        }
    }
    let _ = route::query(query);
    if let Ok(name) = text.parse::<RepoName>() {
        check(&name);
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert!(!tag.to_string().contains('/') && !tag.to_string().starts_with('.'));
    }
    let _ = text.parse::<Target>();
    if let Ok(digest) = parse_digest(text) {
        assert_eq!(digest.to_string(), text);
    }
});
