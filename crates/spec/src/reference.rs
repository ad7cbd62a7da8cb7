//! Image references: Docker's grammar and its normalisation.
//!
//! Source: distribution/reference, `reference.go` and `normalize.go`.

use std::fmt;

use crate::digest::Digest;

/// A normalised reference: domain, path, and a tag or a digest or both or neither.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text outside the grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference {text:?}: {reason}")]
pub struct ReferenceError {
    pub text: String,
    pub reason: &'static str,
}

impl Reference {
    /// Parses what a user types: `debian` is `docker.io/library/debian`. No tag is added.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let _ = text;
        todo!()
    }

    /// Adds `:latest` if there is neither tag nor digest.
    pub fn with_default_tag(self) -> Self {
        todo!()
    }

    /// Parses and wants a name alone, without tag and digest.
    pub fn parse_name(text: &str) -> Result<Self, ReferenceError> {
        let _ = text;
        todo!()
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `docker.io/library/debian`: domain and path.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// `debian`: the name as Docker shows it and keeps it in `repositories.json`.
    pub fn familiar_name(&self) -> String {
        todo!()
    }

    /// `debian:12`: the whole reference as Docker shows it.
    pub fn familiar(&self) -> String {
        todo!()
    }

    /// The same repository with another tag, which is checked against the grammar; the digest is dropped.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        let _ = tag;
        todo!()
    }

    /// The same repository with a digest; the tag is dropped.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    /// The canonical form: `docker.io/library/debian:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}
