//! From an image and what the user asks for to a container.

use std::path::Path;

use strata_durable::{Context, Deferred, Intent, NewDir, sync_filesystems};
use strata_graphdriver::Access;
use strata_spec::{ContainerId, ImageConfig, ImageId, Platform, chain_id, quantity::ram_bytes};
use strata_sys::tree::Dir;

use crate::{
    Container, ContainerDir, Error, HostConfig, Note, Record, Store, in_root, init_layer, mounts::anonymous_volume,
    names, plan, volumes,
};

/// What `create` and `run` are asked for. Empty is what `docker create IMAGE` asks for, but for the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Without a slash; made up where there is none.
    pub name: Option<String>,
    /// The image by the name that the user gave it.
    pub image: String,
    pub tty: bool,
    /// Standard input stays open.
    pub interactive: bool,
    /// Not attached to output either: for detached containers.
    pub detached: bool,
    /// Instead of the image's; an empty one takes the image's away.
    pub entrypoint: Option<String>,
    /// Instead of the image's.
    pub cmd: Vec<String>,
    /// `NAME=value`, those of files first; a `NAME` alone takes the image's variable away. See [`crate::env`].
    pub env: Vec<String>,
    pub working_dir: Option<String>,
    pub user: Option<String>,
    /// As `-v` takes them. See [`crate::mounts`].
    pub volumes: Vec<String>,
    /// As `--tmpfs` takes them.
    pub tmpfs: Vec<String>,
    pub read_only: bool,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// `none` or `host`; without it `none`.
    pub network: Option<String>,
    /// `name=value`, or a name alone.
    pub labels: Vec<String>,
    /// A runtime by name or path; without it the built-in one.
    pub runtime: Option<String>,
    pub auto_remove: bool,
    pub stop_signal: Option<String>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    /// What the image must be for; without it, this machine.
    pub platform: Option<Platform>,
    /// `size=…`, where the storage driver can limit a container.
    pub storage_opt: Vec<String>,
}

/// The image that a container is made of.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// The storage driver that has the image's layers, and is to have the container's.
    pub driver: &'a str,
    pub id: ImageId,
    pub config: &'a ImageConfig,
}

/// A new container, and what the user should know about it.
#[derive(Clone, Debug)]
pub struct Created {
    pub container: Container,
    pub warnings: Vec<String>,
}

/// How often a name is made up before the ID stands in.
const NAME_ATTEMPTS: u32 = 6;

impl Store {
    /// Creates a container of `image`, whose layers the caller holds.
    ///
    /// The appearance of its folder is the commit point: after a crash there is a whole container, or the journal says what of
    /// it must go.
    pub fn create(&self, image: Base<'_>, request: &Request) -> Result<Created, Error> {
        let (created, intent, _) = self.begin(image, request, false)?;
        end(intent, &created.container);
        Ok(created)
    }

    /// As [`Self::create`]; the operation is still in the journal, where others find it. With `passing` the container goes if
    /// the operation dies, so nothing of it needs to be on disk: the syncs are owed, to be paid before the operation ends.
    /// Otherwise all of it is on disk when this returns.
    pub(crate) fn begin(
        &self,
        image: Base<'_>,
        request: &Request,
        passing: bool,
    ) -> Result<(Created, Intent, Deferred), Error> {
        let random = strata_sys::process::random().context("get random bytes for", "a container's ID")?;
        let id = ContainerId::from_random(random);
        let (mut container, warnings) = plan::container(&id, image.id, image.config, request, image.driver)?;
        let layers = self.layers_of(&container)?;
        let (name, mut intent) = self.reserve_name(&id, request.name.as_deref(), passing)?;
        container.record.name = format!("/{name}");
        container.record.network_settings.is_anonymous_endpoint = request.name.is_none();

        let mut syncs = Deferred::when(true);
        let made =
            self.make(layers, &mut container, image.config, &mut intent, &mut syncs).and_then(|folder| match passing {
                true => syncs.during(|| self.name_folder(&container, folder)),
                false => {
                    self.put_on_disk(layers)?;
                    syncs = Deferred::default();
                    self.name_folder(&container, folder)
                }
            });
        if let Err(error) = made {
            // If that fails too, the intent stays, and whoever settles the journal tries again.
            if syncs.during(|| self.undo(&container)).is_ok() && syncs.finish().is_ok() {
                end(intent, &container);
            }
            return Err(error);
        }
        tracing::info!(container = %id, name, image = %image.id, "container created");
        Ok((Created { container, warnings }, intent, syncs))
    }

