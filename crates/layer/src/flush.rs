//! Early write-back: what a layer brings goes to the disk while the rest of it still comes, so that the sync before the layer is
//! registered finds little left to do.

use std::{
    io::{self, Read, Write},
    panic,
    sync::{OnceLock, mpsc::sync_channel},
    thread,
};

use crate::{Error, Store};

/// Bytes after which writing begins. A smaller layer waits for the one sync at its end.
const EACH: u64 = 64 << 20;

/// Told that it is time to write back.
pub(crate) type Due<'d> = &'d (dyn Fn() + Sync);

/// A reader or writer that says when another [`EACH`] bytes have passed.
pub(crate) struct Counted<'d, T> {
    stream: T,
    passed: u64,
    due: Due<'d>,
}

impl<'d, T> Counted<'d, T> {
    pub fn new(stream: T, due: Due<'d>) -> Self {
        Self { stream, passed: 0, due }
    }

    fn passed(&mut self, bytes: usize) {
        self.passed += bytes as u64;
        if self.passed >= EACH {
            self.passed = 0;
            (self.due)();
        }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(into)?;
        self.passed(read);
        Ok(read)
    }
}

impl<W: Write> Write for Counted<'_, W> {
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
    /// Runs `work`, and syncs the driver's filesystem beside it each time that [`Counted`] says so, on a thread that the first time starts.
    ///
    /// A write-back that fails makes this fail: the kernel tells of it once, and a later sync would not know.
    pub(crate) fn flushing<T>(&self, work: impl FnOnce(Due<'_>) -> Result<T, Error>) -> Result<T, Error> {
        thread::scope(|scope| {
            let flusher = OnceLock::new();
            let done = work(&|| {
                let (ask, _) = flusher.get_or_init(|| {
                    let (ask, asked) = sync_channel(1);
                    (ask, scope.spawn(move || asked.iter().try_for_each(|()| self.driver.sync())))
                });
                // One that is asked for already, and not begun, will do.
                let _ = ask.try_send(());
            });
            let Some((ask, flusher)) = flusher.into_inner() else { return done };
            drop(ask);
            let flushed = flusher.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
            let done = done?;
            flushed?;
            Ok(done)
        })
    }
}
