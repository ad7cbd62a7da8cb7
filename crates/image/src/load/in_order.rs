//! Loading for drivers whose layers need their parents first: each layer is unpacked, checked and registered before the next.

use strata_spec::chain_ids;

use super::{
    Loaded, Options, commit,
    layers::{Claim, Job, unpack},
    plan::{Plan, Planned, Source},
};
use crate::{Error, Store};

/// Loads all images of `plan`; what was registered before a failure is removed when the lease's note is settled.
pub(super) fn load(
    store: &Store,
    source: &dyn Source,
    plan: Plan,
    options: &Options<'_>,
    mut claim: Claim<'_>,
) -> Result<Vec<Loaded>, Error> {
    for image in &plan.images {
        layers(store, source, image, options, &mut claim)?;
    }
    drop(claim.flight);
    let loaded = commit::create(store, plan)?;
    claim.lease.done()?;
    Ok(loaded)
}

fn layers(
    store: &Store,
    source: &dyn Source,
    image: &Planned,
    options: &Options<'_>,
    claim: &mut Claim<'_>,
) -> Result<(), Error> {
    let diffs = image.config.diff_ids();
    let mut parent = None;
    for (index, (chain, file)) in chain_ids(diffs).zip(&image.layers).enumerate() {
        if claim.existing.insert(chain) {
            let job = Job { chain, diff: diffs[index], index, file };
            let place = store.layers().place(parent)?;
            let unpacked = unpack(store, source, &job, place, &options.cancel, options)?;
            store.layers().register(&mut claim.lease, parent, vec![unpacked])?;
        }
        parent = Some(chain);
    }
    Ok(())
}
