//! Any bytes as `repositories.json`: read or refused, and what is changed stays readable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_fuzz::Folder;
use strata_image::Tags;
use strata_spec::{Digest, ImageId, Reference};

fuzz_target!(|data: &[u8]| {
    Folder::with(|folder| {
        let path = folder.write("repositories.json", data);
        let tags = Tags::new(path, folder.path());
        let Ok(names) = tags.read() else { return };
        let foreign: Vec<String> = names.foreign().into_iter().map(|(name, _)| name).collect();
        for (reference, id) in names.all() {
            // A name in another repository's list, or not in its familiar form, is not found by it.
            if foreign.is_empty() && names.of(id).contains(&reference) && reference.digest().is_none() {
                assert!(names.get(&reference).is_some(), "{reference}");
            }
        }
        let _ = names.by_image();
        let reference = Reference::parse("a:b").expect("a name");
        let id = ImageId::new(Digest::sha256("x"));
        tags.set(&reference, id, true).expect("a tag can be set");
        assert_eq!(tags.read().expect("it is readable").get(&reference), Some(id));
    });
});
