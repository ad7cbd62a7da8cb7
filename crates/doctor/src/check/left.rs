//! What operations left that ended before their time: journal entries, temporary folders, mounts.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use strata_container::Record;
use strata_graphdriver::{
    Access, DRIVERS,
    names::{aufs, overlay2},
};
use strata_spec::CacheId;
use strata_sys::process::{LockMode, lock_holders, try_lock_file};

use super::{Finding, Object, Severity, remedy, stores::make};
use crate::{Stores, survey::read_record};

pub(super) fn check(stores: &Stores<'_>) -> Vec<Finding> {
    let mut findings = journal(stores);
    findings.extend(temporary(stores));
    findings.extend(mounts(stores));
    findings
}

/// What a live process works on is locked.
enum Held {
    Alive,
    Dead(File),
    Gone,
}

/// Whether a live process holds the lock on a file or folder.
fn held(path: &Path) -> Held {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path) else {
        return Held::Gone;
    };
    match try_lock_file(&file, LockMode::Shared) {
        Ok(false) => Held::Alive,
        // It may have ended, and its entry gone, since it was opened.
        _ if path.symlink_metadata().is_err() => Held::Gone,
        _ => Held::Dead(file),
    }
}

fn journal_entries(stores: &Stores<'_>) -> Vec<PathBuf> {
    let entries = fs::read_dir(stores.root.join("strata/journal"));
    entries.map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

/// The 64-digit names in the notes of operations that are alive: containers that are being made or removed.
pub(super) fn names_in_live_notes(stores: &Stores<'_>) -> HashSet<String> {
    let mut names = HashSet::new();
    for path in journal_entries(stores) {
        if let (Held::Alive, Ok(text)) = (held(&path), fs::read_to_string(&path)) {
            let words = text.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64);
            names.extend(words.map(str::to_owned));
        }
    }
    names
}

fn journal(stores: &Stores<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in journal_entries(stores) {
        let Held::Dead(file) = held(&path) else { continue };
        let notes = std::io::read_to_string(file).unwrap_or_default();
        let word =
            |line: &str| Some(serde_json::from_str::<serde_json::Value>(line).ok()?.get("op")?.as_str()?.to_owned());
        let did: Vec<String> = notes.lines().filter_map(word).take(4).collect();
        let did = if did.is_empty() { String::new() } else { format!(": {}", did.join(", ")) };
        let reason = format!("an operation ended before its time{did}");
        findings.push(make(stores, Severity::Warning, Object::Operation, &path, reason, remedy::SETTLED));
    }
    findings
}

/// Folders that were never finished, or not deleted to the end.
fn temporary(stores: &Stores<'_>) -> Vec<Finding> {
    let own = stores.root.join("strata/tmp");
    let images = stores.images.tmp().to_owned();
    let mut places = vec![stores.layers.layout().tmp(), stores.containers.layout().tmp(), images, own.clone()];
    places.extend(DRIVERS.iter().map(|driver| own.join(driver)));
    let mut findings = Vec::new();
    for place in &places {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let path = entry.path();
            if places.contains(&path) || matches!(held(&path), Held::Alive) || path.symlink_metadata().is_err() {
                continue;
            }
            let reason = "left half-made or half-deleted by an operation that ended before its time";
            findings.push(make(stores, Severity::Warning, Object::Stray, &path, reason, remedy::SETTLED));
        }
    }
    for entry in fs::read_dir(stores.root.join("strata/damaged")).into_iter().flatten().flatten() {
        let reason = "damaged, and set aside to make room for a sound one";
        findings.push(make(stores, Severity::Warning, Object::Stray, &entry.path(), reason, remedy::LEFT));
    }
    findings
}

/// Mounts of layers that no running container and no process needs.
fn mounts(stores: &Stores<'_>) -> Vec<Finding> {
    let (home, views) = (stores.layers.driver().home(), stores.root.join("strata/mnt"));
    let mut findings = Vec::new();
    for mount in strata_sys::mount::mounts_under(stores.root).unwrap_or_default() {
        let target = mount.target.as_path();
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<CacheId>().ok());
        let (folder, users) = if target.parent() == Some(&views) {
            let Some(id) = name(target).filter(|id| !is_of_another_driver(stores, id)) else { continue };
            (id.clone(), format!("view-{id}"))
        } else if target.file_name().is_some_and(|last| last == overlay2::MERGED) && target.starts_with(home) {
            let Some(id) = target.parent().and_then(name) else { continue };
            (id.clone(), id.to_string())
        } else if target.parent() == Some(&home.join(aufs::MNT)) {
            let Some(id) = name(target) else { continue };
            (id.clone(), id.to_string())
        } else {
            continue;
        };
        let driver = stores.layers.driver().name();
        let users = stores.root.join("strata/locks").join(format!("{driver}-{users}"));
        if is_used(&users) || is_running(stores, &folder) {
            continue;
        }
        let reason = format!("{} is mounted, and no running container and no command needs it", mount.fs_type);
        findings.push(make(stores, Severity::Warning, Object::Mount, target, reason, remedy::UNMOUNT));
    }
    findings
}

/// Whether a folder lies under another driver of the root.
fn is_of_another_driver(stores: &Stores<'_>, id: &CacheId) -> bool {
    let others = DRIVERS.iter().filter(|name| **name != stores.driver_name() && stores.root.join(name).is_dir());
    let mut drivers = others.filter_map(|name| strata_graphdriver::open(name, stores.root, Access::ReadOnly).ok());
    !stores.layers.driver().exists(id) && drivers.any(|driver| driver.exists(id))
}

/// Whether some process holds the lock that users of a mount hold.
fn is_used(users: &Path) -> bool {
    users.exists() && lock_holders(users).is_ok_and(|holders| !holders.is_empty())
}

/// Whether the container that a folder belongs to runs.
fn is_running(stores: &Stores<'_>, folder: &CacheId) -> bool {
    let mounts = stores.layers.list_mounts().unwrap_or_default();
    let of_folder = mounts.iter().find(|id| stores.layers.mount(id).is_ok_and(|mount| mount.mount_id == *folder));
    let record: Option<Record> = of_folder.and_then(|id| read_record(stores, id).ok());
    record.is_some_and(|record| record.state.running)
}
