//! What is reachable: from tags, or from all manifests, through indexes and to referrers.

use std::collections::{HashMap, HashSet};

use strata_spec::{Algorithm, Digest};

use super::Untagged;
use crate::{
    error::Error,
    layout,
    name::RepoName,
    store::{self, Next, Store},
};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// What was found while others changed it.
#[derive(Default)]
pub struct Marked {
    pub repositories: usize,
    /// Manifests and blobs that something reaches.
    pub live: HashSet<Digest>,
    /// Manifests of repositories that nothing reaches.
    pub dead: Vec<(RepoName, Digest)>,
    /// Where blobs are linked that no manifest of any repository reaches, as far as was seen.
    pub links: HashMap<Digest, Vec<RepoName>>,
    /// What could not be read.
    pub damaged: Vec<String>,
}

/// Looks at all repositories.
pub fn mark(store: &Store, untagged: Untagged) -> Result<Marked, Error> {
    let mut marked = Marked::default();
    store::repositories(&**store.storage(), None, &mut |name| {
        marked.repositories += 1;
        marked.repository(store, &name, untagged)?;
        Ok(Next::GoOn)
    })?;
    marked.links.retain(|digest, _| !marked.live.contains(digest));
    Ok(marked)
}

impl Marked {
    fn repository(&mut self, store: &Store, name: &RepoName, untagged: Untagged) -> Result<(), Error> {
        let storage = store.storage();
        let mut revisions = Vec::new();
        for algorithm in ALGORITHMS {
            for hex in storage.list(&layout::revisions(name, algorithm))? {
                let Some(digest) = layout::digest_of(algorithm, &hex) else { continue };
                if storage.stat(&layout::revision_link(name, digest))?.is_some() {
                    revisions.push(digest);
                }
            }
            for hex in storage.list(&layout::layers(name, algorithm))? {
                if let Some(digest) = layout::digest_of(algorithm, &hex) {
                    self.links.entry(digest).or_default().push(name.clone());
                }
            }
        }
        let roots = match untagged {
            Untagged::Keep => revisions.clone(),
            Untagged::Remove => self.tagged(store, name)?,
        };
        let reached = self.reach(store, name, &revisions, roots)?;
        self.dead.extend(
            revisions.into_iter().filter(|digest| !reached.contains(digest)).map(|digest| (name.clone(), digest)),
        );
        Ok(())
    }

    /// What the tags mean. A tag that is damaged keeps nothing alive, so that nothing of the registry is removed.
    fn tagged(&mut self, store: &Store, name: &RepoName) -> Result<Vec<Digest>, Error> {
        let mut roots = Vec::new();
        for text in store.storage().list(&layout::tags(name))? {
            let Ok(tag) = text.parse() else { continue };
            match store.link(&layout::tag_current(name, &tag)) {
                Ok(digest) => roots.extend(digest),
                Err(error) => self.damaged.push(format!("{name}:{tag}: {error}")),
            }
        }
        Ok(roots)
    }

    /// Marks all that `roots` reach in a repository; returns its manifests among it.
    fn reach(
        &mut self,
        store: &Store,
        name: &RepoName,
        revisions: &[Digest],
        roots: Vec<Digest>,
    ) -> Result<HashSet<Digest>, Error> {
        let belongs: HashSet<Digest> = revisions.iter().copied().collect();
        let mut reached = HashSet::new();
        let mut queue = roots;
        while let Some(digest) = queue.pop() {
            if !belongs.contains(&digest) || !reached.insert(digest) {
                continue;
            }
            self.live.insert(digest);
            queue.extend(store.referrer_digests(name, digest)?);
            match store.manifest_by_digest(digest) {
                Ok(Some(manifest)) => {
                    self.live.extend(manifest.document.blobs.iter().map(|blob| blob.digest));
                    queue.extend(manifest.document.children.iter().map(|(child, _)| *child));
                    self.mend_referrer(store, name, &manifest)?;
                }
                // Its bytes are gone: it reaches nothing, and can only be pushed again or deleted.
                Ok(None) => {}
                Err(error) => self.damaged.push(format!("{name}@{digest}: {error}")),
            }
        }
        Ok(reached)
    }

    /// Writes the entry of a referrer that distribution has stored, or that is damaged.
    fn mend_referrer(&self, store: &Store, name: &RepoName, manifest: &store::Manifest) -> Result<(), Error> {
        let Some(subject) = manifest.document.subject else { return Ok(()) };
        let entry = manifest.document.descriptor(manifest.digest, manifest.bytes.len() as u64).to_string().into_bytes();
        let key = layout::referrer(name, subject, manifest.digest);
        let _lock = store.lock(name);
        let is_good = store.storage().read(&key, 16 << 20).is_ok_and(|found| found.as_deref() == Some(&entry[..]));
        if !is_good && store.storage().stat(&layout::revision_link(name, manifest.digest))?.is_some() {
            store.storage().write(&[(key, entry)])?;
        }
        Ok(())
    }
}
