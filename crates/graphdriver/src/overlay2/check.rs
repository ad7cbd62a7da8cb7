//! Whether the driver's own files are as they were written, and writing them anew.

use std::{fs, io, path::PathBuf};

use strata_durable::Context;
use strata_spec::CacheId;

use super::{
    Overlay2,
    create::new_link,
    layout::{Link, link_target},
};
use crate::{
    Error, Fault, GraphDriver,
    home::{fault_of, is_dir, make_dir},
};

impl Overlay2 {
    pub(super) fn check_folder(&self, id: &CacheId, parent: Option<&CacheId>) -> Vec<Fault> {
        if !self.exists(id) {
            return vec![Fault { path: self.layout.dir(id), reason: "the layer's folder is missing".into() }];
        }
        let mut faults = Vec::new();
        let mut fault = |path: PathBuf, reason: &str| faults.push(Fault { path, reason: reason.into() });
        if !is_dir(&self.layout.diff(id)) {
            fault(self.layout.diff(id), "the layer's files are missing");
        }
        let own = self.layout.read_link_file(id).and_then(|link| Ok((self.layout.resolve(&link)?, link)));
        match own {
            Ok((owner, link)) if owner != *id => fault(self.layout.link(&link), "leads to another folder"),
            Ok(_) => {}
            Err(error) => faults.push(fault_of(error)),
        }
        match (self.layout.lowers(id), parent) {
            (Err(error), _) => faults.push(fault_of(error)),
            (Ok(lowers), None) if lowers.is_empty() => {}
            (Ok(_), None) => faults.push(self.lower_fault(id, "a base layer has no such file")),
            (Ok(_), Some(parent)) => {
                let expected = self.lower_text(id, parent);
                let found = fs::read_to_string(self.layout.lower_file(id));
                match (expected, found) {
                    // The parent's own fault is found at the parent.
                    (Err(_), _) => {}
                    (Ok(expected), Ok(found)) if expected == found => {}
                    (Ok(_), Ok(_)) => faults.push(self.lower_fault(id, "does not name the folders below its parent")),
                    (Ok(_), Err(error)) => faults.push(self.lower_fault(id, &error.to_string())),
                }
                if !is_dir(&self.layout.work(id)) {
                    faults.push(Fault { path: self.layout.work(id), reason: "the work directory is missing".into() });
                }
            }
        }
        faults
    }

    fn lower_fault(&self, id: &CacheId, reason: &str) -> Fault {
        Fault { path: self.layout.lower_file(id), reason: reason.into() }
    }

    /// Names in `l/` that lead nowhere, or to a folder that has another name.
    pub(super) fn stray_links(&self) -> Result<Vec<Fault>, Error> {
        let links = self.layout.links();
        let entries = match fs::read_dir(&links) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.context("list", &links)?,
        };
        let mut strays = Vec::new();
        for entry in entries {
            let path = entry.context("list", &links)?.path();
            let link: Option<Link> = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let reason = match link.as_ref().map(|link| self.layout.resolve(link)) {
                None => "is not the name of a folder",
                Some(Err(_)) => "does not lead to a folder",
                // Its folder went between listing and looking, or has.
                Some(Ok(id)) if !self.exists(&id) && path.symlink_metadata().is_ok() => {
                    "leads to a folder that is gone"
                }
                Some(Ok(id)) if self.layout.read_link_file(&id).is_ok_and(|own| Some(own) != link) => {
                    "leads to a folder that has another name"
                }
                Some(Ok(_)) => continue,
            };
            strays.push(Fault { path, reason: reason.into() });
        }
        Ok(strays)
    }

    /// Names in `l/` of folders that are gone.
    pub(super) fn dangling_links(&self) -> Result<Vec<PathBuf>, Error> {
        let links = self.layout.links();
        let names = match fs::read_dir(&links) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.context("list", &links)?,
        };
        let mut dangling = Vec::new();
        for name in names {
            let path = name.context("list", &links)?.path();
            let link: Option<Link> = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            if link.and_then(|link| self.layout.resolve(&link).ok()).is_some_and(|id| !self.exists(&id)) {
                dangling.push(path);
            }
        }
        Ok(dangling)
    }

    pub(super) fn repair_folder(&self, id: &CacheId, parent: Option<&CacheId>) -> Result<Vec<PathBuf>, Error> {
        self.require(id)?;
        let mut rewritten = Vec::new();
        self.repair_link(id, &mut rewritten)?;
        let lower = self.layout.lower_file(id);
        match parent {
            Some(parent) => {
                self.require(parent)?;
                let text = self.lower_text(id, parent)?;
                if fs::read_to_string(&lower).ok().as_deref() != Some(&text) {
                    strata_durable::write(&lower, text.as_bytes(), 0o644)?;
                    rewritten.push(lower);
                }
                let work = self.layout.work(id);
                if !is_dir(&work) {
                    make_dir(&work, self.work_mode())?;
                    rewritten.push(work);
                }
            }
            None if lower.exists() => {
                strata_durable::remove_file(&lower)?;
                rewritten.push(lower);
            }
            None => {}
        }
        for path in &rewritten {
            tracing::warn!(driver = self.name(), %id, path = %path.display(), "rewritten");
        }
        Ok(rewritten)
    }

    fn repair_link(&self, id: &CacheId, rewritten: &mut Vec<PathBuf>) -> Result<(), Error> {
        let link = match self.layout.read_link_file(id) {
            Ok(link) => link,
            Err(Error::Damaged { path, .. }) => {
                // The name that those above know it by, if it is still in `l/`.
                let link = match self.find_link(id)? {
                    Some(link) => link,
                    None => new_link()?,
                };
                strata_durable::write(&path, link.as_str().as_bytes(), 0o644)?;
                rewritten.push(path);
                link
            }
            Err(error) => return Err(error),
        };
        if !self.layout.resolve(&link).is_ok_and(|owner| owner == *id) {
            let path = self.layout.link(&link);
            strata_durable::symlink(&link_target(id), &path)?;
            rewritten.push(path);
        }
        Ok(())
    }

    fn find_link(&self, id: &CacheId) -> Result<Option<Link>, Error> {
        let (links, target) = (self.layout.links(), link_target(id));
        for entry in fs::read_dir(&links).context("list", &links)? {
            let path = entry.context("list", &links)?.path();
            if fs::read_link(&path).is_ok_and(|found| found == target)
                && let Some(link) = path.file_name().and_then(|name| name.to_str()?.parse().ok())
            {
                return Ok(Some(link));
            }
        }
        Ok(None)
    }
}
