//! One 512-byte header block: its fields, its numbers, its checksum.

use super::{Header, Kind, Time};

pub(super) const BLOCK: usize = 512;

/// A header block as it stands in the stream.
pub(super) type Block = [u8; BLOCK];

/// Where each field of the ustar layout lies; V7 has those up to `LINK`.
pub(super) mod field {
    use std::ops::Range;
    pub const NAME: Range<usize> = 0..100;
    pub const MODE: Range<usize> = 100..108;
    pub const UID: Range<usize> = 108..116;
    pub const GID: Range<usize> = 116..124;
    pub const SIZE: Range<usize> = 124..136;
    pub const MTIME: Range<usize> = 136..148;
    pub const CHECKSUM: Range<usize> = 148..156;
    pub const TYPE: usize = 156;
    pub const LINK: Range<usize> = 157..257;
    pub const MAGIC: Range<usize> = 257..263;
    pub const VERSION: Range<usize> = 263..265;
    pub const UNAME: Range<usize> = 265..297;
    pub const GNAME: Range<usize> = 297..329;
    pub const DEV_MAJOR: Range<usize> = 329..337;
    pub const DEV_MINOR: Range<usize> = 337..345;
    pub const PREFIX: Range<usize> = 345..500;
    /// Schily's star has a shorter prefix, two times after it, and `tar\0` at the end.
    pub const STAR_PREFIX: Range<usize> = 345..476;
    pub const STAR_ATIME: Range<usize> = 476..488;
    pub const STAR_CTIME: Range<usize> = 488..500;
    pub const STAR_TRAILER: Range<usize> = 508..512;
    /// Old GNU has times where ustar has its prefix, then a sparse map.
    pub const GNU_ATIME: Range<usize> = 345..357;
    pub const GNU_CTIME: Range<usize> = 357..369;
    pub const GNU_SPARSE: Range<usize> = 386..482;
    pub const GNU_SPARSE_MORE: usize = 482;
    pub const GNU_REAL_SIZE: Range<usize> = 483..495;
}

/// Which layout a block follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    V7,
    /// Ustar, also under a PAX header.
    Ustar,
    Star,
    Gnu,
}

impl Layout {
    pub(super) fn of(block: &Block) -> Self {
        match (&block[field::MAGIC], &block[field::VERSION], &block[field::STAR_TRAILER]) {
            (b"ustar\0", _, b"tar\0") => Self::Star,
            (b"ustar\0", _, _) => Self::Ustar,
            (b"ustar ", b" \0", _) => Self::Gnu,
            _ => Self::V7,
        }
    }
}

/// Says whether the checksum holds, summed over unsigned bytes, or over signed ones as some old tars did.
pub(super) fn checksum_holds(block: &Block) -> bool {
    let Some(stated) = octal(&block[field::CHECKSUM]) else { return false };
    let (unsigned, signed) = checksums(block);
    stated == unsigned || stated == signed
}

/// The sum of all bytes, those of the checksum field taken as spaces.
pub(super) fn checksums(block: &Block) -> (i64, i64) {
    let spaces = i64::from(b' ') * field::CHECKSUM.len() as i64;
    let (mut unsigned, mut signed) = (spaces, spaces);
    for part in [&block[..field::CHECKSUM.start], &block[field::CHECKSUM.end..]] {
        // In 32 bits, which 512 bytes cannot overflow, so that the loop vectorizes.
        unsigned += i64::from(part.iter().map(|&b| u32::from(b)).sum::<u32>());
        signed += i64::from(part.iter().map(|&b| i32::from(b as i8)).sum::<i32>());
    }
    (unsigned, signed)
}

/// A NUL-terminated string; the whole field when there is no NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number in octal, or in base 256 where the first bit is set; `None` if it is neither, or beyond 63 bits.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

/// Big-endian two's complement below the marker bit.
fn base256(field: &[u8]) -> Option<i64> {
    let invert = if field[0] & 0x40 != 0 { 0xff } else { 0 };
    let mut value: u64 = 0;
    for (i, byte) in field.iter().enumerate() {
        let byte = byte ^ invert;
        let byte = if i == 0 { byte & 0x7f } else { byte };
        if value >> 56 != 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if invert == 0 { value } else { !value })
}

