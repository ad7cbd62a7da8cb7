//! Any bytes as a manifest pushed to the registry: refused, or of a known type, naming a bounded number of blobs, each once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_registry::manifest::{Document, ENTRIES_MAX};
use strata_spec::Digest;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = Document::parse(bytes, None) else { return };
    assert!(document.blobs.len() <= ENTRIES_MAX && document.children.len() <= ENTRIES_MAX);
    let mut digests: Vec<Digest> = document.blobs.iter().map(|blob| blob.digest).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), document.blobs.len());
    // Said to be what it is, it is the same; its entry among referrers can be read again.
    assert_eq!(Document::parse(bytes, Some(document.media_type)).ok().as_ref(), Some(&document));
    let entry = document.descriptor(Digest::sha256(bytes), bytes.len() as u64);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&entry.to_string()).expect("JSON"), entry);
});
