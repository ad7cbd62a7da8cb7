//! Sparse maps: old GNU, and the GNU PAX formats 0.0, 0.1 and 1.0.

use super::{
    Extent,
    block::{Block, field, number},
    pax::Records,
};

/// How a PAX sparse file says where its data goes.
pub(super) enum PaxMap {
    /// Format 0.0 and 0.1: in the records.
    Records(Vec<i64>),
    /// Format 1.0: at the head of its content, in decimal lines, up to a block's end.
    Content,
}

/// What the records say of a sparse file: its map, and its real name and size where they differ from the header's.
pub(super) struct PaxSparse {
    pub(super) map: PaxMap,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<i64>,
}

/// Returns what `records` say of a sparse file, `None` if it is not one or is of a version nobody defined.
pub(super) fn from_records(records: &Records) -> Result<Option<PaxSparse>, &'static str> {
    let major = records.get("GNU.sparse.major");
    let minor = records.get("GNU.sparse.minor");
    let mapped = !records.sparse_numbers.is_empty() || records.get("GNU.sparse.map").is_some();
    let map = match (major, minor) {
        (Some(b"1"), Some(b"0")) => PaxMap::Content,
        (Some(b"0"), Some(b"0" | b"1")) => PaxMap::Records(numbers(records)?),
        (None, None) if mapped => PaxMap::Records(numbers(records)?),
        _ => return Ok(None),
    };
    let size = match records.number("GNU.sparse.size")? {
        Some(size) => Some(size),
        None => records.number("GNU.sparse.realsize")?,
    };
    Ok(Some(PaxSparse { map, name: records.get("GNU.sparse.name").map(<[u8]>::to_vec), size }))
}

/// Offsets and lengths in turn, of format 0.0 (a record each) or 0.1 (one record, with commas).
fn numbers(records: &Records) -> Result<Vec<i64>, &'static str> {
    const BAD: &str = "its sparse map is malformed";
    let found = match records.get("GNU.sparse.map") {
        _ if !records.sparse_numbers.is_empty() => records.sparse_numbers.clone(),
        None => Vec::new(),
        Some(map) => map.split(|&b| b == b',').map(decimal).collect::<Option<_>>().ok_or(BAD)?,
    };
    let count = records.number("GNU.sparse.numblocks")?.ok_or("its sparse map has no length")?;
    if usize::try_from(count).ok().and_then(|n| n.checked_mul(2)) != Some(found.len()) {
        return Err("its sparse map has another length than it says");
    }
    Ok(found)
}

pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Appends the entries of one block of an old GNU map, and says whether another block follows.
///
/// `table` is the part with the entries, 24 bytes each.
pub(super) fn old_gnu_entries(table: &[u8], numbers: &mut Vec<i64>) -> Result<(), &'static str> {
    for entry in table.chunks_exact(24).take_while(|entry| entry[0] != 0) {
        for half in [&entry[..12], &entry[12..]] {
            numbers.push(number(half).ok_or("its sparse map holds something else than numbers")?);
        }
    }
    Ok(())
}

/// The part of an old GNU header with the first entries, and whether blocks of more follow.
pub(super) fn old_gnu_head(block: &Block) -> (&[u8], bool) {
    (&block[field::GNU_SPARSE], block[field::GNU_SPARSE_MORE] != 0)
}

/// The same of a block that continues the map.
pub(super) fn old_gnu_more(block: &Block) -> (&[u8], bool) {
    (&block[..21 * 24], block[504] != 0)
}

/// Makes extents of offsets and lengths in turn, which must be in order, within `size`, and add up to `stored`.
pub(super) fn extents(numbers: &[i64], size: u64, stored: u64) -> Result<Vec<Extent>, &'static str> {
    let (mut end, mut total) = (0u64, 0u64);
    let mut extents = Vec::with_capacity(numbers.len() / 2);
    for pair in numbers.chunks_exact(2) {
        let (Ok(offset), Ok(len)) = (u64::try_from(pair[0]), u64::try_from(pair[1])) else {
            return Err("its sparse map has a negative number");
        };
        // Two numbers below 2^63 each do not overflow.
        if offset < end || offset + len > size {
            return Err("its sparse map is out of order or goes beyond its size");
        }
        end = offset + len;
        total += len;
        if len > 0 {
            extents.push(Extent { offset, len });
        }
    }
    if total != stored {
        return Err("its sparse map does not account for all of its content");
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_must_be_ordered_within_and_complete() {
        let cases: &[(&[i64], u64, u64, bool)] = &[
            (&[], 0, 0, true),
            (&[], 1 << 40, 0, true),
            (&[0, 4, 10, 2, 20, 0], 20, 6, true),
            (&[0, 4, 3, 2], 20, 6, false),
            (&[10, 2, 0, 4], 20, 6, false),
            (&[0, 21], 20, 21, false),
            (&[-1, 2], 20, 2, false),
            (&[0, -2], 20, 2, false),
            (&[i64::MAX, i64::MAX], u64::MAX >> 1, 5, false),
            (&[0, 4], 20, 5, false),
        ];
        for (numbers, size, stored, good) in cases {
            assert_eq!(extents(numbers, *size, *stored).is_ok(), *good, "{numbers:?}");
        }
    }
}
