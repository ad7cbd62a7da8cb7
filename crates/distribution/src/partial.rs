//! `strata/partial`: blobs as they come from registries, until their layers are registered.
//!
//! ```text
//! <algorithm>-<hex>      0600  the first bytes of the blob of that digest, as served; locked (flock) by the process that fetches it
//! ```
//!
//! Whoever fetches a blob writes it here and unpacks it from here. What a killed or interrupted process leaves is the beginning of
//! the blob: the next one hashes it again and asks the registry for the rest. So nothing needs to be synced: bytes that a power cut spoilt do not
//! have the blob's digest, are thrown away, and the blob is fetched from its beginning, once.
//!
//! A blob that another process holds is fetched a second time, into a file without a name: waiting could be waiting in a circle.
//! (Layers that two processes want are made by one: they wait for its flight before they come here.)

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags},
    io::Errno,
};
use strata_durable::Context;
use strata_spec::Digest;
use strata_sys::process::{LockMode, try_lock_file};

use crate::Error;

/// How long an unfinished blob is kept.
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// The folder of partial blobs.
#[derive(Clone, Debug)]
pub struct Partials {
    dir: PathBuf,
}

/// One blob's file.
#[derive(Debug)]
pub struct Partial {
    pub file: File,
    /// `None` where it has no name.
    path: Option<PathBuf>,
}

impl Partials {
    /// The folder `dir`, made if missing.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        strata_durable::create_dir_all(dir, 0o700)?;
        Ok(Self { dir: dir.to_owned() })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens the file of a blob and takes hold of it.
    pub fn take(&self, digest: Digest) -> Result<Partial, Error> {
        let path = self.path(digest);
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.custom_flags(OFlags::NOFOLLOW.bits() as i32);
            let file = options.open(&path).context("open", &path)?;
            if !try_lock_file(&file, LockMode::Exclusive).context("lock", &path)? {
                return self.nameless();
            }
            if has_name(&file, &path)? {
                return Ok(Partial { file, path: Some(path) });
            }
        }
    }

    /// A file that vanishes when it is closed.
    fn nameless(&self) -> Result<Partial, Error> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.dir, flags, Mode::RUSR | Mode::WUSR).context("make a file in", &self.dir)?;
        Ok(Partial { file: File::from(file), path: None })
    }

    /// Removes the file of a blob, if there is one and no process holds it.
    pub fn forget(&self, digest: Digest) -> Result<(), Error> {
        let path = self.path(digest);
        let file = match OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file.context("open", &path)?,
        };
        if try_lock_file(&file, LockMode::Exclusive).context("lock", &path)? && has_name(&file, &path)? {
            fs::remove_file(&path).context("remove", &path)?;
        }
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    /// Removes what nobody has gone on with for two weeks; returns how many.
    pub fn sweep(&self) -> Result<usize, Error> {
        self.remove_where(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > KEPT))
    }

    /// Removes all that no process holds; returns how many.
    pub fn clear(&self) -> Result<usize, Error> {
        self.remove_where(|_| true)
    }

    fn remove_where(&self, unwanted: impl Fn(SystemTime) -> bool) -> Result<usize, Error> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir).context("list", &self.dir)? {
            let path = entry.context("list", &self.dir)?.path();
            let Ok(file) = OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(&path)
            else {
                continue;
            };
            let modified = file.metadata().and_then(|metadata| metadata.modified()).context("look at", &path)?;
            if unwanted(modified) && try_lock_file(&file, LockMode::Exclusive).context("lock", &path)? {
                fs::remove_file(&path).context("remove", &path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl Partial {
    /// Bytes that are there.
    pub fn bytes(&self) -> Result<u64, Error> {
        Ok(self.file.metadata().context("look at", self.shown())?.len())
    }

    /// Gives the file the name `path` on the same filesystem, when all of it is on disk.
    pub fn keep(&self, path: &Path) -> Result<(), Error> {
        self.file.sync_all().context("put on disk", self.shown())?;
        match &self.path {
            Some(own) => strata_durable::rename(own, path)?,
            None => {
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                match rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW) {
                    Ok(()) | Err(Errno::EXIST) => strata_durable::sync_dir(path.parent().unwrap_or(path))?,
                    Err(error) => Err(io::Error::from(error)).context("name", path)?,
                }
            }
        }
        Ok(())
    }

    /// Removes the file: its blob is not needed any more, or not right.
    pub fn remove(&self) -> Result<(), Error> {
        match &self.path {
            None => Ok(()),
            Some(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Ok(Err(error).context("remove", path)?),
                _ => Ok(()),
            },
        }
    }

    /// Its path for messages.
    pub fn shown(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new("a temporary file"))
    }
}

/// Whether `path` still names the file that was locked: its last holder may have removed it.
fn has_name(file: &File, path: &Path) -> Result<bool, Error> {
    let opened = file.metadata().context("look at", path)?;
    match fs::symlink_metadata(path) {
        Ok(now) => Ok((opened.dev(), opened.ino()) == (now.dev(), now.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Ok(Err(error).context("look at", path)?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_beginning_stays_and_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let partials = Partials::open(&dir.path().join("partial")).unwrap();
        let digest = Digest::sha256("x");
        let mut first = partials.take(digest).unwrap();
        first.file.write_all(b"half").unwrap();
        let second = partials.take(digest).unwrap();
        assert_eq!((second.bytes().unwrap(), second.path.is_none()), (0, true), "another has it");
        assert_eq!(partials.clear().unwrap(), 0, "it is held");
        drop((first, second));
        let again = partials.take(digest).unwrap();
        assert_eq!(again.bytes().unwrap(), 4);
        again.remove().unwrap();
        again.remove().unwrap();
        assert_eq!(partials.take(digest).unwrap().bytes().unwrap(), 0);
        assert_eq!((partials.sweep().unwrap(), partials.clear().unwrap()), (0, 1));
    }
}
