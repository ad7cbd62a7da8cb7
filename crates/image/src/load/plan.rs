//! Documents in, images to load out.

use std::io::Read;

use strata_archive::{Limits, compression::decompress};
use strata_spec::{DiffId, Digest, Hasher, ImageConfig, ImageId, Reference, chain_ids};

use super::{DOCUMENT_MAX, Options, docker, legacy, names, oci};
use crate::{Error, store::check_document};

/// An archive, a folder, what has been seen of a stream, or a registry. Names are in normal form.
pub trait Source: Sync {
    /// The file that `name` leads to through links; `None` if there is none (yet).
    fn find(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(Some(name.to_owned()))
    }

    /// The bytes of a document; refused if it is larger than one may be. A source of layers alone has none.
    fn document(&self, _name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    /// The content of a file of any size. May be called from several threads.
    fn blob(&self, name: &str) -> Result<Option<Blob<'_>>, Error>;

    /// The DiffID of a layer, for archives that do not tell it.
    fn diff_id(&self, name: &str) -> Result<DiffId, Error> {
        let Some(blob) = self.blob(name)? else {
            return Err(Error::load(name, "the archive does not have it"));
        };
        let (mut plain, _) = decompress(blob.reader, &Limits::default())?;
        let mut hasher = Hasher::sha256();
        std::io::copy(&mut plain, &mut hasher).map_err(|error| Error::load(name, error.to_string()))?;
        Ok(DiffId::new(hasher.finish()))
    }
}

/// A file of a [`Source`].
pub struct Blob<'a> {
    /// Bytes of the file as it is stored; the reader may give it already unpacked.
    pub size: u64,
    pub reader: Box<dyn Read + Send + 'a>,
}

/// What an archive holds, checked as far as its documents go.
#[derive(Debug, Default)]
pub struct Plan {
    /// In the archive's order; an image is there once.
    pub images: Vec<Planned>,
}

/// An image to load.
#[derive(Clone, Debug)]
pub struct Planned {
    pub config: ImageConfig,
    /// One for each DiffID of the config, from the base up.
    pub layers: Vec<LayerFile>,
    pub names: Vec<Reference>,
    /// What it was built from, as the archive claims.
    pub parent: Option<ImageId>,
    /// Whether it is reported: the ancestors in a legacy archive are not.
    pub shown: bool,
}

/// Where a layer lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerFile {
    /// As the document names it, in normal form; empty where the archive leaves the layer out.
    pub name: String,
    /// Of the file as it lies, compressed or not, where that is promised.
    pub digest: Option<Digest>,
    pub size: Option<u64>,
}

impl LayerFile {
    /// The file `name`; one named by its digest promises it.
    pub fn new(name: String) -> Self {
        Self { digest: blob_digest(&name), name, size: None }
    }

    /// A layer that the archive does not have: the store must.
    pub fn left_out() -> Self {
        Self { name: String::new(), digest: None, size: None }
    }

    /// The error of an archive that does not have the file of the layer `diff`, which the store lacks too.
    pub(super) fn missing(&self, diff: DiffId) -> Error {
        if self.name.is_empty() {
            let reason = "the archive leaves this layer out, and the store does not have it; load or pull the image it was built on first";
            return Error::load(format!("layer {diff}"), reason);
        }
        Error::load(&self.name, "the documents name this layer, and the archive does not have it (or it is no tar)")
    }
}

impl Planned {
    /// Reads the config of an image and checks what can be checked of it alone.
    pub fn new(object: &str, config: Vec<u8>, layers: Vec<LayerFile>) -> Result<Self, Error> {
        let config = ImageConfig::parse(config).map_err(|error| Error::load(object, error.to_string()))?;
        let (expected, found) = (layers.len(), config.diff_ids().len());
        if expected != found {
            return Err(Error::LayerCount { object: object.to_owned(), expected, found });
        }
        check_document(&config)?;
        if let Some(other) = config.diff_ids().iter().find(|diff| diff.digest().algorithm().name() != "sha256") {
            return Err(Error::load(
                object,
                format!("DiffID {other} is not a sha256 digest; layers are named by those"),
            ));
        }
        Ok(Self { config, layers, names: Vec::new(), parent: None, shown: true })
    }
}

