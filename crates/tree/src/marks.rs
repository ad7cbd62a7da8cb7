//! Marks: how a layer states that it deletes, hides, or refers to files of the layers below.
//!
//! | meaning | overlayfs | AUFS, and a layer's tar |
//! | --- | --- | --- |
//! | `NAME` is deleted (whiteout) | `NAME` is a character device 0/0 | an empty file `.wh.NAME` |
//! | | `NAME` is an empty file with `overlay.whiteout`, in a directory with `overlay.opaque=x` | |
//! | the directory hides the layers below (opaque) | `overlay.opaque=y` on it | `.wh..wh..opq` in it |
//! | the rest of the file lies elsewhere below | `overlay.redirect` on it | |
//! | the file's data lies below (metacopy) | `overlay.metacopy` on it | |
//!
//! overlayfs keeps its attributes in `trusted.`, or in `user.` when mounted with `userxattr`. The program fuse-overlayfs reads both,
//! and writes further marks: `user.fuseoverlayfs.opaque=y`, and a device `.wh..opq` in an opaque directory.
//!
//! Source: Linux `Documentation/filesystems/overlayfs.rst`; OCI image-spec, layer.md, "Whiteouts"; the AUFS manual page.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use strata_sys::tree::{Device, Kind, Stat};

/// The marks that a layer's directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Marks of the kernel's overlayfs, in `trusted.`.
    Overlay,
    /// Marks of AUFS, spelled as in a layer's tar.
    Aufs,
    /// Marks of AUFS, of overlayfs in any namespace, and of the program fuse-overlayfs. New layers get AUFS's.
    Mixed,
    /// None: the directory is the whole view, and a deletion deletes.
    None,
}

impl Marks {
    /// Returns whether file names that begin with [`aufs::PREFIX`] are marks here.
    pub fn are_names(self) -> bool {
        matches!(self, Self::Aufs | Self::Mixed)
    }

    /// Returns whether device nodes and extended attributes are marks here.
    pub fn are_attributes(self) -> bool {
        matches!(self, Self::Overlay | Self::Mixed)
    }

    /// Returns overlayfs's attributes that count here; `None` where attributes are no marks.
    pub fn keys(self) -> Option<&'static overlay::Keys> {
        self.are_attributes().then(|| overlay::Namespace::Trusted.keys())
    }
}

/// The meaning of one component of a name in a layer's tar or in an AUFS branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// No mark: the name stands for itself.
    Plain,
    /// This name in the same directory is deleted.
    Whiteout(&'a [u8]),
    /// The directory that holds it is opaque.
    Opaque,
    /// AUFS's own bookkeeping.
    Meta,
    /// A whiteout of the empty name, of `.` or of `..`.
    Invalid,
}

impl<'a> Mark<'a> {
    /// Reads one component of a name.
    pub fn of(component: &'a [u8]) -> Self {
        if component == aufs::OPAQUE.as_bytes() {
            Self::Opaque
        } else if component.starts_with(aufs::META_PREFIX.as_bytes()) {
            Self::Meta
        } else if let Some(name) = component.strip_prefix(aufs::PREFIX.as_bytes()) {
            match name {
                b"" | b"." | b".." => Self::Invalid,
                name => Self::Whiteout(name),
            }
        } else {
            Self::Plain
        }
    }
}

/// Marks that are file names.
pub mod aufs {
    use super::*;

    /// Begins every mark. No user's file name may begin with it.
    pub const PREFIX: &str = ".wh.";
    /// Begins the names of AUFS's own bookkeeping.
    pub const META_PREFIX: &str = ".wh..wh.";
    /// Makes the directory that holds it opaque.
    pub const OPAQUE: &str = ".wh..wh..opq";
    /// The file in a writable branch's root that whiteouts are hard links of.
    pub const BASE: &str = ".wh..wh.aufs";
    /// The directory in a writable branch's root that holds pseudo-links: copies of lower files with several names.
    pub const PSEUDO_LINKS: &str = ".wh..wh.plnk";
    /// The directory in a writable branch's root that holds what is being made or removed.
    pub const ORPHANS: &str = ".wh..wh.orph";
    /// Longest name in bytes: 255 less what marks and temporary names add.
    pub const NAME_MAX: usize = 242;

