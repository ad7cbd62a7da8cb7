//! `Range` of a download, `Content-Range` of a chunk.

/// Which bytes a request wants of `size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All: there is no range, or one of a kind that may be passed over.
    All,
    /// Bytes `first..=last`.
    Part { first: u64, last: u64 },
    /// None of them is there.
    Outside,
}

/// Reads a `Range` header. Several ranges at once, and units other than bytes, are passed over, as RFC 9110 allows.
pub fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Wanted::All };
    let Some((first, last)) = spec.split_once('-') else { return Wanted::All };
    match (number(first), number(last)) {
        (None, Some(suffix)) if first.trim().is_empty() => match suffix {
            0 => Wanted::Outside,
            _ if size == 0 => Wanted::Outside,
            suffix => Wanted::Part { first: size.saturating_sub(suffix), last: size - 1 },
        },
        (Some(first), _) if last.trim().is_empty() => part(first, u64::MAX, size),
        (Some(first), Some(last)) if first <= last => part(first, last, size),
        _ => Wanted::All,
    }
}

fn part(first: u64, last: u64, size: u64) -> Wanted {
    if first >= size { Wanted::Outside } else { Wanted::Part { first, last: last.min(size - 1) } }
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// Reads the `Content-Range` of a chunk, `first-last` or `bytes first-last/total`; `None` if it is neither.
pub fn chunk(header: &str) -> Option<(u64, u64)> {
    let spec = header.trim();
    let spec = spec.strip_prefix("bytes").map_or(spec, |rest| rest.trim_start_matches(['=', ' ']));
    let spec = spec.split('/').next().unwrap_or_default();
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
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
            (Some("bytes=3-2"), 10, Wanted::All),
            (Some("bytes=0-1,4-5"), 10, Wanted::All),
            (Some("items=0-1"), 10, Wanted::All),
            (Some("bytes=+1-2"), 10, Wanted::All),
            (Some("bytes=99999999999999999999999-"), 10, Wanted::All),
            (Some("bytes=0-99999999999999999999999"), 10, Wanted::All),
        ] {
            assert_eq!(wanted(header, size), expected, "{header:?} of {size}");
        }
    }

    #[test]
    fn chunks() {
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
