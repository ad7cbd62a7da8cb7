//! Which drivers work on a root's filesystem, and which is the best of them.

use std::{cell::OnceCell, io, path::Path};

use strata_sys::{
    btrfs,
    fs::{Feature, info, layer_features, nearest_existing, overlay_features, overlay_registered},
    process::{self, Capability},
};

use crate::{DRIVERS, union};

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
/// `tmp` is a folder of the root, for trying; where it is not there, it is tried in the nearest that is.
pub fn candidates(root: &Path, tmp: &Path, look: Look) -> Vec<Feature> {
    told(root, tmp, look, rights())
}

/// Whether this process may have layers at all, or why not.
fn rights() -> Result<(), String> {
    let user = process::effective_uid();
    match user == 0 && process::has_capability(Capability::SysAdmin) {
        true => Ok(()),
        false => {
            Err(format!("needs root, with CAP_SYS_ADMIN: layers keep owners and are mounted; this is user {user}"))
        }
    }
}

fn told(root: &Path, tmp: &Path, look: Look, rights: Result<(), String>) -> Vec<Feature> {
    let place = Place {
        root: &nearest_existing(root),
        tmp: &nearest_existing(tmp),
        look,
        rights,
        overlay: OnceCell::new(),
        layers: OnceCell::new(),
    };
    DRIVERS
        .iter()
        .map(|&name| {
            let (works, why) = match place.works(name) {
                Ok(how) => (true, how.to_owned()),
                Err(why) => (false, why),
            };
            Feature { name, works, why }
        })
        .collect()
}

/// The best driver for a root without layers, found by trying where that is possible; never vfs, which must be asked for. Otherwise, why each does
/// not work.
pub fn best(root: &Path) -> Result<&'static str, String> {
    // Who may only read is told what is there, or that nothing is.
    let look = if rights().is_ok() { Look::Try } else { Look::Glance };
    let candidates = told(root, root, look, Ok(()));
    match candidates.iter().find(|candidate| candidate.works && candidate.name != "vfs") {
        Some(best) => Ok(best.name),
        None => {
            let why = candidates.iter().filter(|candidate| !candidate.works);
            Err(why.map(|candidate| format!("{}: {}", candidate.name, candidate.why)).collect::<Vec<_>>().join("; "))
        }
    }
}

/// Where drivers are to work, and what was tried there.
struct Place<'a> {
    root: &'a Path,
    tmp: &'a Path,
    look: Look,
    rights: Result<(), String>,
    overlay: OnceCell<Option<Vec<Feature>>>,
    layers: OnceCell<Option<Vec<Feature>>>,
}

