//! Manifests in memory, by digest, so that none can be stale. The cache does not know which repository has a manifest.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use strata_spec::Digest;

use super::Manifest;

/// A cache with a limit in bytes, which evicts the oldest entry first.
pub struct Cache {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_digest: HashMap<Digest, Manifest>,
    order: VecDeque<Digest>,
    bytes: usize,
}

/// Estimated memory of an entry in bytes: the parsed form is larger than the text.
fn cost(manifest: &Manifest) -> usize {
    manifest.bytes.len() * 4 + 512
}

impl Cache {
    pub fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::default() }
    }

    pub fn get(&self, digest: Digest) -> Option<Manifest> {
        let inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        inner.by_digest.get(&digest).cloned()
    }

    pub fn put(&self, manifest: Manifest) {
        let cost_of_new = cost(&manifest);
        // An entry that would evict half of the others is not cached.
        if cost_of_new > self.limit / 2 {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let digest = manifest.digest;
        if inner.by_digest.insert(digest, manifest).is_some() {
            return;
        }
        inner.order.push_back(digest);
        inner.bytes += cost_of_new;
        while inner.bytes > self.limit {
            let Some(oldest) = inner.order.pop_front() else { break };
            if let Some(gone) = inner.by_digest.remove(&oldest) {
                inner.bytes -= cost(&gone);
            }
        }
    }

    pub fn remove(&self, digest: Digest) {
        let mut inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(gone) = inner.by_digest.remove(&digest) {
            inner.bytes -= cost(&gone);
            inner.order.retain(|kept| *kept != digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::manifest::Document;

    #[test]
    fn the_oldest_entry_is_evicted_first() {
        let document = Arc::new(Document::parse(br#"{"schemaVersion":2,"manifests":[]}"#, None).unwrap());
        let of = |text: &str| Manifest {
            digest: Digest::sha256(text),
            bytes: vec![0; 1000].into(),
            document: document.clone(),
        };
        let cache = Cache::new(3 * cost(&of("")));
        for text in ["a", "b", "b", "c", "d"] {
            cache.put(of(text));
        }
        assert!(cache.get(Digest::sha256("a")).is_none());
        assert!(cache.get(Digest::sha256("b")).is_some() && cache.get(Digest::sha256("d")).is_some());
        cache.remove(Digest::sha256("c"));
        cache.put(of("e"));
        assert!(cache.get(Digest::sha256("b")).is_some(), "there was room");
    }
}
