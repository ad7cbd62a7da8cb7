//! What explaining can fail with. Damage is no failure: it is part of what is explained.

use std::path::PathBuf;

use strata_spec::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "nothing in {} is called {text:?}: tried {tried}; `images --all` and `ps --all` list what there is", root.display()
    )]
    NotFound { text: String, root: PathBuf, tried: String },
    #[error("{text:?} may mean {}: give more of it", meanings.join(", or "))]
    Ambiguous { text: String, meanings: Vec<String> },
    #[error("{} is not under the data root {}; name another one with --data-root", path.display(), root.display())]
    Outside { path: PathBuf, root: PathBuf },
    #[error("{path:?} in {object} cannot be found: {reason}")]
    Lookup { object: String, path: String, reason: String },
    #[error(transparent)]
    Io(#[from] strata_durable::Error),
    #[error(transparent)]
    Layer(#[from] strata_layer::Error),
    #[error(transparent)]
    Image(#[from] strata_image::Error),
    #[error(transparent)]
    Driver(#[from] strata_graphdriver::Error),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::Lookup { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } | Self::Outside { .. } => ErrorKind::Invalid,
            Self::Io(error) => error.kind(),
            Self::Layer(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Driver(error) => error.kind(),
        }
    }
}
