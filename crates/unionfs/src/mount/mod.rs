//! Mounts of unions: making one, served by this process or by one of its own; changing, listing and ending them.
//!
//! | module | owns |
//! | --- | --- |
//! | [`options`] | the options of `-o`, as AUFS and overlayfs spell them |
//! | `process` | the process behind a mount |
//! | `mounted` | finding, changing and unmounting what is mounted |
//! | `fields` | lists of names and values as bytes |
//!
//! A program that uses [`spawn`] calls [`init`] at the start of `main`: the process behind a mount is that program again.

pub(crate) mod fields;
mod mounted;
pub mod options;
mod process;

use std::{
    ffi::{CString, OsString},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

pub use mounted::{MountInfo, State, change, find, is_kernel_overlay, list, remount, unmount};
pub use process::{init, spawn};
pub use rustix::mount::MountFlags;

use crate::{
    Branch, Config, OpenError, Switch, Union,
    fuse::{self, Settings},
};
use fields::Fields;

/// The type of our mounts, as `mount` and `/proc/self/mountinfo` show it.
pub const FILESYSTEM: &str = "fuse.strata";

/// A union to mount.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The union.
    pub union: Config,
    /// The source that `mount` shows; any text.
    pub source: OsString,
    /// `nodev`, `ro` and the like.
    pub flags: MountFlags,
    /// Whether the kernel may read and write files of the writable branch directly (FUSE passthrough, Linux 6.9).
    pub passthrough: Switch,
    /// Holds `/dev/cpu_dma_latency`, a power setting of the whole machine, while one request follows another: answers come
    /// sooner, and idle processors take power. Off by default.
    pub awake: Switch,
    /// Threads that answer the kernel; `None`: as many as there are processors, between 2 and 8.
    pub threads: Option<usize>,
    /// The log of [`spawn`]'s process; `None`: it writes none.
    pub log: Option<PathBuf>,
}

impl Mount {
    /// A mount with the default settings.
    pub fn new(union: Config) -> Self {
        Self {
            union,
            source: "strata".into(),
            flags: MountFlags::empty(),
            passthrough: Switch::On,
            awake: Switch::Off,
            threads: None,
            log: None,
        }
    }
}

/// Why a union cannot be mounted, changed or unmounted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum MountError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot use the mount point {}: {source}", path.display())]
    MountPoint { path: PathBuf, source: io::Error },
    #[error(
        "cannot open /dev/fuse, which a union in user space needs ({source}); load the kernel's module with `modprobe fuse`, or pass the device into the container"
    )]
    Device { source: io::Error },
    #[error("cannot mount on {}: {source}", path.display())]
    Mount { path: PathBuf, source: io::Error },
    #[error("cannot mount on {}: only root may mount, or the owner of a user namespace (`unshare -Urm`)", path.display())]
    NoRights { path: PathBuf },
    #[error("the union on {} ended early: {source}", path.display())]
    Serve { path: PathBuf, source: io::Error },
    #[error("cannot start the process of the union: {source}")]
    Start { source: io::Error },
    #[error("{message}")]
    Refused { message: String },
    #[error("no union of ours is mounted on {}", path.display())]
    NotMounted { path: PathBuf },
    #[error("{} is in use; end the processes that `fuser -vm {}` lists, then try again", path.display(), path.display())]
    Busy { path: PathBuf },
    #[error("cannot unmount {}: {source}", path.display())]
    Unmount { path: PathBuf, source: io::Error },
    #[error("cannot change the branches of {}: {source}; its log says more", path.display())]
    Change { path: PathBuf, source: io::Error },
    #[error("the branches of {} are unchanged: {reason}", path.display())]
    Unchanged { path: PathBuf, reason: String },
    #[error(transparent)]
    Option(#[from] options::OptionError),
    #[error("cannot change the options of the mount on {}: {source}", path.display())]
    Remount { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", path.display())]
    Table { path: PathBuf, source: io::Error },
}

/// Mounts a union and serves it from this process until it is unmounted. Calls `ready` once the mount answers.
///
/// Branches and mount point may be relative. `SIGTERM` and `SIGINT` unmount the union.
pub fn serve(mount: Mount, mountpoint: &Path, ready: impl FnOnce()) -> Result<(), MountError> {
    let target = mounted::resolve(mountpoint)?;
    let read_only = mount.union.never_writes();
    let asked =
        fields(&Mount { union: Config { branches: Vec::new(), ..mount.union.clone() }, ..mount.clone() }, &target)
            .map_err(|source| MountError::Start { source })?;
    let settings = Settings {
        dialect: mount.union.dialect,
        passthrough: mount.passthrough,
        awake: mount.awake,
        read_only,
        threads: mount.threads.unwrap_or_else(|| strata_sys::process::cpus().clamp(2, 8)).max(1),
    };
    let union = Union::open(mount.union)?;
    let device =
        attach(&mount.source, &target, if read_only { mount.flags | MountFlags::RDONLY } else { mount.flags })?;
    if let Ok(own) = device_of(&target) {
        union.set_own_device(own);
    }
    process::unmount_on_signal(&target)?;
    fuse::serve(union, settings, asked, device, ready).map_err(|source| {
        _ = rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH);
        MountError::Serve { path: target, source }
    })
}

