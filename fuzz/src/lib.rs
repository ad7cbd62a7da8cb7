//! What the fuzz targets share: inputs of several files, tars with right checksums, scratch folders and roots in memory.

use std::{
    cell::RefCell,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use strata_doctor::Stores;
use strata_durable::Journal;
use strata_graphdriver::Access;

/// Splits an input into files: `NAME`, newline, content, and `%%` on a line of its own before the next.
pub fn parts(data: &[u8]) -> Vec<(&str, &[u8])> {
    const BETWEEN: &[u8] = b"\n%%\n";
    let mut parts = Vec::new();
    let mut rest = Some(data);
    while let Some(data) = rest {
        let end = data.windows(BETWEEN.len()).position(|window| window == BETWEEN);
        let part = &data[..end.unwrap_or(data.len())];
        rest = end.map(|end| &data[end + BETWEEN.len()..]);
        let at = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        let Ok(name) = std::str::from_utf8(&part[..at]) else { continue };
        parts.push((name, part.get(at + 1..).unwrap_or_default()));
    }
    parts
}

/// `text` with `to` in place of each `from`, which is not empty.
pub fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        match rest.strip_prefix(from) {
            Some(after) => {
                out.extend_from_slice(to);
                rest = after;
            }
            None => {
                out.push(rest[0]);
                rest = &rest[1..];
            }
        }
    }
    out
}

/// `tar` with the right checksum in every block that could be a header.
pub fn with_checksums(tar: &[u8]) -> Vec<u8> {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let mut tar = tar.to_vec();
    for block in tar.chunks_exact_mut(512) {
        if block.iter().any(|byte| *byte != 0) {
            block[CHECKSUM].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    tar
}

/// A folder in memory, one a process.
pub struct Folder(PathBuf);

impl Folder {
    /// Calls `run` with the process's folder.
    pub fn with<T>(run: impl FnOnce(&Self) -> T) -> T {
        thread_local!(static FOLDER: Folder = Folder::make("folder"));
        FOLDER.with(run)
    }

    fn make(what: &str) -> Self {
        // `run.sh` gives a folder in memory, and removes it.
        let parent = std::env::temp_dir();
        let path = parent.join(format!("strata-fuzz-{what}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder in memory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the file `name` with its folders.
    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("its folder");
        fs::write(&path, content).expect("a file in memory");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A data root in memory, with its stores.
pub struct Root {
    folder: Folder,
    pub layers: Arc<strata_layer::Store>,
    pub images: strata_image::Store,
    pub containers: strata_container::Store,
    uses: u32,
}

/// A root is made anew after this many inputs: loaded images stay in it.
const USES: u32 = 500;

impl Root {
    /// Calls `run` with the process's root.
    pub fn with<T>(run: impl FnOnce(&Self) -> T) -> T {
        thread_local!(static ROOT: RefCell<Option<Root>> = const { RefCell::new(None) });
        ROOT.with_borrow_mut(|root| {
            if root.as_ref().is_some_and(|root| root.uses >= USES) {
                *root = None;
            }
            let root = root.get_or_insert_with(Self::make);
            root.uses += 1;
            run(root)
        })
    }

    fn make() -> Self {
        let folder = Folder::make("root");
        let (path, strata) = (folder.path(), folder.path().join("strata"));
        let locks = strata.join("locks");
        let journal = Journal::open(&strata.join("journal")).expect("a journal");
        let driver = strata_graphdriver::open("overlay2", path, Access::ReadWrite).expect("a driver");
        let config = strata_layer::Config { root: path, driver, journal: journal.clone(), locks: &locks };
        let layers = Arc::new(strata_layer::Store::open(config).expect("a layer store"));
        let images = strata_image::Store::open(strata_image::Config {
            root: path,
            driver_name: "overlay2",
            layers: layers.clone(),
            locks: &locks,
            cache: &strata.join("cache"),
        });
        let containers = strata_container::Store::open(strata_container::Config {
            root: path,
            layers: layers.clone(),
            journal,
            locks: &locks,
            exec_root: path.join("exec"),
            access: Access::ReadOnly,
        });
        let (images, containers) = (images.expect("an image store"), containers.expect("a store of containers"));
        Self { folder, layers, images, containers, uses: 0 }
    }

    pub fn stores(&self) -> Stores<'_> {
        Stores { root: self.folder.path(), layers: &self.layers, images: &self.images, containers: &self.containers }
    }

    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        self.folder.write(name, content)
    }

    /// An open file beside the root that holds `content`.
    pub fn file(&self, content: &[u8]) -> File {
        File::open(self.folder.write("input", content)).expect("it was just made")
    }

    /// Removes what [`Root::write`] made.
    pub fn clear(&self) {
        for name in [
            "image/overlay2/layerdb/sha256",
            "image/overlay2/layerdb/mounts",
            "image/overlay2/imagedb/content/sha256",
            "image/overlay2/imagedb/metadata/sha256",
            "containers",
            "strata/journal",
            "overlay2",
        ] {
            let path = self.folder.path().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).expect("a folder in memory");
        }
        fs::create_dir_all(self.folder.path().join("overlay2/l")).expect("a folder in memory");
        let _ = fs::remove_file(self.folder.path().join("image/overlay2/repositories.json"));
        let _ = fs::remove_file(self.folder.path().join("strata/cache/images-overlay2"));
    }
}
