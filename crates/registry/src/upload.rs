//! Open uploads.
//!
//! An upload's bytes are in the storage and survive the server. The state of its hash is in memory; after a restart it is computed again
//! from the bytes. One request at a time works on an upload. An upload without bytes occupies only its ID in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use strata_spec::{Algorithm, Digest, Hasher};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::{
    error::{Code, Error},
    layout,
    name::RepoName,
    quota::Reservation,
    storage::{self, Append, Reach},
    store::{self, Store},
};

/// Limits on uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum size of a blob in bytes.
    pub blob_size: u64,
    /// Maximum number of open uploads.
    pub count: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { blob_size: 100 << 30, count: 10_000 }
    }
}

/// The digest algorithm unless the client asks for another.
const USUAL: Algorithm = Algorithm::Sha256;
/// Time that a request waits for another one on the same upload, which may not yet know that its client is gone.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// All open uploads.
pub struct Uploads {
    store: Arc<Store>,
    limits: Limits,
    open: Mutex<HashMap<Key, Option<Slot>>>,
}

/// An upload's ID.
type Key = Uuid;
type Slot = Arc<tokio::sync::Mutex<State>>;

struct State {
    /// The digest algorithm.
    algorithm: Algorithm,
    /// `None` until this server has received a byte.
    hashed: Option<Hashed>,
    reserved: Reservation,
}

impl State {
    fn new(algorithm: Algorithm) -> Slot {
        Arc::new(tokio::sync::Mutex::new(Self { algorithm, hashed: None, reserved: Reservation::default() }))
    }
}

/// The hash state of the first `len` bytes.
struct Hashed {
    algorithm: Algorithm,
    hasher: Hasher,
    len: u64,
}

/// A request's exclusive access to an upload.
pub struct Session {
    uploads: Arc<Uploads>,
    state: OwnedMutexGuard<State>,
    name: RepoName,
    key: Key,
    directory: String,
    append: Option<Box<dyn Append>>,
    len: u64,
}

fn unknown(name: &RepoName, id: &str) -> Error {
    let shown: String = id.chars().take(100).collect();
    Error::new(Code::BlobUploadUnknown, format!("there is no upload {shown:?} to {name}; begin another"))
}

/// Reads an upload's ID, a UUID as [`new_id`] and distribution write it; `None` for any other spelling, as the ID names a directory.
fn key(id: &str) -> Option<Key> {
    let uuid = Uuid::try_parse(id).ok()?;
    (uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == id).then_some(uuid)
}

/// Returns a random UUID, version 4.
pub fn new_id() -> String {
    Uuid::new_v4().to_string()
}

