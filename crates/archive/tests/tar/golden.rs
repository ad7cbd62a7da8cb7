use std::{collections::BTreeMap, io::Write, os::unix::fs::MetadataExt as _, path::Path, process::Command};

use strata_archive::{
    Limits,
    tar::{Entry, Header, Kind, Reader, Time, Writer},
};

use super::{fixtures, inflate, take_apart};

fn name_of(path: &Path) -> String {
    let name = path.file_name().expect("a file").to_string_lossy();
    name.trim_end_matches(".tar.gz").to_owned()
}

#[test]
fn every_byte_of_every_dialect_comes_once_and_rebuilds() {
    for path in fixtures("dialects").iter().chain(&fixtures("docker")) {
        let tar = inflate(path);
        let taken = take_apart(&tar).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(taken.bytes == tar, "{}", path.display());
        let (rebuilt, assembled) = taken.assemble(&taken.tar_split).expect("assembles");
        assert!(rebuilt == tar, "{}", path.display());
        assert_eq!(assembled.bytes, tar.len() as u64);
        assert_eq!(assembled.diff_id.expect("asked for").digest(), strata_spec::Digest::sha256(&tar));
    }
}

#[test]
fn records_are_dockers() {
    for path in fixtures("dialects") {
        let split = path.with_file_name(format!("{}.split.gz", name_of(&path)));
        let sparse = name_of(&path).starts_with("sparse") || name_of(&path) == "bsdtar-xattrs";
        if sparse {
            continue;
        }
        let theirs = inflate(&split);
        let taken = take_apart(&inflate(&path)).expect("a good tar");
        let ours = super::unpack(&taken.tar_split).expect("good gzip");
        assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs), "{}", path.display());
        let (rebuilt, _) = taken.assemble(&std::fs::read(&split).expect("a file")).expect("assembles");
        assert!(rebuilt == inflate(&path), "{}", path.display());
    }
}

#[test]
fn the_writer_gives_dockers_bytes() {
    for path in fixtures("docker") {
        let tar = inflate(&path);
        let mut writer = Writer::new(Vec::new());
        for (entry, content) in take_apart(&tar).expect("a good tar").entries {
            writer.header(&entry.header).expect("a header");
            writer.content(&content).expect("content");
        }
        let written = writer.finish().expect("an end");
        let differs = written.iter().zip(&tar).position(|(a, b)| a != b);
        assert!(written == tar, "{} differs at {differs:?} of {}", path.display(), tar.len());
    }
}

fn entries(name: &str) -> BTreeMap<Vec<u8>, Entry> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/dialects/{name}.tar.gz"));
    let taken = take_apart(&inflate(&path)).expect("a good tar");
    let named = taken.entries.into_iter().map(|(entry, _)| {
        let name = entry.header.name.strip_prefix(b"./").unwrap_or(&entry.header.name);
        (name.to_vec(), entry)
    });
    named.collect()
}

#[test]
fn all_dialects_tell_the_same() {
    for dialect in ["gnutar-v7", "gnutar-ustar", "gnutar-oldgnu", "gnutar-gnu", "gnutar-posix", "gnutar-xattrs"] {
        let entries = entries(dialect);
        let get = |name: &str| &entries.get(name.as_bytes()).unwrap_or_else(|| panic!("{dialect}: {name}")).header;
        assert_eq!((get("d/").kind, get("d/sub/").mode), (Kind::Dir, 0o1777), "{dialect}");
        assert_eq!((get("d/set").mode, get("d/set").size), (0o6755, 3), "{dialect}");
        assert_eq!((get("d/sym").kind, get("d/sym").link.as_slice()), (Kind::Symlink, &b"../d/a"[..]), "{dialect}");
        assert_eq!(get("d/hard").kind, Kind::HardLink, "{dialect}");
        assert_eq!(get("d/a").mtime.secs, 1_700_000_000, "{dialect}");
        let long_names = ["gnutar-oldgnu", "gnutar-gnu", "gnutar-posix", "gnutar-xattrs"].contains(&dialect);
        if dialect != "gnutar-v7" {
            assert_eq!((get("d/null").kind, get("d/null").dev_major, get("d/null").dev_minor), (Kind::Char, 1, 3));
            assert_eq!((get("d/loop").kind, get("d/loop").dev_major, get("d/loop").dev_minor), (Kind::Block, 7, 300));
            assert_eq!(get("d/fifo").kind, Kind::Fifo);
        }
        if long_names {
            assert_eq!((get("d/owner").uid, get("d/owner").gid), (3_000_000, 4_000_000), "{dialect}");
            assert_eq!(get(&format!("d/{}", "n".repeat(180))).size, 4, "{dialect}");
            let p = "p".repeat(90);
            assert_eq!(get(&format!("d/{p}/{p}/file")).size, 4, "{dialect}");
            assert_eq!(get("d/longlink").link, "t".repeat(150).as_bytes(), "{dialect}");
            assert!(entries.contains_key(&b"d/raw\xff\xfe"[..]), "{dialect}");
            let nanos = if dialect.starts_with("gnutar-posix") || dialect == "gnutar-xattrs" { 250_000_000 } else { 0 };
            assert_eq!(get("d/negative").mtime, Time { secs: -2, nanos }, "{dialect}");
        }
    }
}

