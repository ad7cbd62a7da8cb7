//! Layers registered, images created and named: what makes a load visible, when all has been checked.

use strata_durable::Context;
use strata_layer::{Lease, Unpacked};
use strata_spec::{ChainId, ImageConfig, ImageId, chain_ids};

use super::{
    Loaded, Options,
    layers::{Claim, Ready, ReadyLayers, has_layer},
    plan::{Plan, Planned},
};
use crate::{Error, Store, tags::Previous};

/// Registers what was unpacked, creates the images and gives them their names.
pub(super) fn commit(
    store: &Store,
    plan: Plan,
    mut ready: ReadyLayers,
    options: &Options<'_>,
    mut claim: Claim<'_>,
) -> Result<Vec<Loaded>, Error> {
    for image in &plan.images {
        register(store, image, &mut ready, &mut claim, options)?;
    }
    drop(claim.flight);
    let loaded = create(store, plan)?;
    claim.lease.done()?;
    Ok(loaded)
}

/// Creates the images and gives them their names; their layers are registered.
pub(super) fn create(store: &Store, plan: Plan) -> Result<Vec<Loaded>, Error> {
    let _naming = store.naming()?;
    for image in &plan.images {
        let parent = image.parent.filter(|parent| is_parent(store, &plan, *parent, &image.config));
        store.create(&image.config, parent)?;
    }
    let mut loaded = Vec::new();
    for image in plan.images.into_iter().filter(|image| image.shown) {
        let id = image.config.id();
        let mut names = Vec::new();
        for name in image.names {
            let lost = match store.tags().set(&name, id, true)? {
                Previous::Moved(old) => Some(old),
                Previous::None | Previous::Same => None,
            };
            names.push((name, lost));
        }
        loaded.push(Loaded { id, names });
    }
    Ok(loaded)
}

/// Registers the layers that `image` misses, from the base up.
fn register(
    store: &Store,
    image: &Planned,
    ready: &mut ReadyLayers,
    claim: &mut Claim<'_>,
    options: &Options<'_>,
) -> Result<(), Error> {
    let mut parent = None;
    let mut batch = Vec::new();
    for chain in chain_ids(image.config.diff_ids()) {
        match ready.remove(&chain) {
            Some(Ready::Unpacked(layer)) => batch.push(*layer),
            Some(Ready::CopyOf(first)) => {
                // What is copied must be registered before it can be read.
                parent = flush(store, &mut claim.lease, parent, &mut batch)?;
                batch.push(copy(store, first, options)?);
            }
            None => {
                // It exists, or an image before this one brought it.
                flush(store, &mut claim.lease, parent, &mut batch)?;
                if !has_layer(store, chain)? {
                    return Err(Error::missing_layer(image.config.id(), chain));
                }
                parent = Some(chain);
            }
        }
    }
    flush(store, &mut claim.lease, parent, &mut batch)?;
    Ok(())
}

/// Registers a run of layers over `parent` and returns the topmost.
fn flush(
    store: &Store,
    lease: &mut Lease<'_>,
    parent: Option<ChainId>,
    batch: &mut Vec<Unpacked>,
) -> Result<Option<ChainId>, Error> {
    if batch.is_empty() {
        return Ok(parent);
    }
    let layers = store.layers().register(lease, parent, std::mem::take(batch))?;
    Ok(layers.last().map(|layer| layer.chain_id).or(parent))
}

/// Unpacks once more what layer `of` was unpacked from.
fn copy(store: &Store, of: ChainId, options: &Options<'_>) -> Result<Unpacked, Error> {
    let (reader, writer) = std::io::pipe().context("make a pipe for", store.layout().root())?;
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || store.layers().write_tar(of, writer));
        let unpacked = store.layers().unpack(reader, None, &options.limits);
        // The reader is gone by now, so that a writer which is not done fails and ends.
        let written = writing.join().expect("writing a tar does not panic");
        let unpacked = unpacked?;
        written?;
        Ok(unpacked)
    })
}

/// Whether an image can have been made from `parent`: its layers and history begin with the parent's.
fn is_parent(store: &Store, plan: &Plan, parent: ImageId, image: &ImageConfig) -> bool {
    let planned = plan.images.iter().map(|image| &image.config).find(|config| config.id() == parent);
    let parent = match planned {
        Some(config) => config.clone(),
        None => match store.get(parent) {
            Ok(config) => config,
            Err(_) => return false,
        },
    };
    image.diff_ids().starts_with(parent.diff_ids())
        && image.document().history.starts_with(&parent.document().history)
        && image.document().history.len() > parent.document().history.len()
}