impl Uploads {
    /// Returns the uploads of a registry.
    pub fn new(store: Arc<Store>, limits: Limits) -> Arc<Self> {
        Arc::new(Self { store, limits, open: Mutex::default() })
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Key, Option<Slot>>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Number of open uploads.
    pub fn count(&self) -> usize {
        self.open().len()
    }

    /// Counts the uploads in the storage that an earlier server began. Blocks.
    pub fn find(&self) -> Result<(), Error> {
        let storage = &**self.store.storage();
        store::walk(storage, store::Which::AllDirectories, None, &mut |name| {
            for id in storage.list(&layout::uploads(&name))? {
                let Some(key) = key(&id) else { continue };
                self.open().entry(key).or_default();
                // The upload may have ended between the listing and the count.
                if storage.reach() == Reach::Remote && storage.uploaded(&layout::upload(&name, &id))?.is_none() {
                    self.open().remove(&key);
                }
            }
            Ok(store::Next::GoOn)
        })
    }

    fn slot(&self, key: Key) -> Slot {
        self.open().entry(key).or_default().get_or_insert_with(|| State::new(USUAL)).clone()
    }

    fn forget(&self, key: Key) {
        self.open().remove(&key);
    }

    /// Whether a request works on the upload.
    fn is_busy(&self, key: Key) -> bool {
        self.open().get(&key).is_some_and(|slot| slot.as_ref().is_some_and(|slot| slot.try_lock().is_err()))
    }

    /// Begins an upload, of `size` bytes if that is known, and returns its ID. Blocks.
    ///
    /// Fails with `TOOMANYREQUESTS` if the number of uploads is at its limit, with `DENIED` if a quota is full.
    pub fn begin(self: &Arc<Self>, name: &RepoName, algorithm: Algorithm, size: Option<u64>) -> Result<String, Error> {
        self.check_size(size.unwrap_or(0))?;
        // Bytes are reserved as they arrive.
        drop(self.store.quotas().reserve(name, size.unwrap_or(0))?);
        let key = Uuid::new_v4();
        let id = key.to_string();
        self.take_place(key, (algorithm != USUAL).then(|| State::new(algorithm)))?;
        if let Err(error) = self.store.storage().begin_upload(&layout::upload(name, &id)) {
            self.forget(key);
            return Err(error.into());
        }
        Ok(id)
    }

    /// Counts one more upload. Fails at the limit.
    fn take_place(&self, key: Key, slot: Option<Slot>) -> Result<(), Error> {
        let mut open = self.open();
        if open.len() >= self.limits.count {
            let message = format!("{} uploads are open, which is the limit of this registry", self.limits.count);
            let error = Error::new(Code::TooManyRequests, message).with_header("retry-after", "60");
            return Err(error.with_detail(json!({"open": open.len(), "limit": self.limits.count})));
        }
        open.insert(key, slot);
        Ok(())
    }

    fn check_size(&self, size: u64) -> Result<(), Error> {
        if size <= self.limits.blob_size {
            return Ok(());
        }
        let message = format!("a blob may have {} bytes at most", self.limits.blob_size);
        Err(Error::new(Code::SizeInvalid, message).with_status(413))
    }

    /// Gives this request exclusive access to an upload. Fails with `BLOB_UPLOAD_UNKNOWN` if there is none.
    pub async fn enter(self: &Arc<Self>, name: &RepoName, id: &str) -> Result<Session, Error> {
        let Some(key) = key(id) else { return Err(unknown(name, id)) };
        let directory = layout::upload(name, id);
        let (uploads, looked) = (self.clone(), directory.clone());
        let missing = crate::http::blocking(move || Ok(uploads.store.storage().uploaded(&looked)?)).await?.is_none();
        if missing {
            return Err(unknown(name, id));
        }
        let waited = tokio::time::timeout(BUSY_WAIT, self.slot(key).lock_owned()).await;
        let state = waited.map_err(|_| {
            Error::new(Code::BlobUploadInvalid, format!("another request is at work on the upload {id}; try again"))
                .with_status(409)
        })?;
        let (uploads, looked) = (self.clone(), directory.clone());
        let len = crate::http::blocking(move || Ok(uploads.store.storage().uploaded(&looked)?)).await?;
        let Some(len) = len else {
            self.forget(key);
            return Err(unknown(name, id));
        };
        let (uploads, name) = (self.clone(), name.clone());
        Ok(Session { uploads, state, name, key, directory, append: None, len })
    }
}

impl Session {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the upload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Hashes with `algorithm` if the upload is empty.
    pub fn prefer(&mut self, algorithm: Algorithm) {
        if self.len == 0 {
            self.state.algorithm = algorithm;
        }
    }

    /// Appends bytes. Blocks. Fails if a limit or a quota has no room for them.
    pub fn write(&mut self, pieces: &[Bytes]) -> Result<(), Error> {
        let more: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.uploads.check_size(self.len + more)?;
        self.catch_up()?;
        self.state.reserved.grow(more)?;
        let append = match &mut self.append {
            Some(append) => append,
            None => self.append.insert(self.uploads.store.storage().append(&self.directory, self.len)?),
        };
        append.write(pieces)?;
        if let Some(hashed) = self.state.hashed.as_mut().filter(|hashed| hashed.len == self.len) {
            pieces.iter().for_each(|piece| hashed.hasher.update(piece));
            hashed.len += more;
        }
        self.len += more;
        Ok(())
    }

    /// Hashes and reserves the bytes that an earlier server received.
    fn catch_up(&mut self) -> Result<(), Error> {
        if self.state.hashed.is_none() {
            self.rehash(self.state.algorithm)?;
            self.state.reserved = self.uploads.store.quotas().reserve(&self.name, self.len)?;
        }
        Ok(())
    }

