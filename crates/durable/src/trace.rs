//! The durable writes as events, for the crash recorder of `testkit`.
//!
//! Each change is told right after it was made. With no recorder installed that costs one relaxed load of an atomic.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// One change that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A new empty file.
    Create(&'a Path),
    /// Bytes were written; not on disk yet.
    Write(&'a Path),
    /// The file's bytes are on disk.
    SyncFile(&'a Path),
    Mkdir(&'a Path),
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    Symlink(&'a Path),
    Unlink(&'a Path),
    /// A folder and all below it are gone.
    RemoveTree(&'a Path),
    /// The folder's entries are on disk.
    SyncDir(&'a Path),
    /// All of the filesystem that holds the path is on disk.
    SyncFilesystem(&'a Path),
    /// Content was written under the path by other means than this crate; not on disk yet.
    Content(&'a Path),
    /// A test's remark about the store at the path: what was reported done up to here.
    Mark(&'a Path, &'a str),
}

impl Event<'_> {
    /// The path that the event is about; of a rename, the new one.
    pub fn path(&self) -> &Path {
        match *self {
            Self::Create(path) | Self::Write(path) | Self::SyncFile(path) | Self::Mkdir(path) => path,
            Self::Rename { to, .. } => to,
            Self::Symlink(path) | Self::Unlink(path) | Self::RemoveTree(path) => path,
            Self::SyncDir(path) | Self::SyncFilesystem(path) | Self::Content(path) | Self::Mark(path, _) => path,
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match *self {
            Self::Create(_) => "create",
            Self::Write(_) => "write",
            Self::SyncFile(_) => "fsync",
            Self::Mkdir(_) => "mkdir",
            Self::Rename { from, to } => return write!(f, "rename {} → {}", from.display(), to.display()),
            Self::Symlink(_) => "symlink",
            Self::Unlink(_) => "unlink",
            Self::RemoveTree(_) => "remove",
            Self::SyncDir(_) => "fsync folder",
            Self::SyncFilesystem(_) => "syncfs",
            Self::Content(_) => "content",
            Self::Mark(_, label) => return write!(f, "mark \"{label}\""),
        };
        write!(f, "{what} {}", self.path().display())
    }
}

/// Who is told. Called on the thread that made the change, before the next one of that thread.
pub trait Recorder: Send + Sync {
    fn event(&self, event: &Event<'_>);
}

static INSTALLED: AtomicUsize = AtomicUsize::new(0);
static RECORDERS: RwLock<Vec<Arc<dyn Recorder>>> = RwLock::new(Vec::new());

/// A recorder at work; it stops when this drops.
pub struct Installed(Arc<dyn Recorder>);

/// Tells `recorder` of every change that any thread of this process makes from now on.
pub fn install(recorder: Arc<dyn Recorder>) -> Installed {
    let mut recorders = RECORDERS.write().unwrap_or_else(PoisonError::into_inner);
    recorders.push(recorder.clone());
    INSTALLED.store(recorders.len(), Ordering::Relaxed);
    Installed(recorder)
}

impl Drop for Installed {
    fn drop(&mut self) {
        let mut recorders = RECORDERS.write().unwrap_or_else(PoisonError::into_inner);
        recorders.retain(|recorder| !Arc::ptr_eq(recorder, &self.0));
        INSTALLED.store(recorders.len(), Ordering::Relaxed);
    }
}

/// Tells that content was written under `path` by other means than this crate: a place where a test may let the machine crash.
pub fn content(path: &Path) {
    emit(Event::Content(path));
}

/// Notes, for tests, that something was reported done about the store at `root`.
pub fn mark(root: &Path, label: &str) {
    emit(Event::Mark(root, label));
}

#[inline]
pub(crate) fn emit(event: Event<'_>) {
    if INSTALLED.load(Ordering::Relaxed) != 0 {
        tell(&event);
    }
}

#[cold]
fn tell(event: &Event<'_>) {
    for recorder in RECORDERS.read().unwrap_or_else(PoisonError::into_inner).iter() {
        recorder.event(event);
    }
}
