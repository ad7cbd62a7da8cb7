//! A blob on its way to a registry, gone on with where it was cut off.
//!
//! ```text
//! POST  /v2/<name>/blobs/uploads/                  202 with a Location; OCI-Chunk-Min-Length: what a chunk has at least
//!
//! a digest that is known     PUT <Location>?digest=<digest>     all of it, as it comes                                201
//! one that is not            PATCH <Location>                   all of it, as it comes                                202
//!                            PUT <Location>?digest=<digest>                                                           201
//! after a cut                GET <Location>                     204, Range: 0-8388607: how much has arrived
//!                            PATCH <Location>                   Content-Range: 8388608-16777215                       202
//!                            …                                                                                        202
//!                            PUT <Location>?digest=<digest>                                                           201
//! ```
//!
//! One request with all of it costs a registry one write to its disk, and its client no more memory than the pieces under way. What was cut off once, or
//! is too much for one request (413), goes on in chunks of a fixed size, which whatever lies between lets pass, and of which each counts when it was answered.
//!
//! Every byte is digested once, before it goes; states of the digest are remembered on the way, so that going on begins near to where the registry is.
//! Where the digest is known, the last piece is held back until it was found right: bytes that a source spoilt never make a blob.
//!
//! Source: OCI distribution-spec 1.1, "Pushing blobs".

use std::io;

use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, Url,
    header::{CONTENT_RANGE, CONTENT_TYPE},
};
use strata_spec::{Algorithm, Cancel, Digest, Hasher};
use tokio::sync::mpsc;

use super::{
    source::{Pieces, Source},
    upload::{Body, OCTETS, Target, closing, lost},
};
use crate::{
    Error,
    http::{self, ATTEMPTS, Call},
};

/// Bytes of a blob that goes in one request with its end, when its digest was not known.
const SMALL: usize = 1 << 20;
/// Bytes of a chunk, if the registry does not want more.
const CHUNK: u64 = 8 << 20;
/// Bytes of the largest chunk, which is held in memory.
const CHUNK_MAX: u64 = 16 << 20;
/// Pieces on their way to the network.
const UNDER_WAY: usize = 4;
/// Bytes between two remembered states of the digest.
const BETWEEN: u64 = 4 << 20;
/// Times that a whole upload is begun anew.
const RESTARTS: usize = 3;

impl Target<'_> {
    /// Sends a blob. `sent` is told how much has gone. Returns the blob's digest and size in bytes.
    pub fn send(&self, source: &dyn Source, sent: &(dyn Fn(u64) + Sync)) -> Result<(Digest, u64), Error> {
        let sums = Sums::new(source.known().map_or(Algorithm::Sha256, |(digest, _)| digest.algorithm()));
        let mut sending = Sending { target: self, source, sent, sums, in_chunks: false, upload: None };
        for _ in 0..RESTARTS {
            match lost(sending.run()) {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => tracing::warn!(repository = self.repository, "the upload was lost; sending it again"),
                Err(error) => {
                    if let Some(upload) = sending.upload {
                        self.abandon(upload);
                    }
                    return Err(error);
                }
            }
        }
        Err(Error::invalid(self.repository, format!("lost the upload of a layer {RESTARTS} times")))
    }
}

/// One blob that is being sent.
struct Sending<'s> {
    target: &'s Target<'s>,
    source: &'s dyn Source,
    sent: &'s (dyn Fn(u64) + Sync),
    sums: Sums,
    /// Whether all of it in one request was tried, and cut off.
    in_chunks: bool,
    /// The upload that was begun, and is not closed.
    upload: Option<Url>,
}

/// Where an upload goes on.
struct At {
    url: Url,
    /// Bytes that have arrived.
    have: u64,
    /// The most that had ever arrived.
    most: u64,
    /// Failures since there was more.
    failures: u32,
}

