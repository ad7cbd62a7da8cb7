//! Any text as what a registry says in headers: a challenge, a range, how much of an upload has arrived, how long to wait.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_distribution::{auth::challenge, range};

fuzz_target!(|text: &str| {
    for challenge in challenge::parse(text) {
        assert!(!challenge.scheme.is_empty());
        let _ = (challenge.param("realm"), challenge.param("scope"));
    }
    if let Some(range) = range::content_range(text) {
        assert!(range.first <= range.last && range.total.is_none_or(|total| range.last < total), "{range:?}");
    }
    let _ = (range::uploaded(text), range::retry_after(text));
});
