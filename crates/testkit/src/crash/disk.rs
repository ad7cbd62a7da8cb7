//! A tree of files in memory.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use strata_sys::{
    process,
    tree::{Device, Dir, Kind, Stat, Time},
    xattr,
};

/// Names an inode for as long as a recording runs: its number may come again, with another birth.
pub type Key = (u64, Option<Time>);

/// A folder's entries.
pub type Entries = BTreeMap<OsString, Key>;

#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    pub body: Body,
    mode: u32,
    uid: u32,
    gid: u32,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    Dir(Entries),
    File(Arc<[u8]>),
    Symlink(OsString),
    Special(Kind, Device),
}

/// All that is under a root, by inode.
#[derive(Clone)]
pub struct Disk {
    pub root: Key,
    pub nodes: HashMap<Key, Arc<Node>>,
}

impl Disk {
    /// Reads the tree at `root`; what did not change since `before` is shared with it. Mounts below are empty folders.
    pub fn read(root: &Path, before: Option<&Disk>) -> Self {
        let dir = Dir::open(root).unwrap_or_else(|error| panic!("record {}: {error}", root.display()));
        let stat = dir.stat("").expect("an open folder has an inode");
        let mut disk = Self { root: key(&stat), nodes: HashMap::new() };
        let mut reader = Reader { disk: &mut disk, before, dev: stat.dev };
        reader.dir(&dir, &stat).unwrap_or_else(|error| panic!("record {}: {error}", root.display()));
        disk
    }

    pub fn entries(&self, dir: Key) -> Option<&Entries> {
        match &self.nodes.get(&dir)?.body {
            Body::Dir(entries) => Some(entries),
            _ => None,
        }
    }

    /// The inode at `path`, relative to the root. Links are not followed.
    pub fn find(&self, path: &Path) -> Option<Key> {
        path.iter().try_fold(self.root, |dir, name| self.entries(dir)?.get(name).copied())
    }

    /// All folders and names that lead to `inode`.
    pub fn names_of(&self, inode: Key) -> Vec<(Key, OsString)> {
        let folders = self.nodes.iter().filter_map(|(&key, node)| match &node.body {
            Body::Dir(entries) => Some((key, entries)),
            _ => None,
        });
        let names = folders.flat_map(|(key, entries)| entries.iter().map(move |(name, child)| (key, name, child)));
        names.filter(|(_, _, child)| **child == inode).map(|(key, name, _)| (key, name.clone())).collect()
    }

    /// Equal for trees with equal files under equal names, whatever their inodes.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut first_names = HashMap::new();
        self.hash(self.root, &mut PathBuf::new(), &mut first_names, &mut hasher);
        hasher.finish()
    }

    fn hash(&self, key: Key, path: &mut PathBuf, first_names: &mut HashMap<Key, PathBuf>, hasher: &mut DefaultHasher) {
        let node = &self.nodes[&key];
        path.hash(hasher);
        if let Some(first) = first_names.get(&key) {
            return first.hash(hasher);
        }
        first_names.insert(key, path.clone());
        (node.mode, node.uid, node.gid, &node.xattrs).hash(hasher);
        match &node.body {
            Body::File(bytes) => (0, bytes).hash(hasher),
            Body::Symlink(target) => (1, target).hash(hasher),
            Body::Special(kind, dev) => (2, kind, dev).hash(hasher),
            Body::Dir(entries) => {
                (3, entries.len()).hash(hasher);
                for (name, &child) in entries {
                    path.push(name);
                    self.hash(child, path, first_names, hasher);
                    path.pop();
                }
            }
        }
    }

    /// Writes the tree into the empty folder `to`.
    pub fn write(&self, to: &Path) {
        let dir = Dir::open(to).expect("a folder just made");
        let mut first_names = HashMap::new();
        let written = self.write_dir(self.root, &dir, to, &mut first_names);
        written.unwrap_or_else(|error| panic!("write a crashed disk to {}: {error}", to.display()));
    }

    fn write_dir(&self, key: Key, dir: &Dir, path: &Path, first_names: &mut HashMap<Key, PathBuf>) -> io::Result<()> {
        for (name, child) in self.entries(key).into_iter().flatten() {
            let (path, node) = (path.join(name), &self.nodes[child]);
            if let Some(first) = first_names.get(child) {
                std::fs::hard_link(first, &path)?;
                continue;
            }
            match &node.body {
                Body::Dir(_) => {
                    dir.create_dir(name, 0o700)?;
                    self.write_dir(*child, &dir.open_dir(name)?, &path, first_names)?;
                }
                Body::File(bytes) => io::Write::write_all(&mut dir.create_file(name, 0o600)?, bytes)?,
                Body::Symlink(target) => dir.symlink(target, name)?,
                Body::Special(kind, dev) => dir.create_node(name, *kind, 0o600, *dev)?,
            }
            if !matches!(node.body, Body::Dir(_)) {
                first_names.insert(*child, path.clone());
            }
            node.write_attributes(dir, name, &path)?;
        }
        // The root's too: a store may look at its mode.
        if key == self.root {
            self.nodes[&key].write_attributes(dir, ".".as_ref(), path)?;
        }
        Ok(())
    }
}

