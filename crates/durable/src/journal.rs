//! `strata/journal`: what running operations intend, and what dead ones left to be settled.
//!
//! ```text
//! <random hex>         one operation; a JSON document a line; locked (flock) by the process that runs it
//!                      first `{"strata":"<version>"}`, the version that writes it, then its notes
//! .tmp-<random hex>    one that is just being written; no change of its operation has begun
//! ```
//!
//! An operation writes an intent before its first change, adds notes as it goes (each on disk before the change that it
//! announces), and removes it after its last. An intent whose lock is free belongs to a dead process: whoever opens the
//! root settles it, by undoing or completing. An intent is also a lease: what its notes name is in use.
//!
//! Nobody but the holder of its lock removes an entry, and a lock counts only while the entry still has its name: that is how
//! two openers at once, or an opener and a writer, never both take an entry.
//!
//! A note that this version does not know ([`Journal::knowing`]) is an error, and its entry stays as it is: only the version that
//! wrote it can settle what it announces.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    slice,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use strata_spec::ErrorKind;
use strata_sys::process::{LockMode, lock_file, try_lock_file};

use crate::{
    Context, Error, create_dir_all, defer,
    file::is_temporary,
    step::{self, TEMPORARY},
    trace::{Event, emit},
};

/// The folder of intents.
#[derive(Clone, Debug)]
pub struct Journal {
    dir: PathBuf,
    /// Why nothing can be written here, if so.
    refused: Option<io::ErrorKind>,
    /// Whether some store can settle a note.
    is_known: Known,
}

/// Tells whether some store can settle a note.
pub type Known = fn(&Value) -> bool;

/// The first line of an entry.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    /// The version of Strata that writes the entry.
    strata: Cow<'a, str>,
}

/// This version of Strata.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A running operation's entry. Dropped without [`Intent::done`] it stays, unlocked, to be settled by the next opener.
#[derive(Debug)]
pub struct Intent {
    path: PathBuf,
    file: File,
    /// Bytes of whole notes.
    len: u64,
}

/// An entry read back: its notes in order of writing. A torn last line (crash while noting) is dropped: its change never began.
#[derive(Debug)]
pub struct Notes<T> {
    pub path: PathBuf,
    pub notes: Vec<T>,
}

