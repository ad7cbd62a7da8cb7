//! Control groups, as far as this crate needs them itself: where a container's are, whether memory ran out, removal.
//!
//! ```text
//! /sys/fs/cgroup/<controller>/strata/<id>/   version 1, or both versions side by side
//! /sys/fs/cgroup/strata/<id>/                version 2 alone
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{
    error::{Context, Error},
    spec::Mount,
};

pub(crate) const MOUNT: &str = "/sys/fs/cgroup";
/// What holds the cgroups of all our containers.
const PARENT: &str = "strata";
/// The kernel may need a moment between a process's end and its cgroup being empty.
const REMOVE_TRIES: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(2);

/// Returns the cgroup of container `id` as `linux.cgroupsPath` has it.
pub fn path_of(id: &str) -> PathBuf {
    Path::new("/").join(PARENT).join(id)
}

/// Whether this machine has cgroup version 2 alone.
pub fn is_unified() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// The controllers of version 1 that a container gets a group in.
const CONTROLLERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "hugetlb",
    "memory",
    "pids",
    "perf_event",
    "blkio",
    "net_prio",
    "net_cls",
    "freezer",
];

/// Returns what shows a container its own groups below `destination` where version 1 is in use; `None` with version 2.
///
/// libcontainer would mount them writable. A hierarchy without a controller (`systemd`) is left out: the container has
/// no group in it, and the machine's own is none of its business.
pub fn v1_mounts(destination: &Path, cgroup: &Path) -> Option<Vec<Mount>> {
    if is_unified() {
        return None;
    }
    let options = |list: &[&str]| list.iter().map(|option| (*option).to_owned()).collect();
    let mut mounts = vec![Mount {
        destination: destination.to_owned(),
        kind: "tmpfs".to_owned(),
        source: "tmpfs".into(),
        options: options(&["noexec", "nosuid", "nodev", "mode=755"]),
    }];
    let below = cgroup.strip_prefix("/").unwrap_or(cgroup);
    for hierarchy in hierarchies(Path::new(MOUNT)) {
        let Some(name) = hierarchy.file_name().and_then(|name| name.to_str()) else { continue };
        if name.split(',').all(|controller| CONTROLLERS.contains(&controller)) {
            mounts.push(Mount {
                destination: destination.join(name),
                kind: "bind".to_owned(),
                source: hierarchy.join(below),
                options: options(&["bind", "ro", "nosuid", "noexec", "nodev"]),
            });
        }
    }
    Some(mounts)
}

/// Fails, naming the folder and the remedy, if no cgroup can be made here.
pub fn check_writable() -> Result<(), Error> {
    let mount = Path::new(MOUNT);
    let hierarchies = hierarchies(mount);
    if hierarchies.is_empty() {
        return Err(Error::Cgroup { path: mount.to_owned(), reason: "no cgroup filesystem is mounted there" });
    }
    for hierarchy in hierarchies {
        if rustix::fs::access(&hierarchy, rustix::fs::Access::WRITE_OK).is_err() {
            return Err(Error::Cgroup { path: hierarchy, reason: "it is not writable" });
        }
    }
    Ok(())
}

/// Returns how many processes of the cgroup the kernel has killed for lack of memory.
pub fn oom_kills(cgroup: &Path) -> u64 {
    let below = cgroup.strip_prefix("/").unwrap_or(cgroup);
    let mount = Path::new(MOUNT);
    let file = if is_unified() {
        mount.join(below).join("memory.events")
    } else {
        mount.join("memory").join(below).join("memory.oom_control")
    };
    fs::read_to_string(file).map_or(0, |text| parse_oom_kills(&text))
}

/// Both versions have a line `oom_kill <count>`.
fn parse_oom_kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// Kills what is left in `cgroup` and removes it from every hierarchy; one that is not there is no error.
///
/// What holds all containers' groups stays: another container may be about to make its own there.
pub fn remove(cgroup: &Path) -> Result<(), Error> {
    let below = cgroup.strip_prefix("/").unwrap_or(cgroup);
    // Never the root of a hierarchy, nor a path that climbs.
    let is_plain = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if below.as_os_str().is_empty() || !is_plain {
        return Ok(());
    }
    for hierarchy in hierarchies(Path::new(MOUNT)) {
        let group = hierarchy.join(below);
        remove_one(&group).context("remove the cgroup", &group)?;
    }
    Ok(())
}

fn remove_one(group: &Path) -> io::Result<()> {
    for attempt in 0..REMOVE_TRIES {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if attempt + 1 == REMOVE_TRIES => return Err(error),
            Err(_) => {
                kill_members(group);
                thread::sleep(REMOVE_PAUSE);
            }
        }
    }
    Ok(())
}

/// Kills every process in `group` and in the groups that the container made below it, and removes those.
fn kill_members(group: &Path) {
    let mut groups = vec![group.to_owned()];
    let mut next = 0;
    while let Some(at) = groups.get(next).cloned() {
        next += 1;
        let children = fs::read_dir(&at).into_iter().flatten().flatten();
        groups.extend(children.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        let members = fs::read_to_string(at.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    for child in groups.iter().skip(1).rev() {
        let _ = fs::remove_dir(child);
    }
}

/// Every hierarchy's root: the mount itself with version 2 alone, else each folder of it.
fn hierarchies(mount: &Path) -> Vec<PathBuf> {
    if is_unified() {
        return vec![mount.to_owned()];
    }
    let mut found: Vec<PathBuf> = fs::read_dir(mount)
        .into_iter()
        .flatten()
        .flatten()
        // A link such as `cpu -> cpu,cpuacct` names a hierarchy that is listed itself.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_kills_are_counted_in_either_version() {
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let v2 = "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n";
        for (text, count) in [(v1, 3), (v2, 1), ("", 0), ("oom_kill x\n", 0)] {
            assert_eq!(parse_oom_kills(text), count, "{text:?}");
        }
    }

    #[test]
    fn a_path_that_climbs_or_is_the_root_is_left_alone() {
        for path in ["/", "", "/../etc", "/strata/../../etc"] {
            remove(Path::new(path)).expect("nothing is done");
        }
    }
}
