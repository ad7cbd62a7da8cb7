//! From the names in a tar to paths inside the folder.

use strata_tree::marks::{Mark, Marks, aufs};

use crate::Error;

/// A path inside the folder: components joined by `/`, none empty, `.` or `..`; empty for the folder itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Inside(Vec<u8>);

impl Inside {
    /// Cleans `name` as Docker does: a leading `/` falls away, `a/../b` is `b`. What leads out of the folder is refused.
    pub fn parse(name: &[u8]) -> Result<Self, &'static str> {
        if name.contains(&0) {
            return Err("a name cannot hold a NUL byte");
        }
        let mut clean = Vec::with_capacity(name.len());
        for part in name.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." if clean.is_empty() => return Err("it leads out of the layer's root"),
                b".." => clean.truncate(clean.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
                part => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(part);
                }
            }
        }
        Ok(Self(clean))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Directory and last component.
    pub fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        }
    }

    /// The same directory, another last component.
    pub fn sibling(&self, name: &[u8]) -> Self {
        self.parent().child(name)
    }

    /// The directory that holds it.
    pub fn parent(&self) -> Self {
        Self(self.split().0.to_vec())
    }

    /// The path of `name`, which has no slash, in this directory.
    pub fn child(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }

    /// Every directory on the way, from the one in the root down to the path itself.
    pub fn parts(&self) -> impl Iterator<Item = Self> + '_ {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([self.0.len()]).filter(|end| *end > 0).map(|end| Self(self.0[..end].to_vec()))
    }

    /// Whether the path is `dir` or lies below it.
    pub fn is_in(&self, dir: &Self) -> bool {
        self.0.strip_prefix(&dir.0[..]).is_some_and(|rest| dir.is_root() || rest.is_empty() || rest[0] == b'/')
    }

    /// The path of the whiteout of this name, as it stands in a tar and in AUFS.
    pub fn whiteout(&self) -> Self {
        self.sibling(&aufs::whiteout(self.split().1))
    }
}

/// What an entry's name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The root directory itself.
    Root,
    Make(Inside),
    /// Hide or delete this path.
    Delete(Inside),
    /// Hide or delete all that was in this directory.
    Clear(Inside),
    /// Nothing: bookkeeping of another system.
    Skip,
}

impl Wish {
    /// Reads an entry's name, as it means under `marks`.
    pub fn parse(name: &[u8], marks: Marks) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::Refused { entry: display(name), reason: reason.to_owned() };
        let path = Inside::parse(name).map_err(refuse)?;
        if path.is_root() {
            return Ok(Self::Root);
        }
        let (dir, base) = path.split();
        for part in dir.split(|&byte| byte == b'/') {
            match Mark::of(part) {
                Mark::Plain => {}
                Mark::Meta => return Ok(Self::Skip),
                _ => return Err(refuse("it lies under a whiteout")),
            }
        }
        Ok(match Mark::of(base) {
            Mark::Invalid => return Err(refuse("it is a whiteout of nothing, `.` or `..`")),
            Mark::Meta => Self::Skip,
            Mark::Plain => Self::Make(path),
            Mark::Opaque if marks.are_names() => Self::Make(path),
            Mark::Whiteout(name) => Self::Delete(path.sibling(name)),
            Mark::Opaque => Self::Clear(path.parent()),
        })
    }
}

/// A name for people.
pub(super) fn display(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_kept_inside() {
        for (name, clean) in [
            ("etc/hosts", Ok("etc/hosts")),
            ("./etc//hosts/", Ok("etc/hosts")),
            ("/etc/hosts", Ok("etc/hosts")),
            ("///", Ok("")),
            (".", Ok("")),
            ("a/../b", Ok("b")),
            ("a/b/../../c/./d", Ok("c/d")),
            ("...", Ok("...")),
            ("..", Err(())),
            ("../x", Err(())),
            ("/../x", Err(())),
            ("a/../../x", Err(())),
            ("a\0b", Err(())),
        ] {
            let found = Inside::parse(name.as_bytes());
            assert_eq!(
                found.map(|path| String::from_utf8(path.0).unwrap()).map_err(|_| ()),
                clean.map(str::to_owned),
                "{name}"
            );
        }
    }

    #[test]
    fn paths_are_taken_apart_and_put_together() {
        let inside = |path: &str| Inside::parse(path.as_bytes()).unwrap();
        let parts: Vec<_> = inside("a/bc/d").parts().collect();
        assert_eq!(parts, [inside("a"), inside("a/bc"), inside("a/bc/d")]);
        assert_eq!(inside("").parts().count(), 0);
        for (path, dir, is_in) in
            [("a/b", "a", true), ("a", "a", true), ("ab", "a", false), ("a", "", true), ("a", "a/b", false)]
        {
            assert_eq!(inside(path).is_in(&inside(dir)), is_in, "{path} {dir}");
        }
        assert_eq!(inside("a/b").whiteout(), inside("a/.wh.b"));
        assert_eq!(inside("b").whiteout(), inside(".wh.b"));
    }

    #[test]
    fn marks_are_read_from_the_last_component() {
        let inside = |path: &str| Inside::parse(path.as_bytes()).unwrap();
        for (name, marks, wish) in [
            ("./", Marks::Overlay, Some(Wish::Root)),
            ("a/b", Marks::Overlay, Some(Wish::Make(inside("a/b")))),
            ("a/.wh.b", Marks::Overlay, Some(Wish::Delete(inside("a/b")))),
            ("a/.wh.b", Marks::None, Some(Wish::Delete(inside("a/b")))),
            ("a/.wh.b", Marks::Aufs, Some(Wish::Delete(inside("a/b")))),
            ("a/.wh..wh..opq", Marks::Aufs, Some(Wish::Make(inside("a/.wh..wh..opq")))),
            ("a/.wh..wh..opq", Marks::Overlay, Some(Wish::Clear(inside("a")))),
            (".wh..wh..opq", Marks::Overlay, Some(Wish::Clear(inside("")))),
            (".wh..wh.plnk/12.34", Marks::Overlay, Some(Wish::Skip)),
            (".wh..wh.aufs", Marks::Aufs, Some(Wish::Skip)),
            (".wh.b/c", Marks::Overlay, None),
            ("a/.wh.", Marks::Overlay, None),
            ("a/.wh..", Marks::Aufs, None),
            (".wh...", Marks::Overlay, None),
            ("../.wh.x", Marks::Overlay, None),
        ] {
            assert_eq!(Wish::parse(name.as_bytes(), marks).ok(), wish, "{name} {marks:?}");
        }
    }
}
