//! A blob on its way in: one process writes it, the next resumes it, and readers follow while it arrives.
//!
//! ```text
//! network ─> append ─> file in ingest/ ─> page cache ─> Tail (reads as far as is written)
//!               └──> digest ─> finish ─> commit: blobs/<algorithm>/<hex>, or discard
//! ```
//!
//! A file in `ingest` is the beginning of the blob and nothing else: the next ingest hashes it again and continues. So it is not synced.
//! Bytes that a power cut spoilt do not have the blob's digest, are discarded, and the blob is fetched from its beginning.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags},
    io::Errno,
};
use strata_durable::Context;
use strata_spec::{Digest, Hasher};
use strata_sys::process::{LockMode, try_lock_file};

use crate::{Error, Layout, Lease, layout::FILE_MODE};

/// Bytes read at once of what is here already.
const PIECE: usize = 256 << 10;

/// The writer of a blob that arrives. Dropped before [`finish`](Self::finish), it ends its readers, and what has arrived stays for the
/// next ingest.
pub struct Ingest {
    digest: Digest,
    /// `None` where the file has no name.
    path: Option<PathBuf>,
    hasher: Hasher,
    /// Bytes that are written and hashed.
    len: u64,
    /// Bytes that an earlier ingest left.
    resumable: u64,
    arriving: Arriving,
}

/// The arrival of a blob, for those who read it meanwhile.
#[derive(Clone, Debug)]
pub struct Arriving(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: File,
    state: Mutex<State>,
    moved: Condvar,
    /// Nanoseconds that readers have waited.
    waited: AtomicU64,
    /// The end of what was read last.
    read_up_to: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    written: u64,
    /// Whether it ended whole.
    ended: Option<bool>,
}

impl Ingest {
    /// Opens the file of a blob and locks it.
    pub(crate) fn open(layout: &Layout, digest: Digest) -> Result<Self, Error> {
        let path = layout.ingest(digest);
        let (file, path) = loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
            let file = options.custom_flags(OFlags::NOFOLLOW.bits() as i32).open(&path).context("open", &path)?;
            if !try_lock_file(&file, LockMode::Exclusive).context("lock", &path)? {
                break (nameless(&layout.ingests())?, None);
            }
            if has_name(&file, &path)? {
                break (file, Some(path));
            }
        };
        let resumable = file.metadata().context("look at", layout.ingest(digest))?.len();
        let arriving = Arriving(Arc::new(Shared {
            file,
            state: Mutex::default(),
            moved: Condvar::new(),
            waited: AtomicU64::new(0),
            read_up_to: AtomicU64::new(0),
        }));
        let hasher = Hasher::new(digest.algorithm());
        Ok(Self { digest, path, hasher, len: 0, resumable, arriving })
    }

    /// The digest that the blob must have.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes that are here and hashed.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is here yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that an earlier ingest left, for [`resume`](Self::resume).
    pub fn resumable(&self) -> u64 {
        self.resumable
    }

    /// The arrival, for readers.
    pub fn arriving(&self) -> &Arriving {
        &self.arriving
    }

    /// Discards what an earlier ingest left.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.arriving.0.file.set_len(0).context("empty", self.shown())?;
        self.resumable = 0;
        Ok(())
    }

    /// Hashes what an earlier ingest left, so that [`append`](Self::append) continues behind it.
    pub fn resume(&mut self) -> Result<(), Error> {
        let mut piece = vec![0; if self.resumable > 0 { PIECE } else { 0 }];
        while self.len < self.resumable {
            let read = self.arriving.0.file.read_at(&mut piece, self.len).context("read", self.shown())?;
            if read == 0 {
                break;
            }
            let read = read.min((self.resumable - self.len) as usize);
            self.hasher.update(&piece[..read]);
            self.len += read as u64;
            self.arriving.advance(self.len);
        }
        Ok(())
    }

    /// Adds `bytes`; readers see them at once. Returns how long hashing took.
    pub fn append(&mut self, bytes: &[u8]) -> Result<Duration, Error> {
        self.arriving.0.file.write_all_at(bytes, self.len).context("write", self.shown())?;
        self.len += bytes.len() as u64;
        self.arriving.advance(self.len);
        let begun = Instant::now();
        self.hasher.update(bytes);
        Ok(begun.elapsed())
    }

    /// Checks the digest of all that has arrived, and ends the readers. What does not have it is removed.
    pub fn finish(&mut self) -> Result<(), Error> {
        let found = self.hasher.clone().finish();
        if found == self.digest {
            self.arriving.end(true);
            return Ok(());
        }
        self.discard()?;
        Err(Error::Digest { expected: Box::new(self.digest), found: Box::new(found) })
    }

    /// Gives the finished blob its name in the store; `lease` keeps it. On disk when this returns.
    ///
    /// The rename is the commit point: after a crash the blob is here whole, or its bytes wait in `ingest`.
    pub fn commit(&self, lease: &mut Lease) -> Result<(), Error> {
        assert!(self.arriving.is_whole(), "a blob is committed after its digest was checked");
        self.arriving.0.file.sync_all().context("put on disk", self.shown())?;
        lease.hold(self.digest)?;
        let to = lease.store().layout().blob(self.digest);
        match &self.path {
            Some(path) => Ok(strata_durable::rename(path, &to)?),
            None => {
                let own = format!("/proc/self/fd/{}", self.arriving.0.file.as_raw_fd());
                match rustix::fs::linkat(CWD, own, CWD, &to, AtFlags::SYMLINK_FOLLOW) {
                    Ok(()) | Err(Errno::EXIST) => Ok(strata_durable::sync_dir(to.parent().unwrap_or(&to))?),
                    Err(error) => Ok(Err(io::Error::from(error)).context("name", &to)?),
                }
            }
        }
    }

    /// Ends the readers; what has arrived stays for the next ingest.
    pub fn stop(&self) {
        self.arriving.end(false);
    }

    /// Removes what has arrived: it is not needed any more, or not right. Ends readers that are not at the end.
    pub fn discard(&self) -> Result<(), Error> {
        self.arriving.end(false);
        match &self.path {
            None => Ok(()),
            Some(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Ok(Err(error).context("remove", path)?),
                _ => Ok(()),
            },
        }
    }

    /// The path for messages.
    fn shown(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new("a file without a name"))
    }
}

