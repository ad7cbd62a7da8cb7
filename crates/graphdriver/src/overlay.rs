//! `overlay/`: a whole root a layer, made of hard links to the root below; one kernel overlay mount of two directories a container.
//!
//! ```text
//! <cache ID>/            0710
//!   root/                      a layer: its own files over hard links to the files of the root below
//! <cache ID>/            0710
//!   upper/                     a container's own files, whiteouts as character devices 0/0; begins as a copy of its init layer's
//!   work/                0700  the kernel's
//!   lower-id             0600  the folder whose root lies below: 64 hex digits, no newline
//!   merged/              0700  the mount point; there while mounted
//! <cache ID>-init/             a container's init layer, alike
//! ```
//!
//! Ours, beside it: `strata/tmp/overlay/` (folders being deleted), `strata/mnt/<cache ID>` (read-only views), `strata/locks/overlay*`
//! (who uses which mount).
//!
//! Since the files of all layers are the same files, none is ever written into: a layer's tar replaces what it changes, and containers
//! write to copies. A file that can have no more names (65,000 on ext4) is copied, and goes on from there.
//!
//! Source: moby `daemon/graphdriver/overlay/overlay.go`, version 20.10.
//!
//! # Limitations
//!
//! Each layer has an inode for each directory, link and device of all layers below it. Use overlay2 for new roots.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use strata_archive::{
    Marks,
    diff::{Change, ChangeKind},
};
use strata_durable::{Context, trace::content};
use strata_spec::CacheId;
use strata_sys::{
    mount as kernel,
    tree::{Kind, Stat},
    xattr,
};
use strata_tree::marks::overlay::{TRUSTED, is_whiteout};

use crate::names::overlay::{LOWER_ID, MERGED, ROOT, UPPER, WORK};
use crate::{
    Access, Error, Fault, Feature, Folder, GraphDriver, Mounted, Parent,
    copy::{self, How},
    home::{Home, backing_filesystem, damaged, fault_of, is_dir, make_dir, require_d_type, write_new},
    overlay2::{mount_options, probe_home},
    seats::{Place, Seats},
    terms::{self, Term, Whose},
    views,
};

const NAME: &str = "overlay";

/// The overlay driver on one data root.
pub struct Overlay {
    home: Home,
    seats: Seats,
}

impl Overlay {
    /// Opens the driver below `root`, making what is missing of it. With `ReadOnly` nothing is made, and what is not there is empty.
    pub fn open(root: &Path, access: Access) -> Result<Self, Error> {
        let home = Home::open(root, NAME, "", &[], access)?;
        if access == Access::ReadWrite {
            require_d_type(NAME, &home.path)?;
        }
        Ok(Self { seats: Seats::new(NAME, home.strata.join("locks")), home })
    }

    fn at(&self, id: &CacheId, name: &str) -> PathBuf {
        self.home.dir(id).join(name)
    }

    /// The layer's whole root; `None` of a container's folder.
    fn root(&self, id: &CacheId) -> Option<PathBuf> {
        Some(self.at(id, ROOT)).filter(|root| is_dir(root))
    }

