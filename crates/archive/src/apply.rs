//! A layer's tar onto a folder, in one streaming pass: digest, tar-split and files at once.

use std::{
    io::{Read, Write},
    path::Path,
};

use strata_spec::DiffId;

use crate::{Error, Limits, Marks};

/// How to unpack.
#[derive(Clone, Debug)]
pub struct Options {
    pub marks: Marks,
    pub limits: Limits,
}

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Digest of the tar, trailing bytes included.
    pub diff_id: DiffId,
    /// Bytes of the files, as Docker counts a layer's size.
    pub size: u64,
    /// Bytes of the tar.
    pub tar_bytes: u64,
    pub entries: u64,
}

/// Unpacks the plain tar `input` into the empty folder `dest`, and writes its tar-split (gzip JSON) to `tar_split`.
///
/// Several threads share the work over bounded channels: one reads and hashes, one takes the tar apart, others write files; memory is
/// bounded whatever the layer holds. Every path is resolved under a descriptor of `dest`. On failure `dest` holds part of
/// the layer and is for the caller to remove. Nothing is synced.
pub fn apply<R: Read + Send, W: Write + Send>(
    input: R,
    dest: &Path,
    tar_split: W,
    options: &Options,
) -> Result<Applied, Error> {
    let _ = (input, dest, tar_split, options);
    todo!()
}
