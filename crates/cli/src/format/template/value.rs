//! A value with its type.

use serde_json::{Map, Value};

use super::{Error, error, functions, types::Type};

/// A JSON value and its Go type. `Null` stands for a field that is not set.
#[derive(Clone, Debug)]
pub struct Typed {
    pub json: Value,
    pub kind: Type,
}

impl From<Value> for Typed {
    /// Returns an untyped value.
    fn from(json: Value) -> Self {
        Self { json, kind: Type::Any }
    }
}

impl Typed {
    pub fn new(json: Value, kind: Type) -> Self {
        Self { json, kind }
    }

    /// Dereferences a pointer; `None` for a nil pointer.
    fn behind(&self) -> Option<(&Value, Type)> {
        let mut kind = self.kind;
        while let Type::Pointer(to) = kind {
            if self.json.is_null() {
                return None;
            }
            kind = *to;
        }
        Some((&self.json, kind))
    }

    /// Returns the field, key or column `name`.
    pub fn field(&self, name: &str) -> Result<Self, Error> {
        let Some((json, kind)) = self.behind() else {
            return error(format!(
                ":1: executing \"\" at <.{name}>: nil pointer evaluating {}.{name}",
                self.kind.name()
            ));
        };
        match kind {
            Type::Struct(structure) => match Type::fields(structure).iter().find(|field| field.name == name) {
                Some(field) => Ok(Self::new(json.get(field.key).cloned().unwrap_or(Value::Null), field.kind)),
                None => {
                    error(format!(":1: executing \"\" at <.{name}>: can't evaluate field {name} in type {structure}"))
                }
            },
            // A missing key has no value, unlike `index`, which gives the zero value.
            Type::Map(of) => Ok(json.get(name).map_or(Value::Null.into(), |value| Self::new(value.clone(), *of))),
            Type::Any | Type::Row | Type::Headers => match json {
                Value::Object(map) => match map.get(name) {
                    Some(value) => Ok(value.clone().into()),
                    None => error(format!(":1: executing \"\" at <.{name}>: map has no entry for key \"{name}\"")),
                },
                Value::Null => error(format!(":1: executing \"\" at <.{name}>: nil data; no entry for key \"{name}\"")),
                other => error(format!(
                    ":1: executing \"\" at <.{name}>: can't evaluate field {name} in type {}",
                    functions::go_type(other)
                )),
            },
            other => {
                error(format!(":1: executing \"\" at <.{name}>: can't evaluate field {name} in type {}", other.name()))
            }
        }
    }

    /// Calls the method `name`.
    ///
    /// Source: docker/cli `cli/command/formatter/{container,custom}.go`.
    pub fn method(&self, name: &str, arguments: &[Self]) -> Result<Self, Error> {
        match (self.kind, name, arguments) {
            (Type::Row, "Label", [label]) => {
                let value = self.json.get("Label").and_then(|labels| labels.get(label.print()));
                Ok(value.cloned().unwrap_or_else(|| "".into()).into())
            }
            (Type::Headers, "Label", [label]) => {
                let label = label.print();
                let last = label.rsplit('.').next().unwrap_or(&label);
                Ok(Value::from(last.replace(['-', '_'], " ")).into())
            }
            (Type::Row | Type::Headers, "Label", _) => {
                error(format!("wrong number of args for Label: want 1 got {}", arguments.len()))
            }
            _ => error(format!(
                ":1: executing \"\" at <.{name}>: {name} has arguments but cannot be invoked as function"
            )),
        }
    }

    /// Returns the value with zero values for fields that are not set, for functions that take any type.
    pub fn plain(&self) -> Value {
        if !self.json.is_null() {
            return self.json.clone();
        }
        match self.kind {
            Type::String => "".into(),
            Type::Number => 0.into(),
            Type::Bool => false.into(),
            Type::List(_) => Value::Array(Vec::new()),
            Type::Map(_) | Type::Struct(_) => Value::Object(Map::new()),
            Type::Any | Type::Pointer(_) | Type::Row | Type::Headers => Value::Null,
        }
    }

    /// Returns the value as JSON encodes it: nil lists and maps are `null`.
    pub fn to_json(&self) -> Value {
        match (self.kind, &self.json) {
            (Type::Row, Value::Object(row)) => {
                let mut row = row.clone();
                row.shift_remove("Label");
                Value::Object(row)
            }
            (Type::List(_) | Type::Map(_), Value::Null) => Value::Null,
            _ => self.plain(),
        }
    }

    /// Returns whether the value is true for `if`: not the zero value of its type. A structure is always true.
    pub fn truth(&self) -> bool {
        match self.behind() {
            None => false,
            Some((_, Type::Struct(_))) => true,
            Some(_) if matches!(self.kind, Type::Pointer(_)) => true,
            Some(_) => functions::truth(&self.plain()),
        }
    }

