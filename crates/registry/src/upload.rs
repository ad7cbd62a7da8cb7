//! Uploads under way.
//!
//! An upload lies in the storage, so that it survives the server; what it has hashed so far is kept here, and is made anew from its
//! bytes when it is not. One request at a time works on an upload.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use ring::rand::SecureRandom;
use serde_json::json;
use strata_spec::{Algorithm, Digest, Hasher};
use tokio::sync::OwnedMutexGuard;

use crate::{
    error::{Code, Error},
    layout,
    name::RepoName,
    quota::Reservation,
    storage::{self, Append},
    store::{self, Store},
};

/// Bounds on uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a blob.
    pub blob_size: u64,
    /// Uploads under way at once.
    pub count: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { blob_size: 100 << 30, count: 10_000 }
    }
}

/// How long a request waits for another on the same upload: the one before it may not yet know that its client is gone.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// All uploads that this server knows of.
pub struct Uploads {
    store: Arc<Store>,
    limits: Limits,
    open: Mutex<HashMap<String, Arc<tokio::sync::Mutex<State>>>>,
}

#[derive(Default)]
struct State {
    hashed: Option<Hashed>,
    reserved: Reservation,
}

/// The hash of the first `len` bytes.
struct Hashed {
    algorithm: Algorithm,
    hasher: Hasher,
    len: u64,
}

/// One request's work on an upload.
pub struct Session {
    uploads: Arc<Uploads>,
    state: OwnedMutexGuard<State>,
    name: RepoName,
    id: String,
    folder: String,
    append: Option<Box<dyn Append>>,
    len: u64,
}

fn unknown(name: &RepoName, id: &str) -> Error {
    let shown: String = id.chars().take(100).collect();
    Error::new(Code::BlobUploadUnknown, format!("there is no upload {shown:?} to {name}; begin another"))
}

