//! Any text as an image reference, a digest, an ID, a name, a platform, a time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_spec::{CacheId, ContainerId, Digest, ImageId, Platform, Reference, time};

fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse(text) {
        let shown = reference.to_string();
        // A part that stands where a domain stands, and is none, cannot be told from a path again.
        if !reference.domain().is_empty() {
            assert_eq!(Reference::parse(&shown).as_ref(), Ok(&reference), "{shown:?}");
        }
        let _ = (reference.familiar(), reference.clone().with_default_tag(), reference.with_tag(text));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(id) = text.parse::<CacheId>() {
        assert!(!id.as_str().contains(['/', '.']), "safe to join to a path");
    }
    let _ = (text.parse::<ImageId>(), text.parse::<ContainerId>(), text.parse::<Platform>());
    if let Ok(time) = time::parse(text) {
        let shown = time::format(time);
        // Years before 0 have no form in RFC 3339.
        if !shown.starts_with('-') {
            assert_eq!(time::parse(&shown).ok(), Some(time), "{text}");
        }
    }
    let _ = (strata_container::names::is_valid(text), strata_container::signal::parse(text));
});
