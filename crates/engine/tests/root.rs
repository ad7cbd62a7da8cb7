//! Opening a data root: who may, for what, and with which driver.

use std::{fs, path::Path};

use strata_durable::{Lock, lock::Mode};
use strata_engine::{Error, Options, Purpose, Root};
use strata_spec::ErrorKind;
use strata_testkit::{require, scratch};

fn open(root: &Path, purpose: Purpose) -> Result<Root, Error> {
    open_under(root, None, purpose)
}

fn open_under(root: &Path, driver: Option<&str>, purpose: Purpose) -> Result<Root, Error> {
    let exec_root = Some(root.with_extension("exec"));
    Root::open(&Options { data_root: root.to_owned(), exec_root, driver: driver.map(str::to_owned) }, purpose)
}

#[test]
fn reading_makes_nothing_and_writing_makes_what_is_ours() {
    let Some(()) = require::root() else { return };
    let dir = scratch();
    let root = dir.path().join("root");
    open(&root, Purpose::Read).unwrap();
    assert!(!root.exists());
    assert_eq!(open(&root, Purpose::Write).unwrap().main().driver(), "overlay2");
    for name in ["version", "journal", "locks", "tmp", "cache"] {
        assert!(root.join("strata").join(name).exists(), "{name}");
    }
}

#[test]
fn a_live_daemon_is_read_beside_and_not_written_beside() {
    let Some(()) = require::root() else { return };
    let dir = scratch();
    fs::create_dir(dir.path().join("volumes")).unwrap();
    let database = dir.path().join("volumes/metadata.db");
    fs::write(&database, "").unwrap();
    let daemon = Lock::acquire(&database, Mode::Exclusive).unwrap();
    open(dir.path(), Purpose::Read).unwrap();
    let refused = open(dir.path(), Purpose::Write).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly);
    assert!(refused.to_string().contains("is in use by a live dockerd"), "{refused}");
    assert!(!dir.path().join("strata").exists());
    drop(daemon);
    let ours = open(dir.path(), Purpose::Write).unwrap();
    assert!(Lock::try_acquire(&database, Mode::Exclusive).unwrap().is_none(), "a dockerd could start beside us");
    drop(ours);
    assert!(Lock::try_acquire(&database, Mode::Exclusive).unwrap().is_some());
}

#[test]
fn a_newer_format_is_left_alone() {
    let Some(()) = require::root() else { return };
    let dir = scratch();
    open(dir.path(), Purpose::Write).unwrap();
    fs::write(dir.path().join("strata/version"), "7\n").unwrap();
    for purpose in [Purpose::Read, Purpose::Write] {
        let refused = open(dir.path(), purpose).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert!(refused.to_string().contains("format 7"), "{refused}");
    }
}

#[test]
fn the_driver_is_the_roots_own() {
    let Some(()) = require::root() else { return };
    type Case<'a> = (&'a [&'a str], Option<&'a str>, Result<&'a str, ErrorKind>, Result<&'a str, ErrorKind>);
    let (invalid, unsupported) = (Err(ErrorKind::Invalid), Err(ErrorKind::Unsupported));
    // What there is, what is asked for; the driver for reading and for writing.
    let cases: &[Case<'_>] = &[
        (&[], None, Ok("overlay2"), Ok("overlay2")),
        (&["overlay2"], None, Ok("overlay2"), Ok("overlay2")),
        (&["devicemapper", "overlay2"], None, Ok("overlay2"), Ok("overlay2")),
        (&["devicemapper"], None, Ok("devicemapper"), unsupported),
        (&["devicemapper"], Some("devicemapper"), Ok("devicemapper"), invalid),
        (&["devicemapper"], Some("overlay2"), Ok("overlay2"), Ok("overlay2")),
        (&["vfs"], None, Ok("vfs"), Ok("vfs")),
        (&["overlay", "vfs"], None, Ok("overlay"), Ok("overlay")),
        (&["overlay", "overlay2"], Some("overlay"), Ok("overlay"), Ok("overlay")),
        (&["overlay2"], Some("zfs"), invalid, invalid),
    ];
    for (there, asked, to_read, to_write) in cases {
        let dir = scratch();
        for driver in *there {
            fs::create_dir_all(dir.path().join("image").join(driver)).unwrap();
        }
        for (purpose, expected) in [(Purpose::Read, to_read), (Purpose::Write, to_write)] {
            let opened = open_under(dir.path(), *asked, purpose);
            let got = opened.as_ref().map(|root| root.main().driver()).map_err(|error| error.kind());
            assert_eq!(got, *expected, "{there:?} {asked:?} {purpose:?}");
        }
    }
}

#[test]
fn reading_an_empty_root_makes_nothing_either() {
    let dir = scratch();
    for path in [dir.path().join("none"), dir.path().join("bare")] {
        let exists = path.ends_with("bare");
        if exists {
            fs::create_dir(&path).unwrap();
        }
        let root = open(&path, Purpose::Read).unwrap();
        assert!(root.main().images().images().unwrap().images.is_empty());
        assert!(root.users().unwrap().is_empty());
        assert!(root.usage().unwrap().0[0].images.is_empty());
        root.info().unwrap();
        assert_eq!(path.exists(), exists);
        assert!(!exists || fs::read_dir(&path).unwrap().next().is_none(), "something was made in {}", path.display());
    }
}

#[test]
fn a_store_that_was_never_used_does_not_decide() {
    let dir = scratch();
    fs::create_dir_all(dir.path().join("image/overlay2/layerdb/sha256")).unwrap();
    fs::create_dir_all(dir.path().join("image/vfs/layerdb/sha256/0000")).unwrap();
    assert_eq!(open(dir.path(), Purpose::Read).unwrap().main().driver(), "vfs");
}
