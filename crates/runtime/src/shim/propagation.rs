//! How mounts spread between the host and the container: `rprivate`, `rslave`, `rshared` and the like.
//!
//! libcontainer leaves these options of a mount out: each stays what the root filesystem's propagation has made of its source, a slave of
//! the host in most cases. They are put right here, as runc has them, between the creation of the container and its start.
//!
//! Source: runc 1.1, `libcontainer/rootfs_linux.go`; mount_namespaces(7).

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    mount::MountPropagationFlags,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{
    error::{Context, Error},
    spec::Mount,
};

/// Puts right how the mounts of the container whose first process is `pid` spread.
///
/// Must not run in a process with threads, which could not change its mount namespace.
pub(super) fn apply(pid: i32, mounts: &[Mount]) -> Result<(), Error> {
    let wanted: Vec<_> = mounts.iter().filter_map(|mount| Some((&mount.destination, flags(&mount.options)?))).collect();
    let table = PathBuf::from(format!("/proc/{pid}/mountinfo"));
    let found = fs::read_to_string(&table).context("read", &table)?;
    let spreads = [" shared:", " master:"].iter().any(|tag| found.contains(tag));
    let is_default = |(_, flags): &(_, MountPropagationFlags)| flags.contains(MountPropagationFlags::PRIVATE);
    if wanted.is_empty() || !spreads && wanted.iter().all(is_default) {
        return Ok(());
    }
    let inside = Namespace::enter(pid)?;
    // libcontainer shares the container's own root where one of its mounts is to be shared; runc does not.
    let root = (Path::new("/"), MountPropagationFlags::PRIVATE);
    let mut wanted =
        [root].into_iter().chain(wanted.iter().map(|(destination, flags)| (destination.as_path(), *flags)));
    let changed = wanted.try_for_each(|(destination, flags)| {
        match rustix::mount::mount_change(destination, flags) {
            // A later mount hides this one: nobody inside can see how it spreads.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) if destination != Path::new("/") => Ok(()),
            result => result.context("set the propagation of", destination),
        }
    });
    inside.leave()?;
    Ok(changed?)
}

/// What the options of a mount ask for; the last word counts.
fn flags(options: &[String]) -> Option<MountPropagationFlags> {
    use MountPropagationFlags as Flags;
    options.iter().rev().find_map(|option| {
        Some(match option.as_str() {
            "private" => Flags::PRIVATE,
            "rprivate" => Flags::PRIVATE | Flags::REC,
            "slave" => Flags::DOWNSTREAM,
            "rslave" => Flags::DOWNSTREAM | Flags::REC,
            "shared" => Flags::SHARED,
            "rshared" => Flags::SHARED | Flags::REC,
            "unbindable" => Flags::UNBINDABLE,
            "runbindable" => Flags::UNBINDABLE | Flags::REC,
            _ => return None,
        })
    })
}

/// The way back from another process's mount namespace.
struct Namespace {
    own: File,
    root: File,
}

impl Namespace {
    fn enter(pid: i32) -> Result<Self, Error> {
        let open = |path: &Path| File::open(path).context("open", path);
        let (own, root) = (open(Path::new("/proc/self/ns/mnt"))?, open(Path::new("/"))?);
        let path = PathBuf::from(format!("/proc/{pid}/ns/mnt"));
        let theirs = open(&path)?;
        move_into_link_name_space(theirs.as_fd(), Some(LinkNameSpaceType::Mount)).context("enter", &path)?;
        Ok(Self { own, root })
    }

    fn leave(self) -> Result<(), Error> {
        let path = Path::new("/proc/self/ns/mnt");
        move_into_link_name_space(self.own.as_fd(), Some(LinkNameSpaceType::Mount)).context("return to", path)?;
        // The namespace's root need not have been this process's.
        rustix::process::fchdir(&self.root).context("return to", "/")?;
        Ok(rustix::process::chroot(".").context("return to", "/")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let of = |options: &[&str]| flags(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["rbind", "ro"]), None);
        assert_eq!(of(&["rbind", "rprivate"]), Some(MountPropagationFlags::PRIVATE | MountPropagationFlags::REC));
        assert_eq!(of(&["rprivate", "slave"]), Some(MountPropagationFlags::DOWNSTREAM));
    }
}