impl Place<'_> {
    /// How the driver works here, or why it does not.
    fn works(&self, driver: &str) -> Result<&'static str, String> {
        self.rights.clone()?;
        let keeps = ["owners and modes", "symbolic links"];
        match driver {
            "overlay2" => {
                self.overlay()?;
                Ok("one kernel overlay mount of all layers")
            }
            "overlay" => {
                self.overlay()?;
                self.layers(&["hard links"])?;
                Ok("one kernel overlay mount over hard links; overlay2 takes fewer inodes")
            }
            "btrfs" => {
                self.btrfs()?;
                Ok("snapshots")
            }
            "aufs" => {
                union::available()?;
                self.layers(&keeps)?;
                // Whiteouts are names of one file.
                self.layers(&["hard links"])?;
                Ok("our own union in user space, with AUFS's marks")
            }
            "fuse-overlayfs" => {
                union::available()?;
                self.layers(&keeps)?;
                // Opaque directories are marked by one.
                self.layers(&["xattrs"])?;
                Ok("our own union in user space, with overlayfs's marks")
            }
            "vfs" => {
                self.layers(&keeps)?;
                Ok("a whole copy a layer; only when asked for")
            }
            _ => Err("is not known here".to_owned()),
        }
    }

    fn overlay(&self) -> Result<(), String> {
        let filesystem = info(self.root).map_err(|error| error.to_string())?.type_name;
        if NO_UPPER.contains(&filesystem) {
            return Err(format!("overlay does not work on {filesystem}"));
        }
        if let Ok(false) = overlay_registered() {
            return Err("the kernel has no overlay; try: modprobe overlay".to_owned());
        }
        self.tried(&self.overlay, overlay_features, &["d_type", "trusted xattrs", "native whiteouts", "overlay mounts"])
    }

    fn layers(&self, needed: &[&str]) -> Result<(), String> {
        self.tried(&self.layers, layer_features, needed)
    }

    /// Which of the `needed` does not work. Where nothing can be written, a glance has to do.
    fn tried(
        &self,
        cell: &OnceCell<Option<Vec<Feature>>>,
        try_all: fn(&Path) -> io::Result<Vec<Feature>>,
        needed: &[&str],
    ) -> Result<(), String> {
        let tried = cell.get_or_init(|| if self.look == Look::Try { try_all(self.tmp).ok() } else { None });
        let lacking = |feature: &&Feature| needed.contains(&feature.name) && !feature.works;
        match tried.iter().flatten().find(lacking) {
            Some(lacking) => Err(format!("{}: {}", lacking.name, lacking.why)),
            None => Ok(()),
        }
    }

    fn btrfs(&self) -> Result<(), String> {
        match btrfs::is_btrfs(self.root) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let filesystem = info(self.root).map_or("another filesystem", |info| info.type_name);
                Err(format!("the root is on {filesystem}"))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_is_told_of_and_vfs_is_never_the_best() {
        let scratch = strata_testkit::scratch();
        let Some(()) = strata_testkit::require::root() else { return };
        for look in [Look::Glance, Look::Try] {
            let told = candidates(&scratch.join("not/there"), scratch.path(), look);
            assert_eq!(told.iter().map(|one| one.name).collect::<Vec<_>>(), DRIVERS);
            assert!(told.iter().all(|one| !one.why.is_empty()), "{told:?}");
        }
        assert_ne!(best(scratch.path()), Ok("vfs"));
        assert_eq!(std::fs::read_dir(scratch.path()).expect("list").count(), 0);
    }

    /// On the filesystem of `path`, which a glance takes for good.
    fn lacks(path: &Path, driver: &str) -> Option<String> {
        let told = candidates(path, path, Look::Try).into_iter().find(|one| one.name == driver).expect("told");
        assert_eq!(
            std::fs::read_dir(path)
                .expect("list")
                .filter(|e| e.as_ref().is_ok_and(|e| e.file_name() != "lost+found"))
                .count(),
            0
        );
        (!told.works).then_some(told.why)
    }

    #[test]
    fn without_file_types_in_directories_the_kernels_overlay_does_not_work() {
        let Some(fs) = strata_testkit::LoopFs::ext2_without_d_type(16 << 20) else { return };
        for driver in ["overlay2", "overlay"] {
            let why = lacks(fs.path(), driver).expect("it lacks d_type");
            assert!(why.starts_with("d_type: the filesystem keeps no file types"), "{driver}: {why}");
        }
        // A union of ours asks for each file.
        assert_eq!(
            (lacks(fs.path(), "aufs"), lacks(fs.path(), "fuse-overlayfs"), lacks(fs.path(), "vfs")),
            (None, None, None)
        );
        assert_eq!(best(fs.path()), Ok("fuse-overlayfs"));
    }

    #[test]
    fn without_extended_attributes_no_overlay_works() {
        let Some(()) = strata_testkit::require::root() else { return };
        let scratch = strata_testkit::scratch();
        let mounted = std::process::Command::new("mount").args(["-t", "ramfs", "none"]).arg(scratch.path()).status();
        assert!(mounted.is_ok_and(|status| status.success()));
        let found =
            ["overlay2", "overlay", "fuse-overlayfs", "aufs", "vfs"].map(|driver| lacks(scratch.path(), driver));
        let best = best(scratch.path());
        strata_sys::mount::unmount(scratch.path()).expect("unmount");
        for why in &found[..2] {
            assert!(why.as_ref().is_some_and(|why| why.starts_with("trusted xattrs: ")), "{found:?}");
        }
        assert_eq!(found[2].as_deref(), Some("xattrs: the filesystem keeps no extended attributes"));
        assert_eq!((&found[3], &found[4], best), (&None, &None, Ok("aufs")));
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
        assert_eq!((lacks(fs.path(), "btrfs"), lacks(fs.path(), "overlay2")), (None, None));
    }
}
