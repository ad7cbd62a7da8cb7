//! Go's built-in functions and Docker's.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Error, error, printf, value::Typed};

const NAMES: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "index", "slice", "len", "print", "printf", "println",
    "html", "js", "urlquery", "call", "json", "join", "split", "lower", "upper", "title", "pad", "truncate",
];

pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Returns whether the value is true for `if`: not the zero value of its type.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Formats a value as Go's `fmt.Print` does.
pub fn print(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        other => nested(other),
    }
}

/// Formats a float as Go's `%v`: with an exponent from 1e21 and below 1e-4.
fn print_float(value: f64) -> String {
    if value == 0.0 || (1e-4..1e21).contains(&value.abs()) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if exponent.starts_with('-') => format!("{mantissa}e-{:0>2}", &exponent[1..]),
        Some((mantissa, exponent)) => format!("{mantissa}e+{exponent:0>2}"),
        None => text,
    }
}

/// Formats a value that is an element of another.
pub fn nested(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => print_float(float),
            None => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(nested).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut items: Vec<_> = map.iter().collect();
            items.sort_by(|a, b| a.0.cmp(b.0));
            format!(
                "map[{}]",
                items.iter().map(|(key, item)| format!("{key}:{}", nested(item))).collect::<Vec<_>>().join(" ")
            )
        }
    }
}

/// Returns the name of the Go type that a JSON value decodes to.
pub fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Calls the function `name`.
pub fn call(name: &str, arguments: &[Typed]) -> Result<Typed, Error> {
    match (name, arguments) {
        // The evaluator has short-circuited all arguments but a piped one.
        ("and" | "or", [.., last]) => {
            Ok(arguments.iter().find(|value| value.truth() == (name == "or")).unwrap_or(last).clone())
        }
        ("not", [value]) => Ok(Value::from(!value.truth()).into()),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| value.index(key)),
        ("json", [value]) => {
            let text = strata_spec::gojson::to_text(&value.to_json()).map_err(|e| Error(e.to_string()))?;
            Ok(Value::from(text).into())
        }
        ("print", _) => Ok(Value::from(joined(arguments)).into()),
        ("println", _) => {
            Ok(Value::from(arguments.iter().map(Typed::print).collect::<Vec<_>>().join(" ") + "\n").into())
        }
        ("printf", _) => Ok(Value::from(printf::printf(arguments)?).into()),
        ("html", _) => Ok(Value::from(escape_html(&joined(arguments))).into()),
        ("js", _) => Ok(Value::from(escape_js(&joined(arguments))).into()),
        ("urlquery", _) => Ok(Value::from(escape_url(&joined(arguments))).into()),
        ("call", [function, ..]) => {
            error(format!("error calling call: non-function of type {}", go_type(&function.plain())))
        }
        _ => {
            let plain: Vec<Value> = arguments.iter().map(Typed::plain).collect();
            call_plain(name, &plain).map(Typed::from)
        }
    }
}

/// Calls the functions that ignore types.
fn call_plain(name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let want = |count: usize| {
        if arguments.len() == count {
            Ok(())
        } else {
            error(format!("wrong number of args for {name}: want {count} got {}", arguments.len()))
        }
    };
    Ok(match name {
        "and" | "or" | "index" | "call" => {
            return error(format!("wrong number of args for {name}: want at least 1 got 0"));
        }
        "not" | "json" => return error(format!("wrong number of args for {name}: want 1 got {}", arguments.len())),
        "eq" => {
            if arguments.len() < 2 {
                return error("missing argument for comparison");
            }
            Value::from(arguments[1..].iter().any(|other| equal(&arguments[0], other)))
        }
        "ne" => want(2).map(|()| Value::from(!equal(&arguments[0], &arguments[1])))?,
        "lt" | "le" | "gt" | "ge" => {
            want(2)?;
            let order = compare(&arguments[0], &arguments[1])?;
            Value::from(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
        "slice" => slice(arguments)?,
        "len" => want(1).and_then(|()| len(&arguments[0]))?,
        "join" => want(2).and_then(|()| join(&arguments[0], &arguments[1]))?,
        "split" => {
            want(2)?;
            let (text, by) = (print(&arguments[0]), print(&arguments[1]));
            Value::from(text.split(by.as_str()).map(str::to_owned).collect::<Vec<_>>())
        }
        "lower" => want(1).map(|()| Value::from(print(&arguments[0]).to_lowercase()))?,
        "upper" => want(1).map(|()| Value::from(print(&arguments[0]).to_uppercase()))?,
        "title" => want(1).map(|()| Value::from(title(&print(&arguments[0]))))?,
        "pad" => {
            want(3)?;
            let (before, after) = (number(&arguments[1])?, number(&arguments[2])?);
            Value::from(format!("{}{}{}", " ".repeat(before), print(&arguments[0]), " ".repeat(after)))
        }
        "truncate" => {
            want(2)?;
            let limit = number(&arguments[1])?;
            Value::from(print(&arguments[0]).chars().take(limit).collect::<String>())
        }
        _ => return error(format!("function {name:?} not defined")),
    })
}

/// Formats as `fmt.Print`: with a space between two operands if neither is a string.
fn joined(arguments: &[Typed]) -> String {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        let is_string = |value: &Typed| value.plain().is_string();
        if at > 0 && !is_string(value) && !is_string(&arguments[at - 1]) {
            out.push(' ');
        }
        out.push_str(&value.print());
    }
    out
}

fn number(value: &Value) -> Result<usize, Error> {
    match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
        Some(n) if n <= 1 << 16 => Ok(n),
        _ => error(format!("{} is no width", print(value))),
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn compare(a: &Value, b: &Value) -> Result<Ordering, Error> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(_), Value::Number(_)) => Ok(a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)),
        _ => error("incompatible types for comparison"),
    }
}

fn slice(arguments: &[Value]) -> Result<Value, Error> {
    let Some((value, bounds)) = arguments.split_first() else { return error("slice of untyped nil") };
    let length = len(value)?.as_u64().unwrap_or(0) as usize;
    let at = |n: usize, or: usize| bounds.get(n).map_or(Ok(or), number);
    let (from, to) = (at(0, 0)?, at(1, length)?);
    if from > to || to > length {
        return error(format!("error calling slice: index out of range: {from}:{to}"));
    }
    match value {
        Value::String(text) => match text.get(from..to) {
            Some(part) => Ok(Value::from(part)),
            None => error("error calling slice: index within a character"),
        },
        Value::Array(items) => Ok(Value::from(items[from..to].to_vec())),
        other => error(format!("error calling slice: can't slice item of {}", print(other))),
    }
}

fn len(value: &Value) -> Result<Value, Error> {
    Ok(Value::from(match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        Value::Null => 0,
        other => return error(format!("error calling len: len of {}", print(other))),
    }))
}

fn join(list: &Value, by: &Value) -> Result<Value, Error> {
    match list {
        Value::Array(items) => Ok(Value::from(items.iter().map(print).collect::<Vec<_>>().join(&print(by)))),
        Value::Null => Ok(Value::from("")),
        other => error(format!("error calling join: {} is no list", print(other))),
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        start = !c.is_alphanumeric() && c != '_' && c != '\'';
    }
    out
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;").replace('"', "&#34;")
}

fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' | '\0'..'\x20' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn escape_url(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
