//! Any bytes as a bolt database: opening and reading all of it ends, and panics nowhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_bolt::{Bucket, Database, Value};

fn read(database: &Database, bucket: &Bucket) {
    for entry in database.entries(bucket).flatten() {
        if let Value::Bucket(nested) = entry.value {
            read(database, &nested);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(database) = Database::from_bytes(data.to_vec()) {
        read(&database, &database.root());
    }
});
