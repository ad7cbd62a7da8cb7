//! The life of a blob: it arrives, is resumed, read meanwhile, committed, kept by leases and pins, and collected.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Read,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::json;
use strata_content::{Error, Ingest, Pin, Store};
use strata_spec::Digest;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(&dir.path().join("content"));
    (dir, store)
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn arrived(store: &Store, bytes: &[u8]) -> Ingest {
    let mut ingest = store.ingest(Digest::sha256(bytes)).unwrap();
    ingest.append(bytes).unwrap();
    ingest.finish().unwrap();
    ingest
}

fn keeps(blobs: &[Digest]) -> Pin {
    Pin { blobs: blobs.to_vec(), note: json!(null) }
}

#[test]
fn an_ingest_is_resumed_by_the_next_and_held_by_one() {
    let (_dir, store) = store();
    let digest = Digest::sha256("hello");
    let mut first = store.ingest(digest).unwrap();
    first.append(b"he").unwrap();

    let mut second = store.ingest(digest).unwrap();
    assert_eq!(second.resumable(), 0, "the first holds the file");
    second.append(b"hello").unwrap();
    second.finish().unwrap();
    let mut lease = store.lease().unwrap();
    second.commit(&mut lease).unwrap();
    assert_eq!(store.read(digest, 10).unwrap().unwrap(), b"hello", "a file without a name gets one");
    drop(first);

    let mut third = store.ingest(digest).unwrap();
    third.resume().unwrap();
    assert_eq!((third.resumable(), third.len()), (2, 2));
    third.append(b"llo").unwrap();
    third.finish().unwrap();
    third.commit(&mut lease).unwrap();
    assert_eq!(names(&store.layout().ingests()), [""; 0]);
}

#[test]
fn bytes_of_another_digest_do_not_stay() {
    let (_dir, store) = store();
    let mut ingest = store.ingest(Digest::sha256("hello")).unwrap();
    ingest.append(b"wrong").unwrap();
    let mut tail = ingest.arriving().tail();
    let error = ingest.finish().unwrap_err();
    assert!(matches!(error, Error::Digest { .. }) && error.to_string().contains("has the digest"), "{error}");
    assert!(ingest.arriving().wait_whole().is_err());
    assert!(tail.read_to_end(&mut Vec::new()).is_err(), "a reader does not take it for the blob");
    drop(ingest);
    assert_eq!(names(&store.layout().ingests()), [""; 0]);

    let mut lease = store.lease().unwrap();
    assert!(store.put(&mut lease, Digest::sha256("a"), b"b").is_err());
    assert_eq!(store.size(Digest::sha256("a")), None);
}

#[test]
fn a_reader_follows_the_writer_to_its_end() {
    let (_dir, store) = store();
    let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7 % 251) as u8).collect();
    let mut ingest = store.ingest(Digest::sha256(&bytes)).unwrap();
    let mut tail = ingest.arriving().tail();
    let read = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut all = Vec::new();
            tail.read_to_end(&mut all).map(|_| all)
        });
        for piece in bytes.chunks(77_777) {
            ingest.append(piece).unwrap();
        }
        assert!(!reader.is_finished(), "the digest is not checked yet");
        ingest.finish().unwrap();
        reader.join().unwrap().unwrap()
    });
    assert_eq!(read, bytes);

    let other = store.ingest(Digest::sha256("x")).unwrap();
    let mut tail = other.arriving().tail();
    drop(other);
    assert!(tail.read_to_end(&mut Vec::new()).is_err(), "a writer that goes ends its readers");
}

#[test]
fn an_empty_arrival_leaves_no_file() {
    let (_dir, store) = store();
    drop(store.ingest(Digest::sha256("x")).unwrap());
    assert_eq!(names(&store.layout().ingests()), [""; 0]);
    let empty = arrived(&store, b"");
    empty.commit(&mut store.lease().unwrap()).unwrap();
    drop(empty);
    assert_eq!(store.read(Digest::sha256(""), 0).unwrap().unwrap(), b"");
}

#[test]
fn a_collection_takes_what_neither_a_lease_nor_a_pin_names() {
    let (_dir, store) = store();
    let [leased, pinned, both, loose] = ["leased", "pinned", "both", "loose"].map(Digest::sha256);
    let mut lease = store.lease().unwrap();
    for name in ["leased", "pinned", "both", "loose"] {
        let mut own = store.lease().unwrap();
        arrived(&store, name.as_bytes()).commit(&mut own).unwrap();
        assert_eq!(store.collect(|_, _| true).unwrap().blobs, 0, "its own lease keeps it");
        // Kept by others before its own ends.
        match name {
            "leased" => assert_eq!(lease.hold(leased).unwrap(), Some(6)),
            "pinned" => store.pin("images", "a", &keeps(&[pinned])).unwrap(),
            "both" => {
                lease.hold(both).unwrap();
                store.pin("images", "b", &keeps(&[both])).unwrap();
            }
            _ => {}
        }
        own.done().unwrap();
    }
    assert_eq!(store.size(loose), Some(5));
    assert_eq!(store.collect(|kind, name| (kind, name) != ("images", "b")).unwrap().bytes, 5);
    assert_eq!(store.size(loose), None);
    drop(lease);
    assert_eq!(store.collect(|_, _| true).unwrap().blobs, 2);
    assert_eq!((store.size(pinned), store.size(leased), store.size(both)), (Some(6), None, None));
    assert_eq!(store.pinned("images", "b").unwrap(), None);
    assert!(store.unpin("images", "a").unwrap() && !store.unpin("images", "a").unwrap());
    assert_eq!(store.collect(|_, _| true).unwrap().blobs, 1);
    for dir in [store.layout().leases(), store.layout().blobs(pinned.algorithm())] {
        assert_eq!(names(&dir), [""; 0]);
    }
}

