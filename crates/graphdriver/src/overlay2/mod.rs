//! `overlay2/`: one folder a layer, one kernel overlay mount a container.
//!
//! ```text
//! <cache ID>/            0710
//!   diff/                0755  the layer's own files, whiteouts as character devices 0/0
//!   link                 0644  its short name: 26 of A-Z2-7, no newline
//!   lower                0644  l/<short name>:l/<short name>… of all folders below, topmost first; absent on a base layer
//!   work/                0700  the kernel's; absent on a base layer
//!   committed            0600  empty; there once another folder stands on this one, which is from then on read-only
//!   merged/              0700  the mount point; there while mounted
//! <cache ID>-init/             a container's init layer, alike
//! l/<short name>               -> ../<cache ID>/diff
//! ```
//!
//! Ours, beside it: `strata/tmp/overlay2/` (folders being deleted), `strata/mnt/<cache ID>` (read-only views),
//! `strata/locks/overlay2*` (who uses which mount).
//!
//! A folder's files are written in an order that leaves, after a crash, at worst a folder that nothing names: the folder, its `link`
//! and `lower`, then the name in `l/`. Removal runs backwards: the name in `l/`, then the folder under another name, then its content.
//!
//! Mounts are made with `redirect_dir=off` and `metacopy=off`, so that every layer holds whole files under their own names, whatever
//! the kernel's defaults are: Docker and the diff read them as they lie.
//!
//! Source: moby `daemon/graphdriver/overlay2/overlay.go`, version 20.10.
//!
//! `fuse-overlayfs/` lies alike, but for `work` (0710). Layers there have AUFS's marks, containers overlayfs's, and our own union makes
//! the mounts; under Docker the program `fuse-overlayfs` does, which has marks of its own beside them.
//!
//! # Limitations
//!
//! More than 128 folders below a mount need Linux 6.8, which takes up to 500. Docker itself refuses images of more than 125 layers.

mod check;
mod create;
mod layout;
mod mount;
mod probe;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use strata_archive::{Marks, diff::Change};
use strata_durable::{Context, create_dir_all};
use strata_spec::{CacheId, ErrorKind};

use crate::names::overlay2::{DIFF, MERGED, WORK};
use crate::{
    Access, Error, Fault, Feature, Folder, GraphDriver, Mounted, Parent,
    home::require_d_type,
    seats::Seats,
    terms::{self, Term, Whose},
    union, views,
};
use layout::Layout;
pub(crate) use mount::options as mount_options;
pub(crate) use probe::features as probe_home;

/// Who makes one root of the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// `overlay2`: the kernel's overlayfs.
    Kernel,
    /// `fuse-overlayfs`: our own union in user space. Layers are marked as AUFS marks them, containers as overlayfs does.
    Union,
}

/// How many folders Docker lets lie below another.
const DOCKER_DEPTH: usize = 128;

/// How many lower directories the kernel takes, where it takes them one by one.
const KERNEL_DEPTH: usize = 500;

/// The overlay2 driver on one data root.
pub struct Overlay2 {
    by: By,
    layout: Layout,
    /// `strata/tmp/overlay2`.
    trash: PathBuf,
    /// `strata/mnt`.
    views: PathBuf,
    seats: Seats,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "overlay2",
            Self::Union => "fuse-overlayfs",
        }
    }
}

impl Overlay2 {
    /// Opens the driver below `root`, making what is missing of it. With `ReadOnly` nothing is made, and what is not there is empty.
    pub fn open(root: &Path, access: Access) -> Result<Self, Error> {
        Self::open_by(By::Kernel, root, access)
    }

    /// The same for `fuse-overlayfs`, whose folders lie alike.
    pub fn open_fuse(root: &Path, access: Access) -> Result<Self, Error> {
        Self::open_by(By::Union, root, access)
    }