impl Journal {
    /// Opens the journal in `dir`, making it if missing.
    ///
    /// Where that is not allowed (a read-only filesystem, no rights) it opens for reading: [`Journal::begin`] then fails, with
    /// that reason, and [`Journal::settle`] does nothing.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        let made = create_dir_all(dir, 0o700).and_then(|()| {
            accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).context("write to", dir)
        });
        match made {
            Ok(()) => Ok(Self::new(dir, None)),
            Err(error) => match error.source.kind() {
                kind @ (io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => {
                    Ok(Self::new(dir, Some(kind)))
                }
                _ => Err(error),
            },
        }
    }

    /// The journal in `dir` for somebody who only reads: nothing is made, nothing begins, nothing is settled.
    pub fn reader(dir: &Path) -> Self {
        Self::new(dir, Some(io::ErrorKind::ReadOnlyFilesystem))
    }

    fn new(dir: &Path, refused: Option<io::ErrorKind>) -> Self {
        Self { dir: dir.to_owned(), refused, is_known: |_| true }
    }

    /// Refuses entries that hold a note for which `is_known` is false. Without this every note is taken as known.
    #[must_use]
    pub fn knowing(self, is_known: Known) -> Self {
        Self { is_known, ..self }
    }

    /// Whether operations can begin here.
    pub fn is_writable(&self) -> bool {
        self.refused.is_none()
    }

    /// Starts an operation with its first note, which is on disk when this returns.
    ///
    /// On a full disk the [ballast](Journal::ballast) goes first, so that an operation which makes room can begin.
    pub fn begin<T: Serialize>(&self, first: &T) -> Result<Intent, Error> {
        self.begin_with(slice::from_ref(first))
    }

    /// As [`Journal::begin`], with several notes, for about the price of one.
    pub fn begin_with<T: Serialize>(&self, notes: &[T]) -> Result<Intent, Error> {
        if let Some(kind) = self.refused {
            return Err(io::Error::from(kind)).context("begin an operation in", &self.dir);
        }
        match self.begin_once(notes) {
            Err(error) if error.kind() == ErrorKind::NoSpace && fs::remove_file(self.ballast()).is_ok() => {
                self.begin_once(notes)
            }
            result => result,
        }
    }

    /// `ballast`, beside the journal's folder: bytes that mean nothing, kept to be given up when the disk is full. Whoever owns the
    /// folder above makes it.
    pub fn ballast(&self) -> PathBuf {
        self.dir.with_file_name("ballast")
    }

    fn begin_once<T: Serialize>(&self, notes: &[T]) -> Result<Intent, Error> {
        loop {
            let name = step::random_suffix()?;
            let temporary = self.dir.join(format!("{TEMPORARY}{name}"));
            let file = step::create(&temporary, 0o600)?;
            // An opener may have taken the file in the instant before: then it is removed, and its lock gained for nothing.
            lock_file(&file, LockMode::Exclusive).context("lock", &temporary)?;
            if !step::has_name(&file, &temporary)? {
                continue;
            }
            let mut intent = Intent { path: temporary, file, len: 0 };
            let path = self.dir.join(name);
            let header = Header { strata: VERSION.into() };
            let begun = intent
                .write(&[header])
                .and_then(|()| intent.write(notes))
                .and_then(|()| step::rename(&intent.path, &path));
            if let Err(error) = begun {
                let _ = step::unlink(&intent.path);
                return Err(error);
            }
            intent.path = path;
            // After the rename, so that one commit of a journalling filesystem takes both. A torn entry announces nothing, and
            // nothing has begun.
            if let Err(error) = intent.sync().and_then(|()| intent.sync_name()) {
                let _ = step::unlink(&intent.path);
                return Err(error);
            }
            return Ok(intent);
        }
    }

    /// The notes of all operations that are alive. Fails if one of them is unknown: what it holds cannot be told.
    pub fn alive<T: DeserializeOwned>(&self) -> Result<Vec<Notes<T>>, Error> {
        let mut alive = Vec::new();
        for path in self.entries()? {
            if is_temporary(path.file_name().unwrap_or_default()) {
                continue;
            }
            let Some(file) = open(&path, false)? else { continue };
            if try_lock_file(&file, LockMode::Shared).context("lock", &path)? {
                continue;
            }
            let notes = self.read(file, &path)?;
            alive.push(Notes { path, notes });
        }
        Ok(alive)
    }

    /// Settles what dead operations left: calls `settle` on each, holding its lock, and removes the entry when that succeeds.
    ///
    /// One that fails stays for the next opener, and does not keep the others from being settled; the first failure is returned.
    /// An entry with an unknown note fails so, and is not changed.
    pub fn settle<T: DeserializeOwned, E: From<Error>>(
        &self,
        mut settle: impl FnMut(&[T]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.refused.is_some() {
            return Ok(());
        }
        let mut first_failure = Ok(());
        for path in self.entries()? {
            let settled = self.settle_one(&path, &mut settle);
            if first_failure.is_ok() {
                first_failure = settled;
            }
        }
        first_failure
    }

    fn settle_one<T: DeserializeOwned, E: From<Error>>(
        &self,
        path: &Path,
        settle: &mut impl FnMut(&[T]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(file) = open(path, true)? else { return Ok(()) };
        if !step::lock_named(&file, path)? {
            return Ok(());
        }
        // The lock is held, by `_held`, until the entry is gone.
        let _held = file.try_clone().context("open", path)?;
        if !is_temporary(path.file_name().unwrap_or_default()) {
            let notes: Vec<T> = self.read(file, path)?;
            if !notes.is_empty() {
                tracing::warn!(entry = %path.display(), notes = notes.len(), "settling an interrupted operation");
                settle(&notes)?;
            }
        }
        step::unlink(path)?;
        step::sync_dir(&self.dir)?;
        Ok(())
    }

    /// Reads the notes of an entry.
    fn read<T: DeserializeOwned>(&self, mut file: File, path: &Path) -> Result<Vec<T>, Error> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).context("read the journal entry", path)?;
        parse(&bytes, self.is_known)
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
            .context("read the journal entry", path)
    }

    /// All entries, temporary ones included, in order of name.
    fn entries(&self) -> Result<Vec<PathBuf>, Error> {
        let list = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) if self.refused.is_some() && error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Vec::new());
            }
            result => result.context("list", &self.dir)?,
        };
        let paths: io::Result<Vec<PathBuf>> = list.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths.context("list", &self.dir)?;
        paths.sort();
        Ok(paths)
    }
}

