//! Extended attributes of the root, on no disk, that describe a mounted union and change it.
//!
//! They work from any mount namespace and need no socket. `strata.union.N` is the N-th piece of the description; writing
//! `strata.union.change` makes one change of branches.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::mount::fields;

/// Prefix of the description's pieces.
pub(crate) const DESCRIPTION: &str = "strata.union.";
/// Takes a change of branches.
pub(crate) const CHANGE: &str = "strata.union.change";
/// Bytes of a piece. The kernel limits values to 64 KiB.
pub(crate) const PIECE: usize = 32 << 10;

/// Returns a piece of the description, empty past the end; `None` if `name` is no piece's.
pub(super) fn piece(name: &OsStr, description: impl FnOnce() -> fields::Fields) -> Option<Vec<u8>> {
    let number: usize =
        std::str::from_utf8(name.as_bytes().strip_prefix(DESCRIPTION.as_bytes())?).ok()?.parse().ok()?;
    let all = description().encode();
    let start = number.saturating_mul(PIECE).min(all.len());
    Some(all[start..all.len().min(start + PIECE)].to_vec())
}