/// Returns the device number of the mount on `target`, from the kernel's cache: the filesystem gets no request.
fn device_of(target: &Path) -> io::Result<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
    let stat = statx(CWD, target, AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT, StatxFlags::TYPE)?;
    Ok(makedev(stat.stx_dev_major, stat.stx_dev_minor))
}

/// Mounts a new FUSE filesystem and returns its device.
fn attach(source: &OsString, target: &Path, flags: MountFlags) -> Result<OwnedFd, MountError> {
    use std::os::fd::AsRawFd;
    let device: OwnedFd = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(|source| MountError::Device { source })?
        .into();
    let (uid, gid) = (strata_sys::process::effective_uid(), strata_sys::process::effective_gid());
    let data = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions,allow_other",
        device.as_raw_fd()
    );
    let data = CString::new(data).map_err(|error| MountError::Mount { path: target.into(), source: error.into() })?;
    match rustix::mount::mount(source.as_os_str(), target, FILESYSTEM, flags, data.as_c_str()) {
        Ok(()) => Ok(device),
        Err(rustix::io::Errno::PERM) => Err(MountError::NoRights { path: target.into() }),
        Err(errno) => Err(MountError::Mount { path: target.into(), source: errno.into() }),
    }
}

/// A change of a mounted union's branches. AUFS dialect alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Inserts a branch.
    Insert {
        /// Its place; 0 is the top.
        index: usize,
        /// The branch.
        branch: Branch,
    },
    /// Adds a branch at the bottom.
    Append {
        /// The branch.
        branch: Branch,
    },
    /// Removes a branch.
    Remove {
        /// Its path.
        path: PathBuf,
    },
    /// Changes what may be done in a branch.
    SetAccess {
        /// The branch, with its new access.
        branch: Branch,
    },
}

impl Change {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        match self {
            Self::Insert { index, branch } => {
                fields.put("insert", index.to_string());
                fields.put_branch(branch);
            }
            Self::Append { branch } => {
                fields.put("append", "");
                fields.put_branch(branch);
            }
            Self::Remove { path } => fields.put_path("remove", path),
            Self::SetAccess { branch } => {
                fields.put("access", "");
                fields.put_branch(branch);
            }
        }
        fields.encode()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let fields = Fields::decode(bytes)?;
        if let Some(path) = fields.path("remove") {
            return Some(Self::Remove { path });
        }
        let branch = fields.branches().pop()?;
        if let Some(index) = fields.text("insert") {
            return Some(Self::Insert { index: index.parse().ok()?, branch });
        }
        if fields.get("append").is_some() {
            return Some(Self::Append { branch });
        }
        fields.get("access").map(|_| Self::SetAccess { branch })
    }

    pub(crate) fn apply(self, union: &Union) -> Result<(), OpenError> {
        match self {
            Self::Insert { index, branch } => union.add_branch(index, branch),
            Self::Append { branch } => union.add_branch(usize::MAX, branch),
            Self::Remove { path } => union.remove_branch(&path),
            Self::SetAccess { branch } => union.set_access(&branch.path, branch.access),
        }
    }
}

/// Encodes a mount for the process of [`spawn`].
fn encode(mount: &Mount, mountpoint: &Path) -> io::Result<Vec<u8>> {
    fields(mount, mountpoint).map(|fields| fields.encode())
}

