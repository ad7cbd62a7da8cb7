//! A layer's tar onto a folder, in one streaming pass: digest, tar-split and files at once.
//!
//! ```text
//!                       ┌─> sha256 ────────────────────────────> DiffID
//! input ─> pieces ──────┤
//!                       └─> tar reader ─> tar-split (CRC, gzip) ─> tar_split
//!                                   └──> directories, at once
//!                                   └──> batches of files ─> threads that write them
//! ```
//!
//! What an entry means is what Docker's overlay2 driver makes of it, with these differences, each to the side of caution:
//!
//! | entry | here |
//! | --- | --- |
//! | a name that leads out by `..`; a whiteout of nothing, `.` or `..` | refused |
//! | anything under a file of this layer | refused |
//! | anything under a symbolic link | lies where the link leads inside the layer, as in Docker; what a dangling link names is made |
//! | a link that would remove a symbolic link through which this layer has brought content | refused |
//! | a hard link to what is not there, or leads out | refused |
//! | a type that no file has | refused, but for GNU tar's directory with a list of names (`D`) and its volume label (`V`) |
//! | what replaces a file with content that this same layer brings | refused; Docker accepts some of these, and cannot save the layer |
//! | a whiteout of what this layer brings, before or after it | hides only what lies below, as OCI says: a directory becomes opaque; Docker fails |
//! | character device 0/0 in an overlay layer | made, and so a whiteout, as in Docker |
//! | attributes `trusted.overlay.*` | left out |
//! | ACLs as text, as GNU tar writes them | set; Docker drops them. One that the kernel refuses is left out |
//! | `.wh..wh.*` but the opaque mark: AUFS's bookkeeping | left out |
//! | a hard link to a file in `.wh..wh.plnk`, which AUFS keeps files with several names in | one file with these names; Docker makes copies |
//! | the root directory's own entry | in an overlay layer left out, as in Docker |
//! | long runs of zeros in a large file | holes |

mod acl;
mod batch;
mod feed;
mod folder;
pub(crate) mod make;
mod name;
mod plan;
mod plinks;
mod seen;
#[cfg(test)]
mod tests;

use std::{
    io::{Read, Write},
    panic,
    path::Path,
    thread,
};

use strata_durable::Context;
use strata_spec::DiffId;

pub use feed::Inlet;

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
    /// Bytes of the files, as Docker counts a layer's size: the length of each file once, however many names it has, and of the
    /// text of each symbolic link; holes count. Under [`Marks::None`] the sum of the sizes that the headers say.
    pub size: u64,
    /// Bytes of the tar.
    pub tar_bytes: u64,
    pub entries: u64,
}

/// Threads that write files; more only wait for the same filesystem's locks.
const WRITERS: usize = 4;

/// Unpacks the plain tar `input` into the empty folder `dest`, and writes its tar-split (gzip JSON) to `tar_split`.
///
/// Several threads share the work over bounded channels: one reads (the caller's), one takes the tar apart, and where there is work for
/// them one hashes and others write files; no content is copied on the way, and memory is bounded at some 4 MiB whatever the layer holds, but for a few dozen bytes for each directory. Every path is resolved
/// under a descriptor of `dest`, which is the root for the symbolic links in the layer. On failure `dest` holds part of the layer and is for the caller to
/// remove. Nothing is synced.
///
/// Under [`Marks::None`] `dest` may hold the layers below.
pub fn apply<R: Read, W: Write + Send>(
    input: R,
    dest: &Path,
    tar_split: W,
    options: &Options,
) -> Result<Applied, Error> {
    apply_from(|inlet| inlet.take(input), dest, tar_split, options)
}

/// As [`apply`], for a tar that `write` writes, on the caller's thread. What it fails with is returned, unless the tar was refused before.
pub fn apply_from<W: Write + Send, E: From<Error>>(
    write: impl FnOnce(&mut Inlet) -> Result<(), E>,
    dest: &Path,
    tar_split: W,
    options: &Options,
) -> Result<Applied, E> {
    let folder = folder::Folder::open(dest).context("open", dest).map_err(Error::from)?;
    let maker = make::Maker::new(folder.root(), options.marks).context("prepare", dest).map_err(Error::from)?;
    let maker = &maker;
    let (planned, digest, written, tar_bytes, unheard) = thread::scope(|scope| {
        let (mut inlet, feed, digest) = feed::feed(move |hash| drop(scope.spawn(move || hash.run())));
        let writers = thread::available_parallelism().map_or(1, usize::from).min(WRITERS);
        let crew = batch::Crew::new(writers, maker, move |post| drop(scope.spawn(move || post.run(maker))));
        let planning = scope.spawn(move || plan::Plan::new(feed, tar_split, options, folder, maker, crew).run());
        let written = write(&mut inlet);
        let unheard = inlet.is_unheard();
        let tar_bytes = inlet.end(written.as_ref().copied().map_err(|_| ()));
        (join(planning), digest, written, tar_bytes, unheard)
    });
    // Who fails first is the reason: the input, which cuts the tar off, or the plan, which refuses the rest of the input.
    let counted = if unheard { planned.map_err(E::from)? } else { written.and_then(|()| Ok(planned?))? };
    let digest = digest.recv().expect("a tar that was read to its end has been hashed");
    let size = if options.marks == Marks::None { counted.claimed } else { maker.size() };
    Ok(Applied { diff_id: DiffId::new(digest), size, tar_bytes, entries: counted.entries })
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}
