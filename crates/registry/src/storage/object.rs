//! An object store, through `opendal`: the same keys as in a directory, below a prefix.
//!
//! ```text
//! <prefix>/docker/registry/v2/{blobs,repositories}      as `layout` draws them
//! …/_uploads/<uuid>/startedat                           when the upload began
//! …/_uploads/<uuid>/parts/<offset>-<length>             its bytes, 20 digits each; the parts in a row from 0 are the upload
//! ```
//!
//! An object appears whole or not at all, so that nothing else is needed against crashes. The times of reliance and the
//! gate are in this process' memory: one server at a time may write or collect. On start it relies on every blob, because another server
//! may have answered a client just before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use opendal::{ErrorKind, Operator};
use tokio::runtime::Handle;

use super::{Append, Content, Error, Gate, Head, Reach, ReadAt, Result, Source, Stat, Storage};
use crate::layout;

/// Validity of a redirect.
const REDIRECT: Duration = Duration::from_secs(20 * 60);
/// Default size of a part of an upload and of an assembled blob, in bytes. Each open upload holds as much in memory.
pub const DEFAULT_PART: usize = 8 << 20;
/// Maximum number of parts of an assembled blob: services accept 10,000, Swift a thousand by default.
const PARTS_MAX: u64 = 1_000;
/// Maximum number of blobs with a time of their own.
const RELIED_MAX: usize = 200_000;

/// What an earlier process may have promised to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Another server may just have stopped: its promises hold for the grace time.
    Unknown,
    /// No server was running; for garbage collection by hand.
    Nothing,
}

/// A bucket of a service.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Access to the objects.
    pub operator: Operator,
    /// Access to the parts of objects, below the object's key, if the service does not remove them with it.
    pub segments: Option<Operator>,
    /// Whether URLs can be signed that only allow reading one object.
    pub signs: bool,
}

/// A registry's bucket.
pub struct Objects {
    operator: Operator,
    segments: Option<Operator>,
    signs: bool,
    runtime: Handle,
    part: usize,
    gate: RwLock<()>,
    relied: Mutex<Relied>,
}

struct Relied {
    by_key: HashMap<String, SystemTime>,
    /// When all others were relied on, at the latest.
    floor: SystemTime,
}

impl Objects {
    /// Opens a bucket. Calls must come from threads that may block, not from those of `runtime`.
    pub fn new(bucket: Bucket, runtime: Handle, part: usize, before: Before) -> Self {
        let floor = match before {
            Before::Unknown => SystemTime::now(),
            Before::Nothing => SystemTime::UNIX_EPOCH,
        };
        let relied = Mutex::new(Relied { by_key: HashMap::new(), floor });
        let Bucket { operator, segments, signs } = bucket;
        Self { operator, segments, signs, runtime, part, gate: RwLock::new(()), relied }
    }

