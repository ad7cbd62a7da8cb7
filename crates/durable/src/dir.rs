//! A folder that has no name until it is whole; removal that runs backwards; putting content on disk.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    Context, Error, defer, step,
    trace::{Event, emit},
};

/// A folder being filled under a temporary name. Dropped without [`NewDir::commit`] it is removed: nothing happened.
///
/// Holds a lock on the folder, by which [`sweep_tmp`] tells it from what dead processes left.
#[derive(Debug)]
pub struct NewDir {
    path: PathBuf,
    /// Locked; closing it unlocks.
    lock: Option<File>,
    files: Vec<(PathBuf, File)>,
    folders: Vec<PathBuf>,
}

impl NewDir {
    /// Makes an empty folder with a random name (`write-set-…`, as Docker's) in `tmp`, which must be on the same filesystem
    /// as the final name.
    pub fn begin(tmp: &Path, mode: u32) -> Result<Self, Error> {
        for _ in 0..step::ATTEMPTS {
            let path = tmp.join(format!("write-set-{}", step::random_suffix()?));
            match step::mkdir(&path, mode) {
                // A sweep was quicker than we were with the mode.
                Err(error) if error.is_not_found() && tmp.is_dir() => continue,
                result => result?,
            }
            if let Some(lock) = step::open_locked(&path)? {
                return Ok(Self { path, lock: Some(lock), files: Vec::new(), folders: Vec::new() });
            }
        }
        Err(io::Error::from(io::ErrorKind::ResourceBusy)).context("create a folder in", tmp)
    }

    /// The temporary folder. What is put into it by other means than these methods must be synced by the caller.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one file of the folder; it is synced at commit.
    pub fn write(&mut self, name: &str, bytes: &[u8], mode: u32) -> Result<(), Error> {
        let mut file = self.create(name, mode)?;
        step::write(&mut file, bytes, &self.path.join(name))
    }

    /// Creates one file of the folder for streaming into; it is synced at commit.
    pub fn create(&mut self, name: &str, mode: u32) -> Result<File, Error> {
        let path = self.path.join(name);
        let file = step::create(&path, mode)?;
        let writer = file.try_clone().context("open", &path)?;
        self.files.push((path, file));
        Ok(writer)
    }

    /// Makes a folder in the folder; names of files may then begin with it (`mounts/a`).
    pub fn create_dir(&mut self, name: &str, mode: u32) -> Result<(), Error> {
        let path = self.path.join(name);
        step::mkdir(&path, mode)?;
        self.folders.push(path);
        Ok(())
    }

    /// Makes a symbolic link in the folder.
    pub fn symlink(&mut self, target: &Path, name: &str) -> Result<(), Error> {
        step::symlink(target, &self.path.join(name))
    }

    /// Syncs the files and the folder, renames it to `to`, and syncs the parent of `to`.
    ///
    /// The rename is the commit point: after a crash either there is no `to`, or it is whole.
    /// Fails with `AlreadyExists` if `to` is a folder that is not empty; the new folder is then removed.
    pub fn commit(self, to: &Path) -> Result<(), Error> {
        step::sync_files(self.files.iter().map(|(path, file)| (file, path.as_path())))?;
        for folder in self.folders.iter().rev() {
            step::sync_dir(folder)?;
        }
        step::sync_dir(&self.path)?;
        self.publish(to)
    }

    /// Closes the files: the folder is whole, and will be put on disk by a [`sync_filesystems`] and then [published](NewDir::publish).
    pub fn close(&mut self) {
        self.files.clear();
    }

    /// As [`NewDir::commit`], for a folder that is on disk already, by a [`sync_filesystems`] after the last change to it.
    pub fn publish(self, to: &Path) -> Result<(), Error> {
        self.name(to)?;
        step::sync_dir(step::parent(to))
    }