impl Sending<'_> {
    /// Sends it in one upload.
    fn run(&mut self) -> Result<(Digest, u64), Error> {
        let halt = self.target.cancel.child();
        self.sums.back_to(0);
        let mut from = Reader::new(self.source.open(0, &halt));
        if self.source.known().is_none() {
            let first = from.gather(SMALL)?;
            if first.len() < SMALL {
                self.sums.add(&first);
                let (digest, size) = self.finished()?;
                self.target.finish(None, 0, first, digest)?;
                (self.sent)(size);
                return Ok((digest, size));
            }
            from.over.push(first);
        }
        let (url, least) = self.target.begin()?;
        self.upload = Some(url.clone());
        let len = usize::try_from(CHUNK.max(least).min(CHUNK_MAX)).expect("16 MiB");
        if self.in_chunks {
            return self.chunks(At { url, have: 0, most: 0, failures: 0 }, len);
        }
        let error = match self.whole(&url, from, &halt) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        // A token that has ended was replaced by a new one.
        let again = matches!(error, Error::Status { status: 401 | 413 | 416, .. });
        if !(error.is_transient() || again) {
            return Err(error);
        }
        tracing::debug!(%error, "the upload was cut off; going on in chunks");
        self.in_chunks = true;
        self.target.pause(1, error.wait())?;
        if let Some((digest, size)) = self.source.known()
            && self.target.has(digest)? == Some(size)
        {
            // Only the answer was lost.
            return Ok((digest, size));
        }
        let (url, have) = self.target.arrived(&url)?;
        self.chunks(At { url, have, most: have, failures: 0 }, len)
    }

    /// Digest and size of what was read to its end, if they are those that were known.
    fn finished(&self) -> Result<(Digest, u64), Error> {
        let (found, size) = (self.sums.hasher.clone().finish(), self.sums.at);
        match self.source.known() {
            Some((digest, known)) if known != size => {
                Err(Error::Length { object: format!("blob {digest}"), expected: known, found: size })
            }
            Some((digest, _)) if digest != found => {
                let object = format!("blob {digest}");
                Err(Error::Digest { object, expected: Box::new(digest), found: Box::new(found) })
            }
            _ => Ok((found, size)),
        }
    }

    /// Sends all of it in one request, and closes the upload.
    fn whole(&mut self, upload: &Url, from: Reader<'_>, halt: &Cancel) -> Result<(Digest, u64), Error> {
        let (target, known) = (self.target, self.source.known());
        let (to, pieces) = mpsc::channel(UNDER_WAY);
        let body = reqwest::Body::wrap(Body::new(pieces, known.map(|(_, size)| size)));
        let call = match known {
            Some((digest, _)) => Call::new(Method::PUT, closing(upload, digest), &target.scope()),
            None => Call::new(Method::PATCH, upload.clone(), &target.scope()),
        };
        let call = call.header(CONTENT_TYPE, OCTETS);
        let (answer, read) = std::thread::scope(|scope| {
            let reading = scope.spawn(|| self.feed(from, to));
            let answer = target.wait(async {
                let response = target.remote.stream(&call, body).await?;
                target.arrived_at(upload, response).await
            });
            if answer.is_err() {
                halt.cancel();
            }
            (answer, reading.join().expect("reading a layer does not panic"))
        });
        let (next, came) = match (answer, read) {
            (Err(error), Ok(()) | Err(Error::Stopped)) => return Err(error),
            (_, Err(error)) => return Err(error),
            (Ok(answer), Ok(())) => answer,
        };
        let (digest, size) = self.finished()?;
        if known.is_none() {
            if let Some(came) = came.filter(|came| *came != size) {
                return Err(short(upload, came, size));
            }
            target.finish(Some(next), size, Bytes::new(), digest)?;
        }
        Ok((digest, size))
    }

    /// Gives what is read to the network as fast as it takes it; what is known by its digest, the last piece when that was found right.
    fn feed(&mut self, from: Reader<'_>, to: mpsc::Sender<io::Result<Bytes>>) -> Result<(), Error> {
        let known = self.source.known().is_some();
        let read = || {
            let mut held = None;
            for piece in from {
                let piece = piece?;
                self.sums.add(&piece);
                let next = if known { held.replace(piece) } else { Some(piece) };
                if let Some(next) = next
                    && to.blocking_send(Ok(next)).is_err()
                {
                    return Err(Error::Stopped);
                }
                (self.sent)(self.sums.at);
            }
            self.finished()?;
            // Where nobody takes it any more, the answer says why.
            held.map(|last| to.blocking_send(Ok(last)));
            Ok(())
        };
        let result = read();
        if result.is_err() {
            // The request must not end as if this were all.
            let _ = to.blocking_send(Err(io::Error::other("the layer cannot be read")));
        }
        result
    }

    /// Sends what is left in chunks of `len` bytes, and closes the upload.
    fn chunks(&mut self, mut at: At, len: usize) -> Result<(Digest, u64), Error> {
        loop {
            if let Some(done) = self.chunks_from(&mut at, len)? {
                return Ok(done);
            }
        }
    }

    /// The same, as long as the registry does not go back behind a chunk that it had.
    fn chunks_from(&mut self, at: &mut At, len: usize) -> Result<Option<(Digest, u64)>, Error> {
        let halt = self.target.cancel.child();
        let begin = self.sums.back_to(at.have);
        let mut from = Reader::new(self.source.open(begin, &halt));
        // What lies between the remembered digest and what has arrived is digested again, and not sent.
        let between = from.gather((at.have - begin) as usize)?;
        self.sums.add(&between);
        loop {
            let chunk = from.gather(len)?;
            self.sums.add(&chunk);
            if chunk.is_empty() {
                let (digest, size) = self.finished()?;
                self.target.finish(Some(at.url.clone()), size, Bytes::new(), digest)?;
                return Ok(Some((digest, size)));
            }
            let end = at.have + chunk.len() as u64;
            self.chunk(at, chunk)?;
            if at.have != end {
                return Ok(None);
            }
            (self.sent)(end);
        }
    }

    /// Sends one chunk until it has arrived, or the registry is somewhere else.
    fn chunk(&self, at: &mut At, chunk: Bytes) -> Result<(), Error> {
        let (begin, end) = (at.have, at.have + chunk.len() as u64);
        while (begin..end).contains(&at.have) {
            let left = chunk.slice((at.have - begin) as usize..);
            let error = match self.patch(at, left) {
                Ok((next, came)) if came.is_none_or(|came| came == end) => {
                    (at.url, at.have, at.most, at.failures) = (next, end, end.max(at.most), 0);
                    return Ok(());
                }
                Ok((_, came)) => short(&at.url, came.unwrap_or_default(), end),
                Err(error) => error,
            };
            tracing::debug!(%error, begin = at.have, end, "the chunk was cut off");
            at.failures += 1;
            let again = error.is_transient() || matches!(error, Error::Status { status: 416, .. });
            if at.failures == ATTEMPTS || !again {
                return Err(error);
            }
            self.target.pause(at.failures, error.wait())?;
            (at.url, at.have) = self.target.arrived(&at.url)?;
            if at.have > at.most {
                (at.most, at.failures) = (at.have, 0);
            }
        }
        Ok(())
    }

    /// One request with a chunk.
    fn patch(&self, at: &At, chunk: Bytes) -> Result<(Url, Option<u64>), Error> {
        let range = format!("{}-{}", at.have, at.have + chunk.len() as u64 - 1);
        let call = Call::new(Method::PATCH, at.url.clone(), &self.target.scope())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_RANGE, &range)
            .body(chunk);
        self.target.wait(async {
            let response = self.target.remote.try_once(&call).await?;
            self.target.arrived_at(&at.url, response).await
        })
    }
}

