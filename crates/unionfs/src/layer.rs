//! The branches as they are open, and the work folder.

use std::{
    collections::HashSet,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, RenameFlags};
use strata_sys::{tree::Dir, union::FileHandle};

use crate::{
    config::{Access, Branch},
    raw,
    types::{Errno, Result},
};

/// A branch.
#[derive(Debug)]
pub(crate) struct Layer {
    pub path: PathBuf,
    pub access: Access,
    pub root: Arc<OwnedFd>,
    /// The root open for reading, once needed: handles are opened by it.
    pub readable: OnceLock<OwnedFd>,
    /// Of its filesystem; `None` where that tells none.
    pub uuid: Option<[u8; 16]>,
    /// Whether marks in it count.
    pub marks: bool,
    /// Its root holds whiteouts that are attributes.
    pub attribute_whiteouts: bool,
}

impl Layer {
    /// Opens what a handle names on the branch's filesystem.
    pub fn open_by_handle(&self, handle: &FileHandle) -> Result<OwnedFd> {
        let mount = match self.readable.get() {
            Some(mount) => mount,
            None => {
                let opened = raw::open_readable(&*self.root)?;
                self.readable.get_or_init(|| opened)
            }
        };
        strata_sys::union::open_by_handle(mount, handle).map_err(|error| raw::errno(&error))
    }
}

/// The branches from the top down. Changes under the lock on names alone.
#[derive(Debug)]
pub(crate) struct Layers {
    pub list: Vec<Arc<Layer>>,
    /// The branch that changes go to.
    pub writer: Option<u16>,
    pub work: Option<Arc<Work>>,
    /// Device and inode of each branch's root and of the work directory: a lower branch may hold them, and must not show them.
    pub roots: HashSet<(u64, u64)>,
}

impl Layers {
    /// Whether a directory is the root of a branch, or the work directory. Reached through another branch, it is `ELOOP`, as in
    /// the kernel's overlayfs: what shows there would change with each write.
    pub fn is_root(&self, stat: &raw::Statx) -> bool {
        self.roots.contains(&(raw::dev_of(stat), stat.stx_ino))
    }

    pub fn get(&self, layer: u16) -> Result<&Arc<Layer>> {
        self.list.get(usize::from(layer)).ok_or(Errno::STALE)
    }

    /// The writable branch and its work folder; `EROFS` if there is none.
    pub fn writable(&self) -> Result<(u16, &Arc<Work>)> {
        self.writer.zip(self.work.as_ref()).ok_or(Errno::ROFS)
    }

    pub fn branches(&self) -> Vec<Branch> {
        self.list.iter().map(|layer| Branch { path: layer.path.clone(), access: layer.access }).collect()
    }

    /// Whether whiteouts in this branch are attributes, because its filesystem has no device 0/0 for them: they count from the
    /// moment that they are made. Overlay dialect alone.
    pub fn has_attribute_whiteouts(&self, layer: u16) -> bool {
        self.writer == Some(layer) && self.work.as_ref().is_some_and(|work| !work.can.device_whiteouts)
    }

    /// Whether nobody changes the branch while it is one of ours.
    pub fn is_read_only(&self, layer: u16) -> bool {
        self.get(layer).is_ok_and(|layer| layer.access != Access::ReadWrite)
    }

    /// Whether what lies in the branch changes by our doing alone, so that it may be remembered.
    pub fn is_ours(&self, layer: u16) -> bool {
        self.writer == Some(layer) || self.is_read_only(layer)
    }

    pub fn last(&self) -> u16 {
        (self.list.len() - 1) as u16
    }
}

/// What the writable branch's filesystem was found to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Abilities {
    /// Character device 0/0 can be made.
    pub device_whiteouts: bool,
    pub exchange: bool,
    /// `RENAME_WHITEOUT`.
    pub rename_whiteout: bool,
    /// A name never reaches the disk before data that was written back before it.
    pub commits_in_order: bool,
}

/// The lock that says who uses a writable branch.
#[derive(Debug)]
pub(crate) struct InUse(pub OwnedFd);

