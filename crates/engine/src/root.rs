//! One data root: its journal, its containers, and the image and layer stores of each storage driver in use.
//!
//! Docker keeps `image/<driver>` and `<driver>/` for each driver, and `containers/` and `volumes/` for all of them. What a user names is
//! found under whichever driver has it (see [`resolve`](crate::resolve)); new things go to the chosen driver (see
//! [`drivers`](crate::drivers)). The records of a driver that cannot be opened here are read all the same; see
//! [`strata_graphdriver::Closed`].

use std::{
    fmt,
    path::{Path, PathBuf},
};

use strata_durable::Journal;
use strata_graphdriver::Access;

use crate::{DataRoot, DriverStores, Error, Purpose, containerd, drivers};

/// Which root is opened, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub data_root: PathBuf,
    /// Where running containers keep their state; a directory of this root's own below `/run/strata` if `None`.
    pub exec_root: Option<PathBuf>,
    /// The one storage driver to look at and to work on; if `None`, all in use are looked at, and new things go to the root's own.
    pub driver: Option<String>,
}

/// An open data root.
pub struct Root {
    data: DataRoot,
    pub(crate) journal: Journal,
    /// Best first; at least one.
    stores: Vec<DriverStores>,
    /// The one that new things go to; `None` where the user must say it.
    chosen: Option<usize>,
    containers: strata_container::Store,
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drivers: Vec<&str> = self.stores.iter().map(DriverStores::driver).collect();
        f.debug_struct("Root").field("data", &self.data).field("drivers", &drivers).finish_non_exhaustive()
    }
}

impl Root {
    /// Opens the stores of all drivers in use, or of `options.driver` alone. For writing, what dead processes left is settled first, under
    /// whatever driver.
    ///
    /// Costs the same however much the root holds, unless there is something to settle. Fails with `DaemonAlive` where it is opened for
    /// writing and a dockerd lives on it. For writing the chosen driver must work here; for reading its records suffice.
    pub fn open(options: &Options, purpose: Purpose) -> Result<Self, Error> {
        let data = DataRoot::open(&options.data_root, purpose)?;
        if options.driver.is_none() {
            containerd::refuse(data.path())?;
        }
        let plan = Plan::of(data.path(), options.driver.as_deref(), purpose)?;
        data.prepare()?;
        let journal = data.journal()?;
        let mut stores = Vec::new();
        for name in &plan.visible {
            let must_work = purpose == Purpose::Write && plan.chosen.as_ref() == Some(name);
            stores.push(match DriverStores::open(&data, name, &journal) {
                Err(error) if !must_work && plan.present.contains(name) => {
                    DriverStores::open_closed(&data, name, &error)?
                }
                result => result?,
            });
        }
        let unsettled = match purpose == Purpose::Write && data.has_journal_entries() {
            true => unused(&data, &plan, &journal),
            false => Vec::new(),
        };
        let containers = strata_container::Store::open(strata_container::Config {
            root: data.path(),
            layers: stores.iter().chain(&unsettled).map(|stores| stores.layers().clone()).collect(),
            only: options.driver.clone(),
            journal: journal.clone(),
            locks: &data.locks(),
            exec_root: options.exec_root.clone().unwrap_or_else(|| strata_container::default_exec_root(data.path())),
            access: match purpose {
                Purpose::Read => Access::ReadOnly,
                Purpose::Write => Access::ReadWrite,
            },
        })?;
        let chosen = plan.chosen.and_then(|name| stores.iter().position(|stores| stores.driver() == name));
        let root = Self { data, journal, stores, chosen, containers };
        if purpose == Purpose::Write {
            root.settle(&unsettled)?;
        }
        Ok(root)
    }

    /// The data root's path: absolute, and free of links where it exists.
    pub fn path(&self) -> &Path {
        self.data.path()
    }

    /// The data root as a directory: its locks, its own files, what it was opened for.
    pub fn data(&self) -> &DataRoot {
        &self.data
    }

    /// The containers, of all drivers.
    pub fn containers(&self) -> &strata_container::Store {
        &self.containers
    }

    /// The stores of the drivers in use, best first.
    pub fn stores(&self) -> &[DriverStores] {
        &self.stores
    }

    /// The stores of `driver`, if it is in use.
    pub fn stores_under(&self, driver: &str) -> Option<&DriverStores> {
        self.stores.iter().find(|stores| stores.driver() == driver)
    }

    /// Whether more than one driver is in use.
    pub fn has_several_drivers(&self) -> bool {
        self.stores.len() > 1
    }

    /// The driver that new things go to; the best in use if that is not decided.
    pub fn main(&self) -> &DriverStores {
        &self.stores[self.chosen.unwrap_or(0)]
    }

    /// The driver that new things go to, if that is decided.
    pub(crate) fn chosen(&self) -> Option<&DriverStores> {
        self.chosen.map(|chosen| &self.stores[chosen])
    }

    /// The driver that new things go to, and whose stores are pruned. `SeveralDrivers` if the user must say which.
    pub fn for_new(&self) -> Result<&DriverStores, Error> {
        let chosen = self.chosen().ok_or_else(|| {
            let used = self.stores.iter().map(DriverStores::driver).collect::<Vec<_>>().join(", ");
            Error::SeveralDrivers { root: self.path().to_owned(), found: used }
        })?;
        chosen.usable()?;
        Ok(chosen)
    }
}

/// Which drivers a root is opened with.
struct Plan {
    /// Those shown and searched, best first.
    visible: Vec<String>,
    /// The one that new things go to, if that is decided.
    chosen: Option<String>,
    /// Those that the root has image stores of.
    present: Vec<String>,
}

impl Plan {
    fn of(root: &Path, asked: Option<&str>, purpose: Purpose) -> Result<Self, Error> {
        let present = drivers::on(root)?;
        if let Some(asked) = asked.filter(|asked| purpose == Purpose::Read && present.iter().any(|name| name == asked))
        {
            let asked = asked.to_owned();
            return Ok(Self { visible: vec![asked.clone()], chosen: Some(asked), present });
        }
        let mut visible = match asked {
            Some(_) => Vec::new(),
            None => drivers::in_use(root)?,
        };
        let chosen = match drivers::choose(root, asked) {
            Ok(chosen) => Some(chosen),
            Err(Error::SeveralDrivers { .. }) => None,
            Err(Error::ForeignDriver { found, .. }) if purpose == Purpose::Read => Some(found),
            Err(error) => return Err(error),
        };
        if visible.is_empty() {
            visible.extend(chosen.clone());
        }
        Ok(Self { visible, chosen, present })
    }
}

/// The stores of the root's other drivers, where operations that died may have left something. One that does not open here (a btrfs root
/// that was copied to another filesystem) keeps what was left in it, as `fsck` reports.
fn unused(data: &DataRoot, plan: &Plan, journal: &Journal) -> Vec<DriverStores> {
    let others = plan.present.iter().filter(|name| !plan.visible.contains(name));
    let open = |name: &String| match DriverStores::open(data, name, journal) {
        Ok(stores) => Some(stores),
        Err(error) => {
            tracing::warn!(driver = name, %error, "what interrupted operations left under this driver stays");
            None
        }
    };
    others.filter_map(open).collect()
}
