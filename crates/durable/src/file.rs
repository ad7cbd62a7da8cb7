//! Replacing files atomically, one or several.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{Context, Error, step, sync_filesystems};

/// From so many files on, their filesystem is put on disk instead of each of them.
const MANY: usize = 16;

/// Makes `path` hold `bytes`, with `mode` (`0o600`, …).
///
/// The bytes go to a temporary file in the same folder (`.tmp-<name>-<random>`, as Docker's `ioutils.AtomicWriteFile` does),
/// which is synced and renamed over `path`; then the folder is synced. The rename is the commit point: after a crash
/// `path` holds either its old bytes or all of the new ones.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut new = NewFile::begin(path, mode)?;
    new.write(bytes)?;
    new.commit()
}

/// As [`write`](fn@write), but for the end: after a power cut `path` may hold its old bytes yet, all of them.
///
/// For what is true only while the machine runs.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut new = NewFile::begin(path, mode)?;
    new.write(bytes)?;
    step::sync_file(&new.file, &new.temporary)?;
    new.rename()
}

/// Makes several files hold their new bytes, each atomically and in the order given, for about the price of one [`write`].
///
/// All bytes are on disk before the first rename (of many files, with all else on their filesystem); each folder is synced once, after the last. After a crash any number of the
/// files, from none to all, have their new bytes, and each is whole: for files that stand for themselves.
pub fn write_many(files: &[(&Path, &[u8])], mode: u32) -> Result<(), Error> {
    let mut new = Vec::with_capacity(files.len());
    for (path, bytes) in files {
        let mut file = NewFile::begin(path, mode)?;
        file.write(bytes)?;
        new.push(file);
    }
    let folders: BTreeSet<&Path> = files.iter().map(|(path, _)| step::parent(path)).collect();
    if files.len() > MANY {
        sync_filesystems(&folders.iter().copied().collect::<Vec<_>>())?;
    } else {
        step::sync_files(new.iter().map(|new| (&new.file, new.temporary.as_path())))?;
    }
    new.into_iter().try_for_each(|mut new| new.rename())?;
    folders.into_iter().try_for_each(step::sync_dir)
}

/// A file being filled under a temporary name. Dropped without [`NewFile::commit`] it is removed: nothing happened.
#[derive(Debug)]
pub struct NewFile {
    /// Locked, by which [`sweep_files`] tells it from what dead processes left.
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    renamed: bool,
}

impl NewFile {
    /// Makes an empty file `.tmp-<name>-<random>` beside `path`.
    pub fn begin(path: &Path, mode: u32) -> Result<Self, Error> {
        for _ in 0..step::ATTEMPTS {
            let temporary = step::temporary_beside(path)?;
            let file = step::create(&temporary, mode).map_err(|error| Error { path: path.to_owned(), ..error })?;
            if step::lock_named(&file, &temporary)? {
                return Ok(Self { file, temporary, path: path.to_owned(), renamed: false });
            }
        }
        Err(io::Error::from(io::ErrorKind::ResourceBusy)).context("create a temporary file for", path)
    }

    /// Adds `bytes` at the end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        step::write(&mut self.file, bytes, &self.temporary).map_err(|error| Error { path: self.path.clone(), ..error })
    }

    /// The open file, for streaming into.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Syncs the bytes, renames the file to its name, and syncs the folder.
    ///
    /// The rename is the commit point: after a crash the name has either its old bytes or all of the new ones.
    pub fn commit(mut self) -> Result<(), Error> {
        step::sync_file(&self.file, &self.temporary)?;
        self.rename()?;
        step::sync_dir(step::parent(&self.path))
    }

    fn rename(&mut self) -> Result<(), Error> {
        step::rename(&self.temporary, &self.path)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = step::unlink(&self.temporary);
        }
    }
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).context("read", path)
}

/// Reads a whole file of UTF-8 text.
pub fn read_to_string(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).context("read", path)
}

/// Removes a file and syncs its folder; one that is not there is no error.
pub fn remove_file(path: &Path) -> Result<(), Error> {
    match step::unlink(path) {
        Err(error) if error.is_not_found() => Ok(()),
        result => {
            result?;
            step::sync_dir(step::parent(path))
        }
    }
}

/// How often a link is made again that sweeps take: a link has no lock, and a sweep at work takes any that it meets.
const REPLACEMENTS: usize = 1_000;

/// Makes the symbolic link `path` to `target`, atomically replacing a link or file of that name, and syncs the folder.
///
/// After a crash `path` is as it was before, or the new link.
pub fn symlink(target: &Path, path: &Path) -> Result<(), Error> {
    let replace = || {
        let temporary = step::temporary_beside(path)?;
        step::symlink(target, &temporary)?;
        step::rename(&temporary, path).inspect_err(|_| drop(step::unlink(&temporary)))
    };
    match step::symlink(target, path) {
        Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
            let mut replaced = replace();
            for _ in 1..REPLACEMENTS {
                match &replaced {
                    // A sweep took the temporary link for a dead one's.
                    Err(error) if error.is_not_found() => replaced = replace(),
                    _ => break,
                }
            }
            replaced?;
        }
        result => result?,
    }
    step::sync_dir(step::parent(path))
}

/// Removes the temporary files that writers killed in the middle left in `folder`; returns how many. Those of writers at work stay.
pub fn sweep_files(folder: &Path) -> Result<usize, Error> {
    let mut swept = 0;
    for entry in fs::read_dir(folder).context("list", folder)? {
        let entry = entry.context("list", folder)?;
        let path = entry.path();
        let kind = entry.file_type().context("look at", &path)?;
        if !is_temporary(&entry.file_name()) || kind.is_dir() {
            continue;
        }
        // A link has no lock: one that is just being made is made again.
        let lock = if kind.is_file() { step::open_locked(&path)? } else { None };
        if kind.is_file() && lock.is_none() {
            continue;
        }
        match step::unlink(&path) {
            Ok(()) => swept += 1,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(swept)
}

/// Whether a name is one of this module's temporary files, or of Docker's.
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes().starts_with(step::TEMPORARY.as_bytes())
}
