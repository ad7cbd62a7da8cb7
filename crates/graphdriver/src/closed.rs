//! A driver that cannot be opened here: its layers' records can be read, its directories cannot.
//!
//! A root may hold images of a driver that this build does not have (devicemapper, zfs) or that does not work on this filesystem (btrfs on
//! a copy). What image and layer stores keep are plain files, so those stores open over a [`Closed`] driver; whatever needs the layers'
//! own files fails with [`Error::Closed`], which gives the reason.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Mutex,
};

use strata_archive::diff::Change;
use strata_spec::{CacheId, ErrorKind};
use strata_sys::fs::Feature;

use crate::{Access, Error, Fault, Folder, GraphDriver, Mounted, Parent, Term};

/// A driver of a root that cannot be opened, and why.
pub struct Closed {
    name: &'static str,
    home: PathBuf,
    why: String,
    kind: ErrorKind,
}

impl Closed {
    /// The driver `name` of the data root `root`, and why it cannot be opened.
    pub fn new(name: &str, root: &Path, why: String, kind: ErrorKind) -> Self {
        Self { name: interned(name), home: root.join(name), why, kind }
    }

    fn error(&self) -> Error {
        Error::Closed { driver: self.name, why: self.why.clone(), kind: self.kind }
    }
}

/// Keeps `name` for as long as the program lives, once.
fn interned(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match names.get(name) {
        Some(name) => name,
        None => {
            let name: &'static str = String::from(name).leak();
            names.insert(name);
            name
        }
    }
}

impl GraphDriver for Closed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn home(&self) -> &Path {
        &self.home
    }

    fn usable(&self) -> Result<(), Error> {
        Err(self.error())
    }

    fn status(&self) -> Vec<(String, String)> {
        vec![("Cannot be opened".to_owned(), self.why.clone())]
    }

    fn probe(&self) -> Vec<Feature> {
        Vec::new()
    }

    fn is_independent(&self) -> bool {
        false
    }

    fn max_depth(&self) -> usize {
        // Layers plus one for a container's init layer: the layer store subtracts that.
        1
    }

    fn create(&self, _: &CacheId, _: Parent<'_>, _: Access) -> Result<(), Error> {
        Err(self.error())
    }

    fn adopt(&self, _: &CacheId, _: Option<&CacheId>) -> Result<(), Error> {
        Err(self.error())
    }

    fn commit(&self, _: &CacheId) -> Result<(), Error> {
        Err(self.error())
    }

    fn remove(&self, _: &CacheId) -> Result<(), Error> {
        Err(self.error())
    }

    fn exists(&self, _: &CacheId) -> bool {
        false
    }

    fn list(&self) -> Result<Vec<CacheId>, Error> {
        Err(self.error())
    }

    fn parent(&self, _: &CacheId) -> Result<Option<CacheId>, Error> {
        Err(self.error())
    }

    fn folder(&self, _: &CacheId) -> Result<Folder, Error> {
        Err(self.error())
    }

    fn mount(&self, _: &CacheId, _: Access) -> Result<Mounted, Error> {
        Err(self.error())
    }

    fn unmount(&self, _: &CacheId) -> Result<(), Error> {
        Err(self.error())
    }

    /// Nothing: `inspect` shows the driver's name alone.
    fn metadata(&self, _: &CacheId) -> Result<Vec<(String, String)>, Error> {
        Ok(Vec::new())
    }

    fn describe(&self, _: &CacheId, _: Option<&CacheId>, _: Access) -> Vec<Term> {
        Vec::new()
    }

    fn changes(&self, _: &CacheId, _: Option<&CacheId>) -> Result<Vec<Change>, Error> {
        Err(self.error())
    }

    fn diff(&self, _: &CacheId, _: Option<&CacheId>, _: &mut (dyn std::io::Write + Send)) -> Result<(), Error> {
        Err(self.error())
    }

    fn diff_size(&self, _: &CacheId, _: Option<&CacheId>) -> Result<u64, Error> {
        Err(self.error())
    }

    fn sync(&self) -> Result<(), Error> {
        Err(self.error())
    }

    fn check(&self, _: &CacheId, _: Option<&CacheId>) -> Vec<Fault> {
        Vec::new()
    }

    fn strays(&self) -> Result<Vec<Fault>, Error> {
        Ok(Vec::new())
    }

    fn repair(&self, _: &CacheId, _: Option<&CacheId>) -> Result<Vec<PathBuf>, Error> {
        Err(self.error())
    }

    fn sweep(&self) -> Result<(), Error> {
        Ok(())
    }

    fn tidy(&self) -> Result<(), Error> {
        Ok(())
    }
}
