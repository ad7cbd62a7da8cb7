//! Referrers: manifests that name another as their subject.

use serde_json::Value;
use strata_spec::Digest;

use super::Store;
use crate::{error::Error, layout, name::RepoName};

/// Maximum size of a referrer's descriptor in bytes; it has the annotations of the manifest.
const ENTRY_MAX: u64 = 16 << 20;

impl Store {
    /// Returns descriptors of the referrers of `subject` after `last`, in the order of their digests, and whether there are more. With
    /// `artifact_type` only those of that type. A page has one entry at least and as many as fit into `bytes`.
    pub fn referrers(
        &self,
        name: &RepoName,
        subject: Digest,
        artifact_type: Option<&str>,
        last: Option<Digest>,
        bytes: usize,
    ) -> Result<(Vec<Value>, bool), Error> {
        let (mut shown, mut total) = (Vec::new(), 0);
        for referrer in self.referrer_digests(name, subject)? {
            if last.is_some_and(|last| referrer <= last) {
                continue;
            }
            let key = layout::referrer(name, subject, referrer);
            let Some(text) = self.storage.read(&key, ENTRY_MAX)? else { continue };
            let entry: Value = serde_json::from_slice(&text).map_err(|error| crate::storage::Error::Damaged {
                key,
                problem: format!("{error}; a garbage collection writes it again"),
            })?;
            let is_wanted = artifact_type.is_none_or(|wanted| entry["artifactType"] == wanted);
            // distribution deletes a manifest and leaves this entry.
            if !is_wanted || self.storage.stat(&layout::revision_link(name, referrer))?.is_none() {
                continue;
            }
            total += text.len();
            if total > bytes && !shown.is_empty() {
                return Ok((shown, true));
            }
            shown.push(entry);
        }
        Ok((shown, false))
    }

    /// Returns the digests of the referrers of `subject`, sorted.
    pub(crate) fn referrer_digests(&self, name: &RepoName, subject: Digest) -> Result<Vec<Digest>, Error> {
        let files = self.storage.list(&layout::referrers(name, subject))?;
        let mut found: Vec<Digest> = files.iter().filter_map(|file| layout::referrer_of(file)).collect();
        found.sort_unstable();
        Ok(found)
    }
}
