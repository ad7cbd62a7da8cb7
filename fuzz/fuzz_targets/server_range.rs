//! Any text as a `Range` of a blob of any size, and as the `Content-Range` of a chunk: what is taken lies within.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_registry::http::range::{self, Wanted};

fuzz_target!(|input: (u64, &str)| {
    let (size, text) = input;
    for header in [text.to_owned(), format!("bytes={text}")] {
        if let Wanted::Part { first, last } = range::wanted(Some(&header), size) {
            assert!(first <= last && last < size, "{header:?} of {size}");
        }
    }
    if let Some((first, last)) = range::chunk(text) {
        assert!(first <= last, "{text:?}");
    }
});
