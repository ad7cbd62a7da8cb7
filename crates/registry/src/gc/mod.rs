//! Garbage collection while the registry serves.
//!
//! | module | owns |
//! | --- | --- |
//! | [`mark`] | what is reachable |
//! | [`sweep`] | removing the rest in small steps |
//!
//! A collection starts at the time `T0`, which it takes while it holds the publication gate alone. It then marks all repositories while
//! clients change them. An object that is unreachable, and on which nobody has relied since `T0` less the grace time, is removed inside
//! the gate, after its time of last reliance is read again. A publication that makes an object reachable and is not seen by the mark
//! entered the gate after `T0` and relied on the object there. A removed object was therefore unreachable throughout.
//! `docs/formats/registry.md` has the argument in full.

pub mod mark;
pub mod sweep;

use std::time::{Duration, SystemTime};

use crate::{
    error::Error,
    store::Store,
    upload::{self, Uploads},
};

/// Default grace time: content that nothing names is kept this long, for a push under way.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 3600);

/// Whether a collection removes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Removes garbage.
    ForReal,
    /// Reports what would be removed.
    Dry,
}

/// What happens to manifests that no tag reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untagged {
    /// They stay, with all that they name.
    Keep,
    /// They are garbage.
    Remove,
}

/// Options of a collection.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether anything is removed.
    pub run: Run,
    /// Age at which unreachable content is removed.
    pub grace: Duration,
    /// What happens to untagged manifests.
    pub untagged: Untagged,
    /// Age at which an upload is removed; `None` leaves uploads alone.
    pub uploads: Option<Duration>,
}

/// What a collection removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of repositories visited.
    pub repositories: usize,
    /// Number of reachable manifests and blobs.
    pub kept: usize,
    /// Manifests removed from their repositories, as `name@digest`.
    pub manifests: Vec<String>,
    /// Digests of removed blobs.
    pub blobs: Vec<String>,
    /// Size of the removed blobs, in bytes.
    pub bytes: u64,
    /// Directories of abandoned uploads.
    pub uploads: Vec<String>,
    /// Manifests and tags that could not be read, with the reason.
    pub damaged: Vec<String>,
    /// Repositories that were kept whole because of them.
    pub kept_whole: Vec<String>,
}

/// Collects garbage. Blocks; clients may read and write meanwhile.
pub fn collect(store: &Store, uploads: &Uploads, options: &Options) -> Result<Report, Error> {
    // Alone inside the gate: a publication that relied on something earlier has also written what names it, so the mark sees it.
    let begun = {
        let _gate = store.storage().collecting()?;
        store.storage().now()?
    };
    let oldest = begun.checked_sub(options.grace).unwrap_or(SystemTime::UNIX_EPOCH);
    let marked = mark::mark(store, options.untagged)?;
    let mut report = Report {
        repositories: marked.repositories,
        kept: marked.live.len(),
        damaged: marked.damaged.clone(),
        kept_whole: marked.kept_whole.iter().map(ToString::to_string).collect(),
        ..Report::default()
    };
    sweep::revisions(store, &marked, oldest, options.run, &mut report)?;
    sweep::blobs(store, &marked, oldest, options.run, &mut report)?;
    if let Some(age) = options.uploads {
        report.uploads = upload::purge(uploads, age, options.run)?;
    }
    store.storage().sweep()?;
    Ok(report)
}
