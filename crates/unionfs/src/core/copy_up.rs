//! Copy-up: the first write to a lower object copies it to the writable branch.
//!
//! The copy is completed in the work directory and then renamed: a killed union leaves no copy or a whole one.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, PoisonError},
};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use strata_sys::tree::Kind;

use crate::{
    Union,
    config::{Dialect, Durability, Metacopy},
    core::attr::CAPABILITY,
    core::branch::{Branches, Temp, Work},
    core::flags::{check_copied_up, check_unprotected, keep_append_only},
    core::nodes::{Below, Index, Node, ROOT, Real, Shared},
    core::raw::{self, Statx},
    dialect::hard_links::origin_of,
    types::*,
};

/// The part of a file's data that a copy-up copies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data {
    All,
    /// All; the file is being opened for appending.
    Append,
    /// The first bytes; the file is being truncated to them.
    First(u64),
    /// None if the union makes metacopies, else all; the data does not change.
    Below,
}

/// The result of [`Union::ensure_upper`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raised {
    There,
    /// The node was copied, with the data that was asked for.
    Copied,
}

/// A copy that has no name yet.
struct Copy {
    temp: Temp,
    dressed: Dressed,
    /// A regular file, open for reading and writing.
    file: Option<OwnedFd>,
    lower: Statx,
    shared: Option<Arc<[u8]>>,
}

/// Facts about a copy.
struct Dressed {
    /// Its attributes at creation; only the inode number is still right.
    stat: Statx,
    no_capability: bool,
}

impl Union {
    /// Copies up a node unless it lies in the writable branch; `EROFS` if there is none. Copies data without the lock on names.
    pub(crate) fn ensure_upper(&self, index: Index, data: Data) -> Result<Raised> {
        let _one = self.copying[index as usize % self.copying.len()].lock().unwrap_or_else(PoisonError::into_inner);
        let copy = {
            let ns = self.look();
            let (writer, work) = ns.writable()?;
            let node = self.known(index)?;
            if node.top == writer {
                return Ok(Raised::There);
            }
            if node.kind != Kind::File || node.link.is_none() {
                None
            } else {
                check_above(&node, writer)?;
                let (ns_work, spot) = (Arc::clone(work), self.spot(&ns, index, &node)?);
                let lower = self.stat_node(&ns, index, &node)?;
                check_copied_up(&lower, data)?;
                let key = self.share_key(&ns, node.top, &spot.dir, &spot.name, &lower)?;
                let origin = origin_of(ns.get(node.top)?, &spot.dir, &spot.name);
                let data = self.data_wanted(data, &key);
                let source = self.data_source(&ns, index, &node, data)?;
                drop(ns);
                let copy = self.copy_file(&ns_work, &spot.dir, &spot.name, &lower, source, data, origin, key)?;
                Some((copy, node))
            }
        };
        let ns = self.change();
        let node = self.known(index)?;
        if Some(node.top) == ns.writer {
            return Ok(Raised::There);
        }
        match copy {
            Some((copy, before)) if before.top == node.top && before.real == node.real && node.link.is_some() => {
                self.commit(&ns, index, &node, copy)?;
            }
            _ => self.copy_up(&ns, index, data)?,
        }
        Ok(Raised::Copied)
    }

    /// As [`Union::ensure_upper`], under the lock on names.
    pub(crate) fn copy_up(&self, ns: &Branches, index: Index, data: Data) -> Result<()> {
        let (writer, work) = ns.writable()?;
        let node = self.known(index)?;
        if node.top == writer || node.kind == Kind::Dir && node.dir()?.iter().any(|part| part.layer == writer) {
            return Ok(());
        }
        check_above(&node, writer)?;
        if node.kind == Kind::Dir {
            return self.dir_up(ns, index).map(drop);
        }
        if node.link.is_none() {
            return self.copy_up_nameless(ns, index, &node, data);
        }
        let spot = self.spot(ns, index, &node)?;
        let lower = self.stat_node(ns, index, &node)?;
        check_copied_up(&lower, data)?;
        let key = self.share_key(ns, node.top, &spot.dir, &spot.name, &lower)?;
        let origin = origin_of(ns.get(node.top)?, &spot.dir, &spot.name);
        let copy = if node.kind == Kind::File {
            let data = self.data_wanted(data, &key);
            let source = self.data_source(ns, index, &node, data)?;
            self.copy_file(work, &spot.dir, &spot.name, &lower, source, data, origin, key)?
        } else {
            self.copy_other(work, &spot.dir, &spot.name, &lower, origin, key)?
        };
        self.commit(ns, index, &node, copy)
    }

