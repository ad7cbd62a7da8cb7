//! Types of values. Docker executes a template over Go structures, which have all of their fields, set or not.
//!
//! A field that the JSON document omits reads as the zero value of its type: `""`, `0`, `[]`, `map[]`, `<nil>`. `types.txt` lists the
//! structures.

use std::{collections::HashMap, sync::LazyLock};

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Type {
    /// Untyped JSON; a missing key is an error.
    Any,
    String,
    /// Integers and floating-point numbers.
    Number,
    Bool,
    List(&'static Type),
    /// A map with string keys.
    Map(&'static Type),
    Pointer(&'static Type),
    /// A structure of `types.txt`, by name.
    Struct(&'static str),
    /// A row of a list: untyped JSON. The method `Label` reads the object at its key `Label`.
    Row,
    /// The headers of a table; `Label` gives a header for a label.
    Headers,
}

/// A field of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name in a template.
    pub name: &'static str,
    /// The key in JSON.
    pub key: &'static str,
    pub kind: Type,
}

impl Type {
    /// The document of `docker inspect` for a container.
    pub const CONTAINER: Self = Self::Struct("Container");
    /// The document of `docker inspect` for an image.
    pub const IMAGE: Self = Self::Struct("Image");

    /// Returns the fields of the structure `name`, in Go's order.
    pub fn fields(name: &str) -> &'static [Field] {
        STRUCTS.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns Go's name of the type, for error messages.
    pub fn name(self) -> String {
        match self {
            Self::Any | Self::Row | Self::Headers => "map[string]interface {}".to_owned(),
            Self::String => "string".to_owned(),
            Self::Number => "int".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::List(of) => format!("[]{}", of.name()),
            Self::Map(of) => format!("map[string]{}", of.name()),
            Self::Pointer(to) => format!("*{}", to.name()),
            Self::Struct(name) => name.to_owned(),
        }
    }

    fn parse(text: &'static str) -> Self {
        let leak = |text| -> &'static Self { Box::leak(Box::new(Self::parse(text))) };
        match text {
            "any" => Self::Any,
            "string" => Self::String,
            "int" | "float" => Self::Number,
            "bool" => Self::Bool,
            _ => {
                if let Some(of) = text.strip_prefix("[]") {
                    Self::List(leak(of))
                } else if let Some(of) = text.strip_prefix("map[").and_then(|rest| rest.strip_suffix(']')) {
                    Self::Map(leak(of))
                } else if let Some(to) = text.strip_prefix('*') {
                    Self::Pointer(leak(to))
                } else {
                    Self::Struct(text)
                }
            }
        }
    }
}

static STRUCTS: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let mut structs: HashMap<&str, Vec<Field>> = HashMap::new();
    let mut current = "";
    for line in include_str!("types.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("struct ") {
            current = name;
            structs.entry(name).or_default();
        } else if let [name, key, kind] = line.split(' ').collect::<Vec<_>>()[..] {
            structs.entry(current).or_default().push(Field { name, key, kind: Type::parse(kind) });
        }
    }
    structs
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_txt_defines_every_structure_that_it_names() {
        fn check(kind: Type) {
            match kind {
                Type::List(of) | Type::Map(of) | Type::Pointer(of) => check(*of),
                Type::Struct(name) => assert!(STRUCTS.contains_key(name), "{name}"),
                _ => {}
            }
        }
        assert!(STRUCTS["Container"].len() > 20 && STRUCTS["Image"].len() > 15);
        STRUCTS.values().flatten().for_each(|field| check(field.kind));
        let lines = include_str!("types.txt").lines().filter(|line| !line.starts_with('#'));
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with("struct ")) {
            assert_eq!(line.split(' ').count(), 3, "{line}");
        }
    }
}
