//! What an operation on a container can fail with, in Docker's own words where clients match on them.

use std::path::{Path, PathBuf};

use strata_spec::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("No such container: {0}")]
    NotFound(String),
    #[error("Multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". \
         You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse { name: String, holder: String },
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName(String),
    /// A request, instruction or path that is not well formed; the text says what is wrong with it.
    #[error("{0}")]
    Invalid(String),
    /// The container is in a state that does not allow this.
    #[error("{0}")]
    Conflict(String),
    /// This build, machine or image cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// The root has no layer store of the driver that the container's record names.
    #[error("container {container} was made with the storage driver {driver}, which has nothing on this root")]
    NoStore { container: String, driver: String },
    #[error(
        "image {image} is for {found} and this machine is {host}: get the image for {host}, or install an emulator \
         (package qemu-user-static)"
    )]
    OtherPlatform { image: String, found: String, host: String },
    #[error("Container {0} is already running")]
    AlreadyRunning(String),
    #[error("No command specified")]
    NoCommand,
    #[error("Could not find the file {path} in container {container}")]
    NoSuchPath { path: String, container: String },
    #[error("container rootfs is marked read-only")]
    ReadOnlyRoot,
    #[error("mounted volume is marked read-only")]
    VolumeReadOnly,
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(transparent)]
    Io(#[from] strata_durable::Error),
    #[error(transparent)]
    Archive(#[from] strata_archive::Error),
    #[error(transparent)]
    Layer(#[from] strata_layer::Error),
    #[error(transparent)]
    Driver(#[from] strata_graphdriver::Error),
    #[error(transparent)]
    Image(#[from] strata_image::Error),
    #[error(transparent)]
    Runtime(#[from] strata_runtime::Error),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) | Self::NoSuchPath { .. } => ErrorKind::NotFound,
            Self::Ambiguous(_) | Self::InvalidName(_) | Self::Invalid(_) | Self::NoCommand => ErrorKind::Invalid,
            Self::NameInUse { .. } | Self::Conflict(_) => ErrorKind::Conflict,
            Self::AlreadyRunning(_) => ErrorKind::NotModified,
            Self::OtherPlatform { .. } | Self::Unsupported(_) | Self::NoStore { .. } => ErrorKind::Unsupported,
            Self::ReadOnlyRoot | Self::VolumeReadOnly => ErrorKind::PermissionDenied,
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Io(error) => error.kind(),
            Self::Archive(error) => error.kind(),
            Self::Layer(error) => error.kind(),
            Self::Driver(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
        }
    }

    /// The exit code of `run` for this: 126 and 127 where the command was the trouble, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Runtime(error) => error.exit_code(),
            _ => 125,
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    pub(crate) fn conflict(text: impl Into<String>) -> Self {
        Self::Conflict(text.into())
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }
}
