//! `rmi`: names go first, then the image, then the layers that nothing else needs.
//!
//! Source: moby 20.10, `daemon/images/image_delete.go`.

use strata_spec::{ImageId, Reference};

use crate::{DriverStores, Error, Root, users::User};

/// One line of what `rmi` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name, as Docker shows it.
    Untagged(String),
    /// An image's or a layer's ID.
    Deleted(String),
}

/// How hard to try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Remove in spite of soft conflicts: several names, stopped containers.
    pub force: bool,
    /// Leave untagged parents.
    pub keep_parents: bool,
}

/// Why an image cannot go.
struct Refusal {
    /// Force does not help.
    hard: bool,
    /// A container uses it.
    used: bool,
    why: String,
}

impl Refusal {
    fn error(&self, id: ImageId) -> Error {
        let force = if self.hard { "cannot be forced" } else { "must be forced" };
        Error::Conflict(format!("conflict: unable to delete {} ({force}) - {}", id.short(), self.why))
    }
}

impl Root {
    /// Removes the name `name`, and the image with it if that was its last; or the image, if `name` is an ID.
    pub fn remove_image(&self, name: &str, options: RemoveOptions) -> Result<Vec<Removed>, Error> {
        let image = self.image(name)?;
        image.stores.remove(name, image.id, &self.possible_users_of(image.stores)?, options)
    }
}

impl DriverStores {
    /// Removes the name `name` of image `id`, or the image. `users` are the containers of this driver.
    pub(crate) fn remove(
        &self,
        name: &str,
        id: ImageId,
        users: &[User],
        options: RemoveOptions,
    ) -> Result<Vec<Removed>, Error> {
        let mut removed = Vec::new();
        let mut quiet = false;
        let references = self.images().tags().read()?.of(id);
        if is_id(name, id) {
            if is_single(&references) {
                if let Some(refusal) = self.refusal(id, users, options.force, &[])? {
                    return Err(refusal.error(id));
                }
                self.untag(&references, &mut removed)?;
            }
        } else {
            let reference = Reference::parse(name).map_err(strata_image::Error::from)?.with_default_tag();
            let used = users.iter().find(|user| user.image == Some(id));
            if let Some(user) = used.filter(|_| !options.force && is_single(&references)) {
                return Err(Error::Conflict(format!(
                    "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its referenced image {}",
                    user.container.short(),
                    id.short()
                )));
            }
            self.untag(std::slice::from_ref(&reference), &mut removed)?;
            if !self.untag_orphaned_digests(id, &reference, &mut removed)?.is_empty() {
                return Ok(removed);
            }
            quiet = true;
        }
        self.delete(id, users, options, quiet, &mut removed)?;
        Ok(removed)
    }

    /// Removes image `id` if nobody names or uses it.
    pub(crate) fn remove_unnamed(&self, id: ImageId, users: &[User]) -> Result<Vec<Removed>, Error> {
        let mut removed = Vec::new();
        self.delete(id, users, RemoveOptions::default(), false, &mut removed)?;
        Ok(removed)
    }

    fn untag(&self, references: &[Reference], removed: &mut Vec<Removed>) -> Result<(), Error> {
        for reference in references {
            self.images().tags().remove(reference)?;
            removed.push(Removed::Untagged(reference.familiar()));
        }
        Ok(())
    }

    /// A repository's digests go with its last tag. Returns the names that the image has left.
    fn untag_orphaned_digests(
        &self,
        id: ImageId,
        reference: &Reference,
        removed: &mut Vec<Removed>,
    ) -> Result<Vec<Reference>, Error> {
        let left = self.images().tags().read()?.of(id);
        let same = |other: &Reference| other.name() == reference.name();
        if reference.digest().is_some() || left.iter().any(|other| other.digest().is_none() && same(other)) {
            return Ok(left);
        }
        let (orphans, left) = left.into_iter().partition::<Vec<_>, _>(|other| other.digest().is_some() && same(other));
        self.untag(&orphans, removed)?;
        Ok(left)
    }

    /// Removes image `id`, its names and layers, and then its parents as long as nothing holds them.
    ///
    /// With `quiet` a conflict is no error if the image keeps a name or is in use: removing the name was what was asked for.
    fn delete(
        &self,
        id: ImageId,
        users: &[User],
        options: RemoveOptions,
        quiet: bool,
        removed: &mut Vec<Removed>,
    ) -> Result<(), Error> {
        let (mut id, mut quiet, mut force) = (id, quiet, options.force);
        loop {
            let references = self.images().tags().read()?.of(id);
            if let Some(refusal) = self.refusal(id, users, force, &references)? {
                let dangling = references.iter().all(|reference| reference.tag().is_none())
                    && self.images().children(id)?.is_empty();
                return match quiet && (!dangling || refusal.used) {
                    true => Ok(()),
                    false => Err(refusal.error(id)),
                };
            }
            let parent = self.images().parent(id)?;
            self.untag(&references, removed)?;
            if !self.delete_one(id, removed)? {
                let why = "image is referenced in multiple repositories".to_owned();
                return if quiet { Ok(()) } else { Err(Refusal { hard: false, used: false, why }.error(id)) };
            }
            match parent {
                Some(parent) if !options.keep_parents => (id, quiet, force) = (parent, true, false),
                _ => return Ok(()),
            }
        }
    }

    /// Removes the image's config, then the layers that no other image, container or running operation needs; `false` if it was
    /// given a name meanwhile.
    fn delete_one(&self, id: ImageId, removed: &mut Vec<Removed>) -> Result<bool, Error> {
        let top = self.images().get(id).ok().and_then(|config| strata_spec::chain_id(config.diff_ids()));
        let Some(layers) = self.delete_image(id, top)? else { return Ok(false) };
        removed.push(Removed::Deleted(id.to_string()));
        removed.extend(layers.iter().map(|chain| Removed::Deleted(chain.to_string())));
        Ok(true)
    }

    fn refusal(
        &self,
        id: ImageId,
        users: &[User],
        force: bool,
        references: &[Reference],
    ) -> Result<Option<Refusal>, Error> {
        let hard = |used, why| Ok(Some(Refusal { hard: true, used, why }));
        let soft = |used, why| Ok(Some(Refusal { hard: false, used, why }));
        if !self.images().children(id)?.is_empty() {
            return hard(false, "image has dependent child images".to_owned());
        }
        let mut users = users.iter().filter(|user| user.image == Some(id));
        if let Some(user) = users.clone().find(|user| user.running) {
            return hard(true, format!("image is being used by running container {}", user.container.short()));
        }
        if force {
            return Ok(None);
        }
        if !references.is_empty() {
            return soft(false, "image is referenced in multiple repositories".to_owned());
        }
        match users.next() {
            Some(user) => soft(true, format!("image is being used by stopped container {}", user.container.short())),
            None => Ok(None),
        }
    }
}

/// Whether `name` is the image's ID or the beginning of it, not a reference.
fn is_id(name: &str, id: ImageId) -> bool {
    let text = id.to_string();
    text.starts_with(name) || id.hex().starts_with(name)
}

/// Whether the names are one tag at most, and digests of its repository.
fn is_single(references: &[Reference]) -> bool {
    let mut tags = references.iter().filter(|reference| reference.digest().is_none());
    let Some(first) = tags.next().or(references.first()) else { return true };
    tags.next().is_none() && references.iter().all(|other| other.name() == first.name())
}
