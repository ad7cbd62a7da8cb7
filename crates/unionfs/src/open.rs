//! Opening a union: what is checked, and what a killed one left behind.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{self, FileType, FlockOperation, Mode, RenameFlags, XattrFlags};
use strata_sys::tree::{Dir, Kind};

use crate::{
    Union, acl,
    config::*,
    layer::{Abilities, InUse, Layer, Layers, Work},
    marks::aufs,
    raw,
    share::origin_of,
    table::Below,
    types::{Errno, OFlags},
};

/// Branches at most: their numbers take 16 bits, and the lowest ones are kept free.
const MAX_BRANCHES: usize = 32_000;

type Opened<T> = std::result::Result<T, OpenError>;

impl Union {
    /// Opens the branches, settles what a killed union left in the work folder, and tries what the filesystem can do.
    ///
    /// Nothing is written where no branch is [`Access::ReadWrite`]. The process's limit on descriptors is raised if the
    /// branches would use up most of it.
    pub fn open(config: Config) -> Opened<Self> {
        let Config { branches, dialect, work, mut options } = config;
        check_number(branches.len())?;
        let limit = strata_sys::union::allow_descriptors(5 * branches.len() as u64 + 2048).unwrap_or(1024);
        let mut list = Vec::with_capacity(branches.len());
        for branch in &branches {
            list.push(Arc::new(open_layer(branch, dialect)?));
        }
        let writer = branches.iter().position(|branch| branch.access == Access::ReadWrite);
        if let Dialect::Overlay { .. } = dialect
            && let Some(below) = branches.iter().skip(1).find(|branch| branch.access == Access::ReadWrite)
        {
            return Err(OpenError::WritableBelow { path: below.path.clone() });
        }
        let mut places: Vec<PathBuf> = list.iter().map(|layer| layer.path.clone()).collect();
        let mut opened_work = None;
        if let Some(writer) = writer {
            let layer = &list[writer];
            let new = match dialect {
                Dialect::Aufs => open_aufs_work(layer)?,
                Dialect::Overlay { xattrs } => {
                    let path = work.ok_or_else(|| OpenError::NoWork { path: layer.path.clone() })?;
                    places.push(canonical(&path).map_err(|source| OpenError::Work { path: path.clone(), source })?);
                    check_overlap(&places)?;
                    open_overlay_work(layer, &path, xattrs, &mut options)?
                }
            };
            opened_work = Some(new);
        }
        check_overlap(&places)?;
        if list.iter().any(|layer| layer.uuid.is_none()) {
            options.index = Switch::Off;
        }
        let layers = Layers { list, writer: writer.map(|writer| writer as u16), work: opened_work.map(Arc::new) };
        settle_origin(&layers, dialect, &mut options);
        let union = Self::new(layers, dialect, options);
        union.dirs.make_room(branches.len(), limit);
        union.add_root()?;
        Ok(union)
    }

    /// Makes the root node, of all branches.
    fn add_root(&self) -> Opened<()> {
        let ns = self.look();
        let fail = |errno: Errno| OpenError::Branch { path: ns.list[0].path.clone(), source: errno.into() };
        let stat = raw::stat_at(&*ns.list[0].root, b"").map_err(fail)?;
        let real = self.inos.real(&stat).map_err(fail)?;
        if let Some(index) = ns.work.as_ref().and_then(|work| work.index.as_ref()) {
            let full = !Dir::from(raw::open_readable(&**index).map_err(fail)?)
                .entries()
                .map_err(|error| fail(raw::errno(&error)))?
                .is_empty();
            self.indexed.store(full || self.dialect == Dialect::Aufs, std::sync::atomic::Ordering::Relaxed);
        }
        let mut table = self.table();
        let mut stack = root_stack(&ns, self.keys().is_some());
        if self.is_mixed() {
            let is_opaque = |part: &Below| raw::find_at(&*ns.list[usize::from(part.layer)].root, aufs::OPAQUE);
            for at in 0..stack.len() {
                if is_opaque(&stack[at]).map_err(fail)?.is_some() {
                    stack.truncate(at + 1);
                    break;
                }
            }
        }
        let index = table.add(Kind::Dir, 0, real, self.inos.number(real), Some(stack.into()));
        table.edit(index).map_err(fail)?.lookups = 1;
        Ok(())
    }
}

