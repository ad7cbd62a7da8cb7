//! Who uses a mount.
//!
//! Each user of a mount, in whatever process, holds a shared lock on the mount's file in `strata/locks`; whoever leaves and can lock it
//! exclusively was the last, and unmounts. All this happens under one gate a driver, held for the moment of a mount.
//! A mount without such a file was made by another engine and is left alone; a file that nobody holds was left by a process that died.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use strata_durable::{Context, Lock, lock::Mode};
use strata_sys::mount as kernel;

use crate::{End, Error, Mounted, home::make_dir, union};

/// What the users' file holds when the mount stays without users.
const KEPT: &[u8] = b"kept";

/// The mounts of one driver.
pub(crate) struct Seats {
    name: &'static str,
    /// `strata/locks`.
    locks: PathBuf,
}

/// A mount point and the file that its users lock.
pub(crate) struct Place {
    pub target: PathBuf,
    users: PathBuf,
    point: Point,
}

/// What becomes of a mount point when nothing is mounted on it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Goes,
    Stays,
}

/// One user's part in a mount.
struct Seat {
    gate: PathBuf,
    users: PathBuf,
    point: Point,
    lock: Lock,
}

impl Seats {
    pub fn new(name: &'static str, locks: PathBuf) -> Self {
        Self { name, locks }
    }

    pub fn locks(&self) -> &Path {
        &self.locks
    }

    /// The place `target`, whose users' file is called after `key`.
    pub fn place(&self, target: PathBuf, key: &str) -> Place {
        Place { target, users: self.locks.join(format!("{}-{key}", self.name)), point: Point::Goes }
    }

    /// Held while something is mounted or unmounted.
    pub fn gate(&self) -> Result<Lock, Error> {
        // Opened for reading, a root need not have ours yet.
        make_own(&self.locks)?;
        Ok(Lock::acquire(&self.locks.join(self.name), Mode::Exclusive)?)
    }

    /// Makes the mount point and calls `mount`; nothing of it stays if that fails. The gate is held.
    pub fn put_up(&self, place: &Place, mount: impl FnOnce() -> io::Result<()>) -> Result<(), Error> {
        place.target.parent().map_or(Ok(()), make_own)?;
        match make_dir(&place.target, 0o700) {
            Err(Error::Io(error)) if error.source.kind() == io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
        // Left by a process that died before the machine was last started.
        remove_if_there(&place.users)?;
        // First the file, so that the mount is known as ours even if this process dies the moment it is made.
        drop(Lock::acquire(&place.users, Mode::Shared)?);
        let mounted = mount().context("mount", &place.target);
        Ok(mounted.inspect_err(|_| {
            let _ = place.take_down();
        })?)
    }

    /// Becomes a user of what is mounted at `place`. The gate is held.
    pub fn join(&self, place: &Place) -> Result<Mounted, Error> {
        if !place.users.exists() {
            return Ok(Mounted::plain(place.target.clone()));
        }
        let lock = Lock::acquire(&place.users, Mode::Shared)?;
        let seat = Seat { gate: self.locks.join(self.name), users: place.users.clone(), point: place.point, lock };
        Ok(Mounted::new(place.target.clone(), move |target, end| {
            if let Err(error) = seat.leave(target, end) {
                tracing::warn!(target = %target.display(), %error, "left mounted");
            }
        }))
    }

    /// Unmounts whatever is mounted at `places`, whoever uses it.
    pub fn take_down(&self, places: &[Place]) -> Result<(), Error> {
        // A layer that was never mounted has neither; what is about to be mounted is not about to be removed.
        let absent = |path: &Path| path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if places.iter().all(|place| absent(&place.target) && absent(&place.users)) {
            return Ok(());
        }
        let _gate = self.gate()?;
        places.iter().try_for_each(|place| place.take_down())
    }
}

impl Place {
    /// The mount point stays when nothing is mounted on it.
    pub fn lasting(self) -> Self {
        Self { point: Point::Stays, ..self }
    }

    fn take_down(&self) -> Result<(), Error> {
        take_down(&self.target, &self.users, self.point)
    }

    /// Whether something is mounted here that answers. A union whose process is gone is taken down: it is mounted, but of no use.
    pub fn is_mounted(&self) -> Result<bool, Error> {
        let found = kernel::is_mounted(&self.target);
        // What the kernel remembers of a dead union's root it still tells; the filesystem itself has nothing to say.
        let is_dead = match &found {
            Ok(true) => strata_sys::fs::info(&self.target).err().is_some_and(|error| is_disconnected(&error)),
            Ok(false) => false,
            Err(error) => is_disconnected(error),
        };
        if is_dead {
            self.take_down()?;
            return Ok(false);
        }
        Ok(found.context("look for a mount at", &self.target)?)
    }
}

fn is_disconnected(error: &io::Error) -> bool {
    strata_sys::errno(error) == Some(rustix::io::Errno::NOTCONN.raw_os_error())
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
            _ => take_down(target, &self.users, self.point),
        }
    }
}

/// Unmounts `target` and forgets its users. The gate is held.
fn take_down(target: &Path, users: &Path, point: Point) -> Result<(), Error> {
    loop {
        match kernel::is_mounted(target) {
            Ok(false) => break,
            Err(error) if !is_disconnected(&error) => {
                Err(error).context("look for a mount at", target)?;
            }
            // A union's process is waited for: it holds the branches.
            Ok(true) if union::unmount_ours(target) => {}
            _ => kernel::unmount(target).context("unmount", target)?,
        }
    }
    if point == Point::Goes {
        match fs::remove_dir(target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.context("remove", target)?,
        }
    }
    remove_if_there(users)
}

fn make_own(dir: &Path) -> Result<(), Error> {
    match dir.is_dir() {
        true => Ok(()),
        false => Ok(strata_durable::create_dir_all(dir, 0o700)?),
    }
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => Ok(result.context("remove", path)?),
    }
}
