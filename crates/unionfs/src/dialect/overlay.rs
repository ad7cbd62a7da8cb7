//! The marks of the kernel's overlayfs: device 0/0, and extended attributes (`docs/formats/overlay-marks.md`).

use std::{io, os::fd::OwnedFd, path::Path, sync::Arc};

use rustix::fs::{self, AtFlags, Mode, RenameFlags, XattrFlags};
use strata_sys::tree::Kind;
use strata_tree::marks::{
    Redirect,
    overlay::{Keys, Namespace},
};

use crate::{
    Union,
    config::{Dialect, OpenError, Options, Switch, Xattrs},
    core::{
        assemble::{Opened, lock, scratch, try_out},
        branch::{Branches, OpenBranch, Work},
        nodes::{Index, Node, ROOT},
        raw::{self, Statx},
        rename::Target,
    },
    dialect::hard_links::origin_of,
    types::{Errno, Result},
};

impl Xattrs {
    /// The names of the attributes.
    pub(crate) fn keys(self) -> &'static Keys {
        match self {
            Self::Trusted => Namespace::Trusted.keys(),
            Self::User => Namespace::User.keys(),
        }
    }
}

/// Parses a redirect; `EINVAL` for one that leads nowhere.
pub(crate) fn parse_redirect(text: &[u8]) -> Result<Redirect> {
    Redirect::parse(text).ok_or(Errno::INVAL)
}

impl Union {
    /// Marks a directory that will hold whiteouts by attribute. They count only in directories with this mark.
    pub(crate) fn mark_attribute_whiteouts(&self, up: &OwnedFd) -> Result<()> {
        let Some(keys) = self.keys() else { return Ok(()) };
        match raw::xattr_at(up, b"", keys.opaque)? {
            Some(_) => Ok(()),
            None => raw::set_xattr_at(up, b"", keys.opaque, b"x", XattrFlags::empty()),
        }
    }

    pub(crate) fn mark_for_whiteout(&self, work: &Work, up: &OwnedFd) -> Result<()> {
        let Some(keys) = self.keys() else { return Ok(()) };
        if !work.can.device_whiteouts && raw::xattr_at(up, b"", keys.opaque)?.is_none() {
            raw::set_xattr_at(up, b"", keys.opaque, b"x", XattrFlags::empty())?;
        }
        Ok(())
    }

    /// Marks a directory of the writable branch impure, that is, holding copies with lower inode numbers.
    pub(crate) fn mark_impure(&self, index: Index, up: &OwnedFd) -> Result<()> {
        let Some(keys) = self.keys() else { return Ok(()) };
        if self.nodes().peek(index)?.impure == Some(true) {
            return Ok(());
        }
        match raw::set_xattr_at(up, b"", keys.impure, b"y", XattrFlags::CREATE) {
            Err(Errno::EXIST | Errno::OPNOTSUPP | Errno::PERM) => {}
            result => result?,
        }
        self.nodes().edit(index)?.impure = Some(true);
        Ok(())
    }

    /// Marks a directory impure that a copy was moved or linked into.
    pub(crate) fn carry_impure(
        &self,
        ns: &Branches,
        index: Index,
        node: &Node,
        parent: Index,
        up: &OwnedFd,
    ) -> Result<()> {
        let Some(keys) = self.keys() else { return Ok(()) };
        let spot = self.spot(ns, index, node)?;
        if raw::xattr_at(&*spot.dir, &spot.name, keys.origin)?.is_some() {
            self.mark_impure(parent, up)?;
        }
        Ok(())
    }

    /// Moves an object in the writable branch. The old name becomes a whiteout in the same step if the filesystem can.
    pub(crate) fn move_overlay(
        &self,
        work: &Arc<Work>,
        (up, name): (&OwnedFd, &[u8]),
        (new_up, new): (&OwnedFd, &[u8]),
        target: Target,
        is_dir: bool,
        lower: bool,
    ) -> Result<()> {
        if target == Target::Dir {
            self.clear_dir(work, new_up, new)?;
        }
        if is_dir && target == Target::Whiteout {
            if work.can.exchange {
                Self::exchange(up, name, new_up, new)?;
                return if lower { Ok(()) } else { fs::unlinkat(up, name, AtFlags::empty()) };
            }
            fs::unlinkat(new_up, new, AtFlags::empty())?;
        }
        if !lower {
            return fs::renameat(up, name, new_up, new);
        }
        if work.can.rename_whiteout && work.can.device_whiteouts {
            return fs::renameat_with(up, name, new_up, new, RenameFlags::WHITEOUT);
        }
        if work.can.exchange && target != Target::Dir {
            // A whiteout replaces the target first, so that the exchange leaves it at the old name.
            if target != Target::Whiteout {
                self.put_whiteout(work, new_up, new)?;
            }
            self.mark_for_whiteout(work, up)?;
            return Self::exchange(up, name, new_up, new);
        }
        fs::renameat(up, name, new_up, new)?;
        self.put_whiteout(work, up, name)
    }

