//! Open files: what reads and writes go to.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::fs::{self, FallocateFlags, Mode};
use strata_sys::tree::Kind;

use crate::{
    Union,
    config::Durability,
    copyup::Data,
    layer::Layers,
    raw,
    table::{Index, Node, id_of, index_of},
    types::*,
};

/// What all open handles of a node share.
#[derive(Debug, Default)]
pub(crate) struct FileState {
    /// Grows when the node's data moves to another file.
    epoch: AtomicU32,
    /// The file it has moved to; or, of a node without a name, the file that it is.
    real: Mutex<Option<Arc<OwnedFd>>>,
}

impl FileState {
    pub fn real(&self) -> Option<Arc<OwnedFd>> {
        self.real.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The node's data is in `file` from now on.
    pub fn moved(&self, file: Arc<OwnedFd>) {
        *self.real.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// The node is losing its last name; it stays this file.
    pub fn keep(&self, file: OwnedFd) {
        self.real.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| Arc::new(file));
    }
}

/// An open file. Reads see what is written after a copy-up, whoever writes it.
#[derive(Debug)]
pub struct Handle {
    node: NodeId,
    flags: OFlags,
    state: Arc<FileState>,
    /// The file, and the epoch that it is of.
    current: RwLock<(u32, Arc<OwnedFd>)>,
    in_writer: bool,
}

impl Handle {
    /// Returns the descriptor of the file in its branch as it is now: after a copy-up, of the copy.
    /// For `pread`, `pwrite` and passthrough; keep it no longer than that.
    pub fn fd(&self) -> Arc<OwnedFd> {
        let epoch = self.state.epoch.load(Ordering::Acquire);
        let (of, fd) = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            (current.0, Arc::clone(&current.1))
        };
        if of == epoch {
            return fd;
        }
        let Some(real) = self.state.real() else { return fd };
        match raw::reopen(&*real, self.flags & OFlags::RWMODE) {
            Ok(new) => {
                let new = Arc::new(new);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = (epoch, Arc::clone(&new));
                new
            }
            Err(errno) => {
                tracing::error!(%errno, "cannot open a copied-up file again: a handle goes on reading the lower file");
                fd
            }
        }
    }

    /// The node it is open on.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Whether the file lies in the writable branch, so that its descriptor will not change any more: fit for passthrough.
    pub fn is_settled(&self) -> bool {
        self.in_writer || self.state.epoch.load(Ordering::Acquire) > 0
    }

    pub(crate) fn may_write(&self) -> bool {
        self.flags.intersects(OFlags::WRONLY | OFlags::RDWR)
    }
}

impl Union {
    /// Opens a regular file. For writing it is copied up first; with `TRUNC`, without its data.
    pub fn open_file(&self, node: NodeId, flags: OFlags) -> Result<Arc<Handle>> {
        let index = index_of(node)?;
        let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC);
        match self.table().peek(index)?.kind {
            Kind::File => {}
            Kind::Dir => return Err(Errno::ISDIR),
            Kind::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NXIO),
        }
        if writes {
            let data = if flags.contains(OFlags::TRUNC) { Data::First(0) } else { Data::All };
            self.ensure_upper(index, data)?;
            self.complete_data(index, data)?;
        }
        let ns = self.look();
        let mut node = self.known(index)?;
        let access = flags & (OFlags::RWMODE | OFlags::TRUNC | OFlags::DIRECT);
        let mut fd = self.spot(&ns, index, &node)?.open(access)?;
        if !writes && self.is_metacopy(&fd)? {
            fd = self.metacopy_data(&ns, index, &node)?;
            // What is open lies in a branch below, and may move up yet.
            node.top = u16::MAX;
        }
        Ok(self.handle(&ns, index, &node, fd, flags))
    }

    /// Registers an open file of a node.
    pub(crate) fn handle(&self, ns: &Layers, index: Index, node: &Node, fd: OwnedFd, flags: OFlags) -> Arc<Handle> {
        let mut table = self.table();
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
            current: RwLock::new((epoch, Arc::new(fd))),
            in_writer: Some(node.top) == ns.writer,
        })
    }

    /// Reads at `offset`; fewer bytes than asked at the end of the file alone.
    pub fn read(&self, handle: &Handle, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let fd = handle.fd();
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
        let fd = handle.fd();
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

    /// What `close(2)` of one descriptor reports.
    pub fn flush(&self, handle: &Handle) -> Result<()> {
        // Closing a duplicate makes the filesystem below report what it has to.
        rustix::io::dup(&*handle.fd()).map(drop)
    }

    /// Writes a file to disk; nothing to do if volatile.
    pub fn fsync(&self, handle: &Handle, scope: SyncScope) -> Result<()> {
        if self.options.durability == Durability::Volatile {
            return Ok(());
        }
        if !handle.is_settled() {
            return self.fsync_attributes(handle.node());
        }
        match scope {
            SyncScope::All => fs::fsync(&*handle.fd()),
            SyncScope::Data => fs::fdatasync(&*handle.fd()),
        }
    }

    /// `fallocate(2)`; `mode` is its flags.
    pub fn fallocate(&self, handle: &Handle, mode: u32, offset: u64, len: u64) -> Result<()> {
        if !handle.may_write() {
            return Err(Errno::BADF);
        }
        fs::fallocate(&*handle.fd(), FallocateFlags::from_bits_retain(mode), offset, len)
    }

    /// Finds data or holes: `whence` is `SEEK_DATA` or `SEEK_HOLE`.
    pub fn lseek(&self, handle: &Handle, offset: u64, whence: u32) -> Result<u64> {
        let from = match whence {
            whence if whence == libc::SEEK_DATA as u32 => fs::SeekFrom::Data(offset),
            whence if whence == libc::SEEK_HOLE as u32 => fs::SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        fs::seek(&*handle.fd(), from)
    }

    /// Copies between two open files below the union.
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
        fs::copy_file_range(&*from.fd(), Some(&mut source), &*to.fd(), Some(&mut target), len)
    }
}

/// Takes set-user-ID off a file, and set-group-ID where its group may execute it.
pub(crate) fn clear_privileges(fd: &OwnedFd) -> Result<()> {
    let mode = fs::fstat(fd)?.st_mode & 0o7777;
    let clear = without_privileges(mode);
    if clear == mode { Ok(()) } else { fs::fchmod(fd, Mode::from_raw_mode(clear)) }
}

pub(crate) fn without_privileges(mode: u32) -> u32 {
    let group = if mode & 0o010 != 0 { 0o2000 } else { 0 };
    mode & !(0o4000 | group)
}
