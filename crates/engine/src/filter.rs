//! Filters, `KEY=VALUE`: parsed once, checked against the keys that an operation knows.
//!
//! Source: moby 28, `api/types/filters/parse.go` and `errors.go`; docker/cli `opts/opts.go`.

use jiff::Timestamp;
use strata_spec::quantity::go_duration;

use crate::Error;

/// Filters as given: several values of one key are alternatives, except labels, which must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(Vec<(String, String)>);

impl Filters {
    /// Parses `KEY=VALUE` texts. An empty one is none.
    pub fn parse(texts: &[String]) -> Result<Self, Error> {
        let mut filters = Self::default();
        for text in texts.iter().filter(|text| !text.is_empty()) {
            // `label!=x` has the exclamation mark in its key.
            let Some((key, value)) = text.split_once('=') else {
                return Err(Error::Invalid("bad format of filter (expected name=value)".to_owned()));
            };
            filters.add(key, value);
        }
        Ok(filters)
    }

    /// Adds a value of `key`.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.push((key.trim().to_lowercase(), value.trim().to_owned()));
    }

    /// Refuses keys outside `known`, in Docker's words.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Error> {
        match self.0.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, _)) => Err(Error::Invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// Refuses values of `key` outside `known`.
    pub(crate) fn one_of(&self, key: &str, known: &[&str]) -> Result<(), Error> {
        match self.get(key).find(|value| !known.contains(value)) {
            Some(value) => Err(Self::invalid(key, value)),
            None => Ok(()),
        }
    }

    /// A value that `key` does not take.
    pub(crate) fn invalid(key: &str, value: &str) -> Error {
        Error::Invalid(format!("invalid filter '{key}={value}'"))
    }

    /// Whether `value` is one of those of `key`.
    pub(crate) fn has_value(&self, key: &str, value: &str) -> bool {
        self.get(key).any(|given| given == value)
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
        let (yes, no) = (["true", "1"], ["false", "0"]);
        if !self.has(key) {
            return Ok(None);
        }
        let given = |known: [&str; 2]| known.iter().any(|value| self.has_value(key, value));
        match (given(yes), given(no)) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => {
                let values = self.get(key).collect::<Vec<_>>().join(" ");
                Err(Error::Invalid(format!("invalid filter '{key}=[{values}]'")))
            }
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
pub(crate) fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Error> {
    let invalid = || {
        Error::Invalid(format!(
            "{text:?} is no time: give a date, a time, seconds since 1970, or a duration such as 24h"
        ))
    };
    // Go reads a bare zero as a length of time; Docker as a time.
    if let Some(ago) = go_duration(text).filter(|_| text != "0") {
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
        let filters = Filters::parse(&texts).unwrap();
        let check = |labels: &[(&str, &str)]| {
            filters.labels(|name| labels.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
        };
        assert!(check(&[("a", ""), ("b", "1")]));
        assert!(!check(&[("a", ""), ("b", "2")]));
        assert!(!check(&[("b", "1")]));
        assert!(!check(&[("a", ""), ("b", "1"), ("c", "x")]));
    }

    #[test]
    fn what_docker_refuses_is_refused_in_its_words() {
        let parse = |texts: &[&str]| Filters::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert!(parse(&["", "label=a"]).unwrap().only(&["label"]).is_ok());
        let says = |filters: Result<(), Error>| filters.unwrap_err().to_string();
        assert_eq!(says(parse(&["label"]).map(drop)), "bad format of filter (expected name=value)");
        assert_eq!(says(parse(&["color=red"]).unwrap().only(&["label"])), "invalid filter 'color'");
        assert_eq!(says(parse(&["a=x"]).unwrap().one_of("a", &["y"])), "invalid filter 'a=x'");
        assert_eq!(says(parse(&["a=maybe"]).unwrap().flag("a").map(drop)), "invalid filter 'a=[maybe]'");
        assert!(parse(&["a=1", "a=0"]).unwrap().flag("a").is_err());
        assert_eq!(parse(&["a=true", "a=1"]).unwrap().flag("a").unwrap(), Some(true));
    }
}