    /// Makes the written bytes readable for the next request. Blocks.
    pub fn close(&mut self) -> Result<(), Error> {
        if let Some(mut append) = self.append.take() {
            self.len = append.close()?;
        }
        Ok(())
    }

    fn rehash(&mut self, algorithm: Algorithm) -> Result<(), Error> {
        let (mut hasher, mut len) = (Hasher::new(algorithm), 0);
        if self.len > 0 {
            self.uploads.store.storage().read_upload(&self.directory, &mut |piece| {
                hasher.update(piece);
                len += piece.len() as u64;
            })?;
        }
        self.state.hashed = Some(Hashed { algorithm, hasher, len });
        Ok(())
    }

    /// Removes the upload. Blocks.
    pub fn cancel(mut self) -> Result<(), Error> {
        self.append = None;
        self.uploads.store.storage().remove_directory(&self.directory)?;
        self.state.reserved = Reservation::default();
        self.uploads.forget(self.key);
        Ok(())
    }

    /// Makes the upload the blob `digest` of its repository, durably, and returns its size in bytes. Blocks.
    ///
    /// Fails with `DIGEST_INVALID` and removes the upload if the bytes have another digest.
    pub fn commit(mut self, digest: Digest) -> Result<u64, Error> {
        self.close()?;
        let fits = |hashed: &Hashed| hashed.algorithm == digest.algorithm();
        if !self.state.hashed.as_ref().is_some_and(|hashed| fits(hashed) && hashed.len == self.len) {
            self.rehash(digest.algorithm())?;
        }
        let hashed = self.state.hashed.take().filter(|hashed| hashed.len == self.len).ok_or_else(|| {
            Error::from(storage::Error::Moved { key: self.directory.clone(), expected: self.len, found: 0 })
        })?;
        let found = hashed.hasher.finish();
        if found != digest {
            self.cancel()?;
            return Err(Error::new(Code::DigestInvalid, format!("the bytes that came are {found}, not {digest}"))
                .with_detail(json!({ "digest": digest })));
        }
        let published = self.publish(digest);
        match published {
            Ok(()) => self.uploads.forget(self.key),
            // A refused client begins another upload.
            Err(ref error) if error.status() < 500 => {
                self.uploads.store.storage().remove_directory(&self.directory)?;
                self.uploads.forget(self.key);
            }
            Err(_) => {}
        }
        published.map(|()| self.len)
    }

    fn publish(&mut self, digest: Digest) -> Result<(), Error> {
        let store = &self.uploads.store;
        let storage = store.storage();
        let key = layout::blob(digest);
        let _lock = store.lock(&self.name);
        let _gate = storage.publishing()?;
        // A file of another length is damaged, and repaired by this.
        let is_there = storage.rely(&key)? && storage.stat(&key)?.is_some_and(|stat| stat.size == self.len);
        if is_there {
            storage.remove_directory(&self.directory)?;
        } else {
            storage.finish_upload(&self.directory, &key)?;
        }
        store.link_blob(&self.name, digest, self.len, std::mem::take(&mut self.state.reserved))
    }
}

/// Removes the uploads of all repositories that are idle for `age`; returns their directories. Blocks.
pub fn purge(uploads: &Uploads, age: Duration, run: crate::gc::Run) -> Result<Vec<String>, Error> {
    let storage = &**uploads.store.storage();
    let oldest = std::time::SystemTime::now().checked_sub(age).unwrap_or(std::time::SystemTime::UNIX_EPOCH);
    let mut purged = Vec::new();
    store::walk(storage, store::Which::AllDirectories, None, &mut |name| {
        for id in storage.list(&layout::uploads(&name))? {
            let directory = layout::upload(&name, &id);
            let is_old = storage.upload_started(&directory)?.is_some_and(|started| started < oldest);
            let key = key(&id);
            if !is_old || key.is_some_and(|key| uploads.is_busy(key)) {
                continue;
            }
            if run == crate::gc::Run::ForReal {
                storage.remove_directory(&directory)?;
                key.into_iter().for_each(|key| uploads.forget(key));
            }
            purged.push(directory);
        }
        Ok(store::Next::GoOn)
    })?;
    Ok(purged)
}
