//! What the layer store and the image store find themselves.

use std::path::Path;

use strata_graphdriver::names::{aufs, overlay, overlay2};
use strata_image::verify::Object as InImages;
use strata_layer::{Depth, build_cache::is_snapshot, verify::Object as InLayers};
use strata_spec::{CacheId, ImageId};

use super::{Finding, Object, Severity, remedy};
use crate::{
    Stores,
    explain::facts::{folder_of, is_link, link_owner},
    value::read_small,
};

pub(super) fn check(stores: &Stores<'_>) -> Vec<Finding> {
    let of_layers = stores.layers.verify(Depth::Metadata);
    let cache = stores.layers.build_cache();
    // While a record is damaged or lost, a folder that nothing names may be its own.
    let doubt = of_layers.iter().any(|finding| matches!(finding.object, InLayers::Layer(_) | InLayers::Mount(_)))
        || !super::containers::without_mount(stores).is_empty();
    let layer = |finding: strata_layer::Finding| {
        let (severity, object, remedy) = match finding.object {
            InLayers::Layer(id) => (Severity::Error, Object::Layer(id), remedy::LAYER),
            InLayers::Mount(id) => (Severity::Error, Object::Container(id), remedy::MOUNT),
            InLayers::Folder(id) if is_snapshot(id.as_str()) => {
                let remedy = if cache.damage.is_empty() { remedy::SNAPSHOT } else { remedy::DOUBTFUL_SNAPSHOT };
                (Severity::Warning, Object::Folder(id), remedy)
            }
            InLayers::Folder(id) if doubt => (Severity::Warning, Object::Folder(id), remedy::DOUBTFUL_FOLDER),
            InLayers::Folder(id) => (Severity::Warning, Object::Folder(id), remedy::FOLDER),
            InLayers::Stray => (Severity::Warning, Object::Stray, remedy::of_stray(&finding.path)),
        };
        let by_hand = by_hand(stores, &object, &finding.path);
        make(stores, severity, object, &finding.path, finding.reason, by_hand.as_deref().unwrap_or(remedy))
    };
    let image = |finding: strata_image::verify::Finding| {
        let (severity, object, remedy) = match finding.object {
            InImages::Image(id) => (Severity::Error, Object::Image(id), of_image(stores, id, &finding.path)),
            InImages::Name(name) => (Severity::Error, Object::Name(name), remedy::NAME),
            InImages::Names => (Severity::Error, Object::Names, remedy::NAMES),
            InImages::Stray => (Severity::Warning, Object::Stray, remedy::LEFT),
        };
        make(stores, severity, object, &finding.path, finding.reason, remedy)
    };
    of_layers.into_iter().map(layer).chain(stores.images.verify().into_iter().map(image)).collect()
}

