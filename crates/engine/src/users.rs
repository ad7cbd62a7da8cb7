//! Which containers stand on which images.

use strata_spec::{ContainerId, ImageId};

use crate::{DriverStores, Error, Root};

/// A container and the image it was made from.
#[derive(Clone, Debug)]
pub struct User {
    pub container: ContainerId,
    pub image: Option<ImageId>,
    /// The storage driver that its record names.
    pub driver: String,
    pub running: bool,
}

impl User {
    fn is_under(&self, driver: &str) -> bool {
        // Records of early Docker versions name no driver.
        self.driver.is_empty() || self.driver == driver
    }
}

impl Root {
    /// All containers, by what they use. Those whose record is damaged are not among them; their layers are held by their mounts.
    pub fn users(&self) -> Result<Vec<User>, Error> {
        let containers = self.containers().list()?.containers.into_iter();
        Ok(containers
            .map(|container| User {
                image: container.record.image_id(),
                running: container.record.state.running,
                driver: container.record.driver,
                container: container.id,
            })
            .collect())
    }

    /// As [`Root::users_of`], and each container whose record is damaged with every image that it could be made from: one with the same top
    /// layer; any image where its layers are not known either.
    pub(crate) fn possible_users_of(&self, stores: &DriverStores) -> Result<Vec<User>, Error> {
        let mut users = self.users_of(stores)?;
        let mut damaged = self.containers().list()?.damaged;
        damaged.retain(|damage| self.containers().is_under(&damage.id, stores.driver()));
        if damaged.is_empty() {
            return Ok(users);
        }
        let images = stores.images().images()?.images;
        for damage in damaged {
            let top = stores.layers().mount(&damage.id).ok().map(|mount| mount.parent);
            let could = images.iter().filter(|image| top.is_none_or(|top| top == image.chain));
            users.extend(could.map(|image| User {
                container: damage.id.clone(),
                driver: stores.driver().to_owned(),
                image: Some(image.id),
                running: false,
            }));
        }
        Ok(users)
    }

    /// The containers whose images are in `stores`.
    pub fn users_of(&self, stores: &DriverStores) -> Result<Vec<User>, Error> {
        let mut users = self.users()?;
        users.retain(|user| user.is_under(stores.driver()));
        Ok(users)
    }
}
