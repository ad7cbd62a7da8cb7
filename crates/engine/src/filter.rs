//! `--filter KEY=VALUE`: parsed once, with the keys that a command knows.

use jiff::{SignedDuration, Timestamp};

use crate::Error;

/// Filters as given: several values of one key are alternatives, except labels, which must all match.
#[derive(Clone, Debug, Default)]
pub struct Filters(Vec<(String, String)>);

impl Filters {
    /// Parses `KEY=VALUE` texts; a key outside `known` is refused in Docker's words.
    pub fn parse(texts: &[String], known: &[&str]) -> Result<Self, Error> {
        let mut filters = Vec::new();
        for text in texts {
            // `label!=x` has the exclamation mark in its key.
            let Some((key, value)) = text.split_once('=') else {
                return Err(Error::Invalid(format!("bad format of filter {text:?} (expected name=value)")));
            };
            let key = key.trim().to_lowercase();
            if !known.contains(&key.as_str()) {
                return Err(Error::Invalid(format!(
                    "Invalid filter '{key}' (this command knows {})",
                    known.join(", ")
                )));
            }
            filters.push((key, value.trim().to_owned()));
        }
        Ok(Self(filters))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values of `key`.
    pub fn get<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).next().is_some()
    }

    /// Whether `key` is not given, or one of its values satisfies `matches`.
    pub fn any(&self, key: &str, matches: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.get(key).any(matches)
    }

    /// The value of a yes-or-no filter, `None` if it is not given.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.get(key).next() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(Error::Invalid(format!("Invalid filter '{key}={other}'"))),
        }
    }

    /// Whether `labels` has all that `label` asks for, and nothing that `label!` excludes.
    pub fn labels<'a>(&self, labels: impl Fn(&str) -> Option<&'a str>) -> bool {
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((name, value)) => labels(name) == Some(value),
            None => labels(wanted).is_some(),
        };
        self.get("label").all(has) && !self.get("label!").any(has)
    }

    /// `until`: the time before which something must have been created; `None` if it is not given.
    pub fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        match self.get("until").collect::<Vec<_>>()[..] {
            [] => Ok(None),
            [text] => moment(text, now).map(Some),
            _ => Err(Error::Invalid("more than one until filter specified".to_owned())),
        }
    }
}

/// A Unix time, an RFC 3339 time or date, or a duration before `now` as Go writes it (`10m`, `1h30m`).
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Error> {
    let invalid = || {
        Error::Invalid(format!(
            "{text:?} is no time: give a date, a time, seconds since 1970, or a duration such as 24h"
        ))
    };
    if let Some(ago) = go_duration(text) {
        return now.checked_sub(ago).map_err(|_| invalid());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        return local.to_zoned(jiff::tz::TimeZone::system()).map(|time| time.timestamp()).map_err(|_| invalid());
    }
    let (seconds, nanos) = text.split_once('.').unwrap_or((text, "0"));
    let nanos = format!("{nanos:0<9}");
    match (seconds.parse(), nanos.get(..9).and_then(|n| n.parse().ok())) {
        (Ok(seconds), Some(nanos)) => Timestamp::new(seconds, nanos).map_err(|_| invalid()),
        _ => Err(invalid()),
    }
}

/// `1h30m`, `1.5s`, `300ms`.
fn go_duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut total = SignedDuration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(SignedDuration::try_from_secs_f64(value * seconds).ok()?)?;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_docker_reads_them() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let cases = [
            ("1h30m", Some("2026-01-02T01:34:05Z")),
            ("500ms", Some("2026-01-02T03:04:04.5Z")),
            ("2025-01-01T00:00:00Z", Some("2025-01-01T00:00:00Z")),
            ("1700000000", Some("2023-11-14T22:13:20Z")),
            ("1700000000.5", Some("2023-11-14T22:13:20.5Z")),
            ("tomorrow", None),
            ("", None),
            ("9".repeat(40).as_str(), None),
        ]
        .map(|(text, expected)| (text.to_owned(), expected));
        for (text, expected) in cases {
            assert_eq!(moment(&text, now).ok().map(|t| t.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn labels_must_all_match_and_excluded_ones_must_not() {
        let texts = ["label=a", "label=b=1", "label!=c"].map(str::to_owned);
        let filters = Filters::parse(&texts, &["label", "label!"]).unwrap();
        let check = |labels: &[(&str, &str)]| {
            filters.labels(|name| labels.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
        };
        assert!(check(&[("a", ""), ("b", "1")]));
        assert!(!check(&[("a", ""), ("b", "2")]));
        assert!(!check(&[("b", "1")]));
        assert!(!check(&[("a", ""), ("b", "1"), ("c", "x")]));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(Filters::parse(&["color=red".to_owned()], &["label"]).is_err());
        assert!(Filters::parse(&["label".to_owned()], &["label"]).is_err());
    }
}
