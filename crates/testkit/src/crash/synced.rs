//! The account of what is certainly on disk.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::disk::{Body, Disk, Entries, Key, Node};

/// What no crash can take away any more.
#[derive(Clone)]
pub struct Synced {
    root: Key,
    /// Entries of folders. A folder that was never synced has none.
    dirs: HashMap<Key, Entries>,
    /// Bytes of files. A file that was never synced has none.
    files: HashMap<Key, Arc<[u8]>>,
    /// Every inode as it was last seen, also when its last name is gone: a lost unlink brings it back.
    known: HashMap<Key, Arc<Node>>,
}

impl Synced {
    /// All of `disk` is on disk: at the start, and after a `syncfs`.
    pub fn all_of(disk: &Disk) -> Self {
        let (mut dirs, mut files) = (HashMap::new(), HashMap::new());
        for (&key, node) in &disk.nodes {
            match &node.body {
                Body::Dir(entries) => drop(dirs.insert(key, entries.clone())),
                Body::File(bytes) => drop(files.insert(key, bytes.clone())),
                _ => {}
            }
        }
        Self { root: disk.root, dirs, files, known: disk.nodes.clone() }
    }

    /// Takes note of what is there now.
    pub fn learn(&mut self, live: &Disk) {
        self.known.extend(live.nodes.iter().map(|(&key, node)| (key, node.clone())));
    }

    pub fn sync_file(&mut self, live: &Disk, path: &Path) {
        let Some(key) = live.find(path) else { return };
        if let Body::File(bytes) = &live.nodes[&key].body {
            self.files.insert(key, bytes.clone());
        }
    }

    pub fn sync_dir(&mut self, live: &Disk, path: &Path) {
        let Some(dir) = live.find(path) else { return };
        let Some(now) = live.entries(dir) else { return };
        let before = self.dirs.insert(dir, now.clone()).unwrap_or_default();
        // A rename is one change, in the journal of any filesystem. What left this folder is in the other one...
        for inode in before.values().filter(|inode| !now.values().any(|there| there == *inode)) {
            for (other, name) in live.names_of(*inode) {
                self.dirs.entry(other).or_default().insert(name, *inode);
            }
        }
        // ...and what came here has left it.
        let came: Vec<Key> =
            now.values().filter(|inode| !before.values().any(|there| there == *inode)).copied().collect();
        for (&other, entries) in self.dirs.iter_mut().filter(|(other, _)| **other != dir) {
            let Some(live_entries) = live.entries(other) else { continue };
            entries.retain(|name, inode| !came.contains(inode) || live_entries.get(name) == Some(inode));
        }
    }

    /// The disk with nothing but what is on disk for certain.
    pub fn without_unsynced(&self) -> Disk {
        let mut disk = Disk { root: self.root, nodes: HashMap::new() };
        let mut left = vec![self.root];
        while let Some(key) = left.pop() {
            if disk.nodes.contains_key(&key) {
                continue;
            }
            let node = &self.known[&key];
            let body = match &node.body {
                Body::Dir(_) => {
                    let entries = self.dirs.get(&key).cloned().unwrap_or_default();
                    left.extend(entries.values());
                    Body::Dir(entries)
                }
                Body::File(_) => Body::File(self.bytes(key)),
                other => other.clone(),
            };
            disk.nodes.insert(key, Arc::new(node.with_body(body)));
        }
        disk
    }

    /// `live` with its names, and the bytes that are on disk for certain.
    pub fn without_bytes(&self, live: &Disk) -> Disk {
        self.with_bytes(live, |synced, _| synced.clone())
    }

    /// `live` with its names, and half of the bytes that are not on disk for certain.
    pub fn with_half_of_bytes(&self, live: &Disk) -> Disk {
        self.with_bytes(live, |synced, live| match live.strip_prefix(&**synced) {
            Some(added) => live[..synced.len() + added.len() / 2].into(),
            None => live[..live.len() / 2].into(),
        })
    }

    fn with_bytes(&self, live: &Disk, choose: impl Fn(&Arc<[u8]>, &Arc<[u8]>) -> Arc<[u8]>) -> Disk {
        let mut disk = live.clone();
        for (&key, node) in &mut disk.nodes {
            let Body::File(bytes) = &node.body else { continue };
            let chosen = choose(&self.bytes(key), bytes);
            if chosen != *bytes {
                *node = Arc::new(node.with_body(Body::File(chosen)));
            }
        }
        disk
    }

    fn bytes(&self, file: Key) -> Arc<[u8]> {
        self.files.get(&file).cloned().unwrap_or_default()
    }
}