/// The parts of the root: all branches.
pub(crate) fn root_stack(ns: &Layers, overlay: bool) -> Vec<Below> {
    let mut stack = Vec::with_capacity(ns.list.len());
    for (number, layer) in ns.list.iter().enumerate() {
        let number = number as u16;
        let attribute_whiteouts = overlay && (layer.attribute_whiteouts || ns.has_attribute_whiteouts(number));
        stack.push(Below { layer: number, attribute_whiteouts, at: None });
    }
    stack
}

pub(crate) fn check_number(count: usize) -> Opened<()> {
    match count {
        0 => Err(OpenError::NoBranches),
        count if count > MAX_BRANCHES => Err(OpenError::TooManyBranches { count, max: MAX_BRANCHES }),
        _ => Ok(()),
    }
}

fn canonical(path: &Path) -> io::Result<PathBuf> {
    std::fs::canonicalize(path)
}

/// Opens a branch; its path becomes absolute and free of links.
pub(crate) fn open_layer(branch: &Branch, dialect: Dialect) -> Opened<Layer> {
    let fail = |source: io::Error| OpenError::Branch { path: branch.path.clone(), source };
    let path = canonical(&branch.path).map_err(fail)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = match fs::open(&path, flags, Mode::empty()) {
        Err(Errno::NOTDIR) => return Err(OpenError::NotADirectory { path: branch.path.clone() }),
        result => result.map_err(|errno| fail(errno.into()))?,
    };
    let root = raw::open_dir_at(&readable, b".").map_err(|errno| fail(errno.into()))?;
    let attribute_whiteouts = match dialect {
        Dialect::Overlay { xattrs } => {
            let opaque = raw::xattr_at(&root, b"", xattrs.keys().opaque).map_err(|errno| fail(errno.into()))?;
            opaque.as_deref() == Some(b"x")
        }
        Dialect::Aufs => false,
    };
    Ok(Layer {
        path,
        access: branch.access,
        root: Arc::new(root),
        uuid: strata_sys::union::filesystem_uuid(&readable).ok(),
        marks: dialect != Dialect::Aufs || branch.access != Access::ReadOnly,
        attribute_whiteouts,
    })
}

