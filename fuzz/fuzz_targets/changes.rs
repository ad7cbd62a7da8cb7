//! Any text as `commit --change` instructions, one a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_spec::config::RunConfig;

fuzz_target!(|text: &str| {
    let changes: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let mut config = RunConfig::default();
    if strata_container::change::apply(&mut config, &changes).is_ok() {
        let json = serde_json::to_vec(&config).expect("it is JSON");
        assert_eq!(serde_json::from_slice::<RunConfig>(&json).expect("it is read again"), config);
    }
});