    /// Returns the name of the whiteout of `name`, as bytes.
    pub fn whiteout(name: &[u8]) -> Vec<u8> {
        [PREFIX.as_bytes(), name].concat()
    }

    /// Returns the name of the whiteout of `name`.
    pub fn whiteout_name(name: &OsStr) -> OsString {
        OsString::from_vec(whiteout(name.as_bytes()))
    }
}

/// Marks that are extended attributes or device nodes.
pub mod overlay {
    use super::*;

    /// The namespace of overlayfs's attributes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Namespace {
        /// `trusted.overlay.`, the default.
        Trusted,
        /// `user.overlay.`, of a mount with the option `userxattr`.
        User,
    }

    /// The names of overlayfs's attributes in one namespace.
    #[derive(Debug)]
    pub struct Keys {
        /// Begins every name of an attribute that overlayfs keeps for itself.
        pub prefix: &'static str,
        /// On a directory. `y`: it is opaque. `x`: files in it may be whiteouts by attribute.
        pub opaque: &'static str,
        /// On a renamed directory or metacopy file: the location of the rest of it; see [`Redirect`].
        pub redirect: &'static str,
        /// On a file: its data lies in a layer below.
        pub metacopy: &'static str,
        /// On a copied-up file: a file handle of its origin.
        pub origin: &'static str,
        /// On a directory: it holds entries with an origin.
        pub impure: &'static str,
        /// On a file in the index: the number of links that the union shows.
        pub nlink: &'static str,
        /// On an empty file: it is a whiteout.
        pub whiteout: &'static str,
        /// On a directory in the index: a file handle of the upper directory.
        pub upper: &'static str,
    }

    macro_rules! keys {
        ($namespace:literal) => {
            Keys {
                prefix: concat!($namespace, ".overlay."),
                opaque: concat!($namespace, ".overlay.opaque"),
                redirect: concat!($namespace, ".overlay.redirect"),
                metacopy: concat!($namespace, ".overlay.metacopy"),
                origin: concat!($namespace, ".overlay.origin"),
                impure: concat!($namespace, ".overlay.impure"),
                nlink: concat!($namespace, ".overlay.nlink"),
                whiteout: concat!($namespace, ".overlay.whiteout"),
                upper: concat!($namespace, ".overlay.upper"),
            }
        };
    }

    /// The attributes of a mount without `userxattr`.
    pub const TRUSTED: Keys = keys!("trusted");
    /// The attributes of a mount with `userxattr`.
    pub const USER: Keys = keys!("user");

    impl Namespace {
        /// Returns the names of the attributes.
        pub fn keys(self) -> &'static Keys {
            match self {
                Self::Trusted => &TRUSTED,
                Self::User => &USER,
            }
        }
    }

    impl Keys {
        /// Returns the lower name of a user's attribute: the kernel escapes the mount's own prefix by doubling `overlay.`.
        pub fn escape(&self, name: &[u8]) -> Vec<u8> {
            match name.strip_prefix(self.prefix.as_bytes()) {
                Some(rest) => [self.prefix.as_bytes(), b"overlay.", rest].concat(),
                None => name.to_vec(),
            }
        }

        /// Returns the name that users see of a lower attribute; `None` for a mark.
        pub fn unescape(&self, name: &[u8]) -> Option<Vec<u8>> {
            match name.strip_prefix(self.prefix.as_bytes()) {
                None => Some(name.to_vec()),
                Some(rest) => rest.strip_prefix(b"overlay.").map(|rest| [self.prefix.as_bytes(), rest].concat()),
            }
        }
    }

    /// Returns whether `stat` is a whiteout that is a device node.
    pub fn is_whiteout(stat: &Stat) -> bool {
        stat.kind == Kind::CharDevice && stat.rdev == Device::default()
    }
}

/// Marks where those of several programs lie in one directory, as in a root of the program fuse-overlayfs.
pub mod mixed {
    use super::overlay::{TRUSTED, USER};

    /// The device that makes the directory that holds it opaque, beside [`super::aufs::OPAQUE`].
    pub const OPAQUE_DEVICE: &str = ".wh..opq";
    /// The attributes of a directory that make it opaque when they hold `y`.
    pub const OPAQUE: [&str; 3] = [TRUSTED_OPAQUE, USER_OPAQUE, "user.fuseoverlayfs.opaque"];
    /// The prefixes of attributes that are marks.
    pub const PREFIXES: [&str; 3] = ["trusted.overlay.", "user.overlay.", "user.fuseoverlayfs."];

