//! `save` and `export` into a file: it has its name when it is whole.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, unlinkat};
use strata_durable::Context;
use strata_image::save::Output;
use strata_spec::{ErrorKind, progress::Progress};

use crate::{Error, Root};

impl Root {
    /// Saves `images` (names or IDs) into the file `path`, which keeps what it had until the archive is whole. Returns its length in bytes.
    pub fn save_to(&self, images: &[String], path: &Path, progress: &dyn Progress) -> Result<u64, Error> {
        let store = self.stores_with_all(images)?.images();
        let selection = store.select(images)?;
        into_file(
            path,
            |file| Ok(store.save(&selection, Output::File(file), progress)?),
            |file| Ok(store.save(&selection, Output::Stream(file), progress)?),
        )
    }

    /// Saves `images` as a stream.
    pub fn save(&self, images: &[String], out: &mut (dyn Write + Send), progress: &dyn Progress) -> Result<u64, Error> {
        let store = self.stores_with_all(images)?.images();
        let selection = store.select(images)?;
        Ok(store.save(&selection, Output::Stream(out), progress)?)
    }
}

/// Writes `path` by `whole`, under no name until that is done; by `stream` where `path` is a FIFO or a device.
///
/// Killed half-way, nothing of it stays: the file has no name before. Not synced.
pub fn into_file<T>(
    path: &Path,
    whole: impl FnOnce(&File) -> Result<T, Error>,
    stream: impl FnOnce(&mut File) -> Result<T, Error>,
) -> Result<T, Error> {
    let is_special = path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    if is_special {
        let mut file = File::options().write(true).open(path).context("open", path)?;
        return stream(&mut file);
    }
    let unnamed = Unnamed::begin(path)?;
    let result = whole(&unnamed.file)?;
    unnamed.name()?;
    Ok(result)
}

/// A file that will be `path`.
struct Unnamed {
    file: File,
    path: PathBuf,
    /// Where the filesystem has no files without names (`O_TMPFILE`): the name it has until then.
    temporary: Option<PathBuf>,
}

impl Unnamed {
    fn begin(path: &Path) -> Result<Self, Error> {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let mode = Mode::from_raw_mode(0o600);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match openat(CWD, dir, flags | OFlags::TMPFILE, mode) {
            Ok(file) => Ok(Self { file: file.into(), path: path.to_owned(), temporary: None }),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
                let temporary = beside(path);
                let file = openat(CWD, &temporary, flags | OFlags::CREATE | OFlags::EXCL, mode)
                    .context("create", &temporary)?;
                Ok(Self { file: file.into(), path: path.to_owned(), temporary: Some(temporary) })
            }
            Err(error) => Err(Err::<(), _>(error).context("create a file in", dir).expect_err("it is an error").into()),
        }
    }

    fn name(mut self) -> Result<(), Error> {
        use std::os::fd::AsRawFd;
        let temporary = match self.temporary.take() {
            Some(temporary) => temporary,
            None => {
                let here = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                match linkat(CWD, &here, CWD, &self.path, AtFlags::SYMLINK_FOLLOW) {
                    Err(rustix::io::Errno::EXIST) => {}
                    result => return Ok(result.context("create", &self.path)?),
                }
                let temporary = beside(&self.path);
                linkat(CWD, &here, CWD, &temporary, AtFlags::SYMLINK_FOLLOW).context("create", &temporary)?;
                temporary
            }
        };
        let renamed = renameat(CWD, &temporary, CWD, &self.path).context("replace", &self.path);
        if renamed.is_err() {
            let _ = unlinkat(CWD, &temporary, AtFlags::empty());
        }
        Ok(renamed?)
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = unlinkat(CWD, temporary, AtFlags::empty());
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// Whether writing failed because the reader went away.
pub fn is_broken_pipe(error: &Error) -> bool {
    error.kind() == ErrorKind::System && {
        let mut source: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = source {
            if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
                return true;
            }
            source = error.source();
        }
        false
    }
}
