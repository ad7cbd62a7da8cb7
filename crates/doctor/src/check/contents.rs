//! Each layer's files against what was unpacked, file by file, on all cores.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsStr,
    fs::File,
    io::BufReader,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use strata_archive::split;
use strata_layer::Layer;
use strata_spec::{ChainId, ErrorKind};

use super::{Finding, Object, Severity, entries, remedy, stores::make};
use crate::Stores;

/// Checks the files of `layers`; those whose record is among `known` damage are passed over.
pub(super) fn check(stores: &Stores<'_>, layers: &[ChainId], known: &[Finding]) -> Vec<Finding> {
    let damaged: HashSet<ChainId> = known
        .iter()
        .filter_map(|finding| match finding.object {
            Object::Layer(id) => Some(id),
            _ => None,
        })
        .collect();
    let layers: Vec<Layer> =
        layers.iter().filter(|id| !damaged.contains(id)).filter_map(|id| stores.layers.get(*id).ok()).collect();
    layers.par_iter().flat_map_iter(|layer| one(stores, layer)).collect()
}

fn one(stores: &Stores<'_>, layer: &Layer) -> Vec<Finding> {
    let path = stores.layers.layout().tar_split(layer.chain_id);
    let Ok(folder) = stores.layers.driver().folder(&layer.cache_id) else { return Vec::new() };
    let Ok(tree) = stores.layers.driver().tree(&layer.cache_id) else { return Vec::new() };
    let found = |path: &Path, reason: String| {
        make(stores, Severity::Error, Object::Layer(layer.chain_id), path, reason, remedy::CONTENTS)
    };
    let verified = File::open(&path)
        .map_err(|error| error.to_string())
        .and_then(|file| split::verify(BufReader::new(file), &tree).map_err(|error| error.to_string()));
    let verified = match verified {
        Ok(verified) => verified,
        Err(reason) => return vec![found(&path, reason)],
    };
    // It went meanwhile.
    if stores.layers.get(layer.chain_id).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Vec::new();
    }
    if verified.damaged.is_empty() && verified.diff_id != Some(layer.diff_id) {
        let made = verified.diff_id.map_or_else(|| "nothing".to_owned(), |diff| diff.to_string());
        return vec![found(&path, format!("makes the layer {made}, not {}", layer.diff_id))];
    }
    let mut differ: BTreeMap<PathBuf, String> = BTreeMap::new();
    if let Ok(record) = File::open(&path) {
        let compared = entries::compare(BufReader::new(record), &folder.path, folder.marks, remapped(stores.root));
        differ.extend(compared.unwrap_or_default());
    }
    for damage in verified.damaged {
        let parts = damage.name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"." | b".."));
        differ.insert(parts.map(OsStr::from_bytes).collect(), damage.reason);
    }
    differ.into_iter().map(|(name, reason)| found(&folder.path.join(name), reason)).collect()
}

/// What a daemon that remaps users adds to their IDs: it keeps its root in a folder `<user>.<group>`.
fn remapped(root: &Path) -> (u32, u32) {
    let ids = || {
        let (user, group) = root.file_name()?.to_str()?.split_once('.')?;
        Some((user.parse().ok()?, group.parse().ok()?))
    };
    ids().unwrap_or_default()
}
