//! What a long operation reports while it runs. Libraries report, front doors show.
//!
//! ```
//! use std::sync::Mutex;
//! use strata_spec::progress::{Event, Progress, Status};
//!
//! #[derive(Default)]
//! struct Log(Mutex<Vec<String>>);
//!
//! impl Progress for Log {
//!     fn report(&self, event: Event<'_>) {
//!         self.0.lock().unwrap().push(match event {
//!             Event::Message(text) => text.to_owned(),
//!             Event::Item { id, status } => format!("{id}: {status}"),
//!         });
//!     }
//! }
//!
//! let log = Log::default();
//! log.message("latest: Pulling from library/debian");
//! log.item("012345678901", Status::Downloading { done: 10, total: 100 });
//! assert_eq!(log.0.into_inner().unwrap()[1], "012345678901: Downloading");
//! ```

use std::fmt;

/// One event of a long operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A line for the user: `latest: Pulling from library/debian`.
    Message(&'a str),
    /// A part of the operation, as a rule a layer, is in a new state or has moved on.
    ///
    /// `id` is 12 hex digits, as Docker shows them: of the blob's digest in a pull, of the DiffID in a push, a load or a save.
    Item {
        /// Names the part.
        id: &'a str,
        /// Its state.
        status: Status<'a>,
    },
}

/// The state of a part. `done` and `total` are bytes; `total` is 0 where it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status<'a> {
    /// The layer is missing here and will be fetched.
    Pulling,
    /// Bytes as they are served.
    #[allow(missing_docs)]
    Downloading { done: u64, total: u64 },
    /// The digest is being checked.
    Verifying,
    /// All bytes are here and have their digest.
    Downloaded,
    /// Bytes as they are served, not as they unpack.
    #[allow(missing_docs)]
    Extracting { done: u64, total: u64 },
    /// The layer is registered.
    Pulled,
    /// The layer is here already.
    Exists,
    /// The layer will be pushed.
    Preparing,
    /// Bytes of the layer's tar, or of the blob where it is sent as it is.
    #[allow(missing_docs)]
    Pushing { done: u64, total: u64 },
    /// The registry has taken the layer.
    Pushed,
    /// The registry has the layer already.
    ExistsThere,
    /// The registry has linked the layer from this other repository of its own.
    Mounted(&'a str),
    /// Bytes of a layer's file in an archive.
    #[allow(missing_docs)]
    Loading { done: u64, total: u64 },
    /// The layer of the archive is unpacked.
    Loaded,
    /// Bytes of a layer's tar.
    #[allow(missing_docs)]
    Saving { done: u64, total: u64 },
    /// The layer is in the archive.
    Saved,
}

impl Status<'_> {
    /// Returns `(done, total)` in bytes where the state has them.
    pub fn bytes(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Downloading { done, total }
            | Self::Extracting { done, total }
            | Self::Pushing { done, total }
            | Self::Loading { done, total }
            | Self::Saving { done, total } => Some((done, total)),
            _ => None,
        }
    }
}

impl fmt::Display for Status<'_> {
    /// Writes the state in Docker's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::Pulling => "Pulling fs layer",
            Self::Downloading { .. } => "Downloading",
            Self::Verifying => "Verifying Checksum",
            Self::Downloaded => "Download complete",
            Self::Extracting { .. } => "Extracting",
            Self::Pulled => "Pull complete",
            Self::Exists => "Already exists",
            Self::Preparing => "Preparing",
            Self::Pushing { .. } => "Pushing",
            Self::Pushed => "Pushed",
            Self::ExistsThere => "Layer already exists",
            Self::Mounted(from) => return write!(f, "Mounted from {from}"),
            Self::Loading { .. } => "Loading layer",
            Self::Loaded => "Loaded",
            Self::Saving { .. } => "Saving layer",
            Self::Saved => "Saved",
        })
    }
}

/// Receives the events of an operation, from several threads.
pub trait Progress: Send + Sync {
    /// Takes one event. It is called often and from the threads that do the work: it must not block for long.
    fn report(&self, event: Event<'_>);

    /// Reports a state of the part `id`.
    fn item(&self, id: &str, status: Status<'_>) {
        self.report(Event::Item { id, status });
    }

    /// Reports a line for the user.
    fn message(&self, text: &str) {
        self.report(Event::Message(text));
    }
}

/// Ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _: Event<'_>) {}
}
