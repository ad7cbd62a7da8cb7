use std::{
    fs,
    io::{Cursor, Read, Write},
    os::unix::{ffi::OsStrExt as _, fs::symlink},
};

use strata_archive::{
    Error, Limits,
    compression::{self, Compression},
    split::{self, Check, Packer, verify},
    tar::{Entry, Reader},
};

use super::{
    golden::{raw_header, reseal},
    take_apart, unpack,
};

fn first(tar: &[u8], limits: &Limits) -> Result<Option<Entry>, Error> {
    Reader::new(tar, limits).next_entry()
}

/// An extended header with these records, before a file of `size`.
fn pax(records: &[u8], size: u64) -> Vec<u8> {
    let mut tar = raw_header(b"pax", records.len() as u64, b'x');
    tar.extend_from_slice(records);
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar.extend(raw_header(b"file", size, b'0'));
    tar
}

/// A PAX record of less than 100 bytes.
fn record_of(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    format!("{}{rest}", rest.len() + if rest.len() < 9 { 1 } else { 2 }).into_bytes()
}

#[test]
fn damage_is_named_with_its_place() {
    let good = raw_header(b"a", 3, b'0');
    let mut checksum = good.clone();
    checksum[0] = b'b';
    let mut size = good.clone();
    size[124..136].copy_from_slice(b"-0000000003\0");
    reseal(&mut size);
    let mut negative = good.clone();
    negative[124..136].fill(0xff);
    reseal(&mut negative);
    let mut lone_zero = vec![0; 512];
    lone_zero.extend(&good);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("checksum", checksum, "damaged at byte 0"),
        ("size", size, "its size is not a number"),
        ("negative", negative, "its size is negative"),
        ("lone zero block", lone_zero, "a single zero block"),
        ("half a header", good[..300].to_vec(), "cut off at byte 300, within a header"),
        ("no length", pax(b"path=x\n", 0), "a PAX record is malformed"),
        ("long length", pax(b"99 path=x\n", 0), "a PAX record is malformed"),
        ("size twice", pax(b"15 size=-00005\n", 0), "its size is negative"),
        ("size word", pax(b"12 size=abc\n", 0), "something else than a number"),
        ("time word", pax(b"13 mtime=abc\n", 0), "something else than a time"),
        ("only extended", pax(b"10 path=x\n", 0)[..1024].to_vec(), "only extended headers"),
        ("sparse order", pax(b"25 GNU.sparse.numbytes=1\n", 0), "out of order"),
    ];
    for (name, tar, expected) in cases {
        let error = first(&tar, &Limits::default()).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let mut reader = Reader::new(&good[..], &Limits::default());
    reader.next_entry().expect("a header");
    let error = reader.content().expect_err("no content").to_string();
    assert_eq!(error, "the archive is cut off at byte 512, within the content of \"a\"");
    reader.next_entry().expect_err("no content");
    reader.next_entry().expect_err("after an error");
}

/// The size that a PAX header gives moves the next header for every reader of it alike.
#[test]
fn a_smuggled_header_is_content() {
    let mut tar = pax(b"13 size=1024\n", 0);
    tar.extend(raw_header(b"smuggled", 0, b'0'));
    tar.extend([0; 512]);
    tar.extend(raw_header(b"honest", 0, b'0'));
    tar.extend([0; 1024]);
    let taken = take_apart(&tar).expect("a good tar");
    let names: Vec<_> = taken.entries.iter().map(|(entry, _)| entry.display_name().into_owned()).collect();
    assert_eq!(names, ["file", "honest"]);
    assert_eq!(taken.entries[0].1.len(), 1024);
}

