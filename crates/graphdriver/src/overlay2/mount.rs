//! Mounting, and who uses a mount.
//!
//! A folder is mounted for writing at its `merged`, as Docker does, and for reading at `strata/mnt/<cache ID>` unless `merged` is
//! mounted already. Each user of a mount, in whatever process, holds a shared lock on the mount's file in `strata/locks`; whoever
//! leaves and can lock it exclusively was the last, and unmounts. All this happens under one gate, held for the moment of a mount.
//! A mount without such a file was made by another engine and is left alone; a file that nobody holds was left by a process that died.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use strata_durable::{Context, Lock, lock::Mode};
use strata_spec::CacheId;
use strata_sys::{fs::overlay_parameters as kernel_parameters, mount as kernel};

use super::{NAME, Overlay2, create::make_dir, layout::damaged};
use crate::{Access, End, Error, GraphDriver, Mounted};

/// What the users' file holds when the mount stays without users.
const KEPT: &[u8] = b"kept";

/// A mount point and the file that its users lock.
struct Place {
    target: PathBuf,
    users: PathBuf,
}

/// One user's part in a mount.
struct Seat {
    gate: PathBuf,
    users: PathBuf,
    lock: Lock,
}

impl Overlay2 {
    pub(super) fn mount_folder(&self, id: &CacheId, access: Access) -> Result<Mounted, Error> {
        self.require(id)?;
        let lower = self.lower_paths(id)?;
        if lower.is_empty() {
            // The kernel unions no single directory; Docker hands out the folder itself too.
            return Ok(Mounted::plain(self.layout.diff(id)));
        }
        if access == Access::ReadWrite && self.layout.committed(id).exists() {
            let why = format!("other layers stand on {id}");
            return Err(Error::Unsupported { driver: NAME, what: "mount a committed layer for writing", why });
        }
        let _gate = self.gate()?;
        let (merged, view) = (self.merged(id), self.view(id));
        if merged.is_mounted()? {
            return self.join(&merged);
        }
        match access {
            Access::ReadWrite => {
                let work = self.layout.work(id);
                if !work.exists() {
                    make_dir(&work, 0o700)?;
                }
                self.put_up(id, &merged, &lower, access)?;
                self.join(&merged)
            }
            Access::ReadOnly => {
                if !view.is_mounted()? {
                    self.put_up(id, &view, &lower, access)?;
                }
                self.join(&view)
            }
        }
    }

    pub(super) fn unmount_folder(&self, id: &CacheId) -> Result<(), Error> {
        let places = [self.merged(id), self.view(id)];
        // A layer that was never mounted has neither; what is about to be mounted is not about to be removed.
        if !places.iter().any(|place| place.target.exists() || place.users.exists()) {
            return Ok(());
        }
        let _gate = self.gate()?;
        places.iter().try_for_each(|place| take_down(&place.target, &place.users))
    }

    /// All below `id` from the topmost down, relative to the home, as the kernel gets them; each is there.
    fn lower_paths(&self, id: &CacheId) -> Result<Vec<PathBuf>, Error> {
        let links = self.layout.read_lower_file(id)?;
        let mut paths = Vec::with_capacity(links.len());
        for link in &links {
            let path = self.layout.link(link);
            if !path.is_dir() {
                let below = self.layout.resolve(link)?;
                return Err(damaged(self.layout.diff(&below), format!("the files of a layer below {id} are missing")));
            }
            paths.push(Path::new("l").join(link.as_str()));
        }
        Ok(paths)
    }

