//! An OCI layout in a folder. Every name is resolved under a descriptor of the folder, links included.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use strata_durable::Context;

use super::{
    DOCUMENT_MAX,
    plan::{Blob, Source},
};
use crate::Error;

/// A folder with `oci-layout`, `index.json` and `blobs/`, or with an unpacked Docker archive.
pub(super) struct LayoutDir {
    path: PathBuf,
    dir: OwnedFd,
}

impl LayoutDir {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).context("open", path)?;
        Ok(Self { path: path.to_owned(), dir })
    }

    /// Opens a regular file; `None` if there is none of that name.
    fn file(&self, name: &str) -> Result<Option<(File, u64)>, Error> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = match rustix::fs::openat2(&self.dir, name, flags, Mode::empty(), resolve) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(rustix::io::Errno::XDEV) => return Err(Error::load(name, "it is a link that leaves the folder")),
            Err(error) => {
                return Err(Err::<(), _>(io::Error::from(error)).context("open", &path).expect_err("it is one").into());
            }
        };
        let metadata = file.metadata().context("read", &path)?;
        Ok(metadata.is_file().then_some((file, metadata.len())))
    }
}

impl Source for LayoutDir {
    fn find(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.file(name)?.map(|_| name.to_owned()))
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some((file, size)) = self.file(name)? else { return Ok(None) };
        if size > DOCUMENT_MAX {
            return Err(Error::load(name, format!("it has {size} bytes, a document at most {DOCUMENT_MAX}")));
        }
        let mut bytes = Vec::new();
        file.take(DOCUMENT_MAX).read_to_end(&mut bytes).context("read", self.path.join(name))?;
        Ok(Some(bytes))
    }

    fn blob(&self, name: &str) -> Result<Option<Blob<'_>>, Error> {
        Ok(self.file(name)?.map(|(file, size)| Blob { size, reader: Box::new(file) }))
    }
}
