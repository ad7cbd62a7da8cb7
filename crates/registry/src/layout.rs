//! Paths below the storage's root: the layout of CNCF distribution, and our own files beside it.
//!
//! ```text
//! docker/registry/v2/
//!   blobs/<algorithm>/<2 hex>/<hex>/data            every blob and manifest, once
//!   repositories/<name>/
//!     _layers/<algorithm>/<hex>/link                the blob belongs to this repository; holds its digest
//!     _manifests/revisions/<algorithm>/<hex>/link   the manifest belongs to this repository; holds its digest
//!     _manifests/tags/<tag>/current/link            the tag's manifest; holds a digest
//!     _manifests/tags/<tag>/index/<algorithm>/<hex>/link   every manifest the tag has pointed to
//!     _uploads/<uuid>/{data,startedat}              an upload under way
//!     _strata/referrers/<algorithm>/<hex of the subject>/<algorithm>-<hex>   a referrer's descriptor, JSON
//!   strata/                                         locks and what is being removed
//! ```
//!
//! distribution ignores directories of a repository whose names begin with `_` and that it does not know.
//!
//! Source: distribution 2.8, `registry/storage/paths.go`.

use strata_spec::{Algorithm, Digest};

use crate::name::{RepoName, Tag};

/// Directory of all repositories.
pub const REPOSITORIES: &str = "docker/registry/v2/repositories";
/// Directory of all blobs.
pub const BLOBS: &str = "docker/registry/v2/blobs";
/// Directory of files that distribution does not have.
pub const OURS: &str = "docker/registry/v2/strata";

/// File name of a blob's bytes.
pub const DATA: &str = "data";

/// Directory of a blob.
pub fn blob_dir(digest: Digest) -> String {
    let hex = digest.hex();
    format!("{BLOBS}/{}/{}/{hex}", digest.algorithm().name(), &hex[..2])
}

/// File of a blob's bytes.
pub fn blob(digest: Digest) -> String {
    format!("{}/{DATA}", blob_dir(digest))
}

fn pair(digest: Digest) -> String {
    format!("{}/{}", digest.algorithm().name(), digest.hex())
}

fn repo(name: &RepoName, rest: &str) -> String {
    format!("{REPOSITORIES}/{name}/{rest}")
}

/// Directory of a repository's blob links, by algorithm.
pub fn layers(name: &RepoName, algorithm: Algorithm) -> String {
    repo(name, &format!("_layers/{}", algorithm.name()))
}

/// The link that makes a blob belong to a repository.
pub fn layer_link(name: &RepoName, digest: Digest) -> String {
    repo(name, &format!("_layers/{}/link", pair(digest)))
}

/// Directory of a repository's manifests, by algorithm.
pub fn revisions(name: &RepoName, algorithm: Algorithm) -> String {
    repo(name, &format!("_manifests/revisions/{}", algorithm.name()))
}

/// The link that makes a manifest belong to a repository.
pub fn revision_link(name: &RepoName, digest: Digest) -> String {
    repo(name, &format!("_manifests/revisions/{}/link", pair(digest)))
}

/// Directory of a repository's tags.
pub fn tags(name: &RepoName) -> String {
    repo(name, "_manifests/tags")
}

/// Directory of a tag.
pub fn tag(name: &RepoName, tag: &Tag) -> String {
    repo(name, &format!("_manifests/tags/{tag}"))
}

/// The link from a tag to its manifest.
pub fn tag_current(name: &RepoName, tag: &Tag) -> String {
    repo(name, &format!("_manifests/tags/{tag}/current/link"))
}

/// The link that says that a tag has pointed to a manifest.
pub fn tag_index(name: &RepoName, tag: &Tag, digest: Digest) -> String {
    repo(name, &format!("_manifests/tags/{tag}/index/{}/link", pair(digest)))
}

/// Directory of a repository's uploads.
pub fn uploads(name: &RepoName) -> String {
    repo(name, "_uploads")
}

/// Directory of an upload.
pub fn upload(name: &RepoName, id: &str) -> String {
    repo(name, &format!("_uploads/{id}"))
}

/// Directory of the referrers of `subject`.
pub fn referrers(name: &RepoName, subject: Digest) -> String {
    repo(name, &format!("_strata/referrers/{}", pair(subject)))
}

/// The descriptor of `referrer`, which names `subject`.
pub fn referrer(name: &RepoName, subject: Digest, referrer: Digest) -> String {
    format!("{}/{}-{}", referrers(name, subject), referrer.algorithm().name(), referrer.hex())
}

/// Subjects of a repository that have referrers, for one algorithm.
pub fn subjects(name: &RepoName, algorithm: Algorithm) -> String {
    repo(name, &format!("_strata/referrers/{}", algorithm.name()))
}

/// Returns the digest of a directory called `hex`; `None` if the name is no digest.
pub fn digest_of(algorithm: Algorithm, hex: &str) -> Option<Digest> {
    format!("{}:{hex}", algorithm.name()).parse().ok()
}

/// Returns the digest in a referrer's file name.
pub fn referrer_of(file: &str) -> Option<Digest> {
    file.split_once('-').and_then(|(algorithm, hex)| format!("{algorithm}:{hex}").parse().ok())
}
