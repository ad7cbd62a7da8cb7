//! What the build cache of BuildKit holds: layers, and directories of the driver that no layer names.
//!
//! ```text
//! buildkit/
//!   snapshots.db     <snapshot>/{parent, size, chainid, committed}
//!                    chainid    the layer that the snapshot became, or was made from
//!                    committed  the snapshot, and directory, that the record was made of
//!   metadata_v2.db   _main/<record>/{cache.description, cache.equalMutable, …}, values {"value": …}
//! ```
//!
//! A snapshot's name is 25 lower-case letters and digits, or the ChainID of a layer; it is the name of its directory under the graph driver.
//!
//! Source: moby 20.10, `builder/builder-next/adapters/snapshot`; moby/buildkit 0.8, `cache/metadata.go`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use strata_bolt::{Bucket, Database, Value};
use strata_spec::{CacheId, ChainId};

const SNAPSHOTS: &str = "buildkit/snapshots.db";
const METADATA: &str = "buildkit/metadata_v2.db";
/// Letters and digits of a snapshot's name.
const NAME: usize = 25;

/// What the build cache of a root holds; empty where BuildKit never ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildCache {
    /// The directories of its snapshots, each with the record that it belongs to.
    pub folders: HashMap<CacheId, CacheRecord>,
    /// The layers that its snapshots stand on or became.
    pub layers: HashSet<ChainId>,
    /// What of its databases cannot be read: while there is any, whatever looks like a snapshot may be one.
    pub damage: Vec<CacheDamage>,
}

/// A record of the build cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CacheRecord {
    /// As `docker system df -v` shows it.
    pub id: String,
    /// What it was made by: `mount / from exec /bin/sh -c make`. Absent where no metadata tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A database that cannot be read, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDamage {
    /// The database.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl BuildCache {
    /// Reads what the build cache of the data root `root` holds, without a lock, also while its dockerd runs.
    pub fn read(root: &Path) -> Self {
        let mut cache = Self::default();
        let path = root.join(SNAPSHOTS);
        if !path.exists() {
            if root.join(METADATA).exists() {
                cache.damage.push(CacheDamage { path, reason: "the file is missing".into() });
            }
            return cache;
        }
        let records = cache.open(&path, records).unwrap_or_default();
        let metadata = root.join(METADATA);
        let described = match metadata.exists() {
            true => cache.open(&metadata, descriptions).unwrap_or_default(),
            false => Descriptions::default(),
        };
        for (name, snapshot) in records {
            let named = [&name, &snapshot.chain_id, &snapshot.parent];
            cache.layers.extend(named.into_iter().filter_map(|id| id.parse::<ChainId>().ok()));
            let record = described.of_mutable.get(&name).unwrap_or(&name);
            let own = CacheRecord { id: record.clone(), description: described.texts.get(record).cloned() };
            // A record that was committed says better whose directory it is than the directory itself.
            if let Some(id) = folder(&name) {
                cache.folders.entry(id).or_insert_with(|| own.clone());
            }
            if let Some(id) = folder(&snapshot.committed) {
                cache.folders.insert(id, own);
            }
        }
        cache
    }

    /// Whether a directory belongs to the cache, or may belong to it because a database is damaged.
    pub fn may_own(&self, folder: &CacheId) -> bool {
        self.folders.contains_key(folder) || (!self.damage.is_empty() && is_snapshot(folder.as_str()))
    }

    fn open<T>(&mut self, path: &Path, read: impl Fn(&Database) -> T) -> Option<T> {
        let found = strata_bolt::read(path, |database| (read(database), database.damage().to_vec()));
        let damaged = |reason: String| CacheDamage { path: path.to_owned(), reason };
        match found {
            Ok((found, damage)) => {
                self.damage.extend(damage.into_iter().map(|damage| damaged(damage.to_string())));
                Some(found)
            }
            Err(error) => {
                self.damage.push(damaged(error.to_string()));
                None
            }
        }
    }
}

/// Whether `name` is one that BuildKit gives to a snapshot.
pub fn is_snapshot(name: &str) -> bool {
    name.len() == NAME && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn folder(name: &str) -> Option<CacheId> {
    is_snapshot(name).then(|| name.parse().ok())?
}

#[derive(Default)]
struct Snapshot {
    chain_id: String,
    committed: String,
    parent: String,
}

fn records(database: &Database) -> BTreeMap<String, Snapshot> {
    let mut records = BTreeMap::new();
    for (name, bucket) in buckets(database, &database.root()) {
        let text = |key: &str| match database.get(&bucket, key.as_bytes()) {
            Some(Value::Bytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => String::new(),
        };
        let snapshot = Snapshot { chain_id: text("chainid"), committed: text("committed"), parent: text("parent") };
        records.insert(name, snapshot);
    }
    records
}

#[derive(Default)]
struct Descriptions {
    /// By record.
    texts: HashMap<String, String>,
    /// The record whose contents a snapshot still is.
    of_mutable: HashMap<String, String>,
}

fn descriptions(database: &Database) -> Descriptions {
    #[derive(Deserialize)]
    struct Wrapped {
        value: String,
    }
    let mut found = Descriptions::default();
    let Some(main) = database.bucket(&["_main"]) else { return found };
    for (id, bucket) in buckets(database, &main) {
        let text = |key: &str| match database.get(&bucket, key.as_bytes())? {
            Value::Bytes(bytes) => Some(serde_json::from_slice::<Wrapped>(&bytes).ok()?.value),
            Value::Bucket(_) => None,
        };
        if let Some(description) = text("cache.description") {
            found.texts.insert(id.clone(), description);
        }
        if let Some(mutable) = text("cache.equalMutable") {
            found.of_mutable.insert(mutable, id);
        }
    }
    found
}

fn buckets(database: &Database, of: &Bucket) -> Vec<(String, Bucket)> {
    let entries = database.entries(of).flatten();
    entries
        .filter_map(|entry| match entry.value {
            Value::Bucket(bucket) => Some((String::from_utf8(entry.key).ok()?, bucket)),
            Value::Bytes(_) => None,
        })
        .collect()
}
