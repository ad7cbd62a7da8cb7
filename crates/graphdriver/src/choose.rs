//! Which drivers work on a root's filesystem, and which is the best of them.

use std::path::Path;

use strata_sys::{
    btrfs,
    fs::{Feature, info, nearest_existing, overlay_features, overlay_registered},
};

use crate::DRIVERS;

/// Filesystems that overlay does not take for its upper directory.
const NO_UPPER: [&str; 4] = ["overlayfs", "aufs", "nfs", "ecryptfs"];

/// How hard to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// By what kernel and filesystem say of themselves: nothing is written.
    Glance,
    /// By trying, in a folder made in the given one and removed again.
    Try,
}

/// Says of each driver of this build, best first, whether it works on the filesystem of `root`, and why or why not.
///
/// `tmp` is a folder of the root, for trying; it need not be there.
pub fn candidates(root: &Path, tmp: &Path, look: Look) -> Vec<Feature> {
    let place = nearest_existing(root);
    let overlay = overlay(&place, tmp, look);
    DRIVERS
        .iter()
        .map(|&name| {
            let (works, why) = match name {
                "overlay2" => told(&overlay, "one kernel overlay mount of all layers"),
                "overlay" => told(&overlay, "one kernel overlay mount over hard links; overlay2 takes fewer inodes"),
                "btrfs" => told(&on_btrfs(&place), "snapshots"),
                "aufs" => told(&crate::union::available(), "our own union in user space, with AUFS's marks"),
                "fuse-overlayfs" => {
                    told(&crate::union::available(), "our own union in user space, with overlayfs's marks")
                }
                "vfs" => (true, "a whole copy a layer; only when asked for".to_owned()),
                _ => (false, "is not known here".to_owned()),
            };
            Feature { name, works, why }
        })
        .collect()
}

/// The best driver for a root without layers; never vfs, which must be asked for. Otherwise, why each does not work.
pub fn best(root: &Path) -> Result<&'static str, String> {
    let candidates = candidates(root, root, Look::Glance);
    match candidates.iter().find(|candidate| candidate.works && candidate.name != "vfs") {
        Some(best) => Ok(best.name),
        None => {
            let why = candidates.iter().filter(|candidate| !candidate.works);
            Err(why.map(|candidate| format!("{}: {}", candidate.name, candidate.why)).collect::<Vec<_>>().join("; "))
        }
    }
}

fn told(result: &Result<(), String>, how: &str) -> (bool, String) {
    match result {
        Ok(()) => (true, how.to_owned()),
        Err(why) => (false, why.clone()),
    }
}

fn overlay(place: &Path, tmp: &Path, look: Look) -> Result<(), String> {
    let filesystem = info(place).map_err(|error| error.to_string())?.type_name;
    if NO_UPPER.contains(&filesystem) {
        return Err(format!("overlay does not work on {filesystem}"));
    }
    // Where nothing can be written, a glance has to do.
    if look == Look::Try
        && let Ok(tried) = overlay_features(tmp)
    {
        let needed = ["d_type", "trusted xattrs", "native whiteouts", "overlay mounts"];
        return match tried.iter().find(|feature| needed.contains(&feature.name) && !feature.works) {
            Some(lacking) => Err(format!("{}: {}", lacking.name, lacking.why)),
            None => Ok(()),
        };
    }
    match overlay_registered() {
        Ok(false) => Err("the kernel has no overlay; try: modprobe overlay".to_owned()),
        _ => Ok(()),
    }
}

fn on_btrfs(place: &Path) -> Result<(), String> {
    match btrfs::is_btrfs(place) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let filesystem = info(place).map_or("another filesystem", |info| info.type_name);
            Err(format!("the root is on {filesystem}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_is_told_of_and_vfs_is_never_the_best() {
        let scratch = strata_testkit::scratch();
        for look in [Look::Glance, Look::Try] {
            let told = candidates(&scratch.join("not/there"), scratch.path(), look);
            assert_eq!(told.iter().map(|one| one.name).collect::<Vec<_>>(), DRIVERS);
            assert!(told.iter().all(|one| !one.why.is_empty()), "{told:?}");
        }
        assert_ne!(best(scratch.path()), Ok("vfs"));
        assert_eq!(std::fs::read_dir(scratch.path()).expect("list").count(), 0);
    }

    #[test]
    fn btrfs_works_on_btrfs_alone() {
        let Some(fs) = strata_testkit::LoopFs::btrfs(128 << 20) else { return };
        let works = |root: &Path| {
            let told = candidates(root, root, Look::Glance);
            told.into_iter().find(|one| one.name == "btrfs").is_some_and(|one| one.works)
        };
        assert!(works(fs.path()));
        assert!(!works(Path::new("/proc")));
    }
}
