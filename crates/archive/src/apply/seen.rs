//! Which paths this layer has already made.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use super::name::Inside;

/// Bits of the filter: 1 MiB of memory, however many entries a layer has.
const BITS: usize = 8 << 20;

/// Answers whether a path may have been made before.
///
/// Work on paths that were not is handed out and done in any order; a path that may have been waits for all work before it. So a
/// wrong "maybe" only costs time, and the filter may be small: below 100,000 entries it errs once in some thousands.
pub(super) struct Seen {
    keys: (RandomState, RandomState),
    filter: Vec<u64>,
    /// Hashes of all paths, where an exact answer is needed: an opaque mark deletes what is not in it.
    exact: Option<HashSet<u64>>,
}

impl Seen {
    pub fn new(exact: bool) -> Self {
        Self {
            keys: (RandomState::new(), RandomState::new()),
            filter: vec![0; BITS / 64],
            exact: exact.then(HashSet::new),
        }
    }

    /// Remembers `path`; returns whether it may have been there.
    pub fn insert(&mut self, path: &Inside) -> bool {
        let hashes = [self.keys.0.hash_one(path.bytes()), self.keys.1.hash_one(path.bytes())];
        if let Some(exact) = &mut self.exact {
            return !exact.insert(hashes[0]);
        }
        let mut was = true;
        for hash in hashes {
            let bit = hash as usize % BITS;
            let word = &mut self.filter[bit / 64];
            was &= *word & (1 << (bit % 64)) != 0;
            *word |= 1 << (bit % 64);
        }
        was
    }

    /// Whether `path` may have been made by this layer.
    pub fn may_have(&self, path: &Inside) -> bool {
        let hashes = [self.keys.0.hash_one(path.bytes()), self.keys.1.hash_one(path.bytes())];
        match &self.exact {
            Some(exact) => exact.contains(&hashes[0]),
            None => hashes.iter().all(|hash| {
                let bit = *hash as usize % BITS;
                self.filter[bit / 64] & (1 << (bit % 64)) != 0
            }),
        }
    }

    /// Whether `path` was made by this layer; only where answers are exact.
    pub fn contains(&self, path: &[u8]) -> bool {
        let hash = self.keys.0.hash_one(path);
        self.exact.as_ref().is_some_and(|exact| exact.contains(&hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_seen_and_little_else() {
        let path = |n: usize| Inside::parse(format!("usr/lib/{n}").as_bytes()).unwrap();
        for exact in [false, true] {
            let mut seen = Seen::new(exact);
            let wrong = (0..20_000).filter(|&n| seen.insert(&path(n))).count();
            assert!(wrong < 20, "{wrong} of 20,000 new paths were taken for old");
            assert!((0..20_000).all(|n| seen.insert(&path(n))));
            assert_eq!(seen.contains(path(7).bytes()), exact);
        }
    }
}
