//! Any bytes as an image config: the bytes survive, and what is written again is read again.
//!
//! It need not be equal: a fraction in a field that is not known is written as Go writes it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_spec::ImageConfig;

fuzz_target!(|data: &[u8]| {
    let Ok(config) = ImageConfig::parse(data) else { return };
    assert_eq!(config.raw(), data);
    let _ = (config.id(), config.document().created_at());
    let again = ImageConfig::from_document(config.document().clone());
    let reread = ImageConfig::parse(again.raw()).expect("what is written is read");
    assert_eq!(reread.diff_ids(), config.diff_ids());
});
