//! `pull`, `push`: images of this root from registries and to them.

use strata_distribution::{
    Client,
    pull::{Options, Pulled},
    push::{self, Pushed},
};
use strata_spec::Reference;

use crate::{DriverStores, Error};

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
