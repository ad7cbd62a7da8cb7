//! Whether what lies on disk is what was written.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    path::{Path, PathBuf},
};

use strata_archive::split::Check;
use strata_graphdriver::Fault;
use strata_spec::{CacheId, ChainId, ContainerId};

use crate::{Error, Layer, Store};

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The stores' own files.
    Metadata,
    /// Every layer's tar is rebuilt from its files and compared with its DiffID.
    Contents,
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    Layer(ChainId),
    Mount(ContainerId),
    /// A folder of the driver that nothing names.
    Folder(CacheId),
    /// Something else in the driver's home or in layerdb.
    Stray,
}

/// One thing that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub object: Object,
    pub path: PathBuf,
    pub reason: String,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(id) => write!(f, "layer {id}"),
            Self::Mount(id) => write!(f, "container {id}"),
            Self::Folder(id) => write!(f, "folder {id}"),
            Self::Stray => f.write_str("stray"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.path.display(), self.reason)
    }
}

impl Store {
    /// Checks everything: layers, containers' layers, the driver's files, and what nothing names. One damaged thing hides no other.
    ///
    /// May run beside other operations: what they are working on is passed over.
    pub fn verify(&self, depth: Depth) -> Vec<Finding> {
        // In this order: a folder is noted in the journal before it is made, and named by a layer before its note goes.
        let folders = self.driver.list();
        let alive = self.alive(&[]);
        let mut findings = Vec::new();
        let mut known = HashSet::new();
        match self.list() {
            Ok(layers) => layers.into_iter().for_each(|id| {
                known.extend(self.layout.read_cache_id(id).ok());
                findings.extend(self.verify_layer(id, depth));
            }),
            Err(error) => findings.push(finding(Object::Stray, &self.layout.layers(), error)),
        }
        match self.list_mounts() {
            Ok(mounts) => mounts.into_iter().for_each(|id| {
                if let Ok(mount) = self.mount(&id) {
                    known.extend(mount.init_id);
                    known.insert(mount.mount_id);
                }
                findings.extend(self.verify_mount(&id));
            }),
            Err(error) => findings.push(finding(Object::Stray, &self.layout.mounts(), error)),
        }
        match (folders, alive) {
            (Ok(folders), Ok(alive)) => {
                known.extend(alive.folders);
                known.extend(self.build_cache().folders.into_keys());
                findings.extend(self.orphans(&folders, known));
            }
            (Err(error), _) => findings.push(finding(Object::Stray, self.driver.home(), error.into())),
            (_, Err(error)) => findings.push(finding(Object::Stray, &self.layout.root, error)),
        }
        findings.extend(self.strays());
        findings
    }

    /// Checks one layer: its record, its parent, its folder and, if asked, every byte of it.
    pub fn verify_layer(&self, id: ChainId, depth: Depth) -> Vec<Finding> {
        let object = Object::Layer(id);
        let layer = match self.get(id) {
            // It went meanwhile.
            Err(Error::NotFound(_)) => return Vec::new(),
            Err(error) => return vec![finding(object, &self.layout.layer(id), error)],
            Ok(layer) => layer,
        };
        let mut findings = Vec::new();
        match layer.parent.map(|parent| self.get(parent)).transpose() {
            Ok(parent) => {
                let below = parent.map(|parent| parent.cache_id);
                let faults = self.driver.check(&layer.cache_id, below.as_ref());
                findings.extend(faults.into_iter().map(|fault| of_fault(object.clone(), fault)));
            }
            Err(Error::NotFound(parent)) => findings.push(Finding {
                object: object.clone(),
                path: self.layout.layer(id).join("parent"),
                reason: format!("the layer {parent} that it names is not in the store"),
            }),
            // The parent's own damage is found at the parent.
            Err(_) => {}
        }
        match (self.check_tar_split(id), depth) {
            (Err(error), _) => findings.push(finding(object, &self.layout.tar_split(id), error)),
            (Ok(()), Depth::Contents) => findings.extend(self.verify_contents(&layer)),
            (Ok(()), Depth::Metadata) => {}
        }
        match self.layout.layer(id).exists() {
            true => findings,
            false => Vec::new(),
        }
    }

