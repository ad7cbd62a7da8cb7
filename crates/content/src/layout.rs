//! `strata/content`: blobs by digest, and what keeps them.
//!
//! ```text
//! strata/content/                 0700
//!   blobs/<algorithm>/<hex>       0600  a blob that is whole; its bytes have that digest
//!   ingest/<algorithm>-<hex>      0600  the first bytes of a blob, as served; locked (flock) by the process that fetches it
//!   pins/<kind>/<name>            0600  {"blobs":["sha256:…",…],"note":…}: these blobs stay
//!   leases/<16 hex>               0600  a running operation's blobs, a digest a line; locked by its process
//!   lock                          0600  empty; locked shared to take hold of blobs, exclusively to remove them
//! ```

use std::path::{Path, PathBuf};

use strata_spec::{Algorithm, Digest};

/// Mode of the directories.
pub(crate) const DIR_MODE: u32 = 0o700;
/// Mode of the files.
pub(crate) const FILE_MODE: u32 = 0o600;
/// The algorithms that have a directory below `blobs`.
pub(crate) const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// The file names of a content store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`, as a rule `<data root>/strata/content`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// `strata/content` itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where whole blobs of one algorithm lie.
    pub fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.name())
    }

    /// Where a whole blob lies.
    pub fn blob(&self, digest: Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    /// Where blobs arrive.
    pub fn ingests(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Where one blob arrives.
    pub fn ingest(&self, digest: Digest) -> PathBuf {
        self.ingests().join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    /// Where the pins of all kinds lie.
    pub fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    /// Where one pin lies. `kind` and `name` are single path components of the caller's own making.
    pub fn pin(&self, kind: &str, name: &str) -> PathBuf {
        self.pins().join(kind).join(name)
    }

    /// The entries of running operations.
    pub fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// The lock between those who take hold of blobs and those who remove them.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
}
