//! Quotas: limits on the bytes that the repositories below a prefix hold, each blob counted once.
//!
//! Linked layers and manifests count. An upload reserves its bytes as they arrive, so that links and uploads together never exceed the
//! limit. The count is kept in memory and computed from the links when the server starts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::json;
use strata_spec::{Algorithm, Digest};

use crate::{
    error::{Code, Error},
    layout,
    name::RepoName,
    storage::Storage,
    store,
};

/// A limit on what the repositories below a prefix hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// `team` covers the repository `team` and all below `team/`; an empty prefix covers the registry.
    pub prefix: String,
    /// The limit in bytes.
    pub bytes: u64,
}

impl Quota {
    fn place(&self) -> &str {
        if self.prefix.is_empty() { "this registry" } else { &self.prefix }
    }
}

/// All quotas with their usage.
#[derive(Clone, Default)]
pub struct Quotas(Arc<Vec<One>>);

struct One {
    quota: Quota,
    usage: Mutex<Usage>,
}

#[derive(Default)]
struct Usage {
    blobs: HashMap<Digest, Linked>,
    used: u64,
    reserved: u64,
}

struct Linked {
    size: u64,
    links: u32,
}

/// Reserved bytes of an upload; released on drop.
#[derive(Default)]
pub struct Reservation {
    quotas: Quotas,
    /// Index of each quota, and the bytes reserved of it.
    held: Vec<(usize, u64)>,
}

/// A link that is counted before it is written; uncounted on drop unless [`Counted::keep`] is called.
pub struct Counted {
    quotas: Quotas,
    undo: Option<(RepoName, Digest)>,
}

impl Counted {
    /// Keeps the count: the link is written.
    pub fn keep(mut self) {
        self.undo = None;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some((name, digest)) = self.undo.take() {
            self.quotas.unlink(&name, digest);
        }
    }
}

fn lock(one: &One) -> MutexGuard<'_, Usage> {
    one.usage.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn applies(prefix: &str, name: &RepoName) -> bool {
    prefix.is_empty() || name.as_str().strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Quotas {
    /// Counts the links in `storage`.
    pub fn load(quotas: Vec<Quota>, storage: &dyn Storage) -> Result<Self, Error> {
        let all = quotas.into_iter().map(|quota| One { quota, usage: Mutex::default() }).collect();
        let quotas = Self(Arc::new(all));
        if quotas.0.is_empty() {
            return Ok(quotas);
        }
        store::repositories(storage, None, &mut |name| {
            if quotas.0.iter().any(|one| applies(&one.quota.prefix, &name)) {
                quotas.count(storage, &name)?;
            }
            Ok(store::Next::GoOn)
        })?;
        Ok(quotas)
    }

    fn count(&self, storage: &dyn Storage, name: &RepoName) -> Result<(), Error> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for directory in [layout::layers(name, algorithm), layout::revisions(name, algorithm)] {
                for hex in storage.list(&directory)? {
                    let Some(digest) = layout::digest_of(algorithm, &hex) else { continue };
                    // A link without a blob occupies nothing.
                    let Some(stat) = storage.stat(&layout::blob(digest))? else { continue };
                    for one in self.of(name) {
                        lock(one).add(digest, stat.size);
                    }
                }
            }
        }
        Ok(())
    }

    fn of(&self, name: &RepoName) -> impl Iterator<Item = &One> {
        self.0.iter().filter(|one| applies(&one.quota.prefix, name))
    }

    /// Begins an upload to `name` of at least `bytes`. Fails with `DENIED` where a quota has no room for it.
    pub fn reserve(&self, name: &RepoName, bytes: u64) -> Result<Reservation, Error> {
        let which = self.0.iter().enumerate().filter(|(_, one)| applies(&one.quota.prefix, name));
        let mut reservation = Reservation { quotas: self.clone(), held: which.map(|(at, _)| (at, 0)).collect() };
        // A full quota refuses an empty upload, too.
        reservation.grow(bytes.max(1))?;
        reservation.shrink(u64::from(bytes == 0));
        Ok(reservation)
    }

    /// Counts one more link to a blob. Fails with `DENIED`, counting nothing, where a quota has no room for it.
    ///
    /// `reserved` is the reservation of the blob's own upload; it is released in the same step.
    pub fn link_reserved(
        &self,
        name: &RepoName,
        digest: Digest,
        size: u64,
        mut reserved: Reservation,
    ) -> Result<Counted, Error> {
        let mut done = Vec::new();
        for (at, one) in self.0.iter().enumerate().filter(|(_, one)| applies(&one.quota.prefix, name)) {
            let mut usage = lock(one);
            if let Some(held) = reserved.held.iter_mut().find(|held| held.0 == at) {
                usage.reserved -= std::mem::take(&mut held.1);
            }
            let more = if usage.blobs.contains_key(&digest) { 0 } else { size };
            if more > 0 && usage.used + usage.reserved + more > one.quota.bytes {
                let refusal = refused(&one.quota, &usage, more);
                drop(usage);
                done.iter().for_each(|one: &&One| lock(one).remove(digest));
                return Err(refusal);
            }
            usage.add(digest, size);
            done.push(one);
        }
        Ok(Counted { quotas: self.clone(), undo: Some((name.clone(), digest)) })
    }

    /// Counts one more link to a blob that no upload has reserved.
    pub fn link(&self, name: &RepoName, digest: Digest, size: u64) -> Result<Counted, Error> {
        self.link_reserved(name, digest, size, Reservation::default())
    }

    /// Counts one link less.
    pub fn unlink(&self, name: &RepoName, digest: Digest) {
        self.of(name).for_each(|one| lock(one).remove(digest));
    }

    /// Returns for each quota that covers `name` its name, the bytes used, and the limit.
    pub fn about(&self, name: &RepoName) -> Vec<(String, u64, u64)> {
        self.of(name).map(|one| (one.quota.place().to_owned(), lock(one).all(), one.quota.bytes)).collect()
    }

    /// Returns prefix, bytes used, bytes reserved and limit of each quota.
    pub fn report(&self) -> Vec<(String, u64, u64, u64)> {
        let one = |one: &One| {
            let usage = lock(one);
            (one.quota.prefix.clone(), usage.used, usage.reserved, one.quota.bytes)
        };
        self.0.iter().map(one).collect()
    }
}

