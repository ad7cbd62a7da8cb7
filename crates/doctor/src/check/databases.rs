//! The bolt databases of Docker and BuildKit: whether each can be read to its end.
//!
//! They are read without a lock, also beside a live dockerd. An empty file counts as one that was not written yet: dockerd takes it so.

use super::{
    Finding, Object, Severity,
    stores::{make, shell_word},
};
use crate::Stores;

/// Each database, what to move away when it is damaged, and what is lost with it.
const DATABASES: [(&str, &str, &str); 7] = [
    ("volumes/metadata.db", "volumes/metadata.db", "labels and options of volumes, not their files"),
    ("network/files/local-kv.db", "network/files/local-kv.db", "networks that users made"),
    ("buildkit/snapshots.db", "buildkit", "the build cache alone"),
    ("buildkit/metadata_v2.db", "buildkit", "the build cache alone"),
    ("buildkit/cache.db", "buildkit", "the build cache alone"),
    ("buildkit/containerdmeta.db", "buildkit", "the build cache alone"),
    ("buildkit/history.db", "buildkit", "the build cache alone"),
];

pub(super) fn check(stores: &Stores<'_>) -> Vec<Finding> {
    DATABASES.iter().filter_map(|(file, moved, lost)| one(stores, file, moved, lost)).collect()
}

fn one(stores: &Stores<'_>, file: &str, moved: &str, lost: &str) -> Option<Finding> {
    let path = stores.root.join(file);
    if path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == 0) {
        return None;
    }
    let reason = match strata_bolt::Database::open(&path) {
        Ok(database) => {
            let damage = database.damage();
            let rest = if damage.len() > 1 { format!("; and {} more", damage.len() - 1) } else { String::new() };
            format!("the database is damaged: {}{rest}", damage.first()?)
        }
        Err(error) if error.kind() == strata_spec::ErrorKind::NotFound => return None,
        // Whoever may not read it cannot tell.
        Err(error) if error.kind() == strata_spec::ErrorKind::PermissionDenied => return None,
        Err(strata_bolt::Error::Busy { .. }) => return None,
        Err(error) => error.to_string(),
    };
    let from = shell_word(&stores.root.join(moved));
    let remedy = format!("stop dockerd, then it begins a new one; what is lost is {lost}: mv {from} {from}.damaged");
    Some(make(stores, Severity::Error, Object::Database, &path, reason, &remedy))
}