    /// Opens the file that holds a lower file's data; `None` for [`Data::Below`].
    fn data_source(&self, ns: &Branches, index: Index, node: &Node, data: Data) -> Result<Option<OwnedFd>> {
        if matches!(data, Data::Below) {
            return Ok(None);
        }
        let file = self.spot(ns, index, node)?.open(OFlags::RDONLY)?;
        if self.is_metacopy(&file)? { self.metacopy_data(ns, index, node).map(Some) } else { Ok(Some(file)) }
    }

    pub(crate) fn makes_metacopies(&self) -> bool {
        self.keys().is_some() && self.options.metacopy == Metacopy::Make
    }

    /// A file with several names gets its data: a metacopy would need a redirect for each name once it moves.
    fn data_wanted(&self, data: Data, shared: &Option<Arc<[u8]>>) -> Data {
        match data {
            Data::Below if !self.makes_metacopies() || shared.is_some() => Data::All,
            data => data,
        }
    }

    /// Whether a file is a metacopy; `EPERM` if it is and the union does not follow those.
    pub(crate) fn is_metacopy(&self, file: &OwnedFd) -> Result<bool> {
        let Some(keys) = self.keys() else { return Ok(false) };
        let mut value = [0_u8; 64];
        match fs::fgetxattr(file, keys.metacopy, &mut value[..]) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) if errno != Errno::RANGE => Err(errno),
            _ if self.options.metacopy == Metacopy::Refuse => {
                tracing::warn!("a file holds attributes alone, and the union was opened without following those");
                Err(Errno::PERM)
            }
            _ => Ok(true),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all that is known of the source, looked up under the lock that is not held here"
    )]
    fn copy_file(
        &self,
        work: &Work,
        dir: &OwnedFd,
        name: &[u8],
        lower: &Statx,
        source: Option<OwnedFd>,
        data: Data,
        origin: Option<Vec<u8>>,
        shared: Option<Arc<[u8]>>,
    ) -> Result<Copy> {
        let mut file = None;
        let temp = work.temp(|temp| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            file = Some(fs::openat(&*work.dir, temp, flags, Mode::RUSR | Mode::WUSR)?);
            Ok(())
        })?;
        let file = file.ok_or(Errno::IO)?;
        let mut size = match data {
            Data::All | Data::Append | Data::Below => lower.stx_size,
            Data::First(len) => len.min(lower.stx_size),
        };
        let whole = source.is_some();
        match (source, self.keys()) {
            (None, Some(keys)) => {
                raw::set_xattr_at(&*temp.dir, &temp.name, keys.metacopy, b"", XattrFlags::CREATE)?;
                fs::ftruncate(&file, size)?;
                size = 0;
            }
            (source, _) => copy_data(&source.ok_or(Errno::IO)?, &file, size)?,
        }
        let dressed = self.dress(&temp.dir, &temp.name, dir, name, lower, origin.as_deref(), shared.is_some())?;
        if self.options.durability == Durability::CopyUpSynced && size > 0 {
            work.data_first(&file)?;
        }
        // Open handles keep reading the lower file until the copy has data.
        Ok(Copy { temp, dressed, file: whole.then_some(file), lower: *lower, shared })
    }

    fn copy_other(
        &self,
        work: &Work,
        dir: &OwnedFd,
        name: &[u8],
        lower: &Statx,
        origin: Option<Vec<u8>>,
        shared: Option<Arc<[u8]>>,
    ) -> Result<Copy> {
        let temp = work.temp(|temp| match raw::kind_of(lower) {
            Kind::Dir => fs::mkdirat(&*work.dir, temp, Mode::RWXU),
            Kind::Symlink => {
                let target = fs::readlinkat(dir, name, Vec::new())?;
                fs::symlinkat(&*target, &*work.dir, temp)
            }
            _ => {
                let mode = u32::from(lower.stx_mode);
                let device = fs::makedev(lower.stx_rdev_major, lower.stx_rdev_minor);
                fs::mknodat(&*work.dir, temp, FileType::from_raw_mode(mode), Mode::RUSR | Mode::WUSR, device)
            }
        })?;
        let dressed = self.dress(&temp.dir, &temp.name, dir, name, lower, origin.as_deref(), shared.is_some())?;
        Ok(Copy { temp, dressed, file: None, lower: *lower, shared })
    }

    /// Copies owner, mode, attributes and times, in this order: each call may reset what later ones set.
    #[expect(clippy::too_many_arguments, reason = "from and to are a directory and a name each")]
    fn dress(
        &self,
        to: &OwnedFd,
        to_name: &[u8],
        from: &OwnedFd,
        from_name: &[u8],
        stat: &Statx,
        origin: Option<&[u8]>,
        shared: bool,
    ) -> Result<Dressed> {
        let made = raw::stat_at(to, to_name)?;
        if (made.stx_uid, made.stx_gid) != (stat.stx_uid, stat.stx_gid) {
            let (uid, gid) = (Uid::from_raw(stat.stx_uid), Gid::from_raw(stat.stx_gid));
            fs::chownat(to, to_name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        let kind = raw::kind_of(stat);
        if kind != Kind::Symlink {
            set_mode(to, to_name, u32::from(stat.stx_mode) & 0o7777)?;
        }
        let mut no_capability = kind == Kind::File;
        for key in raw::xattrs_at(from, from_name)? {
            no_capability &= key != CAPABILITY.as_bytes();
            if self.shown_attribute(&key).is_none() {
                continue;
            }
            let Some(value) = raw::xattr_at(from, from_name, &key)? else { continue };
            match raw::set_xattr_at(to, to_name, &key, &value, XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP | Errno::PERM)
                    if !key.starts_with(b"security.capability") && !key.starts_with(b"system.") => {}
                result => result?,
            }
        }
        if let Some(keys) = self.keys() {
            let set = |key, value: &[u8]| match raw::set_xattr_at(to, to_name, key, value, XattrFlags::empty()) {
                // Only files and directories take user attributes. The mark is optional.
                Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
                result => result,
            };
            set(keys.origin, origin.unwrap_or_default())?;
            if shared {
                set(keys.nlink, b"L+0")?;
            }
        }
        set_times(to, to_name, Some(stat))?;
        Ok(Dressed { stat: made, no_capability })
    }

    /// Renames a copy to its name and moves the node there.
    fn commit(&self, ns: &Branches, index: Index, node: &Node, copy: Copy) -> Result<()> {
        let (writer, work) = ns.writable()?;
        let link = node.link.clone().ok_or(Errno::STALE)?;
        let up = self.dir_up(ns, link.parent)?;
        self.mark_impure(link.parent, &up)?;
        let before = self.keys().is_some().then(|| raw::stat_at(&*up, b"")).transpose()?;
        let Copy { temp, dressed, file, lower, shared } = copy;
        let real = self.inos.real(&dressed.stat)?;
        let below = node.real;
        match &shared {
            None => temp.rename_new(&*up, &link.name).map_err(taken)?,
            Some(key) => {
                let index_dir = work.index.clone().ok_or(Errno::IO)?;
                temp.rename_new(&*index_dir, key)?;
                fs::linkat(&*index_dir, &**key, &*up, &*link.name, AtFlags::empty()).map_err(taken)?;
                self.indexed.store(true, std::sync::atomic::Ordering::Relaxed);
                let delta = i64::from(lower.stx_nlink) - 2;
                self.nodes().share(Arc::clone(key), Shared { lower: Some(below), upper: real, delta });
                self.write_delta(ns, key, delta)?;
            }
        }
        if let Some(before) = before {
            set_times(&up, b"", Some(&before))?;
        }
        if shared.is_none() && lower.stx_nlink > 1 {
            // Its other names stay with the lower file: the copy is a file of its own.
            self.inos.drop_real(real);
            self.nodes().edit(index)?.ino = self.inos.number(real);
        } else {
            self.inos.give(real, node.ino);
        }
        if let Some(file) = &file {
            keep_append_only(&lower, file)?;
        }
        self.move_up(index, writer, real, shared.clone(), file)?;
        self.nodes().edit(index)?.no_capability = dressed.no_capability;
        if let Some(key) = shared {
            self.nodes().set_inode(real, index);
            if self.dialect == Dialect::Aufs {
                self.link_others(ns, index, &link.parent, &link.name, &key)?;
            }
        }
        Ok(())
    }

    fn move_up(
        &self,
        index: Index,
        writer: u16,
        real: Real,
        shared: Option<Arc<[u8]>>,
        file: Option<OwnedFd>,
    ) -> Result<()> {
        let mut table = self.nodes();
        let node = table.edit(index)?;
        node.top = writer;
        node.real = real;
        node.kept = false;
        node.shared = shared;
        let open = table.open.get(&index).and_then(std::sync::Weak::upgrade);
        let Some(file) = file.map(Arc::new) else { return Ok(()) };
        if let Some(state) = open {
            state.moved(file);
        } else if let Some(kept) = table.nameless.get_mut(&index) {
            let below = std::mem::replace(kept, file);
            table.released.push(below);
        }
        Ok(())
    }

    /// Links the copy of a shared file at `name`, which may still show the lower file.
    pub(crate) fn link_up(&self, ns: &Branches, parent: Index, name: &[u8], key: &Arc<[u8]>) -> Result<()> {
        let up = self.dir_up(ns, parent)?;
        let index_dir = ns.writable()?.1.index.clone().ok_or(Errno::IO)?;
        match fs::linkat(&*index_dir, &**key, &*up, name, AtFlags::empty()) {
            Ok(()) => self.shift_links(ns, key, -1),
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Copies up a directory and its parents, and opens its part in the writable branch.
    pub(crate) fn dir_up(&self, ns: &Branches, index: Index) -> Result<Arc<OwnedFd>> {
        let (writer, work) = ns.writable()?;
        let mut missing: Vec<(Index, Node)> = Vec::new();
        let mut at = index;
        loop {
            let node = self.known(at)?;
            if node.dir()?.iter().any(|part| part.layer == writer) {
                break;
            }
            let link = node.link.clone().ok_or(Errno::NOENT)?;
            missing.push((at, node));
            at = link.parent;
        }
        for (index, node) in missing.into_iter().rev() {
            let link = node.link.clone().ok_or(Errno::NOENT)?;
            let spot = Self::dir_spot(self.dir_fd(ns, index, &node, node.top)?);
            let lower = raw::stat_at(&*spot, b"")?;
            check_unprotected(&lower)?;
            let origin = origin_of(ns.get(node.top)?, &spot, b"");
            let copy = self.copy_other(work, &spot, b"", &lower, origin, None)?;
            let parent = self.known(link.parent)?;
            let up = self.dir_fd(ns, link.parent, &parent, writer)?;
            self.mark_impure(link.parent, &up)?;
            let before = self.keys().is_some().then(|| raw::stat_at(&*up, b"")).transpose()?;
            let stat = copy.dressed.stat;
            copy.temp.rename_new(&*up, &link.name).map_err(taken)?;
            if let Some(before) = before {
                set_times(&up, b"", Some(&before))?;
            }
            self.add_part(ns, index, &node, &stat)?;
        }
        let node = self.known(index)?;
        if node.link.is_none() && index != ROOT {
            return Err(Errno::NOENT);
        }
        self.dir_fd(ns, index, &node, writer)
    }

    fn dir_spot(fd: Arc<OwnedFd>) -> Arc<OwnedFd> {
        fd
    }

    /// Adds the writable branch to a directory's parts.
    fn add_part(&self, ns: &Branches, index: Index, node: &Node, stat: &Statx) -> Result<()> {
        let (writer, _) = ns.writable()?;
        let real = self.inos.real(stat)?;
        let mut stack = node.dir()?.to_vec();
        let place = stack.iter().position(|part| part.layer > writer).unwrap_or(stack.len());
        let attribute_whiteouts = self.keys().is_some() && ns.has_attribute_whiteouts(writer);
        stack.insert(place, Below { layer: writer, attribute_whiteouts, at: None });
        let mut table = self.nodes();
        let stack = table.stack(stack);
        let live = table.edit(index)?;
        live.stack = Some(stack);
        live.version += 1;
        if place == 0 {
            live.top = writer;
            live.real = real;
            self.inos.give(real, node.ino);
        }
        Ok(())
    }

    /// Copies up a file that has no name left. The copy has none either.
    fn copy_up_nameless(&self, ns: &Branches, index: Index, node: &Node, data: Data) -> Result<()> {
        let (writer, work) = ns.writable()?;
        let spot = self.spot(ns, index, node)?;
        let lower = spot.stat()?;
        let source = raw::reopen(&*spot.dir, OFlags::RDONLY)?;
        let data = if matches!(data, Data::Below) { Data::All } else { data };
        let copy = self.copy_file(work, &spot.dir, b"", &lower, Some(source), data, None, None)?;
        let real = self.inos.real(&copy.dressed.stat)?;
        drop(copy.temp);
        self.move_up(index, writer, real, None, copy.file)
    }
}

/// `EROFS` for a file in a read-only branch above the writable one.
fn check_above(node: &Node, writer: u16) -> Result<()> {
    if node.top < writer { Err(Errno::ROFS) } else { Ok(()) }
}

/// `EEXIST` in the writable branch means that another process has made the name.
fn taken(errno: Errno) -> Errno {
    if errno == Errno::EXIST { Errno::STALE } else { errno }
}

/// Sets permission bits of a name; `EOPNOTSUPP` on a link.
pub(crate) fn set_mode(dir: &OwnedFd, name: &[u8], mode: u32) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    if name.is_empty() {
        return fs::chmod(&*raw::proc_path(dir.as_fd(), b""), Mode::from_raw_mode(mode));
    }
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name));
    strata_sys::tree::set_mode_at(dir, path, mode).map_err(|error| raw::errno(&error))
}