impl Usage {
    /// Bytes of links and uploads.
    fn all(&self) -> u64 {
        self.used + self.reserved
    }

    fn add(&mut self, digest: Digest, size: u64) {
        let linked = self.blobs.entry(digest).or_insert(Linked { size, links: 0 });
        if linked.links == 0 {
            self.used += linked.size;
        }
        linked.links += 1;
    }

    fn remove(&mut self, digest: Digest) {
        let Some(linked) = self.blobs.get_mut(&digest) else { return };
        linked.links -= 1;
        if linked.links == 0 {
            self.used -= linked.size;
            self.blobs.remove(&digest);
        }
    }
}

impl Reservation {
    /// Reserves `bytes` more. Fails with `DENIED`, reserving nothing more, where a quota has no room.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        for position in 0..self.held.len() {
            let one = &self.quotas.0[self.held[position].0];
            let mut usage = lock(one);
            if usage.used.saturating_add(usage.reserved).saturating_add(bytes) > one.quota.bytes {
                let refusal = refused(&one.quota, &usage, bytes);
                drop(usage);
                for held in &mut self.held[..position] {
                    lock(&self.quotas.0[held.0]).reserved -= bytes;
                    held.1 -= bytes;
                }
                return Err(refusal);
            }
            usage.reserved += bytes;
            self.held[position].1 += bytes;
        }
        Ok(())
    }

    /// Releases `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        for held in &mut self.held {
            let less = bytes.min(held.1);
            lock(&self.quotas.0[held.0]).reserved -= less;
            held.1 -= less;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(u64::MAX);
    }
}

fn refused(quota: &Quota, usage: &Usage, more: u64) -> Error {
    let (used, limit, place) = (usage.all(), quota.bytes, quota.place());
    let message = format!("the quota of {place} is {limit} bytes, of which {used} are used; {more} more do not fit");
    Error::new(Code::Denied, message)
        .with_detail(json!({"prefix": quota.prefix, "limit": limit, "used": used, "wanted": more}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(list: &[(&str, u64)]) -> Quotas {
        let one = |(prefix, bytes): &(&str, u64)| One {
            quota: Quota { prefix: (*prefix).to_owned(), bytes: *bytes },
            usage: Mutex::default(),
        };
        Quotas(Arc::new(list.iter().map(one).collect()))
    }

    fn used(quotas: &Quotas) -> Vec<(u64, u64)> {
        quotas.report().iter().map(|(_, used, reserved, _)| (*used, *reserved)).collect()
    }

    #[test]
    fn a_blob_counts_once_and_what_does_not_fit_changes_nothing() {
        let quotas = quotas(&[("", 100), ("team", 50)]);
        let (a, b, other): (RepoName, RepoName, RepoName) =
            ("team/a".parse().unwrap(), "team".parse().unwrap(), "teams".parse().unwrap());
        let (x, y) = (Digest::sha256("x"), Digest::sha256("y"));
        quotas.link(&a, x, 40).unwrap().keep();
        quotas.link(&b, x, 40).unwrap().keep();
        quotas.link(&other, x, 40).unwrap().keep();
        assert_eq!(used(&quotas), [(40, 0), (40, 0)]);
        let refused = quotas.link(&a, y, 11).err().unwrap();
        assert_eq!((refused.code(), refused.status()), (Code::Denied, 403));
        assert!(refused.to_string().contains("50 bytes, of which 40 are used; 11 more"), "{refused}");
        assert_eq!(used(&quotas), [(40, 0), (40, 0)]);
        drop(quotas.link(&a, y, 10).unwrap());
        assert_eq!(used(&quotas), [(40, 0), (40, 0)], "a link that was not made does not count");
        quotas.unlink(&a, x);
        quotas.unlink(&b, x);
        assert_eq!(used(&quotas), [(40, 0), (0, 0)], "one outside still links it");
    }

    #[test]
    fn uploads_reserve_what_they_bring_and_give_it_back() {
        let quotas = quotas(&[("", 100), ("team", 50)]);
        let name: RepoName = "team/a".parse().unwrap();
        let mut first = quotas.reserve(&name, 30).unwrap();
        assert!(quotas.reserve(&name, 21).is_err());
        first.grow(20).unwrap();
        assert!(first.grow(1).is_err() && quotas.reserve(&name, 0).is_err());
        assert_eq!(used(&quotas), [(50, 50), (50, 50)].map(|_| (0, 50)));
        quotas.link_reserved(&name, Digest::sha256("x"), 50, first).unwrap().keep();
        assert_eq!(used(&quotas), [(50, 0), (50, 0)]);
        drop(quotas.reserve(&"else".parse().unwrap(), 50).unwrap());
        assert_eq!(used(&quotas), [(50, 0), (50, 0)]);
    }
}
