//! Indented JSON.

use serde::Serialize;

/// Formats `value` indented by four spaces a level, as `docker inspect` does.
pub fn pretty<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<String> {
    Ok(strata_spec::gojson::to_text_indent(value, "    ")?)
}