/// Sets the times of a name to those of `stat`.
pub(crate) fn set_times(dir: &OwnedFd, name: &[u8], stat: Option<&Statx>) -> Result<()> {
    let Some(stat) = stat else { return Ok(()) };
    let spec = |stamp: &fs::StatxTimestamp| Timespec { tv_sec: stamp.tv_sec, tv_nsec: stamp.tv_nsec.into() };
    put_times(dir, name, &Timestamps { last_access: spec(&stat.stx_atime), last_modification: spec(&stat.stx_mtime) })
}

pub(crate) fn put_times(dir: &OwnedFd, name: &[u8], times: &Timestamps) -> Result<()> {
    if name.is_empty() {
        fs::utimensat(fs::CWD, &*raw::proc_path(dir.as_fd(), b""), times, AtFlags::empty())
    } else {
        fs::utimensat(dir, name, times, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Copies the first `size` bytes. Shares blocks if the filesystem can, and keeps holes.
pub(crate) fn copy_data(from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<()> {
    let stat = fs::fstat(from)?;
    let whole = stat.st_size as u64;
    if size == 0 {
        return Ok(());
    }
    if size == whole && strata_sys::fs::reflink(from, to).is_ok() {
        return Ok(());
    }
    if stat.st_blocks as u64 * 512 >= whole {
        // No holes.
        return copy_stretch(from, to, 0, size);
    }
    let mut at = 0;
    while at < size {
        let (start, end) = match strata_sys::fs::next_data(from, at) {
            Ok(Some(stretch)) => stretch,
            Ok(None) => break,
            Err(_) => (at, whole),
        };
        let end = end.min(size);
        if start >= end {
            break;
        }
        copy_stretch(from, to, start, end)?;
        at = end;
    }
    fs::ftruncate(to, size)
}

fn copy_stretch(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> Result<()> {
    let (mut source, mut target) = (start, start);
    while source < end {
        let len = usize::try_from(end - source).unwrap_or(usize::MAX).min(1 << 30);
        match fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), len) {
            Ok(0) => return Err(Errno::IO),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::TXTBSY) => break,
            Err(errno) => return Err(errno),
        }
    }
    let mut buffer = vec![0; (1 << 17).min(usize::try_from(end - source).unwrap_or(usize::MAX))];
    while source < end {
        let want = usize::try_from(end - source).unwrap_or(usize::MAX).min(buffer.len());
        let read = rustix::io::pread(from, &mut buffer[..want], source)?;
        if read == 0 {
            return Err(Errno::IO);
        }
        let mut done = 0;
        while done < read {
            done += rustix::io::pwrite(to, &buffer[done..read], source + done as u64)?;
        }
        source += read as u64;
    }
    Ok(())
}
