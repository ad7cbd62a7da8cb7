//! Members of a gzip stream, inflated by ISA-L.
#![allow(unsafe_code)]

use std::{fmt, ptr};

use isal_sys::igzip_lib::{
    ISAL_GZIP, ISAL_INCORRECT_CHECKSUM, ISAL_INVALID_BLOCK, ISAL_INVALID_LOOKBACK, ISAL_INVALID_SYMBOL,
    ISAL_INVALID_WRAPPER, ISAL_UNSUPPORTED_METHOD, inflate_state, isal_block_state_ISAL_BLOCK_FINISH, isal_inflate,
    isal_inflate_init, isal_inflate_reset,
};

/// One gzip member after the other: header, deflate blocks, CRC-32 and length, all checked. Some 90 KiB, whatever the stream.
///
/// Source: RFC 1951, RFC 1952; ISA-L, `igzip/igzip_inflate.c`.
pub struct Gunzip {
    state: Box<inflate_state>,
    /// Bytes that were taken of the member.
    taken: usize,
    /// What it was found damaged by, for good.
    damaged: Option<Damaged>,
}

/// Where a member's flags are, and those of them that must not be set; ISA-L does not look at these (RFC 1952, 2.3.1.2).
const FLAGS: usize = 3;
const RESERVED: u8 = 0b1110_0000;

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
        state.crc_flag = ISAL_GZIP;
        Self { state, taken: 0, damaged: None }
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
        let flags = FLAGS.checked_sub(self.taken).and_then(|at| input.get(at));
        if flags.is_some_and(|flags| flags & RESERVED != 0) {
            return Err(self.fail(ISAL_INVALID_WRAPPER));
        }
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
        let step = Step { read: (given - left.0) as usize, written: (room - left.1) as usize };
        self.taken = self.taken.saturating_add(step.read);
        Ok(step)
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
        self.taken = 0;
    }
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
}
