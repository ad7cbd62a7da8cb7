//! The union itself: what it holds, and how a node is found in its branches.

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
    ahead::Ahead,
    config::*,
    create::Folder,
    dirs::DirCache,
    inos::Inos,
    layer::Layers,
    listed::Listed,
    listing::Listings,
    marks::{Keys, aufs, check_name, mixed},
    raw::{self, Statx},
    table::{Index, Node, ROOT, Table, Way, id_of, index_of},
    types::*,
};

/// Called with what the front must drop from its caches, from whichever thread noticed it.
pub type Notifier = Box<dyn Fn(Invalidation) + Send + Sync>;

/// On the way to a directory far from any descriptor at hand, one is kept each so many levels. So the way up through a deep
/// tree costs no more than the way down.
const STRIDE: usize = 32;

/// Locks for copy-ups that run beside each other.
const STRIPES: usize = 64;

/// A merged view of branches.
///
/// Names change under one lock, which is not held while a file's data is copied up or moved; reading takes it shared.
pub struct Union {
    /// Locked for all work with names: shared to look, alone to change. Taken once by a thread, before the table.
    pub(crate) ns: RwLock<Layers>,
    /// Never held over a system call.
    pub(crate) table: Mutex<Table>,
    pub(crate) dirs: DirCache,
    pub(crate) inos: Inos,
    pub(crate) listings: Listings,
    pub(crate) listed: Listed,
    pub(crate) ahead: Ahead,
    pub(crate) dialect: Dialect,
    pub(crate) options: Options,
    /// Whether `work/index/` may hold something.
    pub(crate) indexed: AtomicBool,
    pub(crate) copying: [Mutex<()>; STRIPES],
    /// Locks of opens that give content away. Taken before `ns`.
    pub(crate) keeping: [Mutex<()>; STRIPES],
    /// Of the folder that something was made in last. Written under `ns` taken alone, dropped under it shared.
    pub(crate) folder: Mutex<Option<Folder>>,
    /// `st_dev` of the mount that shows this union: no branch of it may lie there.
    pub(crate) own_device: OnceLock<u64>,
    notify: RwLock<Option<Notifier>>,
}

