//! `docker save`: images into one tar that is a Docker archive and an OCI layout at once, the same bytes each time.
//!
//! ```text
//! oci-layout  index.json             an OCI layout: one entry a name, or one for an image without names
//! manifest.json  repositories        a Docker archive of the same images
//! blobs/sha256/<hex>                 manifests and configs, sorted; then each layer once, by its DiffID, base layers first
//! ```
//!
//! All entries are of root, of 1970, 0644 or 0755. Documents come before layers, so that whoever reads the archive from a pipe knows
//! which layers it can pass over. Layers are plain tars, rebuilt byte for byte and checked against their DiffIDs on the way.
//!
//! | module | owns |
//! | --- | --- |
//! | [`select`] | from what a user types to images and the names they are saved under |
//! | [`documents`] | the JSON files |
//! | [`plan`] | every entry, where it lies and how long it is |
//! | [`write`] | into a file, with layers side by side; or into a stream |
//!
//! Source: moby 25, `image/tarexport/save.go`, whose archives 20.10 reads too; OCI image-spec 1.1, image-layout.md.

mod documents;
mod plan;
mod select;
mod write;

use std::{fs::File, io::Write};

use strata_layer::Lease;
use strata_spec::{ErrorKind, chain_id, progress::Progress};

pub use select::Selection;

use crate::{Error, Store};

/// Where an archive goes.
pub enum Output<'a> {
    /// An empty regular file, written at several places at once.
    File(&'a File),
    /// Anything else: written in order.
    Stream(&'a mut (dyn Write + Send)),
}

impl Store {
    /// Writes the images of `selection` to `out`, and returns the archive's length in bytes. Not synced.
    ///
    /// A layer whose files no longer give its DiffID ends it with `Damaged`, naming layer and file; what was written by then is
    /// for the caller to remove.
    pub fn save(&self, selection: &Selection, out: Output<'_>, progress: &dyn Progress) -> Result<u64, Error> {
        let images = selection.read(self)?;
        let lease = self.hold(&images)?;
        let plan = plan::plan(self, &images)?;
        match out {
            Output::File(file) => write::to_file(self, &plan, file, progress)?,
            Output::Stream(out) => write::to_stream(self, &plan, out, progress)?,
        }
        if let Some(lease) = lease {
            lease.done()?;
        }
        Ok(plan.length)
    }

    /// Keeps the images' layers while they are read. Where nothing can be written nobody removes them either.
    fn hold(&self, images: &[select::Image]) -> Result<Option<Lease<'_>>, Error> {
        let mut lease = match self.layers().lease() {
            Ok(lease) => lease,
            Err(error) if matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::PermissionDenied) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        for image in images {
            if let Some(chain) = chain_id(image.config.diff_ids()) {
                lease.hold(chain).map_err(|error| match error {
                    strata_layer::Error::NotFound(chain) => Error::missing_layer(image.config.id(), chain),
                    other => other.into(),
                })?;
            }
        }
        Ok(Some(lease))
    }
}
