//! JSON for people: indented as `docker inspect` indents it.

use serde::Serialize;

/// Writes `value` with four spaces a level, as `docker inspect` does.
pub fn pretty<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<String> {
    Ok(strata_spec::gojson::to_text_indent(value, "    ")?)
}