    fn wait<T>(
        &self,
        action: &'static str,
        key: &str,
        future: impl Future<Output = opendal::Result<T>>,
    ) -> Result<Option<T>> {
        match self.runtime.block_on(future) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Object { action, key: key.to_owned(), source: Box::new(source) }),
        }
    }

    fn must<T>(&self, action: &'static str, key: &str, future: impl Future<Output = opendal::Result<T>>) -> Result<T> {
        self.runtime.block_on(future).map_err(|source| Error::Object {
            action,
            key: key.to_owned(),
            source: Box::new(source),
        })
    }

    fn mark(&self, key: &str) {
        let mut relied = self.relied.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if relied.by_key.len() >= RELIED_MAX {
            // Without times of their own, all blobs count as relied on now, which keeps more, never less.
            relied.by_key.clear();
            relied.floor = SystemTime::now();
        }
        relied.by_key.insert(key.to_owned(), SystemTime::now());
    }

    fn relied(&self, key: &str, modified: SystemTime) -> SystemTime {
        let relied = self.relied.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        modified.max(relied.floor).max(relied.by_key.get(key).copied().unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// Removes the parts of the objects in `directory`, which are gone.
    fn remove_segments(&self, directory: &str) -> Result<()> {
        let Some(segments) = &self.segments else { return Ok(()) };
        self.must("remove the parts of", directory, segments.delete_with(directory).recursive(true).into_future())
    }

    /// The parts of an upload in a row from its beginning: key, offset, length.
    fn parts(&self, directory: &str) -> Result<Vec<(String, u64, u64)>> {
        let parts = format!("{directory}/parts");
        let mut found = Vec::new();
        for name in self.list(&parts)? {
            let numbers = name.split_once('-').and_then(|(at, len)| Some((at.parse().ok()?, len.parse().ok()?)));
            if let Some((at, len)) = numbers {
                found.push((format!("{parts}/{name}"), at, len));
            }
        }
        found.sort_by_key(|(_, at, _): &(String, u64, u64)| *at);
        let mut end = 0;
        found.retain(|(_, at, len)| {
            let is_next = *at == end;
            end += if is_next { *len } else { 0 };
            is_next
        });
        Ok(found)
    }
}

fn time(metadata: &opendal::Metadata) -> SystemTime {
    metadata.last_modified().map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
}

impl Storage for Objects {
    fn reach(&self) -> Reach {
        Reach::Remote
    }

    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = self.wait("read", key, self.operator.read(key))? else { return Ok(None) };
        if bytes.len() as u64 > limit {
            return Err(Error::TooLong { key: key.to_owned(), size: bytes.len() as u64, limit });
        }
        Ok(Some(bytes.to_vec()))
    }

    fn write(&self, files: &[(String, Vec<u8>)]) -> Result<()> {
        for (key, bytes) in files {
            self.must("write", key, self.operator.write(key, bytes.clone()))?;
            if key.ends_with(layout::DATA) || key.ends_with("link") {
                self.mark(key);
            }
        }
        Ok(())
    }

    fn stat(&self, key: &str) -> Result<Option<Stat>> {
        let Some(found) = self.wait("look at", key, self.operator.stat(key))? else { return Ok(None) };
        Ok(Some(Stat { size: found.content_length(), relied: self.relied(key, time(&found)) }))
    }

    fn list(&self, directory: &str) -> Result<Vec<String>> {
        let directory = format!("{}/", directory.trim_end_matches('/'));
        let entries = self.wait("list", &directory, self.operator.list(&directory))?.unwrap_or_default();
        let own = directory.clone();
        let mut names: Vec<String> = entries
            .iter()
            .filter(|entry| entry.path() != own)
            .map(|entry| entry.name().trim_end_matches('/').to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn remove(&self, key: &str, _: &str) -> Result<bool> {
        let is_there = self.stat(key)?.is_some();
        self.must("remove", key, self.operator.delete(key))?;
        self.remove_segments(&format!("{key}/"))?;
        Ok(is_there)
    }

    fn remove_directory(&self, directory: &str) -> Result<bool> {
        let is_there = !self.list(directory)?.is_empty();
        let directory = format!("{directory}/");
        self.must("remove", &directory, self.operator.delete_with(&directory).recursive(true).into_future())?;
        self.remove_segments(&directory)?;
        Ok(is_there)
    }

    fn open(&self, key: &str) -> Result<Option<Content>> {
        let Some(stat) = self.stat(key)? else { return Ok(None) };
        let source = ReadObject { operator: self.operator.clone(), runtime: self.runtime.clone(), key: key.to_owned() };
        Ok(Some(Content { size: stat.size, source: Source::Remote(Arc::new(source)) }))
    }

    fn redirect(&self, key: &str, head: Head) -> Result<Option<String>> {
        if !self.signs {
            return Ok(None);
        }
        let signed = match head {
            Head::Only => self.runtime.block_on(self.operator.presign_stat(key, REDIRECT)),
            Head::WithBody => self.runtime.block_on(self.operator.presign_read(key, REDIRECT)),
        };
        match signed {
            Ok(request) => Ok(Some(request.uri().to_string())),
            // The service or these credentials cannot sign: the bytes pass through this server.
            Err(error) => {
                tracing::debug!(key, %error, "no URL can be signed");
                Ok(None)
            }
        }
    }

    fn rely(&self, key: &str) -> Result<bool> {
        self.mark(key);
        Ok(self.wait("look at", key, self.operator.stat(key))?.is_some())
    }

    fn now(&self) -> Result<SystemTime> {
        Ok(SystemTime::now())
    }

    fn publishing(&self) -> Result<Gate<'_>> {
        Ok(Box::new(self.gate.read().unwrap_or_else(|poisoned| poisoned.into_inner())))
    }

    fn collecting(&self) -> Result<Gate<'_>> {
        Ok(Box::new(self.gate.write().unwrap_or_else(|poisoned| poisoned.into_inner())))
    }

    fn begin_upload(&self, directory: &str) -> Result<()> {
        let key = format!("{directory}/startedat");
        self.must("write", &key, self.operator.write(&key, strata_spec::time::now_rfc3339())).map(drop)
    }

    fn uploaded(&self, directory: &str) -> Result<Option<u64>> {
        if self.stat(&format!("{directory}/startedat"))?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.parts(directory)?.iter().map(|(_, _, len)| len).sum()))
    }

    fn append(&self, directory: &str, at: u64) -> Result<Box<dyn Append>> {
        let found = self.uploaded(directory)?.unwrap_or(0);
        if found != at {
            return Err(Error::Moved { key: directory.to_owned(), expected: at, found });
        }
        Ok(Box::new(AppendParts {
            operator: self.operator.clone(),
            runtime: self.runtime.clone(),
            directory: directory.to_owned(),
            part: self.part,
            written: at,
            pieces: Vec::new(),
            gathered: 0,
        }))
    }

    fn read_upload(&self, directory: &str, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        for (key, ..) in self.parts(directory)? {
            let bytes = self.must("read", &key, self.operator.read(&key))?;
            bytes.for_each(|piece| each(&piece));
        }
        Ok(())
    }

    fn finish_upload(&self, directory: &str, key: &str) -> Result<()> {
        let parts = self.parts(directory)?;
        let size: u64 = parts.iter().map(|(_, _, len)| len).sum();
        let chunk = self.part.max(usize::try_from(size / PARTS_MAX).unwrap_or(usize::MAX).next_multiple_of(1 << 20));
        let assembled = async {
            let mut writer = self.operator.writer_with(key).chunk(chunk).await?;
            for (part, ..) in &parts {
                writer.write(self.operator.read(part).await?).await?;
            }
            writer.close().await
        };
        match &parts[..] {
            [] => self.must("write", key, self.operator.write(key, Vec::<u8>::new())).map(drop)?,
            _ => self.must("write", key, assembled).map(drop)?,
        }
        self.mark(key);
        self.remove_directory(directory)?;
        Ok(())
    }

    fn upload_started(&self, directory: &str) -> Result<Option<SystemTime>> {
        let key = format!("{directory}/startedat");
        let Some(found) = self.wait("look at", &key, self.operator.stat(&key))? else { return Ok(None) };
        Ok(Some(time(&found)))
    }

    fn sweep(&self) -> Result<usize> {
        Ok(0)
    }
}

