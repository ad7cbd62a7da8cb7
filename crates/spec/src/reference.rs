//! Image references: Docker's grammar and its normalisation.
//!
//! ```text
//! reference   name [":" tag] ["@" digest]                    debian:12
//! name        [domain "/"] component {"/" component}         at most 255 characters
//! domain      (label {"." label} | "[" IPv6 "]") [":" port]  registry.example:5000, [::1]:5000
//! component   a-z0-9, with one ".", one or two "_", or any number of "-" between
//! tag         A-Za-z0-9_ then up to 127 of A-Za-z0-9_.-
//! ```
//!
//! What stands before the first `/` is a domain if it holds a `.` or a `:`, or is `localhost`. Without one the
//! domain is `docker.io`, and a single component there lies under `library/`.
//!
//! Source: distribution/reference as in Docker 20.10, `reference.go` and `normalize.go`; IPv6 as in later versions.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::Digest;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A normalised reference: domain, path, and a tag or a digest or both or neither.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Empty if what stood where a domain stands is none by the grammar, but is a path component (`my_host.io/app`).
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text outside the grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid repository/tag: {reason}")]
pub struct ReferenceError {
    /// The beginning of the text.
    pub text: String,
    /// What is wrong, in Docker's words.
    pub reason: Reason,
}

/// What is wrong with a reference, in the words that Docker's clients match on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name must be lowercase")]
    Uppercase,
    /// Upper case in what stands where a domain stands and is none by the grammar.
    #[error("repository name must be lowercase")]
    UppercaseDomain,
    #[error("repository name must not be more than {NAME_MAX} characters")]
    TooLong,
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    #[error("invalid tag format")]
    Tag,
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
    #[error("invalid checksum digest length")]
    DigestLength,
    #[error("invalid checksum digest format")]
    DigestFormat,
    #[error("a name alone is wanted here, without tag and digest")]
    NotNameOnly,
}

impl Reference {
    /// Parses what a user types: `debian` is `docker.io/library/debian`. No tag is added.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|reason| error(text, reason))
    }

    /// Adds `:latest` if there is neither tag nor digest.
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// Parses and wants a name alone, without tag and digest.
    pub fn parse_name(text: &str) -> Result<Self, ReferenceError> {
        let reference = Self::parse(text)?;
        if reference.is_name_only() { Ok(reference) } else { Err(error(text, Reason::NotNameOnly)) }
    }

    /// `docker.io`, with the port if there is one.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// `library/debian`: the repository on its registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Whether there is neither tag nor digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// `docker.io/library/debian`: domain and path.
    pub fn name(&self) -> String {
        if self.domain.is_empty() { self.path.clone() } else { format!("{}/{}", self.domain, self.path) }
    }

    /// `debian`: the name as Docker shows it and keeps it in `repositories.json`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(official) if !official.contains('/') => official.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// `debian:12`: the whole reference as Docker shows it.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The repository alone, without tag and digest.
    pub fn without_tag(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// The same repository with another tag, which is checked against the grammar; the digest is dropped.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(error(tag, Reason::Tag));
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with a digest; the tag is dropped.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for Reference {
    /// The canonical form: `docker.io/library/debian:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

fn error(text: &str, reason: Reason) -> ReferenceError {
    ReferenceError { text: text.chars().take(300).collect(), reason }
}

/// Normalises `text` and parses the result.
fn parse(text: &str) -> Result<Reference, Reason> {
    if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Reason::Identifier(text.to_owned()));
    }
    let (domain, remainder) = split_domain(text);
    let official = if domain == DEFAULT_DOMAIN && !remainder.contains('/') { OFFICIAL_PREFIX } else { "" };
    let path = remainder.split(':').next().unwrap_or_default();
    if path.to_lowercase() != path {
        return Err(Reason::Uppercase);
    }
    let normal = format!("{domain}/{official}{remainder}");
    parse_normal(&normal).map_err(|reason| match reason {
        Reason::Format if parse_normal(&normal.to_lowercase()).is_ok() => Reason::UppercaseDomain,
        reason => reason,
    })
}

/// Returns the domain, the default if there is none, and what follows it.
fn split_domain(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((LEGACY_DEFAULT_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((domain, rest)) if domain.contains(['.', ':']) || domain == "localhost" => (domain, rest),
        _ => (DEFAULT_DOMAIN, text),
    }
}

/// Parses `domain/path[:tag][@digest]`.
fn parse_normal(text: &str) -> Result<Reference, Reason> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    // Where the first component is no domain, it may still be one of the path; so Docker has it.
    let (domain, rest) = match rest.split_once('/') {
        Some((domain, rest)) if is_domain(domain) => (domain, rest),
        _ => ("", rest),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    if !path.split('/').all(is_component) || !tag.is_none_or(is_tag) || !digest.is_none_or(has_digest_shape) {
        return Err(Reason::Format);
    }
    let slash = usize::from(!domain.is_empty());
    if domain.len() + slash + path.len() > NAME_MAX {
        return Err(Reason::TooLong);
    }
    Ok(Reference {
        domain: domain.to_owned(),
        path: path.to_owned(),
        tag: tag.map(str::to_owned),
        digest: digest.map(parse_digest).transpose()?,
    })
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((address, port)) if is_ipv6(address) => return port.is_empty() || is_port(port),
            _ => return false,
        },
        None => match text.find(':') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        },
    };
    host.split('.').all(is_label) && (port.is_empty() || is_port(port))
}

fn is_ipv6(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
}

/// Whether `text` is a colon and at least one digit.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn is_label(text: &str) -> bool {
    let ends = |c: Option<u8>| c.is_some_and(|b| b.is_ascii_alphanumeric());
    ends(text.bytes().next())
        && ends(text.bytes().next_back())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.split(alphanumeric).all(|between| matches!(between, "" | "." | "_" | "__") || is_dashes(between))
}

fn is_dashes(text: &str) -> bool {
    text.bytes().all(|b| b == b'-')
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// Whether `text` is `algorithm:hex` by the reference grammar, which knows no algorithm by name.
fn has_digest_shape(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let part =
        |p: &str| p.starts_with(|c: char| c.is_ascii_alphabetic()) && p.bytes().all(|b| b.is_ascii_alphanumeric());
    algorithm.split(['-', '_', '+', '.']).all(part) && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn parse_digest(text: &str) -> Result<Digest, Reason> {
    text.parse().map_err(|_| match text.split_once(':') {
        Some(("sha256", hex)) if hex.len() != 64 => Reason::DigestLength,
        Some(("sha512", hex)) if hex.len() != 128 => Reason::DigestLength,
        Some(("sha256" | "sha512", _)) => Reason::DigestFormat,
        _ => Reason::DigestAlgorithm,
    })
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
