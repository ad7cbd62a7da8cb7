//! From the names in a tar to paths inside the folder.

use crate::{
    Error,
    marks::{Mark, Marks},
};

/// A path inside the folder: components joined by `/`, none empty, `.` or `..`; empty for the folder itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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
        let (dir, _) = self.split();
        let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
        path.extend_from_slice(dir);
        if !dir.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }

    /// The directory that holds it.
    pub fn parent(&self) -> Self {
        Self(self.split().0.to_vec())
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
                _ => return Err(refuse("it lies under a deletion mark")),
            }
        }
        Ok(match Mark::of(base) {
            Mark::Invalid => return Err(refuse("it is a deletion mark for nothing, `.` or `..`")),
            Mark::Meta => Self::Skip,
            Mark::Plain => Self::Make(path),
            Mark::Whiteout(_) | Mark::Opaque if marks == Marks::Aufs => Self::Make(path),
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
    fn marks_are_read_from_the_last_component() {
        let inside = |path: &str| Inside::parse(path.as_bytes()).unwrap();
        for (name, marks, wish) in [
            ("./", Marks::Overlay, Some(Wish::Root)),
            ("a/b", Marks::Overlay, Some(Wish::Make(inside("a/b")))),
            ("a/.wh.b", Marks::Overlay, Some(Wish::Delete(inside("a/b")))),
            ("a/.wh.b", Marks::None, Some(Wish::Delete(inside("a/b")))),
            ("a/.wh.b", Marks::Aufs, Some(Wish::Make(inside("a/.wh.b")))),
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
