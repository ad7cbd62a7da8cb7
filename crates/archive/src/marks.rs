//! Whiteouts and opaque directories: as names in a tar, and as marks on disk.

/// How deletions stand on disk in a layer's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Character device 0/0, and `trusted.overlay.opaque=y`.
    Overlay,
    /// Files named `.wh.NAME` and `.wh..wh..opq`, as in the tar.
    Aufs,
    /// None: the folder is the whole view, a deletion deletes.
    None,
}

/// Before a name: that name is deleted.
pub const WHITEOUT_PREFIX: &str = ".wh.";
/// In a directory: what lies below it is hidden.
pub const OPAQUE: &str = ".wh..wh..opq";
/// Before a name: AUFS's own bookkeeping, never unpacked.
pub const META_PREFIX: &str = ".wh..wh.";

/// On a directory, `y`: what lies below it is hidden. `x`: it holds whiteouts of the second form.
pub(crate) const OVERLAY_OPAQUE: &str = "trusted.overlay.opaque";
/// The second form of an overlay whiteout: on an empty file, in a directory whose opaque mark is `x`.
pub(crate) const OVERLAY_WHITEOUT: &str = "trusted.overlay.whiteout";
/// On a renamed directory or file: where the rest of it lies below; a path from the root, or a name beside it.
pub(crate) const OVERLAY_REDIRECT: &str = "trusted.overlay.redirect";
/// On a file: its content lies below.
pub(crate) const OVERLAY_METACOPY: &str = "trusted.overlay.metacopy";
/// Before the name of any attribute that overlayfs keeps for itself.
pub(crate) const OVERLAY_PREFIX: &[u8] = b"trusted.overlay.";

/// What the last part of a name in a tar means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// No mark: the name stands for itself.
    Plain,
    /// This name, beside it, is deleted.
    Whiteout(&'a [u8]),
    /// The directory that holds it is opaque.
    Opaque,
    /// AUFS's bookkeeping.
    Meta,
    /// A whiteout of nothing, of `.` or of `..`.
    Invalid,
}

impl<'a> Mark<'a> {
    /// Reads one component of a name.
    pub fn of(component: &'a [u8]) -> Self {
        if component == OPAQUE.as_bytes() {
            Self::Opaque
        } else if component.starts_with(META_PREFIX.as_bytes()) {
            Self::Meta
        } else if let Some(name) = component.strip_prefix(WHITEOUT_PREFIX.as_bytes()) {
            match name {
                b"" | b"." | b".." => Self::Invalid,
                name => Self::Whiteout(name),
            }
        } else {
            Self::Plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_mark() {
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
}
