//! `btrfs/`: a subvolume a layer, begun as a snapshot of the one below.
//!
//! ```text
//! subvolumes/             0710
//!   <cache ID>/           0755  a subvolume: the whole root
//!   <cache ID>-init/            a container's init layer, alike
//! quotas/<cache ID>             bytes that a container's root may refer to, in decimal; only where a limit was asked for
//! ```
//!
//! Nothing is mounted. A snapshot knows the subvolume that it was made of by its UUID, which is how a folder's parent is found. Making and
//! destroying are one step each in the filesystem's own transactions.
//!
//! Source: moby `daemon/graphdriver/btrfs/btrfs.go`, version 20.10.
//!
//! # Limitations
//!
//! What changed is found by comparing whole trees, as Docker does it.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use strata_archive::{Marks, diff::Change};
use strata_durable::{Context, trace::content};
use strata_spec::CacheId;
use strata_sys::{
    btrfs::{self as kernel, Subvolume},
    fs::nearest_existing,
    tree::{Dir, Stat},
};

use crate::{
    Access, Error, Fault, Feature, Folder, GraphDriver, Mounted, Parent,
    copy::needs_parent,
    home::{Home, damaged, is_dir, make_dir, set_mode, write_new},
    names,
    terms::Term,
    views,
};

const NAME: &str = "btrfs";

/// The btrfs driver on one data root.
pub struct Btrfs {
    home: Home,
}

impl Btrfs {
    /// Opens the driver below `root`, making what is missing of it. With `ReadOnly` nothing is made, and what is not there is empty.
    /// Fails with `Unsupported` where the root is not on a btrfs.
    pub fn open(root: &Path, access: Access) -> Result<Self, Error> {
        let existing = nearest_existing(root);
        if !kernel::is_btrfs(&existing).context("look at the filesystem of", &existing)? {
            let why = format!("{} is not on a btrfs", root.display());
            return Err(Error::Unsupported { driver: NAME, what: "keep layers here", why });
        }
        Ok(Self { home: Home::open(root, NAME, names::btrfs::SUBVOLUMES, &[], access)? })
    }

    fn below(&self, parent: Option<&CacheId>) -> Result<Option<PathBuf>, Error> {
        parent.map(|parent| self.home.require(parent).map(|()| self.home.dir(parent))).transpose()
    }

    fn folders(&self) -> Result<Dir, Error> {
        Ok(Dir::open(&self.home.folders).context("open", &self.home.folders)?)
    }

    fn info(&self, id: &CacheId) -> Result<Subvolume, Error> {
        let path = self.home.dir(id);
        let info = Dir::open(&path).and_then(|dir| kernel::info(&dir)).context("look at the subvolume", &path)?;
        Ok(info)
    }

    fn quota_file(&self, id: &CacheId) -> PathBuf {
        self.quotas().join(id.as_str())
    }

    fn quotas(&self) -> PathBuf {
        self.home.path.join(names::btrfs::QUOTAS)
    }

    /// The bytes that a folder may refer to, as they were asked for; `None` where nothing was.
    fn asked_limit(&self, id: &CacheId) -> Result<Option<u64>, Error> {
        let path = self.quota_file(id);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.context("read", &path)?,
        };
        let bytes = text.trim().parse().map_err(|_| damaged(path, "does not hold a number of bytes"))?;
        Ok(Some(bytes))
    }

    /// The limit that was asked for beside the kernel's, and what the kernel has counted.
    fn limit_term(&self, id: &CacheId, subvolume: u64) -> Term {
        let dir = self.home.dir(id);
        let group = Dir::open(&dir).and_then(|dir| kernel::group(&dir, subvolume));
        let set = group.as_ref().ok().copied().flatten().and_then(|group| group.limit);
        let file = format!("{}/{id}", names::btrfs::QUOTAS);
        let text = match (self.asked_limit(id), set) {
            (Err(error), _) => format!("not known: {error}"),
            (Ok(None), None) => "none".to_owned(),
            (Ok(Some(asked)), Some(set)) if asked == set => format!("{set} bytes ({file})"),
            (Ok(Some(asked)), None) => format!("{asked} bytes ({file}), set when it is mounted"),
            (Ok(Some(asked)), Some(set)) => format!("{asked} bytes ({file}); until it is mounted {set}"),
            (Ok(None), Some(set)) => format!("{set} bytes, by quota group 0/{subvolume} alone"),
        };
        let mut term = Term::new("limit", text);
        if let Ok(Some(group)) = group {
            term.counts = vec![("bytes_referenced", group.referenced), ("bytes_exclusive", group.exclusive)];
        }
        term
    }

    /// Sets the limit that the container was made with, as Docker does each time it is mounted.
    fn set_limit(&self, id: &CacheId) -> Result<(), Error> {
        let Some(bytes) = self.asked_limit(id)? else { return Ok(()) };
        let dir = self.home.dir(id);
        let subvolume = Dir::open(&dir).context("open", &dir)?;
        kernel::enable_quota(&subvolume).context("limit", &dir)?;
        Ok(kernel::limit(&subvolume, bytes).context("limit", &dir)?)
    }
}

