//! Which containers stand on which images.

use strata_spec::{ContainerId, ImageId};

use crate::{Engine, Error};

/// A container and the image it was made from.
#[derive(Clone, Debug)]
pub struct User {
    pub container: ContainerId,
    pub image: Option<ImageId>,
    pub running: bool,
}

impl Engine {
    /// All containers, by what they use. Those whose record is damaged are not among them; their layers are held by their mounts.
    pub fn users(&self) -> Result<Vec<User>, Error> {
        let containers = self.containers().list()?.containers.into_iter();
        Ok(containers
            .map(|container| User {
                image: container.record.image_id(),
                running: container.record.state.running,
                container: container.id,
            })
            .collect())
    }
}
