//! From what a user types to what it means.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

use strata_container::names;
use strata_graphdriver::names::overlay2;
use strata_spec::{CacheId, ChainId, ContainerId, ErrorKind, ImageId};

use super::{
    Explanation, container,
    facts::{folder_of, is_link, link_owner},
    file, image, layer, path,
};
use crate::{Error, Stores, survey::Survey, value::read_small};

/// Digits of an ID that a layer is recognised by, at least.
const DIGITS: usize = 6;

/// What `text` means under each driver that knows it; and a failure that hides nothing of that.
pub(super) fn recognise_all(all: &[Stores<'_>], text: &str) -> (Vec<Explanation>, Option<Error>) {
    let only = |stores: &Stores<'_>| match recognise(stores, text) {
        Ok(explanation) => (vec![explanation], None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let [first, others @ ..] = all else { return (Vec::new(), None) };
    if others.is_empty() {
        return only(first);
    }
    if let Some(place) = place_of(first.root, Path::new(text)) {
        return only(owner_of_path(all, &place));
    }
    let (mut found, mut failed) = (Vec::new(), None);
    for stores in all {
        match recognise(stores, text) {
            Ok(explanation) => found.push(explanation),
            Err(error) if error.kind() == ErrorKind::NotFound && failed.is_some() => {}
            Err(error) => failed = Some(error),
        }
    }
    // A name means a container before it means an image, under whatever driver.
    let least = found.iter().map(Explanation::rank).min();
    found.retain(|explanation| Some(explanation.rank()) == least);
    // A path relative to the root; each driver takes it for its own.
    if let [Explanation::Path(_), Explanation::Path(_), ..] = found.as_slice() {
        return only(owner_of_path(all, &normal(Path::new(text))));
    }
    let failed = failed.filter(|error| found.is_empty() || error.kind() != ErrorKind::NotFound);
    (found, failed)
}

/// The driver that a path relative to the root belongs to; the first where it belongs to all.
fn owner_of_path<'a, 'b>(all: &'a [Stores<'b>], place: &Path) -> &'a Stores<'b> {
    let parts: Vec<&str> = place.iter().map(|part| part.to_str().unwrap_or_default()).collect();
    let owns = |stores: &&Stores<'_>| match parts.as_slice() {
        ["image", driver, ..] => *driver == stores.driver_name(),
        ["containers", id, ..] => id.parse().is_ok_and(|id| stores.containers.is_under(&id, stores.driver_name())),
        ["strata", "mnt", id, ..] => id.parse().is_ok_and(|id| stores.layers.driver().exists(&id)),
        ["volumes", name, ..] => stores.containers.records().is_ok_and(|records| {
            let mut own = records.iter().filter(|record| record.driver == stores.driver_name());
            own.any(|record| record.mount_points.values().any(|mount| mount.name == *name))
        }),
        [driver, ..] => *driver == stores.driver_name(),
        [] => false,
    };
    all.iter().find(owns).unwrap_or(&all[0])
}

pub(super) fn recognise(stores: &Stores<'_>, text: &str) -> Result<Explanation, Error> {
    let given = Path::new(text);
    let place = place_of(stores.root, given);
    if place.is_none() && given.is_absolute() {
        return Err(Error::Outside { path: given.to_owned(), root: stores.root.to_owned() });
    }
    let survey = Survey::of(stores);
    if let Some(place) = place {
        return Ok(Explanation::Path(path::explain(stores, &survey, &place)));
    }
    if let Some((name, inner)) = text.split_once(":/") {
        let inner = format!("/{inner}");
        if let Some(id) = container_of(&survey, name)? {
            let container = survey.container(&id).expect("it was found in the survey");
            return Ok(Explanation::File(file::of_container(stores, &survey, container, &inner)?));
        }
        if let Some(id) = image_of(stores, &survey, name)? {
            return match survey.image(id) {
                Some(image) => Ok(Explanation::File(file::of_image(stores, image, &inner)?)),
                None => Err(stores.images.get(id).err().map_or_else(|| not_found(stores, name), Error::from)),
            };
        }
        return Err(not_found(stores, name));
    }
    named(stores, &survey, text)
}

fn named(stores: &Stores<'_>, survey: &Survey, text: &str) -> Result<Explanation, Error> {
    if let Some(id) = container_of(survey, text)? {
        let container = survey.container(&id).expect("it was found in the survey");
        return Ok(Explanation::Container(container::explain(stores, survey, container)));
    }
    if let Some(id) = image_of(stores, survey, text)? {
        return Ok(Explanation::Image(image::explain(stores, survey, id)?));
    }
    if let Some(id) = layer_of(stores, survey, text)? {
        return Ok(Explanation::Layer(layer::explain(stores, survey, id)));
    }
    if let Some(folder) = folder_called(stores, text)? {
        let place = folder_of(stores, &folder);
        let place = place.strip_prefix(stores.root).unwrap_or(&place).to_owned();
        return match survey.owner_of_folder(&folder) {
            Some(owner) => Ok(Explanation::Container(container::explain(stores, survey, owner))),
            None => Ok(Explanation::Path(path::explain(stores, survey, &place))),
        };
    }
    let inner = normal(Path::new(text));
    if inner != Path::new("") && stores.root.join(&inner).symlink_metadata().is_ok() {
        return Ok(Explanation::Path(path::explain(stores, survey, &inner)));
    }
    Err(not_found(stores, text))
}

fn not_found(stores: &Stores<'_>, text: &str) -> Error {
    let tried =
        "a path, a container's name and ID, an image's reference and ID, a layer's ChainID, DiffID, cache ID and link";
    Error::NotFound { text: text.to_owned(), root: stores.root.to_owned(), tried: tried.to_owned() }
}

