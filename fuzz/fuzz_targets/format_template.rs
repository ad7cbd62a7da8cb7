//! Any bytes as a `--format` template.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../crates/cli/src/format/template/mod.rs"]
mod template;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(template) = template::Template::parse(text) else { return };
    let value = serde_json::json!({"Id": "a", "State": {"Pid": 1}, "Config": {"Env": ["x"], "Labels": {"a": "b"}}, "None": null});
    for kind in [template::types::Type::Any, template::types::Type::CONTAINER, template::types::Type::Row] {
        let _ = template.render_as(&value, kind);
    }
});
