//! The union: what can be done with it.

use std::{
    ffi::{OsStr, OsString},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use crate::{config::*, types::*};

/// Called with what the front must drop from its caches, from whichever thread noticed it.
pub type Notifier = Box<dyn Fn(Invalidation) + Send + Sync>;

/// An open file. Reads see what is written after a copy-up, whoever writes it.
pub struct Handle {
    fd: Arc<OwnedFd>,
}

impl Handle {
    /// Returns the descriptor of the file in its branch as it is now: after a copy-up, of the copy.
    /// For `pread`, `pwrite` and passthrough; keep it no longer than that.
    pub fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// The node it is open on.
    pub fn node(&self) -> NodeId {
        NodeId::ROOT
    }

    /// Whether the file lies in the writable branch, so that its descriptor will not change any more: fit for passthrough.
    pub fn is_settled(&self) -> bool {
        false
    }
}

/// An open directory: its listing as of `open_dir`, or of the last read from offset 0.
pub struct DirHandle {}

/// A merged view of branches.
pub struct Union {}

impl Union {
    /// Opens the branches, settles what a killed union left in the work folder, and tries what the filesystem can do.
    pub fn open(config: Config) -> std::result::Result<Self, OpenError> {
        if config.branches.is_empty() { Err(OpenError::NoBranches) } else { Ok(Self {}) }
    }

    /// Sets who is told of invalidations; before that they are dropped.
    pub fn set_notifier(&self, _notify: Notifier) {}

    /// Finds `name` in `parent`; `ENOENT` if it is not there, `EIO` if marks contradict each other. Counts one lookup.
    pub fn lookup(&self, _parent: NodeId, _name: &OsStr) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// Gives back `count` lookups of `node`.
    pub fn forget(&self, _node: NodeId, _count: u64) {}

    /// Returns a node's attributes; `handle`, one open on it, serves when it has no name any more.
    pub fn attr(&self, _node: NodeId, _handle: Option<&Handle>) -> Result<Attr> {
        Err(Errno::NOSYS)
    }

    /// Changes attributes, copying up first.
    pub fn set_attr(&self, _node: NodeId, _handle: Option<&Handle>, _change: &SetAttr) -> Result<Attr> {
        Err(Errno::NOSYS)
    }

    /// Returns the text of a symbolic link.
    pub fn read_link(&self, _node: NodeId) -> Result<OsString> {
        Err(Errno::NOSYS)
    }

    /// Opens a regular file. For writing it is copied up first; with `TRUNC`, without its data.
    pub fn open_file(&self, _node: NodeId, _flags: OFlags) -> Result<Arc<Handle>> {
        Err(Errno::NOSYS)
    }

    /// Makes a regular file and opens it; `EEXIST` if the name is there. `mode` is permission bits.
    pub fn create(
        &self,
        _parent: NodeId,
        _name: &OsStr,
        _mode: u32,
        _flags: OFlags,
        _caller: &Caller,
    ) -> Result<(Entry, Arc<Handle>)> {
        Err(Errno::NOSYS)
    }

    /// Makes a file, FIFO, socket or device. `mode` has the type's bits; `rdev` is as `stat(2)` has it.
    pub fn mknod(&self, _parent: NodeId, _name: &OsStr, _mode: u32, _rdev: u64, _caller: &Caller) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// Makes a directory.
    pub fn mkdir(&self, _parent: NodeId, _name: &OsStr, _mode: u32, _caller: &Caller) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, _parent: NodeId, _name: &OsStr, _target: &OsStr, _caller: &Caller) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// Gives `node` a further name.
    pub fn link(&self, _node: NodeId, _parent: NodeId, _name: &OsStr) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// Removes a name of anything but a directory.
    pub fn unlink(&self, _parent: NodeId, _name: &OsStr) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, _parent: NodeId, _name: &OsStr) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Renames, by the rules of `renameat2(2)` with `NOREPLACE` or `EXCHANGE`.
    pub fn rename(
        &self,
        _parent: NodeId,
        _name: &OsStr,
        _new_parent: NodeId,
        _new_name: &OsStr,
        _flags: RenameFlags,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Makes a file without a name (`O_TMPFILE`), which `link` can give one.
    pub fn tmpfile(
        &self,
        _parent: NodeId,
        _mode: u32,
        _flags: OFlags,
        _caller: &Caller,
    ) -> Result<(Entry, Arc<Handle>)> {
        Err(Errno::NOSYS)
    }

    /// Reads at `offset`; fewer bytes than asked at the end of the file alone.
    pub fn read(&self, _handle: &Handle, _offset: u64, _buffer: &mut [u8]) -> Result<usize> {
        Err(Errno::NOSYS)
    }

    /// Writes at `offset`.
    pub fn write(&self, _handle: &Handle, _offset: u64, _data: &[u8], _privileges: Privileges) -> Result<usize> {
        Err(Errno::NOSYS)
    }

    /// What `close(2)` of one descriptor reports.
    pub fn flush(&self, _handle: &Handle) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Writes a file to disk; nothing to do if volatile.
    pub fn fsync(&self, _handle: &Handle, _scope: SyncScope) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// `fallocate(2)`; `mode` is its flags.
    pub fn fallocate(&self, _handle: &Handle, _mode: u32, _offset: u64, _len: u64) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Finds data or holes: `whence` is `SEEK_DATA` or `SEEK_HOLE`.
    pub fn lseek(&self, _handle: &Handle, _offset: u64, _whence: u32) -> Result<u64> {
        Err(Errno::NOSYS)
    }

    /// Copies between two open files below the union.
    pub fn copy_file_range(
        &self,
        _from: &Handle,
        _from_offset: u64,
        _to: &Handle,
        _to_offset: u64,
        _len: usize,
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }

    /// Room on the writable branch.
    pub fn statfs(&self) -> Result<StatFs> {
        Err(Errno::NOSYS)
    }

    /// Writes all of the writable branch to disk.
    pub fn sync(&self) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Opens a directory for reading.
    pub fn open_dir(&self, _node: NodeId) -> Result<Arc<DirHandle>> {
        Err(Errno::NOSYS)
    }

    /// Gives the entries after `offset` (0: from the start, and afresh) to `fill`, `.` and `..` not among them.
    pub fn read_dir(&self, _dir: &DirHandle, _offset: u64, _fill: &mut dyn FnMut(&DirEntry) -> Fill) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// As [`Union::read_dir`], and looks each name up: an entry taken counts as one lookup.
    pub fn read_dir_plus(
        &self,
        _dir: &DirHandle,
        _offset: u64,
        _fill: &mut dyn FnMut(&DirEntry, &Entry) -> Fill,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Writes a directory's names to disk.
    pub fn fsync_dir(&self, _node: NodeId) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Returns the node of a directory's parent; the root's is the root.
    pub fn parent(&self, _node: NodeId) -> Result<NodeId> {
        Err(Errno::NOSYS)
    }

    /// Returns an extended attribute; `ENODATA` if there is none. Marks are not seen.
    pub fn get_xattr(&self, _node: NodeId, _name: &OsStr) -> Result<Vec<u8>> {
        Err(Errno::NOSYS)
    }

    /// Returns the names of the extended attributes, without marks.
    pub fn list_xattr(&self, _node: NodeId) -> Result<Vec<OsString>> {
        Err(Errno::NOSYS)
    }

    /// Sets an extended attribute, copying up first.
    pub fn set_xattr(&self, _node: NodeId, _name: &OsStr, _value: &[u8], _flags: XattrFlags) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Removes an extended attribute, copying up first; `ENODATA` if there is none.
    pub fn remove_xattr(&self, _node: NodeId, _name: &OsStr) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Whether `caller` may (`mask`: 4 read, 2 write, 1 execute), by permission bits alone; `EACCES` if not.
    /// For fronts where the kernel does not check.
    pub fn access(&self, _node: NodeId, _caller: &Caller, _mask: u32) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Returns the branches from the topmost down.
    pub fn branches(&self) -> Vec<Branch> {
        Vec::new()
    }

    /// Puts a branch in at `index` (0 is the top; past the end means the bottom). AUFS dialect alone.
    /// The notifier hears of every known name that shows something else now.
    pub fn add_branch(&self, _index: usize, _branch: Branch) -> std::result::Result<(), OpenError> {
        Err(OpenError::Fixed)
    }

    /// Takes a branch out; [`OpenError::Busy`] if files of it are open. AUFS dialect alone.
    pub fn remove_branch(&self, _path: &Path) -> std::result::Result<(), OpenError> {
        Err(OpenError::Fixed)
    }

    /// Changes what may be done in a branch. AUFS dialect alone.
    pub fn set_access(&self, _path: &Path, _access: Access) -> std::result::Result<(), OpenError> {
        Err(OpenError::Fixed)
    }
}
