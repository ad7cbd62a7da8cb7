//! Structs that read as Go reads them: a field that is absent or `null` is empty, an unknown one is kept.

use serde::{Deserialize, Deserializer};

/// Reads `null` as an empty value.
pub(crate) fn null_is_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Declares a struct whose fields have Go's names (`PascalCase`, unless renamed), in Go's order, and that keeps what it
/// does not know in `extra`.
macro_rules! go_struct {
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $($(#[$attr:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            $(
                $(#[$attr])*
                #[serde(deserialize_with = "crate::gojson::null_is_default")]
                pub $field: $type,
            )*
            /// Fields that are not known here; written back as they were read.
            #[serde(flatten)]
            pub extra: serde_json::Map<String, serde_json::Value>,
        }
    };
}
pub(crate) use go_struct;

pub(crate) fn is_false(value: &bool) -> bool {
    !value
}
