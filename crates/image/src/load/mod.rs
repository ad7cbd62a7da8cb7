//! `docker load` for every archive there is: Docker's of all versions, OCI layouts and archives, compressed or not, from a file, a
//! folder or a stream.
//!
//! | module | owns |
//! | --- | --- |
//! | [`names`] | paths in an archive: normal form, links |
//! | [`outer`] | a plain tar file: where each entry lies, read by position |
//! | [`dir`] | an OCI layout in a folder |
//! | [`stream`] | a tar that passes once: layers unpacked as they come |
//! | [`plan`] | documents in, images to load out: which layers, which names |
//! | [`docker`], [`legacy`], [`oci`] | the three families of documents |
//! | [`layers`] | which layers are missing; unpacking them, checking them |
//! | [`in_order`] | the same, layer by layer, for drivers that need parents first |
//! | [`commit`] | layers registered, images created and named |
//!
//! In all of them: nothing is registered before everything is unpacked and checked against digests, sizes and DiffIDs. What
//! is wrong ends in one error that names the file of the archive, and no trace in the store.

mod commit;
mod dir;
mod docker;
mod in_order;
mod layers;
mod legacy;
mod names;
mod oci;
mod outer;
mod plan;
mod stream;

use std::{
    fs::File,
    io::{Read, Seek},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use strata_archive::{Limits, compression::Compression};
use strata_durable::Context;
use strata_spec::{
    Cancel, ImageId, Reference,
    manifest::Platform,
    progress::{Progress, Silent},
};

pub use plan::{Blob, LayerFile, Plan, Planned, Source};

use crate::{Error, Store};

/// Bytes of the largest document (manifest, index, config) that is read from an archive.
pub(crate) const DOCUMENT_MAX: u64 = crate::store::CONFIG_MAX;

/// Where an archive comes from.
pub enum Input<'a> {
    /// A regular file, from its beginning: read by position when it is plain, so that layers unpack in parallel and those that exist are not read.
    File(File),
    /// The folder of an OCI layout.
    Dir(PathBuf),
    /// Anything else, standard input for one: read once, never copied to disk.
    Stream(Box<dyn Read + Send + 'a>),
}

/// How to load.
pub struct Options<'a> {
    /// Which image of an index to take; `None` for this machine's.
    pub platform: Option<Platform>,
    pub limits: Limits,
    pub progress: &'a dyn Progress,
    /// Ends the load, as long as layers are unpacked. Nothing of it stays.
    pub cancel: Cancel,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { platform: None, limits: Limits::default(), progress: &Silent, cancel: Cancel::new() }
    }
}

/// One image that was loaded, or was there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub id: ImageId,
    /// Names it got, with the image that lost each, if another had it.
    pub names: Vec<(Reference, Option<ImageId>)>,
}

impl Loaded {
    /// What `docker load` prints about it, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, lost) in &self.names {
            let name = name.familiar();
            if let Some(old) = lost {
                lines.push(format!(
                    "The image {name} already exists, renaming the old one with ID {old} to empty string"
                ));
            }
            lines.push(format!("Loaded image: {name}"));
        }
        if self.names.is_empty() {
            lines.push(format!("Loaded image ID: {}", self.id));
        }
        lines
    }
}

/// A load whose layers are claimed: it is known which are missing, and nobody else makes those meanwhile.
pub struct Loading<'s> {
    store: &'s Store,
    plan: Plan,
    claim: layers::Claim<'s>,
}

impl Loading<'_> {
    /// The files of the layers that are missing. [`finish`](Self::finish) reads these and no others.
    pub fn missing(&self) -> Vec<&LayerFile> {
        layers::missing(&self.plan, &self.claim.existing).iter().map(|job| job.file).collect()
    }

    /// Unpacks the missing layers from `source`, checks and registers them, creates and names the images. As [`Store::load`] otherwise.
    pub fn finish(self, source: &dyn Source, options: &Options<'_>) -> Result<Vec<Loaded>, Error> {
        let Self { store, plan, claim } = self;
        if !store.layers().driver().is_independent() {
            return in_order::load(store, source, plan, options, claim);
        }
        let ready = layers::unpack_missing(store, source, &plan, &claim, options)?;
        commit::commit(store, plan, ready, options, claim)
    }
}

