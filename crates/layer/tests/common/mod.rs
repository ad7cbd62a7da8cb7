//! A store on a root, and layers to put into it.
#![allow(dead_code)]

use std::{cell::Cell, fs, io::Cursor, path::Path};

use strata_archive::{
    Limits,
    tar::{Header, Kind, Writer},
};
use strata_durable::Journal;
use strata_layer::{Config, Depth, Error, Layer, Store};
use strata_spec::{ChainId, ContainerId, DiffId, Digest};

thread_local! {
    static DRIVER: Cell<&'static str> = const { Cell::new("overlay2") };
}

/// Does `test` with each of `drivers` in turn: [`open`] opens it.
pub fn with_each(drivers: &[&'static str], test: impl Fn()) {
    for driver in drivers {
        DRIVER.set(driver);
        test();
    }
    DRIVER.set("overlay2");
}

/// Opens the store on `root` as the engine does, without settling.
pub fn open(root: &Path) -> Store {
    let strata = root.join("strata");
    fs::create_dir_all(&strata).expect("make the strata folder");
    let driver =
        strata_graphdriver::open(DRIVER.get(), root, strata_graphdriver::Access::ReadWrite).expect("open the driver");
    let journal = Journal::open(&strata.join("journal")).expect("open the journal");
    Store::open(Config { root, driver, journal, locks: &strata.join("locks") }).expect("open the store")
}

/// Settles what dead operations left on `root`, where images need only `needed`.
pub fn settle(root: &Path, store: &Store, needed: &dyn Fn(ChainId) -> bool) {
    let journal = Journal::open(&root.join("strata/journal")).expect("open the journal");
    journal
        .settle::<serde_json::Value, Error>(|notes| store.settle(notes, needed))
        .unwrap_or_else(|error| panic!("settle: {error}"));
    store.sweep().expect("sweep");
    assert_eq!(
        journal.alive::<serde_json::Value>().expect("read the journal").len(),
        0,
        "something stays in the journal"
    );
}

/// A tar of files and, for names that end in a slash, directories.
pub fn tar(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, text) in entries {
        let kind = if name.ends_with('/') { Kind::Dir } else { Kind::Regular };
        let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
        let header = Header { mode, size: text.len() as u64, ..Header::new(kind, *name) };
        writer.header(&header).expect("header");
        writer.content(text.as_bytes()).expect("content");
    }
    writer.finish().expect("finish")
}

/// Layer `n` of a made-up image.
pub fn layer_tar(n: usize) -> Vec<u8> {
    tar(&[("etc/", ""), ("etc/hosts", &format!("layer {n}")), (&format!("file-{n}"), &"x".repeat(n))])
}

pub fn diff_of(tar: &[u8]) -> DiffId {
    DiffId::new(Digest::sha256(tar))
}

/// Unpacks and registers tars over `parent`, and names the result by `named` before the lease ends.
pub fn add(
    store: &Store,
    parent: Option<ChainId>,
    tars: &[Vec<u8>],
    named: impl FnOnce(ChainId),
) -> Result<Vec<Layer>, Error> {
    let mut lease = store.lease()?;
    if !store.driver().is_independent() {
        // Each needs the one below first.
        let mut layers: Vec<Layer> = Vec::new();
        for tar in tars {
            let below = layers.last().map(|layer| layer.chain_id).or(parent);
            let unpacked = store.unpack(Cursor::new(tar), below, &Limits::default())?.expect(diff_of(tar))?;
            layers.extend(store.register(&mut lease, below, vec![unpacked])?);
        }
        named(layers.last().expect("at least one layer").chain_id);
        lease.done()?;
        return Ok(layers);
    }
    let unpacked =
        tars.iter().map(|tar| store.unpack(Cursor::new(tar), parent, &Limits::default())?.expect(diff_of(tar)));
    let unpacked = unpacked.collect::<Result<Vec<_>, _>>()?;
    let layers = store.register(&mut lease, parent, unpacked)?;
    named(layers.last().expect("at least one layer").chain_id);
    lease.done()?;
    Ok(layers)
}

pub fn container(n: u8) -> ContainerId {
    ContainerId::from_random([n; 32])
}

/// Fails if anything in the store is not as it was written.
pub fn assert_sound(store: &Store, when: &dyn std::fmt::Display) {
    let findings = store.verify(Depth::Contents);
    let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{when}:\n{}", text.join("\n"));
}

/// Nothing half-made or half-deleted is anywhere.
pub fn assert_tidy(root: &Path, when: &dyn std::fmt::Display) {
    for folder in ["image/DRIVER/layerdb/tmp", "strata/tmp/DRIVER", "strata/mnt", "strata/journal"] {
        let folder = folder.replace("DRIVER", DRIVER.get());
        let left: Vec<_> = fs::read_dir(root.join(&folder)).into_iter().flatten().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{when}: left in {folder}: {left:?}");
    }
}