impl Drop for Ingest {
    /// An empty file is worth nothing to the next ingest.
    fn drop(&mut self) {
        self.arriving.end(false);
        let is_empty = self.arriving.0.file.metadata().is_ok_and(|found| found.len() == 0);
        if let (Some(path), true) = (&self.path, is_empty)
            && has_name(&self.arriving.0.file, path).unwrap_or(false)
        {
            let _ = fs::remove_file(path);
        }
    }
}

impl Arriving {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while it holds this")
    }

    fn advance(&self, written: u64) {
        self.state().written = written;
        self.0.moved.notify_all();
    }

    /// The first end counts.
    fn end(&self, whole: bool) {
        self.state().ended.get_or_insert(whole);
        self.0.moved.notify_all();
    }

    /// Whether all of it is here and has its digest.
    pub fn is_whole(&self) -> bool {
        self.state().ended == Some(true)
    }

    /// Waits until all of it is here and has its digest; fails if the ingest ends before.
    pub fn wait_whole(&self) -> io::Result<()> {
        let mut state = self.state();
        loop {
            match state.ended {
                Some(true) => return Ok(()),
                Some(false) => return Err(ended()),
                None => state = self.0.moved.wait(state).expect("nothing panics while it holds this"),
            }
        }
    }

    /// A reader from the blob's beginning on.
    pub fn tail(&self) -> Tail {
        Tail { arriving: self.clone(), at: 0, known: 0 }
    }

    /// How long readers have waited for bytes, all together.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.0.waited.load(Relaxed))
    }

    /// The position behind the bytes that were read last.
    pub fn read_up_to(&self) -> u64 {
        self.0.read_up_to.load(Relaxed)
    }
}

/// Reads a blob while it arrives. Ends when all of it is here and has its digest; fails if the ingest ends before.
#[derive(Debug)]
pub struct Tail {
    arriving: Arriving,
    at: u64,
    known: u64,
}

impl Read for Tail {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let shared = &self.arriving.0;
        if self.at == self.known {
            let begun = Instant::now();
            let mut state = self.arriving.state();
            while state.written <= self.at && state.ended.is_none() {
                state = shared.moved.wait(state).expect("nothing panics while it holds this");
            }
            self.known = state.written;
            let whole = state.ended;
            drop(state);
            shared.waited.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
            match whole {
                Some(false) => return Err(ended()),
                Some(true) if self.at == self.known => return Ok(0),
                _ => {}
            }
        }
        let most = into.len().min(usize::try_from(self.known - self.at).unwrap_or(usize::MAX));
        let read = shared.file.read_at(&mut into[..most], self.at)?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "another process cut the arriving blob short"));
        }
        self.at += read as u64;
        shared.read_up_to.store(self.at, Relaxed);
        Ok(read)
    }
}

fn ended() -> io::Error {
    io::Error::other("the blob did not arrive whole")
}

/// A file in `dir` that vanishes when it is closed.
fn nameless(dir: &Path) -> Result<File, Error> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR).context("make a file in", dir)?;
    Ok(File::from(file))
}

/// Whether `path` still names the file that was locked: its last holder may have removed it.
pub(crate) fn has_name(file: &File, path: &Path) -> Result<bool, Error> {
    let opened = file.metadata().context("look at", path)?;
    match fs::symlink_metadata(path) {
        Ok(now) => Ok((opened.dev(), opened.ino()) == (now.dev(), now.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Ok(Err(error).context("look at", path)?),
    }
}
