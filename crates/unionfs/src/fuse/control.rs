//! What a mounted union tells about itself, and takes as orders: extended attributes of its root that are on no disk.
//!
//! They work in any mount namespace and need no socket. `strata.union.N` is the N-th piece of the description;
//! `strata.union.change` takes one change of branches.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::mount::wire;

/// Prefix of the description's pieces.
pub(crate) const DESCRIPTION: &str = "strata.union.";
/// Written with a change of branches.
pub(crate) const CHANGE: &str = "strata.union.change";
/// Bytes in a piece. The kernel allows 64 KiB to a value.
pub(crate) const PIECE: usize = 32 << 10;

/// Returns piece `name` of a description, if it is the name of one; an empty piece is past the end.
pub(super) fn piece(name: &OsStr, description: impl FnOnce() -> wire::Fields) -> Option<Vec<u8>> {
    let number: usize =
        std::str::from_utf8(name.as_bytes().strip_prefix(DESCRIPTION.as_bytes())?).ok()?.parse().ok()?;
    let all = description().encode();
    let start = number.saturating_mul(PIECE).min(all.len());
    Some(all[start..all.len().min(start + PIECE)].to_vec())
}
