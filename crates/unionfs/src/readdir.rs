//! Reading directories: the names of all their parts, less what marks hide.

use std::{
    collections::HashSet,
    ffi::OsString,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::{FileType, RawDir};
use strata_sys::tree::Kind;

use crate::{
    Union,
    config::Dialect,
    layer::{Layer, Layers},
    lookup::is_attribute_whiteout,
    marks::aufs,
    raw,
    table::{Below, Index, Node, index_of},
    types::*,
};

/// Bytes asked of the kernel at once.
const BUFFER: usize = 32 << 10;

/// A name as it was when the directory was read.
#[derive(Debug)]
struct Item {
    name: Box<[u8]>,
    ino: u64,
    kind: Kind,
    layer: u16,
}

#[derive(Debug, Default)]
struct Listing {
    items: Arc<[Item]>,
    /// Of the directory, at that time.
    version: u32,
    read: bool,
}

/// An open directory: its listing as of the first read, or of the last read from offset 0.
///
/// An offset is a place in the listing, and stays good whatever happens to the directory.
#[derive(Debug)]
pub struct DirHandle {
    index: Index,
    generation: u32,
    listing: Mutex<Listing>,
}

impl Union {
    /// Opens a directory for reading.
    pub fn open_dir(&self, node: NodeId) -> Result<Arc<DirHandle>> {
        let index = index_of(node)?;
        let table = self.table();
        let node = table.peek(index)?;
        node.dir()?;
        Ok(Arc::new(DirHandle { index, generation: node.generation, listing: Mutex::default() }))
    }

    /// Gives the entries after `offset` (0: from the start, and afresh) to `fill`, `.` and `..` not among them.
    pub fn read_dir(&self, dir: &DirHandle, offset: u64, fill: &mut dyn FnMut(&DirEntry) -> Fill) -> Result<()> {
        let ns = self.look();
        let (items, _) = self.listing(&ns, dir, offset)?;
        for (item, next) in items.iter().zip(1..).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            if fill(&entry(item, next)) == Fill::Full {
                break;
            }
        }
        Ok(())
    }

    /// As [`Union::read_dir`], and looks each name up: an entry taken counts as one lookup. Names that are gone by now, or
    /// that cannot be looked up, are left out.
    pub fn read_dir_plus(
        &self,
        dir: &DirHandle,
        offset: u64,
        fill: &mut dyn FnMut(&DirEntry, &Entry) -> Fill,
    ) -> Result<()> {
        let ns = self.look();
        let (items, version) = self.listing(&ns, dir, offset)?;
        let unchanged = self.table().peek(dir.index)?.version == version;
        for (item, next) in items.iter().zip(1..).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let hint = unchanged.then_some(item.layer);
            let Ok((index, node, stat)) = self.lookup_in(&ns, dir.index, &item.name, hint) else { continue };
            let found = self.entry_of(&ns, index, &node, &stat);
            let mut shown = entry(item, next);
            (shown.ino, shown.kind) = (found.attr.ino, found.attr.kind);
            if fill(&shown, &found) == Fill::Full {
                self.table().forget(index, 1);
                break;
            }
        }
        Ok(())
    }

    /// Writes a directory's names to disk; nothing to do where none were changed, or if volatile.
    pub fn fsync_dir(&self, node: NodeId) -> Result<()> {
        let ns = self.look();
        let index = index_of(node)?;
        let node = self.known(index)?;
        let Ok((writer, _)) = ns.writable() else { return Ok(()) };
        let volatile = self.options.durability == crate::config::Durability::Volatile;
        if volatile || !node.dir()?.iter().any(|part| part.layer == writer) {
            return Ok(());
        }
        let dir = self.dir_fd(&ns, index, &node, writer)?;
        rustix::fs::fsync(raw::open_readable(&*dir)?)
    }

    fn listing(&self, ns: &Layers, dir: &DirHandle, offset: u64) -> Result<(Arc<[Item]>, u32)> {
        let mut listing = dir.listing.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 || !listing.read {
            let node = self.known(dir.index)?;
            if node.generation != dir.generation {
                return Err(Errno::STALE);
            }
            let items = if node.link.is_none() && dir.index != crate::table::ROOT {
                Vec::new()
            } else {
                self.read_parts(ns, dir.index, &node)?
            };
            *listing = Listing { items: items.into(), version: node.version, read: true };
        }
        Ok((Arc::clone(&listing.items), listing.version))
    }

    /// Whether a directory shows nothing.
    pub(crate) fn is_empty(&self, ns: &Layers, index: Index, node: &Node) -> Result<bool> {
        Ok(self.read_parts(ns, index, node)?.is_empty())
    }

    fn read_parts(&self, ns: &Layers, index: Index, node: &Node) -> Result<Vec<Item>> {
        let parts = node.dir()?;
        let mut items: Vec<Item> = Vec::new();
        let mut seen: HashSet<Box<[u8]>> = HashSet::new();
        for (number, part) in parts.iter().enumerate() {
            let dir = self.dir_fd(ns, index, node, part.layer)?;
            let mut whiteouts = Vec::new();
            let start = items.len();
            self.read_part(ns.get(part.layer)?, part, &dir, &mut |found| match found {
                Name::Shown(item) => {
                    if number == 0 || !seen.contains(&item.name) {
                        items.push(item);
                    }
                }
                Name::Whiteout(name) => whiteouts.push(name),
            })?;
            if number + 1 < parts.len() {
                // Within one branch a name hides nothing.
                seen.extend(items[start..].iter().map(|item| item.name.clone()));
                seen.extend(whiteouts);
            }
        }
        Ok(items)
    }

    fn read_part(&self, layer: &Layer, part: &Below, dir: &OwnedFd, found: &mut dyn FnMut(Name)) -> Result<()> {
        let dev = raw::dev_of(&raw::stat_at(dir, b"")?);
        let readable = raw::open_readable(dir)?;
        let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER);
        let mut entries = RawDir::new(&readable, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if self.dialect == Dialect::Aufs && name.starts_with(aufs::PREFIX) {
                let hidden = &name[aufs::PREFIX.len()..];
                if layer.marks && !hidden.is_empty() && !hidden.starts_with(aufs::PREFIX) {
                    found(Name::Whiteout(hidden.into()));
                }
                continue;
            }
            let mut kind = kind(entry.file_type());
            if let Some(keys) = self.keys() {
                let suspect = match kind {
                    Some(Kind::CharDevice) | None => true,
                    Some(Kind::File) => part.attribute_whiteouts,
                    _ => false,
                };
                if suspect {
                    let Some(stat) = raw::find_at(dir, name)? else { continue };
                    if raw::is_device_zero(&stat)
                        || part.attribute_whiteouts && is_attribute_whiteout(keys, dir, name, &stat)?
                    {
                        found(Name::Whiteout(name.into()));
                        continue;
                    }
                    kind = Some(raw::kind_of(&stat));
                }
            }
            let kind = match kind {
                Some(kind) => kind,
                None => match raw::find_at(dir, name)? {
                    Some(stat) => raw::kind_of(&stat),
                    None => continue,
                },
            };
            let ino = self.inos.number(self.inos.real_of(dev, entry.ino())?);
            found(Name::Shown(Item { name: name.into(), ino, kind, layer: part.layer }));
        }
        Ok(())
    }
}

enum Name {
    Shown(Item),
    Whiteout(Box<[u8]>),
}

fn entry(item: &Item, next: u64) -> DirEntry {
    DirEntry { name: OsString::from_vec(item.name.to_vec()), ino: item.ino, kind: item.kind, next }
}

/// `None` where the filesystem does not tell.
fn kind(file_type: FileType) -> Option<Kind> {
    Some(match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Unknown => return None,
    })
}
