//! Opening a union: its branches, its work directory, and the abilities of their filesystems.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use rustix::fs::{self, FileType, FlockOperation, Mode, RenameFlags};
use strata_sys::tree::{Dir, Kind};

use crate::{
    Union,
    config::*,
    core::acl,
    core::branch::{Abilities, Branches, InUse, OpenBranch},
    core::nodes::Below,
    core::raw::{self, Statx},
    dialect::aufs,
    dialect::{
        aufs::open_aufs_work,
        overlay::{open_overlay_work, settle_origin},
    },
    types::{Errno, OFlags},
};

/// Most branches: their numbers have 16 bits, of which the highest values mean other things.
const MAX_BRANCHES: usize = 32_000;

/// How long to wait for a writable branch that another union holds.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) type Opened<T> = std::result::Result<T, OpenError>;

impl Union {
    /// Opens the branches, removes what a killed union left in the work directory, and tries out the filesystem.
    ///
    /// Writes nothing if no branch is [`Access::ReadWrite`]. Raises the process's limit on descriptors if the branches would use
    /// up most of it.
    pub fn open(config: Config) -> Opened<Self> {
        let Config { branches, dialect, work, mut options } = config;
        check_number(branches.len())?;
        let limit = strata_sys::union::allow_descriptors(5 * branches.len() as u64 + 2048).unwrap_or(1024);
        let mut list = Vec::with_capacity(branches.len());
        for branch in &branches {
            list.push(open_branch(branch, dialect)?);
        }
        let writer = branches.iter().position(|branch| branch.access == Access::ReadWrite);
        if let Dialect::Overlay { .. } = dialect
            && let Some(below) = branches.iter().skip(1).find(|branch| branch.access == Access::ReadWrite)
        {
            return Err(OpenError::WritableBelow { path: below.path.clone() });
        }
        let mut places: Vec<Place> = list.iter().map(|layer| Place::of(layer, dialect)).collect();
        let mut roots: Vec<Statx> = Vec::new();
        let mut opened_work = None;
        if let Some(writer) = writer {
            let layer = &mut list[writer];
            let new = match dialect {
                Dialect::Aufs => open_aufs_work(layer)?,
                Dialect::Overlay { xattrs } => {
                    let path = work.ok_or_else(|| OpenError::NoWork { path: layer.path.clone() })?;
                    let fail = |source| OpenError::Work { path: path.clone(), source };
                    if std::fs::symlink_metadata(&path).is_err() {
                        std::fs::create_dir(&path).map_err(fail)?;
                    }
                    places.push(Place { path: canonical(&path).map_err(fail)?, may_lie_in_lower: true });
                    check_overlap(&places)?;
                    let base = open_beside(layer, &path)?;
                    roots.push(raw::stat_at(&base, b"").map_err(|errno| fail(errno.into()))?);
                    open_overlay_work(layer, base, &path, xattrs, &mut options)?
                }
            };
            opened_work = Some(new);
        }
        check_overlap(&places)?;
        if list.iter().any(|layer| layer.uuid.is_none()) {
            options.index = Switch::Off;
        }
        for layer in list.iter().filter(|_| dialect != Dialect::Aufs) {
            let fail = |errno: Errno| OpenError::Branch { path: layer.path.clone(), source: errno.into() };
            roots.push(raw::stat_at(&*layer.root, b"").map_err(fail)?);
        }
        let layers = Branches {
            list: list.into_iter().map(Arc::new).collect(),
            writer: writer.map(|writer| writer as u16),
            work: opened_work.map(Arc::new),
            roots: roots.iter().map(|stat| (raw::dev_of(stat), stat.stx_ino)).collect(),
        };
        settle_origin(&layers, dialect, &mut options);
        let union = Self::new(layers, dialect, options);
        union.dirs.make_room(branches.len(), limit);
        union.add_root()?;
        Ok(union)
    }

    /// Adds the root node, with a part in each branch.
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
        let mut table = self.nodes();
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

/// The parts of the root.
pub(crate) fn root_stack(ns: &Branches, overlay: bool) -> Vec<Below> {
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

/// Opens a directory in a private copy of its mount, so that the union never enters a mount below it. One of those may be the
/// union's own, which would wait for itself.
///
/// A process without the right to mount gets the directory itself; it cannot mount the union either.
fn open_private(dir: &OwnedFd) -> io::Result<OwnedFd> {
    match strata_sys::mount::private_copy(dir) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            Ok(raw::open_dir_at(dir, b".")?)
        }
        result => result,
    }
}

