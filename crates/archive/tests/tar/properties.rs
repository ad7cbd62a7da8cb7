use std::io::Read;

use proptest::{collection::vec, option, prelude::*};
use strata_archive::{
    Error, Limits, compression,
    split::{Unpacker, assemble_from},
    tar::{Header, Kind, Time, Writer},
};

use super::{fixtures, golden::reseal, inflate, take_apart, unpack};

/// Whatever the bytes: no panic, and what is taken apart without an error rebuilds.
fn survives(tar: &[u8]) {
    match take_apart(tar) {
        Ok(taken) => {
            assert!(taken.bytes == tar);
            match taken.assemble(&taken.tar_split) {
                Ok((rebuilt, _)) => assert!(rebuilt == tar),
                Err(error) => panic!("recorded, but: {error}"),
            }
        }
        Err(Error::Malformed { .. } | Error::Truncated { .. } | Error::Limit { .. } | Error::Refused { .. }) => {}
        Err(other) => panic!("an odd error: {other:?}"),
    }
}

/// Drains a record without believing it.
fn drain(tar_split: &[u8]) -> Result<(), Error> {
    let mut unpacker = Unpacker::new(tar_split);
    while unpacker.next_record()?.is_some() {}
    let nothing = |_: &[u8]| Ok(std::io::repeat(7));
    assemble_from(tar_split, nothing, std::io::sink(), strata_archive::split::Check::Crc).map(drop)
}

fn header() -> impl Strategy<Value = Header> {
    let name = vec(prop_oneof![8 => b'a'..=b'z', 1 => Just(b'/'), 1 => 1..=255u8], 1..300);
    let text = vec(1..=255u8, 0..40);
    let time = || (-1i64 << 40..1 << 40, 0..1_000_000_000u32).prop_map(|(secs, nanos)| Time { secs, nanos });
    let kind = prop_oneof![
        4 => Just(Kind::Regular),
        1 => Just(Kind::HardLink),
        1 => Just(Kind::Symlink),
        1 => Just(Kind::Char),
        1 => Just(Kind::Dir),
        1 => Just(Kind::Fifo),
    ];
    let xattrs = proptest::collection::btree_map(vec(1..=255u8, 1..40), vec(any::<u8>(), 0..200), 0..3);
    (
        (name.clone(), option::of(name), kind, 0..0o200_000u32, any::<u32>(), any::<u32>(), 0..3_000u64),
        (time(), option::of(time()), option::of(time()), text.clone(), text, 0..1u32 << 20, xattrs),
    )
        .prop_map(
            |((name, link, kind, mode, uid, gid, size), (mtime, atime, ctime, uname, gname, dev, xattrs))| Header {
                link: link.unwrap_or_default(),
                mode,
                uid,
                gid,
                size: if kind.is_header_only() { 0 } else { size },
                mtime,
                atime,
                ctime,
                uname,
                gname,
                dev_minor: dev,
                xattrs: xattrs.into_iter().collect(),
                ..Header::new(kind, name)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_header_survives_writing_and_reading(headers in vec(header(), 1..6)) {
        let mut writer = Writer::new(Vec::new());
        for header in &headers {
            writer.header(header).expect("a header");
            writer.content(&vec![b'c'; header.size as usize]).expect("content");
        }
        let tar = writer.finish().expect("an end");
        prop_assert_eq!(tar.len() % 512, 0);
        let mut reader = strata_archive::tar::Reader::new(&tar[..], &Limits::default());
        for header in headers {
            let entry = reader.next_entry().expect("a good tar").expect("an entry");
            prop_assert_eq!(entry.header, header);
        }
        prop_assert_eq!(reader.next_entry().expect("a good tar"), None);
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..3_000)) {
        survives(&bytes);
        let _ = drain(&bytes);
        let _ = unpack(&bytes);
    }

    #[test]
    fn any_damage_is_survived(
        which in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let paths = fixtures("dialects");
        let mut tar = inflate(paths.get(which.index(paths.len())).expect("within").as_path());
        for (at, byte, fix) in changes {
            // Mostly within the first headers, with a checksum that holds, so that what lies behind it is reached.
            let at = at.index(if fix { tar.len().min(4_096) } else { tar.len() });
            tar[at] = byte;
            let block = at / 512 * 512;
            if fix && tar.len() >= block + 512 {
                reseal(&mut tar[block..block + 512]);
            }
        }
        if let Some(cut) = cut {
            let len = cut.index(tar.len());
            tar.truncate(len);
        }
        survives(&tar);
    }

    #[test]
    fn any_damaged_record_is_an_error_or_harmless(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        compressed in any::<bool>(),
    ) {
        let path = fixtures("dialects").into_iter().find(|p| p.ends_with("python-pax.tar.gz")).expect("a fixture");
        let mut record = std::fs::read(path.with_file_name("python-pax.split.gz")).expect("a file");
        if !compressed {
            record = inflate(&path.with_file_name("python-pax.split.gz"));
        }
        for (at, byte) in changes {
            *at.get_mut(&mut record) = byte;
        }
        if !compressed {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &record).expect("memory");
            record = encoder.finish().expect("memory");
        }
        let drained = drain(&record);
        prop_assert!(matches!(drained, Err(Error::Mismatch { .. })), "{:?}", drained);
    }

    #[test]
    fn any_damaged_stream_is_an_error_or_harmless(
        which in 0..4usize,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let (mut stream, _) = super::hostile::compressed(&[b'x'; 5_000]).swap_remove(which);
        for (at, byte) in changes {
            *at.get_mut(&mut stream) = byte;
        }
        if let Some(cut) = cut {
            let len = cut.index(stream.len());
            stream.truncate(len);
        }
        let limits = Limits { ratio: 100, ..Limits::default() };
        if let Ok((mut reader, _)) = compression::decompress(&stream[..], &limits) {
            let _ = reader.read_to_end(&mut Vec::new());
        }
    }
}
