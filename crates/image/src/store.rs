//! Opening the image store, creating images, reading and removing them.

use std::{
    fs,
    os::unix::{ffi::OsStringExt, fs::DirEntryExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use strata_durable::{Context, Lock, lock::Mode};
use strata_spec::{ErrorKind, ImageConfig, ImageId, Reference, chain_id, time};

use crate::{
    Error, Layout, Tags,
    layout::{DIR_MODE, FILE_MODE, id_of},
    tags::Previous,
};

/// Bytes of the largest image config that is read.
pub const CONFIG_MAX: u64 = 8 << 20;

/// What a store is opened with.
pub struct Config<'a> {
    /// The data root.
    pub root: &'a Path,
    /// `overlay2`: images belong to a driver.
    pub driver_name: &'a str,
    pub layers: Arc<strata_layer::Store>,
    /// `strata/locks`.
    pub locks: &'a Path,
    /// `strata/cache`: whatever is in it is rebuilt when it is missing.
    pub cache: &'a Path,
}

/// The image store of one driver on one data root.
pub struct Store {
    layout: Layout,
    layers: Arc<strata_layer::Store>,
    tags: Tags,
    /// Held shared while images get their names, exclusively while one without a name goes.
    naming: PathBuf,
    pub(crate) cache: PathBuf,
    /// `strata/tmp/images`, for what must be set aside while an image comes in or goes.
    pub(crate) tmp: PathBuf,
}

/// A name in `imagedb/content/sha256`.
pub(crate) struct ContentEntry {
    pub name: Vec<u8>,
    pub inode: u64,
}

impl Store {
    /// Opens the store; makes its folders when the root is writable. Reads nothing: takes as long with many images as with none.
    pub fn open(config: Config<'_>) -> Result<Self, Error> {
        let layout = Layout::new(config.root, config.driver_name);
        for dir in [layout.contents(), layout.metadatas(), config.cache.to_owned()] {
            if dir.is_dir() || !config.layers.is_writable() {
                continue;
            }
            match strata_durable::create_dir_all(&dir, DIR_MODE) {
                // What is not there has no images in it: reading goes on.
                Err(error) if matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::PermissionDenied) => {}
                other => other?,
            }
        }
        Ok(Self {
            tags: Tags::new(layout.repositories(), config.locks),
            naming: config.locks.join("images"),
            layout,
            layers: config.layers,
            cache: config.cache.join(format!("images-{}", config.driver_name)),
            tmp: config.root.join("strata/tmp/images"),
        })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn layers(&self) -> &Arc<strata_layer::Store> {
        &self.layers
    }

    /// `strata/tmp/images`.
    pub fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// What images are called.
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// Makes an image of `config`, built from `parent`; returns its ID. An image that is there already stays, and is healed if its
    /// config was damaged.
    ///
    /// All its layers must be in the layer store, and held by a lease until this returns. The config's file is the commit
    /// point: after a crash there is no image, or all of it, parent included.
    pub fn create(&self, config: &ImageConfig, parent: Option<ImageId>) -> Result<ImageId, Error> {
        let id = config.id();
        self.check(config)?;
        let path = self.layout.content(id);
        let there = match strata_durable::read(&path) {
            Ok(bytes) => bytes == config.raw(),
            Err(error) if error.is_not_found() => {
                // Left by a crash in the middle of a removal: it is not this image's.
                self.remove_metadata(id)?;
                false
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(parent) = parent {
            self.set_parent(id, Some(parent))?;
        }
        if !there {
            strata_durable::write(&path, config.raw(), FILE_MODE)?;
            tracing::info!(image = %id, layers = config.diff_ids().len(), "image created");
        }
        Ok(id)
    }

    /// Creates an image as [`Self::create`] does, and names it: at no time can it be taken for one that nobody names.
    pub fn create_named(
        &self,
        config: &ImageConfig,
        parent: Option<ImageId>,
        name: Option<&Reference>,
    ) -> Result<ImageId, Error> {
        let _naming = self.naming()?;
        let id = self.create(config, parent)?;
        if let Some(name) = name {
            self.set_tag(id, name)?;
        }
        Ok(id)
    }

    /// Keeps images that have no name yet from being removed for it.
    pub(crate) fn naming(&self) -> Result<Lock, Error> {
        Ok(Lock::acquire(&self.naming, Mode::Shared)?)
    }

    /// Checks what Docker checks before it takes an image in: its history against its layers, its system, its layers' presence.
    fn check(&self, config: &ImageConfig) -> Result<(), Error> {
        check_document(config)?;
        if let Some(chain) = chain_id(config.diff_ids()) {
            self.layers.get(chain).map_err(|error| match error.kind() {
                ErrorKind::NotFound => Error::missing_layer(config.id(), chain),
                _ => error.into(),
            })?;
        }
        Ok(())
    }

    /// Reads the config of `id`. `Damaged`, naming the file, if its bytes are not those that the ID is the hash of.
    pub fn get(&self, id: ImageId) -> Result<ImageConfig, Error> {
        let path = self.layout.content(id);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotFound(id.to_string()));
            }
            Err(error) => return Err(Err::<(), _>(error).context("read", &path).expect_err("it is one").into()),
        };
        let heal = "load or pull the image again";
        if length == 0 {
            return Err(Error::damaged(&path, format!("it is empty, as after a power cut; {heal}")));
        }
        if length > CONFIG_MAX {
            return Err(Error::damaged(&path, format!("it has {length} bytes, an image config at most {CONFIG_MAX}")));
        }
        let config = ImageConfig::parse(strata_durable::read(&path)?)
            .map_err(|error| Error::damaged(&path, format!("{error}; {heal}")))?;
        if config.id() != id {
            return Err(Error::damaged(&path, format!("its digest is {}, not its name; {heal}", config.id())));
        }
        Ok(config)
    }

    /// Whether there is an image `id`, damaged or not.
    pub fn contains(&self, id: ImageId) -> bool {
        fs::symlink_metadata(self.layout.content(id)).is_ok()
    }

    /// The IDs of all images, damaged or not (one readdir), sorted.
    pub fn list(&self) -> Result<Vec<ImageId>, Error> {
        let mut ids: Vec<_> = self.content_entries()?.iter().filter_map(|entry| id_of(&entry.name)).collect();
        ids.sort();
        Ok(ids)
    }

    /// Removes the image `id` alone: its names and layers are for the caller. One that is not there is no error.
    ///
    /// The config goes first: after a crash the image is there, or it is not, and what is left of its metadata means nothing.
    pub fn delete(&self, id: ImageId) -> Result<(), Error> {
        strata_durable::remove_file(&self.layout.content(id))?;
        self.remove_metadata(id)?;
        tracing::info!(image = %id, "image removed");
        Ok(())
    }

    /// Removes the image `id` as [`Self::delete`] does, unless it has a name; returns whether it has none.
    pub fn delete_unnamed(&self, id: ImageId) -> Result<bool, Error> {
        let _alone = Lock::acquire(&self.naming, Mode::Exclusive)?;
        let unnamed = self.tags.read()?.of(id).is_empty();
        if unnamed {
            self.delete(id)?;
        }
        Ok(unnamed)
    }

    /// The image that `id` was built or committed from, if that is known.
    pub fn parent(&self, id: ImageId) -> Result<Option<ImageId>, Error> {
        let path = self.layout.parent(id);
        match strata_durable::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(parent) => Ok(Some(parent)),
                Err(error) => {
                    Err(Error::damaged(&path, format!("{error}; remove the file: only the link to the parent is lost")))
                }
            },
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The images whose parent is `id`, sorted.
    pub fn children(&self, id: ImageId) -> Result<Vec<ImageId>, Error> {
        let listing = self.images()?;
        let whole = listing.images.iter().filter(|image| image.parent == Some(id)).map(|image| image.id);
        // A damaged image can be healed only while its parent is there.
        let is_child = |image: &ImageId| self.parent(*image).is_ok_and(|parent| parent == Some(id));
        let damaged = listing.damaged.iter().map(|damage| damage.id).filter(is_child);
        Ok(whole.chain(damaged).collect())
    }

    /// Says what `id` was built from; `None` forgets it.
    pub fn set_parent(&self, id: ImageId, parent: Option<ImageId>) -> Result<(), Error> {
        let path = self.layout.parent(id);
        match parent {
            Some(parent) => {
                strata_durable::create_dir_all(&self.layout.metadata(id), DIR_MODE)?;
                Ok(strata_durable::write(&path, parent.to_string().as_bytes(), FILE_MODE)?)
            }
            None => Ok(strata_durable::remove_file(&path)?),
        }
    }

    /// When `id` was last tagged, RFC 3339; `None` if never.
    pub fn last_updated(&self, id: ImageId) -> Result<Option<String>, Error> {
        match strata_durable::read_to_string(&self.layout.last_updated(id)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Says that `id` was tagged now.
    pub fn set_last_updated(&self, id: ImageId) -> Result<(), Error> {
        strata_durable::create_dir_all(&self.layout.metadata(id), DIR_MODE)?;
        Ok(strata_durable::write(&self.layout.last_updated(id), time::now_rfc3339().as_bytes(), FILE_MODE)?)
    }

    /// Names `id` as `docker tag` does: the name moves from whoever had it, and the image is marked as tagged now.
    pub fn tag(&self, id: ImageId, name: &Reference) -> Result<Previous, Error> {
        let _naming = self.naming()?;
        // It may have been removed since it was found.
        if !self.contains(id) {
            return Err(Error::NotFound(id.to_string()));
        }
        self.set_tag(id, name)
    }

    fn set_tag(&self, id: ImageId, name: &Reference) -> Result<Previous, Error> {
        if name.digest().is_some() {
            return Err(Error::DigestTag);
        }
        let previous = self.tags.set(name, id, true)?;
        self.set_last_updated(id)?;
        Ok(previous)
    }

    /// Removes what dead processes left half-written or half-removed. For whoever settles the root after a crash.
    pub fn sweep(&self) -> Result<(), Error> {
        if self.tmp.is_dir() {
            strata_durable::sweep_tmp(&self.tmp)?;
        }
        let mut folders = vec![self.layout.root().to_owned(), self.layout.contents()];
        let metadatas = self.layout.metadatas();
        if metadatas.is_dir() {
            let entries = fs::read_dir(&metadatas).context("list", &metadatas)?;
            folders.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
            self.sweep_metadata(&folders)?;
        }
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            strata_durable::file::sweep_files(folder)?;
        }
        Ok(())
    }

    /// Removes those of `folders` that are metadata of no image: its creation, or its removal, came to no end.
    fn sweep_metadata(&self, folders: &[PathBuf]) -> Result<(), Error> {
        let name = |folder: &PathBuf| id_of(folder.file_name().unwrap_or_default().as_encoded_bytes());
        let stray = |id: &ImageId| !self.contains(*id) && self.layout.metadata(*id).is_dir();
        let strays: Vec<ImageId> = folders.iter().filter_map(name).filter(stray).collect();
        if strays.is_empty() {
            return Ok(());
        }
        // Whoever is creating an image has its metadata there first.
        let _alone = Lock::acquire(&self.naming, Mode::Exclusive)?;
        strays.into_iter().filter(stray).try_for_each(|id| self.remove_metadata(id))
    }

    fn remove_metadata(&self, id: ImageId) -> Result<(), Error> {
        let dir = self.layout.metadata(id);
        if !dir.is_dir() {
            return Ok(());
        }
        strata_durable::create_dir_all(&self.tmp, DIR_MODE)?;
        Ok(strata_durable::remove_dir(&dir, &self.tmp)?)
    }

    /// Everything in `imagedb/content/sha256`, in no order.
    pub(crate) fn content_entries(&self) -> Result<Vec<ContentEntry>, Error> {
        let dir = self.layout.contents();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Err::<(), _>(error).context("list", &dir).expect_err("it is one").into()),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.context("list", &dir)?;
            found.push(ContentEntry { inode: entry.ino(), name: entry.file_name().into_vec() });
        }
        Ok(found)
    }
}

/// Checks what can be checked of a config by itself.
pub(crate) fn check_document(config: &ImageConfig) -> Result<(), Error> {
    let document = config.document();
    let layers = document.rootfs.diff_ids.len();
    let history = document.history.iter().filter(|entry| !entry.empty_layer).count();
    if history > layers {
        return Err(Error::TooMuchHistory { history, layers });
    }
    check_os(&document.os)
}

/// Refuses what is for another system; an image that does not say is taken.
pub(crate) fn check_os(os: &str) -> Result<(), Error> {
    match os {
        "" | "linux" => Ok(()),
        other => Err(Error::OtherOs { os: other.chars().take(80).collect() }),
    }
}
