//! Open files, and which of them use passthrough.
//!
//! The kernel refuses to mix passthrough and the page cache among the open files of an inode, and all in passthrough must have one
//! backing file. So the first open of a node decides for the others.

use std::{
    collections::HashMap,
    io,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use std::os::fd::AsFd;

use fuser::BackingId;

use crate::{Errno, Handle, NodeId, Result, Union};

/// Numbered slots.
#[derive(Debug)]
pub(super) struct Slab<T>(RwLock<Places<T>>);

#[derive(Debug)]
struct Places<T> {
    items: Vec<Option<Arc<T>>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self(RwLock::new(Places { items: Vec::new(), free: Vec::new() }))
    }
}

impl<T> Slab<T> {
    pub fn put(&self, item: Arc<T>) -> u64 {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match places.free.pop() {
            Some(place) => {
                places.items[place] = Some(item);
                place as u64
            }
            None => {
                places.items.push(Some(item));
                (places.items.len() - 1) as u64
            }
        }
    }

    pub fn get(&self, place: u64) -> Result<Arc<T>> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let item = usize::try_from(place).ok().and_then(|place| places.items.get(place));
        item.cloned().flatten().ok_or(Errno::BADF)
    }

    pub fn take(&self, place: u64) -> Option<Arc<T>> {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(place).ok()?;
        let item = places.items.get_mut(place)?.take()?;
        places.free.push(place);
        Some(item)
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub handle: Arc<Handle>,
    backing: Option<Arc<BackingId>>,
}

/// The path of an open file's data.
#[derive(Debug)]
pub(super) enum Way {
    /// The page cache and this process. `keep` if the cached pages are still valid.
    Cached { keep: bool },
    /// The kernel reads and writes this file directly.
    Passthrough(Arc<BackingId>),
}

#[derive(Debug, Default)]
struct Opens {
    cached: usize,
    through: usize,
    backing: Option<Arc<BackingId>>,
}

/// All open files of a mount.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub slab: Slab<OpenFile>,
    nodes: Mutex<HashMap<NodeId, Opens>>,
}

/// The files that may use passthrough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Through {
    Nothing,
    /// Those of the writable branch, which never move.
    Writable,
    /// All: nothing is ever copied up.
    All,
}

impl Files {
    fn nodes(&self) -> MutexGuard<'_, HashMap<NodeId, Opens>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an open file. `open_backing` registers the file below with the kernel.
    pub fn open(
        &self,
        union: &Union,
        handle: Arc<Handle>,
        through: Through,
        open_backing: impl FnOnce(BorrowedFd<'_>) -> io::Result<BackingId>,
    ) -> (u64, Way) {
        let node = handle.node();
        let mut nodes = self.nodes();
        let opens = nodes.entry(node).or_default();
        let allowed = match through {
            Through::Nothing => false,
            Through::Writable => handle.is_settled(),
            Through::All => handle.is_open(),
        };
        let mut backing = None;
        if opens.through > 0 {
            backing.clone_from(&opens.backing);
        } else if allowed && opens.cached == 0 && !union.is_privileged(&handle) {
            backing = union.fd(&handle).ok().and_then(|fd| open_backing(fd.as_fd()).ok()).map(Arc::new);
        }
        let way = match &backing {
            Some(backing) => {
                opens.through += 1;
                opens.backing = Some(Arc::clone(backing));
                Way::Passthrough(Arc::clone(backing))
            }
            None => {
                opens.cached += 1;
                // Passthrough may have changed the file behind the page cache.
                Way::Cached { keep: through == Through::Nothing || !handle.is_settled() }
            }
        };
        drop(nodes);
        (self.slab.put(Arc::new(OpenFile { handle, backing })), way)
    }

    /// Releases an open file.
    pub fn release(&self, place: u64) {
        let Some(file) = self.slab.take(place) else { return };
        let node = file.handle.node();
        let mut nodes = self.nodes();
        if let Some(opens) = nodes.get_mut(&node) {
            if file.backing.is_some() {
                opens.through -= 1;
                if opens.through == 0 {
                    opens.backing = None;
                }
            } else {
                opens.cached -= 1;
            }
            if opens.cached + opens.through == 0 {
                nodes.remove(&node);
            }
        }
    }
}
