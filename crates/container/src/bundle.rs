//! From a container's record to what a runtime is told.
//!
//! Source: moby `daemon/oci_linux.go`, `daemon/volumes_unix.go`, version 20.10.

use std::path::{Path, PathBuf};

use strata_durable::{Context, create_dir_all};
use strata_runtime::{
    Spec, SpecBuilder,
    spec::{Mount, Network, SeccompProfile},
};
use strata_sys::tree::Dir;

use crate::{
    Container, Error, HostConfig, Layout, create::make_working_dir, env, mounts::clean, record::MountPoint, user,
};

/// Builds the runtime's configuration for `container`, whose root is mounted at `rootfs`, and makes what it stands on: the
/// working directory, and the sources of bind mounts.
pub(crate) fn spec(container: &Container, rootfs: &Path, layout: &Layout) -> Result<Spec, Error> {
    let (record, host) = (&container.record, &container.host);
    let root = Dir::open(rootfs).context("open", rootfs)?;
    make_working_dir(&root, &record.config.working_dir)?;

    let mut user = user::lookup(&root, &record.config.user)?;
    user.groups.extend(user::additional_groups(&root, host.group_add.as_deref().unwrap_or_default())?);
    let own_env = record.config.env.as_deref().unwrap_or_default();
    let mut env = env::of_process(own_env, &record.config.hostname, record.config.tty);
    if !env.iter().any(|variable| env::key(variable) == "HOME") {
        env.push(format!("HOME={}", user.home));
    }
    let cwd = if record.config.working_dir.is_empty() { "/" } else { &record.config.working_dir };

    let security = Security::parse(host)?;
    let empty = Vec::new();
    let mut builder = SpecBuilder::new(container.id.as_str(), rootfs)
        .readonly(host.readonly_rootfs)
        .args(std::iter::once(&record.path).chain(&record.args))
        .env(env)
        .cwd(cwd)
        .user(user.uid, user.gid, &user.groups)
        .hostname(&record.config.hostname)
        .terminal(record.config.tty)
        .capabilities(host.cap_add.as_ref().unwrap_or(&empty), host.cap_drop.as_ref().unwrap_or(&empty))
        .no_new_privileges(security.no_new_privileges || record.no_new_privileges)
        .oom_score_adj(host.oom_score_adj.try_into().unwrap_or(0))
        .network(if host.network_mode == "host" { Network::Host } else { Network::None });
    if let Some(bytes) = u64::try_from(host.shm_size).ok().filter(|bytes| *bytes > 0) {
        builder = builder.shm_size(bytes);
    }
    if security.unconfined {
        builder = builder.seccomp(SeccompProfile::Unconfined);
    }
    for mount in mounts(container, layout)? {
        builder = match mount {
            Wanted::Mount(mount) => builder.mount(mount),
            Wanted::Tmpfs(destination, options) => {
                builder.tmpfs(destination, &options.split(',').filter(|o| !o.is_empty()).collect::<Vec<_>>())
            }
        };
    }
    let mut spec = builder.build()?;
    if !record.config.domainname.is_empty() {
        spec.linux.sysctl.insert("kernel.domainname".to_owned(), record.config.domainname.clone());
    }
    if let Some(paths) = &host.masked_paths {
        spec.linux.masked_paths.clone_from(paths);
    }
    if let Some(paths) = &host.readonly_paths {
        spec.linux.readonly_paths.clone_from(paths);
    }
    Ok(spec)
}

/// What `--security-opt` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Security {
    no_new_privileges: bool,
    unconfined: bool,
}

impl Security {
    fn parse(host: &HostConfig) -> Result<Self, Error> {
        let mut security = Self::default();
        for option in host.security_opt.iter().flatten() {
            let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (name, value) {
                ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
                ("no-new-privileges", "false") => security.no_new_privileges = false,
                ("seccomp", "unconfined") => security.unconfined = true,
                // There is no label or profile to take away.
                ("label" | "apparmor", _) => {}
                _ => {
                    return Err(Error::Unsupported(format!(
                        "--security-opt {option} is not available: there are no-new-privileges and seccomp=unconfined"
                    )));
                }
            }
        }
        Ok(security)
    }
}

enum Wanted {
    Mount(Mount),
    Tmpfs(PathBuf, String),
}

impl Wanted {
    fn depth(&self) -> usize {
        let destination = match self {
            Self::Mount(mount) => &mount.destination,
            Self::Tmpfs(destination, _) => destination,
        };
        destination.components().count()
    }
}

