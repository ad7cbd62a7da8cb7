//! Members of a gzip stream, inflated by ISA-L.
//!
//! The header is read here: ISA-L forgets its checksum and its optional fields where the input ends within it.
#![allow(unsafe_code)]

use std::{fmt, ptr};

use isal_sys::igzip_lib::{
    ISAL_GZIP_NO_HDR_VER, ISAL_INCORRECT_CHECKSUM, ISAL_INVALID_BLOCK, ISAL_INVALID_LOOKBACK, ISAL_INVALID_SYMBOL,
    ISAL_INVALID_WRAPPER, ISAL_UNSUPPORTED_METHOD, inflate_state, isal_block_state_ISAL_BLOCK_FINISH, isal_inflate,
    isal_inflate_init, isal_inflate_reset,
};

/// One gzip member after the other: header, deflate blocks, CRC-32 and length, all checked. Some 90 KiB, whatever the stream.
///
/// Source: RFC 1951, RFC 1952; ISA-L, `igzip/igzip_inflate.c`.
pub struct Gunzip {
    state: Box<inflate_state>,
    header: Header,
    /// Why the member is damaged; nothing more is read then.
    damaged: Option<Damaged>,
}

/// Bytes that a [step](Gunzip::step) took and gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub read: usize,
    pub written: usize,
}

/// Why a member is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged(i32);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ISAL_INVALID_BLOCK => "a deflate block has an invalid header",
            ISAL_INVALID_SYMBOL => "a deflate block has an invalid symbol",
            ISAL_INVALID_LOOKBACK => "a deflate block points before the beginning of the data",
            ISAL_INVALID_WRAPPER => "invalid gzip header",
            ISAL_UNSUPPORTED_METHOD => "the gzip header names a compression method other than deflate",
            ISAL_INCORRECT_CHECKSUM => "the checksum or the length of the data is not the one at its end",
            _ => "damaged",
        })
    }
}

impl std::error::Error for Damaged {}

// SAFETY: the state's pointers are null but during a step, and ISA-L keeps nothing outside the state.
unsafe impl Send for Gunzip {}

impl Default for Gunzip {
    fn default() -> Self {
        // SAFETY: `inflate_state` is integers, arrays of them and pointers that may be null: all zeros is a value of it.
        let mut state = unsafe { Box::<inflate_state>::new_zeroed().assume_init() };
        // SAFETY: the state is ours alone for the call, which fills it in.
        unsafe { isal_inflate_init(&raw mut *state) };
        state.crc_flag = ISAL_GZIP_NO_HDR_VER;
        Self { state, header: Header::default(), damaged: None }
    }
}

impl Gunzip {
    /// Takes from `input` and gives to `output` as much as it can. One that takes and gives nothing needs more input, or room.
    ///
    /// Nothing behind the member's last byte is taken.
    pub fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Damaged> {
        if let Some(damaged) = self.damaged {
            return Err(damaged);
        }
        let header = self.header.read(input).map_err(|code| self.fail(code))?;
        if !self.header.is_whole() {
            return Ok(Step { read: header, written: 0 });
        }
        let input = &input[header..];
        let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let (given, room) = (len(input.len()), len(output.len()));
        let state = &mut *self.state;
        // ISA-L only reads there; its pointer is not const.
        (state.next_in, state.avail_in) = (input.as_ptr().cast_mut(), given);
        (state.next_out, state.avail_out) = (output.as_mut_ptr(), room);
        // SAFETY: both ranges are valid for the whole call and of the lengths that the state says; the state was initialised by ISA-L and is ours alone.
        let code = unsafe { isal_inflate(state) };
        let left = (state.avail_in, state.avail_out);
        (state.next_in, state.next_out) = (ptr::null_mut(), ptr::null_mut());
        (state.avail_in, state.avail_out) = (0, 0);
        if code < 0 {
            // What is left is not to be counted on: where its fast loop meets damage, ISA-L leaves both short of the reserve that it keeps at the
            // ends, or below zero.
            return Err(self.fail(code));
        }
        Ok(Step { read: header + (given - left.0) as usize, written: (room - left.1) as usize })
    }

    fn fail(&mut self, code: i32) -> Damaged {
        *self.damaged.insert(Damaged(code))
    }

    /// Whether the member is at its end, and all of it was given.
    pub fn is_at_end(&self) -> bool {
        self.state.block_state == isal_block_state_ISAL_BLOCK_FINISH && self.damaged.is_none()
    }

