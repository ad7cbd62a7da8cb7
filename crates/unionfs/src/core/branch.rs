//! Open branches, and the work directory.

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
    core::raw,
    types::{Errno, Result},
};

/// An open branch.
#[derive(Debug)]
pub(crate) struct OpenBranch {
    pub path: PathBuf,
    pub access: Access,
    pub root: Arc<OwnedFd>,
    /// The root opened for reading, on first use: `open_by_handle_at` takes no `O_PATH` descriptor.
    pub readable: OnceLock<OwnedFd>,
    /// UUID of its filesystem; `None` if that has none.
    pub uuid: Option<[u8; 16]>,
    /// Whether its marks count.
    pub marks: bool,
    /// Whether its root holds whiteouts that are attributes.
    pub attribute_whiteouts: bool,
}

impl OpenBranch {
    /// Opens (`O_PATH`) the object of a file handle.
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

/// The branches from the top down, guarded by the lock on names.
#[derive(Debug)]
pub(crate) struct Branches {
    pub list: Vec<Arc<OpenBranch>>,
    /// The writable branch.
    pub writer: Option<u16>,
    pub work: Option<Arc<Work>>,
    /// Device and inode of each branch's root and of the work directory.
    pub roots: HashSet<(u64, u64)>,
}

impl Branches {
    /// Whether a directory is the root of a branch or the work directory. Inside another branch such a directory is `ELOOP`, as in
    /// the kernel's overlayfs: it would change with each write to the union.
    pub fn is_root(&self, stat: &raw::Statx) -> bool {
        self.roots.contains(&(raw::dev_of(stat), stat.stx_ino))
    }

    pub fn get(&self, layer: u16) -> Result<&Arc<OpenBranch>> {
        self.list.get(usize::from(layer)).ok_or(Errno::STALE)
    }

    /// The writable branch and its work directory; `EROFS` if there is none.
    pub fn writable(&self) -> Result<(u16, &Arc<Work>)> {
        self.writer.zip(self.work.as_ref()).ok_or(Errno::ROFS)
    }

    pub fn branches(&self) -> Vec<Branch> {
        self.list.iter().map(|layer| Branch { path: layer.path.clone(), access: layer.access }).collect()
    }

    /// Whether new whiteouts in this branch are attributes, because its filesystem refuses device 0/0. Overlay dialect alone.
    pub fn has_attribute_whiteouts(&self, layer: u16) -> bool {
        self.writer == Some(layer) && self.work.as_ref().is_some_and(|work| !work.can.device_whiteouts)
    }

    /// Whether the union treats the branch as constant.
    pub fn is_read_only(&self, layer: u16) -> bool {
        self.get(layer).is_ok_and(|layer| layer.access != Access::ReadWrite)
    }

    /// Whether only this union changes the branch, so that its state may be cached.
    pub fn is_ours(&self, layer: u16) -> bool {
        self.writer == Some(layer) || self.is_read_only(layer)
    }

    pub fn last(&self) -> u16 {
        (self.list.len() - 1) as u16
    }
}

/// The abilities of the writable branch's filesystem, found by trying.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Abilities {
    /// It creates character device 0/0.
    pub device_whiteouts: bool,
    pub exchange: bool,
    /// `RENAME_WHITEOUT`.
    pub rename_whiteout: bool,
    /// It commits a name no earlier than data that was written back before.
    pub commits_in_order: bool,
}

/// The lock on a writable branch.
#[derive(Debug)]
pub(crate) struct InUse(pub OwnedFd);

impl Drop for InUse {
    /// Unlocks explicitly: a child that another thread has just forked holds the file open until it executes its program.
    fn drop(&mut self) {
        _ = fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// The directory on the writable branch's filesystem where objects are made before they get their name.
#[derive(Debug)]
pub(crate) struct Work {
    /// `work/work` or `.wh..wh.orph`.
    pub dir: Arc<OwnedFd>,
    /// `work/index` or `.wh..wh.plnk`, which keep lower hard links together.
    pub index: Option<Arc<OwnedFd>>,
    pub _lock: InUse,
    pub can: Abilities,
    /// The whiteout in `dir` that new whiteouts are links of.
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

    /// Returns an unused name in `dir`.
    pub fn temp_name(&self) -> Vec<u8> {
        format!("#{:x}", self.counter.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }

    /// Calls `make` with an unused name in `dir`. The guard removes it on drop unless it was renamed away.
    pub fn temp(&self, make: impl FnOnce(&[u8]) -> Result<()>) -> Result<Temp> {
        let temp = Temp { dir: Arc::clone(&self.dir), name: self.temp_name(), moved: false };
        make(&temp.name)?;
        Ok(temp)
    }

    /// Orders a file's data before later changes of names and marks on disk.
    pub fn data_first(&self, file: &OwnedFd) -> Result<()> {
        if self.can.commits_in_order {
            return strata_sys::fs::write_back(file).map_err(|error| raw::errno(&error));
        }
        fs::fsync(file)
    }

    /// Makes an overlay whiteout in `dir`: a character device 0/0, or an empty file with `attribute`. Devices are hard links of one
    /// inode up to the filesystem's limit on links.
    pub fn overlay_whiteout(&self, attribute: &str) -> Result<Temp> {
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
            // The filesystem has no hard links: use the device itself.
            Err(_) => {
                *shared = None;
                Ok(Temp { dir: Arc::clone(&self.dir), name: from, moved: false })
            }
            linked => linked,
        }
    }
}

/// An object in the work directory, removed on drop.
#[derive(Debug)]
pub(crate) struct Temp {
    pub dir: Arc<OwnedFd>,
    pub name: Vec<u8>,
    moved: bool,
}

impl Temp {
    /// Moves it to its name, replacing what is there.
    pub fn rename(mut self, to: impl AsFd, name: &[u8]) -> Result<()> {
        fs::renameat(&*self.dir, &*self.name, to, name)?;
        self.moved = true;
        Ok(())
    }

    /// Moves it to its name; `EEXIST` if that is taken.
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

    /// Exchanges it with `name`. The guard then removes what `name` was, with all below it.
    pub fn exchange(&self, to: impl AsFd, name: &[u8]) -> Result<()> {
        fs::renameat_with(&*self.dir, &*self.name, to, name, RenameFlags::EXCHANGE)
    }

    /// Guards an existing name in the work directory.
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
        tracing::warn!(%error, "left behind in the work directory");
    }
}
