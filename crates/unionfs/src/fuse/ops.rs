//! The kernel's requests, answered from the union.

use std::{
    cell::RefCell,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::{
    Front, OPENED, control,
    convert::{self, errno},
    files::Way,
    ioctl,
    reply::{empty, value},
};
use crate::{
    Cache, Dialect, Entry, Errno, Fill, Handle, NodeId, Privileges, RenameFlags, Result, SetAttr, SyncScope, XattrFlags,
};

/// Number of offsets for `.` and `..`, which precede the union's entries.
const DOTS: u64 = 2;

thread_local! {
    /// The buffer of reads; grows to the largest one.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Front {
    fn entry(&self, reply: ReplyEntry, result: Result<Entry>) {
        match result {
            Ok(entry) => {
                let name = self.enter(&entry);
                let keep = convert::keep(entry.cache);
                reply.entry(&keep, &convert::attr(&entry.attr, name.id), Generation(name.generation));
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn handle(&self, file: FileHandle) -> Result<Arc<Handle>> {
        Ok(Arc::clone(&self.files.slab.get(file.0)?.handle))
    }

    /// How long the kernel may cache attributes.
    fn keep(&self) -> Duration {
        convert::keep(self.absent())
    }

    fn set(&self, id: INodeNo, file: Option<FileHandle>, change: &SetAttr) -> Result<(FileAttr, Duration)> {
        let node = self.node(id)?;
        let handle = file.map(|file| self.handle(file)).transpose()?;
        let attr = self.union.set_attr(node, handle.as_deref(), change)?;
        Ok((self.attr(id, &attr), self.keep()))
    }

    fn open_node(&self, id: INodeNo, node: NodeId, flags: i32) -> Result<Arc<Handle>> {
        let keep = |content: &[u8]| self.keeper.get().is_some_and(|keeper| keeper.store(id, 0, content).is_ok());
        let result = self.union.open_kept(node, convert::open_flags(flags), &keep);
        if self.union.wants_ahead() {
            self.read_ahead();
        }
        result
    }

    fn create_file(
        &self,
        request: &Request,
        parent: NodeId,
        name: &OsStr,
        modes: (u32, u32),
        flags: i32,
    ) -> Result<(Entry, Arc<Handle>)> {
        let (mode, umask) = modes;
        let caller = Self::caller(request, umask, mode);
        match self.union.create(parent, name, mode & 0o7777, convert::open_flags(flags), &caller) {
            // Another process was faster.
            Err(Errno::EXIST) if flags & libc::O_EXCL == 0 => {
                let entry = self.union.lookup(parent, name)?;
                // The kernel has no inode yet to store content in.
                match self.union.open_kept(entry.node, convert::open_flags(flags), &|_| false) {
                    Ok(handle) => Ok((entry, handle)),
                    Err(error) => {
                        self.union.forget(entry.node, 1);
                        Err(error)
                    }
                }
            }
            result => result,
        }
    }

    /// Adds `.` and `..` from `offset` on; `add` returns true if there is no room.
    fn dots(
        &self,
        dir: INodeNo,
        node: NodeId,
        offset: u64,
        mut add: impl FnMut(INodeNo, u64, &'static str) -> bool,
    ) -> bool {
        if offset == 0 && add(dir, 1, ".") {
            return true;
        }
        if offset <= 1 {
            let parent = self.union.parent(node).ok().and_then(|parent| self.ids.id(parent)).unwrap_or(dir.0);
            return add(INodeNo(parent), DOTS, "..");
        }
        false
    }

    fn copy(&self, from: (FileHandle, u64), to: (FileHandle, u64), len: u64) -> Result<usize> {
        let (source, target) = (self.handle(from.0)?, self.handle(to.0)?);
        // The reply's count has 32 bits.
        let len = usize::try_from(len.min(1 << 30)).unwrap_or(1 << 30);
        self.union.copy_file_range(&source, from.1, &target, to.1, len)
    }
}

impl Filesystem for Front {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        self.configure(config);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _answering = self.busy_poll.answering();
        let parent = match self.node(parent) {
            Ok(parent) => parent,
            Err(error) => return reply.error(errno(error)),
        };
        match self.union.lookup(parent, name) {
            Err(Errno::NOENT) => {
                let keep = convert::keep(self.absent_name(parent, name));
                reply.entry(&keep, &convert::nothing(), Generation(0));
            }
            result => self.entry(reply, result),
        }
    }

    fn forget(&self, _: &Request, id: INodeNo, count: u64) {
        self.ids.forget(id.0, count, |node, count| self.union.forget(node, count));
    }

    fn getattr(&self, _: &Request, id: INodeNo, file: Option<FileHandle>, reply: ReplyAttr) {
        let _answering = self.busy_poll.answering();
        let handle = file.and_then(|file| self.handle(file).ok());
        match self.node(id).and_then(|node| self.union.attr(node, handle.as_deref())) {
            Ok(attr) => reply.attr(&self.keep(), &self.attr(id, &attr)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        id: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        file: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _answering = self.busy_poll.answering();
        let change = SetAttr {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            accessed: convert::set_time(accessed),
            modified: convert::set_time(modified),
            privileges: Self::privileges(request),
        };
        match self.set(id, file, &change) {
            Ok((attr, keep)) => reply.attr(&keep, &attr),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readlink(&self, _: &Request, id: INodeNo, reply: ReplyData) {
        let _answering = self.busy_poll.answering();
        match self.node(id).and_then(|node| self.union.read_link(node)) {
            Ok(target) => reply.data(target.as_encoded_bytes()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let caller = Self::caller(request, umask, mode);
        let result = self
            .node(parent)
            .and_then(|parent| self.union.mknod(parent, name, mode, convert::decode_device(device), &caller));
        self.entry(reply, result);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let _answering = self.busy_poll.answering();
        let caller = Self::caller(request, umask, 0);
        self.entry(reply, self.node(parent).and_then(|parent| self.union.mkdir(parent, name, mode & 0o7777, &caller)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _answering = self.busy_poll.answering();
        empty(reply, self.node(parent).and_then(|parent| self.union.unlink(parent, name)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _answering = self.busy_poll.answering();
        empty(reply, self.node(parent).and_then(|parent| self.union.rmdir(parent, name)));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let caller = Self::caller(request, 0, 0);
        self.entry(
            reply,
            self.node(parent).and_then(|parent| self.union.symlink(parent, name, target.as_os_str(), &caller)),
        );
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: fuser::RenameFlags,
        reply: ReplyEmpty,
    ) {
        let flags = RenameFlags::from_bits_retain(flags.bits());
        let result = self
            .node(parent)
            .and_then(|parent| self.union.rename(parent, name, self.node(new_parent)?, new_name, flags));
        empty(reply, result);
    }

    fn link(&self, _: &Request, id: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let result = self.node(id).and_then(|node| self.union.link(node, self.node(parent)?, name));
        self.entry(reply, result);
    }

    fn open(&self, request: &Request, id: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _answering = self.busy_poll.answering();
        let result = self.node(id).and_then(|node| {
            let handle = self.open_node(id, node, flags.0)?;
            if flags.0 & libc::O_TRUNC != 0 && Self::privileges(request) == Privileges::Clear {
                let change = SetAttr { size: Some(0), privileges: Privileges::Clear, ..SetAttr::default() };
                self.union.set_attr(node, Some(&handle), &change)?;
            }
            Ok(handle)
        });
        let handle = match result {
            Ok(handle) => handle,
            Err(error) => return reply.error(errno(error)),
        };
        let (place, way) = self.files.open(&self.union, handle, self.through, |fd| reply.open_backing(fd));
        match way {
            Way::Passthrough(backing) => reply.opened_passthrough(FileHandle(place), OPENED, &backing),
            Way::Cached { keep: true } => reply.opened(FileHandle(place), OPENED | FopenFlags::FOPEN_KEEP_CACHE),
            Way::Cached { keep: false } => reply.opened(FileHandle(place), OPENED),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _answering = self.busy_poll.answering();
        let made = self.node(parent).and_then(|parent| self.create_file(request, parent, name, (mode, umask), flags));
        let (entry, handle) = match made {
            Ok(made) => made,
            Err(error) => return reply.error(errno(error)),
        };
        let name = self.enter(&entry);
        let (attr, keep) = (convert::attr(&entry.attr, name.id), convert::keep(entry.cache));
        let generation = Generation(name.generation);
        let (place, way) = self.files.open(&self.union, handle, self.through, |fd| reply.open_backing(fd));
        let place = FileHandle(place);
        match way {
            Way::Passthrough(backing) => reply.created_passthrough(&keep, &attr, generation, place, OPENED, &backing),
            Way::Cached { .. } => reply.created(&keep, &attr, generation, place, OPENED),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        file: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _answering = self.busy_poll.answering();
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            match self.handle(file).and_then(|handle| self.union.read(&handle, offset, &mut buffer[..size])) {
                Ok(read) => reply.data(&buffer[..read]),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        file: FileHandle,
        offset: u64,
        data: &[u8],
        how: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _answering = self.busy_poll.answering();
        let privileges =
            if how.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) { Privileges::Clear } else { Privileges::Keep };
        match self.handle(file).and_then(|handle| self.union.write(&handle, offset, data, privileges)) {
            Ok(written) => reply.written(written as u32),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // The kernel sends no further FLUSH.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        file: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let _answering = self.busy_poll.answering();
        // The client does not wait for the release.
        reply.ok();
        self.files.release(file.0);
    }

    fn fsync(&self, _: &Request, _: INodeNo, file: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let scope = if data_only { SyncScope::Data } else { SyncScope::All };
        empty(reply, self.handle(file).and_then(|handle| self.union.fsync(&handle, scope)));
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.settings.dialect != Dialect::Aufs {
            // The kernel then sends no further OPENDIR, and caches listings for good. Not in AUFS, where branches may change.
            return reply.error(fuser::Errno::ENOSYS);
        }
        let long = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        let keep = if self.absent() == Cache::Long { long } else { FopenFlags::empty() };
        reply.opened(FileHandle(0), keep);
    }

    fn readdir(&self, _: &Request, id: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let _answering = self.busy_poll.answering();
        let result = self.node(id).and_then(|node| {
            if self.dots(id, node, offset, |ino, next, name| reply.add(ino, next, fuser::FileType::Directory, name)) {
                return Ok(());
            }
            self.union.read_dir(node, offset.saturating_sub(DOTS), &mut |entry| {
                if reply.add(INodeNo(entry.ino), entry.next + DOTS, convert::file_type(entry.kind), &entry.name) {
                    Fill::Full
                } else {
                    Fill::Taken
                }
            })
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdirplus(&self, _: &Request, id: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let _answering = self.busy_poll.answering();
        let result = self.node(id).and_then(|node| {
            let dot = FileAttr { kind: fuser::FileType::Directory, ..convert::nothing() };
            // The kernel uses only the name.
            let full = self.dots(id, node, offset, |ino, next, name| {
                let attr = FileAttr { ino, ..dot };
                reply.add(ino, next, name, &Duration::ZERO, &attr, Generation(0))
            });
            if full {
                return Ok(());
            }
            self.union.read_dir_plus(node, offset.saturating_sub(DOTS), &mut |shown, entry| {
                let Some(entry) = entry else {
                    // The entry expires at once: a request for the name gets its lookup's error.
                    let attr = FileAttr {
                        ino: self.ids.placeholder(),
                        kind: convert::file_type(shown.kind),
                        ..convert::nothing()
                    };
                    let full =
                        reply.add(attr.ino, shown.next + DOTS, &shown.name, &Duration::ZERO, &attr, Generation(0));
                    return if full { Fill::Full } else { Fill::Taken };
                };
                let name = self.enter(entry);
                let (keep, attr) = (convert::keep(entry.cache), convert::attr(&entry.attr, name.id));
                let generation = Generation(name.generation);
                if reply.add(INodeNo(name.id), shown.next + DOTS, &shown.name, &keep, &attr, generation) {
                    self.ids.leave(entry.node);
                    return Fill::Full;
                }
                Fill::Taken
            })
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, _: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, id: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.node(id).and_then(|node| self.union.fsync_dir(node)));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.union.statfs() {
            Ok(stat) => reply.statfs(
                stat.blocks,
                stat.blocks_free,
                stat.blocks_available,
                stat.files,
                stat.files_free,
                stat.block_size,
                stat.name_max,
                stat.fragment_size,
            ),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        id: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let result = self.node(id).and_then(|node| {
            if node == NodeId::ROOT && name == control::CHANGE {
                return self.change(request, value);
            }
            self.union.set_xattr(node, name, value, XattrFlags::from_bits_retain(flags as u32))?;
            if name.as_bytes() == crate::core::acl::ACCESS { self.settle_group_id(request, node) } else { Ok(()) }
        });
        empty(reply, result);
    }

    fn getxattr(&self, _: &Request, id: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _answering = self.busy_poll.answering();
        let result = self.node(id).and_then(|node| {
            if node == NodeId::ROOT
                && let Some(piece) = control::piece(name, || self.description())
            {
                return Ok(piece);
            }
            self.union.get_xattr(node, name)
        });
        value(reply, size, result);
    }

    fn listxattr(&self, _: &Request, id: INodeNo, size: u32, reply: ReplyXattr) {
        let result = self.node(id).and_then(|node| {
            let mut list = Vec::new();
            for name in self.union.list_xattr(node)? {
                list.extend_from_slice(name.as_encoded_bytes());
                list.push(0);
            }
            Ok(list)
        });
        value(reply, size, result);
    }

    fn removexattr(&self, _: &Request, id: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.node(id).and_then(|node| self.union.remove_xattr(node, name)));
    }

    fn ioctl(
        &self,
        _: &Request,
        id: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        command: u32,
        input: &[u8],
        room: u32,
        reply: ReplyIoctl,
    ) {
        match self.node(id).and_then(|node| ioctl::answer(&self.union, node, command, input, room)) {
            Ok(output) => reply.ioctl(0, &output),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        file: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.handle(file).and_then(|handle| self.union.fallocate(&handle, mode as u32, offset, len)));
    }

    fn lseek(&self, _: &Request, _: INodeNo, file: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let result = self.handle(file).and_then(|handle| {
            let offset = u64::try_from(offset).map_err(|_| Errno::NXIO)?;
            self.union.lseek(&handle, offset, whence as u32)
        });
        match result {
            Ok(found) => reply.offset(found as i64),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        from: FileHandle,
        from_offset: u64,
        _: INodeNo,
        to: FileHandle,
        to_offset: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        match self.copy((from, from_offset), (to, to_offset), len) {
            Ok(copied) => reply.written(copied as u32),
            Err(error) => reply.error(errno(error)),
        }
    }
}
