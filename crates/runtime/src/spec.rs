//! Docker's default runtime configuration, and the setters by which a container's own settings come on top.
//!
//! ```
//! use strata_runtime::spec::{Network, SpecBuilder};
//! let spec = SpecBuilder::new("4f0c7a53ab12", "/srv/rootfs")
//!     .args(["sh", "-c", "echo hi"])
//!     .env(["PATH=/bin"])
//!     .network(Network::None)
//!     .build()
//!     .expect("only known capabilities");
//! assert_eq!(spec.process.cwd, "/");
//! ```

mod capability;
mod oci;
mod seccomp;

use std::path::PathBuf;

pub use capability::{ALL as ALL_CAPABILITIES, DEFAULT as DEFAULT_CAPABILITIES, tweak as tweak_capabilities};
pub use oci::{
    Capabilities, DeviceRule, Linux, Mount, Namespace, Process, Resources, Rlimit, Root, Seccomp, SeccompArg,
    SeccompRule, Spec, User,
};
pub use seccomp::{Arch, docker_default as seccomp_profile};

use strata_sys::process::kernel_version;

use crate::{cgroup, error::Error};

/// The version of the runtime specification that is written.
const OCI_VERSION: &str = "1.0.2";
/// Docker's `--shm-size` where none is given, in bytes.
pub const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// What a container is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// A network namespace of its own that has `lo` alone.
    None,
    /// The caller's.
    Host,
    /// An existing namespace, by its file.
    Join(PathBuf),
}

/// Which system calls a container may make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeccompProfile {
    /// Docker's default, fitted to the container's capabilities, this architecture and this kernel.
    Default,
    /// Any: `--security-opt seccomp=unconfined`.
    Unconfined,
    /// The one given.
    Custom(Seccomp),
}

/// Builds a [`Spec`] as dockerd 20.10 does: start from the defaults, set what differs.
#[derive(Clone, Debug)]
pub struct SpecBuilder {
    root: Root,
    process: Process,
    hostname: String,
    shm_size: u64,
    mounts: Vec<Mount>,
    network: Network,
    cgroup_path: PathBuf,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    seccomp: SeccompProfile,
}

impl SpecBuilder {
    /// Starts from Docker's defaults for container `id`, whose root filesystem is mounted at `rootfs` (absolute).
    pub fn new(id: &str, rootfs: impl Into<PathBuf>) -> Self {
        Self {
            root: Root { path: rootfs.into(), readonly: false },
            process: Process { cwd: "/".to_owned(), oom_score_adj: Some(0), ..Process::default() },
            hostname: id.chars().take(12).collect(),
            shm_size: DEFAULT_SHM_SIZE,
            mounts: Vec::new(),
            network: Network::None,
            cgroup_path: cgroup::path_of(id),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            seccomp: SeccompProfile::Default,
        }
    }

    /// Makes the root filesystem read-only (`--read-only`), once all mounts are in place.
    pub fn readonly(mut self, readonly: bool) -> Self {
        self.root.readonly = readonly;
        self
    }

    /// The command and its arguments.
    pub fn args<I: IntoIterator<Item: Into<String>>>(mut self, args: I) -> Self {
        self.process.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// The environment, `NAME=value`. Where `HOME` is missing the runtime adds it from the container's `/etc/passwd`.
    pub fn env<I: IntoIterator<Item: Into<String>>>(mut self, env: I) -> Self {
        self.process.env = env.into_iter().map(Into::into).collect();
        self
    }

    /// The working directory; it must exist, or be made by the caller, as dockerd does.
    pub fn cwd(mut self, cwd: impl Into<String>) -> Self {
        self.process.cwd = cwd.into();
        self
    }

    /// The user, its group and all its groups (Docker lists the primary group among them).
    pub fn user(mut self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        self.process.user = User { uid, gid, additional_gids: groups.to_vec() };
        self
    }

    /// The name in the container's own UTS namespace; by default the first 12 digits of the ID.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = hostname.into();
        self
    }

    /// Gives the process a pseudo-terminal (`-t`).
    pub fn terminal(mut self, terminal: bool) -> Self {
        self.process.terminal = terminal;
        self
    }

    /// Size of `/dev/shm` in bytes.
    pub fn shm_size(mut self, bytes: u64) -> Self {
        self.shm_size = bytes;
        self
    }

    /// Adds a mount, after the defaults and after those added before.
    pub fn mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Adds a bind mount as dockerd's `-v source:destination[:ro]`: recursive, propagation private.
    ///
    /// Docker binds `resolv.conf`, `hostname` and `hosts` last, read-only if the root filesystem is.
    pub fn bind(self, source: impl Into<PathBuf>, destination: impl Into<PathBuf>, readonly: bool) -> Self {
        let mut options = vec!["rbind".to_owned()];
        if readonly {
            options.push("ro".to_owned());
        }
        options.push("rprivate".to_owned());
        self.mount(Mount { destination: destination.into(), kind: "bind".to_owned(), source: source.into(), options })
    }

    /// Adds a tmpfs as `--tmpfs destination[:options]`; an option given replaces Docker's default of its kind.
    pub fn tmpfs(self, destination: impl Into<PathBuf>, options: &[&str]) -> Self {
        let mut merged: Vec<String> = Vec::new();
        for (default, opposite) in [("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev")] {
            if !options.contains(&opposite) && !options.contains(&default) {
                merged.push(default.to_owned());
            }
        }
        merged.push("rprivate".to_owned());
        merged.extend(options.iter().map(|option| (*option).to_owned()));
        self.mount(Mount {
            destination: destination.into(),
            kind: "tmpfs".to_owned(),
            source: "tmpfs".into(),
            options: merged,
        })
    }

