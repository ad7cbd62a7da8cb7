//! `pull`, `push`: images of this root from registries and to them.

use strata_distribution::{
    Client,
    pull::{Options, Pulled},
    push::{self, Pushed},
};
use strata_spec::{ErrorKind, Reference};

use crate::{DriverStores, Error, Root};

impl DriverStores {
    /// Pulls the image of `reference`, which has a tag or a digest.
    pub fn pull(&self, client: &Client, reference: &Reference, options: &Options<'_>) -> Result<Pulled, Error> {
        Ok(client.pull(&self.distribution(), reference, options)?)
    }

    /// Pushes the index that the image of `reference`, a tag, was pulled with, and the images of all its platforms.
    pub fn push_platforms(
        &self,
        client: &Client,
        reference: &Reference,
        options: &push::Options<'_>,
    ) -> Result<Pushed, Error> {
        Ok(client.push_platforms(&self.distribution(), reference, options)?)
    }

    /// Pushes the image that `reference`, a tag, names.
    pub fn push(&self, client: &Client, reference: &Reference, options: &push::Options<'_>) -> Result<Pushed, Error> {
        Ok(client.push(&self.distribution(), reference, options)?)
    }
}

/// When an image is pulled before a container is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    Missing,
    Never,
}

impl Root {
    /// Pulls the image `name` where `policy` says so; `None` if it does not.
    ///
    /// `client` is made only if it is needed; `missing` is called before a pull of an image that is not here.
    pub fn pull_for_container(
        &self,
        name: &str,
        policy: PullPolicy,
        options: &Options<'_>,
        client: impl FnOnce() -> Result<Client, strata_distribution::Error>,
        missing: impl FnOnce(&Reference),
    ) -> Result<Option<Pulled>, Error> {
        let stores = self.stores_with_or_for_new(name)?;
        let is_missing = || stores.images().resolve(name).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        match policy {
            PullPolicy::Never => return Ok(None),
            PullPolicy::Missing if !is_missing() => return Ok(None),
            PullPolicy::Missing | PullPolicy::Always => {}
        }
        // What is no reference may still be an ID, and is looked up as such.
        let Ok(reference) = Reference::parse(name) else { return Ok(None) };
        let reference = reference.with_default_tag();
        if policy == PullPolicy::Missing {
            missing(&reference);
        }
        stores.pull(&client()?, &reference, options).map(Some)
    }
}
