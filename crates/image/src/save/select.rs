//! From what a user types to images and the names they are saved under.
//!
//! Source: moby 20.10, `image/tarexport/save.go`, `parseNames`.

use std::collections::{BTreeMap, BTreeSet};

use strata_spec::{ImageConfig, ImageId, Reference};

use crate::{Error, Store};

/// Images to save, each with the names it is saved under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    images: BTreeMap<ImageId, BTreeSet<Reference>>,
}

/// An image to save.
pub(super) struct Image {
    pub config: ImageConfig,
    pub names: Vec<Reference>,
    /// What it was built from, if that is saved too.
    pub parent: Option<ImageId>,
}

impl Selection {
    /// Adds an image; with a name, it is saved under it.
    pub fn add(&mut self, id: ImageId, name: Option<Reference>) {
        self.images.entry(id).or_default().extend(name.filter(|name| name.tag().is_some()));
    }

    /// Sorted by image ID; names in Docker's order.
    pub(super) fn read(&self, store: &Store) -> Result<Vec<Image>, Error> {
        let read = |(id, names): (&ImageId, &BTreeSet<Reference>)| {
            Ok(Image {
                config: store.get(*id)?,
                names: names.iter().cloned().collect(),
                parent: store.parent(*id)?.filter(|parent| self.images.contains_key(parent)),
            })
        };
        self.images.iter().map(read).collect()
    }
}

impl Store {
    /// Selects images as `docker save` does: a reference is saved under that name, a repository without a tag under all of its tags,
    /// an ID under none.
    pub fn select<T: AsRef<str>>(&self, names: &[T]) -> Result<Selection, Error> {
        let mut selection = Selection::default();
        for name in names {
            let name = name.as_ref();
            let known = self.names_for(name)?;
            let id = self.resolve_in(name, &known);
            let Ok(reference) = Reference::parse(name) else {
                selection.add(id?, None);
                continue;
            };
            let tags: Vec<_> = match reference.is_name_only() {
                true => known.in_repository(&reference).into_iter().filter(|(name, _)| name.tag().is_some()).collect(),
                false => known.get(&reference).map(|id| (reference.clone(), id)).into_iter().collect(),
            };
            match tags.is_empty() {
                // Not a name: the beginning of an ID.
                true => selection.add(id?, None),
                false => tags.into_iter().for_each(|(name, id)| selection.add(id, Some(name))),
            }
        }
        Ok(selection)
    }
}