impl Node {
    pub fn with_body(&self, body: Body) -> Self {
        Self { body, ..self.clone() }
    }

    fn write_attributes(&self, dir: &Dir, name: &std::ffi::OsStr, path: &Path) -> io::Result<()> {
        if process::effective_uid() == 0 {
            dir.set_owner(name, self.uid, self.gid)?;
        }
        if !matches!(self.body, Body::Symlink(_)) {
            dir.set_mode(name, self.mode)?;
        }
        // After the owner: changing that drops file capabilities.
        self.xattrs.iter().try_for_each(|(name, value)| xattr::set(path, name, value))
    }
}

/// Reads a tree in which others may be writing: what goes away meanwhile is left out.
struct Reader<'a> {
    disk: &'a mut Disk,
    before: Option<&'a Disk>,
    dev: Device,
}

impl Reader<'_> {
    fn dir(&mut self, dir: &Dir, stat: &Stat) -> io::Result<()> {
        let mut entries = Entries::new();
        for entry in dir.entries()? {
            if let Some(child) = unless_gone(self.child(dir, &entry.name))?.flatten() {
                entries.insert(entry.name, child);
            }
        }
        self.add(dir, stat, Body::Dir(entries))
    }

    fn child(&mut self, dir: &Dir, name: &std::ffi::OsStr) -> io::Result<Option<Key>> {
        let handle = dir.open_handle(name)?;
        let stat = Stat::of_fd(&handle)?;
        if stat.dev != self.dev {
            // What is mounted here lies on another disk; the folder below it is not to be seen.
            if stat.kind != Kind::Dir {
                return Ok(None);
            }
            let node =
                Node { body: Body::Dir(Entries::new()), mode: stat.mode, uid: stat.uid, gid: stat.gid, xattrs: vec![] };
            let key = (u64::MAX - stat.inode, stat.born);
            self.disk.nodes.insert(key, Arc::new(node));
            return Ok(Some(key));
        }
        if self.disk.nodes.contains_key(&key(&stat)) {
            return Ok(Some(key(&stat)));
        }
        match stat.kind {
            Kind::Dir => self.dir(&dir.open_dir(name)?, &stat)?,
            Kind::File => {
                let mut bytes = Vec::new();
                dir.open_file(name)?.read_to_end(&mut bytes)?;
                self.add(&handle, &stat, Body::File(bytes.into()))?;
            }
            Kind::Symlink => self.add(&handle, &stat, Body::Symlink(dir.read_link(name)?))?,
            kind => self.add(&handle, &stat, Body::Special(kind, stat.rdev))?,
        }
        Ok(Some(key(&stat)))
    }

    fn add(&mut self, handle: &impl std::os::fd::AsFd, stat: &Stat, body: Body) -> io::Result<()> {
        let mut xattrs = Vec::new();
        // A link's own attributes cannot be asked for through a handle, and hardly exist.
        if stat.kind != Kind::Symlink {
            for name in xattr::list_of(handle)? {
                if let Some(value) = xattr::get_of(handle, &name)? {
                    xattrs.push((name, value));
                }
            }
        }
        let node = Node { body, mode: stat.mode, uid: stat.uid, gid: stat.gid, xattrs };
        let before = self.before.and_then(|before| before.nodes.get(&key(stat)));
        let node = before.filter(|before| ***before == node).cloned().unwrap_or_else(|| Arc::new(node));
        self.disk.nodes.insert(key(stat), node);
        Ok(())
    }
}

fn key(stat: &Stat) -> Key {
    (stat.inode, stat.born)
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
