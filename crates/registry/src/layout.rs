//! Where everything lies, below the storage's root: the layout of CNCF distribution, and what is ours beside it.
//!
//! ```text
//! docker/registry/v2/
//!   blobs/<algorithm>/<2 hex>/<hex>/data            every blob and manifest, once
//!   repositories/<name>/
//!     _layers/<algorithm>/<hex>/link                the blob belongs to this repository; holds its digest
//!     _manifests/revisions/<algorithm>/<hex>/link   the manifest belongs to this repository; holds its digest
//!     _manifests/tags/<tag>/current/link            what the tag means; holds a digest
//!     _manifests/tags/<tag>/index/<algorithm>/<hex>/link   what it ever meant
//!     _uploads/<uuid>/{data,startedat}              an upload under way
//!     _strata/referrers/<algorithm>/<hex of the subject>/<algorithm>-<hex>   a referrer's descriptor, JSON
//!   strata/                                         locks and what is being removed
//! ```
//!
//! distribution passes over folders of a repository that begin with `_` and that it does not know.
//!
//! Source: distribution 2.8, `registry/storage/paths.go`.

use strata_spec::{Algorithm, Digest};

use crate::name::{RepoName, Tag};

/// The folder of all repositories.
pub const REPOSITORIES: &str = "docker/registry/v2/repositories";
/// The folder of all blobs.
pub const BLOBS: &str = "docker/registry/v2/blobs";
/// What is ours alone.
pub const OURS: &str = "docker/registry/v2/strata";

/// The file name of a blob's bytes.
pub const DATA: &str = "data";

/// The folder of a blob.
pub fn blob_dir(digest: Digest) -> String {
    let hex = digest.hex();
    format!("{BLOBS}/{}/{}/{hex}", digest.algorithm().name(), &hex[..2])
}

/// The bytes of a blob.
pub fn blob(digest: Digest) -> String {
    format!("{}/{DATA}", blob_dir(digest))
}

fn pair(digest: Digest) -> String {
    format!("{}/{}", digest.algorithm().name(), digest.hex())
}

fn repo(name: &RepoName, rest: &str) -> String {
    format!("{REPOSITORIES}/{name}/{rest}")
}

pub fn layers(name: &RepoName, algorithm: Algorithm) -> String {
    repo(name, &format!("_layers/{}", algorithm.name()))
}

pub fn layer_link(name: &RepoName, digest: Digest) -> String {
    repo(name, &format!("_layers/{}/link", pair(digest)))
}

pub fn revisions(name: &RepoName, algorithm: Algorithm) -> String {
    repo(name, &format!("_manifests/revisions/{}", algorithm.name()))
}

pub fn revision_link(name: &RepoName, digest: Digest) -> String {
    repo(name, &format!("_manifests/revisions/{}/link", pair(digest)))
}

pub fn tags(name: &RepoName) -> String {
    repo(name, "_manifests/tags")
}

pub fn tag(name: &RepoName, tag: &Tag) -> String {
    repo(name, &format!("_manifests/tags/{tag}"))
}

pub fn tag_current(name: &RepoName, tag: &Tag) -> String {
    repo(name, &format!("_manifests/tags/{tag}/current/link"))
}

pub fn tag_index(name: &RepoName, tag: &Tag, digest: Digest) -> String {
    repo(name, &format!("_manifests/tags/{tag}/index/{}/link", pair(digest)))
}

pub fn uploads(name: &RepoName) -> String {
    repo(name, "_uploads")
}

pub fn upload(name: &RepoName, id: &str) -> String {
    repo(name, &format!("_uploads/{id}"))
}

/// The folder of the referrers of `subject`.
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

/// The digest that a folder's name `hex` stands for; `None` if it is none.
pub fn digest_of(algorithm: Algorithm, hex: &str) -> Option<Digest> {
    format!("{}:{hex}", algorithm.name()).parse().ok()
}

/// The digest of a referrer's file name.
pub fn referrer_of(file: &str) -> Option<Digest> {
    file.split_once('-').and_then(|(algorithm, hex)| format!("{algorithm}:{hex}").parse().ok())
}