/// Refuses folders of which one is, or lies in, another.
pub(crate) fn check_overlap(places: &[PathBuf]) -> Opened<()> {
    let mut sorted: Vec<&PathBuf> = places.iter().collect();
    // Component by component, so that a folder comes right before what lies in it.
    sorted.sort();
    for pair in sorted.windows(2) {
        let [outer, inner] = pair else { continue };
        if outer == inner {
            return Err(OpenError::Twice { path: outer.to_path_buf() });
        }
        if inner.starts_with(outer) {
            return Err(OpenError::Overlap { inner: inner.to_path_buf(), outer: outer.to_path_buf() });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Opened<InUse> {
    let file = File::open(path).map_err(|source| OpenError::Work { path: path.into(), source })?;
    match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(InUse(file.into())),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse { path: path.into() }),
        Err(errno) => Err(OpenError::Work { path: path.into(), source: errno.into() }),
    }
}

/// Makes and opens a folder in `base`, and empties it if it is to be empty.
fn scratch(base: &OwnedFd, name: &str, path: &Path, fresh: Switch) -> Opened<OwnedFd> {
    let fail = |errno: Errno| match errno {
        Errno::ROFS => OpenError::ReadOnlyFilesystem { path: path.into() },
        errno => OpenError::Work { path: path.join(name), source: errno.into() },
    };
    match fs::mkdirat(base, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(fail(errno)),
    }
    let dir = raw::open_dir_at(base, name.as_bytes()).map_err(fail)?;
    for list in [acl::DEFAULT, acl::ACCESS] {
        // What is made here gets its attributes from where it goes, and none from where this folder lies.
        match raw::remove_xattr_at(&dir, b"", list) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    if fresh == Switch::On {
        let readable = Dir::from(raw::open_readable(&dir).map_err(fail)?);
        let entries = readable.entries().map_err(|error| fail(raw::errno(&error)))?;
        for entry in entries {
            readable.remove_tree(&entry.name).map_err(|error| fail(raw::errno(&error)))?;
        }
    }
    Ok(dir)
}

fn open_overlay_work(layer: &Layer, path: &Path, xattrs: Xattrs, options: &mut Options) -> Opened<Work> {
    let fail = |source: io::Error| OpenError::Work { path: path.into(), source };
    if std::fs::symlink_metadata(path).is_err() {
        std::fs::create_dir(path).map_err(fail)?;
    }
    let held = lock(path)?;
    let base = raw::open_dir_at(&held.0, b".").map_err(|errno| fail(errno.into()))?;
    let dev = |fd: &OwnedFd| raw::stat_at(fd, b"").map(|stat| raw::dev_of(&stat)).map_err(|errno| fail(errno.into()));
    if dev(&base)? != dev(&layer.root)? {
        return Err(OpenError::WorkElsewhere { work: path.into(), branch: layer.path.clone() });
    }
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
    // A rename from the work folder is what everything rests on: two mounts of one filesystem have one device and no renames.
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

pub(crate) fn open_aufs_work(layer: &Layer) -> Opened<Work> {
    let fail = |errno: Errno| match errno {
        Errno::ROFS => OpenError::ReadOnlyFilesystem { path: layer.path.clone() },
        errno => OpenError::Branch { path: layer.path.clone(), source: errno.into() },
    };
    let held = lock(&layer.path)?;
    match fs::mknodat(&*layer.root, aufs::BASE, FileType::RegularFile, Mode::from_raw_mode(0o444), 0) {
        Ok(()) => crate::copyup::set_mode(&layer.root, aufs::BASE, 0o444).map_err(fail)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(fail(errno)),
    }
    let name = |bytes: &'static [u8]| std::str::from_utf8(bytes).unwrap_or_default();
    let plink = scratch(&layer.root, name(aufs::PLINK), &layer.path, Switch::Off)?;
    let orphans = scratch(&layer.root, name(aufs::ORPHANS), &layer.path, Switch::On)?;
    let mut work = Work::new(orphans, Some(plink), held);
    work.can = try_out(&work.dir).map_err(fail)?;
    Ok(work)
}

/// Tries in the work folder what its filesystem can do.
fn try_out(dir: &Arc<OwnedFd>) -> Result<Abilities, Errno> {
    let file = |name: &str| fs::mknodat(&**dir, name, FileType::RegularFile, Mode::RUSR, 0);
    let mut can = Abilities::default();
    let (a, b) = ("#try-a", "#try-b");
    file(a)?;
    file(b)?;
    can.exchange = fs::renameat_with(&**dir, a, &**dir, b, RenameFlags::EXCHANGE).is_ok();
    can.rename_whiteout = fs::renameat_with(&**dir, a, &**dir, b, RenameFlags::WHITEOUT).is_ok()
        && raw::find_at(&**dir, a.as_bytes())?.is_some_and(|stat| raw::is_device_zero(&stat));
    for name in [a, b] {
        match fs::unlinkat(&**dir, name, fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    can.device_whiteouts = fs::mknodat(&**dir, a, FileType::CharacterDevice, Mode::empty(), 0).is_ok();
    if can.device_whiteouts {
        fs::unlinkat(&**dir, a, fs::AtFlags::empty())?;
    }
    can.commits_in_order = strata_sys::fs::commits_in_order(dir);
    Ok(can)
}

/// Checks that the index is of this branch over this lower one, by the marks that the kernel's `index=on` makes and asks for:
/// the origin of the writable branch's root, and the `upper` of the index. Makes them if there are none.
fn settle_origin(layers: &Layers, dialect: Dialect, options: &mut Options) {
    let (Dialect::Overlay { xattrs }, Some(work)) = (dialect, &layers.work) else { return };
    let (Some(index), [upper, lower, ..]) = (&work.index, &layers.list[..]) else { return };
    // The program fuse-overlayfs takes an origin for a path. Handles name their filesystem and inode: those of others match nothing.
    if options.index == Switch::Off || options.mixed_marks == Switch::On {
        return;
    }
    let keys = xattrs.keys();
    let settled = |dir: &OwnedFd, key: &[u8], wanted: Option<Vec<u8>>| -> bool {
        let Some(wanted) = wanted else { return false };
        match raw::xattr_at(dir, b"", key) {
            Ok(Some(found)) => found == wanted,
            Ok(None) => raw::set_xattr_at(dir, b"", key, &wanted, XattrFlags::CREATE).is_ok(),
            Err(_) => false,
        }
    };
    // The kernel says in the head of the handle that it is of an upper directory.
    let of_upper = origin_of(upper, &upper.root, b"").map(|mut bytes| {
        bytes[3] |= 4;
        bytes
    });
    if !settled(&upper.root, keys.origin, origin_of(lower, &lower.root, b"")) || !settled(index, keys.upper, of_upper) {
        tracing::warn!(branch = %upper.path.display(), "work/index is of other branches: hard links are not kept together");
        options.index = Switch::Off;
    }
}
