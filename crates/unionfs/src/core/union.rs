//! The union: its locks, and the way from a node to its object in a branch.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::AtomicBool,
    },
};

use strata_sys::tree::Kind;

use crate::{
    cache::attributes::Listed,
    cache::descriptors::DirCache,
    cache::inode_numbers::Inos,
    cache::listings::Listings,
    cache::read_ahead::Ahead,
    config::*,
    core::branch::Branches,
    core::create::ParentDefaults,
    core::nodes::{Index, Node, Nodes, ROOT, Way, id_of, index_of},
    core::raw::{self, Statx},
    dialect::{Keys, aufs, check_name, mixed},
    types::*,
};

/// Receives what the front must drop from its caches, on the thread that noticed it.
pub type Notifier = Box<dyn Fn(Invalidation) + Send + Sync>;

/// Opening a directory far below the nearest cached descriptor caches one every so many levels, which keeps a walk up through a
/// deep tree linear.
const STRIDE: usize = 32;

/// Number of locks over which concurrent copy-ups are spread.
const STRIPES: usize = 64;

/// A merged view of branches.
///
/// One lock guards names: changes hold it exclusively, reads hold it shared. Copying a file's data does not hold it.
pub struct Union {
    /// The branches, and the lock on names. A thread takes it once, before `nodes`.
    pub(crate) ns: RwLock<Branches>,
    /// No system call runs under this lock.
    pub(crate) nodes: Mutex<Nodes>,
    pub(crate) dirs: DirCache,
    pub(crate) inos: Inos,
    pub(crate) listings: Listings,
    pub(crate) listed: Listed,
    pub(crate) ahead: Ahead,
    pub(crate) dialect: Dialect,
    pub(crate) options: Options,
    /// Whether `work/index/` may have entries.
    pub(crate) indexed: AtomicBool,
    pub(crate) copying: [Mutex<()>; STRIPES],
    /// Locks of opens that hand a file's content to a [`Keep`](crate::Keep). Taken before `ns`.
    pub(crate) keeping: [Mutex<()>; STRIPES],
    /// Defaults of the last parent directory. Set under the `ns` write lock, cleared under the read lock.
    pub(crate) parent_defaults: Mutex<Option<ParentDefaults>>,
    /// `st_dev` of the mount that shows this union. No branch may lie on it.
    pub(crate) own_device: OnceLock<u64>,
    notify: RwLock<Option<Notifier>>,
}

/// The location of a node's topmost object: `name` in `dir`, or `dir` itself if `name` is empty.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub dir: Arc<OwnedFd>,
    pub name: Arc<[u8]>,
}

impl Spot {
    pub fn of(fd: Arc<OwnedFd>) -> Self {
        Self { dir: fd, name: Arc::default() }
    }

    pub fn stat(&self) -> Result<Statx> {
        raw::stat_at(&*self.dir, &self.name)
    }

    pub fn open(&self, flags: OFlags) -> Result<OwnedFd> {
        if self.name.is_empty() { raw::reopen(&*self.dir, flags) } else { raw::open_at(&*self.dir, &self.name, flags) }
    }
}

impl Union {
    pub(crate) fn new(layers: Branches, dialect: Dialect, options: Options) -> Self {
        Self {
            ns: RwLock::new(layers),
            nodes: Mutex::default(),
            dirs: DirCache::default(),
            inos: Inos::default(),
            listings: Listings::default(),
            listed: Listed::default(),
            ahead: Ahead::default(),
            dialect,
            options,
            indexed: AtomicBool::new(false),
            copying: [const { Mutex::new(()) }; STRIPES],
            keeping: [const { Mutex::new(()) }; STRIPES],
            parent_defaults: Mutex::default(),
            own_device: OnceLock::new(),
            notify: RwLock::new(None),
        }
    }