    /// What the container is connected to; by default nothing.
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// The cgroup below each controller's mount; by default `/strata/<id>`.
    pub fn cgroup_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.cgroup_path = path.into();
        self
    }

    /// `--cap-add` and `--cap-drop`, as users write them.
    pub fn capabilities(mut self, add: &[String], drop: &[String]) -> Self {
        self.cap_add = add.to_vec();
        self.cap_drop = drop.to_vec();
        self
    }

    /// The seccomp profile; by default Docker's.
    pub fn seccomp(mut self, profile: SeccompProfile) -> Self {
        self.seccomp = profile;
        self
    }

    /// Resource limits of the process (`--ulimit`).
    pub fn rlimits(mut self, rlimits: Vec<Rlimit>) -> Self {
        self.process.rlimits = rlimits;
        self
    }

    /// `--security-opt no-new-privileges`.
    pub fn no_new_privileges(mut self, on: bool) -> Self {
        self.process.no_new_privileges = on;
        self
    }

    /// `--oom-score-adj`.
    pub fn oom_score_adj(mut self, adjust: i32) -> Self {
        self.process.oom_score_adj = Some(adjust);
        self
    }

    /// Returns the finished configuration.
    ///
    /// Fails with [`Error::Capability`] if a capability to add or drop is unknown.
    pub fn build(self) -> Result<Spec, Error> {
        let bounding = capability::tweak(&self.cap_add, &self.cap_drop)?;
        let seccomp = match self.seccomp {
            SeccompProfile::Default => Some(seccomp_profile(&bounding, Arch::native(), kernel_version())),
            SeccompProfile::Unconfined => None,
            SeccompProfile::Custom(profile) => Some(profile),
        };
        let mut process = self.process;
        process.capabilities = capability_sets(&bounding, process.user.uid);
        let mut mounts = default_mounts(self.shm_size);
        // Docker replaces a default mount by the user's own on the same place, and keeps the others.
        mounts.retain(|default| self.mounts.iter().all(|own| own.destination != default.destination));
        let rootfs_propagation = rootfs_propagation(&self.mounts);
        mounts.extend(self.mounts);
        Ok(Spec {
            oci_version: OCI_VERSION.to_owned(),
            process,
            root: self.root,
            hostname: self.hostname,
            mounts,
            annotations: Default::default(),
            linux: Linux {
                sysctl: sysctls(&self.network),
                resources: Resources { devices: device_rules() },
                rootfs_propagation,
                cgroups_path: self.cgroup_path,
                namespaces: namespaces(&self.network),
                seccomp,
                masked_paths: strings(&MASKED_PATHS),
                readonly_paths: strings(&READONLY_PATHS),
            },
        })
    }
}

/// Paths of `/proc` and `/sys` that a container does not see.
pub const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// Paths of `/proc` that a container cannot change.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The options of a mount that say how mounts below it spread.
pub const PROPAGATION: [&str; 8] =
    ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"];

/// What the root filesystem must be for the options of `mounts` to mean something, as dockerd has it: mounts spread both ways only where
/// the root's are shared, into the container only where it is at least a slave.
fn rootfs_propagation(mounts: &[Mount]) -> Option<String> {
    let has = |words: [&str; 2]| {
        mounts.iter().flat_map(|mount| &mount.options).any(|option| words.contains(&option.as_str()))
    };
    let word = if has(["shared", "rshared"]) {
        "shared"
    } else if has(["slave", "rslave"]) {
        "rslave"
    } else {
        return None;
    };
    Some(word.to_owned())
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// A user that is not root starts with no capability; the bounding set is what setuid programs may regain.
fn capability_sets(bounding: &[&str], uid: u32) -> Capabilities {
    let held = if uid == 0 { strings(bounding) } else { Vec::new() };
    Capabilities { bounding: strings(bounding), effective: held.clone(), permitted: held }
}

fn default_mounts(shm_size: u64) -> Vec<Mount> {
    let shm = format!("size={shm_size}");
    let table: [(&str, &str, &str, &[&str]); 7] = [
        ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
    ];
    table
        .iter()
        .map(|(destination, kind, source, options)| Mount {
            destination: destination.into(),
            kind: (*kind).to_owned(),
            source: source.into(),
            options: strings(options),
        })
        .collect()
}

/// Lets users without capabilities bind low ports and ping, in the container's own network namespace.
fn sysctls(network: &Network) -> std::collections::BTreeMap<String, String> {
    if *network != Network::None {
        return Default::default();
    }
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn namespaces(network: &Network) -> Vec<Namespace> {
    let network = match network {
        Network::None => Some(Namespace::new("network")),
        Network::Host => None,
        Network::Join(path) => Some(Namespace { kind: "network".to_owned(), path: Some(path.clone()) }),
    };
    [Some(Namespace::new("mount")), network]
        .into_iter()
        .flatten()
        .chain(["uts", "pid", "ipc"].map(Namespace::new))
        // With cgroup v1 Docker leaves containers in the host's cgroup namespace, with v2 each gets its own.
        .chain(cgroup::is_unified().then(|| Namespace::new("cgroup")))
        .collect()
}

/// Nothing but the harmless: zero, null, urandom, random, tty, console; and FUSE is denied by name.
fn device_rules() -> Vec<DeviceRule> {
    let character = |allow, major, minor| DeviceRule {
        allow,
        kind: Some("c".to_owned()),
        major: Some(major),
        minor: Some(minor),
        access: "rwm".to_owned(),
    };
    vec![
        DeviceRule { allow: false, access: "rwm".to_owned(), ..DeviceRule::default() },
        character(true, 1, 5),
        character(true, 1, 3),
        character(true, 1, 9),
        character(true, 1, 8),
        character(true, 5, 0),
        character(true, 5, 1),
        character(false, 10, 229),
    ]
}
