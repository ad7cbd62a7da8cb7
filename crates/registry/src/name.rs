//! Repository names, tags and references, parsed once at the edge: inside, they are safe to join to a path.
//!
//! ```text
//! name        component {"/" component}     at most 255 characters
//! component   a-z0-9, with one ".", one or two "_", or any number of "-" between
//! tag         A-Za-z0-9_ then up to 127 of A-Za-z0-9_.-
//! ```
//!
//! Source: OCI distribution-spec 1.1, "Pulling manifests".

use std::{fmt, str::FromStr};

use strata_spec::Digest;

use crate::error::{Code, Error};

const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A repository's name, such as `library/debian`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoName(String);

impl RepoName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepoName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let reason = if text.len() > NAME_MAX {
            "it is longer than 255 characters"
        } else if !text.split('/').all(is_component) {
            "a name is of a-z and 0-9, with single '.', '_', '__' or '-' between, and '/' between its parts"
        } else {
            return Ok(Self(text.to_owned()));
        };
        let shown: String = text.chars().take(300).collect();
        Err(Error::new(Code::NameInvalid, format!("invalid repository name {shown:?}: {reason}")))
    }
}

/// Whether `text` may stand between two slashes of a name.
pub fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(word)
        && text.ends_with(word)
        && text.split(word).all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

/// A tag of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let is_tag = text.len() <= TAG_MAX
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
        if is_tag {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(160).collect();
        Err(Error::new(Code::TagInvalid, format!("invalid tag {shown:?}: a tag is of A-Z a-z 0-9 _ . -, at most 128")))
    }
}

/// What names a manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A tag of the repository.
    Tag(Tag),
    /// The manifest's digest.
    Digest(Digest),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.contains(':') { parse_digest(text).map(Self::Digest) } else { text.parse().map(Self::Tag) }
    }
}

/// Parses a digest that came in a request.
pub fn parse_digest(text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|error: strata_spec::digest::DigestError| {
        Error::new(Code::DigestInvalid, error.to_string()).with_detail(serde_json::json!({"digest": error.text}))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_inside_and_outside_the_grammar() {
        for good in ["a", "library/debian", "a.b/c_d/e__f/g---h", "0/1", &"a/".repeat(127).add("a")] {
            assert_eq!(good.parse::<RepoName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a/B",
            "..",
            "a/..",
            "a/../b",
            ".a",
            "a.",
            "a..b",
            "_layers",
            "a/_uploads",
            "a___b",
            "a._b",
            "a b",
            "a\0b",
            "a\\b",
            "é",
            "a:b",
            &long,
        ] {
            let error = bad.parse::<RepoName>().unwrap_err();
            assert_eq!((error.code(), error.status()), (Code::NameInvalid, 400), "{bad:?}");
        }
    }

    #[test]
    fn tags_and_digests() {
        for good in ["latest", "_", "1.0-rc.1", &"x".repeat(128)] {
            assert!(matches!(good.parse::<Target>(), Ok(Target::Tag(_))), "{good}");
        }
        for bad in ["", ".x", "-x", "a b", "a/b", "..", &"x".repeat(129)] {
            assert_eq!(bad.parse::<Target>().unwrap_err().code(), Code::TagInvalid, "{bad:?}");
        }
        for bad in ["sha256:", "sha256:ab", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../x", ":"] {
            assert_eq!(bad.parse::<Target>().unwrap_err().code(), Code::DigestInvalid, "{bad:?}");
        }
    }

    trait Add {
        fn add(self, more: &str) -> String;
    }

    impl Add for String {
        fn add(mut self, more: &str) -> String {
            self.push_str(more);
            self
        }
    }
}