/// All mounts but the defaults, the outer before the inner.
fn mounts(container: &Container, layout: &Layout) -> Result<Vec<Wanted>, Error> {
    let (record, host) = (&container.record, &container.host);
    let mut wanted = Vec::new();
    for point in record.mount_points.values().filter(|point| !NETWORK_FILES.contains(&point.destination.as_str())) {
        wanted.push(match point.kind.as_str() {
            "tmpfs" => Wanted::Tmpfs(point.destination.clone().into(), String::new()),
            _ => Wanted::Mount(bind(point, &source(point, layout)?)),
        });
    }
    for (destination, options) in &host.tmpfs {
        wanted.push(Wanted::Tmpfs(clean(destination).into(), options.clone()));
    }
    let dir = layout.container(&container.id);
    for (destination, own) in NETWORK_FILES.into_iter().zip([dir.resolv_conf(), dir.hostname(), dir.hosts()]) {
        let mount = match record.mount_points.get(destination) {
            Some(point) => bind(point, &source(point, layout)?),
            None => bind_options(&own, destination, !host.readonly_rootfs, "rprivate"),
        };
        wanted.push(Wanted::Mount(mount));
    }
    wanted.sort_by_key(Wanted::depth);
    Ok(wanted)
}

const NETWORK_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];

fn bind(point: &MountPoint, source: &Path) -> Mount {
    let propagation = if point.propagation.is_empty() { "rprivate" } else { &point.propagation };
    bind_options(source, &point.destination, point.rw, propagation)
}

fn bind_options(source: &Path, destination: &str, writable: bool, propagation: &str) -> Mount {
    let mut options = vec!["rbind".to_owned()];
    if !writable {
        options.push("ro".to_owned());
    }
    options.push(propagation.to_owned());
    Mount { destination: destination.into(), kind: "bind".to_owned(), source: source.to_owned(), options }
}

/// Where a mount's content is; for `-v` a directory is made where there is nothing.
///
/// Fails in dockerd's words where a volume is missing, or where mounts cannot spread from the source as the mount wants.
fn source(point: &MountPoint, layout: &Layout) -> Result<PathBuf, Error> {
    let path = point.host_path(layout);
    if path.symlink_metadata().is_ok() {
        check_spread(&path, &point.propagation)?;
        return Ok(path);
    }
    if point.kind == "volume" {
        let missing = path.ancestors().take_while(|part| part.symlink_metadata().is_err()).last().unwrap_or(&path);
        return Err(Error::invalid(format!(
            "error evaluating symlinks from mount source \"{}\": lstat {}: no such file or directory",
            path.display(),
            missing.display()
        )));
    }
    if point.skip_mountpoint_creation {
        return Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            path.display()
        )));
    }
    create_dir_all(&path, 0o755)?;
    check_spread(&path, &point.propagation)?;
    Ok(path)
}

