//! The union in user space, as drivers mount it.

use std::{
    ffi::OsStr,
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
};

use strata_sys::{fs::Feature, xattr};
use strata_unionfs::{
    Access as Writable, Branch, Config, Dialect, Metacopy, RedirectDir, Switch, Xattrs,
    mount::{self, Mount, MountError, State},
};

use crate::{Access, plink};

/// How many folders may lie below one that is mounted. The union itself has no limit; Docker's layer store has 125.
pub(crate) const MAX_DEPTH: usize = 500;

/// Whether a union in user space can be had here.
pub(crate) fn feature() -> Feature {
    let (works, why) = match available() {
        Ok(()) => (true, "by FUSE".to_owned()),
        Err(why) => (false, why),
    };
    Feature { name: "union in user space", works, why }
}

/// Why there is none, if there is none.
pub(crate) fn available() -> Result<(), String> {
    const DEVICE: &str = "/dev/fuse";
    match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("there is no {DEVICE}; try: modprobe fuse; in a container, pass the device in"))
        }
        Err(error) => Err(format!("cannot open {DEVICE}: {error}")),
    }
}

/// Mounts `branches`, topmost first, with AUFS's marks on `target`; with `ReadWrite` the topmost is written to. The process behind it is
/// this program again.
pub(crate) fn aufs(branches: &[PathBuf], access: Access, target: &Path) -> io::Result<()> {
    let branches = branches.iter().enumerate().map(|(n, path)| Branch {
        path: path.clone(),
        access: match (n, access) {
            (0, Access::ReadWrite) => Writable::ReadWrite,
            _ => Writable::ReadOnlyWhiteouts,
        },
    });
    let config = Config {
        branches: branches.collect(),
        dialect: Dialect::Aufs,
        work: None,
        options: strata_unionfs::Options::default(),
    };
    mount::spawn(&Mount::new(config), target).map(drop).map_err(io::Error::other)
}

/// Unmounts what is at `target` and waits for the process behind it, if that is a union of ours; else does nothing and says so.
pub(crate) fn unmount_ours(target: &Path) -> bool {
    let is_fuse = strata_sys::fs::info(target).is_ok_and(|info| info.type_name == "fuse");
    is_fuse && matches!(mount::find(target), Ok(Some(_))) && unmount(target).is_ok()
}

/// Unmounts a union of ours, alive or dead, or a kernel's overlayfs. Names of one lower file that was copied up become hard links in the
/// writable branch, where the marks are AUFS's, or of several sorts: who reads that branch next may know of no other means.
pub fn unmount(target: &Path) -> Result<(), MountError> {
    let links = match mount::find(target)?.map(|found| found.state) {
        Some(State::Alive { dialect, branches, work, options, .. }) => {
            let top = branches.first().filter(|top| top.access == Writable::ReadWrite).map(|top| top.path.clone());
            let folder = match (dialect, &top, work) {
                (Dialect::Aufs, Some(top), _) => Some(top.join(plink::PSEUDO_LINKS)),
                (_, Some(_), Some(work)) if options.mixed_marks == Switch::On => Some(work.join(plink::INDEX)),
                _ => None,
            };
            top.zip(folder).map_or(Ok(None), |(top, folder)| plink::find(target, &top, &folder))
        }
        _ => Ok(None),
    };
    mount::unmount(target)?;
    if let Err(error) = links.and_then(|links| links.map_or(Ok(()), plink::Links::make)) {
        tracing::warn!(target = %target.display(), %error, "names of one file may part when it is mounted again");
    }
    Ok(())
}

/// Mounts `lower`, topmost first, below `upper` with its work folder, if there is one, with overlay's marks on `target`.
///
/// Marks of AUFS and of the program fuse-overlayfs are read too. Every layer stays whole and under its own names, and what is written
/// that program reads.
pub(crate) fn overlay(lower: Vec<PathBuf>, upper: Option<(PathBuf, PathBuf)>, target: &Path) -> io::Result<()> {
    let (top, work) = upper.unzip();
    let mut branches: Vec<Branch> = top.map(|path| Branch { path, access: Writable::ReadWrite }).into_iter().collect();
    branches.extend(lower.into_iter().map(|path| Branch { path, access: Writable::ReadOnlyWhiteouts }));
    let xattrs = work.as_deref().map_or(Xattrs::Trusted, namespace);
    let options = strata_unionfs::Options {
        redirect_dir: RedirectDir::Follow,
        index: Switch::On,
        metacopy: Metacopy::Refuse,
        mixed_marks: Switch::On,
        ..Default::default()
    };
    let config = Config { branches, dialect: Dialect::Overlay { xattrs }, work, options };
    mount::spawn(&Mount::new(config), target).map(drop).map_err(io::Error::other)
}

/// Where marks on the filesystem of `work` can be attributes: in a user namespace none are trusted.
fn namespace(work: &Path) -> Xattrs {
    const PROBE: &str = strata_tree::marks::overlay::TRUSTED.opaque;
    let tried = xattr::set(work, OsStr::new(PROBE), b"y").and_then(|()| xattr::remove(work, OsStr::new(PROBE)));
    if tried.is_ok() { Xattrs::Trusted } else { Xattrs::User }
}
