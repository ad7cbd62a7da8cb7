//! Tells people what lies in a data root and whether it is sound; reads any Docker root, changes nothing.
//!
//! | module | owns |
//! | --- | --- |
//! | [`mod@explain`] | one image, container, layer, path or file: what it is made of, and where each value was read |
//! | [`mod@check`] | the whole root: what is damaged, lost or left over, and the way out |
//! | [`value`] | a value with the file it was read from |
//! | [`error`] | what can fail |
//!
//! Every result is data, which serialises to the JSON that its type documents, and has a text for people by `Display`.
//! Damage is part of the result: what can be told is told.
#![forbid(unsafe_code)]

pub mod check;
pub mod error;
pub mod explain;
mod survey;
mod text;
pub mod value;

use std::path::Path;

pub use check::{Report, check, check_all};
pub use error::Error;
pub use explain::{Explanation, explain, explain_all};
pub use strata_layer::Depth;

/// The stores of one driver of a data root.
#[derive(Clone, Copy)]
pub struct Stores<'a> {
    /// The data root: absolute, and free of links.
    pub root: &'a Path,
    pub layers: &'a strata_layer::Store,
    pub images: &'a strata_image::Store,
    pub containers: &'a strata_container::Store,
}

impl Stores<'_> {
    /// The storage driver's name.
    fn driver_name(&self) -> &'static str {
        self.layers.driver().name()
    }

    /// `path` as it is shown: relative to the root if it lies there.
    fn show(&self, path: &Path) -> String {
        path.strip_prefix(self.root).unwrap_or(path).display().to_string()
    }
}
