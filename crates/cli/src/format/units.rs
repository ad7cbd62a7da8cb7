//! Sizes, ages and times, as Docker shows them.
//!
//! Source: docker/go-units, `size.go`.

use jiff::Timestamp;
use strata_container::ps::human_duration;

/// Formats a size in powers of 1000 with four significant digits: `1.5kB`, `217MB`.
pub fn size(bytes: u64) -> String {
    scaled(bytes, 4)
}

/// Formats a size with three significant digits, as `docker images` and `docker history` do.
pub fn size3(bytes: u64) -> String {
    scaled(bytes, 3)
}

fn scaled(bytes: u64, precision: usize) -> String {
    const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value, precision), UNITS[unit])
}

/// Formats as Go's `%.<digits>g`: at most `digits` significant digits, no trailing zeros, large values with an exponent.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').expect("{:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} writes a number behind the e");
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent >= digits as i32 || exponent < -4 {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
    } else {
        trim(&format!("{value:.*}", (digits as i32 - 1 - exponent).max(0) as usize))
    }
}

/// Formats the time since `rfc3339`: `3 minutes ago`; `N/A` for Go's zero time and for an invalid time.
pub fn ago(rfc3339: &str, now: Timestamp) -> String {
    match rfc3339.parse::<Timestamp>() {
        Ok(then) if then.as_second() > -62_135_596_800 => {
            format!("{} ago", human_duration(now.as_second() - then.as_second()))
        }
        _ => "N/A".to_owned(),
    }
}

/// Formats a `CreatedAt` column, in the local time zone: `2026-11-22 10:00:00 +0000 UTC`. An invalid time stays as it is.
pub fn created_at(rfc3339: &str) -> String {
    local(rfc3339, "%Y-%m-%d %H:%M:%S %z %Z")
}

/// Formats the `CreatedAt` column of `history`, in the local time zone: `2026-11-22T10:00:00Z`.
pub fn created_at_exactly(rfc3339: &str) -> String {
    let text = local(rfc3339, "%Y-%m-%dT%H:%M:%S%:z");
    match text.strip_suffix("+00:00") {
        Some(utc) => format!("{utc}Z"),
        None => text,
    }
}

fn local(rfc3339: &str, format: &str) -> String {
    match rfc3339.parse::<Timestamp>() {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_matches_go_units() {
        let cases = [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1kB"),
            (1234, "1.234kB", "1.23kB"),
            (216_994_304, "217MB", "217MB"),
            (965_700_000, "965.7MB", "966MB"),
            (12_345_678_901, "12.35GB", "12.3GB"),
            (999_999, "1000kB", "1e+03kB"),
        ];
        for (bytes, four, three) in cases {
            assert_eq!((size(bytes).as_str(), size3(bytes).as_str()), (four, three), "{bytes}");
        }
    }
}