    const TRUSTED_OPAQUE: &str = TRUSTED.opaque;
    const USER_OPAQUE: &str = USER.opaque;

    /// Returns whether an attribute is a mark.
    pub fn is_mark(attribute: &[u8]) -> bool {
        PREFIXES.iter().any(|prefix| attribute.starts_with(prefix.as_bytes()))
    }

    /// Returns the name of the whiteout of `name`; `None` if the filesystem cannot hold so long a name.
    pub fn whiteout(name: &[u8]) -> Option<Vec<u8>> {
        (name.len() + super::aufs::PREFIX.len() <= 255).then(|| super::aufs::whiteout(name))
    }
}

/// The value of a `redirect` attribute: where the layers below hold the rest of a directory, or the data of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Under this name, in the same parent.
    Sibling(Vec<u8>),
    /// At this path from the layer's root, without a leading `/`.
    Absolute(Vec<u8>),
}

impl Redirect {
    /// Longest value in bytes. The kernel's `redirect_max` limits what it writes, not what it reads.
    pub const MAX: usize = 4096;

    /// Reads a value; `None` for one that leads nowhere: empty components, `.` and `..`, a relative path.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let good =
            |part: &[u8]| !part.is_empty() && part.len() <= 255 && part != b"." && part != b".." && !part.contains(&0);
        match text.strip_prefix(b"/") {
            Some(path) if text.len() <= Self::MAX && path.split(|&byte| byte == b'/').all(good) => {
                Some(Self::Absolute(path.to_vec()))
            }
            None if good(text) && !text.contains(&b'/') => Some(Self::Sibling(text.to_vec())),
            _ => None,
        }
    }

    /// Returns the value as the attribute holds it.
    pub fn text(&self) -> OsString {
        OsString::from_vec(match self {
            Self::Sibling(name) => name.clone(),
            Self::Absolute(path) => [b"/", path.as_slice()].concat(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_mark_or_stands_for_itself() {
        for (name, mark) in [
            ("hosts", Mark::Plain),
            (".wh", Mark::Plain),
            (".whx", Mark::Plain),
            (".wh.hosts", Mark::Whiteout(b"hosts")),
            (".wh..bashrc", Mark::Whiteout(b".bashrc")),
            (".wh....", Mark::Whiteout(b"...")),
            (".wh.", Mark::Invalid),
            (".wh..", Mark::Invalid),
            (".wh...", Mark::Invalid),
            (".wh..wh..opq", Mark::Opaque),
            (".wh..wh.plnk", Mark::Meta),
            (".wh..wh.", Mark::Meta),
        ] {
            assert_eq!(Mark::of(name.as_bytes()), mark, "{name}");
        }
    }

    #[test]
    fn a_redirect_is_one_name_or_a_clean_absolute_path() {
        assert_eq!(Redirect::parse(b"a"), Some(Redirect::Sibling(b"a".to_vec())));
        assert_eq!(Redirect::parse(b"/a/b"), Some(Redirect::Absolute(b"a/b".to_vec())));
        for bad in ["", "/", "//a", "/a/", "/a//b", "a/b", ".", "..", "/..", "/a/../../b", "a\0b"] {
            assert_eq!(Redirect::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Redirect::parse(&[b"/".as_slice(), &[b'n'; 5000]].concat()), None);
        for text in ["a", "/a/b"] {
            assert_eq!(Redirect::parse(text.as_bytes()).unwrap().text(), text);
        }
    }

    #[test]
    fn a_mounts_own_attributes_are_escaped() {
        let keys = overlay::Namespace::Trusted.keys();
        assert_eq!(keys.escape(b"trusted.overlay.opaque"), b"trusted.overlay.overlay.opaque");
        assert_eq!(keys.escape(b"user.overlay.opaque"), b"user.overlay.opaque");
        assert_eq!(keys.unescape(b"trusted.overlay.opaque"), None);
        assert_eq!(keys.unescape(b"trusted.overlay.overlay.opaque").unwrap(), b"trusted.overlay.opaque");
        assert_eq!(keys.unescape(b"user.a").unwrap(), b"user.a");
    }
}
