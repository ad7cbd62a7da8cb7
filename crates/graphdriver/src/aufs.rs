//! `aufs/`: one folder a layer, one union a container, with AUFS's marks.
//!
//! ```text
//! diff/<cache ID>/        0755  the layer's own files; deletions as `.wh.NAME`, opaque directories by `.wh..wh..opq` in them
//! layers/<cache ID>       0644  the folders below, topmost first, a line each; empty on a base layer
//! mnt/<cache ID>/         0755  the mount point; there while the layer is
//! …/<cache ID>-init             a container's init layer, alike
//! ```
//!
//! Ours, beside it: `strata/tmp/aufs/` (folders being deleted), `strata/mnt/<cache ID>` (read-only views), `strata/locks/aufs*` (who uses
//! which mount). `docs/formats/aufs-driver.md` shows all of it.
//!
//! A folder's files are written in this order: `diff`, `mnt`, then `layers`, which says that the folder exists. Removal runs backwards.
//! No kernel that is built today has AUFS; the union is our own, in user space.
//!
//! Source: moby `daemon/graphdriver/aufs/{aufs,dirs}.go`, version 20.10.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use strata_archive::{Marks, diff::Change};
use strata_durable::Context;
use strata_spec::CacheId;

use crate::names::aufs::{DIFF, LAYERS, MNT};
use crate::{
    Access, Error, Fault, Feature, Folder, GraphDriver, Mounted, Parent,
    home::{self, Home, backing_filesystem, damaged, fault_of, is_dir, make_dir, write_new},
    seats::{Place, Seats},
    terms::{self, Term, Whose},
    union,
};

const NAME: &str = "aufs";

/// The aufs driver on one data root.
pub struct Aufs {
    home: Home,
    seats: Seats,
}

impl Aufs {
    /// Opens the driver below `root`, making what is missing of it. With `ReadOnly` nothing is made, and what is not there is empty.
    pub fn open(root: &Path, access: Access) -> Result<Self, Error> {
        let home = Home::open(root, NAME, DIFF, &[LAYERS, MNT], access)?;
        Ok(Self { seats: Seats::new(NAME, home.strata.join("locks")), home })
    }

    fn diff_dir(&self, id: &CacheId) -> PathBuf {
        self.home.dir(id)
    }

    fn layers_file(&self, id: &CacheId) -> PathBuf {
        self.home.path.join(LAYERS).join(id.as_str())
    }

    fn mount_point(&self, id: &CacheId) -> PathBuf {
        self.home.path.join(MNT).join(id.as_str())
    }

    /// The folders below `id`, from the topmost down.
    fn below(&self, id: &CacheId) -> Result<Vec<CacheId>, Error> {
        let path = self.layers_file(id);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(
                    path,
                    "the file is missing; no content is lost, and `strata fsck` tells how to write it anew",
                ));
            }
            result => result.context("read", &path)?,
        };
        let lines = std::str::from_utf8(&text).ok();
        let ids = lines.and_then(|text| text.lines().map(|line| line.parse().ok()).collect());
        ids.ok_or_else(|| damaged(path, "does not hold folders' names, a line each; no content is lost, and `strata fsck` tells how to write it anew"))
    }

    /// What `layers/` of a folder over `parent` holds.
    fn layers_text(&self, parent: Option<&CacheId>) -> Result<String, Error> {
        let Some(parent) = parent else { return Ok(String::new()) };
        let mut text = format!("{parent}\n");
        for id in self.below(parent)? {
            text.push_str(id.as_str());
            text.push('\n');
        }
        Ok(text)
    }

    /// The folders of `id` and of all below it, topmost first; each is there.
    fn branches(&self, id: &CacheId) -> Result<Vec<PathBuf>, Error> {
        let mut branches = vec![self.diff_dir(id)];
        for below in self.below(id)? {
            let path = self.diff_dir(&below);
            if !is_dir(&path) {
                return Err(damaged(path, format!("the files of a layer below {id} are missing")));
            }
            branches.push(path);
        }
        Ok(branches)
    }

    fn point(&self, id: &CacheId) -> Place {
        self.seats.place(self.mount_point(id), id.as_str()).lasting()
    }

    fn view(&self, id: &CacheId) -> Place {
        self.seats.place(self.home.strata.join("mnt").join(id.as_str()), &format!("view-{id}"))
    }

    fn fill_new(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<(), Error> {
        make_dir(&self.mount_point(id), 0o755)?;
        write_new(&self.layers_file(id), self.layers_text(parent)?.as_bytes(), 0o644)
    }

    /// Names in `layers/` and `mnt/` that have no folder.
    fn widows(&self) -> Result<Vec<PathBuf>, Error> {
        let mut widows = Vec::new();
        for place in [LAYERS, MNT] {
            let place = self.home.path.join(place);
            let ids = home::list(&place)?.into_iter();
            widows.extend(ids.filter(|id| !self.home.exists(id)).map(|id| place.join(id.as_str())));
        }
        Ok(widows)
    }
}