    fn verify_contents(&self, layer: &Layer) -> Option<Finding> {
        let object = Object::Layer(layer.chain_id);
        match self.assemble(layer, io::sink(), Check::Digest) {
            Ok(Some(found)) if found != layer.diff_id => Some(Finding {
                object,
                path: self.layout.tar_split(layer.chain_id),
                reason: format!("rebuilds the layer {found}, not {}", layer.diff_id),
            }),
            Ok(_) => None,
            Err(error) => {
                let folder = self.driver.folder(&layer.cache_id).map(|folder| folder.path);
                Some(finding(object, &folder.unwrap_or_else(|_| self.layout.tar_split(layer.chain_id)), error))
            }
        }
    }

    /// Checks one container's layers: the record, and that each folder stands on the next.
    pub fn verify_mount(&self, container: &ContainerId) -> Vec<Finding> {
        let object = Object::Mount(container.clone());
        let dir = self.layout.mount(container);
        let mount = match self.mount(container) {
            Err(Error::MountNotFound(_)) => return Vec::new(),
            Err(error) => return vec![finding(object, &dir, error)],
            Ok(mount) => mount,
        };
        let below = match mount.parent.map(|id| self.get(id)).transpose() {
            Ok(layer) => layer.map(|layer| layer.cache_id),
            Err(Error::NotFound(id)) => {
                let reason = format!("the layer {id} that it names is not in the store");
                return vec![Finding { object, path: dir.join("parent"), reason }];
            }
            // Found at the layer.
            Err(_) => return Vec::new(),
        };
        let mut faults = Vec::new();
        if let Some(init_id) = &mount.init_id {
            faults.extend(self.driver.check(init_id, below.as_ref()));
        }
        faults.extend(self.driver.check(&mount.mount_id, mount.init_id.as_ref().or(below.as_ref())));
        // A container that was removed meanwhile has no faults.
        match dir.exists() {
            true => faults.into_iter().map(|fault| of_fault(object.clone(), fault)).collect(),
            false => Vec::new(),
        }
    }

    /// Driver folders that no layer, container or live operation names, and that none of those stands on.
    fn orphans(&self, folders: &[CacheId], known: HashSet<CacheId>) -> Vec<Finding> {
        let below: HashMap<&CacheId, CacheId> =
            folders.iter().filter_map(|id| Some((id, self.driver.parent(id).ok()??))).collect();
        let mut reached = HashSet::new();
        for id in &known {
            let mut next = Some(id);
            while let Some(id) = next.filter(|id| reached.insert(*id)) {
                next = below.get(id);
            }
        }
        let orphans = folders.iter().filter(|id| !reached.contains(id) && self.driver.exists(id));
        let finding = |id: &CacheId| Finding {
            object: Object::Folder(id.clone()),
            path: self.driver.place(id),
            reason: "no layer and no container names this folder".into(),
        };
        orphans.map(finding).collect()
    }

    /// What else lies where it does not belong.
    fn strays(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = match self.driver.strays() {
            Ok(faults) => faults.into_iter().map(|fault| of_fault(Object::Stray, fault)).collect(),
            Err(error) => vec![finding(Object::Stray, self.driver.home(), error.into())],
        };
        let layers = self.layout.layers();
        if let Ok(entries) = std::fs::read_dir(&layers) {
            let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
            findings.extend(names.filter(|name| name.ends_with("-removing")).map(|name| Finding {
                object: Object::Stray,
                path: layers.join(name),
                reason: "a layer that Docker was removing when it stopped".into(),
            }));
        }
        findings
    }
}

fn of_fault(object: Object, fault: Fault) -> Finding {
    Finding { object, path: fault.path, reason: fault.reason }
}

/// An error as a finding, at the error's own path if it has one.
fn finding(object: Object, path: &Path, error: Error) -> Finding {
    match error {
        Error::Damaged { path, reason } | Error::Driver(strata_graphdriver::Error::Damaged { path, reason }) => {
            Finding { object, path, reason }
        }
        Error::Io(error) | Error::Driver(strata_graphdriver::Error::Io(error)) => {
            Finding { object, reason: format!("cannot {}: {}", error.action, error.source), path: error.path }
        }
        error => Finding { object, path: path.to_owned(), reason: error.to_string() },
    }
}
