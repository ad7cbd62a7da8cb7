//! Into a file, with layers side by side; or into a stream.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::fs::FallocateFlags;
use strata_durable::Context;
use strata_spec::progress::{Progress, Status};

use super::plan::{Content, Entry, Plan};
use crate::{Error, Store};

/// Layers that are rebuilt at the same time.
const AT_ONCE: usize = 2;
const ZEROS: [u8; 1024] = [0; 1024];

/// Writes the archive in order.
pub(super) fn to_stream(
    store: &Store,
    plan: &Plan,
    out: &mut (dyn Write + Send),
    progress: &dyn Progress,
) -> Result<(), Error> {
    for entry in &plan.entries {
        out.write_all(&entry.header).map_err(unwritten)?;
        content(store, &entry.content, &mut *out, progress)?;
        out.write_all(&ZEROS[..entry.content.padding()]).map_err(unwritten)?;
    }
    out.write_all(&ZEROS).map_err(unwritten)?;
    out.flush().map_err(unwritten)
}

/// Writes the archive at several places at once: first all space is taken, then the entries are written, biggest first.
pub(super) fn to_file(store: &Store, plan: &Plan, file: &File, progress: &dyn Progress) -> Result<(), Error> {
    reserve(file, plan.length)?;
    let mut entries: Vec<_> = plan.entries.iter().collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.content.len()));
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let work = || {
        while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = place(store, entry, file, progress) {
                failed.lock().expect("no worker panics").get_or_insert(error);
                // Nothing more to take, for anybody.
                next.store(entries.len(), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_ONCE {
            scope.spawn(work);
        }
        work();
    });
    failed.into_inner().expect("no worker panics").map_or(Ok(()), Err)
}

/// Makes the file as long as it will be: a disk that is too small says so at once. Padding and end are zeros already.
fn reserve(file: &File, length: u64) -> Result<(), Error> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {
            Ok(file.set_len(length).context("write", "the archive")?)
        }
        Err(error) => Err(unwritten(error.into())),
    }
}

fn place(store: &Store, entry: &Entry, file: &File, progress: &dyn Progress) -> Result<(), Error> {
    file.write_all_at(&entry.header, entry.offset).map_err(unwritten)?;
    let at = entry.offset + entry.header.len() as u64;
    content(store, &entry.content, &mut Place { file, at }, progress)
}

/// Writes the content of an entry, which is as long as was planned.
fn content(
    store: &Store,
    content: &Content,
    out: &mut (dyn Write + Send),
    progress: &dyn Progress,
) -> Result<(), Error> {
    match content {
        Content::Bytes(bytes) => out.write_all(bytes).map_err(unwritten),
        Content::Layer { chain, diff, size } => {
            let item = diff.short();
            progress.item(&item, Status::Saving { done: 0, total: *size });
            let mut exact = Exact { out, left: *size, total: *size, progress, item: &item };
            store.layers().write_tar(*chain, &mut exact)?;
            let left = exact.left;
            if left > 0 {
                return Err(Error::Save {
                    object: format!("layer {diff}"),
                    reason: format!("its tar is {left} bytes short"),
                });
            }
            progress.item(&item, Status::Saved);
            Ok(())
        }
    }
}

fn unwritten(source: io::Error) -> Error {
    strata_archive::Error::Stream { action: "write the archive", source }.into()
}

/// A place in a file.
struct Place<'a> {
    file: &'a File,
    at: u64,
}

impl Write for Place<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes no more bytes than were planned: beyond lies the next entry.
struct Exact<'a> {
    out: &'a mut (dyn Write + Send),
    left: u64,
    total: u64,
    progress: &'a dyn Progress,
    item: &'a str,
}

impl Write for Exact<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("the layer's tar is longer than its record says"));
        }
        let written = self.out.write(bytes)?;
        self.left -= written as u64;
        let done = self.total - self.left;
        self.progress.item(self.item, Status::Saving { done, total: self.total });
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
