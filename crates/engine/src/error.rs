//! What an operation can fail with.

use std::path::PathBuf;

use strata_spec::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{} is in use by a live dockerd{}: it can be read, not changed",
        root.display(), holder.as_ref().map(|h| format!(" ({h})")).unwrap_or_default()
    )]
    DaemonAlive { root: PathBuf, holder: Option<String> },
    #[error("{} is on a read-only filesystem: it can be read, not changed", root.display())]
    ReadOnly { root: PathBuf },
    #[error("{} cannot be used without root's rights ({needs}); run as root", root.display())]
    NoRights { root: PathBuf, needs: &'static str },
    #[error("{} was written by a newer Strata (format {found}, this one knows up to {known}); use that version", root.display())]
    NewerFormat { root: PathBuf, found: u32, known: u32 },
    #[error(
        "{} has images or containers of the storage drivers {found}, and one must be chosen", root.display()
    )]
    SeveralDrivers { root: PathBuf, found: String },
    #[error("image {name} is found under the storage drivers {drivers}")]
    InSeveral { name: String, drivers: String },
    #[error("the images lie under different storage drivers: {0}; take those of each driver by themselves")]
    Apart(String),
    #[error("{} holds images of the driver {found}, which this build cannot open", root.display())]
    ForeignDriver { root: PathBuf, found: String },
    #[error(
        "{} keeps its images in containerd's image store ({sign}), which Docker 25 and later can use and Docker 29 uses by default; this build \
         has no driver for it, and nothing was changed: use this root with docker, or another root here", root.display()
    )]
    ContainerdStore { root: PathBuf, sign: String },
    #[error(
        "no storage driver works on {}: {why}", root.display()
    )]
    NoDriver { root: PathBuf, why: String },
    #[error("what lies under the storage driver {driver} is not shown: {why}")]
    Unread { driver: &'static str, why: String },
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Io(#[from] strata_durable::Error),
    #[error(transparent)]
    Driver(#[from] strata_graphdriver::Error),
    #[error(transparent)]
    Layer(#[from] strata_layer::Error),
    #[error(transparent)]
    Image(#[from] strata_image::Error),
    #[error(transparent)]
    Distribution(#[from] strata_distribution::Error),
    #[error(transparent)]
    Container(#[from] strata_container::Error),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::DaemonAlive { .. } | Self::ReadOnly { .. } => ErrorKind::ReadOnly,
            Self::NoRights { .. } => ErrorKind::PermissionDenied,
            Self::NewerFormat { .. }
            | Self::ForeignDriver { .. }
            | Self::ContainerdStore { .. }
            | Self::NoDriver { .. } => ErrorKind::Unsupported,
            Self::SeveralDrivers { .. } | Self::InSeveral { .. } | Self::Apart(_) | Self::Invalid(_) => {
                ErrorKind::Invalid
            }
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Unread { .. } => ErrorKind::Damaged,
            Self::Io(error) => error.kind(),
            Self::Driver(error) => error.kind(),
            Self::Layer(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Distribution(error) => error.kind(),
            Self::Container(error) => error.kind(),
        }
    }
}
