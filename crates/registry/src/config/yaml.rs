//! The configuration as a YAML document, with `REGISTRY_…` variables laid over it.
//!
//! `REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/srv` sets `storage.filesystem.rootdirectory`. The value is read as YAML, so that it may
//! be a list or a number. An underscore always stands between two keys; no key that is known has one.

use serde_json::{Map, Value};

/// Maximum size of a configuration file, in bytes.
const SIZE_MAX: usize = 1 << 20;
/// Maximum depth of its maps and lists.
const DEPTH_MAX: usize = 32;
/// Sections that a variable may set. Kubernetes sets `REGISTRY_PORT`, `REGISTRY_SERVICE_HOST` and the like for a service that is
/// called `registry`.
const SECTIONS: [&str; 17] = [
    "version",
    "log",
    "loglevel",
    "storage",
    "auth",
    "middleware",
    "reporting",
    "http",
    "notifications",
    "redis",
    "health",
    "catalog",
    "proxy",
    "compatibility",
    "validation",
    "policy",
    "strata",
];

/// Reads a file's text. An empty one is an empty map.
pub fn parse(text: &str) -> Result<Value, String> {
    if text.len() > SIZE_MAX {
        return Err(format!("the configuration is longer than {SIZE_MAX} bytes"));
    }
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    match value {
        Value::Null => Ok(Value::Object(Map::new())),
        Value::Object(_) if depth(&value) <= DEPTH_MAX => Ok(value),
        Value::Object(_) => Err(format!("the configuration is deeper than {DEPTH_MAX} levels")),
        _ => Err("the configuration is not a map of keys".into()),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Lays environment variables over `tree`, in the order of their names; returns the names of those that name no section.
pub fn overlay(tree: &mut Value, variables: impl Iterator<Item = (String, String)>) -> Result<Vec<String>, String> {
    let mut ours: Vec<(String, String)> = variables.filter(|(name, _)| name.starts_with("REGISTRY_")).collect();
    ours.sort();
    let mut foreign = Vec::new();
    for (name, text) in ours {
        let path: Vec<String> = name["REGISTRY_".len()..].split('_').map(str::to_lowercase).collect();
        if !SECTIONS.contains(&path[0].as_str()) {
            foreign.push(name);
            continue;
        }
        if path.iter().any(String::is_empty) || path.len() > DEPTH_MAX {
            return Err(format!("the variable {name} names no key"));
        }
        let value = if text.is_empty() {
            Value::String(text)
        } else {
            serde_saphyr::from_str(&text).unwrap_or(Value::String(text))
        };
        set(tree, &path, value).map_err(|problem| format!("the variable {name}: {problem}"))?;
    }
    Ok(foreign)
}

fn set(tree: &mut Value, path: &[String], value: Value) -> Result<(), String> {
    let Some((first, rest)) = path.split_first() else {
        *tree = value;
        return Ok(());
    };
    if let (Value::Array(list), Ok(at)) = (&mut *tree, first.parse::<usize>()) {
        let len = list.len();
        return match list.get_mut(at) {
            Some(entry) => set(entry, rest, value),
            None => Err(format!("there is no entry {at} in a list of {len}")),
        };
    }
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    let Value::Object(map) = tree else { return Ok(()) };
    // Keys are compared without case, as distribution does.
    let key = map.keys().find(|key| key.to_lowercase() == *first).cloned().unwrap_or_else(|| first.clone());
    set(map.entry(key).or_insert(Value::Null), rest, value)
}

/// Writes a document as YAML.
pub fn write(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("a JSON value has a YAML form")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_lie_over_the_file() {
        let mut tree = parse("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /a\nproxy:\n- x: 1\n").unwrap();
        let variables = [
            ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/b"),
            ("REGISTRY_HTTP_ADDR", "127.0.0.1:1"),
            ("REGISTRY_HTTP_HEADERS", "{X-A: [b]}"),
            ("REGISTRY_PROXY_0_X", "2"),
            ("REGISTRY_PORT", "tcp://10.0.0.1:80"),
            ("REGISTRY_SERVICE_PORT_HTTP", "80"),
            ("OTHER", "x"),
        ];
        let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let foreign = overlay(&mut tree, variables).unwrap();
        assert_eq!(foreign, ["REGISTRY_PORT", "REGISTRY_SERVICE_PORT_HTTP"], "a service of Kubernetes");
        assert_eq!(tree["storage"]["filesystem"]["rootdirectory"], "/b");
        assert_eq!(tree["http"], json!({"addr": "127.0.0.1:1", "headers": {"X-A": ["b"]}}));
        assert_eq!(tree["proxy"], json!([{"x": 2}]));
        let bad = overlay(&mut tree, std::iter::once(("REGISTRY_PROXY_7_X".to_owned(), "1".to_owned())));
        assert!(bad.unwrap_err().contains("REGISTRY_PROXY_7_X"));
    }

    #[test]
    fn what_is_written_is_read() {
        let tree = json!({"a": {"b c": [1, "x: y", {"d": null}], "e": []}, "f": "no", "g": "127.0.0.1:5000", "h": "@x", "i": "1.5",
            "yes": "on", "j": "0x10", "k": "~", "l": "a: b # c", "m": "multi\nline\n", "n": "", "o": {}, "p": "0b1", "q": "1_000"});
        assert_eq!(parse(&write(&tree)).unwrap(), tree, "{}", write(&tree));
    }

    #[test]
    fn hostile_texts_are_refused() {
        let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f]\n";
        for text in ["- a", "a: [", "a: 1\na: 2", &deep, bomb, "just text"] {
            assert!(parse(text).is_err(), "{text:.60}");
        }
        assert!(parse("").is_ok() && parse("# only a comment\n").is_ok());
    }
}