#[test]
fn attributes_come_through() {
    let capability: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    for dialect in ["gnutar-xattrs", "bsdtar-xattrs"] {
        let entries = entries(dialect);
        let xattrs = |name: &str| &entries[name.as_bytes()].header.xattrs;
        assert_eq!(xattrs("d/a"), &[(b"user.name".to_vec(), b"value".to_vec())], "{dialect}");
        assert_eq!(xattrs("d/cap"), &[(b"security.capability".to_vec(), capability.to_vec())], "{dialect}");
    }
}

#[test]
fn sparse_files_of_every_kind_have_the_same_extents() {
    for dialect in ["sparse-old", "sparse-0.0", "sparse-0.1", "sparse-1.0", "bsdtar-xattrs"] {
        let entries = entries(dialect);
        let sparse = &entries[&b"d/sparse"[..]];
        assert_eq!(sparse.header.size, 300_000, "{dialect}");
        let extents = sparse.sparse.as_ref().expect("a sparse map");
        assert_eq!(extents.iter().map(|e| e.len).sum::<u64>(), sparse.stored);
        assert!(sparse.stored < 20_000, "{dialect}: {}", sparse.stored);
        assert!(extents.iter().any(|e| (e.offset..e.offset + e.len).contains(&200_000)), "{dialect}: {extents:?}");
        assert_eq!(entries[&b"d/a"[..]].header.size, 6, "{dialect}");
    }
}

/// Headers with what Docker itself never writes, read back by the tools.
#[test]
fn other_tools_read_what_the_writer_writes() {
    let mut writer = Writer::new(Vec::new());
    let mut file = Header::new(Kind::Regular, "d/file");
    file.size = 5;
    file.mode = 0o100_640;
    file.mtime = Time { secs: -2, nanos: 750_000_000 };
    file.xattrs = vec![(b"user.a".to_vec(), b"1".to_vec()), (b"user.b=c".to_vec(), b"\0\xff".to_vec())];
    writer.header(&file).expect("a header");
    writer.content(b"hello").expect("content");
    let long = Header { size: 0, ..Header::new(Kind::Regular, [&b"d/\xff"[..], &[b'l'; 300]].concat()) };
    writer.header(&long).expect("a header");
    let tar = writer.finish().expect("an end");
    let read = take_apart(&tar).expect("a good tar");
    assert_eq!((&read.entries[0].0.header, &read.entries[1].0.header), (&file, &long));
    for (tool, args) in [("tar", ["-tvf", "-"].as_slice()), ("bsdtar", &["-tvf", "-"])] {
        let child = Command::new(tool)
            .args(args)
            .env("LC_ALL", "C.UTF-8")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            strata_testkit::require::report_skip(&format!("{tool} is not installed"));
            continue;
        };
        child.stdin.take().expect("piped").write_all(&tar).expect("written");
        let output = child.wait_with_output().expect("runs");
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        // bsdtar minds the name that is not UTF-8, and lists it all the same.
        assert_eq!(listing.lines().count(), 2, "{tool}: {listing}");
        assert!(listing.contains("-rw-r-----") && listing.contains(&"l".repeat(300)), "{tool}: {listing}");
    }
}

/// GNU tar lists a negative fraction wrong, even its own, but unpacks it right.
#[test]
fn gnu_tar_unpacks_a_negative_time() {
    let mut file = Header::new(Kind::Regular, "file");
    file.mode = 0o600;
    file.mtime = Time { secs: -2, nanos: 750_000_000 };
    let mut writer = Writer::new(Vec::new());
    writer.header(&file).expect("a header");
    let dir = tempfile::tempdir().expect("a folder");
    let tar = dir.path().join("tar");
    std::fs::write(&tar, writer.finish().expect("an end")).expect("written");
    let output = Command::new("tar").arg("-C").arg(dir.path()).arg("-xf").arg(&tar).output();
    if output.is_err() {
        strata_testkit::require::report_skip("tar is not installed");
        return;
    }
    let metadata = dir.path().join("file").metadata().expect("unpacked");
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 750_000_000));
}

/// Numbers that only base 256 holds, times with a sign, and the old way to mark a directory.
#[test]
fn fields_read_as_go_reads_them() {
    let mut block = raw_header(b"old/", 0, b'\0');
    let read = |block: &[u8]| Reader::new(block, &Limits::default()).next_entry().expect("a header").expect("an entry");
    assert_eq!(read(&block).header.kind, Kind::Dir);
    block = raw_header(b"old/", 0, b'0');
    assert_eq!(read(&block).header.kind, Kind::Regular);
    block[257..265].copy_from_slice(b"ustar  \0");
    block[136..148].copy_from_slice(&[0xff; 12]);
    block[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0x12, 0x34, 0x56, 0x78]);
    reseal(&mut block);
    let header = read(&block).header;
    assert_eq!((header.mtime.secs, header.uid), (-1, 0x1234_5678));
    block = raw_header(b"name", 0, b'7');
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[345..351].copy_from_slice(b"prefix");
    reseal(&mut block);
    let header = read(&block).header;
    assert_eq!((header.name.as_slice(), header.kind), (&b"prefix/name"[..], Kind::Regular));
}

/// A V7 header.
pub(super) fn raw_header(name: &[u8], size: u64, kind: u8) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = kind;
    reseal(&mut block);
    block
}

/// Sets the checksum right.
pub(super) fn reseal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