/// How one of the driver's own files can be written anew, where that can be told.
fn by_hand(stores: &Stores<'_>, object: &Object, path: &Path) -> Option<String> {
    let home = stores.layers.driver().home();
    let shown = shell_word(path);
    let inner: Vec<&str> = path.strip_prefix(home).ok()?.iter().filter_map(|part| part.to_str()).collect();
    let no_content = "no content is lost: ";
    match *inner.as_slice() {
        [overlay2::LINKS, name] if is_link(name) && !matches!(object, Object::Stray) => {
            let is_own =
                |id: &CacheId| read_small(&folder_of(stores, id).join(overlay2::LINK)).is_ok_and(|text| text == name);
            let owner = stores.layers.driver().list().ok()?.into_iter().find(is_own)?;
            Some(format!("{no_content}ln -sfn ../{owner}/diff {shown}"))
        }
        [id, "link"] => {
            let id: CacheId = id.parse().ok()?;
            let name = link_to(home, &id)?;
            Some(format!("{no_content}printf %s {name} > {shown}"))
        }
        [id, overlay2::LOWER] => {
            let id: CacheId = id.parse().ok()?;
            let link = |below: CacheId| {
                let name =
                    read_small(&folder_of(stores, &below).join(overlay2::LINK)).ok().filter(|name| is_link(name))?;
                Some(format!("l/{name}"))
            };
            let text = all_below(stores, object, &id)?.into_iter().map(link).collect::<Option<Vec<_>>>()?;
            let text = Some(text).filter(|text| !text.is_empty())?;
            Some(format!("{no_content}printf %s {} > {shown}", text.join(":")))
        }
        [id, overlay::LOWER_ID] => {
            let id: CacheId = id.parse().ok()?;
            let below = below(stores, object, &id)?;
            // An init layer stands on the root that its container stands on.
            let root = match below.is_init() {
                true => self::below(stores, object, &below)?,
                false => below,
            };
            Some(format!("{no_content}printf %s {root} > {shown}"))
        }
        [aufs::LAYERS, id] => {
            let id: CacheId = id.parse().ok()?;
            let Some(below) = below(stores, object, &id) else { return Some(format!("{no_content}: > {shown}")) };
            let text = std::fs::read_to_string(home.join(aufs::LAYERS).join(below.as_str())).ok()?;
            let names: Vec<&str> = std::iter::once(below.as_str()).chain(text.lines()).collect();
            Some(format!("{no_content}printf '%s\\n' {} > {shown}", names.join(" ")))
        }
        [aufs::MNT, _] => Some(format!("{no_content}mkdir -m 755 {shown}")),
        [_, "work"] => Some(format!("{no_content}mkdir -m 700 {shown}")),
        _ => None,
    }
}

/// A path as a shell takes it for one word.
pub(super) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    match text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b)) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// The folder that `id`, one of the object's, stands on.
fn below(stores: &Stores<'_>, object: &Object, id: &CacheId) -> Option<CacheId> {
    let top = match object {
        Object::Layer(chain) => stores.layers.get(*chain).ok()?.parent,
        Object::Container(container) => {
            let mount = stores.layers.mount(container).ok()?;
            match mount.init_id {
                Some(init) if mount.mount_id == *id => return Some(init),
                _ => mount.parent,
            }
        }
        _ => None,
    };
    Some(stores.layers.get(top?).ok()?.cache_id)
}

/// All folders that `id`, one of the object's, stands on, from the topmost down, as the records say: the driver's own files may be what
/// is damaged.
fn all_below(stores: &Stores<'_>, object: &Object, id: &CacheId) -> Option<Vec<CacheId>> {
    let (mut folders, mut next) = (Vec::new(), None);
    match object {
        Object::Layer(chain) => next = stores.layers.get(*chain).ok()?.parent,
        Object::Container(container) => {
            let mount = stores.layers.mount(container).ok()?;
            folders.extend(mount.init_id.filter(|_| mount.mount_id == *id));
            next = mount.parent;
        }
        _ => {}
    }
    while let Some(chain) = next {
        let layer = stores.layers.get(chain).ok()?;
        folders.push(layer.cache_id);
        next = layer.parent;
    }
    Some(folders)
}

/// The name in `l/` that leads to a folder.
fn link_to(home: &Path, id: &CacheId) -> Option<String> {
    let links = std::fs::read_dir(home.join(overlay2::LINKS)).ok()?;
    let names = links.flatten().filter(|entry| link_owner(&entry.path()).is_ok_and(|owner| owner == *id));
    names.filter_map(|entry| entry.file_name().into_string().ok()).find(|name| is_link(name))
}

fn of_image(stores: &Stores<'_>, id: ImageId, path: &Path) -> &'static str {
    if path.starts_with(stores.images.layout().metadata(id)) { remedy::PARENT } else { remedy::IMAGE }
}

pub(super) fn make(
    stores: &Stores<'_>,
    severity: Severity,
    object: Object,
    path: &Path,
    reason: impl Into<String>,
    remedy: &str,
) -> Finding {
    let reason = reason.into();
    Finding { severity, object, path: stores.show(path), reason, remedy: remedy.to_owned(), affects: Vec::new() }
}