/// Where the topmost object of a node is: `name` in `dir`, or `dir` itself if that is empty.
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
    pub(crate) fn new(layers: Layers, dialect: Dialect, options: Options) -> Self {
        Self {
            ns: RwLock::new(layers),
            table: Mutex::default(),
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
            folder: Mutex::default(),
            own_device: OnceLock::new(),
            notify: RwLock::new(None),
        }
    }

    pub(crate) fn look(&self) -> RwLockReadGuard<'_, Layers> {
        self.ns.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> RwLockWriteGuard<'_, Layers> {
        self.ns.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a copy of a node; `ESTALE` if it is not known.
    pub(crate) fn known(&self, index: Index) -> Result<Node> {
        self.table().get(index)
    }

    /// The overlay dialect's attributes; `None` in AUFS.
    pub(crate) fn keys(&self) -> Option<&'static Keys> {
        match self.dialect {
            Dialect::Overlay { xattrs } => Some(xattrs.keys()),
            Dialect::Aufs => None,
        }
    }

    /// Whether marks of other kinds count beside those of the overlay dialect.
    pub(crate) fn is_mixed(&self) -> bool {
        self.options.mixed_marks == Switch::On && self.keys().is_some()
    }

    /// What an attribute below is called above; `None` for a mark.
    pub(crate) fn shown_attribute(&self, name: &[u8]) -> Option<Vec<u8>> {
        match self.keys() {
            Some(keys) => keys.unescape(name).filter(|_| !self.is_mixed() || !mixed::is_mark(name)),
            None => Some(name.to_vec()),
        }
    }

    /// Checks a name that a user gave.
    pub(crate) fn check_name(&self, name: &[u8]) -> Result<()> {
        check_name(self.dialect, name)?;
        if self.is_mixed() && name.starts_with(aufs::PREFIX) { Err(Errno::INVAL) } else { Ok(()) }
    }

    /// Sets who is told of invalidations; before that they are dropped. It must not call the union.
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

    /// Number of nodes that are known.
    pub fn known_nodes(&self) -> usize {
        self.table().len()
    }

    /// Returns the branches from the topmost down.
    pub fn branches(&self) -> Vec<Branch> {
        self.look().branches()
    }

    /// The options that are in force: what the filesystem cannot do is off.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Opens the part of a directory in one branch, as a base of other calls.
    pub(crate) fn dir_fd(&self, ns: &Layers, index: Index, node: &Node, layer: u16) -> Result<Arc<OwnedFd>> {
        let branch = ns.get(layer)?;
        if index == ROOT {
            return Ok(Arc::clone(&branch.root));
        }
        let key = (index, node.generation, layer);
        if let Some(fd) = self.dirs.get(key) {
            return Ok(fd);
        }
        let Way { base, at, steps } = self.table().way(index, layer, |key| self.dirs.get(key))?;
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

    /// Finds the topmost object of a node.
    pub(crate) fn spot(&self, ns: &Layers, index: Index, node: &Node) -> Result<Spot> {
        let Some(link) = &node.link else {
            if index == ROOT {
                return Ok(Spot::of(Arc::clone(&ns.get(node.top)?.root)));
            }
            let table = self.table();
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

    /// Asks the branch of a node's topmost object, and checks that it is the one that was found.
    pub(crate) fn stat_node(&self, ns: &Layers, index: Index, node: &Node) -> Result<Statx> {
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
                let delta = self.table().shared.get(name).map_or(0, |shared| shared.delta);
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

    pub(crate) fn entry_of(&self, ns: &Layers, index: Index, node: &Node, stat: &Statx) -> Entry {
        Entry {
            node: id_of(index),
            generation: u64::from(node.generation),
            attr: self.attr_of(node, stat),
            cache: if ns.is_ours(node.top) { Cache::Long } else { Cache::Short },
        }
    }

    /// Returns a node's attributes; `handle`, one open on it, serves when it has no name any more.
    pub fn attr(&self, node: NodeId, handle: Option<&crate::Handle>) -> Result<Attr> {
        let ns = self.look();
        self.attr_in(&ns, index_of(node)?, handle)
    }

    pub(crate) fn attr_in(&self, ns: &Layers, index: Index, handle: Option<&crate::Handle>) -> Result<Attr> {
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

    /// Gives back `count` lookups of `node`.
    pub fn forget(&self, node: NodeId, count: u64) {
        let Ok(index) = index_of(node) else { return };
        let released = {
            let mut table = self.table();
            table.forget(index, count);
            std::mem::take(&mut table.released)
        };
        // Closing what was the last name's file may take as long as removing it.
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

    /// Room on the writable branch.
    pub fn statfs(&self) -> Result<StatFs> {
        let ns = self.look();
        let layer = ns.get(ns.writer.unwrap_or(0))?;
        let stat = rustix::fs::fstatvfs(&*layer.root)?;
        let limit = if self.dialect == Dialect::Aufs { crate::marks::aufs::NAME_MAX as u64 } else { 255 };
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

    /// Writes all of the writable branch to disk; nothing to do if volatile.
    pub fn sync(&self) -> Result<()> {
        let ns = self.look();
        let Ok((writer, _)) = ns.writable() else { return Ok(()) };
        if self.options.durability == Durability::Volatile {
            return Ok(());
        }
        let root = raw::open_readable(&*ns.get(writer)?.root)?;
        rustix::fs::syncfs(root)
    }

    /// Whether `caller` may (`mask`: 4 read, 2 write, 1 execute), by permission bits alone; `EACCES` if not.
    /// For fronts where the kernel does not check.
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
