//! Publication and deletion of manifests.
//!
//! A publication, inside the gate, relies on everything that the manifest reaches and then writes its bytes, its revision link, its entry
//! among the referrers of its subject, and last the tag. The collector reads the time of last reliance again inside the same gate, so it
//! removes nothing that the manifest reaches.

use std::collections::HashSet;

use serde_json::json;
use strata_spec::Digest;

use super::{Images, Store, manifest_unknown};
use crate::{
    error::{Code, Error},
    layout,
    manifest::{BlobRef, Child, Document},
    name::{RepoName, Tag, Target},
};

/// A stored manifest.
#[derive(Clone, Debug)]
pub struct Published {
    /// Digest of the bytes.
    pub digest: Digest,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
    /// The media type.
    pub media_type: String,
    /// Content that the manifest names and the repository lacks, where the rules allow that.
    pub absent: Vec<Digest>,
}

/// Maximum number of manifests that one publication may reach.
const REACH_MAX: usize = 20_000;
/// Maximum depth of nested indexes.
const DEPTH_MAX: usize = 16;

impl Store {
    /// Stores a manifest under its digest and `tags`, or under a tag. The revision link is the commit point of the manifest, and a tag's
    /// link that of the tag; on return all are durable.
    ///
    /// Fails, and stores nothing, if the bytes are no manifest, have another digest, or name a blob that the repository lacks.
    pub fn put_manifest(
        &self,
        name: &RepoName,
        target: &Target,
        tags: &[Tag],
        declared: Option<&str>,
        bytes: Vec<u8>,
    ) -> Result<Published, Error> {
        let document = Document::parse(&bytes, declared)?;
        let digest = match target {
            Target::Digest(expected) => {
                let found = Digest::of(expected.algorithm(), &bytes);
                if found != *expected {
                    return Err(Error::new(
                        Code::DigestInvalid,
                        format!("the manifest's digest is {found}, not {expected}"),
                    )
                    .with_detail(json!({ "digest": expected })));
                }
                found
            }
            Target::Tag(_) => Digest::sha256(&bytes),
        };
        let _lock = self.lock(name);
        let _gate = self.storage.publishing()?;
        let mut absent = self.rely_on_blobs(name, &document.blobs)?;
        absent.extend(self.rely_on_children(name, &document)?);
        let mut reachable: Vec<Digest> = document.linked().collect();
        reachable.extend(self.referrer_digests(name, digest)?);
        self.rely_on_reachable(name, reachable)?;
        let own = if let Target::Tag(tag) = target { std::slice::from_ref(tag) } else { &[] };
        self.write_manifest(name, own.iter().chain(tags), digest, &document, bytes)?;
        Ok(Published { digest, subject: document.subject, media_type: document.media_type, absent })
    }