impl Drop for InUse {
    /// Free at once: a process that another thread has just forked has the file open too, until it becomes another program.
    fn drop(&mut self) {
        _ = fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// The folder on the writable branch's filesystem where things are made before they get their name.
#[derive(Debug)]
pub(crate) struct Work {
    /// `work/work` or `.wh..wh.orph`.
    pub dir: Arc<OwnedFd>,
    /// `work/index` or `.wh..wh.plnk`, where hard links are kept together.
    pub index: Option<Arc<OwnedFd>>,
    pub _lock: InUse,
    pub can: Abilities,
    /// A whiteout in `dir` that others are links of.
    pub whiteout: Mutex<Option<Vec<u8>>>,
    counter: AtomicU64,
}

impl Work {
    pub fn new(dir: OwnedFd, index: Option<OwnedFd>, lock: InUse) -> Self {
        Self {
            dir: Arc::new(dir),
            index: index.map(Arc::new),
            _lock: lock,
            can: Abilities::default(),
            whiteout: Mutex::new(None),
            counter: AtomicU64::new(0),
        }
    }

    /// A name in `dir` that is not taken.
    pub fn temp_name(&self) -> Vec<u8> {
        format!("#{:x}", self.counter.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }

    /// Makes `make` a name in `dir` that is gone when the guard drops, unless it was renamed away.
    pub fn temp(&self, make: impl FnOnce(&[u8]) -> Result<()>) -> Result<Temp> {
        let temp = Temp { dir: Arc::clone(&self.dir), name: self.temp_name(), moved: false };
        make(&temp.name)?;
        Ok(temp)
    }

    /// Sees to it that a file's data is on the disk before what is done from now on: a name, or the end of a mark that stands for data elsewhere.
    pub fn data_first(&self, file: &OwnedFd) -> Result<()> {
        if self.can.commits_in_order {
            return strata_sys::fs::write_back(file).map_err(|error| raw::errno(&error));
        }
        fs::fsync(file)
    }

    /// Makes a whiteout in `dir` as the overlay dialect has it: a character device 0/0, or an empty file with an attribute.
    /// Devices share one inode while the filesystem allows more links.
    pub fn overlay_whiteout(&self, attribute: &[u8]) -> Result<Temp> {
        if !self.can.device_whiteouts {
            return self.temp(|name| {
                fs::mknodat(&*self.dir, name, FileType::RegularFile, Mode::empty(), 0)?;
                raw::set_xattr_at(&*self.dir, name, attribute, b"y", fs::XattrFlags::empty())
            });
        }
        let make = |name: &[u8]| fs::mknodat(&*self.dir, name, FileType::CharacterDevice, Mode::empty(), 0);
        let mut shared = self.whiteout.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(from) = &*shared {
            let linked = self.temp(|name| fs::linkat(&*self.dir, &**from, &*self.dir, name, AtFlags::empty()));
            if linked.is_ok() {
                return linked;
            }
        }
        let name = self.temp_name();
        make(&name)?;
        if let Some(old) = shared.replace(name) {
            _ = fs::unlinkat(&*self.dir, &*old, AtFlags::empty());
        }
        let from = shared.clone().unwrap_or_default();
        match self.temp(|name| fs::linkat(&*self.dir, &*from, &*self.dir, name, AtFlags::empty())) {
            // A filesystem without hard links: the device itself, once.
            Err(_) => {
                *shared = None;
                Ok(Temp { dir: Arc::clone(&self.dir), name: from, moved: false })
            }
            linked => linked,
        }
    }
}

/// Something in the work folder; removed on drop.
#[derive(Debug)]
pub(crate) struct Temp {
    pub dir: Arc<OwnedFd>,
    pub name: Vec<u8>,
    moved: bool,
}

impl Temp {
    /// Moves it to its name, over what is there.
    pub fn rename(mut self, to: impl AsFd, name: &[u8]) -> Result<()> {
        fs::renameat(&*self.dir, &*self.name, to, name)?;
        self.moved = true;
        Ok(())
    }

    /// Moves it to its name, which must be free.
    pub fn rename_new(mut self, to: impl AsFd, name: &[u8]) -> Result<()> {
        match fs::renameat_with(&*self.dir, &*self.name, &to, name, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                if raw::find_at(&to, name)?.is_some() {
                    return Err(Errno::EXIST);
                }
                fs::renameat(&*self.dir, &*self.name, to, name)?;
            }
            result => result?,
        }
        self.moved = true;
        Ok(())
    }

    /// Swaps it with what is at `name`; that is then removed with this guard, with all below it.
    pub fn exchange(&self, to: impl AsFd, name: &[u8]) -> Result<()> {
        fs::renameat_with(&*self.dir, &*self.name, to, name, RenameFlags::EXCHANGE)
    }

    /// Takes over a name in the work folder.
    pub fn adopt(dir: &Arc<OwnedFd>, name: Vec<u8>) -> Self {
        Self { dir: Arc::clone(dir), name, moved: false }
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if self.moved {
            return;
        }
        match fs::unlinkat(&*self.dir, &*self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(_) => remove_tree(&self.dir, &self.name),
        }
    }
}

fn remove_tree(dir: &OwnedFd, name: &[u8]) {
    use std::os::unix::ffi::OsStrExt;
    if fs::unlinkat(dir, name, AtFlags::REMOVEDIR).is_ok() {
        return;
    }
    let result = dir.try_clone().and_then(|fd| Dir::from(fd).remove_tree(std::ffi::OsStr::from_bytes(name)));
    if let Err(error) = result {
        tracing::warn!(%error, "left behind in the work folder");
    }
}
