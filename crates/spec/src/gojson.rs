//! JSON as Go's `encoding/json` writes it: compact, `<`, `>`, `&`, U+2028 and U+2029 escaped.
//!
//! Image IDs are hashes of such bytes, so what Strata writes must be what Docker would write.

use serde::Serialize;

/// Returns `value` as Go's `json.Marshal` would write it.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let _ = value;
    todo!()
}

/// Returns `value` as Go's `json.MarshalIndent(v, prefix "", indent)` would write it.
pub fn to_vec_indent<T: Serialize + ?Sized>(value: &T, indent: &str) -> Result<Vec<u8>, serde_json::Error> {
    let _ = (value, indent);
    todo!()
}