    /// Returns the redirect that a directory of the writable branch needs before it moves; `None` if its present one suffices.
    ///
    /// The redirect is the path of its lower parts: names of the merged view, with each redirected directory on the way replaced by
    /// its target.
    pub(crate) fn redirect_text(
        &self,
        ns: &Branches,
        keys: &Keys,
        parent: Index,
        name: &[u8],
        same_parent: bool,
        up: &OwnedFd,
    ) -> Result<Option<Vec<u8>>> {
        let (writer, _) = ns.writable()?;
        let own = match raw::xattr_at(up, name, keys.redirect)? {
            Some(text) => Some(parse_redirect(&text)?),
            None => None,
        };
        let mut path: Vec<Vec<u8>> = match own {
            Some(Redirect::Absolute(_)) => return Ok(None),
            Some(Redirect::Sibling(_)) if same_parent => return Ok(None),
            Some(Redirect::Sibling(below)) => vec![below],
            None if same_parent => return Ok(Some(name.to_vec())),
            None => vec![name.to_vec()],
        };
        let mut at = parent;
        while at != ROOT {
            let node = self.known(at)?;
            let link = node.link.clone().ok_or(Errno::STALE)?;
            let dir = self.dir_fd(ns, at, &node, writer)?;
            match raw::xattr_at(&*dir, b"", keys.redirect)?.map(|text| parse_redirect(&text)).transpose()? {
                Some(Redirect::Absolute(base)) => {
                    path.push(base);
                    break;
                }
                Some(Redirect::Sibling(name)) => path.push(name),
                None => path.push(link.name.to_vec()),
            }
            at = link.parent;
        }
        path.reverse();
        let text = [b"/".as_slice(), &path.join(&b'/')].concat();
        if text.len() > Redirect::MAX { Err(Errno::XDEV) } else { Ok(Some(text)) }
    }
}

pub(crate) fn open_overlay_work(
    layer: &OpenBranch,
    base: OwnedFd,
    path: &Path,
    xattrs: Xattrs,
    options: &mut Options,
) -> Opened<Work> {
    let fail = |source: io::Error| OpenError::Work { path: path.into(), source };
    let held = lock(&base, path)?;
    let dir = scratch(&base, "work", path, Switch::On)?;
    let keys = xattrs.keys();
    let namespace = if xattrs == Xattrs::Trusted { "trusted" } else { "user" };
    let no_xattrs = |errno: Errno| OpenError::NoXattrs { path: layer.path.clone(), namespace, source: errno.into() };
    raw::set_xattr_at(&dir, b"", keys.opaque, b"y", XattrFlags::empty()).map_err(no_xattrs)?;
    raw::remove_xattr_at(&dir, b"", keys.opaque).map_err(no_xattrs)?;
    if strata_sys::union::file_handle(&dir, "").is_err() {
        options.index = Switch::Off;
    }
    let index = if options.index == Switch::On { Some(scratch(&base, "index", path, Switch::Off)?) } else { None };
    let mut work = Work::new(dir, index, held);
    work.can = try_out(&work.dir).map_err(|errno| fail(errno.into()))?;
    // Every change ends in a rename from the work directory. Two mounts of one filesystem share a device but not renames.
    let probe = work.temp(|name| fs::mkdirat(&*work.dir, name, Mode::RWXU)).map_err(|errno| fail(errno.into()))?;
    let name = format!(".strata-probe-{}", std::process::id());
    match fs::renameat(&*probe.dir, &*probe.name, &*layer.root, &*name) {
        Ok(()) => fs::unlinkat(&*layer.root, &*name, fs::AtFlags::REMOVEDIR).map_err(|errno| fail(errno.into()))?,
        Err(Errno::XDEV) => return Err(OpenError::WorkElsewhere { work: path.into(), branch: layer.path.clone() }),
        Err(Errno::ROFS) => return Err(OpenError::ReadOnlyFilesystem { path: layer.path.clone() }),
        Err(errno) => return Err(OpenError::Branch { path: layer.path.clone(), source: errno.into() }),
    }
    Ok(work)
}

/// Checks that the index belongs to this branch over this lower one, by the marks of the kernel's `index=on`: the origin of the
/// writable branch's root, and the `upper` of the index. Makes them if there are none.
pub(crate) fn settle_origin(layers: &Branches, dialect: Dialect, options: &mut Options) {
    let (Dialect::Overlay { xattrs }, Some(work)) = (dialect, &layers.work) else { return };
    let (Some(index), [upper, lower, ..]) = (&work.index, &layers.list[..]) else { return };
    // The program fuse-overlayfs reads an origin as a path.
    if options.index == Switch::Off || options.mixed_marks == Switch::On {
        return;
    }
    let keys = xattrs.keys();
    let settled = |dir: &OwnedFd, key: &str, wanted: Option<Vec<u8>>| -> bool {
        let Some(wanted) = wanted else { return false };
        match raw::xattr_at(dir, b"", key) {
            Ok(Some(found)) => found == wanted,
            Ok(None) => raw::set_xattr_at(dir, b"", key, &wanted, XattrFlags::CREATE).is_ok(),
            Err(_) => false,
        }
    };
    // A flag in the header tells an upper directory's handle.
    let of_upper = origin_of(upper, &upper.root, b"").map(|mut bytes| {
        bytes[3] |= 4;
        bytes
    });
    if !settled(&upper.root, keys.origin, origin_of(lower, &lower.root, b"")) || !settled(index, keys.upper, of_upper) {
        tracing::warn!(branch = %upper.path.display(), "work/index is of other branches: hard links are not kept together");
        options.index = Switch::Off;
    }
}

/// Whether a file is a whiteout by attribute, in a directory that may hold those.
pub(crate) fn is_attribute_whiteout(keys: &Keys, dir: &OwnedFd, name: &[u8], stat: &Statx) -> Result<bool> {
    Ok(raw::kind_of(stat) == Kind::File && stat.stx_size == 0 && raw::xattr_at(dir, name, keys.whiteout)?.is_some())
}