    fn write_manifest<'a>(
        &self,
        name: &RepoName,
        tags: impl Iterator<Item = &'a Tag>,
        digest: Digest,
        document: &Document,
        bytes: Vec<u8>,
    ) -> Result<(), Error> {
        let (size, link) = (bytes.len() as u64, digest.to_string().into_bytes());
        let mut files = Vec::new();
        let blob = layout::blob(digest);
        // A file of another length is damaged, and repaired by this.
        let is_there = self.storage.rely(&blob)? && self.storage.stat(&blob)?.is_some_and(|stat| stat.size == size);
        if !is_there {
            files.push((blob, bytes));
        }
        let revision = layout::revision_link(name, digest);
        let mut counted = None;
        if self.link(&revision).ok().flatten() != Some(digest) {
            counted = Some(self.quotas.link(name, digest, size)?);
            files.push((revision, link.clone()));
        } else {
            self.storage.rely(&revision)?;
        }
        if let Some(subject) = document.subject {
            let entry = document.descriptor(digest, size).to_string().into_bytes();
            files.push((layout::referrer(name, subject, digest), entry));
        }
        for tag in tags {
            let current = layout::tag_current(name, tag);
            if self.link(&current).ok().flatten() != Some(digest) {
                files.push((current, link.clone()));
                files.push((layout::tag_index(name, tag, digest), link.clone()));
            }
        }
        self.storage.write(&files)?;
        if let Some(counted) = counted {
            counted.keep();
        }
        Ok(())
    }

    /// Relies on config and layers of a manifest; returns the missing ones if the rules allow them to be missing.
    ///
    /// Fails with an entry for each blob that is missing or has another size.
    fn rely_on_blobs(&self, name: &RepoName, blobs: &[BlobRef]) -> Result<Vec<Digest>, Error> {
        let (mut failed, mut absent): (Option<Error>, Vec<Digest>) = (None, Vec::new());
        for blob in blobs {
            self.rules.urls.check(&blob.urls)?;
            let problem = match self.rely_on_blob(name, blob.digest)? {
                Some(found) if found == blob.size => continue,
                None if blob.foreign => continue,
                None if self.rules.images == Images::MayBeSparse => {
                    absent.push(blob.digest);
                    continue;
                }
                Some(found) => Error::new(
                    Code::ManifestInvalid,
                    format!("the blob {} has {found} bytes, the manifest says {}", blob.digest, blob.size),
                ),
                None => Error::new(
                    Code::ManifestBlobUnknown,
                    format!("the blob {} is not in the repository {name}", blob.digest),
                ),
            };
            let problem = problem.with_detail(json!({ "digest": blob.digest }));
            failed = Some(match failed {
                Some(failed) => failed.and(problem),
                None => problem,
            });
        }
        failed.map_or(Ok(absent), Err)
    }

    /// Relies on a blob of the repository; returns its size, or `None` if the repository lacks it.
    fn rely_on_blob(&self, name: &RepoName, digest: Digest) -> Result<Option<u64>, Error> {
        if self.storage.stat(&layout::layer_link(name, digest))?.is_none() {
            return Ok(None);
        }
        let key = layout::blob(digest);
        if !self.storage.rely(&key)? {
            return Ok(None);
        }
        Ok(self.storage.stat(&key)?.map(|stat| stat.size))
    }

    /// Relies on the entries of an index, which are manifests or blobs of the repository; returns the missing ones if the rules allow
    /// them to be missing.
    fn rely_on_children(&self, name: &RepoName, document: &Document) -> Result<Vec<Digest>, Error> {
        let mut absent = Vec::new();
        for child in &document.children {
            let Child { digest, size, .. } = child;
            let as_manifest = if self.storage.rely(&layout::revision_link(name, *digest))? {
                self.storage.stat(&layout::blob(*digest))?.map(|stat| stat.size)
            } else {
                None
            };
            let found = match as_manifest {
                None => self.rely_on_blob(name, *digest)?,
                found => found,
            };
            match found {
                Some(found) if found != *size => {
                    let message = format!("{digest} has {found} bytes, the index says {size}");
                    return Err(Error::new(Code::ManifestInvalid, message).with_detail(json!({ "digest": digest })));
                }
                Some(_) => {}
                None if self.rules.indexes.may_lack(child.platform.as_ref()) => absent.push(*digest),
                None => {
                    let message = format!("the manifest {digest} of the index is not in the repository {name}");
                    return Err(Error::new(Code::ManifestBlobUnknown, message).with_detail(json!({ "digest": digest })));
                }
            }
        }
        Ok(absent)
    }

    /// Relies on manifests and blobs, and on everything that the manifests among them reach in the repository, as far as it exists.
    fn rely_on_reachable(&self, name: &RepoName, from: Vec<Digest>) -> Result<(), Error> {
        let mut seen: HashSet<Digest> = from.iter().copied().collect();
        // Each with the number of indexes on the way to it. Subjects and referrers are no nesting: their chains may be long.
        let mut waiting: Vec<(Digest, usize)> = from.into_iter().map(|digest| (digest, 0)).collect();
        let mut manifests = 0;
        while let Some((digest, depth)) = waiting.pop() {
            if depth == DEPTH_MAX || manifests > REACH_MAX {
                let message = format!(
                    "the manifest reaches more than {REACH_MAX} others, or through more than {DEPTH_MAX} indexes"
                );
                return Err(Error::new(Code::ManifestInvalid, message));
            }
            let has_bytes = self.storage.rely(&layout::blob(digest))?;
            if !has_bytes || !self.storage.rely(&layout::revision_link(name, digest))? {
                continue;
            }
            manifests += 1;
            let Some(manifest) = self.manifest_by_digest(digest)? else { continue };
            for blob in &manifest.document.blobs {
                self.storage.rely(&layout::blob(blob.digest))?;
            }
            let subject = manifest.document.subject;
            let depth_of = |found: Digest| if Some(found) == subject { depth } else { depth + 1 };
            let below = manifest.document.linked().map(|found| (found, depth_of(found)));
            let referrers = self.referrer_digests(name, digest)?.into_iter().map(|found| (found, depth));
            waiting.extend(below.chain(referrers).filter(|(found, _)| seen.insert(*found)));
        }
        Ok(())
    }

    /// Deletes a tag; the manifest stays. Returns its digest.
    pub fn delete_tag(&self, name: &RepoName, tag: &Tag) -> Result<Digest, Error> {
        let _lock = self.lock(name);
        let unknown = || manifest_unknown(name, &Target::Tag(tag.clone()));
        let digest = self.link(&layout::tag_current(name, tag))?.ok_or_else(unknown)?;
        if !self.storage.remove_directory(&layout::tag(name, tag))? {
            return Err(unknown());
        }
        Ok(digest)
    }

    /// Deletes a manifest with its tags from the repository. The collector removes its bytes when no repository needs them.
    pub fn delete_manifest(&self, name: &RepoName, digest: Digest) -> Result<(), Error> {
        let _lock = self.lock(name);
        let revision = layout::revision_link(name, digest);
        if self.storage.stat(&revision)?.is_none() {
            return Err(manifest_unknown(name, &Target::Digest(digest)));
        }
        for tag in self.tags_of(name, digest)? {
            self.storage.remove_directory(&layout::tag(name, &tag))?;
        }
        self.remove_revision(name, digest)
    }

    /// Removes the link of an untagged revision, and its referrers entry. The caller holds the repository's lock.
    pub(crate) fn remove_revision(&self, name: &RepoName, digest: Digest) -> Result<(), Error> {
        // A damaged manifest can still be deleted; the referrers list checks that the revision exists.
        let subject = self.manifest_by_digest(digest).ok().flatten().and_then(|manifest| manifest.document.subject);
        let below = layout::revisions(name, digest.algorithm());
        if self.storage.remove(&layout::revision_link(name, digest), &below)? {
            self.quotas.unlink(name, digest);
        }
        if let Some(subject) = subject {
            let below = layout::subjects(name, subject.algorithm());
            self.storage.remove(&layout::referrer(name, subject, digest), &below)?;
        }
        Ok(())
    }

    /// Evicts a removed manifest from the cache.
    pub(crate) fn forget(&self, digest: Digest) {
        self.cache.remove(digest);
    }
}