    /// The folder whose root lies below a container's.
    fn lower_id(&self, id: &CacheId) -> Result<CacheId, Error> {
        let path = self.at(id, LOWER_ID);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(
                    path,
                    "the file is missing; no content is lost, and `strata fsck` tells how to write it anew",
                ));
            }
            result => result.context("read", &path)?,
        };
        if text.is_empty() {
            return Err(damaged(
                path,
                "the file is empty, as after a power cut; no content is lost, and `strata fsck` tells how to write it anew",
            ));
        }
        let id = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        id.ok_or_else(|| {
            damaged(
                path,
                "does not hold a folder's name; no content is lost, and `strata fsck` tells how to write it anew",
            )
        })
    }

    fn lower_root(&self, id: &CacheId) -> Result<PathBuf, Error> {
        let lower = self.lower_id(id)?;
        self.root(&lower)
            .ok_or_else(|| damaged(self.at(&lower, ROOT), format!("the files of the layer below {id} are missing")))
    }

    /// What the `lower-id` of a folder over `parent` holds.
    fn lower_of(&self, parent: &CacheId) -> Result<CacheId, Error> {
        if self.root(parent).is_some() { Ok(parent.clone()) } else { self.lower_id(parent) }
    }

    fn fill_new(&self, id: &CacheId, parent: Option<&CacheId>, access: Access) -> Result<(), Error> {
        let Some(parent) = parent else { return make_dir(&self.at(id, ROOT), 0o755) };
        match (access, self.root(parent)) {
            (Access::ReadOnly, Some(below)) => {
                make_dir(&self.at(id, ROOT), 0o755)?;
                copy::tree(&below, &self.at(id, ROOT), How::Links)?;
            }
            (Access::ReadOnly, None) => {
                let why = format!("{parent} is a container's");
                return Err(Error::Unsupported { driver: NAME, what: "make a layer over this folder", why });
            }
            (Access::ReadWrite, Some(below)) => {
                let mode = fs::symlink_metadata(&below).context("look at", &below)?.permissions().mode() & 0o7777;
                make_dir(&self.at(id, UPPER), mode)?;
            }
            (Access::ReadWrite, None) => {
                make_dir(&self.at(id, UPPER), 0o755)?;
                copy::tree(&self.at(parent, UPPER), &self.at(id, UPPER), How::Upper)?;
            }
        }
        if access == Access::ReadWrite {
            make_dir(&self.at(id, WORK), 0o700)?;
            write_new(&self.at(id, LOWER_ID), self.lower_of(parent)?.as_str().as_bytes(), 0o600)?;
        }
        content(&self.home.dir(id));
        Ok(())
    }

    fn merged(&self, id: &CacheId) -> Place {
        self.seats.place(self.at(id, MERGED), id.as_str())
    }

    fn view(&self, id: &CacheId) -> Place {
        self.seats.place(self.home.strata.join("mnt").join(id.as_str()), &format!("view-{id}"))
    }

    fn put_up(&self, id: &CacheId, place: &Place, access: Access) -> Result<(), Error> {
        let own = [PathBuf::from(id.as_str()).join(UPPER), PathBuf::from(id.as_str()).join(WORK)];
        let [upper, work] = [own[0].as_path(), own[1].as_path()];
        // That it is there is checked; the kernel gets it relative to the home.
        self.lower_root(id)?;
        let lower = PathBuf::from(self.lower_id(id)?.as_str()).join(ROOT);
        let (lower, upper) = match access {
            Access::ReadWrite => (vec![lower.as_path()], Some((upper, work))),
            Access::ReadOnly => (vec![upper, lower.as_path()], None),
        };
        let overlay = kernel::Overlay { lower, upper, options: mount_options(), base: Some(&self.home.path) };
        self.seats.put_up(place, || kernel::overlay(&place.target, &overlay))
    }

    /// What a container's folder changes over its init layer's. Both have upper directories of their own, the one begun as a copy of
    /// the other, over one root.
    fn upper_changes(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<Vec<Change>, Error> {
        let (upper, root) = (self.at(id, UPPER), self.lower_root(id)?);
        let init = parent.map(|parent| self.at(parent, UPPER)).filter(|init| is_dir(init));
        let below: Vec<PathBuf> = init.clone().into_iter().chain([root.clone()]).collect();
        let mut changes = strata_archive::diff::changes(&upper, &below, Marks::Overlay)?;
        if let Some(init) = init {
            let mut gone = Vec::new();
            gone_of(&init, &upper, &root, Path::new(""), &mut gone)?;
            for path in gone {
                for above in path.ancestors().skip(1).filter(|above| above.parent().is_some()) {
                    changes.push(Change { path: above.to_owned(), kind: ChangeKind::Modified });
                }
                changes.push(Change { path, kind: ChangeKind::Deleted });
            }
            // By components: each directory before what is in it. Of two that say the same path is changed, the first was there before.
            changes.sort_by(|a, b| a.path.cmp(&b.path));
            changes.dedup_by(|later, first| later.path == first.path);
        }
        Ok(changes)
    }
}

