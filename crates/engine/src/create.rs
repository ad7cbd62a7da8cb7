//! `create`: an image by name becomes a container.

use strata_container::{Base, CommitRequest, Container, Created, Request};
use strata_runtime::Exit;
use strata_spec::{ContainerId, ImageConfig, ImageId};

use crate::{Error, Root, resolve::Image};

impl Root {
    /// Creates a container of the image that `request.image` names. Its warnings are for the user.
    pub fn create_container(&self, request: &Request) -> Result<Created, Error> {
        let (image, config) = self.image_of(request)?;
        let base = Base { driver: image.stores.driver(), id: image.id, config: &config };
        Ok(self.containers().create(base, request)?)
    }

    /// Creates a container and runs it to its end in the foreground; `ready` is called in between.
    pub fn run_container(&self, request: &Request, ready: impl FnOnce(&Created)) -> Result<Exit, Error> {
        let (image, config) = self.image_of(request)?;
        let base = Base { driver: image.stores.driver(), id: image.id, config: &config };
        Ok(self.containers().create_and_run(base, request, ready)?)
    }

    /// Starts the container that `name` names, and runs it to its end in the foreground.
    pub fn start_container(&self, name: &str) -> Result<Exit, Error> {
        Ok(self.containers().run(&self.containers().resolve(name)?)?)
    }

    /// Removes the container that `name` names.
    pub fn remove_container(&self, name: &str, options: strata_container::RemoveOptions) -> Result<(), Error> {
        self.remove_container_by_id(&self.containers().resolve(name)?, options)
    }

    /// Removes a container. Of an image that was removed by force while the container stood on it, the layers that nothing else needs
    /// go too; a failure to remove them is logged.
    pub(crate) fn remove_container_by_id(
        &self,
        id: &ContainerId,
        options: strata_container::RemoveOptions,
    ) -> Result<(), Error> {
        let stood_on = self.containers().load(id).ok().and_then(|container| {
            let (layer, layers) = self.containers().layer(&container).ok()?;
            let stores = self.stores_under(layers.driver().name())?;
            let is_gone = container.record.image_id().is_some_and(|image| !stores.images().contains(image));
            Some((stores, layer.parent?)).filter(|_| is_gone)
        });
        self.containers().remove(id, options)?;
        if let Some((stores, top)) = stood_on
            && let Err(error) = stores.release(top)
        {
            tracing::warn!(container = %id, %error, "the layers of its removed image stay");
        }
        Ok(())
    }

    /// Makes an image of `container` under its driver, and returns its ID.
    pub fn commit(&self, container: &Container, request: &CommitRequest) -> Result<ImageId, Error> {
        let layers = self.containers().layers_of(container)?;
        layers.driver().usable()?;
        let stores = self.stores_under(layers.driver().name()).ok_or_else(|| {
            Error::Conflict(format!("the images of the storage driver {} are not open", layers.driver().name()))
        })?;
        Ok(self.containers().commit(stores.images(), container, request)?)
    }

    /// Its layers need no hold from here: making the container's own layer looks them up and holds them in one step.
    fn image_of(&self, request: &Request) -> Result<(Image<'_>, ImageConfig), Error> {
        let mut tries = 8;
        loop {
            let image = self.image(&request.image)?;
            match image.stores.images().get(image.id) {
                // It was removed in between: the name tells what there is now.
                Err(strata_image::Error::NotFound(_)) if tries > 0 => tries -= 1,
                config => return Ok((image, config?)),
            }
        }
    }
}
