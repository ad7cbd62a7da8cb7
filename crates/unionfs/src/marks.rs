//! How the dialects spell their marks.

use crate::{
    config::{Dialect, Xattrs},
    types::{Errno, Result},
};

/// Names of AUFS's own.
pub(crate) mod aufs {
    /// What every mark begins with; users' names must not.
    pub const PREFIX: &[u8] = b".wh.";
    /// In a directory: nothing of lower branches shows.
    pub const OPAQUE: &[u8] = b".wh..wh..opq";
    /// In a writable branch's root: the file that whiteouts are links of.
    pub const BASE: &[u8] = b".wh..wh.aufs";
    /// In a writable branch's root: copies of lower files with several names.
    pub const PLINK: &[u8] = b".wh..wh.plnk";
    /// In a writable branch's root: what is being made or removed.
    pub const ORPHANS: &[u8] = b".wh..wh.orph";
    /// Longest name in bytes: 255 less what marks and temporary names add.
    pub const NAME_MAX: usize = 242;

    /// The whiteout of `name`.
    pub fn whiteout(name: &[u8]) -> Vec<u8> {
        [PREFIX, name].concat()
    }
}

/// What else marks where the overlay dialect is mixed with others.
pub(crate) mod mixed {
    /// In a directory, beside [`super::aufs::OPAQUE`], as the program fuse-overlayfs makes it.
    pub const OPAQUE_DEVICE: &[u8] = b".wh..opq";
    /// Attributes that hold `y` on an opaque directory.
    pub const OPAQUE: [&[u8]; 3] = [b"trusted.overlay.opaque", b"user.overlay.opaque", b"user.fuseoverlayfs.opaque"];
    /// Attributes that are marks, and no user's.
    const PREFIXES: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs."];

    pub fn is_mark(attribute: &[u8]) -> bool {
        PREFIXES.iter().any(|prefix| attribute.starts_with(prefix))
    }

    /// The whiteout of `name` as a file; `None` where its name would be too long to be one.
    pub fn whiteout(name: &[u8]) -> Option<Vec<u8>> {
        (name.len() + super::aufs::PREFIX.len() <= 255).then(|| super::aufs::whiteout(name))
    }
}

/// The overlay dialect's attributes in one namespace.
#[derive(Debug)]
pub(crate) struct Keys {
    pub prefix: &'static [u8],
    pub opaque: &'static [u8],
    pub redirect: &'static [u8],
    pub metacopy: &'static [u8],
    pub origin: &'static [u8],
    pub impure: &'static [u8],
    pub nlink: &'static [u8],
    pub whiteout: &'static [u8],
    pub upper: &'static [u8],
}

macro_rules! keys {
    ($namespace:literal) => {
        Keys {
            prefix: concat!($namespace, ".overlay.").as_bytes(),
            opaque: concat!($namespace, ".overlay.opaque").as_bytes(),
            redirect: concat!($namespace, ".overlay.redirect").as_bytes(),
            metacopy: concat!($namespace, ".overlay.metacopy").as_bytes(),
            origin: concat!($namespace, ".overlay.origin").as_bytes(),
            impure: concat!($namespace, ".overlay.impure").as_bytes(),
            nlink: concat!($namespace, ".overlay.nlink").as_bytes(),
            whiteout: concat!($namespace, ".overlay.whiteout").as_bytes(),
            upper: concat!($namespace, ".overlay.upper").as_bytes(),
        }
    };
}

static TRUSTED: Keys = keys!("trusted");
static USER: Keys = keys!("user");

impl Xattrs {
    pub(crate) fn keys(self) -> &'static Keys {
        match self {
            Self::Trusted => &TRUSTED,
            Self::User => &USER,
        }
    }
}

impl Keys {
    /// What a user's attribute is called below: the union's own prefix is escaped by doubling, as the kernel does.
    pub fn escape(&self, name: &[u8]) -> Vec<u8> {
        match name.strip_prefix(self.prefix) {
            Some(rest) => [self.prefix, b"overlay.", rest].concat(),
            None => name.to_vec(),
        }
    }

