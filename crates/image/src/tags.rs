//! `repositories.json`: what images are called.
//!
//! ```text
//! {"Repositories":{"debian":{"debian:12":"sha256:<image ID>","debian@sha256:<manifest>":"sha256:<image ID>"}}}
//! ```
//!
//! Names are familiar ones (`debian`, not `docker.io/library/debian`), keys are sorted, no newline ends the file. Every change is
//! a read, a change and an atomic replacement under the exclusive lock `strata/locks/repositories`, so that any number of
//! processes may change tags at once. A file that is not of this form is never written over: its names may still be read by a person.
//! A dockerd keeps this file in memory and would overwrite our changes: nobody writes while one is alive on the root.
//!
//! Crash: the file is replaced by rename; it holds either the old names or the new ones.
//!
//! Source: moby 20.10, `reference/store.go`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use strata_durable::{Lock, lock::Mode};
use strata_spec::{Digest, ImageId, Reference, gojson};

use crate::{Error, layout::FILE_MODE};

/// The document; values stay text, so that what cannot be parsed survives and is reported by `verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "Repositories", default, deserialize_with = "null_is_empty")]
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

/// The tag store of one driver on one data root.
#[derive(Clone, Debug)]
pub struct Tags {
    path: PathBuf,
    lock: PathBuf,
}

/// All names at one instant.
#[derive(Clone, Debug, Default)]
pub struct Names {
    document: Document,
}

/// What [`Tags::set`] found under the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    /// The name is new.
    None,
    /// It named this image already.
    Same,
    /// It named another image, which has lost it.
    Moved(ImageId),
}

impl Tags {
    /// The tags in the file `path`, changed under locks in `locks`.
    pub fn new(path: PathBuf, locks: &Path) -> Self {
        Self { path, lock: locks.join("repositories") }
    }

    /// Reads all names. No file: no names. `Damaged`, with the way out, if it is not of Docker's form.
    pub fn read(&self) -> Result<Names, Error> {
        let bytes = match strata_durable::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(Names::default()),
            Err(error) => return Err(error.into()),
        };
        let damaged = |what: String| {
            Error::damaged(
                &self.path,
                format!(
                    "{what}; no image is lost, only names: move the file away, then tag the images again by ID \
                     (`images --all` lists them)"
                ),
            )
        };
        if bytes.is_empty() {
            return Err(damaged("it is empty, as after a power cut".to_owned()));
        }
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(damaged("it is no JSON object".to_owned()));
        }
        let document = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        Ok(Names { document })
    }

    /// Gives `reference` (with a tag or a digest, else `latest` is meant) to `id`.
    ///
    /// A tag that names another image moves only with `force`; a digest never does. On disk when this returns.
    pub fn set(&self, reference: &Reference, id: ImageId, force: bool) -> Result<Previous, Error> {
        let (repository, name, is_digest) = key(reference);
        if repository == "sha256" || repository == "sha512" {
            return Err(Error::AmbiguousTag);
        }
        self.change(|names| {
            let old = names.document.repositories.get(&repository).and_then(|names| names.get(&name));
            match old.map(|old| old.parse::<ImageId>()) {
                Some(Ok(old)) if old == id => return Ok((Previous::Same, false)),
                Some(_) if is_digest => return Err(Error::DigestTaken(name.clone())),
                Some(Ok(old)) if !force => return Err(Error::TagTaken { tag: name.clone(), old }),
                _ => {}
            }
            let repository = names.document.repositories.entry(repository.clone()).or_default();
            let previous = match repository.insert(name.clone(), id.to_string()).and_then(|old| old.parse().ok()) {
                Some(old) => Previous::Moved(old),
                None => Previous::None,
            };
            Ok((previous, true))
        })
    }

    /// Takes the name `reference` away; returns the image that had it, or `None` if nobody did.
    pub fn remove(&self, reference: &Reference) -> Result<Option<ImageId>, Error> {
        let (repository, name, _) = key(reference);
        self.change(|names| Ok(names.take(&repository, &name)))
    }

    /// Takes all names of `id` away and returns them, sorted.
    pub fn remove_all(&self, id: ImageId) -> Result<Vec<Reference>, Error> {
        self.change(|names| {
            let gone = names.of(id);
            for reference in &gone {
                let (repository, name, _) = key(reference);
                names.take(&repository, &name);
            }
            let changed = !gone.is_empty();
            Ok((gone, changed))
        })
    }

    /// Reads, changes and replaces the file under the exclusive lock. `change` says whether there is something to write.
    fn change<T>(&self, change: impl FnOnce(&mut Names) -> Result<(T, bool), Error>) -> Result<T, Error> {
        let _lock = Lock::acquire(&self.lock, Mode::Exclusive)?;
        let mut names = self.read()?;
        let (value, changed) = change(&mut names)?;
        if changed {
            let bytes = gojson::to_vec(&names.document).expect("maps of strings are JSON");
            strata_durable::write(&self.path, &bytes, FILE_MODE)?;
        }
        Ok(value)
    }
}

