//! The two meta pages: which tree is the current one.
//!
//! ```text
//! 0   page header                  48  free list page (8; all ones if none is stored)
//! 16  magic 0xED0CDAED (4)         56  high-water page (8): no page of the tree has this number or a higher one
//! 20  version 2 (4)                64  transaction (8)
//! 24  page size (4), flags (4)     72  checksum (8): FNV-1a 64 over bytes 16 to 71
//! 32  root bucket: root page (8), sequence (8)
//! ```
//!
//! Source: bbolt, `db.go`, `type meta`.

use crate::page::{HEADER, u32_at, u64_at};

/// Bytes of a meta page that mean something, the page header included.
pub const LEN: usize = HEADER + 64;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// The page sizes that bbolt writes: the page size of the machine that made the file.
pub(crate) const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=1 << 20;

/// A valid meta page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Bytes of a page.
    pub page_size: u32,
    /// Root page of the root bucket.
    pub root: u64,
    /// No page of the tree has this number or a higher one.
    pub high_water: u64,
    /// Counts up with each commit; its lowest bit says which meta page it is written to.
    pub transaction: u64,
}

impl Meta {
    /// Reads a meta page, of which `bytes` are at least the first [`LEN`]; or says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Some(body) = bytes.get(HEADER..LEN) else { return Err("the file ends inside it".into()) };
        if u32_at(body, 0) != MAGIC {
            return Err("the magic number is not bolt's".into());
        }
        if u32_at(body, 4) != VERSION {
            return Err(format!("version {} is not known; version {VERSION} is", u32_at(body, 4)));
        }
        if fnv1a(&body[..56]) != u64_at(body, 56) {
            return Err("the checksum does not fit".into());
        }
        let page_size = u32_at(body, 8);
        if !page_size.is_power_of_two() || !PAGE_SIZES.contains(&page_size) {
            return Err(format!("{page_size} bytes are no page size"));
        }
        Ok(Self { page_size, root: u64_at(body, 16), high_water: u64_at(body, 40), transaction: u64_at(body, 48) })
    }
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::fnv1a;

    #[test]
    fn fnv1a_gives_the_published_values() {
        for (text, hash) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(fnv1a(text.as_bytes()), hash, "{text:?}");
        }
    }
}
