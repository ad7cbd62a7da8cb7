//! `image/<driver>/distribution`: which blobs on which registries are which layers.
//!
//! ```text
//! distribution/                          0700
//!   diffid-by-digest/sha256/<hex>        0644  the DiffID of the blob of that digest, sha256:<hex>, no newline
//!   v2metadata-by-diffid/sha256/<hex>    0644  [{"Digest":"sha256:…","SourceRepository":"docker.io/library/debian","HMAC":""}, …]
//! ```
//!
//! The newest entry stands last; there are at most 50. Docker signs what it pushes itself (`HMAC` over digest and repository, keyed with
//! the user's login) to try those first, and leaves `HMAC` empty for what it pulls; here it is always empty, which Docker reads as unsigned.
//!
//! All of it is hints: Docker and Strata ask the registry before they believe one. A file that cannot be read counts as absent.
//!
//! Source: moby 20.10, `distribution/metadata/v2_metadata_service.go`, `metadata/metadata.go`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strata_spec::{DiffId, Digest, gojson};

use crate::Error;

/// Entries that Docker keeps for one layer.
const ENTRIES_MAX: usize = 50;

/// One blob that is a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Source {
    pub digest: Digest,
    /// `docker.io/library/debian`
    pub source_repository: String,
    #[serde(rename = "HMAC", default)]
    pub hmac: String,
}

/// The mappings of one driver on one data root.
#[derive(Clone, Debug)]
pub struct Mappings {
    root: PathBuf,
}

impl Mappings {
    /// `image/<driver>/distribution` below the data root `root`.
    pub fn new(root: &Path, driver: &str) -> Self {
        Self { root: root.join("image").join(driver).join("distribution") }
    }

    fn by_digest(&self, digest: Digest) -> PathBuf {
        self.root.join("diffid-by-digest").join(digest.algorithm().name()).join(digest.hex())
    }

    fn by_diff(&self, diff: DiffId) -> PathBuf {
        let digest = diff.digest();
        self.root.join("v2metadata-by-diffid").join(digest.algorithm().name()).join(digest.hex())
    }

    /// The layer that a blob is, if that is known.
    pub fn diff_id(&self, blob: Digest) -> Option<DiffId> {
        strata_durable::read_to_string(&self.by_digest(blob)).ok()?.trim().parse().ok()
    }

    /// The blobs that a layer is, the newest last.
    pub fn sources(&self, diff: DiffId) -> Vec<Source> {
        let Ok(bytes) = strata_durable::read(&self.by_diff(diff)) else { return Vec::new() };
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Notes that the layers `found` are these blobs in `repository`. On disk when this returns; after a crash any number of them are noted.
    pub fn add(&self, repository: &str, found: &[(DiffId, Digest)]) -> Result<(), Error> {
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        for (diff, blob) in found {
            if self.diff_id(*blob) != Some(*diff) {
                files.push((self.by_digest(*blob), diff.to_string().into_bytes()));
            }
            let new = Source { digest: *blob, source_repository: repository.to_owned(), hmac: String::new() };
            let mut sources = self.sources(*diff);
            if sources.last() == Some(&new) {
                continue;
            }
            sources.retain(|source| *source != new);
            sources.push(new);
            sources.drain(..sources.len().saturating_sub(ENTRIES_MAX));
            let bytes = gojson::to_vec(&sources).expect("strings are JSON");
            files.push((self.by_diff(*diff), bytes));
        }
        if files.is_empty() {
            return Ok(());
        }
        // As Docker makes them: the first closed, those below open.
        strata_durable::create_dir_all(&self.root, 0o700)?;
        for folder in ["diffid-by-digest/sha256", "diffid-by-digest/sha512", "v2metadata-by-diffid/sha256"] {
            let wanted = |(path, _): &(PathBuf, Vec<u8>)| path.starts_with(self.root.join(folder));
            if files.iter().any(wanted) {
                strata_durable::create_dir_all(&self.root.join(folder), 0o755)?;
            }
        }
        files.sort();
        files.dedup_by(|later, first| later.0 == first.0);
        let files: Vec<(&Path, &[u8])> = files.iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice())).collect();
        Ok(strata_durable::write_many(&files, 0o644)?)
    }

    /// Forgets that `diff` is `blob` in `repository`: the registry does not have it.
    pub fn remove(&self, diff: DiffId, blob: Digest, repository: &str) -> Result<(), Error> {
        let mut sources = self.sources(diff);
        let before = sources.len();
        sources.retain(|source| source.digest != blob || source.source_repository != repository);
        if sources.len() == before {
            return Ok(());
        }
        let bytes = gojson::to_vec(&sources).expect("strings are JSON");
        Ok(strata_durable::write(&self.by_diff(diff), &bytes, 0o644)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(text: &str) -> DiffId {
        DiffId::new(Digest::sha256(text))
    }

    #[test]
    fn the_files_are_dockers() {
        let dir = tempfile::tempdir().unwrap();
        let mappings = Mappings::new(dir.path(), "overlay2");
        let (layer, blob) = (diff("a"), Digest::sha256("b"));
        mappings.add("127.0.0.1:5000/a/bb", &[(layer, blob)]).unwrap();
        let root = dir.path().join("image/overlay2/distribution");
        let read = |name: String| std::fs::read_to_string(root.join(name)).unwrap();
        assert_eq!(read(format!("diffid-by-digest/sha256/{}", blob.hex())), layer.to_string());
        assert_eq!(
            read(format!("v2metadata-by-diffid/sha256/{}", layer.digest().hex())),
            format!(r#"[{{"Digest":"{blob}","SourceRepository":"127.0.0.1:5000/a/bb","HMAC":""}}]"#)
        );
        assert_eq!(mappings.diff_id(blob), Some(layer));
    }

    #[test]
    fn the_newest_stands_last_and_fifty_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mappings = Mappings::new(dir.path(), "overlay2");
        let (layer, blob) = (diff("a"), Digest::sha256("b"));
        for n in 0..60 {
            mappings.add(&format!("r.test/{n}"), &[(layer, blob)]).unwrap();
        }
        mappings.add("r.test/20", &[(layer, blob)]).unwrap();
        let sources = mappings.sources(layer);
        assert_eq!((sources.len(), sources[49].source_repository.as_str()), (50, "r.test/20"));
        assert_eq!(sources.iter().filter(|source| source.source_repository == "r.test/20").count(), 1);
        mappings.remove(layer, blob, "r.test/20").unwrap();
        assert_eq!(mappings.sources(layer).len(), 49);
    }

    #[test]
    fn damage_is_no_hint() {
        let dir = tempfile::tempdir().unwrap();
        let mappings = Mappings::new(dir.path(), "overlay2");
        let (layer, blob) = (diff("a"), Digest::sha256("b"));
        mappings.add("r.test/a", &[(layer, blob)]).unwrap();
        std::fs::write(mappings.by_diff(layer), "").unwrap();
        std::fs::write(mappings.by_digest(blob), "sha256:zz").unwrap();
        assert_eq!((mappings.sources(layer), mappings.diff_id(blob)), (vec![], None));
        mappings.add("r.test/a", &[(layer, blob)]).unwrap();
        assert_eq!(mappings.diff_id(blob), Some(layer));
    }
}