    /// Formats the value as Go's `fmt.Print` does.
    pub fn print(&self) -> String {
        match (self.kind, &self.json) {
            (Type::Any, json) => functions::print(json),
            (Type::Pointer(_), Value::Null) => "<nil>".to_owned(),
            _ => self.nested(),
        }
    }

    /// Formats a value that is an element of another.
    fn nested(&self) -> String {
        let Some((json, kind)) = self.behind() else { return "<nil>".to_owned() };
        match (kind, json) {
            (Type::Struct(structure), _) => {
                let one = |field: &super::types::Field| {
                    Self::new(json.get(field.key).cloned().unwrap_or(Value::Null), field.kind).nested()
                };
                format!("{{{}}}", Type::fields(structure).iter().map(one).collect::<Vec<_>>().join(" "))
            }
            (Type::List(of), Value::Array(items)) => {
                let one = |item: &Value| Self::new(item.clone(), *of).nested();
                format!("[{}]", items.iter().map(one).collect::<Vec<_>>().join(" "))
            }
            (Type::Map(of), Value::Object(map)) => {
                let mut items: Vec<_> = map.iter().collect();
                items.sort_by(|a, b| a.0.cmp(b.0));
                let one = |(key, item): (&String, &Value)| format!("{key}:{}", Self::new(item.clone(), *of).nested());
                format!("map[{}]", items.into_iter().map(one).collect::<Vec<_>>().join(" "))
            }
            _ => functions::nested(&Self::new(json.clone(), kind).plain()),
        }
    }

    /// Returns the keys and elements that `range` visits, maps in key order; `None` if the type has no elements.
    pub fn elements(&self) -> Option<Vec<(Value, Self)>> {
        let Some((json, kind)) = self.behind() else { return Some(Vec::new()) };
        let of = match kind {
            Type::List(of) | Type::Map(of) => *of,
            _ => Type::Any,
        };
        match json {
            Value::Array(items) => {
                Some(items.iter().enumerate().map(|(at, item)| (at.into(), Self::new(item.clone(), of))).collect())
            }
            Value::Object(map) if !matches!(kind, Type::Struct(_)) => {
                let mut items: Vec<_> = map.iter().collect();
                items.sort_by(|a, b| a.0.cmp(b.0));
                Some(items.into_iter().map(|(key, item)| (key.as_str().into(), Self::new(item.clone(), of))).collect())
            }
            Value::Null if matches!(kind, Type::Any | Type::List(_) | Type::Map(_)) => Some(Vec::new()),
            // Since Go 1.22, a number N ranges over 0 to N - 1.
            Value::Number(number) => number
                .as_u64()
                .filter(|n| *n <= 1 << 20)
                .map(|n| (0..n).map(|at| (at.into(), Value::from(at).into())).collect()),
            _ => None,
        }
    }

    /// Returns the element at `key`, as `index` does; the zero value if a map has no such key.
    pub fn index(&self, key: &Self) -> Result<Self, Error> {
        let at = || key.json.as_u64().and_then(|at| usize::try_from(at).ok());
        let Some((json, kind)) = self.behind() else { return error("error calling index: index of nil pointer") };
        let of = match kind {
            Type::List(of) | Type::Map(of) => *of,
            _ => Type::Any,
        };
        if matches!((json, kind), (Value::Array(_) | Value::String(_), _) | (_, Type::List(_))) && !key.json.is_number()
        {
            let kind = functions::go_type(&key.json);
            return error(format!("error calling index: cannot index slice/array with type {kind}"));
        }
        match (json, kind) {
            (Value::Null, Type::Any) => error("error calling index: index of untyped nil"),
            (Value::Array(_) | Value::Null, Type::Any | Type::List(_)) => {
                match json.as_array().zip(at()).and_then(|(items, at)| items.get(at)) {
                    Some(item) => Ok(Self::new(item.clone(), of)),
                    None => error(format!("error calling index: index out of range: {}", key.print())),
                }
            }
            (Value::Object(_) | Value::Null, Type::Any | Type::Map(_) | Type::Row) => match &key.json {
                Value::String(key) => Ok(Self::new(json.get(key).cloned().unwrap_or(Value::Null), of)),
                _ => error("error calling index: value has type int; should be string"),
            },
            (Value::String(text), _) => match at().and_then(|at| text.as_bytes().get(at)) {
                Some(byte) => Ok(Value::from(*byte).into()),
                None => error(format!("error calling index: index out of range: {}", key.print())),
            },
            (other, _) => error(format!("error calling index: can't index item of type {}", functions::go_type(other))),
        }
    }
}
