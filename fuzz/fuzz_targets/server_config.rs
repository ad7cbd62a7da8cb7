//! Any text as the registry's configuration, with `REGISTRY_…` variables over it: refused, or what is in force reads again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_registry::{
    Config,
    config::{section, yaml},
};

fuzz_target!(|text: &str| {
    // The file, then a variable a line after a line of dashes.
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('=')).take(8);
    let variables: Vec<(String, String)> =
        variables.map(|(name, value)| (format!("REGISTRY_{name}"), value.to_owned())).collect();
    if let Ok(mut parsed) = yaml::parse(file)
        && yaml::overlay(&mut parsed, variables.into_iter()).is_ok()
    {
        // A name would be looked up.
        let written = yaml::write(&parsed);
        let asks_a_network =
            written.lines().any(|line| line.trim_start().starts_with("addr:") && !line.contains("127.0.0.1:"));
        if !asks_a_network && let Ok(config) = Config::parse(&written) {
            let again = Config::parse(&config.text()).map(|config| config.text());
            // Secrets are not shown, so that a configuration with some may not be read again.
            if !config.text().contains("<hidden>") {
                assert_eq!(again.as_ref().ok(), Some(&config.text()), "{again:?}");
            }
        }
    }
    let _ = (section::bytes(text), section::duration(text));
});
