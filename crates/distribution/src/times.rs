//! Where the time of a pull went.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Sums over all threads, so that together they may be more than the time that passed.
#[derive(Debug, Default)]
pub struct Times {
    /// Finding registry, manifest and config.
    pub resolve: Sum,
    /// Requests for blobs, from sending to their last byte; with what is below.
    pub download: Sum,
    /// The blobs' digests.
    pub verify: Sum,
    /// Unpackers waiting for bytes.
    pub waiting: Sum,
    /// Decompression.
    pub inflate: Sum,
    /// Taking tars apart, their digests, and writing files, as far as decompression waits for it.
    pub write: Sum,
    /// Putting it on disk and registering.
    pub sync: Sum,
    /// Everything, on the clock.
    pub total: Sum,
    /// Bytes that came over the network.
    pub bytes: AtomicU64,
}

impl Times {
    /// Each part with its name, in the order in which they come.
    pub fn parts(&self) -> [(&'static str, Duration); 7] {
        [
            ("resolve", self.resolve.get()),
            ("download", self.download.get()),
            ("verify", self.verify.get()),
            ("inflate", self.inflate.get()),
            ("write", self.write.get()),
            ("sync", self.sync.get()),
            ("total", self.total.get()),
        ]
    }
}

/// A sum of durations, from several threads.
#[derive(Debug, Default)]
pub struct Sum(AtomicU64);

impl Sum {
    /// Adds one.
    pub fn add(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }
}
