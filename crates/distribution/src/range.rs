//! `Content-Range`, the upload's `Range`, and `Retry-After`.
//!
//! Source: RFC 9110, sections 10.2.3 and 14.4; OCI distribution-spec 1.1, "Pushing a blob in chunks".

use std::time::Duration;

/// What part of a whole an answer brings; both ends count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    pub first: u64,
    pub last: u64,
    /// Bytes of the whole, if the other end says.
    pub total: Option<u64>,
}

/// Reads `bytes 0-499/1234`; `None` for what is no such thing or contradicts itself.
pub fn content_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.trim().split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let total = match total.trim() {
        "*" => None,
        total => Some(number(total)?),
    };
    let holds = first <= last && total.is_none_or(|total| last < total);
    holds.then_some(ContentRange { first, last, total })
}

/// Reads how much of an upload has arrived: `0-499` (or `bytes=0-499`) is 500 bytes; `0-0` is none, as distribution says it.
pub fn uploaded(text: &str) -> Option<u64> {
    let text = text.trim();
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    let (first, last) = text.split_once('-')?;
    if number(first)? != 0 {
        return None;
    }
    match number(last)? {
        0 => Some(0),
        last => last.checked_add(1),
    }
}

/// Reads `Retry-After` in seconds; a date is not worth a clock that may differ, and counts as a second.
pub fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    match text.bytes().all(|b| b.is_ascii_digit()) {
        true => Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX))),
        false => Some(Duration::from_secs(1)),
    }
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_or_refused() {
        for (text, range) in [
            ("bytes 0-499/1234", Some((0, 499, Some(1234)))),
            ("bytes 500-500/*", Some((500, 500, None))),
            ("bytes 5-4/10", None),
            ("bytes 0-10/10", None),
            ("bytes */10", None),
            ("bytes 0-9", None),
            ("bytes -1-9/10", None),
            ("lines 0-9/10", None),
            ("bytes 0-99999999999999999999/100000000000000000000", None),
        ] {
            let found = content_range(text).map(|range| (range.first, range.last, range.total));
            assert_eq!(found, range, "{text}");
        }
    }

    #[test]
    fn uploads_are_counted() {
        for (text, bytes) in
            [("0-499", Some(500)), ("bytes=0-9", Some(10)), ("0-0", Some(0)), ("1-5", None), ("0-", None), ("", None)]
        {
            assert_eq!(uploaded(text), bytes, "{text}");
        }
        assert_eq!(uploaded(&format!("0-{}", u64::MAX)), None);
    }

    #[test]
    fn waits_are_read() {
        assert_eq!(retry_after("3"), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:28:00 GMT"), Some(Duration::from_secs(1)));
        assert_eq!(retry_after(""), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = (content_range(&text), uploaded(&text), retry_after(&text));
        }

        #[test]
        fn a_range_that_is_read_is_one(first in any::<u64>(), last in any::<u64>(), total in any::<u64>()) {
            if let Some(range) = content_range(&format!("bytes {first}-{last}/{total}")) {
                prop_assert!(range.first <= range.last && range.last < total);
                prop_assert_eq!((range.first, range.last, range.total), (first, last, Some(total)));
            }
        }
    }
}
