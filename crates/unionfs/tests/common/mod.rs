//! A union by paths, as a program would use it, for the tests of this crate.
#![allow(dead_code, reason = "each test uses a part")]

pub mod base;
pub mod mounted;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    sync::Arc,
};

use strata_unionfs::{
    Attr, Caller, Config, Errno, Fill, Handle, Kind, NodeId, OFlags, Privileges, RenameFlags, Result, SetAttr, Union,
    XattrFlags,
};

/// One thing in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub kind: Kind,
    pub mode: u32,
    pub owner: (u32, u32),
    /// Of anything but a directory.
    pub nlink: u32,
    /// The first path of the same inode.
    pub same_as: String,
    /// Of a file its content, of a link its text.
    pub content: Vec<u8>,
    pub rdev: (u32, u32),
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
}

pub type Tree = BTreeMap<String, Item>;

/// Who runs the test.
pub fn me() -> Caller {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Caller { uid, gid, umask: 0, groups: Vec::new() }
}

/// A union with paths.
pub struct View {
    pub union: Union,
}

impl View {
    pub fn open(config: Config) -> Self {
        match Union::open(config) {
            Ok(union) => Self { union },
            Err(error) => panic!("open: {error}"),
        }
    }

    /// The node at a path; links on the way are not followed. Its lookup is not given back: tests are short.
    pub fn node(&self, path: &str) -> Result<NodeId> {
        let mut at = NodeId::ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if at != NodeId::ROOT && self.union.attr(at, None)?.kind == Kind::Symlink {
                return Err(Errno::NOENT);
            }
            at = self.union.lookup(at, OsStr::new(name))?.node;
        }
        Ok(at)
    }

    pub fn split<'a>(&self, path: &'a str) -> Result<(NodeId, &'a OsStr)> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.node(folder)?;
        if self.union.attr(parent, None)?.kind == Kind::Symlink {
            return Err(Errno::NOENT);
        }
        Ok((parent, OsStr::new(name)))
    }

    pub fn attr(&self, path: &str) -> Result<Attr> {
        self.union.attr(self.node(path)?, None)
    }

    pub fn create(&self, path: &str, mode: u32) -> Result<Arc<Handle>> {
        let (parent, name) = self.split(path)?;
        Ok(self.union.create(parent, name, mode, OFlags::RDWR, &me())?.1)
    }

    /// As a shell's `>` or `>>`: makes the file if it is not there.
    pub fn write(&self, path: &str, data: &[u8], how: OFlags) -> Result<()> {
        let (parent, name) = self.split(path)?;
        let handle = match self.union.lookup(parent, name) {
            Ok(entry) => self.union.open_file(entry.node, OFlags::WRONLY | how)?,
            Err(Errno::NOENT) => self.union.create(parent, name, 0o644, OFlags::WRONLY, &me())?.1,
            Err(errno) => return Err(errno),
        };
        let end = if how.contains(OFlags::APPEND) { self.union.attr(handle.node(), Some(&handle))?.size } else { 0 };
        self.write_at(&handle, end, data)
    }

    pub fn write_at(&self, handle: &Handle, offset: u64, data: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < data.len() {
            done += self.union.write(handle, offset + done as u64, &data[done..], Privileges::Keep)?;
        }
        self.union.flush(handle)
    }

    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let node = self.node(path)?;
        self.read_handle(&*self.union.open_file(node, OFlags::RDONLY)?)
    }

    pub fn read_handle(&self, handle: &Handle) -> Result<Vec<u8>> {
        let mut content = vec![0; self.union.attr(handle.node(), Some(handle))?.size as usize];
        let read = self.union.read(handle, 0, &mut content)?;
        content.truncate(read);
        Ok(content)
    }

    pub fn mkdir(&self, path: &str, mode: u32) -> Result<()> {
        let (parent, name) = self.split(path)?;
        self.union.mkdir(parent, name, mode, &me()).map(drop)
    }

    pub fn mknod(&self, path: &str, mode: u32, rdev: u64) -> Result<()> {
        let (parent, name) = self.split(path)?;
        self.union.mknod(parent, name, mode, rdev, &me()).map(drop)
    }

    pub fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let (parent, name) = self.split(path)?;
        self.union.symlink(parent, name, OsStr::new(target), &me()).map(drop)
    }

    pub fn link(&self, from: &str, to: &str) -> Result<()> {
        let node = self.node(from)?;
        let (parent, name) = self.split(to)?;
        self.union.link(node, parent, name).map(drop)
    }

    pub fn unlink(&self, path: &str) -> Result<()> {
        let (parent, name) = self.split(path)?;
        self.union.unlink(parent, name)
    }

    pub fn rmdir(&self, path: &str) -> Result<()> {
        let (parent, name) = self.split(path)?;
        self.union.rmdir(parent, name)
    }

    pub fn rename(&self, from: &str, to: &str, flags: RenameFlags) -> Result<()> {
        let (parent, name) = self.split(from)?;
        let (new_parent, new_name) = self.split(to)?;
        self.union.rename(parent, name, new_parent, new_name, flags)
    }

    pub fn set(&self, path: &str, change: SetAttr) -> Result<()> {
        self.union.set_attr(self.node(path)?, None, &change).map(drop)
    }

    pub fn set_xattr(&self, path: &str, name: &str, value: &[u8]) -> Result<()> {
        self.union.set_xattr(self.node(path)?, OsStr::new(name), value, XattrFlags::empty())
    }

    /// `rm -rf`.
    pub fn remove_all(&self, path: &str) -> Result<()> {
        match self.attr(path) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
            Ok(attr) if attr.kind == Kind::Dir => {
                for name in self.list(path)? {
                    self.remove_all(&join(path, &name))?;
                }
                self.rmdir(path)
            }
            Ok(_) => self.unlink(path),
        }
    }

    /// `ls -A`, sorted.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.union.read_dir(self.node(path)?, 0, &mut |entry| {
            names.push(entry.name.to_string_lossy().into_owned());
            Fill::Taken
        })?;
        names.sort();
        Ok(names)
    }

    /// All that is seen.
    pub fn tree(&self) -> Result<Tree> {
        let mut tree = Tree::new();
        let mut first = BTreeMap::new();
        self.walk(NodeId::ROOT, "", &mut tree)?;
        // Inode numbers are compared within a tree alone.
        for (path, ino) in self.numbers(&tree)? {
            let first = first.entry(ino).or_insert_with(|| path.clone()).clone();
            tree.get_mut(&path).expect("just walked").same_as = first;
        }
        Ok(tree)
    }

    fn numbers(&self, tree: &Tree) -> Result<Vec<(String, u64)>> {
        tree.keys().map(|path| Ok((path.clone(), self.attr(path)?.ino))).collect()
    }

    fn walk(&self, dir: NodeId, path: &str, tree: &mut Tree) -> Result<()> {
        let mut entries = Vec::new();
        self.union.read_dir_plus(dir, 0, &mut |entry, found| {
            // As `find` does with what it cannot look up.
            let Some(found) = found else { return Fill::Taken };
            assert_eq!((entry.ino, entry.kind), (found.attr.ino, found.attr.kind));
            entries.push((entry.name.to_string_lossy().into_owned(), found.node));
            Fill::Taken
        })?;
        for (name, node) in entries {
            let path = join(path, &name);
            tree.insert(path.clone(), self.item(node)?);
            if tree[&path].kind == Kind::Dir {
                self.walk(node, &path, tree)?;
            }
            self.union.forget(node, 1);
        }
        Ok(())
    }

    fn item(&self, node: NodeId) -> Result<Item> {
        let attr = self.union.attr(node, None)?;
        let content = match attr.kind {
            Kind::File => self.read_handle(&*self.union.open_file(node, OFlags::RDONLY)?)?,
            Kind::Symlink => self.union.read_link(node)?.as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let mut xattrs = BTreeMap::new();
        for name in self.union.list_xattr(node)? {
            let value = self.union.get_xattr(node, &name)?;
            xattrs.insert(name, value);
        }
        Ok(Item {
            kind: attr.kind,
            mode: attr.mode,
            owner: (attr.uid, attr.gid),
            nlink: if attr.kind == Kind::Dir { 0 } else { attr.nlink },
            same_as: String::new(),
            content,
            rdev: (attr.rdev_major, attr.rdev_minor),
            xattrs,
        })
    }
}

pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