impl Input<'_> {
    /// Opens `path`: a folder, a regular file, or a stream (FIFO, device).
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).context("open", path)?;
        let kind = file.metadata().context("read", path)?.file_type();
        Ok(if kind.is_dir() {
            Self::Dir(path.to_owned())
        } else if kind.is_file() {
            Self::File(file)
        } else {
            Self::Stream(Box::new(file))
        })
    }
}

impl Store {
    /// Loads all images of `input` and returns them in the archive's order.
    ///
    /// Layers that are in the store are not unpacked again. On failure nothing new is registered, created or named, except when
    /// the system fails while the images are being named one by one (disk full): then those named before stay.
    pub fn load(&self, input: Input<'_>, options: &Options<'_>) -> Result<Vec<Loaded>, Error> {
        match input {
            Input::Dir(path) => self.load_whole(&dir::LayoutDir::open(&path)?, options),
            Input::File(file) if is_plain_tar(&file)? => {
                self.load_whole(&outer::TarFile::index(file, options)?, options)
            }
            Input::File(mut file) => {
                file.rewind().context("read", "the archive")?;
                self.load_passing(file, options)
            }
            Input::Stream(stream) => self.load_passing(stream, options),
        }
    }

    /// From something that can be read at any position.
    fn load_whole(&self, source: &dyn plan::Source, options: &Options<'_>) -> Result<Vec<Loaded>, Error> {
        self.begin_load(plan::plan(source, options)?)?.finish(source, options)
    }

    /// Claims the layers of `plan`, whose documents were read elsewhere; layers that another process is making are waited for.
    pub fn begin_load(&self, plan: Plan) -> Result<Loading<'_>, Error> {
        let claim = layers::claim(self, &plan, true)?;
        Ok(Loading { store: self, plan, claim })
    }

    /// From something that passes once.
    fn load_passing<'a>(&self, stream: impl Read + Send + 'a, options: &Options<'_>) -> Result<Vec<Loaded>, Error> {
        if !self.layers().driver().is_independent() {
            // A layer of this driver needs its parent first, and the stream has no such order.
            return self.load_whole(&outer::TarFile::index(self.spool(stream, options)?, options)?, options);
        }
        let (plan, ready, claim) = stream::read(self, stream, options)?;
        commit::commit(self, plan, ready, options, claim)
    }

    /// Copies a stream, decompressed, into a file without a name.
    fn spool(&self, stream: impl Read + Send, options: &Options<'_>) -> Result<File, Error> {
        strata_durable::create_dir_all(&self.tmp, crate::layout::DIR_MODE)?;
        let mut file = tempfile_in(&self.tmp)?;
        let (mut plain, _) = strata_archive::compression::decompress(stream, &options.limits)?;
        let mut bounded = (&mut plain).take(options.limits.bytes);
        std::io::copy(&mut bounded, &mut file).context("copy the archive to", &self.tmp)?;
        Ok(file)
    }
}

/// Whether a regular file is an uncompressed archive.
fn is_plain_tar(file: &File) -> Result<bool, Error> {
    let mut head = [0; 6];
    let read = file.read_at(&mut head, 0).context("read", "the archive")?;
    let head = &head[..read];
    Ok(Compression::detect(head) == Compression::Plain && Compression::unsupported(head).is_none())
}

/// A file in `dir` that vanishes when it is closed.
fn tempfile_in(dir: &Path) -> Result<File, Error> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR).context("make a temporary file in", dir)?;
    Ok(File::from(fd))
}
