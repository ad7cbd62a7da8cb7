//! What every driver promises.

use std::path::{Path, PathBuf};

use strata_archive::diff::Change;
use strata_spec::CacheId;
use strata_sys::fs::Feature;
use strata_tree::DirTree;

use crate::{Error, terms::Term};

/// How a folder is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// What a new folder reads as until it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent<'a> {
    /// Nothing: a base layer.
    None,
    /// The folder below.
    Of(&'a CacheId),
    /// Not known yet; [`GraphDriver::adopt`] says it. Only where [`GraphDriver::is_independent`].
    Later,
}

/// Where a layer's own files lie, to be written by `archive::apply` and read by `archive::split::assemble`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub path: PathBuf,
    /// How deletions are marked there.
    pub marks: strata_archive::Marks,
}

/// Something about a driver's own files that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub path: PathBuf,
    pub reason: String,
}

/// A storage driver.
///
/// A layer's folder is *created* (empty, over its parent), *filled* (by `apply`, or by mounting it read-write), *committed* when it is
/// read-only and whole, and at last *removed*. Folders that are neither named by a layer nor by a mount are orphans.
/// Every method may be called from several threads and processes at once, for different folders; `mount` for the same folder too.
///
/// Nothing that a driver writes is on disk before [`GraphDriver::sync`] returns, and nothing may name a folder before that.
/// Whoever creates a folder has noted it in the journal, so that what a crash leaves half-made is removed.
pub trait GraphDriver: Send + Sync {
    /// As it is asked for, and as its folders are called: `overlay2`.
    fn name(&self) -> &'static str;

    /// The driver's home, `<data root>/overlay2`.
    fn home(&self) -> &Path;