impl GraphDriver for Aufs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn home(&self) -> &Path {
        &self.home.path
    }

    fn status(&self) -> Vec<(String, String)> {
        let line = |name: &str, value: String| (name.to_owned(), value);
        let dirs = home::list(&self.home.path.join(LAYERS)).map_or(0, |ids| ids.len());
        vec![
            line("Root Dir", self.home.path.display().to_string()),
            backing_filesystem(&self.home.path),
            line("Dirs", dirs.to_string()),
            line("Dirperm1 Supported", "true".to_owned()),
        ]
    }

    fn probe(&self) -> Vec<Feature> {
        vec![union::feature()]
    }

    fn is_independent(&self) -> bool {
        true
    }

    fn max_depth(&self) -> usize {
        union::MAX_DEPTH
    }

    fn create(&self, id: &CacheId, parent: Parent<'_>, _access: Access) -> Result<(), Error> {
        let parent = if let Parent::Of(parent) = parent { Some(parent) } else { None };
        if let Some(parent) = parent {
            self.home.require(parent)?;
            self.check_depth(id, parent)?;
        }
        self.home.create(id, 0o755)?;
        self.fill_new(id, parent).inspect_err(|_| {
            let _ = self.remove(id);
        })
    }

    fn adopt(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<(), Error> {
        self.home.require(id)?;
        match parent {
            None => Ok(()),
            Some(parent) => {
                self.home.require(parent)?;
                self.check_depth(id, parent)?;
                write_new(&self.layers_file(id), self.layers_text(Some(parent))?.as_bytes(), 0o644)
            }
        }
    }

    fn commit(&self, id: &CacheId) -> Result<(), Error> {
        self.home.require(id)
    }

    fn remove(&self, id: &CacheId) -> Result<(), Error> {
        self.unmount(id)?;
        let (layers, point) = (self.layers_file(id), self.mount_point(id));
        if layers.symlink_metadata().is_ok() {
            strata_durable::remove_file(&layers)?;
        }
        match fs::remove_dir(&point) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.context("remove", &point)?,
        }
        self.home.remove(&self.diff_dir(id))
    }

    fn exists(&self, id: &CacheId) -> bool {
        self.home.exists(id)
    }

    fn list(&self) -> Result<Vec<CacheId>, Error> {
        self.home.list()
    }

    fn place(&self, id: &CacheId) -> PathBuf {
        self.diff_dir(id)
    }

    fn parent(&self, id: &CacheId) -> Result<Option<CacheId>, Error> {
        self.home.require(id)?;
        Ok(self.below(id)?.into_iter().next())
    }

    fn folder(&self, id: &CacheId) -> Result<Folder, Error> {
        self.home.require(id)?;
        Ok(Folder { path: self.diff_dir(id), marks: Marks::Aufs })
    }

    fn mount(&self, id: &CacheId, access: Access) -> Result<Mounted, Error> {
        self.home.require(id)?;
        let branches = self.branches(id)?;
        if branches.len() == 1 {
            // As Docker: the folder itself.
            return Ok(Mounted::plain(self.diff_dir(id)));
        }
        let _gate = self.seats.gate()?;
        let (point, view) = (self.point(id), self.view(id));
        if point.is_mounted()? {
            return self.seats.join(&point);
        }
        let place = if access == Access::ReadWrite { point } else { view };
        if !place.is_mounted()? {
            self.seats.put_up(&place, || union::aufs(&branches, access, &place.target))?;
        }
        self.seats.join(&place)
    }

    fn unmount(&self, id: &CacheId) -> Result<(), Error> {
        self.seats.take_down(&[self.point(id), self.view(id)])
    }

    /// Docker tells nothing of aufs.
    fn metadata(&self, id: &CacheId) -> Result<Vec<(String, String)>, Error> {
        self.home.require(id).map(|()| Vec::new())
    }

    fn describe(&self, id: &CacheId, _parent: Option<&CacheId>, access: Access) -> Vec<Term> {
        let branch = |id: &CacheId, access: &str| {
            let counts = terms::marks(&self.diff_dir(id), Whose::Aufs);
            Term::counted("branch", format!("{DIFF}/{id}={access}"), counts)
        };
        let below = self.below(id).unwrap_or_default();
        let mut terms = vec![branch(id, if access == Access::ReadWrite { "rw" } else { "ro+wh" })];
        terms.extend(below.iter().map(|id| branch(id, "ro+wh")));
        terms.push(terms::mount_point("mount point", &format!("{MNT}/{id}"), &self.mount_point(id)));
        terms
    }

    fn changes(&self, id: &CacheId, _parent: Option<&CacheId>) -> Result<Vec<Change>, Error> {
        self.home.require(id)?;
        let branches = self.branches(id)?;
        Ok(strata_archive::diff::changes(&branches[0], &branches[1..], Marks::Aufs)?)
    }

    fn diff(&self, id: &CacheId, _parent: Option<&CacheId>, out: &mut (dyn Write + Send)) -> Result<(), Error> {
        self.home.require(id)?;
        let branches = self.branches(id)?;
        Ok(strata_archive::diff::diff(&branches[0], &branches[1..], Marks::Aufs, out)?)
    }

    fn diff_size(&self, id: &CacheId, _parent: Option<&CacheId>) -> Result<u64, Error> {
        self.home.require(id)?;
        crate::tree_size(&self.diff_dir(id))
    }

    fn sync(&self) -> Result<(), Error> {
        self.home.sync()
    }

    fn check(&self, id: &CacheId, parent: Option<&CacheId>) -> Vec<Fault> {
        if !self.exists(id) {
            return self.home.missing(id);
        }
        let mut faults = Vec::new();
        if !is_dir(&self.mount_point(id)) {
            let reason = "the mount point is missing: Docker cannot mount the layer".into();
            faults.push(Fault { path: self.mount_point(id), reason });
        }
        match (self.below(id), self.layers_text(parent)) {
            (Err(error), _) => faults.push(fault_of(error)),
            // The parent's own fault is found at the parent.
            (Ok(_), Err(_)) => {}
            (Ok(_), Ok(expected)) => {
                if fs::read_to_string(self.layers_file(id)).ok().as_deref() != Some(&expected) {
                    let reason = match parent {
                        Some(_) => "does not name the folders below its parent",
                        None => "a base layer has nothing below it",
                    };
                    faults.push(Fault { path: self.layers_file(id), reason: reason.into() });
                }
            }
        }
        faults
    }

    fn strays(&self) -> Result<Vec<Fault>, Error> {
        let mut strays = self.home.strays(&[])?;
        let reason = || "belongs to a layer whose files are gone".to_owned();
        strays.extend(self.widows()?.into_iter().map(|path| Fault { path, reason: reason() }));
        Ok(strays)
    }

    fn repair(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<Vec<PathBuf>, Error> {
        self.home.require(id)?;
        let mut rewritten = Vec::new();
        if !is_dir(&self.mount_point(id)) {
            make_dir(&self.mount_point(id), 0o755)?;
            rewritten.push(self.mount_point(id));
        }
        let text = self.layers_text(parent)?;
        if fs::read_to_string(self.layers_file(id)).ok().as_deref() != Some(&text) {
            strata_durable::write(&self.layers_file(id), text.as_bytes(), 0o644)?;
            rewritten.push(self.layers_file(id));
        }
        for path in &rewritten {
            tracing::warn!(driver = NAME, %id, path = %path.display(), "rewritten");
        }
        Ok(rewritten)
    }

    fn sweep(&self) -> Result<(), Error> {
        self.home.sweep()
    }

    fn tidy(&self) -> Result<(), Error> {
        // Only a crash leaves these: a folder's files are made first and go last.
        for widow in self.widows()? {
            match is_dir(&widow) {
                true => fs::remove_dir(&widow).context("remove", &widow)?,
                false => strata_durable::remove_file(&widow)?,
            }
        }
        Ok(())
    }
}

impl Aufs {
    fn check_depth(&self, id: &CacheId, parent: &CacheId) -> Result<(), Error> {
        let depth = self.below(parent)?.len() + 1;
        match depth > union::MAX_DEPTH {
            true => Err(Error::TooDeep { id: id.clone(), driver: NAME, depth, limit: union::MAX_DEPTH }),
            false => Ok(()),
        }
    }
}
