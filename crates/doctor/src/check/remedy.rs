//! The ways out.

use std::path::Path;
use strata_graphdriver::names::overlay2;

pub(super) const CLOSED: &str = "only its records were checked: set right what the reason names, or take the root to where this driver works; \
                                 then check again";
pub(super) const LAYER: &str = "load an image that has this layer again: what is damaged is set aside and unpacked anew; its containers need \
                                to be made again";
pub(super) const CONTENTS: &str = "remove the images that have this layer, and load them again";
pub(super) const MOUNT: &str =
    "save what is needed of its files with `cp` or by hand, then `rm --force` it and make it again";
pub(super) const FOLDER: &str = "it takes space alone: look at it with `explain`, then remove it with its name in l/";
pub(super) const DOUBTFUL_FOLDER: &str = "leave it until the damaged records are healed: it may be theirs";
pub(super) const SNAPSHOT: &str = "leave it: its name is one that the build cache gives, and `docker builder prune` removes what the cache does not need";
pub(super) const DOUBTFUL_SNAPSHOT: &str = "leave it: it may belong to the build cache, whose records are damaged";
pub(super) const IMAGE: &str = "load the image again; or remove it by ID with `rmi --force`";
pub(super) const PARENT: &str = "remove the file: only the link to the parent is lost";
pub(super) const NAME: &str = "load the image again, or remove the name with `rmi`";
pub(super) const NAMES: &str = "no image is lost: move the file away, and tag the images again by ID";
pub(super) const LEFT: &str = "it is of no use any more and can be removed";
pub(super) const DANGLING: &str = "remove the link: it leads to nothing";
pub(super) const SETTLED: &str = "any command that changes the root settles it first; then check again";
pub(super) const RECORD: &str =
    "its files are safe in its layer: copy them out of the folder that `explain` names, then `rm --force` it";
pub(super) const HOST_CONFIG: &str = "put the file back from a backup, or `rm --force` the container and make it again";
pub(super) const NO_MOUNT: &str =
    "no folder of the driver can be its read-write layer, so its files are lost: `rm --force` it and make it again";
pub(super) const NO_RECORD: &str = "save what is needed from the folder that `explain` names; then remove the folder under layerdb/mounts, and its layers";
pub(super) const NO_IMAGE: &str = "it runs as before; to commit it or make another, load the image again";
pub(super) const NOT_RUNNING: &str = "the next command on the container, or the start of dockerd, sets that right";
pub(super) const UNMOUNT: &str = "unmount it with `umount`";

/// For a container whose record in layerdb is missing, where several folders may be its own.
pub(super) fn of_candidates(candidates: &[strata_spec::CacheId]) -> String {
    let names: Vec<&str> = candidates.iter().map(|id| id.as_str()).collect();
    format!(
        "no content is lost: its files are in one of the folders {}; look at them with `explain`, and copy out what is needed before you remove \
         the container",
        names.join(", ")
    )
}

/// Something in the driver's home or in layerdb that belongs to nothing.
pub(super) fn of_stray(path: &Path) -> &'static str {
    let in_links = path.parent().and_then(Path::file_name).is_some_and(|name| name == overlay2::LINKS);
    if in_links { DANGLING } else { LEFT }
}
