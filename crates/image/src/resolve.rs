//! From what a user types to an image, in Docker's order: digest, name, beginning of an ID.
//!
//! Source: moby 20.10, `daemon/images/image.go`, `GetImage`; distribution/reference, `ParseAnyReference`.

use strata_spec::{ImageId, Reference};

use crate::{Error, Store, layout::id_of, tags::Names};

/// Length of an ID in hexadecimal.
const HEX_DIGITS: usize = 64;

impl Store {
    /// Returns the image that `name` means: `debian`, `debian:12`, `debian@sha256:…`, a full ID, or the beginning of one that no
    /// other image shares.
    ///
    /// A name goes before an ID: with an image tagged `beef:latest`, `beef` is that one. An image whose config is damaged is found
    /// like any other; [`Store::get`] then says what is wrong with it.
    pub fn resolve(&self, name: &str) -> Result<ImageId, Error> {
        self.resolve_in(name, &self.names_for(name)?)
    }

    /// The names to look `text` up in: none where `repositories.json` is damaged and `text` is an ID, which needs no names.
    pub(crate) fn names_for(&self, text: &str) -> Result<Names, Error> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        match self.tags().read() {
            Err(Error::Damaged { path, reason }) if !digits.is_empty() && is_hex(digits) => {
                tracing::warn!(path = %path.display(), reason, "names are damaged: looking among IDs alone");
                Ok(Names::default())
            }
            result => result,
        }
    }

    /// [`Store::resolve`] with names that were read before.
    pub fn resolve_in(&self, name: &str, names: &Names) -> Result<ImageId, Error> {
        let full = if is_hex(name) && name.len() == HEX_DIGITS { format!("sha256:{name}") } else { name.to_owned() };
        if let Ok(id) = full.parse::<ImageId>() {
            return if self.contains(id) { Ok(id) } else { Err(Error::NotFound(id.to_string())) };
        }
        let reference = Reference::parse(name)?;
        if let Some(id) = names.get(&reference)
            && self.contains(id)
        {
            return Ok(id);
        }
        let missing = || reference.clone().with_default_tag().familiar();
        match self.starting_with(name)?.as_slice() {
            [] => Err(Error::NotFound(missing())),
            [id] => Ok(*id),
            several => Err(Error::Ambiguous { name: missing(), count: several.len() }),
        }
    }

    /// The images whose ID begins with `text`, with or without `sha256:`.
    pub(crate) fn starting_with(&self, text: &str) -> Result<Vec<ImageId>, Error> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.is_empty() || !is_hex(digits) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in self.content_entries()? {
            if entry.name.starts_with(digits.as_bytes()) {
                found.extend(id_of(&entry.name));
            }
        }
        found.sort();
        Ok(found)
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
