//! Any text as `-v` and `--tmpfs`, one a line: what is taken is absolute and clean.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_container::mounts::{VolumeFlag, clean, parse_tmpfs, parse_volume};

fuzz_target!(|text: &str| {
    for line in text.split('\n') {
        if let Ok(VolumeFlag::Bind(bind)) = parse_volume(line) {
            assert!(bind.source.starts_with('/') && bind.destination.starts_with('/') && bind.destination != "/");
            assert_eq!(clean(&bind.destination), bind.destination);
        }
        if let Ok((destination, _)) = parse_tmpfs(line) {
            assert!(destination.starts_with('/') && destination != "/");
        }
    }
});
