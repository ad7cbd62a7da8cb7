//! HEALTHCHECK.

use strata_spec::config::Healthcheck;

use super::{Instruction, json_list, split_word};
use crate::Error;

/// Nanoseconds in a millisecond: the shortest interval.
const MINIMUM: i64 = 1_000_000;

pub(super) fn parse(instruction: &Instruction<'_>) -> Result<Healthcheck, Error> {
    let (kind, rest) = split_word(instruction.some()?);
    let mut health = Healthcheck::default();
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if !rest.is_empty() => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "NONE" => {
            health.test = Some(vec!["NONE".to_owned()]);
            return Ok(health);
        }
        "CMD" if rest.is_empty() => return Err(Error::invalid("Missing command after HEALTHCHECK CMD")),
        "CMD" => {
            let test = match json_list(rest)? {
                Some(list) => ["CMD".to_owned()].into_iter().chain(list).collect(),
                None => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
            };
            health.test = Some(test);
        }
        _ => return Err(Error::invalid(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"))),
    }
    for flag in &instruction.flags {
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        match name {
            "interval" => health.interval = interval(name, value)?,
            "timeout" => health.timeout = interval(name, value)?,
            "start-period" => health.start_period = interval(name, value)?,
            "retries" => match value.parse::<i32>() {
                Ok(retries) if retries >= 1 => health.retries = retries.into(),
                _ => return Err(Error::invalid(format!("--retries must be at least 1 (not {value})"))),
            },
            _ => return Err(Error::invalid(format!("Unknown flag: {name}"))),
        }
    }
    Ok(health)
}

fn interval(name: &str, value: &str) -> Result<i64, Error> {
    match duration(value) {
        None => Err(Error::invalid(format!("time: invalid duration {value:?} for --{name}"))),
        Some(0) => Ok(0),
        Some(nanos) if nanos < MINIMUM => Err(Error::invalid(format!("Interval {name:?} cannot be less than 1ms"))),
        Some(nanos) => Ok(nanos),
    }
}

/// Reads a duration as Go's `time.ParseDuration` does (`1m30s`, `1.5h`), in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        rest = &rest[end..];
        total += number * unit;
    }
    (total < i64::MAX as f64).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_reads_them() {
        for (text, nanos) in [
            ("1s", Some(1_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("100us", Some(100_000)),
            ("0", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("1x", None),
            ("-1s", None),
            ("9999999999h", None),
        ] {
            assert_eq!(duration(text), nanos, "{text:?}");
        }
    }
}
