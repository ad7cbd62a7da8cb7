//! AUFS's marks: files whose names begin with `.wh.` (`docs/formats/aufs.md`).

use std::{os::fd::OwnedFd, sync::Arc};

use rustix::fs::{self, AtFlags, FileType, Mode};
use strata_sys::tree::Kind;
use strata_tree::marks::aufs as names;

use crate::{
    Union,
    config::{OpenError, Switch},
    core::{
        assemble::{Opened, lock, scratch, try_out},
        branch::{Branches, OpenBranch, Temp, Work},
        nodes::{Index, Node, Real},
        raw,
        rename::Target,
    },
    types::{Errno, Result},
};

pub(crate) use names::{NAME_MAX, whiteout};

/// The prefix of every mark. The union refuses it in users' names.
pub(crate) const PREFIX: &[u8] = names::PREFIX.as_bytes();
/// Marks its directory opaque.
pub(crate) const OPAQUE: &[u8] = names::OPAQUE.as_bytes();
/// In a writable branch's root: the file that whiteouts are hard links of.
pub(crate) const BASE: &[u8] = names::BASE.as_bytes();

impl Union {
    pub(crate) fn put_aufs_whiteout(&self, work: &Work, up: &OwnedFd, name: &[u8]) -> Result<()> {
        self.aufs_whiteout(work)?.rename(up, &whiteout(name))
    }

    /// Makes a whiteout in the work directory.
    pub(crate) fn aufs_whiteout(&self, work: &Work) -> Result<Temp> {
        let base = [b"../".as_slice(), BASE].concat();
        work.temp(|temp| match fs::linkat(&*work.dir, &*base, &*work.dir, temp, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(_) => self.make_aufs_mark(&work.dir, temp),
        })
    }

    /// Makes `.wh..wh..opq` in a directory, as a link of the root's `.wh..wh.aufs`.
    pub(crate) fn set_opaque_aufs(&self, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        let inside = raw::open_dir_at(dir, name)?;
        // The work directory lies in the branch's root.
        let base = [b"../".as_slice(), BASE].concat();
        let from = if name.starts_with(b"#") { (dir, base) } else { return self.make_aufs_mark(&inside, OPAQUE) };
        match fs::linkat(from.0, &*from.1, &inside, OPAQUE, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(_) => self.make_aufs_mark(&inside, OPAQUE),
        }
    }