impl Names {
    /// The image that `reference` (`latest` if it has neither tag nor digest) names.
    pub fn get(&self, reference: &Reference) -> Option<ImageId> {
        let (repository, name, _) = key(reference);
        self.document.repositories.get(&repository)?.get(&name)?.parse().ok()
    }

    /// All names with their images, in Docker's order (by the canonical text). What cannot be parsed is left out; see [`Names::foreign`].
    pub fn all(&self) -> Vec<(Reference, ImageId)> {
        let mut all: Vec<_> = self.entries().filter_map(|(_, name, id)| parse(name, id)).collect();
        all.sort_by_cached_key(|(reference, _)| reference.to_string());
        all
    }

    /// All names by image, each image's in Docker's order.
    pub fn by_image(&self) -> BTreeMap<ImageId, Vec<Reference>> {
        let mut by_image: BTreeMap<ImageId, Vec<Reference>> = BTreeMap::new();
        for (reference, id) in self.all() {
            by_image.entry(id).or_default().push(reference);
        }
        by_image
    }

    /// The names of `id`, in Docker's order.
    pub fn of(&self, id: ImageId) -> Vec<Reference> {
        let text = id.to_string();
        let mut names: Vec<_> = self
            .entries()
            .filter(|(_, _, value)| **value == text)
            .filter_map(|(_, name, id)| parse(name, id).map(|(reference, _)| reference))
            .collect();
        names.sort_by_cached_key(Reference::to_string);
        names
    }

    /// The names in the repository of `reference`, whatever their tag or digest.
    pub fn in_repository(&self, reference: &Reference) -> Vec<(Reference, ImageId)> {
        let Some(names) = self.document.repositories.get(&reference.familiar_name()) else { return Vec::new() };
        names.iter().filter_map(|(name, id)| parse(name, id)).collect()
    }

    /// Entries that name nothing: the name or the ID cannot be parsed, or the name stands under another repository.
    pub fn foreign(&self) -> Vec<(String, String)> {
        self.entries()
            .filter(|(repository, name, id)| match parse(name, id) {
                Some((reference, _)) => reference.familiar_name() != **repository,
                None => true,
            })
            .map(|(_, name, id)| (name.clone(), id.clone()))
            .collect()
    }

    fn entries(&self) -> impl Iterator<Item = (&String, &String, &String)> {
        self.document
            .repositories
            .iter()
            .flat_map(|(repository, names)| names.iter().map(move |(name, id)| (repository, name, id)))
    }

    /// Removes one entry, and its repository with the last one; says whether anything changed.
    fn take(&mut self, repository: &str, name: &str) -> (Option<ImageId>, bool) {
        let Some(names) = self.document.repositories.get_mut(repository) else { return (None, false) };
        let gone = names.remove(name);
        if names.is_empty() {
            self.document.repositories.remove(repository);
        }
        let changed = gone.is_some();
        (gone.and_then(|id| id.parse().ok()), changed)
    }
}

/// Repository and name under which `reference` stands, and whether it is a digest. A digest is preferred to a tag beside it.
fn key(reference: &Reference) -> (String, String, bool) {
    let reference = match reference.digest() {
        Some(digest) => reference.with_digest(digest),
        None => reference.clone().with_default_tag(),
    };
    (reference.familiar_name(), reference.familiar(), reference.digest().is_some())
}

fn parse(name: &str, id: &str) -> Option<(Reference, ImageId)> {
    let reference = Reference::parse(name).ok()?;
    if reference.tag().is_none() && reference.digest().is_none() {
        return None;
    }
    let digest: Digest = id.parse().ok()?;
    Some((reference, ImageId::new(digest)))
}

fn null_is_empty<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags(dir: &tempfile::TempDir) -> Tags {
        Tags::new(dir.path().join("repositories.json"), dir.path())
    }

    proptest! {
        #[test]
        fn names_that_are_set_read_back(
            names in prop::collection::btree_map("[a-z]{1,6}(/[a-z0-9]{1,6})?:[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", any::<u8>(), 1..6),
        ) {
            let dir = tempfile::tempdir().expect("temporary folder");
            let tags = tags(&dir);
            let id = |byte: u8| ImageId::new(Digest::sha256([byte]));
            for (name, byte) in &names {
                tags.set(&Reference::parse(name).expect("of the grammar"), id(*byte), true).expect("set");
            }
            let read = tags.read().expect("read");
            for (name, byte) in &names {
                prop_assert_eq!(read.get(&Reference::parse(name).expect("of the grammar")), Some(id(*byte)));
            }
        }

        #[test]
        fn any_bytes_are_names_or_damaged(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                ("\\PC{0,12}", "\\PC{0,12}", "\\PC{0,12}").prop_map(|(repository, name, id)| {
                    serde_json::json!({ "Repositories": { repository: { name: id } } }).to_string().into_bytes()
                }),
            ],
        ) {
            let dir = tempfile::tempdir().expect("temporary folder");
            std::fs::write(dir.path().join("repositories.json"), &bytes).expect("write");
            match tags(&dir).read() {
                Ok(names) => drop(names.of(ImageId::new(Digest::sha256("x")))),
                Err(error) => prop_assert!(error.to_string().contains("no image is lost"), "{}", error),
            }
        }
    }
}
