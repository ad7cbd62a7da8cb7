//! Any bytes as a mount table.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = strata_sys::mount::parse_mountinfo(data);
});
