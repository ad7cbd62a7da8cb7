//! Any small files in a data root: layerdb, driver, records, journal. Everything can be checked and explained.
//!
//! The input is a list of files, see [`strata_fuzz::parts`]; names are those below, by their first letter or in full.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_doctor::{Depth, check, explain};
use strata_fuzz::{Root, parts};

const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// `*` stands for [`HEX`].
const NAMES: &[&str] = &[
    "image/overlay2/layerdb/sha256/*/diff",
    "image/overlay2/layerdb/sha256/*/parent",
    "image/overlay2/layerdb/sha256/*/cache-id",
    "image/overlay2/layerdb/sha256/*/size",
    "image/overlay2/layerdb/sha256/*/tar-split.json.gz",
    "image/overlay2/layerdb/mounts/*/mount-id",
    "image/overlay2/layerdb/mounts/*/init-id",
    "image/overlay2/layerdb/mounts/*/parent",
    "overlay2/*/link",
    "overlay2/*/lower",
    "image/overlay2/imagedb/content/sha256/*",
    "image/overlay2/imagedb/metadata/sha256/*/parent",
    "image/overlay2/repositories.json",
    "containers/*/config.v2.json",
    "containers/*/hostconfig.json",
    "strata/journal/0",
    "strata/cache/images-overlay2",
    "strata/version",
];

fuzz_target!(|data: &[u8]| {
    Root::with(|root| {
        let mut written = Vec::new();
        for (name, content) in parts(data) {
            let n = name.bytes().next().map_or(0, |letter| usize::from(letter.wrapping_sub(b'a')));
            let Some(path) = NAMES.get(n) else { continue };
            written.push(root.write(&path.replace('*', HEX), content));
        }
        let stores = root.stores();
        let report = check(&stores, Depth::Contents);
        let _ = report.to_string();
        for text in
            written.iter().map(|path| path.display().to_string()).chain([HEX.into(), format!("{HEX}:/f"), "a".into()])
        {
            if let Ok(found) = explain(&stores, &text) {
                let _ = found.to_string();
            }
        }
        let _ = (root.images.images(), root.containers.list());
        root.clear();
    });
});
