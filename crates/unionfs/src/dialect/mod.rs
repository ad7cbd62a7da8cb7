//! How unions are marked on disk. Everything that only one dialect knows is here.
//!
//! | module | owns |
//! | --- | --- |
//! | `aufs` | AUFS's names, whiteouts, opaque marks and pseudo-links |
//! | `overlay` | the kernel overlayfs's whiteouts, attributes and redirects |
//! | `mixed` | marks of others that count beside overlayfs's |
//! | `hard_links` | lower hard links that stay one file over copy-up, in either dialect |
//! | `metacopy` | overlayfs's files that hold attributes alone |
//! | `origin` | inode numbers of copies, from overlayfs's origins |

pub(crate) mod aufs;
pub(crate) mod hard_links;
pub(crate) mod metacopy;
pub(crate) mod mixed;
pub(crate) mod origin;
pub(crate) mod overlay;

pub(crate) use strata_tree::marks::{Redirect, overlay::Keys};

use crate::{
    config::Dialect,
    types::{Errno, Result},
};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Xattrs;

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
