//! Early write-back: what a layer brings goes to the disk while the rest of it still comes, so that the sync before the layer is
//! registered finds little left to do.

use std::{
    io::{self, Read, Write},
    panic,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use crate::{Error, Store};

/// Bytes after which writing begins. A smaller layer waits for the one sync at its end.
const EACH: u64 = 64 << 20;

/// A reader or writer that says when another [`EACH`] bytes have passed.
pub(crate) struct Counted<T> {
    stream: T,
    passed: u64,
    due: SyncSender<()>,
}

impl<T> Counted<T> {
    pub fn new(stream: T, due: SyncSender<()>) -> Self {
        Self { stream, passed: 0, due }
    }

    fn passed(&mut self, bytes: usize) {
        self.passed += bytes as u64;
        if self.passed >= EACH {
            self.passed = 0;
            // One that is asked for already, and not begun, will do.
            let _ = self.due.try_send(());
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(into)?;
        self.passed(read);
        Ok(read)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        self.passed(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Store {
    /// Runs `work`, and syncs the driver's filesystem beside it each time that [`Counted`] says so.
    ///
    /// A write-back that fails makes this fail: the kernel tells of it once, and a later sync would not know.
    pub(crate) fn flushing<T>(&self, work: impl FnOnce(SyncSender<()>) -> Result<T, Error>) -> Result<T, Error> {
        let (due, asked) = sync_channel(1);
        thread::scope(|scope| {
            let flusher = scope.spawn(move || asked.iter().try_for_each(|()| self.driver.sync()));
            let done = work(due);
            let flushed = flusher.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
            let done = done?;
            flushed?;
            Ok(done)
        })
    }
}
