//! One object, explained: what it is made of, how each value is computed, and which file says so.
//!
//! An object is recognised in this order: a path under the data root; `CONTAINER:/PATH` or `IMAGE:/PATH`; a container by ID, name
//! or the beginning of its ID; an image by reference or ID; a layer by ChainID, DiffID, cache ID (or six digits or more of their beginning) or
//! its short name in `l/`; at last a path relative to the data root.
//!
//! An [`Explanation`] serialises to a JSON object whose `kind` is `image`, `container`, `layer`, `path` or `file`; the other fields are
//! those of the type of that name. A field that does not apply is left out. All paths are relative to the data root where they lie
//! in it. A [`Sourced`](crate::value::Sourced) value has `value`, the `file` that it was read from, `how` it came about, and, without a
//! value, the `problem`. What is damaged is listed in `problems`, each with `path` and `reason`.

mod container;
pub(crate) mod facts;
mod file;
mod image;
mod layer;
mod path;
mod recognise;
mod trace;

use std::fmt;

use serde::Serialize;

pub use container::{Bound, ContainerExplanation};
pub use facts::{DriverFact, FileFacts, LayerFacts, MountLine};
pub use file::{Cover, FileExplanation, Object};
pub use image::{ImageExplanation, ImageLayer};
pub use layer::LayerExplanation;
pub use path::{Owner, PathExplanation};
pub use trace::{Hidden, Hop, LayerSays, Role, State, Why};

pub use crate::survey::{ContainerName, ImageName};
use crate::{Error, Stores, text::printable};

/// What [`explain`] found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Explanation {
    Image(ImageExplanation),
    Container(ContainerExplanation),
    Layer(LayerExplanation),
    /// A file or folder of the data root.
    Path(PathExplanation),
    /// A file inside a container or an image.
    File(FileExplanation),
}

/// Explains what `text` means.
///
/// `NotFound` says what was tried; `Ambiguous` what it may mean.
pub fn explain(stores: &Stores<'_>, text: &str) -> Result<Explanation, Error> {
    recognise::recognise(stores, text)
}

/// Explains what `text` means under all of these drivers, which are of one root, at least one: what each of them has of that name. A path is
/// explained by the driver it belongs to. With it comes what kept it from being looked for under some of them, or that it is under none.
pub fn explain_all(all: &[Stores<'_>], text: &str) -> (Vec<Explanation>, Option<Error>) {
    recognise::recognise_all(all, text)
}

impl Explanation {
    /// What is meant when several things are called so: the least.
    fn rank(&self) -> u8 {
        match self {
            Self::Container(_) | Self::File(FileExplanation { object: Object::Container(_), .. }) => 0,
            Self::Image(_) | Self::File(_) => 1,
            Self::Layer(_) => 2,
            Self::Path(_) => 3,
        }
    }
}

impl fmt::Display for Explanation {
    /// The text for people; ends in a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Image(image) => image.to_string(),
            Self::Container(container) => container.to_string(),
            Self::Layer(layer) => layer.to_string(),
            Self::Path(path) => path.to_string(),
            Self::File(file) => file.to_string(),
        };
        f.write_str(&printable(&text))
    }
}
