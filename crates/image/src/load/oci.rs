//! OCI layouts: `index.json`, and everything else named by its digest.
//!
//! ```text
//! oci-layout                 {"imageLayoutVersion":"1.0.0"}
//! index.json                 an index; each entry an image, or one more index (an image for several platforms)
//! blobs/<algorithm>/<hex>    indexes, manifests, configs, layers
//! ```
//!
//! Names come from the annotations of the entries of `index.json`: `io.containerd.image.name`, a whole reference; else
//! `org.opencontainers.image.ref.name` where it is more than a bare tag (a tag alone says nothing about the repository).
//!
//! Source: OCI image-spec 1.1, image-layout.md, image-index.md, manifest.md.

use std::collections::BTreeMap;

use serde::Deserialize;
use strata_spec::{
    Reference,
    manifest::{
        ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor, Index, Manifest, OCI_LAYOUT_FILE, Platform, media_type,
    },
};

use super::{
    Options,
    names::shorten,
    plan::{LayerFile, Plan, Planned, Source, blob_document, blob_name, json},
};
use crate::Error;

const INDEX: &str = "index.json";
/// Indexes in indexes.
const NESTING_MAX: usize = 4;
/// Entries of one index.
const ENTRIES_MAX: usize = 4096;

/// Reads `index.json`. Entries that are no images (artifacts, signatures, media types of others) are passed over, as the
/// specification has it; where nothing else is there, the error says what they are.
pub(super) fn plan(source: &dyn Source, index: &[u8], options: &Options<'_>) -> Result<Plan, Error> {
    check_layout(source)?;
    let index = parse_index(INDEX, index)?;
    // Entries of one name are one image for several platforms, written flat.
    let mut groups: BTreeMap<(Option<String>, usize), Vec<Descriptor>> = BTreeMap::new();
    let mut others = Vec::new();
    for (at, entry) in index.manifests.iter().enumerate().filter(|(_, entry)| !is_attestation(entry)) {
        if let Some(other) = foreign(entry, INDEX) {
            others.push(other);
            continue;
        }
        let name = name_of(entry)?.map(|name| name.to_string());
        let alone = if entry.platform.is_some() { 0 } else { at + 1 };
        groups.entry((name, alone)).or_default().push(entry.clone());
    }
    let walk = Walk { source, options };
    let mut plan = Plan::default();
    for ((name, _), group) in groups {
        let found = match group.as_slice() {
            [one] => walk.descriptor(one, INDEX, 0)?,
            _ => walk.best(Index::oci(group), INDEX, 0)?,
        };
        let mut image = match found {
            Found::Image(image) => *image,
            Found::Other(other) => {
                others.push(other);
                continue;
            }
        };
        if let Some(name) = name {
            image.names.push(Reference::parse(&name).map_err(|error| Error::load(INDEX, error.to_string()))?);
        }
        plan.add(image)?;
    }
    match others.into_iter().next() {
        Some(other) if plan.images.is_empty() => Err(Error::load(other.object, other.reason)),
        _ => Ok(plan),
    }
}

/// What a descriptor leads to.
enum Found {
    Image(Box<Planned>),
    Other(Other),
}

/// Something in a layout that is no image.
struct Other {
    object: String,
    reason: String,
}

/// Whether the descriptor alone says that it leads to no image.
fn foreign(entry: &Descriptor, from: &str) -> Option<Other> {
    let reason = if !media_type::is_manifest(&entry.media_type) && !media_type::is_index(&entry.media_type) {
        format!("{from} says it is of media type {:?}, which is no image", shorten(&entry.media_type))
    } else {
        let kind = entry.artifact_type.as_deref().filter(|kind| !media_type::is_image_config(kind))?;
        format!("{from} says it is an artifact of type {:?}, not an image", shorten(kind))
    };
    Some(Other { object: blob_name(entry.digest), reason })
}

/// Refuses a layout of another major version.
fn check_layout(source: &dyn Source) -> Result<(), Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let Some(bytes) = source.document(OCI_LAYOUT_FILE)? else { return Ok(()) };
    let version = json::<Layout>(OCI_LAYOUT_FILE, &bytes)?.image_layout_version;
    if version.split('.').next() != Some("1") {
        return Err(Error::load(OCI_LAYOUT_FILE, format!("layout version {:?} is not 1.x", shorten(&version))));
    }
    Ok(())
}

/// The name that an entry of `index.json` gives its image.
fn name_of(entry: &Descriptor) -> Result<Option<Reference>, Error> {
    let text = match (entry.annotations.get(ANNOTATION_IMAGE_NAME), entry.annotations.get(ANNOTATION_REF_NAME)) {
        (Some(name), _) => name,
        (None, Some(name)) if name.contains(['/', ':']) => name,
        _ => return Ok(None),
    };
    match Reference::parse(text) {
        Ok(name) => Ok(Some(name.with_default_tag())),
        Err(error) => Err(Error::load(INDEX, format!("the name {:?} in it: {error}", shorten(text)))),
    }
}

