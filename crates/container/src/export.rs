//! What is in a container: what it changed, and the whole of it as a tar.

use std::io::Write;

use strata_archive::diff::{self, Change};
use strata_graphdriver::Access;

use crate::{Container, Error, Store};

impl Store {
    /// Lists what the container changed over its image, as `docker diff` does.
    pub fn changes(&self, container: &Container) -> Result<Vec<Change>, Error> {
        let _used = self.use_lock(&container.id)?;
        let (layer, layers) = self.layer(container)?;
        Ok(layer.changes(layers)?)
    }

    /// Writes the container's whole tree as a tar, as `docker export` does: without what is mounted into it.
    pub fn export(&self, container: &Container, out: impl Write) -> Result<(), Error> {
        let _used = self.use_lock(&container.id)?;
        let mounted = self.mount(container, Access::ReadOnly)?;
        Ok(diff::tree(mounted.path(), out)?)
    }
}