    pub(crate) fn look(&self) -> RwLockReadGuard<'_, Branches> {
        self.ns.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> RwLockWriteGuard<'_, Branches> {
        self.ns.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a copy of a node; `ESTALE` if the table has none.
    pub(crate) fn known(&self, index: Index) -> Result<Node> {
        self.nodes().get(index)
    }

    /// The names of the overlay dialect's attributes; `None` in the AUFS dialect.
    pub(crate) fn keys(&self) -> Option<&'static Keys> {
        match self.dialect {
            Dialect::Overlay { xattrs } => Some(xattrs.keys()),
            Dialect::Aufs => None,
        }
    }

    /// Whether the marks of others count beside the overlay dialect's.
    pub(crate) fn is_mixed(&self) -> bool {
        self.options.mixed_marks == Switch::On && self.keys().is_some()
    }

    /// The name under which the union shows a branch's attribute; `None` for a mark.
    pub(crate) fn shown_attribute(&self, name: &[u8]) -> Option<Vec<u8>> {
        match self.keys() {
            Some(keys) => keys.unescape(name).filter(|_| !self.is_mixed() || !mixed::is_mark(name)),
            None => Some(name.to_vec()),
        }
    }

    /// Checks a name from a request.
    pub(crate) fn check_name(&self, name: &[u8]) -> Result<()> {
        check_name(self.dialect, name)?;
        if self.is_mixed() && name.starts_with(aufs::PREFIX) { Err(Errno::INVAL) } else { Ok(()) }
    }

    /// Sets the receiver of invalidations, which must not call the union. Earlier ones are lost.
    pub fn set_notifier(&self, notify: Notifier) {
        *self.notify.write().unwrap_or_else(PoisonError::into_inner) = Some(notify);
    }

    /// Sets the device number of the mount that shows this union, once.
    pub(crate) fn set_own_device(&self, device: u64) {
        _ = self.own_device.set(device);
    }

    pub(crate) fn tell(&self, what: Invalidation) {
        if let Some(notify) = &*self.notify.read().unwrap_or_else(PoisonError::into_inner) {
            notify(what);
        }
    }

    /// Returns the number of nodes in the table.
    pub fn known_nodes(&self) -> usize {
        self.nodes().len()
    }

    /// Returns the branches from the topmost down.
    pub fn branches(&self) -> Vec<Branch> {
        self.look().branches()
    }

    /// Returns the options in force: those that the filesystem cannot support are off.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Opens (`O_PATH`) a directory's part in one branch.
    pub(crate) fn dir_fd(&self, ns: &Branches, index: Index, node: &Node, layer: u16) -> Result<Arc<OwnedFd>> {
        let branch = ns.get(layer)?;
        if index == ROOT {
            return Ok(Arc::clone(&branch.root));
        }
        let key = (index, node.generation, layer);
        if let Some(fd) = self.dirs.get(key) {
            return Ok(fd);
        }
        let Way { base, at, steps } = self.nodes().way(index, layer, |key| self.dirs.get(key))?;
        let mut fd = base.unwrap_or_else(|| Arc::clone(&branch.root));
        let mut path = at;
        for (number, step) in steps.iter().enumerate() {
            if !path.is_empty() && !step.name.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&step.name);
            let is_last = number + 1 == steps.len();
            if !is_last && number % STRIDE != 0 {
                continue;
            }
            fd = match raw::open_dir_path(fd.as_fd(), &path) {
                Ok(fd) => Arc::new(fd),
                Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)) => {
                    tracing::warn!(branch = %branch.path.display(), path = %OsStr::from_bytes(&path).display(), %errno,
                        "a directory is gone from under the union");
                    return Err(Errno::STALE);
                }
                Err(errno) => return Err(errno),
            };
            path.clear();
            self.dirs.put(step.key, Arc::clone(&fd));
        }
        Ok(fd)
    }

    /// Locates the topmost object of a node.
    pub(crate) fn spot(&self, ns: &Branches, index: Index, node: &Node) -> Result<Spot> {
        let Some(link) = &node.link else {
            if index == ROOT {
                return Ok(Spot::of(Arc::clone(&ns.get(node.top)?.root)));
            }
            let table = self.nodes();
            let open = table.open.get(&index).and_then(std::sync::Weak::upgrade).and_then(|state| state.real());
            let fd = open.or_else(|| table.nameless.get(&index).cloned());
            return fd.map(Spot::of).ok_or(Errno::STALE);
        };
        if let Some(name) = &node.shared {
            let (_, work) = ns.writable()?;
            let dir = work.index.as_ref().ok_or(Errno::STALE)?;
            return Ok(Spot { dir: Arc::clone(dir), name: Arc::clone(name) });
        }
        if let Some(stack) = &node.stack {
            let key = (index, node.generation, node.top);
            if let Some(fd) = self.dirs.get(key) {
                return Ok(Spot::of(fd));
            }
            if stack.first().is_none_or(|below| below.at.is_some()) {
                return Ok(Spot::of(self.dir_fd(ns, index, node, node.top)?));
            }
        }
        let parent = self.known(link.parent)?;
        let dir = self.dir_fd(ns, link.parent, &parent, node.top)?;
        Ok(Spot { dir, name: Arc::clone(&link.name) })
    }

    /// Returns the attributes of a node's topmost object; `ESTALE` if its name now leads to another object.
    pub(crate) fn stat_node(&self, ns: &Branches, index: Index, node: &Node) -> Result<Statx> {
        let mut stat = match self.spot(ns, index, node)?.stat() {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(Errno::STALE),
            result => result?,
        };
        if self.inos.real(&stat)? != node.real || raw::kind_of(&stat) != node.kind {
            return Err(Errno::STALE);
        }
        self.show_room(ns, index, node, &mut stat);
        Ok(stat)
    }

    pub(crate) fn attr_of(&self, node: &Node, stat: &Statx) -> Attr {
        let nlink = match (&node.stack, &node.shared) {
            (Some(stack), _) if stack.len() > 1 => 1,
            (None, Some(name)) => {
                let delta = self.nodes().shared.get(name).map_or(0, |shared| shared.delta);
                u32::try_from(i64::from(stat.stx_nlink) + delta).unwrap_or(0)
            }
            _ => stat.stx_nlink,
        };
        Attr {
            ino: node.ino,
            kind: node.kind,
            mode: u32::from(stat.stx_mode) & 0o7777,
            nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            block_size: stat.stx_blksize,
            rdev_major: stat.stx_rdev_major,
            rdev_minor: stat.stx_rdev_minor,
            accessed: raw::time_of(&stat.stx_atime),
            modified: raw::time_of(&stat.stx_mtime),
            changed: raw::time_of(&stat.stx_ctime),
            born: (stat.stx_mask & rustix::fs::StatxFlags::BTIME.bits() != 0).then(|| raw::time_of(&stat.stx_btime)),
        }
    }

    pub(crate) fn entry_of(&self, ns: &Branches, index: Index, node: &Node, stat: &Statx) -> Entry {
        Entry {
            node: id_of(index),
            generation: u64::from(node.generation),
            attr: self.attr_of(node, stat),
            cache: if ns.is_ours(node.top) { Cache::Long } else { Cache::Short },
        }
    }

    /// Returns a node's attributes. `handle`, an open file of the node, finds them when it has no name left.
    pub fn attr(&self, node: NodeId, handle: Option<&crate::Handle>) -> Result<Attr> {
        let ns = self.look();
        self.attr_in(&ns, index_of(node)?, handle)
    }

    pub(crate) fn attr_in(&self, ns: &Branches, index: Index, handle: Option<&crate::Handle>) -> Result<Attr> {
        let node = self.known(index)?;
        if node.link.is_none() && index != ROOT {
            let stat = match handle {
                Some(handle) if handle.is_open() => raw::stat_at(&*self.fd(handle)?, b"")?,
                _ => self.spot(ns, index, &node)?.stat()?,
            };
            let mut attr = self.attr_of(&node, &stat);
            if node.kind == Kind::Dir || node.shared.is_none() && Some(node.top) != ns.writer {
                attr.nlink = 0;
            }
            return Ok(attr);
        }
        if let Some(attr) = self.listed.get(index, &node) {
            return Ok(attr);
        }
        let stat = self.stat_node(ns, index, &node).inspect_err(|errno| {
            if *errno == Errno::STALE {
                self.tell(Invalidation::Node(id_of(index)));
            }
        })?;
        Ok(self.attr_of(&node, &stat))
    }

    /// Returns `count` lookups of `node`.
    pub fn forget(&self, node: NodeId, count: u64) {
        let Ok(index) = index_of(node) else { return };
        let released = {
            let mut table = self.nodes();
            table.forget(index, count);
            std::mem::take(&mut table.released)
        };
        // The last close of a removed file frees its blocks, which takes time.
        drop(released);
    }

    /// Returns the text of a symbolic link.
    pub fn read_link(&self, node: NodeId) -> Result<OsString> {
        let ns = self.look();
        let index = index_of(node)?;
        let node = self.known(index)?;
        if node.kind != Kind::Symlink {
            return Err(Errno::INVAL);
        }
        let spot = self.spot(&ns, index, &node)?;
        let target = rustix::fs::readlinkat(&*spot.dir, &*spot.name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Returns the node of a directory's parent; the root's is the root.
    pub fn parent(&self, node: NodeId) -> Result<NodeId> {
        let index = index_of(node)?;
        let node = self.known(index)?;
        node.dir()?;
        match node.link {
            Some(link) => Ok(id_of(link.parent)),
            None if index == ROOT => Ok(NodeId::ROOT),
            None => Err(Errno::STALE),
        }
    }

    /// Returns the room on the writable branch's filesystem.
    pub fn statfs(&self) -> Result<StatFs> {
        let ns = self.look();
        let layer = ns.get(ns.writer.unwrap_or(0))?;
        let stat = rustix::fs::fstatvfs(&*layer.root)?;
        let limit = if self.dialect == Dialect::Aufs { crate::dialect::aufs::NAME_MAX as u64 } else { 255 };
        Ok(StatFs {
            blocks: stat.f_blocks,
            blocks_free: stat.f_bfree,
            blocks_available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
            block_size: stat.f_bsize as u32,
            fragment_size: stat.f_frsize as u32,
            name_max: stat.f_namemax.min(limit) as u32,
        })
    }

    /// Writes the writable branch's filesystem to disk; does nothing if volatile.
    pub fn sync(&self) -> Result<()> {
        let ns = self.look();
        let Ok((writer, _)) = ns.writable() else { return Ok(()) };
        if self.options.durability == Durability::Volatile {
            return Ok(());
        }
        let root = raw::open_readable(&*ns.get(writer)?.root)?;
        rustix::fs::syncfs(root)
    }

    /// Checks permission bits alone: `EACCES` if `caller` lacks one of `mask` (4 read, 2 write, 1 execute). For fronts whose kernel
    /// does not check.
    pub fn access(&self, node: NodeId, caller: &Caller, mask: u32) -> Result<()> {
        let attr = self.attr(node, None)?;
        if caller.uid == 0 {
            let executable = mask & 1 == 0 || attr.kind == Kind::Dir || attr.mode & 0o111 != 0;
            return if executable { Ok(()) } else { Err(Errno::ACCESS) };
        }
        let bits = if caller.uid == attr.uid {
            attr.mode >> 6
        } else if caller.gid == attr.gid || caller.groups.contains(&attr.gid) {
            attr.mode >> 3
        } else {
            attr.mode
        };
        if mask & !bits & 7 == 0 { Ok(()) } else { Err(Errno::ACCESS) }
    }
}
