//! `durable` on disks that are full or read-only, at every moment of it.
#![allow(clippy::unwrap_used)]

use std::{fs, io, path::Path};

use strata_durable::{self as durable, Journal, Lock, NewDir, lock::Mode};
use strata_spec::ErrorKind;
use strata_testkit::{LoopFs, require, skip};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let Some(fs_) = LoopFs::ext4(8 << 20) else { return };
    for name in ["tmp", "store"] {
        durable::create_dir_all(&fs_.join(name), 0o700).unwrap();
    }
    let journal = Journal::open(&fs_.join("journal")).unwrap();
    durable::write(&fs_.join("store/f"), b"old", 0o600).unwrap();
    let mut intent = journal.begin(&"begun").unwrap();
    fs_.fill(32 << 10);
    let big = vec![7; 1 << 20];

    let error = durable::write(&fs_.join("store/f"), &big, 0o600).unwrap_err();
    assert_eq!((error.kind(), error.path.as_path()), (ErrorKind::NoSpace, &*fs_.join("store/f")), "{error}");
    assert_eq!(durable::read(&fs_.join("store/f")).unwrap(), b"old");

    let mut new = NewDir::begin(&fs_.join("tmp"), 0o700).unwrap();
    assert_eq!(new.write("big", &big, 0o600).unwrap_err().kind(), ErrorKind::NoSpace);
    drop(new);
    let long = "x".repeat(1 << 20);
    assert_eq!(intent.note(&long).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(journal.begin(&long).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!((names(&fs_.join("tmp")), names(&fs_.join("store"))), (vec![], vec!["f".to_owned()]));
    assert_eq!(names(&fs_.join("journal")).len(), 1);

    // What makes room still works, and the operation can say how it ended.
    durable::remove_dir(&fs_.join("store"), &fs_.join("tmp")).unwrap();
    fs::remove_file(fs_.join("filler")).unwrap();
    intent.note(&"undone").unwrap();
    drop(intent);
    let mut notes = Vec::new();
    let settle = |found: &[String]| {
        notes.extend_from_slice(found);
        Ok::<_, durable::Error>(())
    };
    journal.settle(settle).unwrap();
    assert_eq!(notes, ["begun", "undone"]);
}

#[test]
fn a_read_only_disk_is_read() {
    let Some(fs_) = LoopFs::ext4(4 << 20) else { return };
    let journal = Journal::open(&fs_.join("journal")).unwrap();
    drop(journal.begin(&"dead").unwrap());
    durable::write(&fs_.join("f"), b"bytes", 0o600).unwrap();
    drop(Lock::acquire(&fs_.join("lock"), Mode::Exclusive).unwrap());
    fs_.remount_read_only();

    for name in ["journal", "none"] {
        let journal = Journal::open(&fs_.join(name)).unwrap();
        assert!(!journal.is_writable());
        assert_eq!(journal.begin(&1).unwrap_err().kind(), ErrorKind::ReadOnly);
        assert!(journal.alive::<String>().unwrap().is_empty());
        journal
            .settle(|_: &[String]| {
                Err(io::Error::other("called")).map_err(|source| durable::Error {
                    action: "settle",
                    path: fs_.join(name),
                    source,
                })
            })
            .unwrap();
    }
    assert_eq!(durable::read(&fs_.join("f")).unwrap(), b"bytes");
    durable::create_dir_all(&fs_.join("journal"), 0o700).unwrap();
    for name in ["lock", "no-lock"] {
        drop(Lock::acquire(&fs_.join(name), Mode::Shared).unwrap());
        assert!(Lock::try_acquire(&fs_.join(name), Mode::Shared).unwrap().is_some());
    }
    let refused = [
        durable::write(&fs_.join("f"), b"", 0o600),
        durable::remove_file(&fs_.join("f")),
        durable::symlink(Path::new("x"), &fs_.join("l")),
        durable::create_dir_all(&fs_.join("new/deep"), 0o700),
        durable::remove_dir(&fs_.join("journal"), &fs_.join("tmp")),
        Lock::acquire(&fs_.join("no-lock"), Mode::Exclusive).map(drop),
        NewDir::begin(fs_.path(), 0o700).map(drop),
    ];
    for (n, result) in refused.into_iter().enumerate() {
        let error = result.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::NotFound), "{n}: {error}");
    }
    fs_.remount_read_write();
    assert_eq!(names(&fs_.join("journal")).len(), 1, "left for an opener that may write");
}

#[test]
fn a_skip_returns() {
    let Some(()) = require::root() else { return };
    if require::program("no-such-program").is_none() {
        skip!("as it should: {}", 1);
    }
    panic!("not reached");
}
