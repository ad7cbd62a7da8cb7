//! Any bytes as a manifest, an index, a Docker archive's manifest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_spec::{
    Platform,
    manifest::{AnyManifest, ArchiveManifest, Index, Manifest},
};

fuzz_target!(|data: &[u8]| {
    let _ = (Manifest::parse(data), ArchiveManifest::parse_list(data));
    if let Ok(AnyManifest::Index(index)) = AnyManifest::parse(data) {
        let _ = index.select(&Platform::host());
    }
    let _ = Index::parse(data).map(|index| index.select(&Platform::host()).cloned());
});
