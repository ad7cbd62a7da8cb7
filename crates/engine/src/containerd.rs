//! Whether a root keeps its images in containerd's image store, as dockerd 29 does on every new root.
//!
//! dockerd 29 stays with a graph driver while the directory of one (`overlay2/`, `btrfs/`, …) is there and not empty, and takes
//! containerd's store otherwise. Whoever makes `overlay2/l` in such a root hides all its images and containers from dockerd at its next
//! start. So nothing is created in one.
//!
//! ```text
//! containerd/daemon/io.containerd.snapshotter.v1.<name>/snapshots/<N>/   layers, where dockerd runs its own containerd
//! buildkit/containerd-<snapshotter>/                                     the build cache's records
//! image/identity-cache.db                                                a cache of dockerd 29
//! rootfs/<snapshotter>/<container ID>/                                   mount points
//! containers/<ID>/config.v2.json                                         "Driver":"overlayfs"
//! ```

use std::{ffi::OsStr, fs, path::Path};

use strata_graphdriver::DRIVERS;

use crate::{Error, drivers};

/// The graph drivers of any Docker that this build does not have.
const OTHER_DRIVERS: [&str; 3] = ["devicemapper", "zfs", "windowsfilter"];

/// Fails with `ContainerdStore` if the root's images are in containerd's store, and no graph driver is in use beside it.
pub(crate) fn refuse(root: &Path) -> Result<(), Error> {
    match sign(root)? {
        Some(sign) => Err(Error::ContainerdStore { root: root.to_owned(), sign }),
        None => Ok(()),
    }
}

/// What says that the root's images are in containerd's store; `None` where a graph driver is in use, as dockerd then uses that.
pub fn sign(root: &Path) -> Result<Option<String>, Error> {
    if !drivers::in_use(root)?.is_empty() {
        return Ok(None);
    }
    Ok(snapshots(root).or_else(|| build_cache(root)).or_else(|| others(root)).or_else(|| container(root)))
}

/// The entries of a directory; none where it cannot be read.
fn entries(dir: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

fn starts(name: &OsStr, prefix: &str) -> bool {
    name.as_encoded_bytes().starts_with(prefix.as_bytes())
}

fn snapshots(root: &Path) -> Option<String> {
    let store = "containerd/daemon";
    let mut snapshotters =
        entries(&root.join(store)).filter(|entry| starts(&entry.file_name(), "io.containerd.snapshotter.v1."));
    let used = snapshotters.find(|entry| entries(&entry.path().join("snapshots")).next().is_some())?;
    Some(format!("{store}/{}", used.file_name().to_string_lossy()))
}

fn build_cache(root: &Path) -> Option<String> {
    let found = entries(&root.join("buildkit")).find(|entry| starts(&entry.file_name(), "containerd-"))?;
    Some(format!("buildkit/{}", found.file_name().to_string_lossy()))
}

fn others(root: &Path) -> Option<String> {
    let mount_points = entries(&root.join("rootfs")).next().map(|_| "rootfs".to_owned());
    let identities = "image/identity-cache.db";
    mount_points.or_else(|| root.join(identities).is_file().then(|| identities.to_owned()))
}

/// A container of a snapshotter: its record names a driver that no Docker has as a graph driver.
fn container(root: &Path) -> Option<String> {
    let is_graph_driver = |name: &str| name.is_empty() || DRIVERS.contains(&name) || OTHER_DRIVERS.contains(&name);
    entries(&root.join("containers")).find_map(|entry| {
        let bytes = strata_durable::read(&entry.path().join("config.v2.json")).ok()?;
        let record = strata_container::Record::parse(&bytes).ok()?;
        let sign = || format!("containers/{} of {}", entry.file_name().to_string_lossy(), record.driver);
        (!is_graph_driver(&record.driver)).then(sign)
    })
}