    fn put_up(&self, id: &CacheId, place: &Place, lower: &[PathBuf], access: Access) -> Result<(), Error> {
        let depth = lower.len() + usize::from(access == Access::ReadOnly);
        if depth > super::DOCKER_DEPTH && depth > self.max_depth() {
            return Err(Error::TooDeep { id: id.clone(), driver: NAME, depth, limit: self.max_depth() });
        }
        match make_dir(&place.target, 0o700) {
            Err(Error::Io(error)) if error.source.kind() == io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
        // Left by a process that died before the machine was last started.
        remove_if_there(&place.users)?;
        let own = [PathBuf::from(id.as_str()).join("diff"), PathBuf::from(id.as_str()).join("work")];
        let [upper, work] = [own[0].as_path(), own[1].as_path()];
        let lower = lower.iter().map(PathBuf::as_path);
        let overlay = match access {
            Access::ReadWrite => kernel::Overlay {
                lower: lower.collect(),
                upper: Some((upper, work)),
                options: options(),
                base: Some(&self.layout.home),
            },
            Access::ReadOnly => kernel::Overlay {
                lower: std::iter::once(upper).chain(lower).collect(),
                upper: None,
                options: options(),
                base: Some(&self.layout.home),
            },
        };
        // First the file, so that the mount is known as ours even if this process dies the moment it is made.
        drop(Lock::acquire(&place.users, Mode::Shared)?);
        let mounted = kernel::overlay(&place.target, &overlay).context("mount", &place.target);
        Ok(mounted.inspect_err(|_| {
            let _ = take_down(&place.target, &place.users);
        })?)
    }

    /// Becomes a user of what is mounted at `place`. The gate is held.
    fn join(&self, place: &Place) -> Result<Mounted, Error> {
        if !place.users.exists() {
            return Ok(Mounted::plain(place.target.clone()));
        }
        let lock = Lock::acquire(&place.users, Mode::Shared)?;
        let seat = Seat { gate: self.locks.join(NAME), users: place.users.clone(), lock };
        Ok(Mounted::new(place.target.clone(), move |target, end| {
            if let Err(error) = seat.leave(target, end) {
                tracing::warn!(target = %target.display(), %error, "left mounted");
            }
        }))
    }

    fn gate(&self) -> Result<Lock, Error> {
        Ok(Lock::acquire(&self.locks.join(NAME), Mode::Exclusive)?)
    }

    fn merged(&self, id: &CacheId) -> Place {
        Place { target: self.layout.merged(id), users: self.locks.join(format!("{NAME}-{id}")) }
    }

    fn view(&self, id: &CacheId) -> Place {
        Place { target: self.views.join(id.as_str()), users: self.locks.join(format!("{NAME}-view-{id}")) }
    }
}

impl Place {
    fn is_mounted(&self) -> Result<bool, Error> {
        Ok(kernel::is_mounted(&self.target).context("look for a mount at", &self.target)?)
    }
}

impl Seat {
    fn leave(self, target: &Path, end: End) -> Result<(), Error> {
        let _gate = Lock::acquire(&self.gate, Mode::Exclusive)?;
        if end == End::Keep {
            return Ok(fs::write(&self.users, KEPT).context("write", &self.users)?);
        }
        drop(self.lock);
        let Some(_alone) = Lock::try_acquire(&self.users, Mode::Exclusive)? else {
            return Ok(());
        };
        match fs::read(&self.users) {
            Ok(text) if text == KEPT => Ok(()),
            _ => take_down(target, &self.users),
        }
    }
}

/// Unmounts `target` and forgets its users. The gate is held.
fn take_down(target: &Path, users: &Path) -> Result<(), Error> {
    while kernel::is_mounted(target).context("look for a mount at", target)? {
        kernel::unmount(target).context("unmount", target)?;
    }
    match fs::remove_dir(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result.context("remove", target)?,
    }
    remove_if_there(users)
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => Ok(result.context("remove", path)?),
    }
}

/// What keeps every layer whole and under its own names, of the options that this kernel knows.
pub(super) fn options() -> Vec<&'static str> {
    let known = kernel_parameters();
    let options =
        [(known.redirect_dir, "redirect_dir=off"), (known.metacopy, "metacopy=off"), (known.index, "index=off")];
    options.into_iter().filter_map(|(known, option)| known.map(|_| option)).collect()
}
