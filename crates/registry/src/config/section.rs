//! One map of keys of the configuration: every key must be known, and every mistake names its place.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Map, Value};

/// What is wrong with a configuration, in the order it was found.
#[derive(Debug, Default)]
pub struct Mistakes {
    /// Mistakes, which keep the server from starting.
    pub errors: Vec<String>,
    /// Keys of distribution that are known and have no effect, with the reason.
    pub warnings: Vec<String>,
}

impl Mistakes {
    /// Notes a mistake at `place`, such as `http.addr`.
    pub fn add(&mut self, place: &str, problem: impl std::fmt::Display) {
        self.errors.push(format!("{place}: {problem}"));
    }

    /// Notes that what stands at `place` has no effect.
    pub fn warn(&mut self, place: &str, why: impl std::fmt::Display) {
        self.warnings.push(format!("{place}: has no effect: {why}"));
    }
}

/// One map of the configuration. [`Section::end`] names the keys that nobody asked for.
pub struct Section<'a> {
    place: String,
    map: Option<&'a Map<String, Value>>,
    asked: BTreeSet<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole configuration.
    pub fn root(value: &'a Value) -> Self {
        Self { place: String::new(), map: value.as_object(), asked: BTreeSet::new() }
    }

    /// Whether the map is there.
    pub fn is_there(&self) -> bool {
        self.map.is_some()
    }

    /// The place of a key, as `http.tls.key`.
    pub fn place(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    /// The value of a key; `null` is as good as none.
    pub fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.asked.insert(key);
        self.map?
            .iter()
            .find(|(name, _)| name.to_lowercase() == key)
            .map(|(_, value)| value)
            .filter(|value| !value.is_null())
    }

    /// Whether a key stands there, with or without a value.
    pub fn has(&mut self, key: &'static str) -> bool {
        self.asked.insert(key);
        self.map.is_some_and(|map| map.keys().any(|name| name.to_lowercase() == key))
    }

    /// The map below a key; an empty one if there is none.
    pub fn section(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Section<'a> {
        let place = self.place(key);
        let map = match self.get(key) {
            None => None,
            Some(Value::Object(map)) => Some(map),
            Some(_) => {
                mistakes.add(&place, "is not a map of keys");
                None
            }
        };
        Section { place, map, asked: BTreeSet::new() }
    }

    /// The maps of a list below a key.
    pub fn sections(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Vec<Section<'a>> {
        let place = self.place(key);
        let list = match self.get(key) {
            None => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => {
                mistakes.add(&place, "is not a list");
                return Vec::new();
            }
        };
        let mut sections = Vec::new();
        for (at, value) in list.iter().enumerate() {
            let place = format!("{place}[{at}]");
            match value.as_object() {
                Some(map) => sections.push(Section { place, map: Some(map), asked: BTreeSet::new() }),
                None => mistakes.add(&place, "is not a map of keys"),
            }
        }
        sections
    }

    /// A text or a number.
    pub fn text(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Option<String> {
        match self.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                mistakes.add(&self.place(key), "is not text");
                None
            }
        }
    }

    /// A boolean, in YAML 1.1's words too.
    pub fn flag(&mut self, key: &'static str, default: bool, mistakes: &mut Mistakes) -> bool {
        let found = match self.get(key) {
            None => Some(default),
            Some(Value::Bool(flag)) => Some(*flag),
            Some(Value::String(text)) => match text.to_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => Some(true),
                "false" | "no" | "off" | "n" => Some(false),
                _ => None,
            },
            Some(_) => None,
        };
        found.unwrap_or_else(|| {
            mistakes.add(&self.place(key), "is neither true nor false");
            default
        })
    }

    /// A number of bytes: `4194304`, `4MiB`, `1.5GB`.
    pub fn bytes(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Option<u64> {
        self.parsed(key, mistakes, bytes)
    }

    /// A duration as Go writes it: `90s`, `1h30m`; a number alone counts nanoseconds, as in Go.
    pub fn duration(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Option<Duration> {
        self.parsed(key, mistakes, duration)
    }

    /// A number or text that `parse` understands.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key, mistakes)?;
        parse(text.trim()).map_err(|problem| mistakes.add(&self.place(key), problem)).ok()
    }

    /// A list of texts; one text alone is a list of one.
    pub fn texts(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Vec<String> {
        let one = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let found = match self.get(key) {
            None => return Vec::new(),
            Some(Value::Array(list)) => list.iter().map(one).collect::<Option<Vec<String>>>(),
            Some(value) => one(value).map(|text| vec![text]),
        };
        found.unwrap_or_else(|| {
            mistakes.add(&self.place(key), "is not a list of texts");
            Vec::new()
        })
    }

    /// Warns of keys of distribution that have no meaning here; each with the reason.
    pub fn without_effect(&mut self, keys: &[(&'static str, &str)], mistakes: &mut Mistakes) {
        for (key, why) in keys {
            if self.get(key).is_some() {
                mistakes.warn(&self.place(key), why);
            }
        }
    }

    /// Ends the section: a key that is not known is a mistake.
    pub fn end(self, mistakes: &mut Mistakes) {
        for key in self.map.into_iter().flat_map(Map::keys) {
            if !self.asked.contains(key.to_lowercase().as_str()) {
                mistakes.add(&self.place(key), "is not a known key");
            }
        }
    }
}

/// Reads a size in bytes: `4194304`, `4MiB`, `1.5GB`; `k` is 1000 and `Ki` is 1024.
pub fn bytes(text: &str) -> Result<u64, String> {
    let fail = || format!("{text:?} is not a number of bytes, such as 4194304, 4MiB or 10GB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return Err(fail()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(fail);
    }
    let value = number.parse::<f64>().map_err(|_| fail())? * factor as f64;
    if value.is_finite() && (0.0..1.8e19).contains(&value) { Ok(value as u64) } else { Err(fail()) }
}

/// Reads a duration as Go writes it; a number alone counts nanoseconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let fail = || format!("{text:?} is not a duration, such as 30s, 5m or 1h30m");
    if let Ok(nanos) = text.parse::<u64>() {
        return Ok(Duration::from_nanos(nanos));
    }
    let (mut rest, mut total) = (text, 0.0);
    if rest.is_empty() {
        return Err(fail());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
        let number: f64 = rest[..digits].parse().map_err(|_| fail())?;
        let after = &rest[digits..];
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let unit = match &after[..unit_len] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(fail()),
        };
        total += number * unit;
        rest = &after[unit_len..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| fail())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("4MiB", Some(4 << 20)),
            ("10 GB", Some(10_000_000_000)),
            ("1.5k", Some(1500)),
            ("x", None),
            ("-1", None),
            ("99999999999TB", None),
            ("1.2.3k", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("5s", Some(5_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("1000000", Some(1)),
            ("", None),
            ("5", Some(0)),
            ("s", None),
            ("5 s", None),
            ("1d", None),
            ("-5s", None),
        ] {
            assert_eq!(duration(text).ok().map(|time| time.as_millis()), expected, "{text}");
        }
    }
}
