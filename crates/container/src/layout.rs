//! `containers/`: what is known of each container, but for its layers.
//!
//! ```text
//! <ID>/
//!   config.v2.json        what it is and how it fares (0600)
//!   hostconfig.json       what it may use of its host (0644)
//!   checkpoints/          (0700)
//!   hostname hosts resolv.conf    bound into the container when it runs (0644); written at each start
//!   resolv.conf.hash      digest of resolv.conf as we wrote it: who finds another one leaves the user's changes alone
//!   mounts/               where Docker mounts what only it needs (0710)
//!   <ID>-json.log         what the container wrote, as Docker's json-file driver keeps it
//! ```
//!
//! `volumes/<name>/_data` is the content of a volume.

use std::path::{Path, PathBuf};

use strata_spec::ContainerId;

/// What a volume's directory has its content in.
pub(crate) const VOLUME_DATA: &str = "_data";

/// Names in one data root.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

/// The folder of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerDir {
    path: PathBuf,
}

impl Layout {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `containers/`.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    pub fn container(&self, id: &ContainerId) -> ContainerDir {
        ContainerDir { path: self.containers().join(id.as_str()) }
    }

    /// `strata/tmp/containers`: folders not whole yet, or on their way out.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("strata/tmp/containers")
    }

    /// `volumes/`.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// The directory of a volume. `name` holds no slash.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.volumes().join(name)
    }

    /// The content of a volume.
    pub fn volume_data(&self, name: &str) -> PathBuf {
        self.volume(name).join(VOLUME_DATA)
    }
}

impl ContainerDir {
    /// A folder that is still to get its name.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn record(&self) -> PathBuf {
        self.path.join("config.v2.json")
    }

    pub fn host_config(&self) -> PathBuf {
        self.path.join("hostconfig.json")
    }

    pub fn hostname(&self) -> PathBuf {
        self.path.join("hostname")
    }

    pub fn hosts(&self) -> PathBuf {
        self.path.join("hosts")
    }

    pub fn resolv_conf(&self) -> PathBuf {
        self.path.join("resolv.conf")
    }

    pub fn resolv_conf_hash(&self) -> PathBuf {
        self.path.join("resolv.conf.hash")
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    pub fn mounts(&self) -> PathBuf {
        self.path.join("mounts")
    }
}
