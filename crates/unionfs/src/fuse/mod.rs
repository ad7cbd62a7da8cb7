//! The union as a FUSE filesystem.
//!
//! | module | owns |
//! | --- | --- |
//! | `ops` | the kernel's requests |
//! | `ids` | the kernel's node numbers |
//! | `ioctl` | inode flags |
//! | `awake` | keeping processors from sleeping, for mounts that ask for it |
//! | `busy_poll` | looking for the next request before sleeping |
//! | `files` | open files, and which of them use passthrough |
//! | `control` | extended attributes of the root that describe and change the mount |
//! | `convert` | conversion between the union's types and fuser's |
//! | `caller` | the process behind a request |

mod awake;
mod busy_poll;
mod caller;
mod control;
mod convert;
mod files;
mod ids;
mod ioctl;
mod ops;
mod reply;

pub(crate) use control::{CHANGE, DESCRIPTION, PIECE};

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, Once, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
};

use fuser::{FopenFlags, INodeNo, InitFlags, KernelConfig, Session, SessionACL};

use crate::{
    Access, Attr, Cache, Dialect, Entry, Errno, Invalidation, NodeId, Result, Switch, Union, mount::fields::Fields,
};
use busy_poll::BusyPoll;
use files::{Files, Through};
use ids::Ids;

/// Most bytes of one write request.
const MAX_WRITE: u32 = 1 << 20;

/// Most absent names that are remembered, to be invalidated when branches change.
const ABSENCES: usize = 16 << 10;

/// Threads that read ahead.
const READERS: usize = 4;

/// Settings of the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub dialect: Dialect,
    pub passthrough: Switch,
    pub awake: Switch,
    /// Whether nothing is ever written through this mount.
    pub read_only: bool,
    pub threads: usize,
}

/// Prefix of a description's fields that repeat the mount's configuration.
pub(crate) const ASKED: &str = "asked:";

/// The number of invalidations that the kernel has not processed.
#[derive(Debug, Default)]
struct Pending(AtomicUsize);

/// The FUSE filesystem over a union.
pub(crate) struct Front {
    union: Arc<Union>,
    settings: Settings,
    /// The mount's configuration, for the description.
    asked: Fields,
    /// Why the last change of branches was refused.
    refused: Mutex<Option<String>>,
    ids: Arc<Ids>,
    files: Files,
    through: Through,
    /// Whether an absent name stays absent until this union creates it.
    absent_for_long: AtomicBool,
    absences: Mutex<HashSet<(NodeId, OsString)>>,
    pending: Arc<Pending>,
    /// Stores content in the kernel's page cache.
    keeper: Arc<OnceLock<fuser::Notifier>>,
    busy_poll: BusyPoll,
    /// Done once the threads that read ahead run.
    ahead: Once,
}

/// Serves `union` over `device`, a mounted `/dev/fuse`, until it is unmounted. Calls `ready` once the mount answers.
pub(crate) fn serve(
    union: Union,
    settings: Settings,
    asked: Fields,
    device: OwnedFd,
    ready: impl FnOnce(),
) -> io::Result<()> {
    let union = Arc::new(union);
    let ids = Arc::new(Ids::default());
    let pending = Arc::new(Pending::default());
    let (sender, receiver) = mpsc::channel();
    let counter = Arc::clone(&pending);
    union.set_notifier(Box::new(move |what| {
        counter.0.fetch_add(1, Ordering::SeqCst);
        if sender.send(what).is_err() {
            counter.0.fetch_sub(1, Ordering::SeqCst);
        }
    }));
    let keeper = Arc::new(OnceLock::new());
    let busy_poll = BusyPoll::new(device.try_clone()?, settings.awake);
    let shared = (Arc::clone(&ids), Arc::clone(&pending), Arc::clone(&keeper));
    let front = Front::new(union, settings, asked, shared, busy_poll);
    let mut config = fuser::Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(settings.threads);
    config.clone_fd = settings.threads > 1;
    let session = Session::from_fd(front, device, SessionACL::All, config)?;
    let notifier = session.notifier();
    _ = keeper.set(session.notifier());
    std::thread::Builder::new()
        .name("invalidate".into())
        .spawn(move || invalidate(&receiver, &notifier, &ids, &pending))?;
    ready();
    session.run()
}

/// Passes invalidations to the kernel. Never on a thread that serves a request: the kernel may hold a lock for the request that
/// the invalidation needs.
fn invalidate(receiver: &mpsc::Receiver<Invalidation>, notifier: &fuser::Notifier, ids: &Ids, pending: &Pending) {
    for what in receiver {
        let result = match &what {
            Invalidation::Node(node) => ids.id(*node).map(|id| notifier.inval_inode(INodeNo(id), 0, 0)),
            Invalidation::Entry { parent, name } => ids.id(*parent).map(|id| notifier.inval_entry(INodeNo(id), name)),
        };
        if let Some(Err(error)) = result
            && error.raw_os_error() != Some(libc::ENOENT)
        {
            tracing::debug!(%error, ?what, "the kernel did not drop what was changed");
        }
        pending.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.union.stop_reading_ahead();
    }
}