    /// Begins the next member.
    pub fn next_member(&mut self) {
        // SAFETY: as for `isal_inflate_init`.
        unsafe { isal_inflate_reset(&raw mut *self.state) };
        self.header = Header::default();
    }
}

/// A member's header, read in pieces of any length.
///
/// ```text
/// 1f 8b  08  flags  time (4)  xfl  os      ten bytes
/// length (2, little-endian) and so many    if FEXTRA
/// name, NUL                                if FNAME
/// comment, NUL                             if FCOMMENT
/// the low half of the CRC-32 of all that   if FHCRC
/// ```
///
/// Source: RFC 1952, 2.3.
struct Header {
    part: Part,
    flags: u8,
    /// CRC-32 of the bytes read, complemented.
    crc: u32,
}

/// What comes next of a header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The byte at this offset of the first ten.
    Fixed(u8),
    /// The length of the extra field; its low byte, once that is read.
    ExtraLength(Option<u8>),
    /// Bytes left of the extra field.
    Extra(u16),
    Name,
    Comment,
    /// The checksum; the high byte that it must have, once the low one is read.
    Checksum(Option<u8>),
    End,
}

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
/// Flags that must not be set.
const RESERVED: u8 = 0b1110_0000;

impl Default for Header {
    fn default() -> Self {
        Self { part: Part::Fixed(0), flags: 0, crc: u32::MAX }
    }
}

impl Header {
    fn is_whole(&self) -> bool {
        self.part == Part::End
    }

    /// Reads what `input` has of the header, and returns how many bytes that is.
    fn read(&mut self, input: &[u8]) -> Result<usize, i32> {
        for (at, &byte) in input.iter().enumerate() {
            if self.is_whole() {
                return Ok(at);
            }
            self.byte(byte)?;
        }
        Ok(input.len())
    }

    fn byte(&mut self, byte: u8) -> Result<(), i32> {
        let expected = (!self.crc & 0xffff) as u16;
        self.crc = crc32(self.crc, byte);
        self.part = match (self.part, byte) {
            (Part::Fixed(0), 0x1f) | (Part::Fixed(1), 0x8b) | (Part::Fixed(2), 8) => self.next(),
            (Part::Fixed(2), _) => return Err(ISAL_UNSUPPORTED_METHOD),
            (Part::Fixed(3), flags) if flags & RESERVED == 0 => {
                self.flags = flags;
                self.next()
            }
            (Part::Fixed(0..=3), _) => return Err(ISAL_INVALID_WRAPPER),
            (Part::Fixed(_), _) => self.next(),
            (Part::ExtraLength(None), low) => Part::ExtraLength(Some(low)),
            (Part::ExtraLength(Some(low)), high) => match u16::from_le_bytes([low, high]) {
                0 => self.next(),
                length => Part::Extra(length),
            },
            (Part::Extra(left @ 2..), _) => Part::Extra(left - 1),
            (Part::Name | Part::Comment, 1..) => self.part,
            (Part::Extra(_) | Part::Name | Part::Comment, _) => self.next(),
            (Part::Checksum(None), low) => {
                if u16::from(low) != expected & 0xff {
                    return Err(ISAL_INVALID_WRAPPER);
                }
                Part::Checksum(Some((expected >> 8) as u8))
            }
            (Part::Checksum(Some(high)), found) if found == high => Part::End,
            (Part::Checksum(Some(_)), _) => return Err(ISAL_INVALID_WRAPPER),
            (Part::End, _) => Part::End,
        };
        Ok(())
    }

    /// The part after the current one.
    fn next(&self) -> Part {
        let has = |flag| self.flags & flag != 0;
        match self.part {
            Part::Fixed(at @ ..9) => Part::Fixed(at + 1),
            Part::Fixed(_) if has(FEXTRA) => Part::ExtraLength(None),
            Part::Fixed(_) | Part::ExtraLength(_) | Part::Extra(_) if has(FNAME) => Part::Name,
            Part::Fixed(_) | Part::ExtraLength(_) | Part::Extra(_) | Part::Name if has(FCOMMENT) => Part::Comment,
            Part::Checksum(_) | Part::End => Part::End,
            _ if has(FHCRC) => Part::Checksum(None),
            _ => Part::End,
        }
    }
}