/// Where `given` lies under `root`, relative to it; `None` if it does not, or is relative and not there.
///
/// Links that lead into the root are followed, those below it are not: they are what is to be explained.
fn place_of(root: &Path, given: &Path) -> Option<PathBuf> {
    if given.as_os_str().is_empty() {
        return None;
    }
    let full = normal(&std::path::absolute(given).ok()?);
    if given.is_relative() && full.symlink_metadata().is_err() {
        return None;
    }
    if let Ok(place) = full.strip_prefix(root) {
        return Some(place.to_owned());
    }
    let mut outer: Vec<&Path> = full.ancestors().collect();
    outer.reverse();
    outer.into_iter().find_map(|outer| {
        let inside = outer.canonicalize().ok()?.strip_prefix(root).ok()?.to_owned();
        Some(inside.join(full.strip_prefix(outer).ok()?))
    })
}

/// `path` without `.`, and without `..` as the text has it.
fn normal(path: &Path) -> PathBuf {
    let mut parts: Vec<OsString> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.to_owned()),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let root = if path.is_absolute() { Path::new("/") } else { Path::new("") };
    root.join(parts.into_iter().collect::<PathBuf>())
}

/// By full ID, name, or the beginning of an ID, as Docker finds containers; damaged ones too.
fn container_of(survey: &Survey, text: &str) -> Result<Option<ContainerId>, Error> {
    let known = survey.containers.iter().map(|container| (&container.name.id, container.name.name.as_deref()));
    match names::find(text, known) {
        Ok(found) => Ok(found.cloned()),
        Err(names::Ambiguous(several)) => {
            let meanings = several.iter().map(|id| format!("container {id}")).collect();
            Err(Error::Ambiguous { text: text.to_owned(), meanings })
        }
    }
}

fn image_of(stores: &Stores<'_>, survey: &Survey, text: &str) -> Result<Option<ImageId>, Error> {
    match stores.images.resolve_in(text, &survey.names) {
        Ok(id) => Ok(Some(id)),
        Err(strata_image::Error::Ambiguous { count, .. }) => {
            let meanings = vec![format!("one of {count} images whose ID begins so")];
            Err(Error::Ambiguous { text: text.to_owned(), meanings })
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// By ChainID, DiffID or cache ID, or the beginning of one; by the short name of its folder. Layers that images name and that are
/// lost count, too.
fn layer_of(stores: &Stores<'_>, survey: &Survey, text: &str) -> Result<Option<ChainId>, Error> {
    let mut chains: BTreeSet<ChainId> = stores.layers.list()?.into_iter().collect();
    chains.extend(survey.images.iter().flat_map(|image| image.chains.iter().copied()));
    let small = |chain: &ChainId, name: &str| {
        let text = read_small(&stores.layers.layout().layer(*chain).join(name)).unwrap_or_default();
        text.trim_end().to_owned()
    };
    if is_link(text) {
        let owner = link_owner(&stores.layers.driver().home().join(overlay2::LINKS).join(text)).ok();
        return Ok(chains
            .into_iter()
            .find(|chain| owner.as_ref().is_some_and(|id| small(chain, "cache-id") == id.as_str())));
    }
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() < DIGITS || !digits.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) {
        return Ok(None);
    }
    let by_chain: Vec<ChainId> = chains.iter().copied().filter(|chain| chain.hex().starts_with(digits)).collect();
    if let [only] = by_chain.as_slice() {
        return Ok(Some(*only));
    }
    let lost = |chain: &ChainId| {
        let image = survey.images.iter().find(|image| image.chains.contains(chain))?;
        let n = image.chains.iter().position(|id| id == chain)?;
        Some(image.config.diff_ids().get(n)?.hex())
    };
    let mut found: BTreeSet<ChainId> = by_chain.into_iter().collect();
    for chain in &chains {
        let diff = small(chain, "diff");
        let diff = diff.strip_prefix("sha256:").map(str::to_owned).or_else(|| lost(chain)).unwrap_or_default();
        let is_diff = diff.starts_with(digits);
        // The same files over other parents are other layers; their DiffID means the first of them, which tells of the others.
        if is_diff && digits.len() == diff.len() {
            return Ok(Some(*chain));
        }
        if is_diff || small(chain, "cache-id").starts_with(digits) {
            found.insert(*chain);
        }
    }
    match found.len() {
        0 => Ok(None),
        1 => Ok(found.pop_first()),
        _ => {
            let meanings = found.iter().take(10).map(|chain| format!("layer {chain}")).collect();
            Err(Error::Ambiguous { text: text.to_owned(), meanings })
        }
    }
}

/// A folder of the driver that no layer has: by its name, the beginning of it, or its short name.
fn folder_called(stores: &Stores<'_>, text: &str) -> Result<Option<CacheId>, Error> {
    if is_link(text) {
        return Ok(link_owner(&stores.layers.driver().home().join(overlay2::LINKS).join(text)).ok());
    }
    if let Ok(id) = text.parse::<CacheId>() {
        return Ok(folder_of(stores, &id).is_dir().then_some(id));
    }
    if text.len() < DIGITS || stores.layers.driver().usable().is_err() {
        return Ok(None);
    }
    let mut folders = stores.layers.driver().list()?;
    // A container's init folder begins like its read-write one.
    folders.retain(|id| id.as_str().starts_with(text) && !id.is_init());
    match folders.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => {
            let meanings = several.iter().take(10).map(|id| format!("folder {id}")).collect();
            Err(Error::Ambiguous { text: text.to_owned(), meanings })
        }
    }
}