    fn open_by(by: By, root: &Path, access: Access) -> Result<Self, Error> {
        // Docker resolves its root once too, and shows it so in `inspect`.
        let root = match fs::canonicalize(root) {
            Err(error) if access == Access::ReadOnly && error.kind() == io::ErrorKind::NotFound => root.to_owned(),
            result => result.context("resolve", root)?,
        };
        let strata = root.join("strata");
        let driver = Self {
            by,
            layout: Layout { home: root.join(by.name()) },
            trash: strata.join("tmp").join(by.name()),
            views: strata.join("mnt"),
            seats: Seats::new(by.name(), strata.join("locks")),
        };
        for (path, mode) in [
            (driver.layout.home.as_path(), 0o710),
            (&driver.layout.links(), 0o700),
            (&driver.trash, 0o700),
            (&driver.views, 0o700),
            (driver.seats.locks(), 0o700),
        ] {
            if access == Access::ReadOnly {
                break;
            }
            match path.is_dir().then_some(()).map_or_else(|| create_dir_all(path, mode), Ok) {
                Err(error) if !matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::PermissionDenied) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        if by == By::Kernel && access == Access::ReadWrite {
            require_d_type(by.name(), &driver.layout.home)?;
        }
        Ok(driver)
    }

    fn require(&self, id: &CacheId) -> Result<(), Error> {
        match self.exists(id) {
            true => Ok(()),
            false => Err(Error::NotFound(id.clone(), self.by.name())),
        }
    }

    /// Calls `compare` with the view of `id` and the one of `parent`. Three sorts of marks may lie in a folder that the program wrote:
    /// what they show is for the union to say, as Docker asks the program.
    fn with_views<T>(
        &self,
        id: &CacheId,
        parent: Option<&CacheId>,
        compare: impl FnOnce(&Path, Option<PathBuf>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let view = self.mount_folder(id, Access::ReadOnly)?;
        let below = parent.map(|parent| self.mount_folder(parent, Access::ReadOnly)).transpose()?;
        compare(view.path(), below.as_ref().map(|below| below.path().to_owned()))
    }

    /// The mode of a folder's `work`, as Docker makes it.
    fn work_mode(&self) -> u32 {
        if self.by == By::Kernel { 0o700 } else { 0o710 }
    }

    fn lower_diffs(&self, id: &CacheId) -> Result<Vec<PathBuf>, Error> {
        Ok(self.layout.lowers(id)?.iter().map(|id| self.layout.diff(id)).collect())
    }
}

impl GraphDriver for Overlay2 {
    fn name(&self) -> &'static str {
        self.by.name()
    }

    fn home(&self) -> &Path {
        &self.layout.home
    }

    fn status(&self) -> Vec<(String, String)> {
        match self.by {
            By::Kernel => probe::status(&self.layout.home),
            // Docker says nothing of it.
            By::Union => Vec::new(),
        }
    }

    fn probe(&self) -> Vec<Feature> {
        match self.by {
            By::Kernel => probe::features(&self.trash),
            By::Union => vec![union::feature()],
        }
    }

    fn is_independent(&self) -> bool {
        true
    }

    fn max_depth(&self) -> usize {
        if self.by == By::Kernel && strata_sys::mount::has_lowerdir_plus() { KERNEL_DEPTH } else { DOCKER_DEPTH }
    }

    fn create(&self, id: &CacheId, parent: Parent<'_>, _access: Access) -> Result<(), Error> {
        self.create_folder(id, parent)
    }

    fn adopt(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<(), Error> {
        self.require(id)?;
        match parent {
            None => Ok(()),
            Some(parent) => self.set_parent(id, parent),
        }
    }

    /// Nothing to do: as with Docker, the mark `committed` comes with the first folder that stands on this one.
    fn commit(&self, id: &CacheId) -> Result<(), Error> {
        self.require(id)
    }

    fn remove(&self, id: &CacheId) -> Result<(), Error> {
        self.remove_folder(id)
    }

    fn exists(&self, id: &CacheId) -> bool {
        fs::symlink_metadata(self.layout.dir(id)).is_ok_and(|found| found.is_dir())
    }

    fn list(&self) -> Result<Vec<CacheId>, Error> {
        let home = &self.layout.home;
        let entries = match fs::read_dir(home) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.context("list", home)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            // `l`, `backingFsBlockDev` and whatever else lies here is not a folder of ours.
            let name = entry.context("list", home)?.file_name();
            ids.extend(name.to_str().and_then(|name| name.parse::<CacheId>().ok()));
        }
        Ok(ids)
    }

    fn parent(&self, id: &CacheId) -> Result<Option<CacheId>, Error> {
        self.require(id)?;
        self.layout.read_lower_file(id)?.first().map(|link| self.layout.resolve(link)).transpose()
    }

    fn folder(&self, id: &CacheId) -> Result<Folder, Error> {
        self.require(id)?;
        let marks = match self.by {
            By::Kernel => Marks::Overlay,
            By::Union => Marks::Mixed,
        };
        Ok(Folder { path: self.layout.diff(id), marks })
    }

    fn mount(&self, id: &CacheId, access: Access) -> Result<Mounted, Error> {
        self.mount_folder(id, access)
    }

    fn unmount(&self, id: &CacheId) -> Result<(), Error> {
        self.unmount_folder(id)
    }

    fn metadata(&self, id: &CacheId) -> Result<Vec<(String, String)>, Error> {
        self.require(id)?;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let lowers: Vec<String> = self.lower_diffs(id)?.into_iter().map(text).collect();
        let mut data = Vec::with_capacity(4);
        if !lowers.is_empty() {
            data.push(("LowerDir".to_owned(), lowers.join(":")));
        }
        data.push(("MergedDir".to_owned(), text(self.layout.merged(id))));
        data.push(("UpperDir".to_owned(), text(self.layout.diff(id))));
        data.push(("WorkDir".to_owned(), text(self.layout.work(id))));
        Ok(data)
    }

    fn describe(&self, id: &CacheId, _parent: Option<&CacheId>, access: Access) -> Vec<Term> {
        let whose = if self.by == By::Kernel { Whose::Overlay } else { Whose::All };
        let name = if access == Access::ReadWrite { "upper" } else { "marks" };
        let mut terms = vec![Term::counted(name, format!("{id}/{DIFF}"), terms::marks(&self.layout.diff(id), whose))];
        if access == Access::ReadWrite {
            terms.push(Term::new("work", format!("{id}/{WORK}")));
            terms.push(terms::mount_point("merged", &format!("{id}/{MERGED}"), &self.layout.merged(id)));
        }
        terms
    }

    fn changes(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<Vec<Change>, Error> {
        self.require(id)?;
        match self.by {
            By::Kernel => {
                Ok(strata_archive::diff::changes(&self.layout.diff(id), &self.lower_diffs(id)?, Marks::Overlay)?)
            }
            By::Union => self.with_views(id, parent, views::changes),
        }
    }

    fn diff(&self, id: &CacheId, parent: Option<&CacheId>, out: &mut (dyn io::Write + Send)) -> Result<(), Error> {
        self.require(id)?;
        match self.by {
            By::Kernel => {
                strata_archive::diff::diff(&self.layout.diff(id), &self.lower_diffs(id)?, Marks::Overlay, out)?;
                Ok(())
            }
            By::Union => self.with_views(id, parent, |view, below| views::diff(view, below, out)),
        }
    }

    fn diff_size(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<u64, Error> {
        self.require(id)?;
        match self.by {
            By::Kernel => crate::tree_size(&self.layout.diff(id)),
            By::Union => self.with_views(id, parent, |view, below| views::size(view, &views::changes(view, below)?)),
        }
    }

    fn sync(&self) -> Result<(), Error> {
        Ok(strata_durable::sync_filesystem(&self.layout.home)?)
    }

    fn check(&self, id: &CacheId, parent: Option<&CacheId>) -> Vec<Fault> {
        self.check_folder(id, parent)
    }

    fn strays(&self) -> Result<Vec<Fault>, Error> {
        self.stray_links()
    }

    fn repair(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<Vec<PathBuf>, Error> {
        self.repair_folder(id, parent)
    }

    fn sweep(&self) -> Result<(), Error> {
        strata_durable::sweep_tmp(&self.trash)?;
        Ok(())
    }

    fn tidy(&self) -> Result<(), Error> {
        // Only a crash leaves these: a folder is made before its link, and the link goes first.
        for stray in self.dangling_links()? {
            strata_durable::remove_file(&stray)?;
        }
        Ok(())
    }
}
