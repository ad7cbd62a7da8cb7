//! `Warning` headers: notices to the user on a successful request.
//!
//! ```text
//! Warning: 299 - "the quota of team is 93 % used: 930 of 1000 bytes"
//! ```
//!
//! A warning tells of a quota or number of uploads that is nearly reached, a manifest that names missing content, and a token that is
//! about to expire.
//!
//! Source: OCI distribution-spec 1.1, "Warnings"; RFC 7234, 5.5.

use hyper::{HeaderMap, header::HeaderValue};

const NAME: &str = "warning";
/// Maximum bytes of all warnings of a response.
const BYTES_MAX: usize = 4096;
/// Percentage at which a limit is nearly reached.
const NEAR: u64 = 90;
/// Seconds before its end at which a token is about to expire.
pub const TOKEN_ENDS: u64 = 30;

/// Adds a warning, unless the response has as many bytes of them as it may.
pub fn add(headers: &mut HeaderMap, text: &str) {
    let mut value = "299 - \"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => value.extend(['\\', c]),
            ' '..='~' => value.push(c),
            _ => value.push('?'),
        }
    }
    value.push('"');
    let before: usize = headers.get_all(NAME).iter().map(HeaderValue::len).sum();
    if before + value.len() > BYTES_MAX {
        return;
    }
    if let Ok(value) = value.try_into() {
        headers.append(NAME, value);
    }
}

/// Returns the used percentage of a limit if it is nearly reached.
pub fn nearly(used: u64, limit: u64) -> Option<u64> {
    let hundredths = u128::from(used) * 100 / u128::from(limit.max(1));
    u64::try_from(hundredths).ok().filter(|hundredths| *hundredths >= NEAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_strings_of_4096_bytes_at_most() {
        let mut headers = HeaderMap::new();
        add(&mut headers, "say \"a\\b\" to\r\nX: ü");
        assert_eq!(headers[NAME], r#"299 - "say \"a\\b\" to??X: ?""#);
        for _ in 0..100 {
            add(&mut headers, &"x".repeat(100));
        }
        let all: Vec<usize> = headers.get_all(NAME).iter().map(HeaderValue::len).collect();
        assert!(all.len() > 30 && all.iter().sum::<usize>() <= BYTES_MAX, "{all:?}");
        add(&mut headers, &"x".repeat(BYTES_MAX));
        assert_eq!(headers.get_all(NAME).iter().count(), all.len());
    }

    #[test]
    fn near_is_nine_tenths() {
        assert_eq!([nearly(899, 1000), nearly(900, 1000), nearly(1000, 1000)], [None, Some(90), Some(100)]);
        assert_eq!((nearly(0, 0), nearly(u64::MAX, u64::MAX)), (None, Some(100)));
    }
}
