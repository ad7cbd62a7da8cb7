//! Any bytes as a manifest or index that a registry serves: read, an entry chosen, checked for being an image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_distribution::manifest::try_bytes;

fuzz_target!(|data: &[u8]| {
    try_bytes(data, None);
    try_bytes(data, "linux/arm/v7".parse().ok().as_ref());
});