/// Adds `byte` to a CRC-32 (polynomial 0xedb88320) that is kept complemented.
fn crc32(crc: u32, byte: u8) -> u32 {
    (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(bytes).expect("into memory");
        encoder.finish().expect("into memory")
    }

    /// Inflates one member, given `piece` bytes at a time, into rooms of `room` bytes; returns what was behind it too.
    fn gunzip(gunzip: &mut Gunzip, mut input: &[u8], piece: usize, room: usize) -> Result<(Vec<u8>, usize), Damaged> {
        let (mut found, mut buffer) = (Vec::new(), vec![0; room]);
        while !gunzip.is_at_end() {
            let step = gunzip.step(&input[..input.len().min(piece)], &mut buffer)?;
            found.extend_from_slice(&buffer[..step.written]);
            input = &input[step.read..];
            if input.is_empty() && step.written == 0 {
                break;
            }
        }
        Ok((found, input.len()))
    }

    #[test]
    fn any_byte_of_a_member_may_be_any_other() {
        let whole = gzip(&[b'x'; 5_000], 6);
        for at in 0..whole.len() {
            for byte in 0..=u8::MAX {
                let mut member = whole.clone();
                member[at] = byte;
                let _ = gunzip(&mut Gunzip::default(), &member, usize::MAX, 1_600);
            }
        }
    }

    proptest! {
        #[test]
        fn a_member_comes_out_as_it_went_in(
            words in prop::collection::vec((any::<u8>(), 1usize..400), 0..400),
            level in 0u32..=9, piece in 1usize..5_000, room in 1usize..70_000, behind in 0usize..20,
        ) {
            let plain: Vec<u8> = words.iter().flat_map(|(byte, times)| std::iter::repeat_n(*byte, *times)).collect();
            let mut packed = gzip(&plain, level);
            packed.extend(std::iter::repeat_n(0x1f, behind));
            let mut state = Gunzip::default();
            // Twice: the second time after a reset.
            for _ in 0..2 {
                let (found, left) = gunzip(&mut state, &packed, piece, room).expect("not damaged");
                prop_assert!(found == plain && state.is_at_end());
                prop_assert_eq!(left, behind, "nothing behind the member is taken");
                state.next_member();
            }
        }

        #[test]
        fn no_stream_does_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..3_000), piece in 1usize..500, headed: bool) {
            if headed {
                bytes.splice(0..0, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
            }
            let _ = gunzip(&mut Gunzip::default(), &bytes, piece, 4_096);
        }
    }

    #[test]
    fn what_is_cut_off_does_not_end_and_what_is_changed_is_damaged() {
        let plain: Vec<u8> = (0..100_000u32).flat_map(|n| (n.wrapping_mul(n)).to_le_bytes()).collect();
        let packed = gzip(&plain, 6);
        for len in (0..packed.len()).step_by(997).chain(packed.len() - 9..packed.len()) {
            let mut state = Gunzip::default();
            gunzip(&mut state, &packed[..len], 4_096, 4_096).expect("not damaged as far as it goes");
            assert!(!state.is_at_end(), "{len} bytes are not all");
        }
        for at in packed.len() - 8..packed.len() {
            let mut changed = packed.clone();
            changed[at] ^= 1;
            let error = gunzip(&mut Gunzip::default(), &changed, 4_096, 4_096).expect_err("damaged");
            assert_eq!(error, Damaged(ISAL_INCORRECT_CHECKSUM));
        }
    }

    #[test]
    fn optional_header_fields_are_read_in_pieces_of_any_length() {
        let plain = b"some words, and some words again";
        let deflate = gzip(plain, 6).split_off(10);
        for flags in 0..32u8 {
            let mut member = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
            let parts = [(FEXTRA, &b"\x06\0AB\x02\0xy"[..]), (FNAME, b"name\0"), (FCOMMENT, b"\0")];
            for (_, part) in parts.iter().filter(|(flag, _)| flags & flag != 0) {
                member.extend_from_slice(part);
            }
            if flags & FHCRC != 0 {
                let crc = !member.iter().fold(u32::MAX, |crc, byte| crc32(crc, *byte));
                member.extend_from_slice(&(crc as u16).to_le_bytes());
            }
            let header = member.len();
            member.extend_from_slice(&deflate);
            for piece in 1..=header + 1 {
                let mut state = Gunzip::default();
                let (found, left) = gunzip(&mut state, &member, piece, 4_096).expect("not damaged");
                assert!(state.is_at_end() && found == plain && left == 0, "flags {flags:#b}, {piece} bytes at a time");
            }
            if flags & FHCRC != 0 {
                for at in 0..header {
                    let mut changed = member.clone();
                    changed[at] ^= 0x80;
                    let mut state = Gunzip::default();
                    // A changed length may also put the end of the header behind the end of the input.
                    assert!(gunzip(&mut state, &changed, 3, 4_096).is_err() || !state.is_at_end(), "byte {at}");
                }
            }
        }
    }
}
