//! The types behind the values: Docker executes a template over Go structures, whose fields are there whether they are set or not.
//!
//! A field that JSON leaves out reads as the zero value of its type: `""`, `0`, `[]`, `map[]`, `<nil>`. `types.txt` lists the structures.

use std::{collections::HashMap, sync::LazyLock};

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Type {
    /// Whatever JSON says; a key that is not there is an error.
    Any,
    String,
    /// Integers and floating-point numbers.
    Number,
    Bool,
    List(&'static Type),
    /// By strings.
    Map(&'static Type),
    Pointer(&'static Type),
    /// By the name of a structure in `types.txt`.
    Struct(&'static str),
    /// A row of a list: JSON, with the method `Label` over its key `Label`, an object.
    Row,
    /// The headers of a table; `Label` gives a header for a label.
    Headers,
}

/// A field of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As a template names it.
    pub name: &'static str,
    /// Its key in JSON.
    pub key: &'static str,
    pub kind: Type,
}

impl Type {
    /// What `docker inspect` shows of a container.
    pub const CONTAINER: Self = Self::Struct("Container");
    /// What `docker inspect` shows of an image.
    pub const IMAGE: Self = Self::Struct("Image");

    /// The fields of the structure `name`, in their order in Go.
    pub fn fields(name: &str) -> &'static [Field] {
        STRUCTS.get(name).map_or(&[], Vec::as_slice)
    }

    /// Go's name of the type, as errors have it.
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
    fn every_structure_that_is_named_is_there() {
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
