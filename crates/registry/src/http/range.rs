//! `Range` of a download and `Content-Range` of a chunk.
//!
//! Both are read by hand. `headers` gives a `Range` as an iterator over what can be satisfied, which does not tell a range outside the
//! blob (416) from a header to ignore (200), and its `ContentRange` refuses the form of the OCI specification, which has no unit.
//!
//! Source: RFC 9110, section 14; OCI distribution-spec 1.1, "Pushing a blob in chunks".

/// Which bytes a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of them: there is no range, or one of a kind that a server may ignore.
    All,
    /// Bytes `first..=last`.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// None: the range lies outside the blob or is malformed.
    Outside,
}

/// Reads a `Range` header for `size` bytes. Several ranges at once and other units are ignored, as RFC 9110 allows.
///
/// A malformed range of bytes is [`Wanted::Outside`]: distribution and other servers in Go answer 416.
pub fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Wanted::All };
    if spec.contains(',') {
        return Wanted::All;
    }
    let Some((first, last)) = spec.split_once('-') else { return Wanted::Outside };
    match (first.trim(), last.trim()) {
        ("", suffix) => match number(suffix) {
            None | Some(0) => Wanted::Outside,
            Some(_) if size == 0 => Wanted::Outside,
            Some(suffix) => Wanted::Part { first: size.saturating_sub(suffix), last: size - 1 },
        },
        (first, "") => part(number(first), Some(u64::MAX), size),
        (first, last) => part(number(first), number(last), size),
    }
}

fn part(first: Option<u64>, last: Option<u64>, size: u64) -> Wanted {
    match first.zip(last) {
        Some((first, last)) if first <= last && first < size => Wanted::Part { first, last: last.min(size - 1) },
        _ => Wanted::Outside,
    }
}

/// A number of digits alone. One too large for any blob is the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Reads the `Content-Range` of a chunk, `first-last` or `bytes first-last/total`; `None` for anything else.
pub fn chunk(header: &str) -> Option<(u64, u64)> {
    let spec = header.trim();
    let spec = spec.strip_prefix("bytes").map_or(spec, |rest| rest.trim_start_matches(['=', ' ']));
    let spec = spec.split('/').next().unwrap_or_default();
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_select_bytes_or_lie_outside() {
        for (header, size, expected) in [
            (None, 10, Wanted::All),
            (Some("bytes=0-3"), 10, Wanted::Part { first: 0, last: 3 }),
            (Some("bytes=5-"), 10, Wanted::Part { first: 5, last: 9 }),
            (Some("bytes=5-99"), 10, Wanted::Part { first: 5, last: 9 }),
            (Some("bytes=-4"), 10, Wanted::Part { first: 6, last: 9 }),
            (Some("bytes=-40"), 10, Wanted::Part { first: 0, last: 9 }),
            (Some("bytes=10-"), 10, Wanted::Outside),
            (Some("bytes=-0"), 10, Wanted::Outside),
            (Some("bytes=-1"), 0, Wanted::Outside),
            (Some("bytes=0-"), 0, Wanted::Outside),
            (Some("bytes=3-2"), 10, Wanted::Outside),
            (Some("bytes=500-0"), 10, Wanted::Outside),
            (Some("bytes=0"), 10, Wanted::Outside),
            (Some("bytes=-"), 10, Wanted::Outside),
            (Some("bytes=0-1,4-5"), 10, Wanted::All),
            (Some("items=0-1"), 10, Wanted::All),
            (Some("bytes=+1-2"), 10, Wanted::Outside),
            (Some("bytes=99999999999999999999999-"), 10, Wanted::Outside),
            (Some("bytes=0-99999999999999999999999"), 10, Wanted::Part { first: 0, last: 9 }),
        ] {
            assert_eq!(wanted(header, size), expected, "{header:?} of {size}");
        }
    }

    #[test]
    fn chunks_have_a_range_with_or_without_a_unit() {
        for (header, expected) in [
            ("0-9", Some((0, 9))),
            ("bytes 5-9/10", Some((5, 9))),
            ("bytes=5-9", Some((5, 9))),
            ("9-5", None),
            ("-5", None),
            ("a-b", None),
            ("", None),
            ("0-18446744073709551616", None),
        ] {
            assert_eq!(chunk(header), expected, "{header:?}");
        }
    }
}