fn fields(mount: &Mount, mountpoint: &Path) -> io::Result<Fields> {
    use std::os::unix::ffi::OsStrExt;
    let mut fields = Fields::default();
    let Mount { union, source, flags, passthrough, awake, threads, log } = mount;
    fields.put_path("mountpoint", mountpoint);
    fields.put("source", source.as_bytes());
    fields.put("flags", flags.bits().to_string());
    fields.put("passthrough", switch_name(*passthrough));
    fields.put("awake", switch_name(*awake));
    if let Some(threads) = threads {
        fields.put("threads", threads.to_string());
    }
    if let Some(log) = log {
        fields.put_path("log", &std::path::absolute(log)?);
    }
    fields.put_dialect(union.dialect);
    if let Some(work) = &union.work {
        fields.put_path("work", &std::path::absolute(work)?);
    }
    let redirect = match union.options.redirect_dir {
        crate::RedirectDir::On => "on",
        crate::RedirectDir::Follow => "follow",
        crate::RedirectDir::NoFollow => "nofollow",
    };
    fields.put("redirect_dir", redirect);
    fields.put("index", switch_name(union.options.index));
    let metacopy = match union.options.metacopy {
        crate::Metacopy::Make => "on",
        crate::Metacopy::Follow => "follow",
        crate::Metacopy::Refuse => "off",
    };
    fields.put("metacopy", metacopy);
    let volatile = if union.options.durability == crate::Durability::Volatile { Switch::On } else { Switch::Off };
    fields.put("volatile", switch_name(volatile));
    fields.put("mixed_marks", switch_name(union.options.mixed_marks));
    for Branch { path, access } in &union.branches {
        fields.put_branch(&Branch { path: std::path::absolute(path)?, access: *access });
    }
    Ok(fields)
}

fn decode(bytes: &[u8]) -> Option<(Mount, PathBuf)> {
    let fields = Fields::decode(bytes)?;
    Some((mount_of(&fields)?, fields.path("mountpoint")?))
}

fn mount_of(fields: &Fields) -> Option<Mount> {
    let switch = |name| if fields.text(name) == Some("on") { Switch::On } else { Switch::Off };
    let options = crate::Options {
        redirect_dir: match fields.text("redirect_dir")? {
            "on" => crate::RedirectDir::On,
            "follow" => crate::RedirectDir::Follow,
            _ => crate::RedirectDir::NoFollow,
        },
        index: switch("index"),
        metacopy: match fields.text("metacopy")? {
            "on" => crate::Metacopy::Make,
            "follow" => crate::Metacopy::Follow,
            _ => crate::Metacopy::Refuse,
        },
        durability: match switch("volatile") {
            Switch::On => crate::Durability::Volatile,
            Switch::Off => crate::Durability::CopyUpSynced,
        },
        mixed_marks: switch("mixed_marks"),
    };
    let union = Config { branches: fields.branches(), dialect: fields.dialect()?, work: fields.path("work"), options };
    Some(Mount {
        union,
        source: fields.path("source")?.into_os_string(),
        flags: MountFlags::from_bits_retain(fields.text("flags")?.parse().ok()?),
        passthrough: switch("passthrough"),
        awake: switch("awake"),
        threads: fields.text("threads").and_then(|threads| threads.parse().ok()),
        log: fields.path("log"),
    })
}

fn switch_name(switch: Switch) -> &'static str {
    match switch {
        Switch::On => "on",
        Switch::Off => "off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, Dialect};

    #[test]
    fn a_mount_and_its_changes_survive_the_way_to_the_process() {
        let branch = |path: &str, access| Branch { path: path.into(), access };
        let mut mount = Mount::new(Config {
            branches: vec![branch("/a=b", Access::ReadWrite), branch("/c:d,\n", Access::ReadOnlyWhiteouts)],
            dialect: Dialect::Overlay { xattrs: crate::Xattrs::User },
            work: Some("/w".into()),
            options: crate::Options {
                durability: crate::Durability::Volatile,
                mixed_marks: Switch::On,
                ..Default::default()
            },
        });
        mount.flags = MountFlags::NODEV;
        mount.log = Some("/log".into());
        let (decoded, target) = decode(&encode(&mount, Path::new("/mnt")).unwrap()).unwrap();
        assert_eq!(format!("{decoded:?}"), format!("{mount:?}"));
        assert_eq!(target, Path::new("/mnt"));
        for change in [
            Change::Insert { index: 2, branch: branch("/x", Access::ReadOnly) },
            Change::Append { branch: branch("/x", Access::ReadWrite) },
            Change::Remove { path: "/y".into() },
            Change::SetAccess { branch: branch("/z", Access::ReadOnlyWhiteouts) },
        ] {
            assert_eq!(Change::decode(&change.encode()), Some(change));
        }
    }
}