    /// What an attribute below is called above; `None` for a mark.
    pub fn unescape(&self, name: &[u8]) -> Option<Vec<u8>> {
        match name.strip_prefix(self.prefix) {
            None => Some(name.to_vec()),
            Some(rest) => rest.strip_prefix(b"overlay.").map(|rest| [self.prefix, rest].concat()),
        }
    }
}

/// Checks a name that a user gave.
///
/// In AUFS: `EPERM` for those that begin as marks do, `ENAMETOOLONG` for those whose marks would be too long.
pub(crate) fn check_name(dialect: Dialect, name: &[u8]) -> Result<()> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(Errno::INVAL);
    }
    if name.len() > 255 {
        return Err(Errno::NAMETOOLONG);
    }
    if dialect == Dialect::Aufs {
        if name.starts_with(aufs::PREFIX) {
            return Err(Errno::PERM);
        }
        if name.len() > aufs::NAME_MAX {
            return Err(Errno::NAMETOOLONG);
        }
    }
    Ok(())
}

/// Where the directory lies in branches below the one that has the redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// Under this name, in the same parent.
    Sibling(Vec<u8>),
    /// At this path from the branch's root, without a leading `/`.
    Absolute(Vec<u8>),
}

impl Redirect {
    /// Longest text of a redirect: the kernel's default `redirect_max` is what it writes, it reads longer ones.
    pub const MAX: usize = 4096;

    /// Reads the attribute; `EINVAL` for what leads nowhere: empty parts, `.` and `..`, a relative path.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let good =
            |part: &[u8]| !part.is_empty() && part.len() <= 255 && part != b"." && part != b".." && !part.contains(&0);
        match text.strip_prefix(b"/") {
            Some(path) if text.len() <= Self::MAX && path.split(|&byte| byte == b'/').all(good) => {
                Ok(Self::Absolute(path.to_vec()))
            }
            None if good(text) && !text.contains(&b'/') => Ok(Self::Sibling(text.to_vec())),
            _ => Err(Errno::INVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_that_lead_somewhere_and_those_that_do_not() {
        assert_eq!(Redirect::parse(b"a"), Ok(Redirect::Sibling(b"a".to_vec())));
        assert_eq!(Redirect::parse(b"/a/b"), Ok(Redirect::Absolute(b"a/b".to_vec())));
        for bad in ["", "/", "//a", "/a/", "/a//b", "a/b", ".", "..", "/..", "/a/../../b", "a\0b"] {
            assert_eq!(Redirect::parse(bad.as_bytes()), Err(Errno::INVAL), "{bad:?}");
        }
        assert_eq!(Redirect::parse(&[b"/".as_slice(), &[b'n'; 5000]].concat()), Err(Errno::INVAL));
    }

    #[test]
    fn own_attributes_are_escaped() {
        let keys = Xattrs::Trusted.keys();
        assert_eq!(keys.escape(b"trusted.overlay.opaque"), b"trusted.overlay.overlay.opaque");
        assert_eq!(keys.escape(b"user.overlay.opaque"), b"user.overlay.opaque");
        assert_eq!(keys.unescape(b"trusted.overlay.opaque"), None);
        assert_eq!(keys.unescape(b"trusted.overlay.overlay.opaque").unwrap(), b"trusted.overlay.opaque");
        assert_eq!(keys.unescape(b"user.a").unwrap(), b"user.a");
    }

    #[test]
    fn names_by_dialect() {
        let overlay = Dialect::Overlay { xattrs: Xattrs::Trusted };
        let long = |len| vec![b'a'; len];
        assert_eq!(check_name(Dialect::Aufs, b".wh.a"), Err(Errno::PERM));
        assert_eq!(check_name(overlay, b".wh.a"), Ok(()));
        assert_eq!(check_name(Dialect::Aufs, &long(242)), Ok(()));
        assert_eq!(check_name(Dialect::Aufs, &long(243)), Err(Errno::NAMETOOLONG));
        assert_eq!(check_name(overlay, &long(255)), Ok(()));
        assert_eq!(check_name(overlay, &long(256)), Err(Errno::NAMETOOLONG));
        for bad in ["", ".", "..", "a/b", "a\0"] {
            assert_eq!(check_name(overlay, bad.as_bytes()), Err(Errno::INVAL), "{bad:?}");
        }
    }
}
