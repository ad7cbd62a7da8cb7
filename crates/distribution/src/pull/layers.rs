//! The layers of an image as the image store reads them: inflated while they arrive.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex},
    time::Instant,
};

use strata_archive::{Limits, compression::decompress};
use strata_image::load;
use strata_spec::progress::{Progress, Status};

use super::fetch::{Blob, Queue};
use crate::times::Times;

/// The layers of one image.
pub(crate) struct Layers<'a> {
    pub queue: &'a Queue,
    pub limits: &'a Limits,
    pub progress: &'a dyn Progress,
    pub times: &'a Arc<Times>,
    /// When the last layer was unpacked.
    pub unpacked: Mutex<Instant>,
}

impl load::Source for Layers<'_> {
    fn blob(&self, name: &str) -> Result<Option<load::Blob<'_>>, strata_image::Error> {
        let Some(blob) = self.queue.blobs.iter().find(|blob| blob.wanted.digest.to_string() == name) else {
            return Ok(None);
        };
        let layer = Layer { layers: self, blob: blob.clone(), id: blob.short(), inflated: None, left: None };
        Ok(Some(load::Blob { size: blob.wanted.size, reader: Box::new(layer) }))
    }
}

/// A layer's tar.
struct Layer<'a> {
    layers: &'a Layers<'a>,
    blob: Arc<Blob>,
    id: String,
    /// Made with the first read: until then nothing of the blob may be here.
    inflated: Option<Box<dyn Read + Send>>,
    /// When the last read returned.
    left: Option<Instant>,
}

impl Read for Layer<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (begun, times, arriving) = (Instant::now(), self.layers.times, &self.blob.arriving);
        if let Some(left) = self.left {
            times.write.add(begun - left);
        }
        let waited = arriving.waited();
        let reader = match &mut self.inflated {
            Some(reader) => reader,
            None => {
                let (reader, _) = decompress(arriving.tail(), self.layers.limits).map_err(io::Error::other)?;
                self.inflated.insert(reader)
            }
        };
        let read = reader.read(into)?;
        let (done, total) = (arriving.read_up_to(), self.blob.wanted.size);
        self.layers.progress.item(&self.id, Status::Extracting { done, total });
        if read == 0 {
            // A decoder may end before its input does: the digest is of all of it.
            arriving.wait_whole()?;
            *self.layers.unpacked.lock().expect("nothing panics while it holds this") = Instant::now();
        }
        let waited = arriving.waited().saturating_sub(waited);
        times.waiting.add(waited);
        times.inflate.add(begun.elapsed().saturating_sub(waited));
        self.left = Some(Instant::now());
        Ok(read)
    }
}
