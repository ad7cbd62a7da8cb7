//! `vfs/`: a whole copy of the root for each layer. Works everywhere; takes the room and the time of a copy, unless the filesystem
//! shares blocks between files.
//!
//! ```text
//! dir/                    0710
//!   <cache ID>/           0755  the whole root: the layer's own files over a copy of the folder below
//!   <cache ID>-init/            a container's init layer, alike
//! ```
//!
//! Nothing says which folder is a copy of which, and nothing is mounted. Ours, beside it: `strata/tmp/vfs/` (folders being deleted).
//!
//! A folder that a crash left half copied is named by no layer and by no container; the journal's note removes it.
//!
//! Source: moby `daemon/graphdriver/vfs/driver.go`, version 20.10.
//!
//! # Limitations
//!
//! What changed is found by comparing whole trees. Like Docker's, the comparison does not look at attributes other than capabilities.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use strata_archive::{Marks, diff::Change};
use strata_durable::trace::content;
use strata_spec::CacheId;

use crate::names;
use crate::{
    Access, Error, Fault, Feature, Folder, GraphDriver, Mounted, Parent,
    copy::{self, How},
    home::Home,
    terms::{self, Term},
    views,
};

const NAME: &str = "vfs";

/// The vfs driver on one data root.
pub struct Vfs {
    home: Home,
}

impl Vfs {
    /// Opens the driver below `root`, making what is missing of it. With `ReadOnly` nothing is made, and what is not there is empty.
    pub fn open(root: &Path, access: Access) -> Result<Self, Error> {
        Ok(Self { home: Home::open(root, NAME, names::vfs::DIR, &[], access)? })
    }

    fn below(&self, parent: Option<&CacheId>) -> Result<Option<PathBuf>, Error> {
        parent.map(|parent| self.home.require(parent).map(|()| self.home.dir(parent))).transpose()
    }
}

impl GraphDriver for Vfs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn home(&self) -> &Path {
        &self.home.path
    }

    /// Docker says nothing of vfs either.
    fn status(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn probe(&self) -> Vec<Feature> {
        vec![copy::probe_reflinks(&self.home.trash)]
    }

    fn is_independent(&self) -> bool {
        false
    }

    fn max_depth(&self) -> usize {
        usize::MAX
    }

    fn create(&self, id: &CacheId, parent: Parent<'_>, _access: Access) -> Result<(), Error> {
        let below = match parent {
            Parent::Of(parent) => Some(parent),
            Parent::None => None,
            Parent::Later => return Err(copy::needs_parent(NAME)),
        };
        let below = self.below(below)?;
        self.home.create(id, 0o755)?;
        let dir = self.home.dir(id);
        if let Some(below) = below {
            copy::tree(&below, &dir, How::Content).inspect_err(|_| {
                let _ = self.remove(id);
            })?;
        }
        content(&dir);
        Ok(())
    }

    fn adopt(&self, id: &CacheId, _parent: Option<&CacheId>) -> Result<(), Error> {
        self.home.require(id)
    }

    fn commit(&self, id: &CacheId) -> Result<(), Error> {
        self.home.require(id)
    }

    fn remove(&self, id: &CacheId) -> Result<(), Error> {
        self.home.remove(&self.home.dir(id))
    }

    fn exists(&self, id: &CacheId) -> bool {
        self.home.exists(id)
    }

    fn list(&self) -> Result<Vec<CacheId>, Error> {
        self.home.list()
    }

    fn place(&self, id: &CacheId) -> PathBuf {
        self.home.dir(id)
    }

    fn parent(&self, id: &CacheId) -> Result<Option<CacheId>, Error> {
        self.home.require(id).map(|()| None)
    }

    fn folder(&self, id: &CacheId) -> Result<Folder, Error> {
        self.home.require(id)?;
        Ok(Folder { path: self.home.dir(id), marks: Marks::None })
    }

    fn mount(&self, id: &CacheId, _access: Access) -> Result<Mounted, Error> {
        self.home.require(id)?;
        Ok(Mounted::plain(self.home.dir(id)))
    }

    fn unmount(&self, _id: &CacheId) -> Result<(), Error> {
        Ok(())
    }

    fn metadata(&self, id: &CacheId) -> Result<Vec<(String, String)>, Error> {
        self.home.require(id).map(|()| Vec::new())
    }

    fn describe(&self, id: &CacheId, _parent: Option<&CacheId>, _access: Access) -> Vec<Term> {
        vec![Term::counted("plain folder", format!("{}/{id}", names::vfs::DIR), terms::shares(&self.home.dir(id)))]
    }

    fn changes(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<Vec<Change>, Error> {
        self.home.require(id)?;
        views::changes(&self.home.dir(id), self.below(parent)?)
    }

    fn diff(&self, id: &CacheId, parent: Option<&CacheId>, out: &mut (dyn Write + Send)) -> Result<(), Error> {
        self.home.require(id)?;
        views::diff(&self.home.dir(id), self.below(parent)?, out)
    }

    fn diff_size(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<u64, Error> {
        views::size(&self.home.dir(id), &self.changes(id, parent)?)
    }

    fn sync(&self) -> Result<(), Error> {
        self.home.sync()
    }

    fn check(&self, id: &CacheId, _parent: Option<&CacheId>) -> Vec<Fault> {
        if self.exists(id) { Vec::new() } else { self.home.missing(id) }
    }

    fn strays(&self) -> Result<Vec<Fault>, Error> {
        self.home.strays(&[])
    }

    fn repair(&self, id: &CacheId, _parent: Option<&CacheId>) -> Result<Vec<PathBuf>, Error> {
        self.home.require(id).map(|()| Vec::new())
    }

    fn sweep(&self) -> Result<(), Error> {
        self.home.sweep()
    }

    fn tidy(&self) -> Result<(), Error> {
        Ok(())
    }
}
