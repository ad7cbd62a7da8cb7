//! What is sent to a registry: bytes in pieces, which can be had again from any place on, always the same.
//!
//! | | where its bytes come from |
//! | --- | --- |
//! | [`Document`] | memory |
//! | [`Relay`] | another registry, as they come; gone on with by a range where they stop |
//! | [`Made`] | a layer, rebuilt and compressed anew each time |

use std::time::Instant;

use bytes::Bytes;
use reqwest::Response;
use strata_spec::{Cancel, Digest};

use crate::{
    Error,
    http::{self, network},
    pull::fetch::{Fetch, PROGRESS, Turns, Wanted},
};

/// Pieces in their order, none of them empty; an error is the last.
pub(crate) type Pieces<'a> = Box<dyn Iterator<Item = Result<Bytes, Error>> + Send + 'a>;

/// A blob that can be sent.
pub(crate) trait Source: Sync {
    /// Its digest and size in bytes, where they are known before it was read.
    fn known(&self) -> Option<(Digest, u64)>;
    /// Its bytes from byte `at` on. Waiting for them ends with `halt`.
    fn open<'a>(&'a self, at: u64, halt: &'a Cancel) -> Pieces<'a>;
}

/// A document that is at hand.
pub(crate) struct Document<'a> {
    pub digest: Digest,
    pub bytes: &'a [u8],
}

impl Source for Document<'_> {
    fn known(&self) -> Option<(Digest, u64)> {
        Some((self.digest, self.bytes.len() as u64))
    }

    fn open<'a>(&'a self, at: u64, _: &'a Cancel) -> Pieces<'a> {
        let rest = self.bytes.get(at as usize..).filter(|rest| !rest.is_empty());
        Box::new(rest.map(|rest| Ok(Bytes::copy_from_slice(rest))).into_iter())
    }
}

/// What is made anew each time, from its beginning.
pub(crate) struct Made<'s>(pub Box<dyn Fn() -> Pieces<'s> + Sync + 's>);

impl Source for Made<'_> {
    fn known(&self) -> Option<(Digest, u64)> {
        None
    }

    fn open<'a>(&'a self, at: u64, _: &'a Cancel) -> Pieces<'a> {
        Box::new(behind(self.0(), at))
    }
}

/// `pieces` without their first `skip` bytes.
pub(crate) fn behind(
    pieces: impl Iterator<Item = Result<Bytes, Error>>,
    mut skip: u64,
) -> impl Iterator<Item = Result<Bytes, Error>> {
    pieces.filter_map(move |piece| match piece {
        Ok(mut piece) => {
            let over = skip.min(piece.len() as u64);
            skip -= over;
            drop(piece.split_to(over as usize));
            (!piece.is_empty()).then_some(Ok(piece))
        }
        Err(error) => Some(Err(error)),
    })
}

/// A blob of another registry.
pub(crate) struct Relay<'a> {
    pub fetch: &'a Fetch<'a>,
    pub wanted: Wanted,
}

impl Source for Relay<'_> {
    fn known(&self) -> Option<(Digest, u64)> {
        Some((self.wanted.digest, self.wanted.size))
    }

    fn open<'a>(&'a self, at: u64, halt: &'a Cancel) -> Pieces<'a> {
        let turns = Turns::new(self.fetch.places(&self.wanted));
        Box::new(Relayed { relay: self, halt, turns, answer: None, have: at, began: at, ended: false })
    }
}

/// The bytes of a relay, as they come.
struct Relayed<'a> {
    relay: &'a Relay<'a>,
    halt: &'a Cancel,
    turns: Turns,
    /// What brings them, and how many of its next bytes are to be left out.
    answer: Option<(Response, u64)>,
    have: u64,
    /// Where the last request began.
    began: u64,
    ended: bool,
}

impl Relayed<'_> {
    async fn piece(&mut self) -> Result<Bytes, Error> {
        let wanted = &self.relay.wanted;
        if self.answer.is_none() {
            self.began = self.have;
            self.answer = Some(self.relay.fetch.ask(self.turns.place(), wanted, self.have).await?);
        }
        let (response, skip) = self.answer.as_mut().expect("it was just put there");
        loop {
            let piece = response.chunk().await;
            let piece = piece.map_err(|error| network("read from", response.url(), &error))?;
            let Some(mut piece) = piece else {
                let reason = format!("it ends after {} of {} bytes", self.have, wanted.size);
                return Err(Error::Network { action: "read from", url: http::shown(response.url()), reason });
            };
            let over = piece.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
            *skip -= over as u64;
            drop(piece.split_to(over));
            if piece.is_empty() {
                continue;
            }
            self.have += piece.len() as u64;
            if self.have > wanted.size {
                let object = format!("blob {}", wanted.digest);
                return Err(Error::Length { object, expected: wanted.size, found: self.have });
            }
            return Ok(piece);
        }
    }
}

impl Iterator for Relayed<'_> {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (fetch, halt, size) = (self.relay.fetch, self.halt, self.relay.wanted.size);
        let begun = Instant::now();
        let piece = loop {
            if self.ended || self.have == size {
                return None;
            }
            let error = match fetch.net.until(halt, self.piece()) {
                Ok(piece) => break Ok(piece),
                Err(error) => error,
            };
            self.answer = None;
            tracing::debug!(blob = %self.relay.wanted.digest, have = self.have, %error, "the source was cut off");
            let moved = self.have - self.began >= PROGRESS.min(size);
            if let Err(error) = fetch.net.until(halt, self.turns.next(error, moved)) {
                self.ended = true;
                break Err(error);
            }
        };
        fetch.times.download.add(begun.elapsed());
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_left_out() {
        let pieces = || [&b"ab"[..], b"cde", b"f"].into_iter().map(|piece| Ok(Bytes::from_static(piece)));
        for (skip, rest) in [(0, "abcdef"), (1, "bcdef"), (2, "cdef"), (4, "ef"), (6, ""), (9, "")] {
            let found: Vec<Bytes> = behind(pieces(), skip).map(Result::unwrap).collect();
            assert!(found.iter().all(|piece| !piece.is_empty()), "{skip}");
            assert_eq!(found.concat(), rest.as_bytes(), "{skip}");
        }
        let document = Document { digest: Digest::sha256("abc"), bytes: b"abc" };
        let halt = Cancel::new();
        let rest = |at| document.open(at, &halt).map(Result::unwrap).collect::<Vec<_>>().concat();
        assert_eq!((rest(0), rest(2), rest(3), rest(7)), (b"abc".to_vec(), b"c".to_vec(), vec![], vec![]));
    }
}
