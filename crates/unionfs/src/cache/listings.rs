//! The order of a directory's names, and listings in progress.
//!
//! A name's position is its hash, keyed per union against chosen collisions. A reader that continues after names were added or
//! removed sees each remaining name once, as `readdir(3)` requires, even if the listing that it began with has been dropped. So
//! no directory is held open. Positions fit into 31 bits, together with the two that the front adds, because old 32-bit programs
//! cannot store longer ones.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use strata_sys::tree::Kind;

use crate::core::nodes::Index;

/// Positions are below this.
const PLACES: u64 = (1 << 31) - 8;

/// Most listings in progress that are cached.
const KEPT: usize = 64;

/// A name in a listing.
#[derive(Debug)]
pub(crate) struct Item {
    pub name: Box<[u8]>,
    pub ino: u64,
    pub kind: Kind,
    pub layer: u16,
    /// Its position.
    pub at: u64,
}

/// A directory's names by position.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    items: Vec<Item>,
    /// Version of the directory at the time.
    pub version: u32,
}

impl Listing {
    /// Returns the names at position `offset` and later.
    pub fn from(&self, offset: u64) -> &[Item] {
        &self.items[self.items.partition_point(|item| item.at < offset)..]
    }
}

#[derive(Debug)]
struct Kept {
    index: Index,
    generation: u32,
    listing: Arc<Listing>,
}

/// Listings in progress, from a reader's first request to its last.
#[derive(Debug, Default)]
pub(crate) struct Listings {
    keys: RandomState,
    /// Oldest first.
    kept: Mutex<VecDeque<Kept>>,
}

impl Listings {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the position of a name, if no other has it.
    pub fn place(&self, name: &[u8]) -> u64 {
        self.keys.hash_one(name) % PLACES
    }

    /// Sorts names by position; colliding ones get the next free position.
    pub fn order(&self, mut items: Vec<Item>, version: u32) -> Listing {
        for item in &mut items {
            item.at = self.place(&item.name);
        }
        items.sort_unstable_by(|one, other| (one.at, &one.name).cmp(&(other.at, &other.name)));
        let mut next = 0;
        for item in &mut items {
            item.at = item.at.max(next);
            next = item.at + 1;
        }
        Listing { items, version }
    }

    pub fn put(&self, index: Index, generation: u32, listing: &Arc<Listing>) {
        let mut kept = self.kept();
        kept.retain(|kept| kept.index != index);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Kept { index, generation, listing: Arc::clone(listing) });
    }

    pub fn get(&self, index: Index, generation: u32) -> Option<Arc<Listing>> {
        let kept = self.kept();
        let found = kept.iter().find(|kept| kept.index == index && kept.generation == generation)?;
        Some(Arc::clone(&found.listing))
    }

    /// Drops a listing that was read to its end.
    pub fn drop_dir(&self, index: Index) {
        self.kept().retain(|kept| kept.index != index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(names: &[&str]) -> Vec<Item> {
        let item = |name: &&str| Item { name: name.as_bytes().into(), ino: 1, kind: Kind::File, layer: 0, at: 0 };
        names.iter().map(item).collect()
    }

    fn names(items: &[Item]) -> Vec<String> {
        items.iter().map(|item| String::from_utf8_lossy(&item.name).into_owned()).collect()
    }

    #[test]
    fn reading_on_in_a_changed_directory_misses_none_and_repeats_none() {
        let listings = Listings::default();
        let all: Vec<String> = (0..1000).map(|n| format!("file{n}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let first = listings.order(items(&all), 1);
        let read = &first.items[..400];
        let gone = [&first.items[10], &first.items[399], &first.items[700]].map(|item| item.name.clone());
        let mut left: Vec<&str> = all.iter().copied().filter(|name| !gone.contains(&name.as_bytes().into())).collect();
        left.extend(["new1", "new2", "new3"]);
        let second = listings.order(items(&left), 2);
        let rest = names(second.from(read[399].at + 1));
        for name in all.iter().filter(|name| !gone.contains(&name.as_bytes().into())) {
            let times = usize::from(names(read).iter().any(|read| read == name))
                + usize::from(rest.iter().any(|rest| rest == name));
            assert_eq!(times, 1, "{name}");
        }
    }

    #[test]
    fn places_differ_and_fit_into_31_bits() {
        let all: Vec<String> = (0..200_000).map(|n| format!("{n}")).collect();
        let listing = Listings::default().order(items(&all.iter().map(String::as_str).collect::<Vec<_>>()), 0);
        assert!(listing.items.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert!(listing.items.last().is_some_and(|last| last.at + 3 < 1 << 31));
    }

    #[test]
    fn the_oldest_of_too_many_listings_goes() {
        let listings = Listings::default();
        for index in 0..KEPT as Index + 1 {
            listings.put(index, 0, &Arc::default());
        }
        assert!(listings.get(0, 0).is_none() && listings.get(1, 0).is_some() && listings.get(1, 1).is_none());
        listings.drop_dir(1);
        assert!(listings.get(1, 0).is_none());
    }
}
