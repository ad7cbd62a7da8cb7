//! Any bytes as a compressed stream: bounded by the limits, whatever it claims.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use strata_archive::{Limits, compression::decompress};

fuzz_target!(|data: &[u8]| {
    let limits = Limits { ratio: 100, ..Limits::default() };
    if let Ok((plain, _)) = decompress(data, &limits) {
        let mut out = Vec::new();
        let _ = plain.take(64 << 20).read_to_end(&mut out);
        // A mebibyte is free; what follows is bounded by what came in.
        assert!(
            out.len() <= (1 << 20) + 100 * (data.len() + (512 << 10)) + (512 << 10),
            "{} of {}",
            out.len(),
            data.len()
        );
    }
});
