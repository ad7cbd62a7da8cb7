//! Containers: their records, and that records and layers name each other.

use std::{collections::HashSet, fs};

use strata_container::Record;
use strata_spec::{CacheId, ContainerId};

use super::{
    Finding, Object, Severity, left, remedy,
    stores::{make, shell_word},
};
use crate::{
    Stores,
    survey::{read_host_config, read_record},
    value::Problem,
};

pub(super) fn check(stores: &Stores<'_>) -> Vec<Finding> {
    // Layers first: a container's are made before its record, and go after it.
    let mounts: HashSet<ContainerId> = stores.layers.list_mounts().unwrap_or_default().into_iter().collect();
    let busy = left::names_in_live_notes(stores);
    let dir = stores.containers.layout().containers();
    let mut findings = Vec::new();
    let ids = match stores.containers.ids_under(stores.driver_name()) {
        Ok(ids) => ids,
        Err(error) => {
            findings.push(make(stores, Severity::Error, Object::Stray, &dir, error.to_string(), remedy::RECORD));
            Vec::new()
        }
    };
    ids.iter().for_each(|id| one(stores, id, &mut findings));
    for id in without_mount(stores) {
        let path = stores.layers.layout().mount(&id);
        let reason = "the container's record in layerdb is missing: which folder is its read-write layer is not known";
        let remedy = mount_again(stores, &id);
        findings.push(make(stores, Severity::Error, Object::Container(id), &path, reason, &remedy));
    }
    findings.extend(nobodys(stores));
    let known: HashSet<&ContainerId> = ids.iter().collect();
    let alone = mounts.iter().filter(|id| !known.contains(id) && !busy.contains(id.as_str()) && !still(stores, id));
    for id in alone {
        let path = stores.layers.layout().mount(id);
        // One that is just being removed.
        if path.exists() {
            let reason = "a read-write layer, and no container that it belongs to";
            findings.push(make(
                stores,
                Severity::Warning,
                Object::Container(id.clone()),
                &path,
                reason,
                remedy::NO_RECORD,
            ));
        }
    }
    findings.extend(strays(stores, &dir));
    findings
}

/// The containers that have no record in layerdb, and are not being made or removed.
pub(super) fn without_mount(stores: &Stores<'_>) -> Vec<ContainerId> {
    let mut ids = stores.containers.ids_under(stores.driver_name()).unwrap_or_default();
    ids.retain(|id| !stores.layers.layout().mount(id).exists());
    if ids.is_empty() {
        return ids;
    }
    let busy = left::names_in_live_notes(stores);
    ids.retain(|id| !busy.contains(id.as_str()) && still(stores, id) && !stores.layers.layout().mount(id).exists());
    ids
}

/// How the record of a container in layerdb is written anew: its read-write layer is a folder that nothing names, over an init layer that
/// stands on the top layer of the container's image.
fn mount_again(stores: &Stores<'_>, id: &ContainerId) -> String {
    let driver = stores.layers.driver();
    let image = read_record(stores, id).ok().and_then(|record| stores.images.get(record.image_id()?).ok());
    let top = image.and_then(|config| strata_spec::chain_id(config.diff_ids()));
    let below = top.and_then(|top| stores.layers.get(top).ok()).map(|layer| layer.cache_id);
    let mounts: Vec<_> = stores.layers.list_mounts().unwrap_or_default();
    let taken: HashSet<CacheId> =
        mounts.iter().filter_map(|id| stores.layers.mount(id).ok()).map(|mount| mount.mount_id).collect();
    let folders = driver.list().unwrap_or_default();
    let is_candidate = |folder: &&CacheId| {
        let init = folder.init();
        let stands = || below.is_none() || driver.parent(&init).is_ok_and(|found| found == below);
        !folder.is_init() && !taken.contains(*folder) && driver.exists(&init) && stands()
    };
    let candidates: Vec<CacheId> = folders.iter().filter(is_candidate).cloned().collect();
    match (candidates.as_slice(), top) {
        ([], _) => remedy::NO_MOUNT.to_owned(),
        ([only], Some(top)) if without_mount(stores).len() == 1 => {
            let dir = shell_word(&stores.layers.layout().mount(id));
            format!(
                "no content is lost: mkdir -p {dir} && printf %s {only} > {dir}/mount-id && printf %s {} > {dir}/init-id && printf %s {top} > \
                 {dir}/parent",
                only.init()
            )
        }
        (several, _) => remedy::of_candidates(several),
    }
}

