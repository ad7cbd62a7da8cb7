//! Which storage drivers a root has, and which of them new things go to.
//!
//! A driver is *in use* when its store holds an image, a layer or a container's layers. One that was made and never used decides only
//! where none is in use.
//!
//! Source: moby 20.10, `daemon/graphdriver/driver.go`, `New` and `scanPriorDrivers`.

use std::{fs, io, path::Path};

use strata_durable::Context;
use strata_graphdriver::DRIVERS;

use crate::Error;

/// Whether anything is kept with `driver`: an image, a layer, a container's layers. What cannot be read counts: it is to be told of.
fn is_used(root: &Path, driver: &str) -> bool {
    let (images, layers) = (strata_image::Layout::new(root, driver), strata_layer::Layout::new(root, driver));
    [images.contents(), layers.layers(), layers.mounts()].iter().any(|place| match fs::read_dir(place) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    })
}

/// The drivers that the root has image stores of, used or not, by name.
pub fn on(root: &Path) -> Result<Vec<String>, Error> {
    let dir = strata_image::Layout::stores(root);
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.context("read", &dir)?,
    };
    let mut found: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    found.sort();
    Ok(found)
}

/// The drivers in use, best first; those that this build does not know come last, by name.
pub fn in_use(root: &Path) -> Result<Vec<String>, Error> {
    let mut found = on(root)?;
    found.retain(|driver| is_used(root, driver));
    sort(&mut found);
    Ok(found)
}

fn sort(found: &mut [String]) {
    found.sort_by_key(|name| (DRIVERS.iter().position(|known| known == name).unwrap_or(DRIVERS.len()), name.clone()));
}

/// The driver asked for; else the only one in use; else the best of the stores that were made and never used; else the best that works
/// on the root's filesystem.
///
/// `SeveralDrivers` where several are in use, as dockerd refuses to start there. vfs does not count beside others, as with dockerd.
pub fn choose(root: &Path, asked: Option<&str>) -> Result<String, Error> {
    if let Some(asked) = asked {
        return match DRIVERS.contains(&asked) {
            true => Ok(asked.to_owned()),
            false => Err(strata_graphdriver::Error::UnknownDriver(asked.to_owned()).into()),
        };
    }
    let used = in_use(root)?;
    let (known, unknown): (Vec<&str>, Vec<&str>) =
        used.iter().map(String::as_str).partition(|name| DRIVERS.contains(name));
    let decisive: Vec<&str> = known.iter().copied().filter(|name| *name != "vfs" || known.len() == 1).collect();
    match (decisive.as_slice(), unknown.first()) {
        ([only], _) => Ok((*only).to_owned()),
        ([], Some(found)) => Err(Error::ForeignDriver { root: root.to_owned(), found: (*found).to_owned() }),
        ([], None) => unused(root),
        (several, _) => Err(Error::SeveralDrivers { root: root.to_owned(), found: several.join(", ") }),
    }
}

/// For a root that holds nothing.
fn unused(root: &Path) -> Result<String, Error> {
    let mut found = on(root)?;
    sort(&mut found);
    match found.first() {
        Some(best) if DRIVERS.contains(&best.as_str()) => Ok(best.clone()),
        Some(foreign) => Err(Error::ForeignDriver { root: root.to_owned(), found: foreign.clone() }),
        None => strata_graphdriver::choose::best(root)
            .map(str::to_owned)
            .map_err(|why| Error::NoDriver { root: root.to_owned(), why }),
    }
}
