//! Any bytes as a tar: every byte comes out once and in order, and its record rebuilds it.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use strata_archive::{
    Limits,
    split::{Check, Packer, assemble_from},
    tar::Reader,
};
use strata_fuzz::with_checksums;

fuzz_target!(|data: &[u8]| {
    // Checksums are out of a fuzzer's reach: half of the inputs get right ones.
    let Some((first, rest)) = data.split_first() else { return };
    let tar = if first & 1 == 0 { rest.to_vec() } else { with_checksums(rest) };
    let limits = Limits { entries: 10_000, bytes: 1 << 40, ..Limits::default() };
    let mut reader = Reader::new(&tar[..], &limits);
    let mut packer = Packer::new(Vec::new());
    let (mut seen, mut contents) = (Vec::new(), HashMap::new());
    let mut packs = true;
    loop {
        let entry = match reader.next_entry() {
            Ok(entry) => entry,
            Err(_) => return,
        };
        seen.extend_from_slice(reader.raw());
        let Some(entry) = entry else { break };
        let _ = (entry.display_name(), entry.header.kind.byte());
        packs = packs && packer.entry(&entry, reader.raw()).is_ok();
        let mut content = Vec::new();
        loop {
            match reader.content() {
                Ok([]) => break,
                Ok(piece) => {
                    packs = packs && packer.content(piece).is_ok();
                    content.extend_from_slice(piece);
                }
                Err(_) => return,
            }
        }
        seen.extend_from_slice(&content);
        contents.insert(entry.header.name, content);
    }
    packs = packs && packer.end(reader.raw()).is_ok();
    loop {
        match reader.trailing() {
            Ok([]) => break,
            Ok(piece) => {
                packs = packs && packer.trailing(piece).is_ok();
                seen.extend_from_slice(piece);
            }
            Err(_) => return,
        }
    }
    assert_eq!(seen, tar, "every byte once and in order");
    let Ok(split) = packer.finish() else { return };
    if !packs {
        return;
    }
    let open = |name: &[u8]| match contents.get(name) {
        Some(content) => Ok(std::io::Cursor::new(content.clone())),
        None => Err(std::io::ErrorKind::NotFound.into()),
    };
    let mut again = Vec::new();
    let result = assemble_from(&split[..], open, &mut again, Check::Digest);
    // Of two entries with one name the last content is at hand: the other does not match, which is told.
    if result.is_ok() {
        assert_eq!(again, tar, "rebuilt byte for byte");
    }
});
