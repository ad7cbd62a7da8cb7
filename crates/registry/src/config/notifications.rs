//! The section `notifications`: who is told of pushes, pulls and deletions.

use std::time::Duration;

use super::{
    http::headers,
    section::{Mistakes, Section},
};
use crate::notify::Endpoint;

/// Reads the endpoints that are not disabled.
pub(super) fn notifications(root: &mut Section<'_>, mistakes: &mut Mistakes) -> Vec<Endpoint> {
    let mut section = root.section("notifications", mistakes);
    let mut events = section.section("events", mistakes);
    let includes_references = events.flag("includereferences", false, mistakes);
    events.end(mistakes);
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
        let headers = headers(&mut one, mistakes);
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
            includes_references,
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