/// Whether `id` has the shape of those that [`Uploads::begin`] makes, and distribution.
fn is_id(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// A random UUID, version 4.
pub fn new_id() -> String {
    let mut bytes = [0u8; 16];
    ring::rand::SystemRandom::new().fill(&mut bytes).expect("the kernel has random bytes");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

impl Uploads {
    pub fn new(store: Arc<Store>, limits: Limits) -> Arc<Self> {
        Arc::new(Self { store, limits, open: Mutex::default() })
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).len()
    }

    fn slot(&self, id: &str) -> Arc<tokio::sync::Mutex<State>> {
        let mut open = self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        open.entry(id.to_owned()).or_default().clone()
    }

    fn forget(&self, id: &str) {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(id);
    }

    /// Whether a request is at work on the upload right now.
    pub fn is_busy(&self, id: &str) -> bool {
        let open = self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        open.get(id).is_some_and(|slot| slot.try_lock().is_err())
    }

    /// Begins an upload, of `size` bytes if that is known, and returns its ID. Blocks.
    pub fn begin(self: &Arc<Self>, name: &RepoName, algorithm: Algorithm, size: Option<u64>) -> Result<String, Error> {
        if self.count() >= self.limits.count {
            let message =
                format!("{} uploads are under way, which is all that this registry takes at once", self.limits.count);
            return Err(Error::new(Code::TooManyRequests, message).with_header("retry-after", "60"));
        }
        self.check_size(size.unwrap_or(0))?;
        let mut reserved = self.store.quotas().reserve(name, size.unwrap_or(0))?;
        // The bytes are reserved as they come.
        reserved.shrink(u64::MAX);
        let id = new_id();
        self.store.storage().begin_upload(&layout::upload(name, &id))?;
        let hashed = Some(Hashed { algorithm, hasher: Hasher::new(algorithm), len: 0 });
        let slot = Arc::new(tokio::sync::Mutex::new(State { hashed, reserved }));
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(id.clone(), slot);
        Ok(id)
    }

    fn check_size(&self, size: u64) -> Result<(), Error> {
        if size <= self.limits.blob_size {
            return Ok(());
        }
        let message = format!("a blob may have {} bytes at most", self.limits.blob_size);
        Err(Error::new(Code::SizeInvalid, message).with_status(413))
    }

    /// Takes an upload for this request alone. Fails with `BLOB_UPLOAD_UNKNOWN` if there is none.
    pub async fn enter(self: &Arc<Self>, name: &RepoName, id: &str) -> Result<Session, Error> {
        if !is_id(id) {
            return Err(unknown(name, id));
        }
        let folder = layout::upload(name, id);
        let (uploads, looked) = (self.clone(), folder.clone());
        let missing = crate::http::blocking(move || Ok(uploads.store.storage().uploaded(&looked)?)).await?.is_none();
        if missing {
            return Err(unknown(name, id));
        }
        let waited = tokio::time::timeout(BUSY_WAIT, self.slot(id).lock_owned()).await;
        let state = waited.map_err(|_| {
            Error::new(Code::BlobUploadInvalid, format!("another request is at work on the upload {id}; try again"))
                .with_status(409)
        })?;
        let (uploads, looked) = (self.clone(), folder.clone());
        let len = crate::http::blocking(move || Ok(uploads.store.storage().uploaded(&looked)?)).await?;
        let Some(len) = len else {
            self.forget(id);
            return Err(unknown(name, id));
        };
        Ok(Session { uploads: self.clone(), state, name: name.clone(), id: id.to_owned(), folder, append: None, len })
    }
}

impl Session {
    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Hashes with `algorithm` from now on, if nothing was hashed yet.
    pub fn prefer(&mut self, algorithm: Algorithm) {
        if self.len == 0 && self.state.hashed.is_some() {
            self.state.hashed = Some(Hashed { algorithm, hasher: Hasher::new(algorithm), len: 0 });
        }
    }

    /// Adds bytes at the end. Blocks. Fails where a limit or a quota has no room for them.
    pub fn write(&mut self, pieces: &[Bytes]) -> Result<(), Error> {
        let more: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.uploads.check_size(self.len + more)?;
        self.catch_up()?;
        self.state.reserved.grow(more)?;
        let append = match &mut self.append {
            Some(append) => append,
            None => self.append.insert(self.uploads.store.storage().append(&self.folder, self.len)?),
        };
        append.write(pieces)?;
        if let Some(hashed) = self.state.hashed.as_mut().filter(|hashed| hashed.len == self.len) {
            pieces.iter().for_each(|piece| hashed.hasher.update(piece));
            hashed.len += more;
        }
        self.len += more;
        Ok(())
    }

    /// Hashes and reserves the bytes that came before the server was started.
    fn catch_up(&mut self) -> Result<(), Error> {
        if self.state.hashed.is_none() {
            self.rehash(Algorithm::Sha256)?;
            self.state.reserved = self.uploads.store.quotas().reserve(&self.name, self.len)?;
        }
        Ok(())
    }

    /// Makes what was written readable for the next request. Blocks.
    pub fn close(&mut self) -> Result<(), Error> {
        if let Some(mut append) = self.append.take() {
            self.len = append.close()?;
        }
        Ok(())
    }

    fn rehash(&mut self, algorithm: Algorithm) -> Result<(), Error> {
        let (mut hasher, mut len) = (Hasher::new(algorithm), 0);
        self.uploads.store.storage().read_upload(&self.folder, &mut |piece| {
            hasher.update(piece);
            len += piece.len() as u64;
        })?;
        self.state.hashed = Some(Hashed { algorithm, hasher, len });
        Ok(())
    }

    /// Removes the upload with all its bytes. Blocks.
    pub fn cancel(mut self) -> Result<(), Error> {
        self.append = None;
        self.uploads.store.storage().remove_folder(&self.folder)?;
        self.state.reserved = Reservation::default();
        self.uploads.forget(&self.id);
        Ok(())
    }

    /// Makes the upload the blob `digest` of its repository. Blocks. Durable on return; returns its size in bytes.
    ///
    /// Fails with `DIGEST_INVALID`, removing the upload, if its bytes are others.
    pub fn commit(mut self, digest: Digest) -> Result<u64, Error> {
        self.close()?;
        let fits = |hashed: &Hashed| hashed.algorithm == digest.algorithm();
        if !self.state.hashed.as_ref().is_some_and(|hashed| fits(hashed) && hashed.len == self.len) {
            self.rehash(digest.algorithm())?;
        }
        let hashed = self.state.hashed.take().filter(|hashed| hashed.len == self.len).ok_or_else(|| {
            Error::from(storage::Error::Moved { key: self.folder.clone(), expected: self.len, found: 0 })
        })?;
        let found = hashed.hasher.finish();
        if found != digest {
            self.cancel()?;
            return Err(Error::new(Code::DigestInvalid, format!("the bytes that came are {found}, not {digest}"))
                .with_detail(json!({ "digest": digest })));
        }
        let published = self.publish(digest);
        match published {
            Ok(()) => self.uploads.forget(&self.id),
            // Nothing of it is kept: the client that is refused begins another.
            Err(ref error) if error.status() < 500 => {
                self.uploads.store.storage().remove_folder(&self.folder).map(|_| ())?
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
        // What lies there with another length is damaged, and healed by this.
        let is_there = storage.rely(&key)? && storage.stat(&key)?.is_some_and(|stat| stat.size == self.len);
        if is_there {
            storage.remove_folder(&self.folder)?;
        } else {
            storage.finish_upload(&self.folder, &key)?;
        }
        store.link_blob(&self.name, digest, self.len, std::mem::take(&mut self.state.reserved))
    }
}

/// Removes uploads of all repositories that nobody has added to for `age`; returns their folders. Blocks.
pub fn purge(uploads: &Uploads, age: Duration, run: crate::gc::Run) -> Result<Vec<String>, Error> {
    let storage = &**uploads.store.storage();
    let oldest = std::time::SystemTime::now().checked_sub(age).unwrap_or(std::time::SystemTime::UNIX_EPOCH);
    let mut purged = Vec::new();
    store::walk(storage, store::Which::AllFolders, None, &mut |name| {
        for id in storage.list(&layout::uploads(&name))? {
            let folder = layout::upload(&name, &id);
            let is_old = storage.upload_started(&folder)?.is_some_and(|started| started < oldest);
            if !is_old || uploads.is_busy(&id) {
                continue;
            }
            if run == crate::gc::Run::ForReal {
                storage.remove_folder(&folder)?;
                uploads.forget(&id);
            }
            purged.push(folder);
        }
        Ok(store::Next::GoOn)
    })?;
    Ok(purged)
}
