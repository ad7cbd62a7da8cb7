//! Paths in an archive: their normal form, and where links lead.

use crate::Error;

/// Links that are followed one after another.
const LINKS_MAX: usize = 16;

/// Returns the normal form of an entry's name: no `/` at the ends, no `.`, `..` or empty components; `None` if it leads out of the
/// archive, is not UTF-8 or is empty. No document can name such an entry, and it is passed over.
pub(super) fn normal(name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    for part in std::str::from_utf8(name).ok()?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The normal form of a path that a document names: the archive is its root, as Docker has it. Refused if it leaves the archive.
pub(super) fn wanted(path: &str) -> Result<String, Error> {
    normal(path.as_bytes()).ok_or_else(|| {
        Error::load(format!("{:?}", shorten(path)), "a path of an archive's documents must stay inside the archive")
    })
}

/// Follows links from `name`, as `link` tells them, to a name that is no link.
pub(super) fn follow<'a>(name: &str, link: impl Fn(&str) -> Option<&'a Link>) -> Result<String, Error> {
    let mut at = name.to_owned();
    for _ in 0..LINKS_MAX {
        let Some(next) = link(&at) else { return Ok(at) };
        at = match next {
            Link::Hard(target) => target.clone(),
            Link::Symbolic(target) => join(&at, target),
        };
    }
    Err(Error::load(name, "its links lead in a circle"))
}

/// A link in an archive.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// To a name in normal form.
    Hard(String),
    /// To a path from the directory of the link, or from the archive's root.
    Symbolic(String),
}

/// The normal form of `target` seen from the directory of `link`. The archive is the root: nothing leads out of it.
fn join(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    if !target.starts_with('/') {
        parts.extend(link.split('/'));
        parts.pop();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The beginning of a text from outside, for messages.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn entries_are_known_by_their_normal_form() {
        for (name, form) in [
            ("manifest.json", Some("manifest.json")),
            ("./a//b/./c/", Some("a/b/c")),
            ("/abs", Some("abs")),
            ("../a", None),
            ("/../a", None),
            ("a/../b", Some("b")),
            ("a/..", None),
            ("", None),
            ("./", None),
        ] {
            assert_eq!(normal(name.as_bytes()).as_deref(), form, "{name:?}");
        }
        assert_eq!(normal(b"\xff"), None);
        for path in ["../x", "/../etc/passwd", "a/../../x", "/"] {
            assert!(wanted(path).is_err(), "{path:?}");
        }
        assert_eq!(wanted("/layer.tar").unwrap(), "layer.tar");
    }

    #[test]
    fn links_are_followed_inside_the_archive() {
        let links = BTreeMap::from([
            ("b/layer.tar", Link::Symbolic("../a/layer.tar".into())),
            ("c/layer.tar", Link::Symbolic("../b/layer.tar".into())),
            ("d/layer.tar", Link::Hard("a/layer.tar".into())),
            ("up", Link::Symbolic("../../a/layer.tar".into())),
            ("e/abs", Link::Symbolic("/a/layer.tar".into())),
            ("out", Link::Symbolic("../..".into())),
            ("x", Link::Symbolic("y".into())),
            ("y", Link::Symbolic("x".into())),
        ]);
        let follow = |name: &str| follow(name, |name| links.get(name));
        for name in ["a/layer.tar", "b/layer.tar", "c/layer.tar", "d/layer.tar", "up", "e/abs"] {
            assert_eq!(follow(name).unwrap(), "a/layer.tar", "{name}");
        }
        assert_eq!(follow("out").unwrap(), "", "the archive itself, which is no file");
        assert!(follow("x").unwrap_err().to_string().contains("circle"));
    }
}
