//! Storage in a directory, in the layout of CNCF distribution.
//!
//! ```text
//! <root>/docker/registry/v2/{blobs,repositories}   as `layout` draws them
//! <root>/docker/registry/v2/strata/gate            locked shared by publications, exclusively by the collector
//! <root>/docker/registry/v2/strata/clock           its time is the start of a collection
//! <root>/docker/registry/v2/strata/tmp/            what is being removed; emptied on open
//! ```
//!
//! Relying on a blob sets the modification time of its file by the kernel's clock. The gate is a lock of the kernel, so that servers and
//! collectors in several processes may work on one directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::SystemTime,
};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
use strata_durable::{Context, Lock, lock::Mode};

use super::{Append, Content, Error, Gate, Head, Reach, Result, Source, Stat, Storage};
use crate::layout;

const DIRECTORY: u32 = 0o755;
const FILE: u32 = 0o644;

/// A registry's directory.
pub struct Filesystem {
    root: PathBuf,
    tmp: PathBuf,
    gate: PathBuf,
    /// The gate among the threads of this process. A waiting collector keeps new publications out.
    inner: RwLock<()>,
}

impl Filesystem {
    /// Opens the directory `root`, creates it if it is missing, and finishes removals that a crash interrupted.
    pub fn open(root: &Path) -> Result<Self> {
        let ours = root.join(layout::OURS);
        let tmp = ours.join("tmp");
        strata_durable::create_dir_all(root, DIRECTORY)?;
        let root = root.canonicalize().context("find", root)?;
        for directory in [&tmp, &root.join(layout::BLOBS), &root.join(layout::REPOSITORIES)] {
            strata_durable::create_dir_all(directory, DIRECTORY)?;
        }
        strata_durable::sweep_tmp(&tmp)?;
        Ok(Self { gate: ours.join("gate"), root, tmp, inner: RwLock::new(()) })
    }

    fn at(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    fn directory_of(&self, path: &Path) -> Result<()> {
        let parent = path.parent().unwrap_or(&self.root);
        Ok(strata_durable::create_dir_all(parent, DIRECTORY)?)
    }

    /// Runs `make`, and again if a removal deleted the directory meanwhile.
    fn in_directory<T>(
        &self,
        path: &Path,
        mut make: impl FnMut() -> std::result::Result<T, strata_durable::Error>,
    ) -> Result<T> {
        for _ in 0..8 {
            self.directory_of(path)?;
            match make() {
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => continue,
                result => return Ok(result?),
            }
        }
        Ok(make()?)
    }
}

/// Two guards; the process' own is dropped last.
struct Both<G> {
    _lock: Lock,
    _inner: G,
}

fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn touch(path: &Path) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(rustix::fs::utimensat(CWD, path, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty())?)
}

fn stat_of(metadata: &fs::Metadata) -> Stat {
    let relied = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Stat { size: metadata.size(), relied }
}

