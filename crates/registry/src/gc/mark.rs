//! Marks what is reachable: from tags, or from every manifest, through indexes, subjects and referrers.
//!
//! A manifest or tag that cannot be read may name anything in its repository, and nothing elsewhere, because a client can only pull a
//! blob through a repository that links it. The mark therefore keeps every manifest and blob of such a repository and goes on with the
//! others.

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

/// The result of a mark. Clients may have changed the registry meanwhile.
#[derive(Default)]
pub struct Marked {
    /// Number of repositories visited.
    pub repositories: usize,
    /// Reachable manifests and blobs.
    pub live: HashSet<Digest>,
    /// Unreachable manifests, by repository.
    pub dead: Vec<(RepoName, Digest)>,
    /// Repositories that link each unreachable blob.
    pub links: HashMap<Digest, Vec<RepoName>>,
    /// Manifests and tags that could not be read, with the reason.
    pub damaged: Vec<String>,
    /// Repositories that were kept whole because of them.
    pub kept_whole: Vec<RepoName>,
}

/// What one repository holds.
struct Contents {
    revisions: Vec<Digest>,
    layers: Vec<Digest>,
}

/// Visits all repositories.
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
        let contents = Contents::list(store, name)?;
        let damaged_before = self.damaged.len();
        let roots = match untagged {
            Untagged::Keep => contents.revisions.clone(),
            Untagged::Remove => self.tagged(store, name)?,
        };
        let reached = self.reach(store, name, &contents.revisions, roots)?;
        let Contents { revisions, layers } = contents;
        if self.damaged.len() > damaged_before {
            // An unreadable manifest may also name a manifest that names further blobs: all are links of this repository.
            self.live.extend(revisions.into_iter().chain(layers));
            self.kept_whole.push(name.clone());
            return Ok(());
        }
        for digest in layers {
            self.links.entry(digest).or_default().push(name.clone());
        }
        let dead = revisions.into_iter().filter(|digest| !reached.contains(digest));
        self.dead.extend(dead.map(|digest| (name.clone(), digest)));
        Ok(())
    }

    /// The manifests that tags point to. A tag that cannot be read is noted as damaged.
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

    /// Marks everything in a repository that `roots` reach; returns the manifests among it.
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
            // A named digest that is no manifest of this repository is a blob, or is missing.
            self.live.insert(digest);
            if !belongs.contains(&digest) || !reached.insert(digest) {
                continue;
            }
            queue.extend(store.referrer_digests(name, digest)?);
            match store.manifest_by_digest(digest) {
                Ok(Some(manifest)) => {
                    self.live.extend(manifest.document.blobs.iter().map(|blob| blob.digest));
                    queue.extend(manifest.document.linked());
                    self.mend_referrer(store, name, &manifest)?;
                }
                // Its bytes are gone: it names nothing, and can only be pushed again or deleted.
                Ok(None) => {}
                Err(error) => self.damaged.push(format!("{name}@{digest}: {error}")),
            }
        }
        Ok(reached)
    }

    /// Writes the referrers entry of a manifest that another server stored, or whose entry is damaged.
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

impl Contents {
    fn list(store: &Store, name: &RepoName) -> Result<Self, Error> {
        let storage = store.storage();
        let (mut revisions, mut layers) = (Vec::new(), Vec::new());
        for algorithm in ALGORITHMS {
            for hex in storage.list(&layout::revisions(name, algorithm))? {
                let Some(digest) = layout::digest_of(algorithm, &hex) else { continue };
                if storage.stat(&layout::revision_link(name, digest))?.is_some() {
                    revisions.push(digest);
                }
            }
            let hexes = storage.list(&layout::layers(name, algorithm))?;
            layers.extend(hexes.iter().filter_map(|hex| layout::digest_of(algorithm, hex)));
        }
        Ok(Self { revisions, layers })
    }
}
