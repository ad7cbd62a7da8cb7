//! `image/<driver>`: the names of what is known of images.
//!
//! ```text
//! imagedb/content/sha256/<ID>        an image's config, byte for byte; its sha256 is the ID           0600
//! imagedb/metadata/sha256/<ID>/      what is known of an image beside its config; often absent        0700
//!   parent                           ID of the image that it was built or committed from              0600
//!   lastUpdated                      when it was last tagged, RFC 3339                                0600
//! repositories.json                  what images are called; see `tags`                               0600
//! layerdb/, distribution/            others' (crate `layer`, the registry client)
//! ```
//!
//! All folders are 0700. A content file is the commit point of an image: with it the image is there, without it a metadata
//! folder means nothing.
//!
//! Source: moby 20.10, `image/fs.go`, `image/store.go`.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use strata_spec::ImageId;

/// Mode of the files that the image store writes.
pub(crate) const FILE_MODE: u32 = 0o600;
/// Mode of its folders.
pub(crate) const DIR_MODE: u32 = 0o700;

/// Names under `image/<driver>` of one data root.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The names under `<data root>/image/<driver name>`.
    pub fn new(data_root: &Path, driver_name: &str) -> Self {
        Self { root: Self::stores(data_root).join(driver_name) }
    }

    /// `image`, with a folder for each storage driver.
    pub fn stores(data_root: &Path) -> PathBuf {
        data_root.join("image")
    }

    /// `image/<driver>`
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `imagedb/content/sha256`
    pub fn contents(&self) -> PathBuf {
        self.root.join("imagedb/content/sha256")
    }

    /// The config of `id`.
    pub fn content(&self, id: ImageId) -> PathBuf {
        self.contents().join(id.hex())
    }

    /// Whether any storage driver of the data root has the config of `id`. What cannot be looked at counts as there.
    pub fn is_under_any_driver(&self, id: ImageId) -> bool {
        let Some(stores) = self.root.parent() else { return true };
        let Ok(drivers) = fs::read_dir(stores) else { return true };
        drivers.into_iter().any(|entry| match entry {
            Ok(entry) => match fs::symlink_metadata(Self { root: entry.path() }.content(id)) {
                Ok(_) => true,
                Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
            },
            Err(_) => true,
        })
    }

    /// `imagedb/metadata/sha256`
    pub fn metadatas(&self) -> PathBuf {
        self.root.join("imagedb/metadata/sha256")
    }

    /// The folder of what is known of `id` beside its config.
    pub fn metadata(&self, id: ImageId) -> PathBuf {
        self.metadatas().join(id.hex())
    }

    pub fn parent(&self, id: ImageId) -> PathBuf {
        self.metadata(id).join("parent")
    }

    pub fn last_updated(&self, id: ImageId) -> PathBuf {
        self.metadata(id).join("lastUpdated")
    }

    pub fn repositories(&self) -> PathBuf {
        self.root.join("repositories.json")
    }
}

/// Returns the ID whose file name `name` is; `None` for any other name (`.tmp-…` of an interrupted write).
pub(crate) fn id_of(name: &[u8]) -> Option<ImageId> {
    let hex = std::str::from_utf8(name).ok()?;
    format!("sha256:{hex}").parse().ok()
}
