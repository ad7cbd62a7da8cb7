//! `info` and `version`: what this root, this kernel and this filesystem can do.

use serde::Serialize;
use strata_graphdriver::{
    DRIVERS,
    choose::{Look, candidates},
};

use crate::{DriverStores, Error, Purpose, Root, containerd, data_root};

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `info` tells; field names are Docker's where Docker has them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    pub containers: usize,
    pub containers_running: usize,
    pub containers_paused: usize,
    pub containers_stopped: usize,
    pub images: usize,
    pub driver: String,
    /// Name and value, in Docker's order.
    pub driver_status: Vec<(String, String)>,
    /// Kernel features that the driver needs or uses: ours, not Docker's.
    pub features: Vec<Feature>,
    /// Every storage driver of this build, best first: whether it works on the root's filesystem, and why or why not.
    pub storage_drivers: Vec<Feature>,
    /// All drivers in use on the root, best first; those too that this build cannot open.
    pub drivers_on_root: Vec<DriverContent>,
    pub default_runtime: String,
    pub runtimes: Vec<String>,
    pub kernel_version: String,
    pub operating_system: String,
    #[serde(rename = "OSType")]
    pub os_type: String,
    pub architecture: String,
    #[serde(rename = "NCPU")]
    pub cpus: usize,
    pub mem_total: u64,
    pub name: String,
    pub docker_root_dir: String,
    pub server_version: String,
    /// The live dockerd on this root, if there is one.
    pub daemon: Option<String>,
    pub warnings: Vec<String>,
}

/// What the root holds under one driver.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DriverContent {
    pub driver: String,
    pub images: usize,
    pub containers: usize,
    /// Why it cannot be opened, if so: then its records alone can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
}

/// One kernel feature.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Feature {
    pub name: String,
    pub works: bool,
    /// What was seen, and what follows.
    pub detail: String,
}

impl Root {
    /// Gathers what there is to tell about the root and the machine: counts of all drivers, and the rest of that of [`Root::main`].
    pub fn info(&self) -> Result<Info, Error> {
        let mut info = self.info_without_counts()?;
        for stores in self.stores() {
            info.count(self, stores);
        }
        let rank = |content: &DriverContent| DRIVERS.iter().position(|name| *name == content.driver);
        info.drivers_on_root.sort_by_key(|content| (rank(content).unwrap_or(usize::MAX), content.driver.clone()));
        if let Err(error) = self.for_new() {
            info.warnings.push(error.to_string());
        }
        Ok(info)
    }

    /// Whether the root can be changed by this process.
    pub fn is_writable(&self) -> bool {
        self.data().purpose() == Purpose::Write
    }

    fn counts(&self, stores: &DriverStores) -> Result<Counts, Error> {
        let users = self.users_of(stores)?;
        let listing = stores.images().images()?;
        let damaged = listing.damaged.iter().map(|d| format!("image {} is damaged: {}", d.id.short(), d.reason));
        Ok(Counts {
            containers: users.len(),
            running: users.iter().filter(|user| user.running).count(),
            images: listing.images.len(),
            damaged: damaged.collect(),
        })
    }

    fn info_without_counts(&self) -> Result<Info, Error> {
        let driver = self.main().layers().driver();
        // Trying out a driver makes directories, and none may be made in a root of containerd's store.
        let is_foreign = containerd::sign(self.path())?.is_some();
        let probes = if is_foreign { Vec::new() } else { driver.probe() };
        let features = probes
            .into_iter()
            .map(|probe| Feature { name: probe.name.to_owned(), works: probe.works, detail: probe.why })
            .collect();
        let look = if is_foreign { Look::Glance } else { Look::Try };
        let storage_drivers = candidates(self.path(), &self.data().tmp(), look).into_iter();
        let daemon = data_root::live_daemon(self.path())?;
        let warnings = daemon
            .iter()
            .map(|holder| format!("a live dockerd ({holder}) is on this root: it can be read, not changed"));
        Ok(Info {
            containers: 0,
            containers_running: 0,
            containers_paused: 0,
            containers_stopped: 0,
            images: 0,
            driver: driver.name().to_owned(),
            driver_status: driver.status(),
            features,
            storage_drivers: storage_drivers
                .map(|one| Feature { name: one.name.to_owned(), works: one.works, detail: one.why })
                .collect(),
            drivers_on_root: Vec::new(),
            default_runtime: "builtin".to_owned(),
            runtimes: runtimes(),
            kernel_version: strata_sys::process::kernel_release(),
            operating_system: operating_system(),
            os_type: "linux".to_owned(),
            architecture: strata_sys::process::machine(),
            cpus: strata_sys::process::cpus(),
            mem_total: strata_sys::process::total_memory(),
            name: strata_sys::process::hostname(),
            docker_root_dir: self.path().display().to_string(),
            server_version: VERSION.to_owned(),
            warnings: warnings.collect(),
            daemon,
        })
    }
}

/// What a driver has.
struct Counts {
    containers: usize,
    running: usize,
    images: usize,
    /// A warning for each damaged image.
    damaged: Vec<String>,
}

impl Info {
    /// Adds what lies under the driver of `stores`, or says why that cannot be read.
    fn count(&mut self, root: &Root, stores: &DriverStores) {
        let driver = stores.driver().to_owned();
        let counts = match root.counts(stores) {
            Ok(counts) => counts,
            Err(error) => {
                self.warnings.push(format!("what lies under the storage driver {driver} is not counted: {error}"));
                let closed = Some(error.to_string());
                return self.drivers_on_root.push(DriverContent { driver, images: 0, containers: 0, closed });
            }
        };
        self.containers += counts.containers;
        self.containers_running += counts.running;
        self.containers_stopped += counts.containers - counts.running;
        self.images += counts.images;
        self.warnings.extend(counts.damaged.iter().cloned());
        let closed = stores.usable().err().map(|error| error.to_string());
        if counts.images + counts.damaged.len() + counts.containers > 0 || closed.is_some() {
            let (images, containers) = (counts.images, counts.containers);
            self.drivers_on_root.push(DriverContent { driver, images, containers, closed });
        }
    }
}

/// The built-in runtime, and the programs on the path that `--runtime` can name.
fn runtimes() -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    std::iter::once("builtin").chain(["runc", "crun"].into_iter().filter(there)).map(str::to_owned).collect()
}

/// `PRETTY_NAME` of os-release.
fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}