    /// Takes a name that nobody has, among processes too: the journal holds it until the container's record does.
    fn reserve_name(&self, id: &ContainerId, asked: Option<&str>, passing: bool) -> Result<(String, Intent), Error> {
        let asked = asked.map(|name| name.strip_prefix('/').unwrap_or(name));
        if let Some(name) = asked.filter(|name| !names::is_valid(name)) {
            return Err(Error::InvalidName(name.to_owned()));
        }
        let _lock = self.names_lock()?;
        let taken = self.names()?;
        let holder = |name: &str| taken.iter().find(|(found, _)| found == name);
        let name = match asked {
            Some(name) => match holder(name) {
                Some((_, holder)) => {
                    return Err(Error::NameInUse { name: name.to_owned(), holder: holder.to_string() });
                }
                None => name.to_owned(),
            },
            None => {
                let mut free = None;
                for attempt in 0..NAME_ATTEMPTS {
                    let random = strata_sys::process::random().context("get random bytes for", "a name")?;
                    free = Some(names::random(random, attempt)).filter(|name| holder(name).is_none());
                    if free.is_some() {
                        break;
                    }
                }
                free.unwrap_or_else(|| id.short().to_owned())
            }
        };
        let intent = self.journal.begin(&Note::Create { container: id.clone(), name: name.clone(), passing })?;
        Ok((name, intent))
    }

    /// Makes the container's layers, its volumes, and last its folder, without its name.
    fn make(
        &self,
        layers: &strata_layer::Store,
        container: &mut Container,
        image: &ImageConfig,
        intent: &mut Intent,
        syncs: &mut Deferred,
    ) -> Result<NewDir, Error> {
        let (id, parent) = (&container.id, chain_id(image.diff_ids()));
        let layer = syncs.during(|| layers.create_mount(id, parent, init_layer::fill))?;
        if let Some(bytes) = container.host.storage_opt.get("size").and_then(|text| ram_bytes(text)) {
            layer.limit(layers, bytes)?;
        }
        // Volumes are on disk, and noted before, as ever: their names are not the container's.
        self.prepare_root(container, intent)?;
        syncs.during(|| self.new_folder(container))
    }

    /// Puts all that [`Self::make`] made on disk at once: what it is made of lies under three folders, as a rule of one filesystem.
    fn put_on_disk(&self, layers: &strata_layer::Store) -> Result<(), Error> {
        let (folders, records) = (layers.driver().home(), layers.layout().mounts());
        Ok(sync_filesystems(&[folders, &records, &self.layout.tmp()])?)
    }

    fn name_folder(&self, container: &Container, folder: NewDir) -> Result<(), Error> {
        Ok(folder.publish(self.layout.container(&container.id).path())?)
    }

    fn new_folder(&self, container: &Container) -> Result<NewDir, Error> {
        let mut folder = NewDir::begin(&self.layout.tmp(), 0o710)?;
        let names = ContainerDir::at("");
        let name = |path: &Path| path.to_str().expect("our own names are text").to_owned();
        folder.write(&name(&names.record()), &container.record.to_bytes(), 0o600)?;
        folder.write(&name(&names.host_config()), &container.host.to_bytes(), 0o644)?;
        folder.create_dir(&name(&names.checkpoints()), 0o700)?;
        Ok(folder)
    }