#[test]
fn the_lease_of_a_dead_process_keeps_nothing() {
    let (_dir, store) = store();
    arrived(&store, b"x").commit(&mut store.lease().unwrap()).unwrap();
    // As a killed process leaves it, and one that the power took: whole, torn, zeros, empty.
    let line = format!("{:?}\n", Digest::sha256("x").to_string());
    for (n, left) in [line.clone(), line[..9].to_owned(), "\0".repeat(80), String::new()].iter().enumerate() {
        fs::write(store.layout().leases().join(format!("{n:016x}")), left).unwrap();
    }
    assert_eq!(store.collect(|_, _| true).unwrap().blobs, 1);
    assert_eq!(names(&store.layout().leases()), [""; 0]);
}

#[test]
fn a_damaged_pin_is_named_and_goes() {
    let (_dir, store) = store();
    let documents = [(Digest::sha256("doc"), &b"doc"[..])];
    let mut lease = store.lease().unwrap();
    store.keep(&mut lease, "images", "a", &documents, &keeps(&[Digest::sha256("doc")])).unwrap();
    lease.done().unwrap();
    let path = store.layout().pin("images", "a");
    fs::write(&path, "{").unwrap();
    let error = store.pinned("images", "a").unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()) && error.contains("damaged"), "{error}");
    assert_eq!(store.collect(|_, _| true).unwrap().blobs, 1);
    assert!(!path.exists());
}

#[test]
fn a_damaged_blob_is_named() {
    let (_dir, store) = store();
    let digest = Digest::sha256("good");
    store.put(&mut store.lease().unwrap(), digest, b"good").unwrap();
    fs::write(store.layout().blob(digest), "evil").unwrap();
    let error = store.read(digest, 10).unwrap_err().to_string();
    assert!(error.contains(store.layout().blob(digest).to_str().unwrap()), "{error}");
    assert!(matches!(store.read(digest, 3), Err(Error::TooLarge { found: 4, limit: 3, .. })));
    store.remove(digest).unwrap();
    store.remove(digest).unwrap();
    assert_eq!(store.read(digest, 10).unwrap(), None);
}

#[test]
fn arrivals_that_nobody_resumes_expire() {
    let (_dir, store) = store();
    for name in ["old", "new", "held"] {
        store.ingest(Digest::sha256(name)).unwrap().append(b"x").unwrap();
    }
    let past = SystemTime::now() - Duration::from_secs(15 * 24 * 3600);
    let age = |name: &str| {
        let file = fs::File::options().write(true).open(store.layout().ingest(Digest::sha256(name))).unwrap();
        file.set_modified(past).unwrap();
    };
    age("old");
    age("held");
    let _held = store.ingest(Digest::sha256("held")).unwrap();
    assert_eq!(store.expire().unwrap(), 1);
    assert_eq!(names(&store.layout().ingests()).len(), 2);
    store.forget_ingests([Digest::sha256("new"), Digest::sha256("held"), Digest::sha256("none")]).unwrap();
    assert_eq!(names(&store.layout().ingests()).len(), 1, "what another process fetches stays");
}

#[test]
fn a_reader_of_an_absent_store_makes_nothing() {
    let (dir, store) = store();
    assert_eq!((store.size(Digest::sha256("x")), store.read(Digest::sha256("x"), 1).unwrap()), (None, None));
    assert_eq!(store.collect(|_, _| true).unwrap(), Default::default());
    assert_eq!((store.expire().unwrap(), store.unpin("images", "a").unwrap()), (0, false));
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn the_layout_of_earlier_versions_goes_when_the_store_is_made() {
    let (dir, store) = store();
    for former in ["partial", "platforms/blobs/sha256", "cache/manifests", "cache/other"] {
        fs::create_dir_all(dir.path().join(former)).unwrap();
        fs::write(dir.path().join(former).join("x"), "x").unwrap();
    }
    drop(store.lease().unwrap());
    assert_eq!(names(dir.path()), ["cache", "content"]);
    assert_eq!(names(&dir.path().join("cache")), ["other"]);
}

#[test]
fn many_hold_commit_and_collect_at_once() {
    let (_dir, store) = store();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..40 {
                    let mut lease = store.lease().unwrap();
                    let name = format!("{}", (n + round) % 5);
                    let digest = Digest::sha256(&name);
                    if lease.hold(digest).unwrap().is_none() {
                        arrived(store, name.as_bytes()).commit(&mut lease).unwrap();
                    }
                    assert_eq!(store.read(digest, 10).unwrap().as_deref(), Some(name.as_bytes()), "the lease keeps it");
                    lease.done().unwrap();
                    store.collect(|_, _| true).unwrap();
                }
            });
        }
    });
    assert_eq!(store.collect(|_, _| true).unwrap().blobs, 0);
}