impl Plan {
    /// Adds an image, or its names to the same image.
    pub fn add(&mut self, image: Planned) -> Result<(), Error> {
        let id = image.config.id();
        match self.images.iter_mut().find(|there| there.config.id() == id) {
            None => self.images.push(image),
            Some(there) => {
                for name in image.names {
                    if !there.names.contains(&name) {
                        there.names.push(name);
                    }
                }
                there.parent = there.parent.or(image.parent);
                there.shown |= image.shown;
            }
        }
        Ok(())
    }

    /// All top ChainIDs: with those below them, everything that the images stand on.
    pub fn chains(&self) -> impl Iterator<Item = strata_spec::ChainId> + '_ {
        self.images.iter().flat_map(|image| chain_ids(image.config.diff_ids()))
    }
}

/// Reads the documents of `source`. Layers need not be there yet.
///
/// `manifest.json` goes before `index.json`, and that before `repositories`: newer Docker archives have all three and mean the same.
pub(super) fn plan(source: &dyn Source, options: &Options<'_>) -> Result<Plan, Error> {
    let plan = if let Some(manifest) = source.document("manifest.json")? {
        docker::plan(source, &manifest)?
    } else if let Some(index) = source.document("index.json")? {
        oci::plan(source, &index, options)?
    } else if let Some(repositories) = source.document("repositories")? {
        legacy::plan(source, &repositories)?
    } else {
        let wants = "it has neither manifest.json (Docker), index.json (OCI) nor repositories (Docker before 1.10); \
                     for the tar of a root filesystem use `import`";
        return Err(Error::load("the archive", wants));
    };
    if plan.images.is_empty() {
        return Err(Error::load("the archive", "its documents name no image"));
    }
    Ok(plan)
}

/// Reads a document that must be there.
pub(super) fn required(source: &dyn Source, name: &str, from: &str) -> Result<Vec<u8>, Error> {
    source
        .document(name)?
        .ok_or_else(|| Error::load(name, format!("{from} names it, and the archive does not have it")))
}

/// Reads a document named by its digest, and checks size and digest.
pub(super) fn blob_document(
    source: &dyn Source,
    digest: Digest,
    size: Option<u64>,
    from: &str,
) -> Result<Vec<u8>, Error> {
    let name = blob_name(digest);
    if let Some(size) = size.filter(|size| *size > DOCUMENT_MAX) {
        return Err(Error::load(
            name,
            format!("{from} says that it has {size} bytes, a document has at most {DOCUMENT_MAX}"),
        ));
    }
    let bytes = required(source, &name, from)?;
    if let Some(size) = size.filter(|size| *size != bytes.len() as u64) {
        return Err(Error::load(name, format!("it has {} bytes, {from} says {size}", bytes.len())));
    }
    check_digest(&name, digest, &bytes)?;
    Ok(bytes)
}

/// Checks a document against the digest it is named by.
pub(super) fn check_digest(name: &str, digest: Digest, bytes: &[u8]) -> Result<(), Error> {
    match Digest::of(digest.algorithm(), bytes) {
        found if found == digest => Ok(()),
        found => {
            Err(Error::load(name, format!("its digest is {found}, not what it is named by; get the archive again")))
        }
    }
}

/// `blobs/sha256/<hex>`
pub(super) fn blob_name(digest: Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The digest that a file name promises: `blobs/<algorithm>/<hex>`, at the end of any path.
pub(super) fn blob_digest(name: &str) -> Option<Digest> {
    let mut parts = name.rsplit('/');
    let (hex, algorithm) = (parts.next()?, parts.next()?);
    (parts.next()? == "blobs").then(|| format!("{algorithm}:{hex}").parse().ok())?
}

/// Reads JSON of a document, naming it in the error.
pub(super) fn json<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::load(names::shorten(name), error.to_string()))
}