/// Octal digits among spaces and NULs; an empty field is zero.
pub(super) fn octal(field: &[u8]) -> Option<i64> {
    let blank = |b: &u8| *b == b' ' || *b == 0;
    let Some(start) = field.iter().position(|b| !blank(b)) else { return Some(0) };
    let end = field.iter().rposition(|b| !blank(b)).map_or(start, |last| last + 1);
    text(&field[start..end]).iter().try_fold(0i64, |value, &digit| {
        let digit = i64::from(digit.checked_sub(b'0').filter(|d| *d < 8)?);
        (value <= i64::MAX >> 3).then_some(value << 3 | digit)
    })
}

/// Decodes the fields of `block` itself; what extension headers say is merged later.
///
/// The second part is the size field, which counts even where the entry has no content to go with it.
pub(super) fn decode(block: &Block) -> Result<(Header, i64), &'static str> {
    let layout = Layout::of(block);
    let mut header = Header::new(Kind::from_byte(block[field::TYPE]), text(&block[field::NAME]));
    header.link = text(&block[field::LINK]).to_vec();
    header.mode = number(&block[field::MODE]).ok_or("its mode is not a number")? as u32;
    header.uid = number(&block[field::UID]).ok_or("its user ID is not a number")? as u32;
    header.gid = number(&block[field::GID]).ok_or("its group ID is not a number")? as u32;
    header.mtime.secs = number(&block[field::MTIME]).ok_or("its time is not a number")?;
    let size = number(&block[field::SIZE]).ok_or("its size is not a number")?;
    if layout != Layout::V7 {
        header.uname = text(&block[field::UNAME]).to_vec();
        header.gname = text(&block[field::GNAME]).to_vec();
        header.dev_major = number(&block[field::DEV_MAJOR]).ok_or("its device number is not a number")? as u32;
        header.dev_minor = number(&block[field::DEV_MINOR]).ok_or("its device number is not a number")? as u32;
    }
    let mut prefix: &[u8] = &[];
    match layout {
        Layout::V7 => {}
        Layout::Ustar => prefix = text(&block[field::PREFIX]),
        Layout::Star => {
            prefix = text(&block[field::STAR_PREFIX]);
            header.atime = Some(seconds(number(&block[field::STAR_ATIME]).ok_or("its access time is not a number")?));
            header.ctime = Some(seconds(number(&block[field::STAR_CTIME]).ok_or("its change time is not a number")?));
        }
        Layout::Gnu => match (gnu_time(&block[field::GNU_ATIME]), gnu_time(&block[field::GNU_CTIME])) {
            (Some(atime), Some(ctime)) => (header.atime, header.ctime) = (atime, ctime),
            // Go before 1.8 put a ustar prefix into GNU headers, and its reader still takes those.
            _ => prefix = Some(text(&block[field::PREFIX])).filter(|p| p.is_ascii()).unwrap_or_default(),
        },
    }
    if !prefix.is_empty() {
        header.name = [prefix, b"/", &header.name].concat();
    }
    Ok((header, size))
}

fn seconds(secs: i64) -> Time {
    Time { secs, nanos: 0 }
}

/// `Some(None)` where the field is unused, `None` where it is not a number.
fn gnu_time(field: &[u8]) -> Option<Option<Time>> {
    if field[0] == 0 { Some(None) } else { number(field).map(|secs| Some(seconds(secs))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_go_reads_them() {
        let cases: &[(&[u8], Option<i64>)] = &[
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\x00644\0\0", Some(0o644)),
            (b"", Some(0)),
            (b"\0\0\0\0", Some(0)),
            (b"    ", Some(0)),
            (b"12\x009", Some(0o12)),
            (b"0008", None),
            (b"-1", None),
            (b"777777777777777777777", Some(i64::MAX)),
            (b"7777777777777777777777", None),
            (b"\x80\x00\x00\x01", Some(1)),
            (b"\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\x00", Some(-256)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\xc0\0\0\0\0\0\0\0\0\0\0\0", None),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field), *expected, "{field:?}");
        }
    }

    #[test]
    fn both_checksums_hold() {
        let mut block = [0u8; BLOCK];
        block[..3].copy_from_slice(b"\xe9t\xe9");
        let (unsigned, signed) = checksums(&block);
        assert_eq!((unsigned, signed), (0xe9 * 2 + 0x74 + 256, 0xe9 * 2 + 0x74 + 256 - 512));
        for sum in [unsigned, signed] {
            block[field::CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert!(checksum_holds(&block));
        }
        block[field::CHECKSUM].copy_from_slice(b"000001\0 ");
        assert!(!checksum_holds(&block));
    }
}
