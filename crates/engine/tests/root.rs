//! Opening a data root: who may, for what, and with which driver.

use std::{fs, path::Path};

use strata_durable::{Lock, lock::Mode};
use strata_engine::{Engine, Error, Options, Purpose, Root};
use strata_spec::ErrorKind;
use strata_testkit::{require, scratch};

fn open(root: &Path, purpose: Purpose) -> Result<Root, Error> {
    Root::open(root, None, purpose)
}

#[test]
fn reading_makes_nothing_and_writing_makes_what_is_ours() {
    let Some(()) = require::root() else { return };
    let dir = scratch();
    let root = dir.path().join("root");
    open(&root, Purpose::Read).unwrap();
    assert!(!root.exists());
    assert_eq!(open(&root, Purpose::Write).unwrap().driver(), "overlay2");
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
    type Case<'a> = (&'a [&'a str], Option<&'a str>, Result<&'a str, ErrorKind>);
    let cases: &[Case<'_>] = &[
        (&[], None, Ok("overlay2")),
        (&["overlay2"], None, Ok("overlay2")),
        (&["devicemapper", "overlay2"], None, Ok("overlay2")),
        (&["devicemapper"], None, Err(ErrorKind::Unsupported)),
        (&["devicemapper"], Some("overlay2"), Ok("overlay2")),
        (&["vfs"], None, Ok("vfs")),
        (&["overlay", "vfs"], None, Ok("overlay")),
        (&["overlay", "overlay2"], Some("overlay"), Ok("overlay")),
        (&["overlay2"], Some("zfs"), Err(ErrorKind::Invalid)),
    ];
    for (there, asked, expected) in cases {
        let dir = scratch();
        for driver in *there {
            fs::create_dir_all(dir.path().join("image").join(driver)).unwrap();
        }
        let opened = Root::open(dir.path(), *asked, Purpose::Read);
        let got = opened.as_ref().map(Root::driver).map_err(Error::kind);
        assert_eq!(got, *expected, "{there:?} {asked:?}");
    }
}

#[test]
fn an_engine_for_reading_makes_nothing_either() {
    let dir = scratch();
    for root in [dir.path().join("none"), dir.path().join("bare")] {
        let exists = root.ends_with("bare");
        if exists {
            fs::create_dir(&root).unwrap();
        }
        let options = Options { data_root: root.clone(), exec_root: None, driver: None };
        let engine = Engine::open(&options, Purpose::Read).unwrap();
        assert!(engine.images().images().unwrap().images.is_empty());
        assert!(engine.users().unwrap().is_empty());
        assert!(engine.usage().unwrap().images.is_empty());
        engine.info().unwrap();
        assert_eq!(root.exists(), exists);
        assert!(!exists || fs::read_dir(&root).unwrap().next().is_none(), "something was made in {}", root.display());
    }
}

#[test]
fn a_store_that_was_never_used_does_not_decide() {
    let dir = scratch();
    fs::create_dir_all(dir.path().join("image/overlay2/layerdb/sha256")).unwrap();
    fs::create_dir_all(dir.path().join("image/vfs/layerdb/sha256/0000")).unwrap();
    assert_eq!(Root::open(dir.path(), None, Purpose::Read).unwrap().driver(), "vfs");
}
