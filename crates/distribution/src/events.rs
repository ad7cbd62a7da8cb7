//! What happens to each layer, for whoever shows it.

/// Where a layer is on its way. `done` and `total` are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is wanted and not there.
    Pulling,
    Downloading {
        done: u64,
        total: u64,
    },
    Verifying,
    Downloaded,
    /// Bytes as they came, not as they unpack.
    Extracting {
        done: u64,
        total: u64,
    },
    Pulled,
    Exists,

    /// It is to be pushed.
    Preparing,
    Pushing {
        done: u64,
        total: u64,
    },
    Pushed,
    /// The registry has it.
    ExistsThere,
    /// The registry had it in another repository, which the text after it names.
    Mounted,
}

/// Receives what happens; called from several threads. Layers are named by 12 hex digits, as Docker names them: of the blob's digest in a
/// pull, of the DiffID in a push.
pub trait Events: Send + Sync {
    fn layer(&self, id: &str, phase: Phase);
    /// A layer was mounted from repository `from`.
    fn mounted(&self, id: &str, from: &str);
    /// A line for the reader: `latest: Pulling from library/debian`.
    fn line(&self, text: &str);
}

/// Shows nothing.
pub struct Silent;

impl Events for Silent {
    fn layer(&self, _: &str, _: Phase) {}
    fn mounted(&self, _: &str, _: &str) {}
    fn line(&self, _: &str) {}
}