impl Storage for Filesystem {
    fn reach(&self) -> Reach {
        Reach::Local
    }

    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let path = self.at(key);
        let mut file = match File::open(&path) {
            Err(error) if missing(&error) => return Ok(None),
            result => result.context("open", &path)?,
        };
        let mut bytes = Vec::with_capacity(128);
        (&mut file).take(limit + 1).read_to_end(&mut bytes).context("read", &path)?;
        if bytes.len() as u64 > limit {
            let size = file.metadata().map_or(0, |found| found.len());
            return Err(Error::TooLong { key: key.to_owned(), size, limit });
        }
        Ok(Some(bytes))
    }

    fn write(&self, files: &[(String, Vec<u8>)]) -> Result<()> {
        for (key, bytes) in files {
            let path = self.at(key);
            self.in_directory(&path, || strata_durable::write(&path, bytes, FILE))?;
        }
        Ok(())
    }

    fn stat(&self, key: &str) -> Result<Option<Stat>> {
        let path = self.at(key);
        match fs::metadata(&path) {
            Err(error) if missing(&error) => Ok(None),
            result => Ok(Some(stat_of(&result.context("look at", &path)?))),
        }
    }

    fn list(&self, directory: &str) -> Result<Vec<String>> {
        let path = self.at(directory);
        let entries = match fs::read_dir(&path) {
            Err(error) if missing(&error) => return Ok(Vec::new()),
            result => result.context("list", &path)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // No registry creates a name that is not UTF-8.
            if let Ok(name) = entry.context("list", &path)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, key: &str, below: &str) -> Result<bool> {
        let path = self.at(key);
        if fs::symlink_metadata(&path).is_err_and(|error| missing(&error)) {
            return Ok(false);
        }
        strata_durable::remove_file(&path)?;
        let below = self.at(below);
        let mut directory = path.parent();
        while let Some(empty) = directory.filter(|directory| directory.starts_with(&below) && **directory != below) {
            // A directory that is not empty stays; an empty one that a crash restores does no harm.
            if fs::remove_dir(empty).is_err() {
                break;
            }
            directory = empty.parent();
        }
        Ok(true)
    }

    fn remove_directory(&self, directory: &str) -> Result<bool> {
        let path = self.at(directory);
        if fs::symlink_metadata(&path).is_err_and(|error| missing(&error)) {
            return Ok(false);
        }
        strata_durable::remove_dir(&path, &self.tmp)?;
        Ok(true)
    }

    fn open(&self, key: &str) -> Result<Option<Content>> {
        let path = self.at(key);
        let file = match File::open(&path) {
            Err(error) if missing(&error) => return Ok(None),
            result => result.context("open", &path)?,
        };
        let size = file.metadata().context("look at", &path)?.len();
        Ok(Some(Content { size, source: Source::File(Arc::new(file)) }))
    }

    fn redirect(&self, _: &str, _: Head) -> Result<Option<String>> {
        Ok(None)
    }

    fn rely(&self, key: &str) -> Result<bool> {
        let path = self.at(key);
        match touch(&path) {
            Err(error) if missing(&error) => Ok(false),
            result => Ok(result.map(|()| true).context("set the time of", &path)?),
        }
    }

    fn now(&self) -> Result<SystemTime> {
        let path = self.at(layout::OURS).join("clock");
        let clock = OpenOptions::new().create(true).append(true).mode(FILE).open(&path).context("open", &path)?;
        touch(&path).context("set the time of", &path)?;
        Ok(stat_of(&clock.metadata().context("look at", &path)?).relied)
    }

    fn publishing(&self) -> Result<Gate<'_>> {
        let inner = self.inner.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        Ok(Box::new(Both { _lock: Lock::acquire(&self.gate, Mode::Shared)?, _inner: inner }))
    }

    fn collecting(&self) -> Result<Gate<'_>> {
        let inner = self.inner.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        Ok(Box::new(Both { _lock: Lock::acquire(&self.gate, Mode::Exclusive)?, _inner: inner }))
    }

    fn begin_upload(&self, directory: &str) -> Result<()> {
        let path = self.at(directory);
        self.in_directory(&path, || strata_durable::create_dir_all(&path, DIRECTORY))?;
        // Neither need survive a power cut: a client begins a lost upload again.
        let started = strata_spec::time::now_rfc3339();
        for (name, bytes) in [("startedat", started.as_bytes()), (layout::DATA, b"")] {
            let path = path.join(name);
            fs::write(&path, bytes).context("create", &path)?;
        }
        Ok(())
    }

    fn uploaded(&self, directory: &str) -> Result<Option<u64>> {
        // distribution creates the data file with the first byte.
        if self.stat(&format!("{directory}/startedat"))?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.stat(&format!("{directory}/{}", layout::DATA))?.map_or(0, |stat| stat.size)))
    }

    fn append(&self, directory: &str, at: u64) -> Result<Box<dyn Append>> {
        let path = self.at(directory).join(layout::DATA);
        let opened = OpenOptions::new().append(true).create(true).mode(FILE).open(&path);
        let file = opened.context("open", &path)?;
        let found = file.metadata().context("look at", &path)?.len();
        if found != at {
            return Err(Error::Moved { key: directory.to_owned(), expected: at, found });
        }
        Ok(Box::new(AppendFile { file, path, len: at }))
    }

    fn read_upload(&self, directory: &str, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let path = self.at(directory).join(layout::DATA);
        let mut file = match File::open(&path) {
            Err(error) if missing(&error) => return Ok(()),
            result => result.context("open", &path)?,
        };
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer).context("read", &path)? {
                0 => return Ok(()),
                read => each(&buffer[..read]),
            }
        }
    }

    fn finish_upload(&self, directory: &str, key: &str) -> Result<()> {
        let (from, to) = (self.at(directory).join(layout::DATA), self.at(key));
        let file = OpenOptions::new().append(true).create(true).open(&from).context("open", &from)?;
        file.sync_all().context("sync", &from)?;
        touch(&from).context("set the time of", &from)?;
        self.in_directory(&to, || strata_durable::rename(&from, &to))?;
        self.remove_directory(directory)?;
        Ok(())
    }

    fn upload_started(&self, directory: &str) -> Result<Option<SystemTime>> {
        let path = self.at(directory);
        match fs::metadata(&path) {
            Err(error) if missing(&error) => Ok(None),
            result => {
                let made = stat_of(&result.context("look at", &path)?).relied;
                let data = self.stat(&format!("{directory}/{}", layout::DATA))?;
                Ok(Some(data.map_or(made, |data| data.relied.max(made))))
            }
        }
    }

    fn sweep(&self) -> Result<usize> {
        Ok(strata_durable::sweep_tmp(&self.tmp)?)
    }
}

struct AppendFile {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Append for AppendFile {
    fn write(&mut self, pieces: &[Bytes]) -> Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let written = match self.file.write_vectored(left) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) => Err(io::Error::from(io::ErrorKind::WriteZero)).context("write", &self.path)?,
                result => result.context("write", &self.path)?,
            };
            self.len += written as u64;
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<u64> {
        Ok(self.len)
    }
}
