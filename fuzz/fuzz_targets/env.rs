//! Any bytes as an `--env-file`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let lookup = |name: &str| (name.len() % 2 == 0).then(|| name.to_owned());
    if let Ok(lines) = strata_container::env::parse_file("file", data, lookup) {
        assert!(lines.iter().all(|line| line.contains('=')), "{lines:?}");
        let _ = strata_container::env::of_process(&lines, "host", true);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = strata_container::env::parse_flag(text, lookup);
    }
});
