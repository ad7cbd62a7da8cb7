//! Pins: blobs that are kept for later, under a name.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use strata_durable::{Context, create_dir_all};
use strata_spec::Digest;

use crate::{
    Error, Lease, Store,
    layout::{DIR_MODE, FILE_MODE},
    store::check,
};

/// What a pin's file holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// All blobs that stay: collection looks at nothing else, and reads no blob.
    pub blobs: Vec<Digest>,
    /// What the pin's owner wants to remember.
    #[serde(default)]
    pub note: Value,
}

impl Store {
    /// Writes the pin `name` of a `kind`, or replaces it. On disk when this returns; the rename of the file is the commit point.
    ///
    /// The blobs must be here, held by a lease that ends after this returns. `kind` and `name` are path components of the caller's
    /// own making, such as an image ID in hex.
    pub fn pin(&self, kind: &str, name: &str, pin: &Pin) -> Result<(), Error> {
        self.make()?;
        let path = self.layout().pin(kind, name);
        create_dir_all(path.parent().unwrap_or(&path), DIR_MODE)?;
        let bytes = serde_json::to_vec(pin).expect("digests and JSON are JSON");
        if strata_durable::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        Ok(strata_durable::write(&path, &bytes, FILE_MODE)?)
    }

    /// Stores `documents` and then writes the pin `name` of a `kind`, for about the price of one: see [`Store::put`] and [`Store::pin`].
    ///
    /// After a crash any number of the documents are here, and the pin only if all of them are.
    pub fn keep(
        &self,
        lease: &mut Lease,
        kind: &str,
        name: &str,
        documents: &[(Digest, &[u8])],
        pin: &Pin,
    ) -> Result<(), Error> {
        let mut files = Vec::new();
        for (digest, bytes) in documents {
            if lease.hold(*digest)? != Some(bytes.len() as u64) || !self.is_whole(*digest, bytes.len() as u64) {
                check(*digest, bytes)?;
                files.push((self.layout().blob(*digest), *bytes));
            }
        }
        let path = self.layout().pin(kind, name);
        create_dir_all(path.parent().unwrap_or(&path), DIR_MODE)?;
        let bytes = serde_json::to_vec(pin).expect("digests and JSON are JSON");
        files.push((path, &bytes));
        let files: Vec<(&Path, &[u8])> = files.iter().map(|(path, bytes)| (path.as_path(), *bytes)).collect();
        Ok(strata_durable::write_many(&files, FILE_MODE)?)
    }

    /// Reads a pin; `None` if there is none.
    pub fn pinned(&self, kind: &str, name: &str) -> Result<Option<Pin>, Error> {
        let path = self.layout().pin(kind, name);
        match strata_durable::read(&path) {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Error::Damaged { path, reason: error.to_string() }),
        }
    }

    /// Removes a pin; returns whether there was one. Its blobs go with the next [collection](Store::collect).
    pub fn unpin(&self, kind: &str, name: &str) -> Result<bool, Error> {
        let path = self.layout().pin(kind, name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            found => {
                found.context("look at", &path)?;
                strata_durable::remove_file(&path)?;
                Ok(true)
            }
        }
    }
}