fn short(upload: &Url, came: u64, size: u64) -> Error {
    let reason = format!("it took {came} of {size} bytes");
    Error::Network { action: "send to", url: http::shown(upload), reason }
}

/// The digest of what was read so far, with its states on the way.
struct Sums {
    hasher: Hasher,
    /// Bytes that are in it.
    at: u64,
    /// States, and how many bytes were in each; the first is at 0.
    kept: Vec<(u64, Hasher)>,
}

impl Sums {
    fn new(algorithm: Algorithm) -> Self {
        let hasher = Hasher::new(algorithm);
        Self { kept: vec![(0, hasher.clone())], hasher, at: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        if self.at >= self.kept.last().map_or(0, |(at, _)| *at) + BETWEEN {
            self.kept.push((self.at, self.hasher.clone()));
        }
    }

    /// Goes back to the last state that is not behind byte `have`; returns where that is.
    fn back_to(&mut self, have: u64) -> u64 {
        let known = self.kept.partition_point(|(at, _)| *at <= have);
        self.kept.truncate(known);
        let (at, hasher) = self.kept.last().expect("the first is at 0");
        (self.at, self.hasher) = (*at, hasher.clone());
        self.at
    }
}

/// Reads pieces, or as many bytes as are wanted.
struct Reader<'a> {
    pieces: Pieces<'a>,
    /// What was read and is not taken yet; the next is the last.
    over: Vec<Bytes>,
}

impl<'a> Reader<'a> {
    fn new(pieces: Pieces<'a>) -> Self {
        Self { pieces, over: Vec::new() }
    }

    /// The next `len` bytes; fewer are the last.
    fn gather(&mut self, len: usize) -> Result<Bytes, Error> {
        let mut taken = BytesMut::new();
        while taken.len() < len {
            let Some(mut piece) = self.next().transpose()? else { break };
            let over = piece.split_off(piece.len().min(len - taken.len()));
            self.over.extend(Some(over).filter(|over| !over.is_empty()));
            taken.extend_from_slice(&piece);
        }
        Ok(taken.freeze())
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.over.pop().map(Ok).or_else(|| self.pieces.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_goes_back_and_on() {
        let bytes: Vec<u8> = (0..(3 * BETWEEN + 500_000)).map(|n| (n / 7 % 251) as u8).collect();
        let mut sums = Sums::new(Algorithm::Sha256);
        bytes.chunks(100_000).for_each(|piece| sums.add(piece));
        assert_eq!(sums.kept.len(), 4);
        for have in [3 * BETWEEN + 400_000, 2 * BETWEEN, BETWEEN + 5, 17, 0] {
            let at = sums.back_to(have);
            assert!(at <= have && have - at < BETWEEN + 100_000, "{have}: {at}");
            let mut on = Sums { hasher: sums.hasher.clone(), at, kept: sums.kept.clone() };
            bytes[at as usize..].chunks(77_777).for_each(|piece| on.add(piece));
            assert_eq!((on.hasher.finish(), on.at), (Digest::sha256(&bytes), bytes.len() as u64), "{have}");
        }
    }

    #[test]
    fn a_reader_gives_what_is_wanted() {
        let pieces = [&b"ab"[..], b"cdefg", b"h"].into_iter().map(|piece| Ok(Bytes::from_static(piece)));
        let mut reader = Reader::new(Box::new(pieces));
        for wanted in ["abc", "d", "ef"] {
            assert_eq!(reader.gather(wanted.len()).unwrap(), wanted);
        }
        assert_eq!(reader.next().unwrap().unwrap(), "g");
        assert_eq!((reader.gather(5).unwrap(), reader.gather(5).unwrap()), ("h".into(), "".into()));
    }
}