/// Whether the container's folder is there now.
fn still(stores: &Stores<'_>, id: &ContainerId) -> bool {
    stores.containers.layout().container(id).path().is_dir()
}

fn one(stores: &Stores<'_>, id: &ContainerId, findings: &mut Vec<Finding>) {
    let mut found = |severity, problem: Problem, remedy: &str| {
        let object = Object::Container(id.clone());
        let Problem { path, reason } = problem;
        findings.push(Finding { severity, object, path, reason, remedy: remedy.to_owned(), affects: Vec::new() });
    };
    let dir = stores.containers.layout().container(id);
    match read_record(stores, id) {
        Ok(record) => {
            let path = stores.show(&dir.record());
            record_of(stores, &record).into_iter().for_each(|(severity, reason, remedy)| {
                found(severity, Problem { path: path.clone(), reason }, remedy);
            });
        }
        // It went meanwhile.
        Err(_) if !dir.path().is_dir() => return,
        Err(problem) => found(Severity::Error, problem, remedy::RECORD),
    }
    // Docker takes a missing one for an empty one.
    if dir.host_config().exists()
        && let Err(problem) = read_host_config(stores, id)
    {
        found(Severity::Error, problem, remedy::HOST_CONFIG);
    }
}

/// What a record says that is not so.
fn record_of(stores: &Stores<'_>, record: &Record) -> Vec<(Severity, String, &'static str)> {
    let mut found = Vec::new();
    match record.image_id() {
        // A container made of nothing has none.
        None if record.image.is_empty() => {}
        None => {
            let reason = format!("its image {} is no image ID", crate::value::quote(&record.image));
            found.push((Severity::Error, reason, remedy::RECORD));
        }
        Some(image) if !stores.images.contains(image) => {
            let reason = format!("its image {image} is not in the store");
            found.push((Severity::Warning, reason, remedy::NO_IMAGE));
        }
        Some(_) => {}
    }
    let pid = u32::try_from(record.state.pid).unwrap_or(0);
    if record.state.running && !strata_sys::process::is_alive(pid) {
        let reason = format!("it is recorded as running with PID {}, and there is no such process", record.state.pid);
        found.push((Severity::Warning, reason, remedy::NOT_RUNNING));
    }
    found
}

/// Containers of a driver that the root has no store of: no driver shows them.
fn nobodys(stores: &Stores<'_>) -> Vec<Finding> {
    let ids = stores.containers.all_ids().unwrap_or_default();
    let finding = |id: ContainerId| {
        let record = read_record(stores, &id).ok()?;
        if record.driver.is_empty() || strata_image::Layout::new(stores.root, &record.driver).root().is_dir() {
            return None;
        }
        let reason = format!("it was made with the storage driver {}, which has nothing here", record.driver);
        let path = stores.containers.layout().container(&id).record();
        Some(make(stores, Severity::Warning, Object::Container(id), &path, reason, remedy::NO_IMAGE))
    };
    ids.into_iter().filter_map(finding).collect()
}

/// What lies in `containers` and is none.
fn strays(stores: &Stores<'_>, dir: &std::path::Path) -> Vec<Finding> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    let strays = names.filter(|name| name.to_str().is_none_or(|name| name.parse::<ContainerId>().is_err()));
    let reason = "is no container: its name is no ID";
    strays.map(|name| make(stores, Severity::Warning, Object::Stray, &dir.join(name), reason, remedy::LEFT)).collect()
}
