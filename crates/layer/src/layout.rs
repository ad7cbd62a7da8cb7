//! `image/<driver>/layerdb`: what is known of each layer.
//!
//! ```text
//! sha256/                  0755
//!   <ChainID>/             0700  one committed read-only layer; files 0644, no newlines
//!     diff                 its DiffID, sha256:<hex>
//!     parent               its parent's ChainID; absent on a base layer
//!     cache-id             its folder under the graph driver
//!     size                 bytes of this layer alone, in decimal
//!     tar-split.json.gz    what rebuilds its tar byte for byte
//!   <ChainID>-<random>-removing/    a layer that Docker was removing when it stopped
//! mounts/                  0755
//!   <container ID>/        0755  files 0644
//!     mount-id             the read-write layer's folder under the graph driver
//!     init-id              the init layer's: <mount-id>-init
//!     parent               ChainID of the image's top layer; absent over nothing
//! tmp/                     0755  transactions not committed, and what is being deleted
//! ```

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
};

use strata_durable::Context;
use strata_spec::{CacheId, ChainId, ContainerId, DiffId, Digest};

use crate::{Error, Layer, RwLayer};

/// Names in one layerdb.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    /// The layerdb of `driver` on the data root `root`.
    pub fn new(root: &Path, driver: &str) -> Self {
        Self { root: root.join("image").join(driver).join("layerdb") }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn layers(&self) -> PathBuf {
        self.root.join("sha256")
    }

    pub fn layer(&self, id: ChainId) -> PathBuf {
        self.root.join(id.digest().algorithm().name()).join(id.hex())
    }

    pub fn tar_split(&self, id: ChainId) -> PathBuf {
        self.layer(id).join("tar-split.json.gz")
    }

    pub fn mounts(&self) -> PathBuf {
        self.root.join("mounts")
    }

    pub fn mount(&self, container: &ContainerId) -> PathBuf {
        self.mounts().join(container.as_str())
    }

    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn read_diff(&self, id: ChainId) -> Result<DiffId, Error> {
        read(&self.layer(id).join("diff"))
    }

    pub(crate) fn read_cache_id(&self, id: ChainId) -> Result<CacheId, Error> {
        read(&self.layer(id).join("cache-id"))
    }

    pub(crate) fn read_parent(&self, id: ChainId) -> Result<Option<ChainId>, Error> {
        read_if_there(&self.layer(id).join("parent"))
    }

    /// Reads one layer; `NotFound` if it has no folder, `Damaged` if the folder is not whole.
    pub(crate) fn read_layer(&self, id: ChainId) -> Result<Layer, Error> {
        let dir = self.layer(id);
        let read = || {
            let layer = Layer {
                chain_id: id,
                diff_id: self.read_diff(id)?,
                parent: self.read_parent(id)?,
                cache_id: self.read_cache_id(id)?,
                size: read(&dir.join("size"))?,
            };
            match chain(layer.parent, layer.diff_id) {
                found if found == id => Ok(layer),
                found => Err(damaged(&dir, format!("its diff and parent make the layer {found}"))),
            }
        };
        read().map_err(|error| if dir.exists() { error } else { Error::NotFound(id) })
    }

    pub(crate) fn read_mount(&self, container: &ContainerId) -> Result<RwLayer, Error> {
        let dir = self.mount(container);
        let read = || {
            Ok(RwLayer {
                container: container.clone(),
                mount_id: read(&dir.join("mount-id"))?,
                init_id: read_if_there(&dir.join("init-id"))?,
                parent: read_if_there(&dir.join("parent"))?,
            })
        };
        read().map_err(|error| if dir.exists() { error } else { Error::MountNotFound(container.clone()) })
    }

    /// The names in `dir` that are IDs of the kind wanted; none if there is no such folder.
    pub(crate) fn names<T: FromStr>(&self, dir: &Path) -> Result<Vec<T>, Error> {
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.context("list", dir)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.context("list", dir)?.file_name();
            names.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        Ok(names)
    }
}

/// A ChainID as its folder's name spells it.
pub(crate) struct FolderName(pub ChainId);

impl FromStr for FolderName {
    type Err = strata_spec::digest::DigestError;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        format!("sha256:{name}").parse().map(Self)
    }
}

/// The ChainID of a layer with DiffID `diff` over `parent`.
pub fn chain(parent: Option<ChainId>, diff: DiffId) -> ChainId {
    match parent {
        None => ChainId::new(diff.digest()),
        Some(parent) => ChainId::new(Digest::sha256(format!("{parent} {diff}"))),
    }
}

pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Error {
    Error::Damaged { path: path.to_owned(), reason: reason.into() }
}

fn read<T: FromStr>(path: &Path) -> Result<T, Error> {
    read_if_there(path)?.ok_or_else(|| damaged(path, "the file is missing"))
}

fn read_if_there<T: FromStr>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.context("read", path)?,
    };
    if bytes.is_empty() {
        return Err(damaged(path, "the file is empty, as after a power cut"));
    }
    let value = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_end_matches('\n').parse().ok());
    value.map(Some).ok_or_else(|| damaged(path, "does not hold what its name says"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A layerdb with one layer's folder in it.
    fn with_layer(files: &[(&str, &[u8])], id: ChainId) -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let layout = Layout::new(dir.path(), "overlay2");
        std::fs::create_dir_all(layout.layer(id)).expect("create");
        for (name, bytes) in files {
            std::fs::write(layout.layer(id).join(name), bytes).expect("write");
        }
        (dir, layout)
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(diff: [u8; 8], below in any::<Option<[u8; 8]>>(), cache: [u8; 32], size: u64) {
            let diff_id = DiffId::new(Digest::sha256(diff));
            let parent = below.map(|below| ChainId::new(Digest::sha256(below)));
            let cache_id = CacheId::from_random(cache);
            let id = chain(parent, diff_id);
            let (diff, above) = (diff_id.to_string(), parent.map(|parent| parent.to_string()));
            let size_text = size.to_string();
            let mut files =
                vec![("diff", diff.as_bytes()), ("cache-id", cache_id.as_str().as_bytes()), ("size", size_text.as_bytes())];
            files.extend(above.as_ref().map(|above| ("parent", above.as_bytes())));
            let (_dir, layout) = with_layer(&files, id);
            let layer = layout.read_layer(id).expect("of the form");
            prop_assert_eq!((layer.diff_id, layer.parent, layer.cache_id, layer.size), (diff_id, parent, cache_id, size));
        }

        /// One file holds anything: the layer is read as another program would, or damaged with the file's name.
        #[test]
        fn any_bytes_are_the_value_or_damaged(
            file in prop::sample::select(vec!["diff", "parent", "cache-id", "size"]),
            bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..90), "\\PC{0,90}".prop_map(String::into_bytes)],
        ) {
            let diff_id = DiffId::new(Digest::sha256("x"));
            let id = chain(None, diff_id);
            let (diff, cache) = (diff_id.to_string(), CacheId::from_random([7; 32]));
            let (_dir, layout) =
                with_layer(&[("diff", diff.as_bytes()), ("cache-id", cache.as_str().as_bytes()), ("size", b"1")], id);
            std::fs::write(layout.layer(id).join(file), &bytes).expect("write");
            match layout.read_layer(id) {
                Ok(layer) => prop_assert!(layer.parent.is_none() && !layer.cache_id.as_str().contains(['/', '\0'])),
                Err(error) => prop_assert!(error.to_string().contains("damaged"), "{}", error),
            }
        }
    }
}