    /// Makes a mark that is a file of its own, because it cannot be a link.
    pub(crate) fn make_aufs_mark(&self, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        match fs::mknodat(dir, name, FileType::RegularFile, Mode::from_raw_mode(0o444), 0) {
            Err(Errno::EXIST) => Ok(()),
            result => result,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "two sides and what is known of each")]
    pub(crate) fn move_aufs(
        &self,
        ns: &Branches,
        work: &Arc<Work>,
        (up, name): (&OwnedFd, &[u8]),
        (new_up, new): (&OwnedFd, &[u8]),
        target: Target,
        node: &Node,
        lower: bool,
        new_parent: Index,
    ) -> Result<()> {
        if node.kind == Kind::Dir {
            let new_parent = (new_parent, self.known(new_parent)?);
            let over = self.lower_has(ns, new_parent.0, &new_parent.1, new)?;
            if target == Target::Dir {
                let away = work.temp_name();
                fs::renameat(new_up, new, &*work.dir, &*away)?;
                drop(crate::core::branch::Temp::adopt(&work.dir, away));
            }
            if over || target == Target::Whiteout {
                let inside = raw::open_dir_at(up, name)?;
                let root = &ns.get(ns.writable()?.0)?.root;
                match fs::linkat(&**root, BASE, &inside, OPAQUE, AtFlags::empty()) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(_) => self.make_aufs_mark(&inside, OPAQUE)?,
                }
            }
            fs::renameat(up, name, new_up, new)?;
            if target == Target::Whiteout {
                fs::unlinkat(new_up, &*whiteout(new), AtFlags::empty())?;
            }
            return if lower { self.put_whiteout(work, up, name) } else { Ok(()) };
        }
        if target != Target::Whiteout && !lower {
            return fs::renameat(up, name, new_up, new);
        }
        // A link makes the new name before the old one goes: no moment has neither.
        let temp = work.temp(|temp| fs::linkat(up, name, &*work.dir, temp, AtFlags::empty()))?;
        if target == Target::Whiteout {
            self.put_over_whiteout(work, temp, new_up, new, node.kind)?;
        } else {
            temp.rename(new_up, new)?;
        }
        if lower { self.turn_to_whiteout(work, up, name, node.kind) } else { fs::unlinkat(up, name, AtFlags::empty()) }
    }

    /// Makes a pseudo-link for a copied-up file that gets another name.
    pub(crate) fn make_plink(&self, ns: &Branches, index: Index, node: &Node) -> Result<()> {
        let Some(dir) = ns.writable()?.1.index.clone() else { return Ok(()) };
        if self.inos.number_without_gift(node.real) == node.ino {
            return Ok(());
        }
        let key: Arc<[u8]> = format!("{}.{}", node.ino, node.real.ino).into_bytes().into();
        let spot = self.spot(ns, index, node)?;
        match fs::linkat(&*spot.dir, &*spot.name, &*dir, &*key, AtFlags::empty()) {
            Ok(()) => {}
            Err(_) => return Ok(()),
        }
        let shared = crate::core::nodes::Shared { lower: None, upper: node.real, delta: -1 };
        let mut table = self.nodes();
        table.share(Arc::clone(&key), shared);
        table.edit(index)?.shared = Some(key);
        Ok(())
    }

    /// Links the copy of a file at its other known names.
    pub(crate) fn link_others(
        &self,
        ns: &Branches,
        index: Index,
        parent: &Index,
        name: &[u8],
        key: &Arc<[u8]>,
    ) -> Result<()> {
        let links = self.nodes().links(index);
        for link in links.into_iter().filter(|link| link.parent != *parent || &*link.name != name) {
            let up = self.dir_up(ns, link.parent)?;
            let index_dir = ns.writable()?.1.index.clone().ok_or(Errno::IO)?;
            match fs::linkat(&*index_dir, &**key, &*up, &*link.name, AtFlags::empty()) {
                Ok(()) => self.shift_links(ns, key, -1)?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Links the copy of a file at one of its lower names, so that a later mount sees hard links.
    pub(crate) fn materialize(
        &self,
        ns: &Branches,
        parent: Index,
        node: &Node,
        name: &[u8],
        index: &OwnedFd,
        key: &Arc<[u8]>,
    ) -> Result<()> {
        let (writer, _) = ns.writable()?;
        if !node.dir()?.iter().any(|part| part.layer == writer) {
            return Ok(());
        }
        let up = self.dir_fd(ns, parent, node, writer)?;
        match rustix::fs::linkat(index, &**key, &*up, name, AtFlags::empty()) {
            Ok(()) => self.shift_links(ns, key, -1),
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

pub(crate) fn open_aufs_work(layer: &OpenBranch) -> Opened<Work> {
    let fail = |errno: Errno| match errno {
        Errno::ROFS => OpenError::ReadOnlyFilesystem { path: layer.path.clone() },
        errno => OpenError::Branch { path: layer.path.clone(), source: errno.into() },
    };
    let held = lock(&layer.root, &layer.path)?;
    match fs::mknodat(&*layer.root, BASE, FileType::RegularFile, Mode::from_raw_mode(0o444), 0) {
        Ok(()) => crate::core::copy_up::set_mode(&layer.root, BASE, 0o444).map_err(fail)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(fail(errno)),
    }
    let plink = scratch(&layer.root, names::PSEUDO_LINKS, &layer.path, Switch::Off)?;
    let orphans = scratch(&layer.root, names::ORPHANS, &layer.path, Switch::On)?;
    let mut work = Work::new(orphans, Some(plink), held);
    work.can = try_out(&work.dir).map_err(fail)?;
    Ok(work)
}

/// The name of a lower object's pseudo-link.
pub(crate) fn plink_name(real: Real, number: u64) -> Arc<[u8]> {
    format!("{number}.{}", real.ino).into_bytes().into()
}