#[test]
fn claims_are_bounded() {
    let limits = Limits { entries: 2, bytes: 1 << 30, metadata: 4096, ..Limits::default() };
    let long_name = [raw_header(b"L", 1 << 32, b'L'), vec![0; 512]].concat();
    let many_headers: Vec<u8> = (0..100).flat_map(|_| raw_header(b"x", 0, b'x')).collect();
    let mut sparse = pax(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n", 1 << 20);
    sparse.extend(format!("{}\n", u64::MAX >> 1).bytes());
    sparse.resize(sparse.len() + (1 << 20), b'1');
    let holes = [
        ("GNU.sparse.major", "0"),
        ("GNU.sparse.minor", "1"),
        ("GNU.sparse.size", "99999999999"),
        ("GNU.sparse.numblocks", "0"),
    ];
    let holes: Vec<u8> = holes.iter().flat_map(|(key, value)| record_of(key, value)).collect();
    for (name, tar, what) in [
        ("long name", long_name, "metadata of one entry"),
        ("endless headers", many_headers, "metadata of one entry"),
        ("endless map", sparse, "metadata of one entry"),
        ("size", raw_header(b"a", (1 << 30) + 1, b'0'), "size of the files"),
        ("holes", pax(&holes, 0), "size of the files"),
    ] {
        match first(&tar, &limits) {
            Err(Error::Limit { what: found, .. }) => assert!(found.contains(what), "{name}: {found}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let three: Vec<u8> = (0..3).flat_map(|i| raw_header(&[b'a' + i], 0, b'0')).collect();
    let mut reader = Reader::new(&three[..], &limits);
    reader.next_entry().expect("one");
    reader.next_entry().expect("two");
    assert!(matches!(reader.next_entry(), Err(Error::Limit { entry: Some(name), .. }) if name == "c"));
}

#[test]
fn a_name_that_stands_twice_is_refused_where_content_is_lost() {
    let file = |name: &[u8], content: &[u8]| {
        let mut bytes = raw_header(name, content.len() as u64, b'0');
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    for (good, tar) in [
        (true, [file(b"d/", b""), file(b"d", b"")].concat()),
        (true, [file(b"./d/./a", b"x"), file(b"d/b", b"x")].concat()),
        (false, [file(b"a", b"one"), file(b"./a", b"two")].concat()),
        (false, [file(b"a", b"one"), file(b"b/../a", b"")].concat()),
        (false, [file(b"a", b""), file(b"a", b"two")].concat()),
    ] {
        match take_apart(&tar) {
            Ok(taken) if good => assert!(taken.assemble(&taken.tar_split).expect("assembles").0 == tar),
            Err(Error::Refused { reason, .. }) if !good => assert!(reason.contains("twice"), "{reason}"),
            other => panic!("{:?}", other.map(|taken| taken.entries)),
        }
    }
}

/// Records one file of `content` that claims to be `name`.
fn record(name: &[u8], content: &[u8]) -> Vec<u8> {
    let header = raw_header(b"x", content.len() as u64, b'0');
    let mut reader = Reader::new(Cursor::new([&header, content].concat()), &Limits::default());
    let mut entry = reader.next_entry().expect("a header").expect("an entry");
    entry.header.name = name.to_vec();
    let mut packer = Packer::new(Vec::new());
    packer.entry(&entry, &header).expect("recorded");
    packer.content(content).expect("recorded");
    packer.finish().expect("recorded")
}

#[test]
fn a_folder_gives_its_files_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("usr/lib")).expect("a folder");
    fs::write(dir.path().join("outside"), "secret").expect("a file");
    fs::write(root.join("file"), "secret").expect("a file");
    fs::write(root.join("usr/lib/x"), "secret").expect("a file");
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"raw\xff")), "secret").expect("a file");
    symlink("usr/lib", root.join("lib")).expect("a link");
    symlink("../outside", root.join("out")).expect("a link");
    symlink(dir.path(), root.join("up")).expect("a link");
    symlink("file", root.join("link")).expect("a link");
    let fifo = std::process::Command::new("mkfifo").arg(root.join("fifo")).status().expect("mkfifo runs");
    assert!(fifo.success());
    for (name, content, expected) in [
        (&b"file"[..], "secret", None),
        (b"./file", "secret", None),
        (b"/usr/../file", "secret", None),
        (b"lib/x", "secret", None),
        (b"raw\xff", "secret", None),
        (b"gone", "secret", Some("the file is gone")),
        (b"../outside", "secret", Some("the file is gone")),
        (b"up/outside", "secret", Some("the file is gone")),
        (b"out", "secret", Some("cannot be opened")),
        (b"link", "secret", Some("cannot be opened")),
        (b"usr", "secret", Some("not a regular file")),
        (b"fifo", "secret", Some("not a regular file")),
        (b"file", "public", Some("its content was changed")),
        (b"file", "secre", Some("longer than the 5 bytes")),
        (b"file", "secrets", Some("it has 6 bytes, the record says 7")),
    ] {
        let tar_split = record(name, content.as_bytes());
        let assembled = split::assemble(&tar_split[..], &root, std::io::sink());
        let verified = verify(&tar_split[..], &root).expect("a good record");
        let name = String::from_utf8_lossy(name);
        match expected {
            None => {
                let diff_id = assembled.expect(&name);
                assert_eq!((verified.diff_id, verified.damaged.len()), (Some(diff_id), 0), "{name}");
            }
            Some(reason) => {
                let error = assembled.expect_err(&name).to_string();
                assert!(error.contains(reason), "{name}: {error}");
                assert!(verified.damaged[0].reason.contains(reason), "{name}: {verified:?}");
            }
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn a_bad_record_is_damage() {
    let whole = gzip(b"{\"type\":2,\"payload\":\"AAAA\",\"position\":0}\n");
    for (name, record, expected) in [
        ("no gzip", b"plain text, no gzip".to_vec(), "not a good gzip stream"),
        ("cut", whole[..whole.len() - 4].to_vec(), "cut off"),
        ("no JSON", gzip(b"{]\n"), "not understood at record 0"),
        ("position", gzip(b"{\"type\":2,\"payload\":\"\",\"position\":1}\n"), "record 1 where 0 is due"),
        ("type", gzip(b"{\"type\":3,\"payload\":\"\",\"position\":0}\n"), "type 3"),
        ("base64", gzip(b"{\"type\":2,\"payload\":\"A\",\"position\":0}\n"), "not understood"),
        ("size", gzip(b"{\"type\":1,\"name\":\"a\",\"size\":-4,\"payload\":null,\"position\":0}\n"), "negative"),
        ("no CRC", gzip(b"{\"type\":1,\"name\":\"a\",\"size\":4,\"payload\":\"AAAA\",\"position\":0}\n"), "no CRC"),
        ("huge", gzip(b"{\"type\":1,\"name\":\"a\",\"size\":9223372036854775807,\"payload\":\"AAAAAAAAAAA=\",\"position\":0}\n"), "has 0 bytes"),
    ] {
        let open = |_: &[u8]| Ok(std::io::empty());
        match split::assemble_from(&record[..], open, std::io::sink(), Check::Crc) {
            Err(Error::Mismatch { reason, .. }) => assert!(reason.contains(expected), "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// An output that fails ends the rebuilding with its own error, however much is on the way.
#[test]
fn a_full_disk_is_told() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let content = vec![7; 20 << 20];
    let tar_split = record(b"big", &content);
    let open = |_: &[u8]| Ok(&content[..]);
    let error = split::assemble_from(&tar_split[..], open, Full, Check::Crc).expect_err("no room");
    assert!(matches!(error, Error::Stream { source, .. } if source.kind() == std::io::ErrorKind::StorageFull));
}

/// `plain` in each format, in two members, frames or streams.
pub(super) fn compressed(plain: &[u8]) -> Vec<(Vec<u8>, Compression)> {
    let (a, b) = plain.split_at(plain.len() / 2);
    let both = |one: &dyn Fn(&[u8]) -> Vec<u8>| [one(a), one(b)].concat();
    let skippable = [&b"\x5a\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd::encode_all(plain, 1).expect("memory")].concat();
    let xz = |part: &[u8]| {
        let mut stream = Vec::new();
        xz2::read::XzEncoder::new(part, 1).read_to_end(&mut stream).expect("memory");
        stream
    };
    let bzip2 = |part: &[u8]| {
        let mut stream = Vec::new();
        bzip2::read::BzEncoder::new(part, bzip2::Compression::fast()).read_to_end(&mut stream).expect("memory");
        stream
    };
    vec![
        (both(&gzip), Compression::Gzip),
        (both(&|part| zstd::encode_all(part, 1).expect("memory")), Compression::Zstd),
        (both(&xz), Compression::Xz),
        (both(&bzip2), Compression::Bzip2),
        (skippable, Compression::Zstd),
        (plain.to_vec(), Compression::Plain),
    ]
}

#[test]
fn every_format_is_recognised_and_read_to_its_last_member() {
    let plain: Vec<u8> = (0..300_000u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
    for (stream, expected) in compressed(&plain) {
        let (mut reader, found) = compression::decompress(&stream[..], &Limits::default()).expect("recognised");
        let mut read = Vec::new();
        reader.read_to_end(&mut read).expect("read");
        assert!(found == expected && read == plain, "{expected:?}");
        if expected == Compression::Plain {
            continue;
        }
        let cut = unpack(&stream[..stream.len() - 9]).expect_err("cut off");
        assert!(matches!(cut, Error::Truncated { .. }), "{expected:?}: {cut}");
        let mut broken = stream.clone();
        let middle = stream.len() / 2;
        broken[middle - 100..middle].fill(0x55);
        match unpack(&broken) {
            Err(Error::Compression { .. } | Error::Truncated { .. }) => {}
            // It was made without its optional checksum.
            Ok(_) if expected == Compression::Zstd => {}
            other => panic!("{expected:?}: {:?}", other.map(|plain| plain.len())),
        }
    }
    let (_, empty) = compression::decompress(&b""[..], &Limits::default()).expect("empty");
    assert_eq!(empty, Compression::Plain);
    assert_eq!(unpack(b"BZ").expect("short"), b"BZ");
}

#[test]
fn a_bomb_is_stopped_early() {
    let bomb = zstd::encode_all(&vec![0; 64 << 20][..], 3).expect("memory");
    let (reader, _) = compression::decompress(&bomb[..], &Limits { ratio: 500, ..Limits::default() }).expect("zstd");
    let mut tar = Reader::new(reader, &Limits::default());
    let error = loop {
        match tar.next_entry() {
            Ok(None) if tar.trailing().is_ok_and(|piece| !piece.is_empty()) => {}
            Ok(_) => break tar.trailing().expect_err("a bomb"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Limit { limit: 500, .. }), "{error}");
    assert!(tar.offset() < 8 << 20, "{}", tar.offset());
    assert_eq!(unpack(&bomb[..200]).is_err(), bomb.len() > 200);
}

#[test]
fn errors_of_the_input_pass_through() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let input = Cursor::new(gzip(b"some bytes")[..12].to_vec()).chain(Broken);
    let (mut reader, _) = compression::decompress(input, &Limits::default()).expect("gzip");
    let error = reader.read_to_end(&mut Vec::new()).expect_err("broken");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
