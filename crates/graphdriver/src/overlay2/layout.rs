//! The names in `overlay2/`, and reading `link` and `lower` with the mistrust that a power cut teaches.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use strata_durable::Context;
use strata_spec::CacheId;

use crate::Error;
use crate::names::overlay2::{COMMITTED, DIFF, LINK, LINKS, LOWER, MERGED, WORK};

/// Names below one driver home.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(super) home: PathBuf,
}

impl Layout {
    pub fn dir(&self, id: &CacheId) -> PathBuf {
        self.home.join(id.as_str())
    }

    /// The layer's own files; the upper directory when it is mounted for writing.
    pub fn diff(&self, id: &CacheId) -> PathBuf {
        self.dir(id).join(DIFF)
    }

    pub fn work(&self, id: &CacheId) -> PathBuf {
        self.dir(id).join(WORK)
    }

    pub fn merged(&self, id: &CacheId) -> PathBuf {
        self.dir(id).join(MERGED)
    }

    pub fn link_file(&self, id: &CacheId) -> PathBuf {
        self.dir(id).join(LINK)
    }

    pub fn lower_file(&self, id: &CacheId) -> PathBuf {
        self.dir(id).join(LOWER)
    }

    pub fn committed(&self, id: &CacheId) -> PathBuf {
        self.dir(id).join(COMMITTED)
    }

    pub fn links(&self) -> PathBuf {
        self.home.join(LINKS)
    }

    pub fn link(&self, link: &Link) -> PathBuf {
        self.home.join(LINKS).join(link.as_str())
    }

    /// Reads a folder's own short name.
    pub fn read_link_file(&self, id: &CacheId) -> Result<Link, Error> {
        let path = self.link_file(id);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(
                    path,
                    "the file is missing; no content is lost, and `strata fsck` tells how to write it anew",
                ));
            }
            result => result.context("read", &path)?,
        };
        if text.is_empty() {
            return Err(damaged(
                path,
                "the file is empty, as after a power cut; no content is lost, and `strata fsck` tells how to write it anew",
            ));
        }
        let link = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        link.ok_or_else(|| {
            damaged(
                path,
                "does not hold a link's name; no content is lost, and `strata fsck` tells how to write it anew",
            )
        })
    }

    /// Reads the short names of all folders below `id`, from the topmost down; none for a base layer.
    ///
    /// Only a folder with a parent has a work directory: where that is there and the file is not, the file was lost.
    pub fn read_lower_file(&self, id: &CacheId) -> Result<Vec<Link>, Error> {
        let path = self.lower_file(id);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match self.work(id).is_dir() {
                    true => Err(damaged(
                        path,
                        "the file is missing, so the layers below are not known; no content is lost, and `strata fsck` tells how to write it anew",
                    )),
                    false => Ok(Vec::new()),
                };
            }
            result => result.context("read", &path)?,
        };
        if text.is_empty() {
            return Err(damaged(
                path,
                "the file is empty, as after a power cut; no content is lost, and `strata fsck` tells how to write it anew",
            ));
        }
        let links = std::str::from_utf8(&text).ok().and_then(|text| {
            text.split(':').map(|part| part.strip_prefix("l/").and_then(|link| link.parse().ok())).collect()
        });
        links.ok_or_else(|| damaged(path, "does not hold links of the form l/NAME:l/NAME; no content is lost, and `strata fsck` tells how to write it anew"))
    }

    /// The folder that a short name stands for.
    pub fn resolve(&self, link: &Link) -> Result<CacheId, Error> {
        let path = self.link(link);
        let target = match std::fs::read_link(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(
                    path,
                    "the link is missing; no content is lost, and `strata fsck` tells how to make it anew",
                ));
            }
            result => result.context("read link", &path)?,
        };
        let id = target.to_str().and_then(|target| target.strip_prefix("../")?.strip_suffix("/diff")?.parse().ok());
        id.ok_or_else(|| {
            damaged(
                path,
                "does not lead to ../<folder>/diff; no content is lost, and `strata fsck` tells how to write it anew",
            )
        })
    }

    /// All folders below `id`, from the topmost down.
    pub fn lowers(&self, id: &CacheId) -> Result<Vec<CacheId>, Error> {
        self.read_lower_file(id)?.iter().map(|link| self.resolve(link)).collect()
    }
}

