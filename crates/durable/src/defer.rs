//! Syncs put off, for changes that a crash may lose, keep or tear, since the journal already says on disk that they are to be undone.
//!
//! What an operation makes and removes again within its own life (a container that goes at its end) need not reach the disk on
//! the way. Two moments count: before the first change, an intent is on disk that names all that will be made; and before that
//! intent goes, the removals are on disk ([`Deferred::finish`]).

use std::{cell::RefCell, collections::BTreeSet, io, path::Path, path::PathBuf};

use crate::{Error, step};

thread_local! {
    /// The folders whose syncs were put off; `None` while nothing is.
    static PENDING: RefCell<Option<BTreeSet<PathBuf>>> = const { RefCell::new(None) };
}

/// The syncs that an operation still owes.
#[derive(Debug, Default)]
pub struct Deferred {
    is_on: bool,
    folders: BTreeSet<PathBuf>,
}

impl Deferred {
    /// Puts syncs off if `is_on`; else [`Deferred::during`] just makes its changes.
    pub fn when(is_on: bool) -> Self {
        Self { is_on, folders: BTreeSet::new() }
    }

    /// Whether syncs are put off.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Makes `changes` without syncing files, folders or filesystems, and notes of the journal neither, on this thread.
    pub fn during<T>(&mut self, changes: impl FnOnce() -> T) -> T {
        if !self.is_on {
            return changes();
        }
        let scope = Scope { outer: PENDING.replace(Some(std::mem::take(&mut self.folders))), owner: self };
        let result = changes();
        drop(scope);
        result
    }

    /// Syncs each folder once that is still there: names that were removed are off the disk when this returns.
    pub fn finish(&mut self) -> Result<(), Error> {
        for folder in std::mem::take(&mut self.folders) {
            match step::sync_dir(&folder) {
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }
}

/// Gives back, also when unwinding, what was in force outside.
struct Scope<'a> {
    outer: Option<BTreeSet<PathBuf>>,
    owner: &'a mut Deferred,
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.owner.folders = PENDING.replace(self.outer.take()).unwrap_or_default();
    }
}

/// Whether syncs of this thread are put off.
pub(crate) fn is_on() -> bool {
    PENDING.with_borrow(Option::is_some)
}

/// Puts the sync of `folder` off, if any is.
pub(crate) fn put_off(folder: &Path) -> bool {
    PENDING.with_borrow_mut(|pending| match pending {
        Some(folders) => {
            folders.insert(folder.to_owned());
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::trace::{self, Event};

    /// The syncs of one folder's tree; other tests run beside.
    struct Syncs(PathBuf, Mutex<Vec<String>>);

    impl trace::Recorder for Syncs {
        fn event(&self, event: &Event<'_>) {
            if let (Event::SyncFile(path) | Event::SyncDir(path) | Event::SyncFilesystem(path), Ok(mut seen)) =
                (event, self.1.lock())
                && let Ok(below) = path.strip_prefix(&self.0)
            {
                seen.push(below.display().to_string());
            }
        }
    }

    #[test]
    fn syncs_wait_for_the_end_and_only_those_of_the_scope() {
        let dir = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| dir.path().join(name);
        let syncs = Arc::new(Syncs(dir.path().to_owned(), Mutex::default()));
        let _installed = trace::install(syncs.clone());
        let seen = || std::mem::take(&mut *syncs.1.lock().expect("no panic"));
        for name in ["a", "b", "tmp"] {
            crate::create_dir_all(&at(name), 0o700).expect("create");
        }
        let journal = crate::Journal::open(&at("journal")).expect("open");
        seen();

        let mut deferred = Deferred::when(true);
        deferred.during(|| {
            crate::write(&at("a/file"), b"x", 0o600).expect("write");
            crate::sync_filesystem(dir.path()).expect("sync");
            journal.begin(&"note").expect("begin").done().expect("done");
        });
        assert_eq!(seen(), [""; 0]);
        crate::write(&at("b/file"), b"x", 0o600).expect("write");
        assert_eq!(seen().len(), 2, "outside, all is as ever");
        deferred.during(|| crate::remove_dir(&at("b"), &at("tmp")).expect("remove"));
        deferred.during(|| crate::write(&at("a/file"), b"y", 0o600).expect("write"));
        deferred.during(|| crate::remove_dir(&at("a"), &at("tmp")).expect("remove"));
        deferred.finish().expect("finish");
        assert_eq!(seen(), [""], "what is gone needs no sync, nor does an entry that only lived");
        assert_eq!(std::fs::read_dir(at("tmp")).expect("list").count(), 0);
        deferred.finish().expect("nothing is owed any more");
        assert_eq!(seen(), [""; 0]);

        Deferred::when(false).during(|| crate::write(&at("tmp/file"), b"x", 0o600).expect("write"));
        assert_eq!(seen().len(), 2);
    }

    #[test]
    fn a_panic_ends_the_scope() {
        let ended = std::panic::catch_unwind(|| Deferred::when(true).during(|| panic!("on purpose")));
        assert!(ended.is_err() && !is_on());
    }
}