impl Intent {
    /// Adds a note; on disk when this returns. If it fails, the notes before it stand.
    pub fn note<T: Serialize>(&mut self, note: &T) -> Result<(), Error> {
        let before = self.len;
        let noted = self.write(slice::from_ref(note)).and_then(|()| self.sync());
        if noted.is_err() {
            self.len = before;
            self.cut()?;
        }
        noted
    }

    fn write<T: Serialize>(&mut self, notes: &[T]) -> Result<(), Error> {
        let mut lines = Vec::new();
        for note in notes {
            serde_json::to_writer(&mut lines, note).map_err(io::Error::from).context("write a note for", &self.path)?;
            lines.push(b'\n');
        }
        step::write(&mut self.file, &lines, &self.path)?;
        self.len += lines.len() as u64;
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        if !defer::is_on() {
            self.file.sync_data().context("sync", &self.path)?;
            emit(Event::SyncFile(&self.path));
        }
        Ok(())
    }

    /// Takes back half a note, so that the next does not follow it on the same line.
    fn cut(&mut self) -> Result<(), Error> {
        use std::io::Seek;
        self.file.set_len(self.len).context("shorten", &self.path)?;
        self.file.seek(io::SeekFrom::Start(self.len)).context("shorten", &self.path)?;
        Ok(())
    }

    /// Ends the operation: the entry is removed.
    pub fn done(self) -> Result<(), Error> {
        step::unlink(&self.path)?;
        // The lock is held until after this: no opener settles what is done.
        self.sync_name()
    }

    /// Ends several operations of one journal: their entries are removed for about the price of one.
    pub fn done_all(intents: Vec<Self>) -> Result<(), Error> {
        for intent in &intents {
            step::unlink(&intent.path)?;
        }
        intents.first().map_or(Ok(()), Self::sync_name)
    }

    /// Syncs the journal's folder; where syncs are put off, nothing is owed for an entry that counts only while it lives.
    fn sync_name(&self) -> Result<(), Error> {
        if defer::is_on() { Ok(()) } else { step::sync_dir(step::parent(&self.path)) }
    }
}

/// Opens an entry; `None` if it is gone.
fn open(path: &Path, write: bool) -> Result<Option<File>, Error> {
    match OpenOptions::new().read(true).write(write).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(path)
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some).context("open the journal entry", path),
    }
}

/// Parses the lines of an entry. Only the last line may be torn: each is on disk before the next is written. Where syncs were put off,
/// every line from the first that did not reach the disk may be torn, and then reads as zeros.
fn parse<T: DeserializeOwned>(bytes: &[u8], is_known: Known) -> Result<Vec<T>, String> {
    let mut notes = Vec::new();
    let mut writer = None;
    let bytes = &bytes[..bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len())];
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n').enumerate().peekable();
    while let Some((n, line)) = lines.next() {
        // A note without its end may be the beginning of a longer one: `12` of `123`.
        if !line.ends_with(b"\n") {
            break;
        }
        let value: Value = match serde_json::from_slice(line) {
            Ok(value) => value,
            Err(_) if lines.peek().is_none() => break,
            Err(error) => return Err(format!("line {}: {error}; the entry is damaged", n + 1)),
        };
        match Header::deserialize(&value) {
            Ok(header) if n == 0 => writer = Some(header.strata.into_owned()),
            _ if !is_known(&value) => return Err(unknown(&value, writer.as_deref())),
            _ => notes.push(T::deserialize(value).map_err(|error| format!("line {}: {error}", n + 1))?),
        }
    }
    Ok(notes)
}

/// Tells that `note` is unknown, and which version can settle it.
fn unknown(note: &Value, writer: Option<&str>) -> String {
    let kind = note.get("op").and_then(Value::as_str).map_or_else(|| note.to_string(), str::to_owned);
    let writer = match writer {
        Some(version) => format!("version {version} wrote it; run that version on this root once"),
        None => "another version wrote it; run that version on this root once".to_owned(),
    };
    format!("strata {VERSION} does not know the operation {kind:?}: {writer}, and it settles the operation")
}

#[cfg(test)]
mod tests;
