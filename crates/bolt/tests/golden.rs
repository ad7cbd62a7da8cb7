//! Databases that dockerd 29, BuildKit and containerd 2 wrote, and each of them damaged.
#![allow(clippy::unwrap_used)]

use std::{fs, io::Read, os::unix::fs::FileExt, path::Path};

use proptest::prelude::*;
use strata_bolt::{Bucket, Database, Error, Value, read};

const PAGE: usize = 4096;
const COMPRESSED: [&str; 4] = ["meta.db", "snapshots.db", "local-kv.db", "cache.db"];

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    if COMPRESSED.contains(&name) {
        let file = fs::File::open(path.with_extension("db.gz")).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        return bytes;
    }
    fs::read(path).unwrap()
}

fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.bytes().all(|b| (0x20..0x7f).contains(&b)) => text.to_owned(),
        _ => format!("0x{}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

/// All keys and values, a line each, nested buckets indented.
fn dump(database: &Database, bucket: &Bucket, depth: usize, into: &mut String) {
    let indent = "  ".repeat(depth);
    for entry in database.entries(bucket).flatten() {
        match entry.value {
            Value::Bytes(value) => *into += &format!("{indent}{} = {}\n", shown(&entry.key), shown(&value)),
            Value::Bucket(nested) => {
                *into += &format!("{indent}{}/\n", shown(&entry.key));
                dump(database, &nested, depth + 1, into);
            }
        }
    }
}

fn text(database: &Database) -> String {
    let mut text = String::new();
    dump(database, &database.root(), 0, &mut text);
    text
}

#[test]
fn containerd_s_databases_read_as_another_reader_read_them() {
    for (name, expected) in [("meta.db", "meta.txt"), ("snapshots.db", "snapshots.txt")] {
        let database = Database::from_bytes(fixture(name)).unwrap();
        assert_eq!(database.damage(), [], "{name}");
        let expected = String::from_utf8(fixture(expected)).unwrap();
        let (_, expected) = expected.split_once('\n').unwrap();
        for (ours, theirs) in text(&database).lines().zip(expected.lines()) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(text(&database).lines().count(), expected.lines().count(), "{name}");
    }
}

#[test]
fn every_database_of_a_docker_root_is_sound() {
    for name in COMPRESSED.into_iter().chain(["volumes.db"]) {
        let database = Database::from_bytes(fixture(name)).unwrap();
        assert_eq!(database.damage(), [], "{name}");
        assert!(!text(&database).is_empty(), "{name}");
    }
}

#[test]
fn a_damaged_meta_page_leaves_the_other_one() {
    let sound = fixture("snapshots.db");
    let newest = Database::from_bytes(sound.clone()).unwrap().transaction();
    let mut found = Vec::new();
    for page in [0, 1] {
        for at in [16, 20, 24, 32, 64, 79] {
            let mut bytes = sound.clone();
            bytes[page * PAGE + at] ^= 0x55;
            let database = Database::from_bytes(bytes).unwrap();
            assert_eq!(database.damage().len(), 1, "{:?}", database.damage());
            assert_eq!(database.damage()[0].page, page as u64);
            assert!(text(&database).contains("snapshots/"));
            found.push(database.transaction());
        }
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [newest - 1, newest]);
    let mut bytes = sound;
    bytes[16..PAGE + 100].fill(0);
    let Err(Error::NotBolt { reason, .. }) = Database::from_bytes(bytes) else { panic!("it has no meta page") };
    assert!(reason.contains("page 0") && reason.contains("page 1"), "{reason}");
}

#[test]
fn a_damaged_newest_tree_leaves_the_older_one() {
    let mut older = 0;
    for name in COMPRESSED {
        let mut bytes = fixture(name);
        let newest = Database::from_bytes(bytes.clone()).unwrap().transaction();
        let root_of = |transaction: u64| {
            let at = (transaction % 2) as usize * PAGE + 32;
            u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
        };
        let root = root_of(newest);
        // A transaction that changed nothing has the root page of the one before.
        if root == root_of(newest - 1) {
            continue;
        }
        older += 1;
        bytes[root * PAGE..root * PAGE + 16].fill(0xff);
        let database = Database::from_bytes(bytes).unwrap();
        assert_eq!(database.transaction(), newest - 1, "{name}: {:?}", database.damage());
        let [damage] = database.damage() else { panic!("{:?}", database.damage()) };
        assert!(damage.reason.contains("the older transaction"), "{damage}");
        assert!(!text(&database).is_empty());
    }
    assert!(older > 1, "{older} files have two trees");
}

/// Page numbers of the newest tree, by its headers.
fn tree_pages(bytes: &[u8]) -> Vec<usize> {
    let free = |page: &[u8]| !matches!(u16::from_le_bytes([page[8], page[9]]), 1 | 2);
    let pages = bytes.chunks(PAGE).enumerate().skip(2);
    pages.filter(|(n, page)| page[..8] == (*n as u64).to_le_bytes() && !free(page)).map(|(n, _)| n).collect()
}

#[test]
fn a_bad_page_costs_its_subtree_and_is_named() {
    let sound = fixture("meta.db");
    let all = text(&Database::from_bytes(sound.clone()).unwrap());
    let (mut named, mut lost) = (0, 0);
    for page in tree_pages(&sound) {
        let mut bytes = sound.clone();
        // One meta page alone, so that there is no older transaction to read.
        let newest = Database::from_bytes(sound.clone()).unwrap().transaction();
        bytes[(1 - newest % 2) as usize * PAGE + 16] = 0;
        bytes[page * PAGE..][..16].fill(0xff);
        let database = Database::from_bytes(bytes).unwrap();
        let left = text(&database);
        let of_page = database.damage().iter().filter(|damage| damage.page == page as u64).count();
        assert!(of_page <= 1);
        if of_page == 0 {
            // A page that is free, or of the older transaction.
            assert_eq!(left, all, "page {page}");
            continue;
        }
        named += 1;
        let mut expected = all.lines();
        assert!(
            left.lines().all(|line| expected.any(|known| known == line)),
            "page {page}: only lines that were there"
        );
        lost += usize::from(left.lines().count() < all.lines().count());
    }
    assert!(named > 20 && lost == named, "{named} pages named, {lost} cost something");
}

#[test]
fn loops_and_shared_pages_end() {
    let sound = fixture("meta.db");
    let newest = Database::from_bytes(sound.clone()).unwrap().transaction();
    let meta = (newest % 2) as usize * PAGE;
    let root = sound[meta + 32..meta + 40].to_vec();
    let mut looped = 0;
    for page in tree_pages(&sound) {
        let header = &sound[page * PAGE..][..16];
        let count = usize::from(u16::from_le_bytes([header[10], header[11]]));
        let mut bytes = sound.clone();
        bytes[(1 - newest % 2) as usize * PAGE + 16] = 0;
        for n in 0..count {
            let at = page * PAGE + 16 + n * 16;
            if header[8] == 1 {
                bytes[at + 8..at + 16].copy_from_slice(&root);
            } else if bytes[at] & 1 == 1 {
                let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
                let value = at + field(at + 4) + field(at + 8);
                bytes[value..value + 8].copy_from_slice(&root);
            }
        }
        let database = Database::from_bytes(bytes).unwrap();
        looped += usize::from(database.damage().iter().any(|damage| damage.reason.contains("belongs to another page")));
        assert!(text(&database).lines().count() <= text(&Database::from_bytes(sound.clone()).unwrap()).lines().count());
    }
    assert!(looped > 5, "{looped} pages led back to the root page");
}

#[test]
fn a_file_is_read_while_its_owner_holds_the_lock_and_read_anew_after_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.db");
    fs::write(&path, fixture("snapshots.db")).unwrap();
    let owner = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    rustix::fs::flock(&owner, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut rounds = 0;
    let keys = read(&path, |database| {
        rounds += 1;
        if rounds == 1 {
            // A commit: the older meta page is written again.
            let oldest = (1 - database.transaction() % 2) * PAGE as u64;
            owner.write_all_at(&[0; 80], oldest).unwrap();
        }
        database.entries(&database.bucket(&["v1", "snapshots"]).unwrap()).flatten().count()
    });
    assert_eq!((keys.unwrap(), rounds), (22, 2));
    let commits = read(&path, |database| {
        let oldest = (1 - database.transaction() % 2) * PAGE as u64;
        rounds += 1;
        owner.write_all_at(&[rounds as u8; 80], oldest).unwrap();
    });
    assert!(matches!(commits, Err(Error::Busy { .. })), "{commits:?}");
}

#[test]
fn what_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    assert!(matches!(Database::open(&path), Err(Error::Io { .. })));
    for bytes in [vec![], vec![0; 10], vec![0; 8192], b"SQLite format 3".repeat(1000)] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(Database::open(&path), Err(Error::NotBolt { .. })));
    }
    assert!(matches!(Database::open(dir.path()), Err(Error::NotBolt { .. })));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(Database::open(&link), Err(Error::Io { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic_and_no_walk_is_longer_than_the_file(
        which in 0_usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        headers in prop::collection::vec((any::<prop::sample::Index>(), 8_usize..64, any::<u8>()), 0..10),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = fixture(COMPRESSED.into_iter().chain(["volumes.db"]).nth(which).unwrap());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (page, at, byte) in headers {
            let page = page.index(bytes.len() / PAGE).max(2);
            bytes[page * PAGE + at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let len = bytes.len();
        if let Ok(database) = Database::from_bytes(bytes) {
            // Elements may overlap: no more than each element once with the longest text.
            prop_assert!(text(&database).lines().count() <= len / 16);
            let _ = database.damage().iter().map(ToString::to_string).collect::<String>();
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
        prop_assert!(Database::from_bytes(bytes).is_err());
    }
}
