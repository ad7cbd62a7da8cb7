//! The single changes that the rest of the crate is made of: each names action and path when it fails, and is told to [`trace`].

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use strata_sys::{
    fs as sys_fs,
    process::{self, LockMode},
};

use crate::{
    Context, Error, defer,
    trace::{Event, emit},
};

/// The folder that holds `path`: `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// 16 random hex digits.
pub fn random_suffix() -> Result<String, Error> {
    let bytes: [u8; 8] = process::random().context("get random bytes for", "a temporary name")?;
    Ok(hex::encode(bytes))
}

/// `.tmp-<name>-<random>` beside `path`.
pub fn temporary_beside(path: &Path) -> Result<PathBuf, Error> {
    let mut name = std::ffi::OsString::from(TEMPORARY);
    // A name may take 255 bytes; ours must not make it longer than that.
    let own = path.file_name().unwrap_or_default();
    if own.len() <= 200 {
        name.push(own);
        name.push("-");
    }
    name.push(random_suffix()?);
    Ok(path.with_file_name(name))
}

/// How often something is begun anew because a sweep took it in the instant before it was locked.
pub const ATTEMPTS: usize = 16;

/// How temporary files begin, as those of Docker's `ioutils.AtomicWriteFile` do.
pub const TEMPORARY: &str = ".tmp-";

/// Opens `path`, which is not followed if it is a link, and takes its lock without waiting. `None` if another holds the lock, or
/// the name went, or came to mean another file, before it was locked: a lock counts only while its file has its name.
pub fn open_locked(path: &Path) -> Result<Option<File>, Error> {
    use rustix::fs::OFlags;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => {
            let file = result.context("open", path)?;
            Ok(lock_named(&file, path)?.then_some(file))
        }
    }
}

/// Locks an open file without waiting; `false` as [`open_locked`] says.
pub fn lock_named(file: &File, path: &Path) -> Result<bool, Error> {
    Ok(process::try_lock_file(file, LockMode::Exclusive).context("lock", path)? && has_name(file, path)?)
}

/// Whether `path` still names the open `file`.
pub fn has_name(file: &File, path: &Path) -> Result<bool, Error> {
    let opened = file.metadata().context("look at", path)?;
    match fs::symlink_metadata(path) {
        Ok(now) => Ok((opened.dev(), opened.ino()) == (now.dev(), now.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context("look at", path),
    }
}

/// Makes a new file of exactly `mode`, open for reading and writing.
pub fn create(path: &Path, mode: u32) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(mode).open(path).context("create", path)?;
    // Not what the umask leaves of it.
    file.set_permissions(fs::Permissions::from_mode(mode)).context("set the mode of", path)?;
    emit(Event::Create(path));
    Ok(file)
}

pub fn write(file: &mut File, bytes: &[u8], path: &Path) -> Result<(), Error> {
    file.write_all(bytes).context("write", path)?;
    emit(Event::Write(path));
    Ok(())
}

pub fn sync_file(file: &File, path: &Path) -> Result<(), Error> {
    if defer::is_on() {
        return Ok(());
    }
    file.sync_all().context("sync", path)?;
    emit(Event::SyncFile(path));
    Ok(())
}

/// Syncs several files for about the price of one: all of them are on their way to disk before the first is waited for, so that
/// a journalling filesystem commits them together.
pub fn sync_files<'a>(files: impl Iterator<Item = (&'a File, &'a Path)> + Clone) -> Result<(), Error> {
    if defer::is_on() {
        return Ok(());
    }
    for (file, _) in files.clone() {
        // Only a hint; what cannot take it is written by the sync.
        let _ = sys_fs::start_write_back(file, 0, 0);
    }
    for (file, path) in files {
        sync_file(file, path)?;
    }
    Ok(())
}

pub fn sync_dir(path: &Path) -> Result<(), Error> {
    if defer::put_off(path) {
        return Ok(());
    }
    let dir = File::open(path).context("open", path)?;
    match dir.sync_all() {
        // Some network and FUSE filesystems cannot sync a folder: there, they keep its entries safe by themselves or never.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {}
        result => result.context("sync", path)?,
    }
    emit(Event::SyncDir(path));
    Ok(())
}

pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    match fs::rename(from, to) {
        // What stands in the way, not the rename, is what the caller asks about.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            Err(io::Error::from(io::ErrorKind::AlreadyExists))
        }
        result => result,
    }
    .context("rename to", to)?;
    emit(Event::Rename { from, to });
    Ok(())
}

/// Makes a folder of exactly `mode`.
pub fn mkdir(path: &Path, mode: u32) -> Result<(), Error> {
    fs::DirBuilder::new().mode(mode).create(path).context("create", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context("set the mode of", path)?;
    emit(Event::Mkdir(path));
    Ok(())
}

pub fn symlink(target: &Path, path: &Path) -> Result<(), Error> {
    std::os::unix::fs::symlink(target, path).context("create the link", path)?;
    emit(Event::Symlink(path));
    Ok(())
}

pub fn unlink(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).context("remove", path)?;
    emit(Event::Unlink(path));
    Ok(())
}

/// Removes what is at `path`, with all below it; one that is not there is no error.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput).context("remove", path)?;
    match strata_sys::tree::Dir::open(parent(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        dir => dir.and_then(|dir| dir.remove_tree(name)).context("remove", path)?,
    }
    emit(Event::RemoveTree(path));
    Ok(())
}
