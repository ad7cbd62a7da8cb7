//! Removes unreachable objects, a few at a time, so that publications do not wait long at the gate.

use std::time::SystemTime;

use strata_spec::{Algorithm, Digest};

use super::{Report, Run, mark::Marked};
use crate::{error::Error, layout, store::Store};

/// Number of objects removed before the gate opens for others.
const STEP: usize = 32;

/// Removes unreachable manifests on which nothing has relied since `oldest` from their repositories.
pub fn revisions(
    store: &Store,
    marked: &Marked,
    oldest: SystemTime,
    run: Run,
    report: &mut Report,
) -> Result<(), Error> {
    for (name, digest) in &marked.dead {
        let _lock = store.lock(name);
        let _gate = store.storage().collecting()?;
        let revision = layout::revision_link(name, *digest);
        let is_old = store.storage().stat(&revision)?.is_some_and(|stat| stat.relied < oldest);
        if !is_old {
            continue;
        }
        if run == Run::ForReal {
            store.remove_revision(name, *digest)?;
            tracing::info!(%name, %digest, "manifest collected");
        }
        report.manifests.push(format!("{name}@{digest}"));
    }
    Ok(())
}

/// Removes unreachable blobs on which nothing has relied since `oldest`, with their links.
pub fn blobs(store: &Store, marked: &Marked, oldest: SystemTime, run: Run, report: &mut Report) -> Result<(), Error> {
    let storage = store.storage();
    let mut candidates = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let all = format!("{}/{}", layout::BLOBS, algorithm.name());
        for prefix in storage.list(&all)? {
            for hex in storage.list(&format!("{all}/{prefix}"))? {
                candidates.extend(layout::digest_of(algorithm, &hex).filter(|digest| !marked.live.contains(digest)));
            }
        }
    }
    for step in candidates.chunks(STEP) {
        let _gate = storage.collecting()?;
        for digest in step {
            blob(store, marked, *digest, oldest, run, report)?;
        }
    }
    Ok(())
}

/// Removes one blob; the caller is alone inside the gate.
fn blob(
    store: &Store,
    marked: &Marked,
    digest: Digest,
    oldest: SystemTime,
    run: Run,
    report: &mut Report,
) -> Result<(), Error> {
    let storage = store.storage();
    let Some(stat) = storage.stat(&layout::blob(digest))? else { return Ok(()) };
    if stat.relied >= oldest {
        return Ok(());
    }
    if run == Run::ForReal {
        // Links first: a crash in between leaves a blob that the next collection finds.
        for name in marked.links.get(&digest).into_iter().flatten() {
            let below = layout::layers(name, digest.algorithm());
            if storage.remove(&layout::layer_link(name, digest), &below)? {
                store.quotas().unlink(name, digest);
            }
        }
        storage.remove_directory(&layout::blob_dir(digest))?;
        store.forget(digest);
        tracing::info!(%digest, bytes = stat.size, "blob collected");
    }
    report.blobs.push(digest.to_string());
    report.bytes += stat.size;
    Ok(())
}
