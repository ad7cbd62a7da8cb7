//! Times as Go writes them into JSON: RFC 3339 with as many decimals as needed, UTC as `Z`.
//!
//! Source: Go 1.19, `time.RFC3339Nano` and `time.Time.MarshalJSON`.

use jiff::Timestamp;

/// Go's zero time, which stands in documents for "not known".
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// A text that is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time like 2006-01-02T15:04:05.999999999Z: {reason}")]
pub struct TimeError {
    pub text: String,
    pub reason: String,
}

/// Returns the time now, as Go's `time.Now().UTC()` would be written.
pub fn now_rfc3339() -> String {
    format(Timestamp::now())
}

/// Writes a time as Go's `RFC3339Nano` in UTC: nine decimals at most, zeros at the end left out.
pub fn format(time: Timestamp) -> String {
    let whole = time.strftime("%Y-%m-%dT%H:%M:%S");
    // Before 1970 the parts of a timestamp count back from zero; the decimals count up from the second's start.
    match time.subsec_nanosecond().rem_euclid(1_000_000_000) {
        0 => format!("{whole}Z"),
        nanos => format!("{whole}.{}Z", format!("{nanos:09}").trim_end_matches('0')),
    }
}

/// Reads an RFC 3339 time with any offset.
pub fn parse(text: &str) -> Result<Timestamp, TimeError> {
    text.parse().map_err(|error: jiff::Error| TimeError {
        text: text.chars().take(80).collect(),
        reason: error.to_string().chars().take(300).collect(),
    })
}

/// Returns Go's zero time.
pub fn zero() -> Timestamp {
    parse(ZERO).expect("a constant in the right form")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_trimmed_as_go_trims_them() {
        for (seconds, nanos, go) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, 120_000_000, "2023-11-14T22:13:20.12Z"),
            (1_700_000_000, 1, "2023-11-14T22:13:20.000000001Z"),
            (-1, 500_000_000, "1969-12-31T23:59:59.5Z"),
            (-2, 1, "1969-12-31T23:59:58.000000001Z"),
            (-62_135_596_800i64, 0, ZERO),
        ] {
            let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
            let time = Timestamp::from_nanosecond(nanos).unwrap();
            assert_eq!(format(time), go);
            assert_eq!(parse(go).unwrap(), time);
        }
        assert_eq!(format(zero()), ZERO);
        assert_eq!(format(parse("2024-05-01T12:00:00.50+02:00").unwrap()), "2024-05-01T10:00:00.5Z");
    }

    #[test]
    fn what_is_no_time_is_named() {
        for text in ["", "yesterday", "2024-13-01T00:00:00Z", "2024-01-01", "1700000000"] {
            assert!(parse(text).unwrap_err().to_string().contains(text));
        }
    }

    proptest! {
        #[test]
        fn parse_takes_what_format_gives(
            nanos in -62_135_596_800_000_000_000i128..253_402_207_200_000_000_000i128,
        ) {
            let time = Timestamp::from_nanosecond(nanos).unwrap();
            prop_assert_eq!(parse(&format(time)).unwrap(), time);
        }

        #[test]
        fn parse_never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
