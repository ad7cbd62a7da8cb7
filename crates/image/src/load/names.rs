//! Paths in an archive: their normal form, and where links lead.

use crate::Error;

/// Links that are followed one after another.
const LINKS_MAX: usize = 16;

/// Returns the normal form of an entry's name: no `/` at the ends, no `.` and no empty components; `None` if it has a `..`, is not
/// UTF-8 or is empty. Such entries cannot be named by any document, and are passed over.
pub(super) fn normal(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let parts: Vec<_> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() || parts.contains(&"..") {
        return None;
    }
    Some(parts.join("/"))
}

/// The normal form of a path that a document names; refused if it leaves the archive.
pub(super) fn wanted(path: &str) -> Result<String, Error> {
    let absolute = path.starts_with('/');
    match normal(path.as_bytes()) {
        Some(name) if !absolute => Ok(name),
        _ => Err(Error::load(
            format!("{:?}", shorten(path)),
            "a path of an archive's documents must stay inside the archive",
        )),
    }
}

/// Follows links from `name`, as `link` tells them, to a name that is no link.
pub(super) fn follow<'a>(name: &str, link: impl Fn(&str) -> Option<&'a Link>) -> Result<String, Error> {
    let mut at = name.to_owned();
    for _ in 0..LINKS_MAX {
        let Some(next) = link(&at) else { return Ok(at) };
        at = match next {
            Link::Hard(target) => target.clone(),
            Link::Symbolic(target) => join(&at, target)
                .ok_or_else(|| Error::load(name, format!("its link to {:?} leaves the archive", shorten(target))))?,
        };
    }
    Err(Error::load(name, "its links lead in a circle"))
}

/// A link in an archive.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// To a name in normal form.
    Hard(String),
    /// To a path from the folder of the link.
    Symbolic(String),
}

/// The normal form of `target` seen from the folder of `link`; `None` if it is absolute or leaves the archive.
fn join(link: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
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
            ("a/../b", None),
            ("", None),
            ("./", None),
        ] {
            assert_eq!(normal(name.as_bytes()).as_deref(), form, "{name:?}");
        }
        assert_eq!(normal(b"\xff"), None);
        for path in ["../x", "/etc/passwd", "a/../../x", ""] {
            assert!(wanted(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn links_are_followed_inside_the_archive() {
        let links = BTreeMap::from([
            ("b/layer.tar", Link::Symbolic("../a/layer.tar".into())),
            ("c/layer.tar", Link::Symbolic("../b/layer.tar".into())),
            ("d/layer.tar", Link::Hard("a/layer.tar".into())),
            ("up", Link::Symbolic("../../etc/passwd".into())),
            ("abs", Link::Symbolic("/etc/passwd".into())),
            ("x", Link::Symbolic("y".into())),
            ("y", Link::Symbolic("x".into())),
        ]);
        let follow = |name: &str| follow(name, |name| links.get(name));
        for name in ["a/layer.tar", "b/layer.tar", "c/layer.tar", "d/layer.tar"] {
            assert_eq!(follow(name).unwrap(), "a/layer.tar", "{name}");
        }
        for (name, word) in [("up", "leaves"), ("abs", "leaves"), ("x", "circle")] {
            assert!(follow(name).unwrap_err().to_string().contains(word), "{name}");
        }
    }
}
