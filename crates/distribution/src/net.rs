//! The crossing between threads and the network.

use std::{future::Future, io};

use strata_durable::Context;
use strata_spec::Cancel;
use tokio::runtime::{Builder, Runtime};

use crate::Error;

/// Threads that move bytes between sockets and whoever waits for them.
const WORKERS: usize = 2;

/// The asynchronous side. The stores are plain functions on threads, and come here when they need the network.
#[derive(Debug)]
pub struct Net(Runtime);

impl Net {
    pub fn new() -> Result<Self, Error> {
        let built: io::Result<Runtime> = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
        Ok(Self(built.context("start threads for", "the network")?))
    }

    /// Runs `work` to its end on the calling thread, which may be any but one of the network's own.
    pub fn wait<F: Future>(&self, work: F) -> F::Output {
        self.0.block_on(work)
    }

    /// Runs `work` to its end on the calling thread, or drops it in the middle when `cancel` is cancelled.
    pub(crate) fn until<T>(&self, cancel: &Cancel, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.wait(async {
            tokio::select! {
                result = work => result,
                () = cancel.cancelled() => Err(Error::Stopped),
            }
        })
    }
}