struct ReadObject {
    operator: Operator,
    runtime: Handle,
    key: String,
}

impl ReadAt for ReadObject {
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let read =
            self.runtime.block_on(self.operator.read_with(&self.key).range(offset..offset + len as u64).into_future());
        let bytes =
            read.map_err(|source| Error::Object { action: "read", key: self.key.clone(), source: Box::new(source) })?;
        Ok(bytes.to_bytes())
    }
}

struct AppendParts {
    operator: Operator,
    runtime: Handle,
    directory: String,
    part: usize,
    /// Bytes in parts.
    written: u64,
    pieces: Vec<Bytes>,
    gathered: usize,
}

impl AppendParts {
    fn flush(&mut self) -> Result<()> {
        if self.gathered == 0 {
            return Ok(());
        }
        let key = format!("{}/parts/{:020}-{:020}", self.directory, self.written, self.gathered);
        let buffer: opendal::Buffer = std::mem::take(&mut self.pieces).into_iter().collect();
        let written = self.runtime.block_on(self.operator.write(&key, buffer));
        written.map_err(|source| Error::Object { action: "write", key, source: Box::new(source) })?;
        self.written += std::mem::take(&mut self.gathered) as u64;
        Ok(())
    }
}

impl Append for AppendParts {
    fn write(&mut self, pieces: &[Bytes]) -> Result<()> {
        for piece in pieces {
            self.gathered += piece.len();
            // A copy, because a piece would keep its whole receive buffer alive.
            self.pieces.push(Bytes::copy_from_slice(piece));
            if self.gathered >= self.part {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<u64> {
        self.flush()?;
        Ok(self.written)
    }
}