fn parse_index(name: &str, bytes: &[u8]) -> Result<Index, Error> {
    let index = Index::parse(bytes).map_err(|error| Error::load(name, error.to_string()))?;
    if index.manifests.len() > ENTRIES_MAX {
        return Err(Error::load(name, format!("it has more than {ENTRIES_MAX} entries")));
    }
    Ok(index)
}

struct Walk<'a> {
    source: &'a dyn Source,
    options: &'a Options<'a>,
}

impl Walk<'_> {
    /// Follows a descriptor to an image.
    fn descriptor(&self, entry: &Descriptor, from: &str, depth: usize) -> Result<Found, Error> {
        let name = blob_name(entry.digest);
        if let Some(other) = foreign(entry, from) {
            return Ok(Found::Other(other));
        }
        let bytes = blob_document(self.source, entry.digest, Some(entry.size), from)?;
        if media_type::is_manifest(&entry.media_type) {
            return self.manifest(&name, &bytes);
        }
        if depth == NESTING_MAX {
            return Err(Error::load(name, format!("indexes are nested more than {NESTING_MAX} deep")));
        }
        let mut index = parse_index(&name, &bytes)?;
        let offered = index.manifests.len();
        index.manifests.retain(|entry| !is_attestation(entry) && foreign(entry, &name).is_none());
        if index.manifests.is_empty() {
            let reason = format!("it is an index of {offered} entries, none of which is an image");
            return Ok(Found::Other(Other { object: name, reason }));
        }
        self.best(index, &name, depth + 1)
    }

    /// Follows the entry for the wanted platform; the next best where that turns out to be no image. `index` is not empty.
    fn best(&self, mut index: Index, from: &str, depth: usize) -> Result<Found, Error> {
        loop {
            let entry = self.choose(&index, from)?;
            let found = self.descriptor(&entry, from, depth)?;
            index.manifests.retain(|other| other.digest != entry.digest);
            if matches!(found, Found::Image(_)) || index.manifests.is_empty() {
                return Ok(found);
            }
        }
    }

    /// Chooses the entry for the wanted platform.
    fn choose(&self, index: &Index, from: &str) -> Result<Descriptor, Error> {
        let wanted = self.options.platform.clone().unwrap_or_else(Platform::host);
        index.select(&wanted).cloned().ok_or_else(|| {
            let offered: Vec<_> = index.manifests.iter().filter_map(|entry| entry.platform.as_ref()).collect();
            let offered = match offered.as_slice() {
                [] => "none".to_owned(),
                some => shorten(&some.iter().map(|platform| platform.to_string()).collect::<Vec<_>>().join(", ")),
            };
            let what = format!("no matching manifest for {wanted} in the manifest list entries; it has {offered}");
            Error::load(from, what)
        })
    }

    /// Reads a manifest and the config it names.
    fn manifest(&self, name: &str, bytes: &[u8]) -> Result<Found, Error> {
        let manifest = Manifest::parse(bytes).map_err(|error| Error::load(name, error.to_string()))?;
        let other = |reason: String| Ok(Found::Other(Other { object: name.to_owned(), reason }));
        if let Some(kind) = manifest.artifact_type.as_ref().filter(|kind| !kind.is_empty()) {
            return other(format!("it is an artifact of type {:?}, not an image", shorten(kind)));
        }
        if !media_type::is_image_config(&manifest.config.media_type) {
            let kind = shorten(&manifest.config.media_type);
            return other(format!("its config is of type {kind:?}: it is an artifact, not an image"));
        }
        if let Some(layer) = manifest.layers.iter().find(|layer| media_type::layer(&layer.media_type).is_none()) {
            let (digest, kind) = (layer.digest, shorten(&layer.media_type));
            return other(format!("layer {digest} is of type {kind:?}, which is no layer of an image"));
        }
        let config = blob_document(self.source, manifest.config.digest, Some(manifest.config.size), name)?;
        let layers = manifest.layers.iter().map(|layer| LayerFile {
            name: blob_name(layer.digest),
            digest: Some(layer.digest),
            size: Some(layer.size),
        });
        let image = Planned::new(&blob_name(manifest.config.digest), config, layers.collect())?;
        Ok(Found::Image(Box::new(image)))
    }
}

/// What BuildKit puts beside an image: it says of itself that it is for no platform.
fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key("vnd.docker.reference.type")
        || entry
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown")
}
