//! Early write-back: what a layer brings goes to the disk while the rest of it still comes, so that the sync before the layer is
//! registered finds little left to do.

use std::{
    io::{self, Read},
    panic,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use crate::{Error, Store};

/// Bytes after which writing begins. A smaller layer waits for the one sync at its end.
const EACH: u64 = 64 << 20;

/// An input that says when another [`EACH`] bytes have passed.
pub(crate) struct Counted<R> {
    input: R,
    passed: u64,
    due: SyncSender<()>,
}

impl<R> Counted<R> {
    pub fn new(input: R, due: SyncSender<()>) -> Self {
        Self { input, passed: 0, due }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.passed += read as u64;
        if self.passed >= EACH {
            self.passed = 0;
            // One that is asked for already, and not begun, will do.
            let _ = self.due.try_send(());
        }
        Ok(read)
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