/// Opens the work directory at `path`, and the writable branch anew, in one private copy: `rename` does not cross mounts.
fn open_beside(layer: &mut OpenBranch, path: &Path) -> Opened<OwnedFd> {
    let fail = |source: io::Error| OpenError::Work { path: path.into(), source };
    let fail_errno = |errno: Errno| fail(errno.into());
    let elsewhere = || OpenError::WorkElsewhere { work: path.into(), branch: layer.path.clone() };
    let work_path = canonical(path).map_err(fail)?;
    let shared = layer.path.components().zip(work_path.components()).take_while(|(one, other)| one == other);
    let common: PathBuf = shared.map(|(part, _)| part).collect();
    let dir = |path: &Path| {
        fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(fail_errno)
    };
    let (branch, work, common_dir) = (dir(&layer.path)?, dir(&work_path)?, dir(&common)?);
    let identity = |fd: &OwnedFd| {
        let stat = raw::stat_at(fd, b"").map_err(fail_errno)?;
        Ok::<_, OpenError>((raw::dev_of(&stat), stat.stx_ino))
    };
    if identity(&branch)?.0 != identity(&work)?.0 || raw::mount_of(&branch) != raw::mount_of(&work) {
        return Err(elsewhere());
    }
    let copy = match open_private(&common_dir) {
        Err(source) if source.raw_os_error() == Some(libc::EINVAL) => {
            return Err(OpenError::Locked { path: common, source });
        }
        result => result.map_err(fail)?,
    };
    let part = |full: &Path, was: &OwnedFd| {
        let rest = full.strip_prefix(&common).unwrap_or(full).as_os_str().as_bytes();
        let found = raw::open_dir_path(copy.as_fd(), rest).map_err(fail_errno)?;
        if identity(&found)? == identity(was)? { Ok(found) } else { Err(fail_errno(Errno::STALE)) }
    };
    let base = part(&work_path, &work)?;
    layer.root = Arc::new(part(&layer.path, &branch)?);
    Ok(base)
}

/// Opens a branch. Its path becomes absolute and free of symbolic links.
pub(crate) fn open_branch(branch: &Branch, dialect: Dialect) -> Opened<OpenBranch> {
    let fail = |source: io::Error| OpenError::Branch { path: branch.path.clone(), source };
    let path = canonical(&branch.path).map_err(fail)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = match fs::open(&path, flags, Mode::empty()) {
        Err(Errno::NOTDIR) => return Err(OpenError::NotADirectory { path: branch.path.clone() }),
        result => result.map_err(|errno| fail(errno.into()))?,
    };
    let root = match open_private(&readable) {
        Err(source) if source.raw_os_error() == Some(libc::EINVAL) => {
            return Err(OpenError::Locked { path: branch.path.clone(), source });
        }
        result => result.map_err(fail)?,
    };
    let attribute_whiteouts = match dialect {
        Dialect::Overlay { xattrs } => {
            let opaque = raw::xattr_at(&root, b"", xattrs.keys().opaque).map_err(|errno| fail(errno.into()))?;
            opaque.as_deref() == Some(b"x")
        }
        Dialect::Aufs => false,
    };
    Ok(OpenBranch {
        path,
        access: branch.access,
        root: Arc::new(root),
        readable: OnceLock::new(),
        uuid: strata_sys::union::filesystem_uuid(&readable).ok(),
        marks: dialect != Dialect::Aufs || branch.access != Access::ReadOnly,
        attribute_whiteouts,
    })
}

/// A branch or the work directory, by its path.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    path: PathBuf,
    /// True for the overlay dialect's writable branch and its work directory.
    may_lie_in_lower: bool,
}

impl Place {
    pub fn of(layer: &OpenBranch, dialect: Dialect) -> Self {
        let may_lie_in_lower = dialect != Dialect::Aufs && layer.access == Access::ReadWrite;
        Self { path: layer.path.clone(), may_lie_in_lower }
    }
}

/// Refuses a directory that is, or lies in, another one. As in the kernel's overlayfs, the writable branch and the work
/// directory may lie in a lower branch.
pub(crate) fn check_overlap(places: &[Place]) -> Opened<()> {
    let mut sorted: Vec<&Place> = places.iter().collect();
    // Paths sort by components: a directory directly precedes all that lies in it.
    sorted.sort();
    let mut around: Vec<&Place> = Vec::new();
    for inner in sorted {
        around.retain(|outer| inner.path.starts_with(&outer.path));
        if let Some(same) = around.iter().find(|outer| outer.path == inner.path) {
            return Err(OpenError::Twice { path: same.path.clone() });
        }
        if let Some(outer) = around.iter().find(|outer| !inner.may_lie_in_lower || outer.may_lie_in_lower) {
            return Err(OpenError::Overlap { inner: inner.path.clone(), outer: outer.path.clone() });
        }
        around.push(inner);
    }
    Ok(())
}

/// Locks a directory of the writable branch's filesystem against other unions.
pub(crate) fn lock(dir: &OwnedFd, path: &Path) -> Opened<InUse> {
    let file = raw::open_readable(dir).map_err(|errno| OpenError::Work { path: path.into(), source: errno.into() })?;
    // umount(8) returns before the process behind a mount has ended.
    let end = Instant::now() + PATIENCE;
    let locked = loop {
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            result => break result,
        }
    };
    match locked {
        Ok(()) => Ok(InUse(file)),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse { path: path.into() }),
        Err(errno) => Err(OpenError::Work { path: path.into(), source: errno.into() }),
    }
}

/// Makes and opens a directory in `base`, and empties it if it is to be `fresh`.
pub(crate) fn scratch(base: &OwnedFd, name: &str, path: &Path, fresh: Switch) -> Opened<OwnedFd> {
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
        // Objects made here must not inherit the lists of the directory that holds this one.
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

/// Tries out the filesystem in the work directory.
pub(crate) fn try_out(dir: &Arc<OwnedFd>) -> Result<Abilities, Errno> {
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
