//! What a build cache holds, as dockerd 20.10 recorded it, whole and damaged.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::Path};

use strata_layer::BuildCache;
use strata_spec::{CacheId, ChainId};

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("buildkit")).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/buildkit");
    for name in ["snapshots.db", "metadata_v2.db"] {
        fs::copy(fixtures.join(name), root.path().join("buildkit").join(name)).unwrap();
    }
    root
}

#[test]
fn every_snapshot_has_its_record_and_description() {
    let root = root();
    let cache = BuildCache::read(root.path());
    assert_eq!(cache.damage, []);
    let found: BTreeMap<&str, (&str, Option<&str>)> = cache
        .folders
        .iter()
        .map(|(id, record)| (id.as_str(), (record.id.as_str(), record.description.as_deref())))
        .collect();
    let ran = |text: &'static str| Some(text);
    for (folder, record) in [
        (
            "hi5ce4zcqenxgfyy5v831cjlf",
            ("i1h7pcyaleu75sgaw2x506d8j", ran("mount / from exec /bin/busybox sh -c /bin/busybox echo hi > /made")),
        ),
        (
            "p3w688n30rfsfwb128w9x4j20",
            ("wnj975ovix5rie37h24al3ydc", ran("mount / from exec /bin/busybox sh -c /bin/busybox echo two > /two")),
        ),
        ("foo56992mlzno0a33hwd9081d", ("mo9t1jtxj6k3dcxi2i1320qd5", ran("fileop target"))),
        ("yb9lini5nnmdoxicxow3zbz8k", ("12hqk5eyt637vjlvmah39jkao", ran("local source for context"))),
        ("y7g99kr67diwozuvjgw8xl1vm", ("f9ufgy9ttj7tsz1d9gad7c2aq", ran("local source for context"))),
        ("d5tif5prjts9a1rmjnz7vwy0f", ("iv9dsj8yolmhf323yuofuqrs5", ran("local source for dockerfile"))),
    ] {
        assert_eq!(found.get(folder), Some(&record), "{folder}");
    }
    let layers: [ChainId; 4] = [
        "sha256:1f8da281ff66c6ad282e8e2ed46ac16534238df4999b7aca4c3487e37435d06f",
        "sha256:6cca2cae8121b7ce3f59824d7ad8706574e7fe76f4d26d3467e563468784ed83",
        "sha256:a5969c9e664f86d62490796b2e29c70820c2a7122316f3daeab9c3ec4ad23fa1",
        "sha256:b70162a0d6f2e2546a3744690a0cbe5efbc5d8dfeb11f859e716f919085f5715",
    ]
    .map(|id| id.parse().unwrap());
    assert_eq!(cache.layers, layers.into_iter().collect());
}

#[test]
fn a_damaged_database_may_own_every_snapshot() {
    let known: CacheId = "hi5ce4zcqenxgfyy5v831cjlf".parse().unwrap();
    let (other, layer): (CacheId, CacheId) =
        ("0123456789abcdefghijklmno".parse().unwrap(), "ab".repeat(32).parse().unwrap());
    let owns = |cache: &BuildCache| [&known, &other, &layer].map(|id| cache.may_own(id));
    let root = root();
    assert_eq!(owns(&BuildCache::read(root.path())), [true, false, false]);
    let path = root.path().join("buildkit/snapshots.db");
    let whole = fs::read(&path).unwrap();
    for damage in [Some(vec![]), Some(vec![0xff; 5000]), Some(whole[..8192].to_vec()), None] {
        match damage {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let cache = BuildCache::read(root.path());
        assert_eq!(cache.damage[0].path, path);
        assert_eq!(owns(&cache), [true, true, false], "{:?}", cache.damage);
    }
    fs::remove_file(root.path().join("buildkit/metadata_v2.db")).unwrap();
    assert_eq!(BuildCache::read(root.path()), BuildCache::default(), "BuildKit never ran here");
}
