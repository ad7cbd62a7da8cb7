//! Bodies of responses.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

use super::splice::{Spans, stand_in};
use crate::storage::ReadAt;

/// The body of a response.
pub enum Body {
    /// Bytes in memory.
    Bytes(Option<Bytes>),
    /// A part of a file that the connection sends by `sendfile`: see [`super::splice`].
    File {
        /// The file.
        file: Arc<std::fs::File>,
        /// Offset of the next byte.
        offset: u64,
        /// Remaining bytes.
        left: u64,
        /// The connection's parts of files to send.
        spans: Spans,
    },
    /// Pieces that another thread reads.
    Pieces {
        /// Pieces in order.
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        /// Remaining bytes.
        left: u64,
    },
}

impl Body {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self::Bytes(None)
    }

    /// Reads `len` bytes from `offset` on another thread, a few pieces ahead of the connection.
    pub fn read(source: Arc<dyn ReadAt>, offset: u64, len: u64, piece: usize) -> Self {
        let (sender, pieces) = mpsc::channel(2);
        tokio::spawn(async move {
            let (mut at, end) = (offset, offset + len);
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece);
                let source = source.clone();
                let read = tokio::task::spawn_blocking(move || source.read_at(at, want)).await;
                let read = read.map_err(io::Error::other).and_then(|read| read.map_err(io::Error::other));
                let is_over = read.as_ref().map_or(true, Bytes::is_empty);
                at += read.as_ref().map_or(0, |bytes| bytes.len() as u64);
                if sender.send(read).await.is_err() || is_over {
                    return;
                }
            }
        });
        Self::Pieces { pieces, left: len }
    }

    /// Remaining bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File { left, .. } | Self::Pieces { left, .. } => *left,
        }
    }

    /// Whether no bytes remain.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Some(bytes.into()))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Bytes(bytes) => {
                Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::File { left: 0, .. } => Poll::Ready(None),
            Self::File { file, offset, left, spans } => {
                let piece = stand_in(*left);
                let len = piece.len() as u64;
                spans.push(file.clone(), *offset, len);
                (*offset, *left) = (*offset + len, *left - len);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Self::Pieces { left: 0, .. } => Poll::Ready(None),
            Self::Pieces { pieces, left } => match std::task::ready!(pieces.poll_recv(context)) {
                Some(Ok(bytes)) if !bytes.is_empty() && bytes.len() as u64 <= *left => {
                    *left -= bytes.len() as u64;
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                Some(Err(error)) => Poll::Ready(Some(Err(error))),
                // Cuts the connection: a short response must not look complete.
                Some(Ok(_)) | None => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len())
    }
}
