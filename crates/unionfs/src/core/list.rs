//! Listing directories: the names of all parts, without those that marks hide.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    sync::Arc,
};

use rustix::fs::{FileType, RawDir};
use strata_sys::tree::Kind;

use crate::{
    Union,
    cache::listings::{Item, Listing},
    config::Dialect,
    core::branch::{Branches, OpenBranch},
    core::nodes::{Below, Index, Node, ROOT, index_of},
    core::raw,
    dialect::aufs,
    dialect::overlay::is_attribute_whiteout,
    types::*,
};

/// Bytes of one `getdents64` call.
const BUFFER: usize = 32 << 10;

impl Union {
    /// Passes the entries of a directory from `offset` on to `fill`, without `.` and `..`. Offset 0 reads the directory anew.
    ///
    /// An offset derives from a name alone: it stays valid whatever happens to the directory and needs nothing open, see
    /// `cache/listings.rs`.
    pub fn read_dir(&self, node: NodeId, offset: u64, fill: &mut dyn FnMut(&DirEntry) -> Fill) -> Result<()> {
        let ns = self.look();
        let index = index_of(node)?;
        let listing = self.listing(&ns, index, offset)?;
        for item in listing.from(offset) {
            if fill(&entry(item)) == Fill::Full {
                break;
            }
        }
        Ok(())
    }

    /// As [`Union::read_dir`], and looks up each name; an entry that `fill` takes counts as one lookup. A name that is gone by then
    /// is left out; one whose lookup fails otherwise has no [`Entry`].
    pub fn read_dir_plus(
        &self,
        node: NodeId,
        offset: u64,
        fill: &mut dyn FnMut(&DirEntry, Option<&Entry>) -> Fill,
    ) -> Result<()> {
        let ns = self.look();
        let index = index_of(node)?;
        let listing = self.listing(&ns, index, offset)?;
        let unchanged = self.nodes().peek(index)?.version == listing.version;
        for item in listing.from(offset) {
            let hint = unchanged.then_some(item.layer);
            let (found, node, stat) = match self.lookup_in(&ns, index, &item.name, hint) {
                Ok(found) => found,
                Err(Errno::NOENT) => continue,
                Err(errno) => {
                    tracing::debug!(name = %OsStr::from_bytes(&item.name).display(), %errno, "a name is listed that cannot be looked up");
                    if fill(&entry(item), None) == Fill::Full {
                        break;
                    }
                    continue;
                }
            };
            let full = self.entry_of(&ns, found, &node, &stat);
            self.listed.put(&ns, found, &node, &full.attr);
            let mut shown = entry(item);
            (shown.ino, shown.kind) = (full.attr.ino, full.attr.kind);
            if fill(&shown, Some(&full)) == Fill::Full {
                self.nodes().forget(found, 1);
                break;
            }
        }
        Ok(())
    }

    /// Writes a directory's names to disk; does nothing if it has no part in the writable branch, or if volatile.
    pub fn fsync_dir(&self, node: NodeId) -> Result<()> {
        let ns = self.look();
        let index = index_of(node)?;
        let node = self.known(index)?;
        let Ok((writer, _)) = ns.writable() else { return Ok(()) };
        let is_gone = node.link.is_none() && index != ROOT;
        let volatile = is_gone || self.options.durability == crate::config::Durability::Volatile;
        if volatile || !node.dir()?.iter().any(|part| part.layer == writer) {
            return Ok(());
        }
        let dir = self.dir_fd(&ns, index, &node, writer)?;
        rustix::fs::fsync(raw::open_readable(&*dir)?)
    }

    fn listing(&self, ns: &Branches, index: Index, offset: u64) -> Result<Arc<Listing>> {
        let node = self.known(index)?;
        node.dir()?;
        if offset > 0
            && let Some(listing) = self.listings.get(index, node.generation)
        {
            if listing.from(offset).is_empty() {
                self.listings.drop_dir(index);
            }
            return Ok(listing);
        }
        let is_gone = node.link.is_none() && index != ROOT;
        let items = if is_gone { Vec::new() } else { self.read_parts(ns, index, &node)? };
        let listing = Arc::new(self.listings.order(items, node.version));
        self.listings.put(index, node.generation, &listing);
        Ok(listing)
    }

    /// Whether a directory shows nothing.
    pub(crate) fn is_empty(&self, ns: &Branches, index: Index, node: &Node) -> Result<bool> {
        Ok(self.read_parts(ns, index, node)?.is_empty())
    }

    pub(crate) fn read_parts(&self, ns: &Branches, index: Index, node: &Node) -> Result<Vec<Item>> {
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

    fn read_part(&self, layer: &OpenBranch, part: &Below, dir: &OwnedFd, found: &mut dyn FnMut(Name)) -> Result<()> {
        let dev = raw::dev_of(&raw::stat_at(dir, b"")?);
        let readable = raw::open_readable(dir)?;
        let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER);
        let mut entries = RawDir::new(&readable, buffer.spare_capacity_mut());
        let hides_marks = self.dialect == Dialect::Aufs || self.is_mixed();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if hides_marks && name.starts_with(aufs::PREFIX) {
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
            found(Name::Shown(Item { name: name.into(), ino, kind, layer: part.layer, at: 0 }));
        }
        Ok(())
    }
}

enum Name {
    Shown(Item),
    Whiteout(Box<[u8]>),
}

fn entry(item: &Item) -> DirEntry {
    DirEntry { name: OsString::from_vec(item.name.to_vec()), ino: item.ino, kind: item.kind, next: item.at + 1 }
}

/// `None` if the filesystem does not report types.
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