/// Where the link of folder `id` leads.
pub fn link_target(id: &CacheId) -> PathBuf {
    Path::new("..").join(id.as_str()).join(DIFF)
}

pub fn damaged(path: PathBuf, reason: impl Into<String>) -> Error {
    Error::Damaged { path, reason: reason.into() }
}

/// A folder's short name in `l/`, which keeps mount options within a page: 26 of `A-Z2-7`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link(String);

impl Link {
    /// The link's name for 26 random bytes.
    pub fn from_random(random: [u8; 26]) -> Self {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        Self(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Link {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let valid = text.len() == 26 && text.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b));
        valid.then(|| Self(text.to_owned())).ok_or(())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_26_letters_of_base32() {
        let link = Link::from_random(std::array::from_fn(|n| (n * 11) as u8));
        assert_eq!(link.as_str().parse(), Ok(link.clone()));
        for bad in ["", "ABC", "../../../../../etc/passwd/", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXY1"]
        {
            assert_eq!(bad.parse::<Link>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn damaged_link_and_lower_files_are_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let layout = Layout { home: dir.path().to_owned() };
        let id = CacheId::from_random([7; 32]);
        std::fs::create_dir_all(layout.diff(&id)).expect("create");
        std::fs::create_dir_all(layout.links()).expect("create");
        let says = |error: Error, part: &str| assert!(error.to_string().contains(part), "{error}");
        says(layout.read_link_file(&id).expect_err("missing"), "/link is damaged: the file is missing");
        assert_eq!(layout.read_lower_file(&id).expect("a base layer"), []);
        for (bytes, reason) in [(&b""[..], "empty"), (b"\xff\xfe", "does not hold"), (b"l/../../etc", "does not hold")]
        {
            std::fs::write(layout.link_file(&id), bytes).expect("write");
            std::fs::write(layout.lower_file(&id), bytes).expect("write");
            says(layout.read_link_file(&id).expect_err("damaged"), reason);
            says(layout.read_lower_file(&id).expect_err("damaged"), reason);
        }
        let link = Link::from_random([3; 26]);
        says(layout.resolve(&link).expect_err("missing"), "missing");
        std::os::unix::fs::symlink("../../../etc", layout.link(&link)).expect("link");
        says(layout.resolve(&link).expect_err("leads out"), "does not lead to");
    }

    proptest::proptest! {
        /// What was written reads back; what anybody else wrote is either of the form or damaged, and never leads elsewhere.
        #[test]
        fn any_lower_file_is_links_or_damaged(
            links in proptest::collection::vec(proptest::array::uniform26(0u8..), 1..5),
            noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120),
        ) {
            let dir = tempfile::tempdir().expect("temporary folder");
            let layout = Layout { home: dir.path().to_owned() };
            let id = CacheId::from_random([7; 32]);
            std::fs::create_dir_all(layout.diff(&id)).expect("create");
            let links: Vec<Link> = links.into_iter().map(Link::from_random).collect();
            let text = links.iter().map(|link| format!("l/{link}")).collect::<Vec<_>>().join(":");
            std::fs::write(layout.lower_file(&id), text).expect("write");
            proptest::prop_assert_eq!(layout.read_lower_file(&id).expect("of the form"), links);
            std::fs::write(layout.lower_file(&id), &noise).expect("write");
            match layout.read_lower_file(&id) {
                Ok(found) => proptest::prop_assert!(found.iter().all(|link| !link.as_str().contains(['/', '.']))),
                Err(error) => proptest::prop_assert!(error.to_string().contains("damaged"), "{}", error),
            }
        }
    }
}
