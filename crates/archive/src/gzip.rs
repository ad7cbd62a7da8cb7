//! gzip streams of any number of members: by ISA-L where it is built in (x86-64, feature `isal`), by zlib-rs elsewhere.

#[cfg(all(feature = "isal", target_arch = "x86_64"))]
pub(crate) use members::Members as Decoder;

#[cfg(not(all(feature = "isal", target_arch = "x86_64")))]
pub(crate) use flate2::bufread::MultiGzDecoder as Decoder;

#[cfg(all(feature = "isal", target_arch = "x86_64"))]
mod members {
    use std::io::{self, BufRead, Read};

    use strata_sys::gunzip::Gunzip;

    /// Reads the plain bytes of all members. A stream that ends within one is cut off (`UnexpectedEof`), and so is one without any; what follows
    /// the last and is no member is damage, as for Docker.
    pub(crate) struct Members<R> {
        input: R,
        state: Gunzip,
    }

    impl<R: BufRead> Members<R> {
        pub fn new(input: R) -> Self {
            Self { input, state: Gunzip::default() }
        }
    }

    impl<R: BufRead> Read for Members<R> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            loop {
                let input = self.input.fill_buf()?;
                if into.is_empty() || self.state.is_at_end() && input.is_empty() {
                    return Ok(0);
                }
                if self.state.is_at_end() {
                    self.state.next_member();
                }
                let step = self.state.step(input, into);
                let step = step.map_err(|damaged| io::Error::new(io::ErrorKind::InvalidData, damaged))?;
                let stuck = step.read == 0 && step.written == 0 && !self.state.is_at_end();
                let ended = input.is_empty();
                self.input.consume(step.read);
                match step.written {
                    0 if stuck && ended => return Err(io::ErrorKind::UnexpectedEof.into()),
                    0 if stuck => {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "the decoder makes nothing of it"));
                    }
                    0 => {}
                    written => return Ok(written),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, ErrorKind, Read, Write};

    use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("into memory");
        encoder.finish().expect("into memory")
    }

    fn read(mut decoder: impl Read) -> Result<Vec<u8>, ErrorKind> {
        let mut found = Vec::new();
        decoder.read_to_end(&mut found).map(|_| found).map_err(|error| error.kind())
    }

    fn ours(stream: &[u8], buffer: usize) -> Result<Vec<u8>, ErrorKind> {
        read(Decoder::new(BufReader::with_capacity(buffer, stream)))
    }

    #[test]
    fn members_follow_each_other_and_nothing_else_may() {
        let (one, two) = (gzip(b"one"), gzip(b""));
        for buffer in [1, 7, 4096] {
            let stream = [&one[..], &two, &one].concat();
            assert_eq!(ours(&stream, buffer).expect("whole"), b"oneone");
            for len in 1..stream.len() {
                let whole = [one.len(), one.len() + two.len()].contains(&len);
                assert_eq!(ours(&stream[..len], buffer).is_ok(), whole, "{len} bytes");
                if !whole {
                    assert_eq!(ours(&stream[..len], buffer), Err(ErrorKind::UnexpectedEof), "{len} bytes");
                }
            }
            for behind in [&b"\0\0\0\0\0\0\0\0\0\0\0\0"[..], b"more of something that is no gzip"] {
                ours(&[&one[..], behind].concat(), buffer).expect_err("not gzip");
            }
        }
    }

    #[test]
    fn each_bit_of_a_member_counts_as_for_zlib() {
        for plain in [&b""[..], b"a few words, and a few words again", &[7; 700]] {
            let whole = gzip(plain);
            for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut stream = whole.clone();
                stream[at] ^= 1 << bit;
                let zlibs = read(MultiGzDecoder::new(&stream[..])).ok();
                for buffer in [1, 4, 4096] {
                    assert_eq!(ours(&stream, buffer).ok(), zlibs, "byte {at}, bit {bit}, {buffer} bytes at a time");
                }
            }
        }
    }

    proptest! {
        /// Another decoder is the judge of damaged streams: both take one, with the same bytes, or both refuse it.
        #[test]
        fn a_damaged_stream_is_refused_as_by_zlib(
            plain in prop::collection::vec(0u8..8, 0..20_000), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>(),
            buffer in 1usize..5_000,
        ) {
            let mut stream = gzip(&plain);
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
            if cut {
                stream.truncate(at);
            }
            let (ours, zlibs) = (ours(&stream, buffer), read(MultiGzDecoder::new(&stream[..])));
            prop_assert_eq!(ours.clone().ok(), zlibs.clone().ok(), "{:?} {:?}", ours.err(), zlibs.err());
        }
    }
}
