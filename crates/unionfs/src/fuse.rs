//! The union as a FUSE filesystem.
//!
//! | module | owns |
//! | --- | --- |
//! | `ops` | the kernel's requests |
//! | `ids` | the kernel's numbers for nodes |
//! | `ioctl` | inode flags |
//! | `awake` | keeping processors from sleeping, if wanted |
//! | `linger` | waiting for the next request before sleeping |
//! | `files` | open files, and which of them the kernel reads and writes by itself |
//! | `control` | attributes of the root that describe the mount and change it |
//! | `convert` | types of the one side in types of the other |
//! | `caller` | who asks |

mod awake;
mod caller;
mod control;
mod convert;
mod files;
mod ids;
mod ioctl;
mod linger;
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
    Access, Attr, Cache, Dialect, Entry, Errno, Invalidation, NodeId, Result, Switch, Union, mount::wire::Fields,
};
use files::{Files, Through};
use ids::Ids;
use linger::Linger;

/// Bytes of one write request at most.
const MAX_WRITE: u32 = 1 << 20;

/// Names known not to be there that are remembered at most, for when branches change.
const ABSENCES: usize = 16 << 10;

/// Threads that read ahead.
const READERS: usize = 4;

/// How the front serves a union.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub dialect: Dialect,
    pub passthrough: Switch,
    pub awake: Switch,
    /// Nothing is ever written through this mount, in no branch.
    pub read_only: bool,
    pub threads: usize,
}

/// Prefix of the fields of a description that say what was asked for at the mount.
pub(crate) const ASKED: &str = "asked:";

/// What is to be dropped from the kernel's caches, on its way there.
#[derive(Debug, Default)]
struct Pending(AtomicUsize);

/// A union, as the kernel asks it.
pub(crate) struct Front {
    union: Arc<Union>,
    settings: Settings,
    /// What was asked for at the mount, for the description.
    asked: Fields,
    /// Why the last change of branches was refused.
    refused: Mutex<Option<String>>,
    ids: Arc<Ids>,
    files: Files,
    through: Through,
    /// Names that are not there stay so until we make them.
    absent_for_long: AtomicBool,
    absences: Mutex<HashSet<(NodeId, OsString)>>,
    pending: Arc<Pending>,
    /// Puts content into the kernel's page cache.
    keeper: Arc<OnceLock<fuser::Notifier>>,
    linger: Linger,
    /// Threads that read ahead run.
    ahead: Once,
}

/// Serves `union` to the kernel at `device`, an open `/dev/fuse` that is mounted, until it is unmounted.
///
/// `ready` is called when the mount answers.
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
    let linger = Linger::new(device.try_clone()?, settings.awake);
    let shared = (Arc::clone(&ids), Arc::clone(&pending), Arc::clone(&keeper));
    let front = Front::new(union, settings, asked, shared, linger);
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

/// Passes on what is to be dropped. Never on a thread that serves a request: the kernel may hold a lock for that request
/// which it wants for this.
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
        linger: Linger,
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
            linger,
            ahead: Once::new(),
        };
        front.branches_changed();
        front
    }

    /// A second writable branch may get names that we do not hear of.
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
            // What a kernel does not know it does in an older way.
            _ = config.add_capabilities(wanted);
        }
        _ = config.set_max_write(MAX_WRITE);
        _ = config.set_max_background(64);
        // Asked for as root of the first user namespace alone: the kernel gives it to no one else, and says so only at open.
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

    /// Names a node that was looked up to the kernel, which counts that.
    fn enter(&self, entry: &Entry) -> ids::Name {
        self.ids.enter(entry.node, entry.attr.ino, |other| {
            self.union.attr(other, None).map_or(true, |attr| attr.nlink == 0)
        })
    }

    fn attr(&self, id: INodeNo, attr: &Attr) -> fuser::FileAttr {
        convert::attr(attr, id.0)
    }

    /// What the root's attribute tells.
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

    /// Carries out what was written to the root's attribute.
    fn change(&self, request: &fuser::Request, value: &[u8]) -> Result<()> {
        // The kernel has checked that the caller may write the root's attributes; branches take more than that.
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

    /// How long the kernel may believe that a name is not there. Where branches can change, it is remembered what was said.
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

/// Answered to every open: closing a descriptor has nothing to report, since writes are at the file below already.
const OPENED: FopenFlags = FopenFlags::FOPEN_NOFLUSH;
