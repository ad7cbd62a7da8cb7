//! A folder's beginning and end.

use std::{fs, io, os::unix::fs::symlink};

use strata_durable::{Context, trace::content};
use strata_spec::CacheId;
use strata_sys::tree::Dir;

use super::{
    Overlay2,
    layout::{Link, link_target},
};
use crate::{
    Error, GraphDriver, Parent,
    home::{make_dir, set_mode, write_new},
};

impl Overlay2 {
    pub(super) fn create_folder(&self, id: &CacheId, parent: Parent<'_>) -> Result<(), Error> {
        let dir = self.layout.dir(id);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::AlreadyExists(id.clone(), self.name()));
            }
            result => result.context("create", &dir)?,
        }
        self.fill_new(id, parent).inspect_err(|_| {
            // What could not be made is not worth a second error; the journal's note finds what stays.
            let _ = self.remove_folder(id);
        })
    }

    fn fill_new(&self, id: &CacheId, parent: Parent<'_>) -> Result<(), Error> {
        set_mode(&self.layout.dir(id), 0o710)?;
        content(&self.layout.dir(id));
        make_dir(&self.layout.diff(id), 0o755)?;
        if let Parent::Of(parent) = parent {
            self.set_parent(id, parent)?;
        }
        let link = new_link()?;
        write_new(&self.layout.link_file(id), link.as_str().as_bytes(), 0o644)?;
        let path = self.layout.link(&link);
        symlink(link_target(id), &path).context("link", &path)?;
        content(&path);
        Ok(())
    }

    /// Puts `id` over `parent`, which is read-only from now on.
    pub(super) fn set_parent(&self, id: &CacheId, parent: &CacheId) -> Result<(), Error> {
        self.require(parent)?;
        let lower = self.lower_text(id, parent)?;
        let committed = self.layout.committed(parent);
        if !committed.exists() {
            write_new(&committed, b"", 0o600)?;
        }
        let work = self.layout.work(id);
        if !work.exists() {
            make_dir(&work, self.work_mode())?;
        }
        write_new(&self.layout.lower_file(id), lower.as_bytes(), 0o644)
    }

    /// What `lower` of a folder over `parent` holds.
    pub(super) fn lower_text(&self, id: &CacheId, parent: &CacheId) -> Result<String, Error> {
        let mut links = vec![self.layout.read_link_file(parent)?];
        links.extend(self.layout.read_lower_file(parent)?);
        // The kernel is asked only by those who go beyond what every kernel can.
        if links.len() > super::DOCKER_DEPTH && links.len() > self.max_depth() {
            let (id, depth, limit) = (id.clone(), links.len(), self.max_depth());
            return Err(Error::TooDeep { id, driver: self.name(), depth, limit });
        }
        Ok(links.iter().map(|link| format!("l/{link}")).collect::<Vec<_>>().join(":"))
    }

    pub(super) fn remove_folder(&self, id: &CacheId) -> Result<(), Error> {
        self.unmount_folder(id)?;
        let dir = self.layout.dir(id);
        // A damaged link file must not keep the folder: a name in `l/` that leads nowhere is found by `strays`.
        if let Ok(link) = self.layout.read_link_file(id)
            && self.layout.resolve(&link).is_ok_and(|owner| owner == *id)
        {
            strata_durable::remove_file(&self.layout.link(&link))?;
        }
        match strata_durable::remove_dir(&dir, &self.trash) {
            // The driver's home can be a filesystem of its own.
            Err(error) if error.source.kind() == io::ErrorKind::CrossesDevices => {
                let home = Dir::open(&self.layout.home).context("open", &self.layout.home)?;
                home.remove_tree(id.as_str()).context("remove", &dir)?;
                content(&dir);
                Ok(())
            }
            result => Ok(result?),
        }
    }
}

/// A new short name.
pub(super) fn new_link() -> Result<Link, Error> {
    let random = strata_sys::process::random().context("get random bytes for", "a layer's short name")?;
    Ok(Link::from_random(random))
}
