//! Any bytes as a container's two records: what is read and written again is read again.
//!
//! It need not be equal: a fraction in a field that is not known may come back rounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_container::{HostConfig, Record};

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = Record::parse(data) {
        let _ = (record.state.status(), record.state.finished(), record.created_at(), record.image_id());
        let again = Record::parse(&record.to_bytes()).expect("what is written is read");
        assert_eq!((again.id, again.name, again.args), (record.id, record.name, record.args));
    }
    if let Ok(host) = HostConfig::parse(data) {
        let again = HostConfig::parse(&host.to_bytes()).expect("what is written is read");
        assert_eq!((again.binds, again.tmpfs, again.memory), (host.binds, host.tmpfs, host.memory));
    }
});
