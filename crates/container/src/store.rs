//! Opening the store of containers; looking up, listing, locking.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use strata_durable::{Context, Journal, Lock, create_dir_all, lock::Mode};
use strata_graphdriver::{Access, Mounted};
use strata_layer::RwLayer;
use strata_spec::{ContainerId, Digest, ErrorKind};

use crate::{ContainerDir, Error, HostConfig, Layout, Record, names};

/// How long an operation waits for another one on the same container to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a store is opened with.
pub struct Config<'a> {
    /// The data root.
    pub root: &'a Path,
    /// The layer stores of the root's drivers, best first; at least one.
    pub layers: Vec<Arc<strata_layer::Store>>,
    /// If given, only containers of this driver are found, as dockerd finds no others.
    pub only: Option<String>,
    /// `strata/journal`.
    pub journal: Journal,
    /// `strata/locks`.
    pub locks: &'a Path,
    /// Where running containers have their bundles and state: on a tmpfs. See [`default_exec_root`].
    pub exec_root: PathBuf,
    /// With `ReadOnly` nothing on disk is touched, and states are shown as they are recorded.
    pub access: Access,
}

/// `/run/strata/<digits of the data root's digest>`: each data root has its own.
pub fn default_exec_root(root: &Path) -> PathBuf {
    let digest = Digest::sha256(root.as_os_str().as_encoded_bytes()).hex();
    Path::new("/run/strata").join(&digest[..12])
}

/// The containers of one data root.
///
/// `containers/` is shared by all drivers: each record names its own, and the layers of a container lie in that driver's layer store.
pub struct Store {
    pub(crate) layout: Layout,
    layers: Vec<Arc<strata_layer::Store>>,
    only: Option<String>,
    pub(crate) journal: Journal,
    pub(crate) locks: PathBuf,
    pub(crate) exec_root: PathBuf,
    pub(crate) access: Access,
}

/// A container, as its two files say.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    pub id: ContainerId,
    pub record: Record,
    pub host: HostConfig,
}

/// What tells containers apart, of a record.
#[derive(Deserialize)]
struct Brief {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Driver", default)]
    driver: String,
}

impl Brief {
    fn short_name(&self) -> &str {
        self.name.strip_prefix('/').unwrap_or(&self.name)
    }
}

/// A container whose files cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub id: ContainerId,
    pub path: PathBuf,
    pub reason: String,
}

/// All containers: the newest first, and apart from them what is damaged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    pub containers: Vec<Container>,
    pub damaged: Vec<Damage>,
}

impl Store {
    /// Opens the store; makes its folder when the root is writable. Costs the same however much it holds.
    pub fn open(config: Config<'_>) -> Result<Self, Error> {
        let layout = Layout::new(config.root);
        if config.access == Access::ReadWrite {
            // As Docker makes it: its group may pass through.
            create_dir_all(&layout.containers(), 0o710)?;
            create_dir_all(&layout.tmp(), 0o700)?;
        }
        Ok(Self {
            layout,
            layers: config.layers,
            only: config.only,
            journal: config.journal,
            locks: config.locks.to_owned(),
            exec_root: config.exec_root,
            access: config.access,
        })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The layer stores of the root's drivers, best first.
    pub fn layers(&self) -> &[Arc<strata_layer::Store>] {
        &self.layers
    }

    /// The layer store that has the container's layers: that of the driver which its record names.
    pub fn layers_of(&self, container: &Container) -> Result<&Arc<strata_layer::Store>, Error> {
        let driver = container.record.driver.as_str();
        let found = match driver {
            "" => self.layers.iter().find(|layers| layers.layout().mount(&container.id).exists()),
            driver => self.layers_under(driver),
        };
        found.ok_or_else(|| Error::NoStore { container: container.id.to_string(), driver: driver.to_owned() })
    }

    /// The layer store of `driver`.
    pub(crate) fn layers_under(&self, driver: &str) -> Option<&Arc<strata_layer::Store>> {
        self.layers.iter().find(|layers| layers.driver().name() == driver)
    }

    /// The layer stores whose drivers work here.
    pub(crate) fn usable_layers(&self) -> impl Iterator<Item = &Arc<strata_layer::Store>> {
        self.layers.iter().filter(|layers| layers.driver().usable().is_ok())
    }

    /// The IDs of the containers under `driver`, damaged or not, sorted. Reads every record.
    pub fn ids_under(&self, driver: &str) -> Result<Vec<ContainerId>, Error> {
        let mut ids = self.all_ids()?;
        ids.retain(|id| self.is_under(id, driver));
        Ok(ids)
    }

    /// The IDs of the containers of all drivers, damaged or not (one readdir), sorted.
    pub fn all_ids(&self) -> Result<Vec<ContainerId>, Error> {
        let dir = self.layout.containers();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.context("list", &dir)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.context("list", &dir)?.file_name();
            ids.extend(name.to_str().and_then(|name| name.parse::<ContainerId>().ok()));
        }
        ids.sort();
        Ok(ids)
    }

