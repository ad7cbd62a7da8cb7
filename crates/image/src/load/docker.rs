//! Docker archives since 1.10: `manifest.json`.
//!
//! ```text
//! manifest.json                  [{"Config":PATH,"RepoTags":["debian:12"],"Layers":[PATH,…],"Parent":"sha256:…"}]
//! <image ID>.json                a config; since Docker 25 blobs/sha256/<image ID>
//! <any>/layer.tar                a layer, or a link to one; since Docker 25 blobs/sha256/<DiffID>
//! ```
//!
//! Source: moby 20.10, `image/tarexport/load.go`; moby 25, the same.

use strata_spec::{Digest, Reference, manifest::ArchiveManifest};

use super::{
    names::{shorten, wanted},
    plan::{LayerFile, Plan, Planned, Source, blob_digest, check_digest, required},
};
use crate::Error;

const MANIFEST: &str = "manifest.json";

/// Reads `manifest.json`.
pub(super) fn plan(source: &dyn Source, manifest: &[u8]) -> Result<Plan, Error> {
    let items = ArchiveManifest::parse_list(manifest).map_err(|error| Error::load(MANIFEST, error.to_string()))?;
    let mut plan = Plan::default();
    for item in items {
        plan.add(image(source, item)?)?;
    }
    Ok(plan)
}

fn image(source: &dyn Source, item: ArchiveManifest) -> Result<Planned, Error> {
    let name = wanted(&item.config)?;
    let config = required(source, &name, MANIFEST)?;
    if let Some(digest) = promised(&name) {
        check_digest(&name, digest, &config)?;
    }
    let layers = item.layers.iter().map(|path| layer(path)).collect::<Result<_, _>>()?;
    let mut image = Planned::new(&name, config, layers)?;
    for tag in item.repo_tags.iter().flatten() {
        image.names.push(tagged(tag)?);
    }
    if !item.parent.is_empty() {
        let parent = item.parent.parse();
        image.parent = Some(parent.map_err(|error| Error::load(MANIFEST, format!("Parent of {name}: {error}")))?);
    }
    Ok(image)
}

/// Where a layer lies. Without a path it is one that the store has already: buildpacks name the layers of a base image so, which
/// they leave out.
fn layer(path: &str) -> Result<LayerFile, Error> {
    if path.is_empty() { Ok(LayerFile::left_out()) } else { wanted(path).map(LayerFile::new) }
}

/// The digest that a config's file name promises: `<hex>.json`, `sha256:<hex>`, `blobs/sha256/<hex>`.
fn promised(name: &str) -> Option<Digest> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let hex = base.strip_suffix(".json").unwrap_or(base);
    blob_digest(name).or_else(|| base.parse().ok()).or_else(|| format!("sha256:{hex}").parse().ok())
}

fn tagged(tag: &str) -> Result<Reference, Error> {
    match Reference::parse(tag) {
        Ok(reference) if reference.tag().is_some() && reference.digest().is_none() => Ok(reference),
        Ok(_) => Err(Error::load(MANIFEST, format!("invalid tag {:?}", shorten(tag)))),
        Err(error) => Err(Error::load(MANIFEST, format!("invalid tag {:?}: {error}", shorten(tag)))),
    }
}