    /// As [`NewDir::publish`], one of several in one parent, which the caller syncs after the last.
    ///
    /// After a crash the first of them are there, whole, from none to all: filesystems with a journal keep the order of
    /// renames in a folder.
    pub fn name(mut self, to: &Path) -> Result<(), Error> {
        step::rename(&self.path, to)?;
        // From here on the folder is no longer ours to remove.
        self.lock = None;
        Ok(())
    }
}

impl Drop for NewDir {
    fn drop(&mut self) {
        if self.lock.is_some()
            && let Err(error) = step::remove_tree(&self.path)
        {
            tracing::warn!(%error, "a temporary folder stays until the next sweep");
        }
    }
}

/// Makes a folder and its missing parents with `mode`, and syncs each parent. One that is there stays as it is.
pub fn create_dir_all(path: &Path, mode: u32) -> Result<(), Error> {
    match step::mkdir(path, mode) {
        Ok(()) => step::sync_dir(step::parent(path)),
        Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.is_not_found() => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(error)?;
            create_dir_all(parent, mode)?;
            create_dir_all(path, mode)
        }
        // A read-only filesystem may say so before it says that the folder is there.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Renames `from` to `to` and syncs both folders. `AlreadyExists` if `to` is a folder that is not empty.
///
/// The rename is the commit point: after a crash one of the two names is there, with all of it.
pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    step::rename(from, to)?;
    step::sync_dir(step::parent(to))?;
    if step::parent(from) != step::parent(to) {
        step::sync_dir(step::parent(from))?;
    }
    Ok(())
}

/// Removes the tree `path`: renames it into `tmp` (the commit point), syncs the parent, then deletes it there.
///
/// After a crash either `path` is there whole, or it has no name outside `tmp`, which is emptied when its store is next opened.
/// One that is not there is no error. Deleting stays under directory descriptors and does not follow links.
pub fn remove_dir(path: &Path, tmp: &Path) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Of an ID the beginning is enough; a name may take 255 bytes.
    let name: String = name.chars().take(40).collect();
    let doomed = tmp.join(format!("removed-{name}-{}", step::random_suffix()?));
    match step::rename(path, &doomed) {
        Err(error)
            if error.is_not_found()
                && fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) =>
        {
            return Ok(());
        }
        result => result.map_err(|error| Error { action: "remove", path: path.to_owned(), ..error })?,
    }
    step::sync_dir(step::parent(path))?;
    step::remove_tree(&doomed)
}

/// Removes what dead processes left in `tmp`: unfinished folders and half-deleted ones; returns how many. No `tmp` is no error.
///
/// A [`NewDir`] at work, of this or another process, stays.
pub fn sweep_tmp(tmp: &Path) -> Result<usize, Error> {
    let entries = match fs::read_dir(tmp) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        result => result.context("list", tmp)?,
    };
    let mut swept = 0;
    for entry in entries {
        let entry = entry.context("list", tmp)?;
        let path = entry.path();
        let is_folder = entry.file_type().context("look at", &path)?.is_dir();
        // The lock is held while deleting, so that a NewDir just begun there finds out and begins another.
        let lock = if is_folder { step::open_locked(&path)? } else { None };
        if !is_folder || lock.is_some() {
            step::remove_tree(&path)?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Writes a folder's entries to disk.
pub fn sync_dir(path: &Path) -> Result<(), Error> {
    step::sync_dir(path)
}

/// Writes all that is pending on the filesystem of `path` to disk: the content that metadata is about to name.
pub fn sync_filesystem(path: &Path) -> Result<(), Error> {
    if defer::is_on() {
        return Ok(());
    }
    strata_sys::fs::sync_filesystem(path).context("put on disk the content of", path)?;
    emit(Event::SyncFilesystem(path));
    Ok(())
}

/// As [`sync_filesystem`], of all of `paths`: each filesystem once.
pub fn sync_filesystems(paths: &[&Path]) -> Result<(), Error> {
    let mut seen = Vec::with_capacity(paths.len());
    for path in paths {
        let device = fs::metadata(path).context("look at", path)?.dev();
        if !seen.contains(&device) {
            sync_filesystem(path)?;
            seen.push(device);
        }
    }
    Ok(())
}