    /// Makes the working directory, and the volumes that the image or the user wants, with what the image has there.
    fn prepare_root(&self, container: &mut Container, intent: &mut Intent) -> Result<(), Error> {
        let covered = |destination: &str| {
            container.record.mount_points.contains_key(destination)
                || container.host.tmpfs.keys().any(|path| crate::mounts::clean(path) == destination)
        };
        let declared = container.record.config.volumes.iter().flat_map(|volumes| volumes.keys());
        let wanted: Vec<String> =
            declared.map(|path| crate::mounts::clean(&format!("/{path}"))).filter(|path| !covered(path)).collect();
        let working_dir = container.record.config.working_dir.clone();
        if wanted.is_empty() && matches!(working_dir.as_str(), "" | "/") {
            return Ok(());
        }
        let mounted = self.mount(container, Access::ReadWrite)?;
        let root = Dir::open(mounted.path()).context("open", mounted.path())?;
        make_working_dir(&root, &working_dir)?;
        for destination in wanted {
            if destination == "/" {
                return Err(Error::invalid("invalid specification: destination can't be '/'"));
            }
            let random = strata_sys::process::random().context("get random bytes for", "a volume's name")?;
            let name = ContainerId::from_random(random).to_string();
            intent.note(&Note::Volume { name: name.clone() })?;
            volumes::make(&self.layout, &name, &root, &destination)?;
            container.record.mount_points.insert(destination.clone(), anonymous_volume(&name, &destination));
        }
        Ok(())
    }

    /// Removes what [`Self::make`] had made.
    fn undo(&self, container: &Container) -> Result<(), Error> {
        self.layers_of(container)?.remove_mount(&container.id)?;
        for point in container.record.mount_points.values().filter(|point| point.is_anonymous_volume()) {
            self.remove_volume(&point.name)?;
        }
        Ok(())
    }
}

/// Ends an operation on `container` that is done.
///
/// Should a power cut bring its entry back, there is nothing left to settle, so that this need not be on disk. But volumes may outlive
/// their container, and an entry that made some must not.
pub(crate) fn end(intent: Intent, container: &Container) {
    let has_volumes = container.record.mount_points.values().any(|point| point.is_anonymous_volume());
    if let Err(error) = Deferred::when(!has_volumes).during(|| intent.done()) {
        tracing::warn!(%error, "a finished operation stays in the journal until it is settled");
    }
}

/// Makes the directory that the command starts in, as Docker does, at creation and at each start.
pub(crate) fn make_working_dir(root: &Dir, path: &str) -> Result<(), Error> {
    if matches!(path, "" | "/") {
        return Ok(());
    }
    match in_root::make_dirs(root, Path::new(path), 0o755) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(Error::invalid(format!("Cannot mkdir: {path} is not a directory")))
        }
        Err(error) => Ok(Err(error).context("make the working directory", path)?),
    }
}

/// What is checked of a host config that another engine wrote, before a container is started with it.
pub(crate) fn unsupported(host: &HostConfig) -> Option<String> {
    let is_set = |value: &serde_json::Value| match value {
        serde_json::Value::Null => false,
        serde_json::Value::Array(list) => !list.is_empty(),
        serde_json::Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    let asks = [
        (host.privileged, "privileges of the host"),
        (is_set(&host.port_bindings), "published ports"),
        (is_set(&host.devices), "devices"),
        (is_set(&host.device_requests), "GPUs"),
        (is_set(&host.ulimits), "ulimits"),
        (!host.sysctls.is_empty(), "sysctls"),
        (host.memory != 0 || host.nano_cpus != 0 || host.cpu_quota != 0 || host.cpu_shares != 0, "resource limits"),
        (host.pids_limit.is_some_and(|limit| limit > 0), "a limit of processes"),
        (!matches!(host.pid_mode.as_str(), ""), "a PID namespace of another container or the host"),
        (
            !matches!(host.ipc_mode.as_str(), "" | "private" | "shareable"),
            "an IPC namespace of another container or the host",
        ),
        (!host.uts_mode.is_empty(), "the UTS namespace of the host"),
        (!host.userns_mode.is_empty(), "another user namespace"),
        (host.init == Some(true), "an init process"),
        (is_set(&host.volumes_from), "volumes of another container"),
    ];
    asks.iter().find(|(asked, _)| *asked).map(|(_, what)| (*what).to_owned())
}

/// An empty record and host config for one that is to be filled by [`plan`].
pub(crate) fn blank(id: &ContainerId, image: ImageId, driver: &str) -> Container {
    Container { id: id.clone(), record: Record::new(id, image, driver), host: HostConfig::docker_default() }
}