impl Front {
    fn new(
        union: Arc<Union>,
        settings: Settings,
        asked: Fields,
        (ids, pending, keeper): (Arc<Ids>, Arc<Pending>, Arc<OnceLock<fuser::Notifier>>),
        busy_poll: BusyPoll,
    ) -> Self {
        let front = Self {
            union,
            settings,
            asked,
            refused: Mutex::default(),
            ids,
            files: Files::default(),
            through: Through::Nothing,
            absent_for_long: AtomicBool::new(true),
            absences: Mutex::default(),
            pending,
            keeper,
            busy_poll,
            ahead: Once::new(),
        };
        front.branches_changed();
        front
    }

    /// Other processes may create names in a second writable branch.
    fn branches_changed(&self) {
        let writable = self.union.branches().iter().filter(|branch| branch.access == Access::ReadWrite).count();
        self.absent_for_long.store(writable <= 1, Ordering::Relaxed);
    }

    /// Starts the threads that read ahead.
    fn read_ahead(&self) {
        self.ahead.call_once(|| {
            for _ in 0..READERS {
                let union = Arc::clone(&self.union);
                let thread = std::thread::Builder::new().name("ahead".into());
                if let Err(error) = thread.spawn(move || union.read_ahead()) {
                    tracing::debug!(%error, "nothing is read ahead");
                }
            }
        });
    }

    fn configure(&mut self, config: &mut KernelConfig) {
        for wanted in [
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_POSIX_ACL,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ] {
            // A kernel without a capability works in an older way.
            _ = config.add_capabilities(wanted);
        }
        _ = config.set_max_write(MAX_WRITE);
        _ = config.set_max_background(64);
        // The kernel grants passthrough only to root of the initial user namespace, and tells others only at open.
        let allowed = self.settings.passthrough == Switch::On
            && !strata_sys::process::in_user_namespace()
            && strata_sys::process::has_capability(strata_sys::process::Capability::SysAdmin);
        if allowed
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(1).is_ok()
        {
            self.through = if self.settings.read_only { Through::All } else { Through::Writable };
        }
    }

    fn node(&self, id: INodeNo) -> Result<NodeId> {
        self.ids.node(id.0).ok_or(Errno::STALE)
    }

    /// Returns the kernel's name for a node that was looked up, and counts the lookup.
    fn enter(&self, entry: &Entry) -> ids::Name {
        self.ids.enter(entry.node, entry.attr.ino, |other| {
            self.union.attr(other, None).map_or(true, |attr| attr.nlink == 0)
        })
    }

    fn attr(&self, id: INodeNo, attr: &Attr) -> fuser::FileAttr {
        convert::attr(attr, id.0)
    }

    /// The description in the root's attribute.
    fn description(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("pid", std::process::id().to_string());
        fields.put_dialect(self.settings.dialect);
        fields.put("passthrough", if self.through == Through::Nothing { "off" } else { "on" });
        fields.put("pending", self.pending.0.load(Ordering::SeqCst).to_string());
        fields.put("nodes", self.union.known_nodes().to_string());
        for branch in self.union.branches() {
            fields.put_branch(&branch);
        }
        if let Some(reason) = &*self.refused.lock().unwrap_or_else(PoisonError::into_inner) {
            fields.put("refused", reason.replace('\0', ""));
        }
        fields.put_all(ASKED, &self.asked);
        fields
    }

    /// Carries out a change that was written to the root's attribute.
    fn change(&self, request: &fuser::Request, value: &[u8]) -> Result<()> {
        // Permission to write the root's attributes is not enough to change branches.
        if request.uid() != 0 && request.uid() != strata_sys::process::effective_uid() {
            return Err(Errno::PERM);
        }
        let change = crate::mount::Change::decode(value).ok_or(Errno::INVAL)?;
        let result = change.apply(&self.union);
        self.branches_changed();
        let absences = std::mem::take(&mut *self.absences.lock().unwrap_or_else(PoisonError::into_inner));
        for (parent, name) in absences {
            self.union.tell(Invalidation::Entry { parent, name });
        }
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = result.as_ref().err().map(ToString::to_string);
        result.map_err(|error| {
            tracing::warn!(%error, "the branches stay as they are");
            match error {
                crate::OpenError::Busy { .. } | crate::OpenError::InUse { .. } => Errno::BUSY,
                crate::OpenError::NoSuchBranch { .. } => Errno::NOENT,
                crate::OpenError::Twice { .. } => Errno::EXIST,
                crate::OpenError::NotADirectory { .. } => Errno::NOTDIR,
                crate::OpenError::ReadOnlyFilesystem { .. } => Errno::ROFS,
                _ => Errno::INVAL,
            }
        })
    }

    /// How long the kernel may cache that a name is absent. If branches can change, remembers the name.
    fn absent_name(&self, parent: NodeId, name: &OsStr) -> Cache {
        if self.settings.dialect != Dialect::Aufs || self.absent() == Cache::Short {
            return self.absent();
        }
        let mut absences = self.absences.lock().unwrap_or_else(PoisonError::into_inner);
        if absences.len() < ABSENCES {
            absences.insert((parent, name.to_owned()));
            return Cache::Long;
        }
        if absences.contains(&(parent, name.to_owned())) { Cache::Long } else { Cache::Short }
    }

    fn absent(&self) -> Cache {
        if self.absent_for_long.load(Ordering::Relaxed) { Cache::Long } else { Cache::Short }
    }
}

/// Flags of every open: closing has no error to report, since every write has reached the file below.
const OPENED: FopenFlags = FopenFlags::FOPEN_NOFLUSH;