impl GraphDriver for Btrfs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn home(&self) -> &Path {
        &self.home.path
    }

    /// Docker shows the version of its library here; we have none.
    fn status(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn probe(&self) -> Vec<Feature> {
        let (works, why) = match kernel::is_btrfs(&self.home.path) {
            Ok(true) => (true, "the root is on a btrfs".to_owned()),
            Ok(false) => (false, "the root is not on a btrfs".to_owned()),
            Err(error) => (false, error.to_string()),
        };
        vec![Feature { name: "subvolumes and snapshots", works, why }]
    }

    fn is_independent(&self) -> bool {
        false
    }

    fn max_depth(&self) -> usize {
        usize::MAX
    }

    fn create(&self, id: &CacheId, parent: Parent<'_>, _access: Access) -> Result<(), Error> {
        let path = self.home.dir(id);
        let below = match parent {
            Parent::Of(parent) => Some(parent),
            Parent::None => None,
            Parent::Later => return Err(needs_parent(NAME)),
        };
        let below = self.below(below)?;
        if path.symlink_metadata().is_ok() {
            return Err(Error::AlreadyExists(id.clone(), NAME));
        }
        let folders = self.folders()?;
        match below {
            None => {
                kernel::create(&folders, OsStr::new(id.as_str())).context("create", &path)?;
                set_mode(&path, 0o755)?;
            }
            Some(below) => {
                let of = Dir::open(&below).context("open", &below)?;
                kernel::snapshot(&of, &folders, OsStr::new(id.as_str())).context("create", &path)?;
            }
        }
        content(&path);
        Ok(())
    }

    fn adopt(&self, id: &CacheId, _parent: Option<&CacheId>) -> Result<(), Error> {
        self.home.require(id)
    }

    fn commit(&self, id: &CacheId) -> Result<(), Error> {
        self.home.require(id)
    }

    fn remove(&self, id: &CacheId) -> Result<(), Error> {
        let path = self.home.dir(id);
        match Stat::of_path(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(stat) if !kernel::is_subvolume(&stat) => self.home.remove(&path)?,
            result => {
                result.context("look at", &path)?;
                let folders = self.folders()?;
                let limited = self.quota_file(id).exists().then(|| self.info(id)).transpose()?;
                kernel::destroy(&folders, OsStr::new(id.as_str())).context("remove", &path)?;
                content(&path);
                // Where the kernel has not done so itself.
                if let Some(Err(error)) = limited.map(|subvolume| kernel::destroy_group(&folders, subvolume.id)) {
                    tracing::debug!(%id, %error, "its quota group stays");
                }
            }
        }
        match fs::remove_file(self.quota_file(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => Ok(result.context("remove", self.quota_file(id))?),
        }
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
        self.home.require(id)?;
        let of = self.info(id)?.parent_uuid;
        if of == [0; 16] {
            return Ok(None);
        }
        // One that goes while we look is not the parent: it has a folder above it.
        Ok(self.list()?.into_iter().find(|other| self.info(other).is_ok_and(|info| info.uuid == of)))
    }

    fn folder(&self, id: &CacheId) -> Result<Folder, Error> {
        self.home.require(id)?;
        Ok(Folder { path: self.home.dir(id), marks: Marks::None })
    }

    fn mount(&self, id: &CacheId, access: Access) -> Result<Mounted, Error> {
        self.home.require(id)?;
        if access == Access::ReadWrite {
            self.set_limit(id)?;
        }
        Ok(Mounted::plain(self.home.dir(id)))
    }

    fn limit(&self, id: &CacheId, bytes: u64) -> Result<(), Error> {
        self.home.require(id)?;
        if !is_dir(&self.quotas()) {
            make_dir(&self.quotas(), 0o700)?;
        }
        write_new(&self.quota_file(id), bytes.to_string().as_bytes(), 0o644)?;
        self.set_limit(id)
    }

    fn unmount(&self, _id: &CacheId) -> Result<(), Error> {
        Ok(())
    }

    fn metadata(&self, id: &CacheId) -> Result<Vec<(String, String)>, Error> {
        self.home.require(id).map(|()| Vec::new())
    }

    fn describe(&self, id: &CacheId, _parent: Option<&CacheId>, _access: Access) -> Vec<Term> {
        let info = match self.info(id) {
            Ok(info) => info,
            Err(error) => return vec![Term::new("subvolume", format!("not known: {error}"))],
        };
        let of = match self.parent(id) {
            Ok(Some(parent)) => parent.to_string(),
            _ if info.parent_uuid == [0; 16] => "none: it began empty".to_owned(),
            _ => "a subvolume that is gone".to_owned(),
        };
        vec![
            Term::new("subvolume", info.id.to_string()),
            Term::new("generation", info.generation.to_string()),
            Term::new("parent subvolume", of),
            self.limit_term(id, info.id),
        ]
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
        let path = self.home.dir(id);
        match Stat::of_path(&path) {
            Ok(stat) if kernel::is_subvolume(&stat) => Vec::new(),
            Ok(_) => vec![Fault { path, reason: "is not a subvolume, as after a copy of the root".into() }],
            Err(_) => self.home.missing(id),
        }
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