/// Finds what the init layer alone had and the container has removed: nothing below it had the name, so no whiteout tells.
fn gone_of(init: &Path, upper: &Path, root: &Path, at: &Path, gone: &mut Vec<PathBuf>) -> Result<(), Error> {
    let here = init.join(at);
    for entry in fs::read_dir(&here).context("list", &here)? {
        let entry = entry.context("list", &here)?;
        let path = at.join(entry.file_name());
        let stat = Stat::of_path(entry.path()).context("look at", entry.path())?;
        match fs::symlink_metadata(upper.join(&path)) {
            Ok(now) if now.is_dir() && stat.kind == Kind::Dir => {
                let opaque = xattr::get(upper.join(&path), TRUSTED.opaque);
                if opaque.context("read the marks of", upper.join(&path))?.as_deref() != Some(b"y") {
                    gone_of(init, upper, root, &path, gone)?;
                }
            }
            Ok(_) => {}
            Err(_) if is_whiteout(&stat) || fs::symlink_metadata(root.join(&path)).is_ok() => {}
            Err(_) => gone.push(Path::new("/").join(path)),
        }
    }
    Ok(())
}

impl GraphDriver for Overlay {
    fn name(&self) -> &'static str {
        NAME
    }

    fn home(&self) -> &Path {
        &self.home.path
    }

    fn status(&self) -> Vec<(String, String)> {
        let d_type = strata_sys::fs::supports_d_type(&self.home.path).unwrap_or(false);
        vec![backing_filesystem(&self.home.path), ("Supports d_type".to_owned(), d_type.to_string())]
    }

    fn probe(&self) -> Vec<Feature> {
        let mut features = probe_home(&self.home.trash);
        features.retain(|feature| feature.name.starts_with("overlay "));
        features.push(copy::probe_reflinks(&self.home.trash));
        features
    }

    fn is_independent(&self) -> bool {
        false
    }

    fn max_depth(&self) -> usize {
        usize::MAX
    }

    fn create(&self, id: &CacheId, parent: Parent<'_>, access: Access) -> Result<(), Error> {
        let parent = match parent {
            Parent::Of(parent) => Some(parent),
            Parent::None => None,
            Parent::Later => return Err(copy::needs_parent(NAME)),
        };
        parent.map_or(Ok(()), |parent| self.home.require(parent))?;
        self.home.create(id, 0o710)?;
        self.fill_new(id, parent, access).inspect_err(|_| {
            let _ = self.remove(id);
        })
    }

    fn adopt(&self, id: &CacheId, _parent: Option<&CacheId>) -> Result<(), Error> {
        self.home.require(id)
    }

    fn commit(&self, id: &CacheId) -> Result<(), Error> {
        self.home.require(id)
    }

    fn remove(&self, id: &CacheId) -> Result<(), Error> {
        self.unmount(id)?;
        self.home.remove(&self.home.dir(id))
    }

    fn exists(&self, id: &CacheId) -> bool {
        self.home.exists(id)
    }

    fn list(&self) -> Result<Vec<CacheId>, Error> {
        self.home.list()
    }

    /// Of a container's folder, the layer whose root lies below; a layer's folder does not say.
    fn parent(&self, id: &CacheId) -> Result<Option<CacheId>, Error> {
        self.home.require(id)?;
        if self.root(id).is_some() { Ok(None) } else { self.lower_id(id).map(Some) }
    }

    fn folder(&self, id: &CacheId) -> Result<Folder, Error> {
        self.home.require(id)?;
        Ok(match self.root(id) {
            Some(path) => Folder { path, marks: Marks::None },
            None => Folder { path: self.at(id, UPPER), marks: Marks::Overlay },
        })
    }

    fn mount(&self, id: &CacheId, access: Access) -> Result<Mounted, Error> {
        self.home.require(id)?;
        if let Some(root) = self.root(id) {
            return Ok(Mounted::plain(root));
        }
        let _gate = self.seats.gate()?;
        let (merged, view) = (self.merged(id), self.view(id));
        if merged.is_mounted()? {
            return self.seats.join(&merged);
        }
        let place = if access == Access::ReadWrite { merged } else { view };
        if !place.is_mounted()? {
            self.put_up(id, &place, access)?;
        }
        self.seats.join(&place)
    }

    fn unmount(&self, id: &CacheId) -> Result<(), Error> {
        self.seats.take_down(&[self.merged(id), self.view(id)])
    }

    fn metadata(&self, id: &CacheId) -> Result<Vec<(String, String)>, Error> {
        self.home.require(id)?;
        let line = |name: &str, path: PathBuf| (name.to_owned(), path.to_string_lossy().into_owned());
        Ok(match self.root(id) {
            Some(root) => vec![line("RootDir", root)],
            None => vec![
                line("LowerDir", self.at(&self.lower_id(id)?, ROOT)),
                line("MergedDir", self.at(id, MERGED)),
                line("UpperDir", self.at(id, UPPER)),
                line("WorkDir", self.at(id, WORK)),
            ],
        })
    }

    fn describe(&self, id: &CacheId, parent: Option<&CacheId>, _access: Access) -> Vec<Term> {
        if let Some(root) = self.root(id) {
            let below = parent.and_then(|parent| self.root(parent));
            return vec![Term::counted("hard links", format!("{id}/{ROOT}"), terms::links(&root, below.as_deref()))];
        }
        let lower = match self.lower_id(id) {
            Ok(lower) => lower.to_string(),
            Err(error) => format!("not known: {error}"),
        };
        vec![
            Term::new("lower-id", lower),
            Term::counted("upper", format!("{id}/{UPPER}"), terms::marks(&self.at(id, UPPER), Whose::Overlay)),
            Term::new("work", format!("{id}/{WORK}")),
            terms::mount_point("merged", &format!("{id}/{MERGED}"), &self.at(id, MERGED)),
        ]
    }

    fn changes(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<Vec<Change>, Error> {
        self.home.require(id)?;
        match self.root(id) {
            Some(root) => views::changes(&root, parent.and_then(|parent| self.root(parent))),
            None => self.upper_changes(id, parent),
        }
    }

    fn diff(&self, id: &CacheId, parent: Option<&CacheId>, out: &mut (dyn Write + Send)) -> Result<(), Error> {
        self.home.require(id)?;
        if let Some(root) = self.root(id) {
            return views::diff(&root, parent.and_then(|parent| self.root(parent)), out);
        }
        let changes = self.upper_changes(id, parent)?;
        let view = self.mount(id, Access::ReadOnly)?;
        Ok(strata_archive::diff::write(view.path(), &changes, out)?)
    }

    fn diff_size(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<u64, Error> {
        let changes = self.changes(id, parent)?;
        views::size(&self.folder(id)?.path, &changes)
    }

    fn sync(&self) -> Result<(), Error> {
        self.home.sync()
    }

    fn check(&self, id: &CacheId, parent: Option<&CacheId>) -> Vec<Fault> {
        if !self.exists(id) {
            return self.home.missing(id);
        }
        if self.root(id).is_some() {
            return Vec::new();
        }
        if !self.at(id, UPPER).exists() && !self.at(id, LOWER_ID).exists() {
            return vec![Fault { path: self.at(id, ROOT), reason: "the layer's files are missing".into() }];
        }
        let mut faults = Vec::new();
        for (name, reason) in [(UPPER, "the container's files are missing"), (WORK, "the work directory is missing")] {
            if !is_dir(&self.at(id, name)) {
                faults.push(Fault { path: self.at(id, name), reason: reason.into() });
            }
        }
        match (self.lower_id(id), parent.map(|parent| self.lower_of(parent))) {
            (Err(error), _) => faults.push(fault_of(error)),
            (Ok(found), Some(Ok(expected))) if found != expected => {
                faults.push(Fault { path: self.at(id, LOWER_ID), reason: "does not name the folder below".into() })
            }
            (Ok(_), _) => faults.extend(self.lower_root(id).err().map(fault_of)),
        }
        faults
    }

    fn strays(&self) -> Result<Vec<Fault>, Error> {
        self.home.strays(&["backingFsBlockDev"])
    }

    fn repair(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<Vec<PathBuf>, Error> {
        self.home.require(id)?;
        let mut rewritten = Vec::new();
        if self.root(id).is_some() || !is_dir(&self.at(id, UPPER)) {
            return Ok(rewritten);
        }
        if !is_dir(&self.at(id, WORK)) {
            make_dir(&self.at(id, WORK), 0o700)?;
            rewritten.push(self.at(id, WORK));
        }
        if let Some(parent) = parent {
            let lower = self.lower_of(parent)?;
            if self.lower_id(id).ok().as_ref() != Some(&lower) {
                strata_durable::write(&self.at(id, LOWER_ID), lower.as_str().as_bytes(), 0o600)?;
                rewritten.push(self.at(id, LOWER_ID));
            }
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
        Ok(())
    }
}
