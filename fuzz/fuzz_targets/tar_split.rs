//! Any bytes as `tar-split.json.gz`: as they are, and as the text within the gzip.
#![no_main]

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;
use strata_archive::split::{Check, Unpacker, assemble_from};

fuzz_target!(|data: &[u8]| {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(data).expect("to memory");
    let packed = gzip.finish().expect("to memory");
    for record in [data, &packed] {
        let mut unpacker = Unpacker::new(record);
        while let Ok(Some(_)) = unpacker.next_record() {}
        let open = |name: &[u8]| Ok(std::io::Cursor::new(name.to_vec()));
        let _ = assemble_from(record, open, std::io::sink(), Check::Digest);
    }
});
