//! The union in user space, as drivers mount it.

use std::{
    io,
    path::{Path, PathBuf},
};

use strata_sys::fs::Feature;

use crate::Access;

/// How many folders may lie below one that is mounted. The union itself has no limit; Docker's layer store has 125.
pub(crate) const MAX_DEPTH: usize = 500;

/// Whether a union in user space can be had here.
pub(crate) fn feature() -> Feature {
    let (works, why) = match available() {
        Ok(()) => (true, "by FUSE".to_owned()),
        Err(why) => (false, why),
    };
    Feature { name: "union in user space", works, why }
}

/// Why there is none, if there is none.
pub(crate) fn available() -> Result<(), String> {
    Err("this build has no union in user space".to_owned())
}

/// Mounts `branches`, topmost first, with AUFS's marks on `target`; with `ReadWrite` the topmost is written to.
pub(crate) fn aufs(_branches: &[PathBuf], _access: Access, _target: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, available().err().unwrap_or_default()))
}