/// Whether the mount that holds `path` is shared, or at least a slave, where `propagation` needs that.
///
/// Source: moby 20.10, `daemon/oci_linux.go`, `ensureShared`, `ensureSharedOrSlave`.
fn check_spread(path: &Path, propagation: &str) -> Result<(), Error> {
    let (tags, what): (&[&str], _) = match propagation {
        "shared" | "rshared" => (&["shared:"], "a shared mount"),
        "slave" | "rslave" => (&["shared:", "master:"], "a shared or slave mount"),
        _ => return Ok(()),
    };
    let real = path.canonicalize().context("find", path)?;
    let mounts = strata_sys::mount::mounts().context("read", "/proc/self/mountinfo")?;
    // Of several at one place the last hides the others.
    let holds = mounts.iter().enumerate().filter(|(_, mount)| real.starts_with(&mount.target));
    let Some((_, mount)) = holds.max_by_key(|(at, mount)| (mount.target.components().count(), *at)) else {
        return Ok(());
    };
    if mount.tags.iter().any(|tag| tags.iter().any(|wanted| tag.starts_with(wanted))) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "path {} is mounted on {} but it is not {what}",
        path.display(),
        mount.target.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;

    fn fixture(name: &str) -> Container {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/records")).join(name);
        let record = Record::parse(&std::fs::read(dir.join("config.v2.json")).unwrap()).unwrap();
        let host = HostConfig::parse(&std::fs::read(dir.join("hostconfig.json")).unwrap()).unwrap();
        Container { id: record.id.parse().unwrap(), record, host }
    }

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "root:x:0:0::/root:\nbob:x:1000:1000::/home/bob:\n").unwrap();
        std::fs::write(root.path().join("etc/group"), "staff:x:50:bob\n").unwrap();
        root
    }

    #[test]
    fn a_record_becomes_a_configuration() {
        let (root, mut container) = (root(), fixture("rich"));
        container.record.mount_points.clear();
        let spec = spec(&container, root.path(), &Layout::new("/srv/root")).unwrap();
        assert_eq!(spec.process.args, ["/bin/sh", "-c", "echo hello; exit 4"]);
        assert_eq!((spec.process.user.uid, spec.process.user.additional_gids), (1000, vec![1000, 50]));
        assert!(spec.process.env.contains(&"HOME=/home/bob".to_owned()), "{:?}", spec.process.env);
        assert_eq!(spec.process.cwd, "/work");
        assert!(root.path().join("work").is_dir());
        let last: Vec<_> = spec.mounts.iter().rev().take(3).map(|m| m.destination.to_str().unwrap()).collect();
        assert!(last.contains(&"/etc/hosts") && last.contains(&"/etc/resolv.conf"), "{last:?}");
    }

    #[test]
    fn outer_mounts_come_first_and_own_files_win() {
        let (root, mut container) = (root(), fixture("created"));
        let scratch = tempfile::tempdir().unwrap();
        let add = |container: &mut Container, destination: &str, rw: bool| {
            let source = scratch.path().join("a").to_str().unwrap().to_owned();
            let point = MountPoint {
                source,
                destination: destination.into(),
                rw,
                kind: "bind".into(),
                ..MountPoint::default()
            };
            container.record.mount_points.insert(destination.into(), point);
        };
        add(&mut container, "/m/n/o", true);
        add(&mut container, "/etc/hosts", false);
        container.host.tmpfs.insert("/m".into(), "size=1m".into());
        let spec = spec(&container, root.path(), &Layout::new("/srv/root")).unwrap();
        let at = |path: &str| spec.mounts.iter().position(|m| m.destination == Path::new(path)).unwrap();
        assert!(at("/m") < at("/m/n/o"));
        let hosts = &spec.mounts[at("/etc/hosts")];
        assert_eq!((hosts.source.as_path(), hosts.options[1].as_str()), (scratch.path().join("a").as_path(), "ro"));
        assert!(scratch.path().join("a").is_dir(), "a missing source is made");
        assert_eq!(spec.mounts.iter().filter(|m| m.destination == Path::new("/etc/hosts")).count(), 1);

        container.record.mount_points.get_mut("/m/n/o").unwrap().skip_mountpoint_creation = true;
        container.record.mount_points.get_mut("/m/n/o").unwrap().source = "/none/such".into();
        let error = super::spec(&container, root.path(), &Layout::new("/srv/root")).unwrap_err();
        assert!(error.to_string().contains("bind source path does not exist: /none/such"));
    }

    #[test]
    fn a_volume_is_found_by_its_name_in_this_root_and_must_be_there() {
        let (root, mut container) = (root(), fixture("created"));
        let (copy, original) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = original.path().join("volumes/kept/_data");
        std::fs::create_dir_all(&data).unwrap();
        let layout = Layout::new(copy.path());
        let point = MountPoint {
            source: data.to_str().unwrap().to_owned(),
            destination: "/v".into(),
            name: "kept".into(),
            driver: "local".into(),
            kind: "volume".into(),
            rw: true,
            ..MountPoint::default()
        };
        container.record.mount_points.clear();
        container.record.mount_points.insert("/v".into(), point);
        let error = spec(&container, root.path(), &layout).unwrap_err().to_string();
        let (own, volumes) = (layout.volume("kept").join("_data"), layout.volumes());
        assert_eq!(
            error,
            format!(
                "error evaluating symlinks from mount source \"{}\": lstat {}: no such file or directory",
                own.display(),
                volumes.display()
            )
        );
        assert!(!volumes.exists(), "nothing is made in its place");
        std::fs::create_dir_all(&own).unwrap();
        let mounts = spec(&container, root.path(), &layout).unwrap().mounts;
        let mount = mounts.iter().find(|mount| mount.destination == Path::new("/v")).unwrap();
        assert_eq!(mount.source, own, "the root that this one is a copy of is left alone");
    }

    #[test]
    fn a_source_that_spreads_nowhere_is_refused_where_it_must() {
        use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
        if !rustix::process::geteuid().is_root() {
            println!("skip: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        mount("spread", dir.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        let path = dir.path().join("below");
        std::fs::create_dir(&path).unwrap();
        let check = |propagation: &str| check_spread(&path, propagation).map_err(|error| error.to_string());
        mount_change(dir.path(), MountPropagationFlags::PRIVATE).unwrap();
        let private: Vec<_> = ["", "rprivate", "rshared", "slave"].map(check).into();
        mount_change(dir.path(), MountPropagationFlags::SHARED).unwrap();
        let shared: Vec<_> = ["shared", "rslave"].map(check).into();
        unmount(dir.path(), UnmountFlags::DETACH).unwrap();
        let refused = |what: &str| {
            Err(format!("path {} is mounted on {} but it is not {what}", path.display(), dir.path().display()))
        };
        assert_eq!(private, [Ok(()), Ok(()), refused("a shared mount"), refused("a shared or slave mount")]);
        assert_eq!(shared, [Ok(()), Ok(())]);
    }

    #[test]
    fn security_options() {
        let host = |options: &[&str]| HostConfig {
            security_opt: Some(options.iter().map(|o| (*o).to_owned()).collect()),
            ..HostConfig::default()
        };
        let parsed = Security::parse(&host(&["no-new-privileges", "label=disable", "seccomp=unconfined"])).unwrap();
        assert_eq!(parsed, Security { no_new_privileges: true, unconfined: true });
        assert!(Security::parse(&host(&["seccomp={}"])).is_err());
    }
}