    /// Whether the container `id` is under `driver`: the one that its record names; without a name there, the one that has its layers.
    /// One whose layers are nowhere is under every driver, so that its damage is reported.
    pub fn is_under(&self, id: &ContainerId, driver: &str) -> bool {
        self.is_named_or_noted(id, self.brief(id).map(|brief| brief.driver).as_deref(), driver)
    }

    fn is_named_or_noted(&self, id: &ContainerId, named: Option<&str>, driver: &str) -> bool {
        if let Some(named) = named.filter(|name| !name.is_empty()) {
            return named == driver;
        }
        let mut noted = self.layers.iter().filter(|layers| layers.layout().mount(id).exists()).peekable();
        noted.peek().is_none() || noted.any(|layers| layers.driver().name() == driver)
    }

    /// Whether a container is to be found, by the driver that its record names.
    fn is_visible(&self, id: &ContainerId, named: Option<&str>) -> bool {
        self.only.as_deref().is_none_or(|only| self.is_named_or_noted(id, named, only))
    }

    fn is_found(&self, id: &ContainerId) -> bool {
        self.only.as_deref().is_none_or(|only| self.is_under(id, only))
    }

    /// Reads all containers, the newest first. A damaged one is reported with the reason, and does not keep the others from being read.
    pub fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for id in self.all_ids()? {
            match self.load(&id) {
                Ok(container) => listing.containers.push(container),
                Err(Error::Damaged { path, reason }) if self.is_found(&id) => {
                    listing.damaged.push(Damage { id, path, reason })
                }
                Err(Error::Damaged { .. }) => {}
                // Hidden, or removed while we were reading.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        listing.containers.sort_by_cached_key(|c| (std::cmp::Reverse(c.record.created_at()), c.id.clone()));
        Ok(listing)
    }

    /// Finds a container by full ID, by name with or without its slash, or by the beginning of its ID, in this order.
    pub fn get(&self, text: &str) -> Result<Container, Error> {
        self.load(&self.resolve(text)?)
    }

    /// Finds the ID that `text` names, of a damaged container too.
    pub fn resolve(&self, text: &str) -> Result<ContainerId, Error> {
        let not_found = || Error::NotFound(text.to_owned());
        if let Ok(id) = text.parse::<ContainerId>() {
            let there = self.layout.container(&id).path().is_dir() && self.is_found(&id);
            return if there { Ok(id) } else { Err(not_found()) };
        }
        let mut known = Vec::new();
        for id in self.all_ids()? {
            let brief = self.brief(&id);
            if self.is_visible(&id, brief.as_ref().map(|brief| brief.driver.as_str())) {
                known.push((id, brief));
            }
        }
        let known = known.iter().map(|(id, brief)| (id, brief.as_ref().map(Brief::short_name)));
        match names::find(text, known) {
            Ok(Some(id)) => Ok(id.clone()),
            Ok(None) => Err(not_found()),
            Err(_) => Err(Error::Ambiguous(text.to_owned())),
        }
    }

    /// Reads the container `id`, and settles its state if it is recorded as running and is not.
    pub fn load(&self, id: &ContainerId) -> Result<Container, Error> {
        let container = self.read(id)?;
        if !self.is_visible(id, Some(&container.record.driver)) {
            return Err(Error::NotFound(id.to_string()));
        }
        if container.record.state.running && self.access == Access::ReadWrite {
            return self.settle_running(container);
        }
        Ok(container)
    }

    /// Reads the records of the containers of all drivers, as they are; damaged ones are left out.
    pub fn records(&self) -> Result<Vec<Record>, Error> {
        let records = self.all_ids()?.into_iter().filter_map(|id| self.read(&id).ok());
        Ok(records.map(|container| container.record).collect())
    }

    /// Reads the container `id` as it is recorded.
    pub(crate) fn read(&self, id: &ContainerId) -> Result<Container, Error> {
        let dir = self.layout.container(id);
        let path = dir.record();
        let bytes = match strata_durable::read(&path) {
            Err(error) if error.is_not_found() && !dir.path().exists() => {
                return Err(Error::NotFound(id.to_string()));
            }
            Err(error) if error.is_not_found() => return Err(Error::damaged(&path, "the file is missing")),
            result => result?,
        };
        if bytes.is_empty() {
            return Err(Error::damaged(&path, "the file is empty, as after a power cut"));
        }
        let record = Record::parse(&bytes).map_err(|error| Error::damaged(&path, error.to_string()))?;
        if record.id != id.as_str() {
            return Err(Error::damaged(&path, format!("it is the record of container {}", record.id)));
        }
        Ok(Container { id: id.clone(), record, host: read_host(&dir)? })
    }

    /// The container's name, without its slash; `None` if its record cannot be read.
    pub fn name(&self, id: &ContainerId) -> Option<String> {
        self.brief(id).map(|brief| brief.short_name().to_owned())
    }

    /// Name and driver alone; `None` if the record cannot be read.
    fn brief(&self, id: &ContainerId) -> Option<Brief> {
        let bytes = fs::read(self.layout.container(id).record()).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The names that are taken, with who has them: of containers of all drivers, and of those just being created.
    pub(crate) fn names(&self) -> Result<Vec<(String, ContainerId)>, Error> {
        let mut names = Vec::new();
        // Those being created first: who is done in between is found as a container.
        for entry in self.journal.alive::<serde_json::Value>()? {
            names.extend(entry.notes.iter().filter_map(|note| match crate::Note::of(note) {
                crate::Note::Create { container, name, .. } => Some((name, container)),
                _ => None,
            }));
        }
        for id in self.all_ids()? {
            names.extend(self.name(&id).map(|name| (name, id)));
        }
        Ok(names)
    }

    /// Writes the record back. The replacement of the file is the commit point.
    pub(crate) fn save(&self, container: &Container) -> Result<(), Error> {
        let path = self.layout.container(&container.id).record();
        Ok(strata_durable::write(&path, &container.record.to_bytes(), 0o600)?)
    }

    /// As [`Self::save`], for what holds while the machine runs: after a power cut the record may be the one of before.
    pub(crate) fn save_for_now(&self, container: &Container) -> Result<(), Error> {
        let path = self.layout.container(&container.id).record();
        Ok(strata_durable::replace(&path, &container.record.to_bytes(), 0o600)?)
    }

    /// The container's read-write layer, with the store that has it.
    pub fn layer(&self, container: &Container) -> Result<(RwLayer, &Arc<strata_layer::Store>), Error> {
        let layers = self.layers_of(container)?;
        Ok((layers.mount(&container.id)?, layers))
    }

    /// Mounts the container's root, or shares the mount that is there.
    pub fn mount(&self, container: &Container, access: Access) -> Result<Mounted, Error> {
        let (layer, layers) = self.layer(container)?;
        Ok(layer.mount(layers, access)?)
    }

    /// Unmounts the container's root, whoever mounted it.
    pub(crate) fn unmount(&self, id: &ContainerId) -> Result<(), Error> {
        for layers in self.usable_layers() {
            if let Ok(layer) = layers.mount(id) {
                layers.driver().unmount(&layer.mount_id)?;
            }
        }
        Ok(())
    }

    /// Where the container's runtime bundle is.
    pub(crate) fn bundle(&self, id: &ContainerId) -> PathBuf {
        self.exec_root.join("bundles").join(id.as_str())
    }

    /// Where the runtime knows running containers.
    pub(crate) fn state_root(&self) -> PathBuf {
        self.exec_root.join("runtime")
    }

    fn lock_path(&self, id: &ContainerId, what: &str) -> PathBuf {
        self.locks.join(format!("container-{id}.{what}"))
    }

    /// The right to run or remove the container, if nobody has it.
    pub(crate) fn try_run_lock(&self, id: &ContainerId) -> Result<Option<Lock>, Error> {
        Ok(Lock::try_acquire(&self.lock_path(id, "run"), Mode::Exclusive)?)
    }

    /// As [`Self::try_run_lock`], waiting a while.
    pub(crate) fn run_lock(&self, id: &ContainerId) -> Result<Option<Lock>, Error> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let lock = self.try_run_lock(id)?;
            if lock.is_some() || start.elapsed() > PATIENCE {
                return Ok(lock);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Keeps the container's layers from being removed.
    pub fn use_lock(&self, id: &ContainerId) -> Result<Option<Lock>, Error> {
        match self.access {
            Access::ReadOnly => Ok(None),
            Access::ReadWrite => Ok(Some(Lock::acquire(&self.lock_path(id, "use"), Mode::Shared)?)),
        }
    }

    /// Waits until nobody uses the container's layers.
    pub(crate) fn removal_lock(&self, id: &ContainerId) -> Result<Lock, Error> {
        Ok(Lock::acquire(&self.lock_path(id, "use"), Mode::Exclusive)?)
    }

    /// The lock under which names are given.
    pub(crate) fn names_lock(&self) -> Result<Lock, Error> {
        Ok(Lock::acquire(&self.locks.join("containers"), Mode::Exclusive)?)
    }
}

impl Container {
    /// The name without its slash.
    pub fn name(&self) -> &str {
        self.record.short_name()
    }
}

/// Reads `hostconfig.json`; Docker takes a missing one for an empty one.
fn read_host(dir: &ContainerDir) -> Result<HostConfig, Error> {
    let path = dir.host_config();
    match strata_durable::read(&path) {
        Ok(bytes) => HostConfig::parse(&bytes).map_err(|error| Error::damaged(&path, error.to_string())),
        Err(error) if error.is_not_found() => Ok(HostConfig::default()),
        Err(error) => Err(error.into()),
    }
}
