//! `pull`, `push`: images of this root from registries and to them.

use strata_distribution::{
    Client, Stores,
    mappings::Mappings,
    pull::{Options, Pulled},
    push::{self, Pushed},
};
use strata_spec::Reference;

use crate::{Engine, Error};

impl Engine {
    /// Where images of this root come from and go to.
    pub fn stores(&self) -> Stores<'_> {
        let own = self.root().path().join("strata");
        Stores {
            images: self.images(),
            mappings: Mappings::new(self.root().path(), self.root().driver()),
            partial: own.join("partial"),
            platforms: own.join("platforms"),
            manifests: self.root().cache().join("manifests"),
        }
    }

    /// Pulls the image of `reference`, which has a tag or a digest.
    pub fn pull(&self, client: &Client, reference: &Reference, options: &Options<'_>) -> Result<Pulled, Error> {
        Ok(client.pull(&self.stores(), reference, options)?)
    }

    /// Pushes the index that the image of `reference`, a tag, was pulled with, and the images of all its platforms.
    pub fn push_platforms(
        &self,
        client: &Client,
        reference: &Reference,
        options: &push::Options<'_>,
    ) -> Result<Pushed, Error> {
        Ok(client.push_platforms(&self.stores(), reference, options)?)
    }

    /// Pushes the image that `reference`, a tag, names.
    pub fn push(&self, client: &Client, reference: &Reference, options: &push::Options<'_>) -> Result<Pushed, Error> {
        Ok(client.push(&self.stores(), reference, options)?)
    }
}