    /// Fails with [`Error::Closed`] if the layers' own files cannot be reached here; see [`crate::Closed`].
    fn usable(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Lines for `info`, in Docker's words: `Backing Filesystem`, `Supports d_type`, `Native Overlay Diff` …
    fn status(&self) -> Vec<(String, String)>;

    /// Tries everything that the driver wants from kernel and filesystem. Takes milliseconds, so only `info` asks.
    fn probe(&self) -> Vec<Feature>;

    /// Whether a layer can be filled before its parent is known, so that an image's layers are filled in parallel.
    fn is_independent(&self) -> bool;

    /// How many folders can lie below one that is mounted.
    fn max_depth(&self) -> usize;

    /// Creates the folder `id`. Fails with `AlreadyExists`, or `TooDeep`, leaving nothing behind.
    fn create(&self, id: &CacheId, parent: Parent<'_>, access: Access) -> Result<(), Error>;

    /// Gives a folder created with [`Parent::Later`] its parent.
    fn adopt(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<(), Error>;

    /// Says that a filled read-only folder is whole and stays as it is.
    fn commit(&self, id: &CacheId) -> Result<(), Error>;

    /// Removes the folder `id` and what is mounted there; one that is not there is no error.
    fn remove(&self, id: &CacheId) -> Result<(), Error>;

    fn exists(&self, id: &CacheId) -> bool;

    /// The folder `id` itself, whether it is there or not.
    fn place(&self, id: &CacheId) -> PathBuf {
        self.home().join(id.as_str())
    }

    /// All folders, in no order.
    fn list(&self) -> Result<Vec<CacheId>, Error>;

    /// The folder below `id`, as the driver's own files say. `None` for a base layer, and where they do not say: a copy does not know
    /// what it is a copy of.
    fn parent(&self, id: &CacheId) -> Result<Option<CacheId>, Error>;

    /// Where the layer's own files lie; under [`strata_archive::Marks::None`] with all below them.
    fn folder(&self, id: &CacheId) -> Result<Folder, Error>;

    /// The layer's own files, as [`GraphDriver::folder`] has them, for reading.
    fn tree(&self, id: &CacheId) -> Result<DirTree, Error> {
        Ok(DirTree::new(self.folder(id)?.path))
    }

    /// Mounts `id` over all below it and returns the merged root.
    ///
    /// Whoever asks for a folder that is mounted already, in this process or another, shares that mount; it goes when the last guard drops.
    /// A mount that a process left when it was killed is taken over; one that another engine made is shared and left alone.
    /// With [`Access::ReadOnly`] the caller promises not to write: the mount that is shared may allow it.
    fn mount(&self, id: &CacheId, access: Access) -> Result<Mounted, Error>;

    /// Lets the folder `id` take at most `bytes`, with what it stands on, now and each time it is mounted for writing.
    /// `Unsupported` where the driver cannot.
    fn limit(&self, _id: &CacheId, _bytes: u64) -> Result<(), Error> {
        let why = "btrfs alone does, on a root that lies on a btrfs filesystem".to_owned();
        Err(Error::Unsupported { driver: self.name(), what: "limit the size of a container", why })
    }

    /// Unmounts `id` whoever mounted it; not mounted is no error.
    fn unmount(&self, id: &CacheId) -> Result<(), Error>;

    /// `GraphDriver.Data` of `docker inspect`: `LowerDir`, `MergedDir`, `UpperDir`, `WorkDir`, in Docker's order (Go map: sorted).
    fn metadata(&self, id: &CacheId) -> Result<Vec<(String, String)>, Error>;

    /// What `id`, a layer (`ReadOnly`) or a container's folder over `parent`, is in this driver's own terms, for `explain`: branches and
    /// their marks, links, subvolumes. Reads only; may walk the folder and those below.
    fn describe(&self, id: &CacheId, parent: Option<&CacheId>, access: Access) -> Vec<Term>;

    /// What `id` changes over `parent`, the folder that it was created over. Where layers are unions cost grows with what changed;
    /// where they are copies, with all there is.
    fn changes(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<Vec<Change>, Error>;

    /// Writes what `id` changes over `parent` as a layer's tar.
    fn diff(&self, id: &CacheId, parent: Option<&CacheId>, out: &mut (dyn std::io::Write + Send)) -> Result<(), Error>;

    /// Bytes that `id` takes over `parent`, as `docker ps --size` counts.
    fn diff_size(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<u64, Error>;

    /// Puts everything that was written below the home on disk (one `syncfs`).
    fn sync(&self) -> Result<(), Error>;

    /// What is wrong with the driver's own files of `id`, which should stand over `parent`. Reads metadata only.
    fn check(&self, id: &CacheId, parent: Option<&CacheId>) -> Vec<Fault>;

    /// What lies in the home that belongs to no folder.
    fn strays(&self) -> Result<Vec<Fault>, Error>;

    /// Rebuilds the driver's own files of `id` from what is known of it: that it stands over `parent`, whose own files are sound.
    /// Returns the paths rewritten. The layer's content is not touched.
    fn repair(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<Vec<PathBuf>, Error>;

    /// Deletes what interrupted removals left half-deleted; what live processes work on stays. Costs nothing where there is nothing.
    fn sweep(&self) -> Result<(), Error>;

    /// Removes the [strays](GraphDriver::strays) that only an interrupted operation leaves. Looks at every folder's name.
    fn tidy(&self) -> Result<(), Error>;
}

/// How a guard's mount ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// This user is done with it.
    Leave,
    /// It stays after its last user is gone, until [`GraphDriver::unmount`] or [`GraphDriver::remove`].
    Keep,
}

/// What a guard does at its end.
type AtEnd = Box<dyn FnOnce(&Path, End) + Send>;

/// A mounted root; left when dropped.
pub struct Mounted {
    path: PathBuf,
    end: Option<AtEnd>,
}

impl Mounted {
    /// A root at `path`, for which `end` is called at the end.
    pub fn new(path: PathBuf, end: impl FnOnce(&Path, End) + Send + 'static) -> Self {
        Self { path, end: Some(Box::new(end)) }
    }

    /// A root at `path` that needs no unmounting.
    pub fn plain(path: PathBuf) -> Self {
        Self { path, end: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it mounted, beyond this process too.
    pub fn keep(mut self) -> PathBuf {
        if let Some(end) = self.end.take() {
            end(&self.path, End::Keep);
        }
        std::mem::take(&mut self.path)
    }
}

impl std::fmt::Debug for Mounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mounted").field(&self.path).finish()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end(&self.path, End::Leave);
        }
    }
}
