//! What the kernel and the filesystem below offer.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use strata_sys::{
    fs::{info, nearest_existing, overlay_features, overlay_parameters, overlay_registered},
    mount::{Overlay, overlay, unmount},
    tree::Dir,
    xattr,
};

use strata_tree::marks::overlay::TRUSTED;

use super::{DOCKER_DEPTH, KERNEL_DEPTH, layout::Link, mount::options};
use crate::{Feature, home::has_d_type};

/// The lines of `docker info`, in its order.
pub(super) fn status(home: &Path) -> Vec<(String, String)> {
    // A root that is not made yet will lie where its parent does.
    let home = &*nearest_existing(home);
    let filesystem = info(home).map_or("<unknown>", |info| match info.type_name {
        "unknown" => "<unknown>",
        name => name,
    });
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        line("Backing Filesystem", filesystem),
        line("Supports d_type", if has_d_type(home) { "true" } else { "false" }),
        // Our mounts switch off what would keep Docker from it.
        line("Native Overlay Diff", "true"),
        line("userxattr", "false"),
    ]
}

/// Tries each feature in a folder below `tmp`, which is on the home's filesystem, or below the nearest that is there.
pub(crate) fn features(tmp: &Path) -> Vec<Feature> {
    let tmp = &*nearest_existing(tmp);
    let mut features = vec![in_kernel()];
    match overlay_features(tmp) {
        Ok(tried) => features.extend(tried),
        Err(error) => features.push(Feature {
            name: "overlay mounts",
            works: false,
            why: format!("not tried: cannot write below {}: {error}", tmp.display()),
        }),
    }
    for feature in &mut features {
        if feature.name == "layers one by one" {
            feature.why = match feature.works {
                true => format!("by the new mount API, up to {KERNEL_DEPTH} below a mount"),
                false => format!("{}; up to {DOCKER_DEPTH} below a mount", feature.why),
            };
        }
    }
    features.push(match native_diff(tmp) {
        Ok(why) => Feature { name: "native diff", works: true, why: why.into() },
        Err(error) => Feature { name: "native diff", works: false, why: error.to_string() },
    });
    let defaults = overlay_parameters();
    for (name, default) in
        [("redirect_dir", defaults.redirect_dir), ("metacopy", defaults.metacopy), ("index", defaults.index)]
    {
        let why = match default {
            Some(on) => format!("the kernel's default is {}; we mount with {name}=off", if on { "on" } else { "off" }),
            None => "this kernel does not have it; not needed".into(),
        };
        features.push(Feature { name, works: default.is_some(), why });
    }
    features
}

fn in_kernel() -> Feature {
    let works = overlay_registered().unwrap_or(false);
    let why = match works {
        true => "/proc/filesystems names it",
        false => "/proc/filesystems does not name it; try: modprobe overlay",
    };
    Feature { name: "overlay in the kernel", works, why: why.into() }
}

/// A directory that is renamed or replaced leaves only marks that the diff reads: none of `redirect`, and `opaque` where it must be.
fn native_diff(tmp: &Path) -> io::Result<&'static str> {
    let bench = Bench::new(tmp)?;
    let (below, above, merged) = (bench.path("below/dir"), bench.path("above"), bench.path("merged"));
    overlay(
        &merged,
        &Overlay {
            lower: vec![&bench.path("below")],
            upper: Some((&above, &bench.path("work"))),
            options: options(),
            base: None,
        },
    )?;
    debug_assert!(below.exists());
    if fs::rename(merged.join("dir"), merged.join("moved")).is_ok() {
        return match xattr::get(above.join("moved"), TRUSTED.redirect)? {
            None => Ok("a renamed directory is copied up"),
            Some(_) => Err(io::Error::other("the kernel redirects renamed directories against redirect_dir=off")),
        };
    }
    fs::remove_dir_all(merged.join("dir"))?;
    fs::create_dir(merged.join("dir"))?;
    match xattr::get(above.join("dir"), TRUSTED.opaque)?.as_deref() {
        Some(b"y") => Ok("what changed is read from the upper directory alone"),
        _ => Err(io::Error::other("a replaced directory is not marked opaque")),
    }
}

/// A folder for a trial, with what a mount needs; unmounted and removed when dropped.
struct Bench {
    parent: PathBuf,
    name: String,
}

impl Bench {
    fn new(parent: &Path) -> io::Result<Self> {
        let name = format!("probe-{}", Link::from_random(strata_sys::process::random()?));
        let bench = Self { parent: parent.to_owned(), name };
        // Its parent is not made: a root that is only read stays as it is.
        fs::create_dir(bench.parent.join(&bench.name))?;
        for dir in ["below/dir", "above", "work", "merged"] {
            fs::create_dir_all(bench.path(dir))?;
        }
        fs::write(bench.path("below/dir/file"), b"1")?;
        Ok(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.parent.join(&self.name).join(name)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = unmount(&self.path("merged"));
        let _ = Dir::open(&self.parent).and_then(|parent| parent.remove_tree(&self.name));
    }
}
