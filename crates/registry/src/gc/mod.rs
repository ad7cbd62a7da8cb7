//! Garbage collection while the registry serves.
//!
//! | module | owns |
//! | --- | --- |
//! | [`mark`] | what is reachable |
//! | [`sweep`] | removing what is not, in small steps |
//!
//! A collection begins at a moment `T0`, at which nobody is inside the gate of publications, and looks at all repositories while they change. What it finds unreachable, and what nobody has
//! relied on since `T0` less the grace time, it removes: inside the gate, where it asks again for each object when somebody last relied
//! on it. Whoever makes an object reachable and is not seen has entered the gate after `T0`, and relied on it there. So what is removed was unreachable
//! all the time. `docs/formats/registry.md` has the argument in full.

pub mod mark;
pub mod sweep;

use std::time::{Duration, SystemTime};

use crate::{
    error::Error,
    store::Store,
    upload::{self, Uploads},
};

/// How long content is kept that nobody names, for a push that is under way.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 3600);

/// Whether anything is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    ForReal,
    /// Only says what would be removed.
    Dry,
}

/// What happens to manifests without a tag that no tagged one reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untagged {
    Keep,
    Remove,
}

/// How to collect.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub run: Run,
    pub grace: Duration,
    pub untagged: Untagged,
    /// How old an upload becomes; `None` leaves them.
    pub uploads: Option<Duration>,
}

/// What a collection did, or would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub repositories: usize,
    /// Manifests and blobs that are reachable.
    pub kept: usize,
    /// Manifests that were taken from their repositories: name and digest.
    pub manifests: Vec<String>,
    /// Blobs that were removed.
    pub blobs: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// Folders of uploads that nobody goes on with.
    pub uploads: Vec<String>,
    /// What could not be read; what it may reach is kept.
    pub damaged: Vec<String>,
}

/// Collects garbage. Blocks; others may read and write meanwhile.
pub fn collect(store: &Store, uploads: &Uploads, options: &Options) -> Result<Report, Error> {
    // Alone inside the gate: who relied on something before this moment has also written what names it, and it will be seen.
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
        ..Report::default()
    };
    sweep::revisions(store, &marked, oldest, options.run, &mut report)?;
    // What cannot be read may name any blob.
    if marked.damaged.is_empty() {
        sweep::blobs(store, &marked, oldest, options.run, &mut report)?;
    }
    if let Some(age) = options.uploads {
        report.uploads = upload::purge(uploads, age, options.run)?;
    }
    store.storage().sweep()?;
    Ok(report)
}
