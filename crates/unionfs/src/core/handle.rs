//! Open files: reading and writing.

use std::{
    cell::RefCell,
    io::IoSliceMut,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::{
    fs::{self, FallocateFlags, Mode},
    io::{ReadWriteFlags, preadv2},
};
use strata_sys::tree::Kind;

use crate::{
    Union,
    config::Durability,
    core::attr::CAPABILITY,
    core::branch::Branches,
    core::copy_up::{Data, Raised},
    core::nodes::{Index, Node, id_of, index_of},
    core::raw,
    types::*,
};

/// The state that all handles of a node share.
#[derive(Debug, Default)]
pub(crate) struct FileState {
    /// Incremented when the node's data moves to another file.
    epoch: AtomicU32,
    /// The file that the data has moved to; for a node without a name, its file.
    real: Mutex<Option<Arc<OwnedFd>>>,
}

impl FileState {
    pub fn real(&self) -> Option<Arc<OwnedFd>> {
        self.real.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Directs all handles to `file`.
    pub fn moved(&self, file: Arc<OwnedFd>) {
        *self.real.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// Keeps the file of a node that loses its last name.
    pub fn keep(&self, file: OwnedFd) {
        self.real.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| Arc::new(file));
    }
}

/// An open file. After a copy-up it reads the copy.
#[derive(Debug)]
pub struct Handle {
    node: NodeId,
    /// `CREATE` is set if the handle created the file without set-ID bits.
    flags: OFlags,
    state: Arc<FileState>,
    /// The epoch of the file and the file; `None` until first needed, see [`Union::open_kept`].
    current: RwLock<Option<(u32, Arc<OwnedFd>)>>,
    in_writer: bool,
}

/// Takes the whole content of a file to serve its readers; returns `false` if it does not.
pub type Keep<'a> = &'a dyn Fn(&[u8]) -> bool;

/// Largest file that a [`Keep`] gets, in bytes.
pub(crate) const KEPT_SIZE: u64 = 64 << 10;

impl Handle {
    fn current(&self) -> Option<(u32, Arc<OwnedFd>)> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_current(&self, epoch: u32, fd: OwnedFd) -> Arc<OwnedFd> {
        let fd = Arc::new(fd);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some((epoch, Arc::clone(&fd)));
        fd
    }

    /// Whether the handle holds a descriptor.
    pub fn is_open(&self) -> bool {
        self.current.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Returns the node of the file.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Whether the file lies in the writable branch. Its descriptor then stays the same, which passthrough requires.
    pub fn is_settled(&self) -> bool {
        self.in_writer || self.state.epoch.load(Ordering::Acquire) > 0
    }

    pub(crate) fn may_write(&self) -> bool {
        self.flags.intersects(OFlags::WRONLY | OFlags::RDWR)
    }
}

impl Union {
    /// Opens a regular file. Opening for writing copies it up first, with `TRUNC` without its data.
    pub fn open_file(&self, node: NodeId, flags: OFlags) -> Result<Arc<Handle>> {
        let index = index_of(node)?;
        let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC);
        match self.nodes().peek(index)?.kind {
            Kind::File => {}
            Kind::Dir => return Err(Errno::ISDIR),
            Kind::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NXIO),
        }
        if writes {
            let data = match flags {
                flags if flags.contains(OFlags::TRUNC) => Data::First(0),
                flags if flags.contains(OFlags::APPEND) => Data::Append,
                _ => Data::All,
            };
            if self.ensure_upper(index, data)? == Raised::There {
                self.complete_data(index, data)?;
            }
        }
        let ns = self.look();
        let mut node = self.known(index)?;
        let access = flags & (OFlags::RWMODE | OFlags::TRUNC | OFlags::DIRECT);
        let fd = if writes {
            let spot = self.spot(&ns, index, &node)?;
            match spot.open(access) {
                // The file is append-only.
                Err(Errno::PERM) if flags.contains(OFlags::APPEND) => spot.open(access | OFlags::APPEND)?,
                result => result?,
            }
        } else {
            self.open_to_read(&ns, index, &mut node, access)?
        };
        Ok(self.handle(&ns, index, &node, Some(fd), flags))
    }

    /// As [`Union::open_file`], and passes the content of a small, constant file that nobody has open to `keep`. Later opens use no
    /// descriptor until a reader misses what `keep` has dropped.
    ///
    /// A front that uses this for one reader must use it for all: nobody may read while `keep` runs. `keep` runs under locks: it
    /// must not call the union, or wait for a thread that does.
    pub fn open_kept(&self, node: NodeId, flags: OFlags, keep: Keep<'_>) -> Result<Arc<Handle>> {
        if flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC) {
            return self.open_file(node, flags);
        }
        let index = index_of(node)?;
        // A second opener waits here, so that its reads follow the transfer.
        let _one = self.keeping[index as usize % self.keeping.len()].lock().unwrap_or_else(PoisonError::into_inner);
        let ns = self.look();
        let mut known = self.known(index)?;
        let fixed = known.kind == Kind::File && known.link.is_some() && ns.is_read_only(known.top);
        if !fixed || flags.contains(OFlags::DIRECT) {
            drop(ns);
            return self.open_file(node, flags);
        }
        if self.ahead.is_active() {
            self.tell_ahead(&known, false);
        }
        if known.kept {
            return Ok(self.handle(&ns, index, &known, None, flags));
        }
        let fd = self.open_to_read(&ns, index, &mut known, flags & OFlags::RWMODE)?;
        let is_open = self.nodes().open.get(&index).is_some_and(|state| state.strong_count() > 0);
        if is_open || !give(&fd, keep, || self.tell_ahead(&known, true)) {
            return Ok(self.handle(&ns, index, &known, Some(fd), flags));
        }
        self.nodes().edit(index)?.kept = true;
        Ok(self.handle(&ns, index, &known, None, flags))
    }

    /// Opens the file that holds a node's data. `node.top` becomes `u16::MAX` if a lower branch than the node's has it.
    fn open_to_read(&self, ns: &Branches, index: Index, node: &mut Node, access: OFlags) -> Result<OwnedFd> {
        let fd = self.spot(ns, index, node)?.open(access)?;
        if !self.is_metacopy(&fd)? {
            return Ok(fd);
        }
        let fd = self.metacopy_data(ns, index, node)?;
        // A later copy-up moves the data.
        node.top = u16::MAX;
        Ok(fd)
    }

    /// Returns a descriptor of an open file, after a copy-up of the copy, for one `pread`, `pwrite` or passthrough. Not to be called
    /// under the lock on names.
    pub(crate) fn fd(&self, handle: &Handle) -> Result<Arc<OwnedFd>> {
        let epoch = handle.state.epoch.load(Ordering::Acquire);
        let current = handle.current();
        if let Some((of, fd)) = &current
            && *of == epoch
        {
            return Ok(Arc::clone(fd));
        }
        let opened = match handle.state.real() {
            Some(real) => raw::reopen(&*real, handle.flags & OFlags::RWMODE),
            None => {
                let ns = self.look();
                let index = index_of(handle.node)?;
                let access = handle.flags & OFlags::RWMODE;
                self.known(index).and_then(|mut node| self.open_to_read(&ns, index, &mut node, access))
            }
        };
        match (opened, current) {
            (Ok(new), _) => Ok(handle.set_current(epoch, new)),
            (Err(errno), Some((_, fd))) => {
                tracing::error!(%errno, "cannot open a copied-up file again: its handles keep reading the lower file");
                Ok(fd)
            }
            (Err(errno), None) => Err(errno),
        }
    }

    /// Makes a handle of a node.
    pub(crate) fn handle(
        &self,
        ns: &Branches,
        index: Index,
        node: &Node,
        fd: Option<OwnedFd>,
        flags: OFlags,
    ) -> Arc<Handle> {
        let mut table = self.nodes();
        let state = table.open.get(&index).and_then(std::sync::Weak::upgrade).unwrap_or_else(|| {
            let state = Arc::new(FileState::default());
            table.open.insert(index, Arc::downgrade(&state));
            state
        });
        drop(table);
        let epoch = state.epoch.load(Ordering::Acquire);
        Arc::new(Handle {
            node: id_of(index),
            flags,
            state,
            current: RwLock::new(fd.map(|fd| (epoch, Arc::new(fd)))),
            in_writer: Some(node.top) == ns.writer,
        })
    }

    /// Whether writing must clear privileges of the file. Passthrough would not: the kernel leaves that to the server, and the
    /// filesystem below sees the server's rights.
    pub(crate) fn is_privileged(&self, handle: &Handle) -> bool {
        if handle.flags.contains(OFlags::CREATE) {
            return false;
        }
        let Ok(fd) = self.fd(handle) else { return true };
        let set_id = fs::fstat(&*fd).is_ok_and(|stat| stat.st_mode & 0o6000 != 0);
        let no_capability =
            index_of(handle.node).and_then(|index| self.known(index)).is_ok_and(|node| node.no_capability);
        set_id || !no_capability && matches!(strata_sys::xattr::get_of(&fd, CAPABILITY), Ok(Some(_)))
    }

    /// Reads at `offset`; returns fewer bytes than asked only at the end of the file.
    pub fn read(&self, handle: &Handle, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let fd = self.fd(handle)?;
        let mut done = 0;
        while done < buffer.len() {
            match rustix::io::pread(&*fd, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Writes at `offset`.
    pub fn write(&self, handle: &Handle, offset: u64, data: &[u8], privileges: Privileges) -> Result<usize> {
        if !handle.may_write() {
            return Err(Errno::BADF);
        }
        let fd = self.fd(handle)?;
        if privileges == Privileges::Clear {
            clear_privileges(&fd)?;
        }
        loop {
            match rustix::io::pwrite(&*fd, data, offset) {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// Reports what `close(2)` of a descriptor reports.
    pub fn flush(&self, handle: &Handle) -> Result<()> {
        // Closing a duplicate makes the filesystem below report its errors.
        rustix::io::dup(&*self.fd(handle)?).map(drop)
    }

    /// Writes a file to disk; does nothing if volatile.
    pub fn fsync(&self, handle: &Handle, scope: SyncScope) -> Result<()> {
        if self.options.durability == Durability::Volatile {
            return Ok(());
        }
        if !handle.is_settled() {
            return self.fsync_attributes(handle.node());
        }
        match scope {
            SyncScope::All => fs::fsync(&*self.fd(handle)?),
            SyncScope::Data => fs::fdatasync(&*self.fd(handle)?),
        }
    }

    /// `fallocate(2)`; `mode` is its flags.
    pub fn fallocate(&self, handle: &Handle, mode: u32, offset: u64, len: u64) -> Result<()> {
        if !handle.may_write() {
            return Err(Errno::BADF);
        }
        fs::fallocate(&*self.fd(handle)?, FallocateFlags::from_bits_retain(mode), offset, len)
    }

    /// Finds data or holes: `whence` is `SEEK_DATA` or `SEEK_HOLE`.
    pub fn lseek(&self, handle: &Handle, offset: u64, whence: u32) -> Result<u64> {
        let from = match whence {
            whence if whence == libc::SEEK_DATA as u32 => fs::SeekFrom::Data(offset),
            whence if whence == libc::SEEK_HOLE as u32 => fs::SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        fs::seek(&*self.fd(handle)?, from)
    }

    /// Copies between two open files without reading the data.
    pub fn copy_file_range(
        &self,
        from: &Handle,
        from_offset: u64,
        to: &Handle,
        to_offset: u64,
        len: usize,
    ) -> Result<usize> {
        if !to.may_write() {
            return Err(Errno::BADF);
        }
        let (mut source, mut target) = (from_offset, to_offset);
        fs::copy_file_range(&*self.fd(from)?, Some(&mut source), &*self.fd(to)?, Some(&mut target), len)
    }
}

/// Passes a small file to `keep` and returns its answer. Calls `missed` if the content is not in memory.
fn give(fd: &OwnedFd, keep: Keep<'_>, missed: impl FnOnce()) -> bool {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let size = match fs::fstat(fd) {
        Ok(stat) if u64::try_from(stat.st_size).is_ok_and(|size| size <= KEPT_SIZE) => stat.st_size as usize,
        _ => return false,
    };
    BUFFER.with_borrow_mut(|buffer| {
        // One byte more, to detect a file that has grown.
        buffer.resize(size + 1, 0);
        let at_once = preadv2(fd, &mut [IoSliceMut::new(buffer)], 0, ReadWriteFlags::NOWAIT);
        if at_once == Err(Errno::AGAIN) || at_once.is_ok_and(|read| read < size) {
            missed();
        }
        let is_whole = at_once == Ok(size) || rustix::io::pread(fd, &mut buffer[..], 0) == Ok(size);
        size == 0 || is_whole && keep(&buffer[..size])
    })
}

/// Clears set-user-ID, and set-group-ID if the group may execute the file.
pub(crate) fn clear_privileges(fd: &OwnedFd) -> Result<()> {
    let mode = fs::fstat(fd)?.st_mode & 0o7777;
    let clear = without_privileges(mode);
    if clear == mode { Ok(()) } else { fs::fchmod(fd, Mode::from_raw_mode(clear)) }
}

pub(crate) fn without_privileges(mode: u32) -> u32 {
    let group = if mode & 0o010 != 0 { 0o2000 } else { 0 };
    mode & !(0o4000 | group)
}
