//! Files sent by `sendfile`, without passing through this process.
//!
//! The HTTP library writes a response from pieces of memory. For a file it gets *stand-ins*: pieces of one untouched range of memory, as
//! long as the part of the file. They arrive in order at the connection, which recognizes them by their address and has the kernel send
//! the file's bytes instead. Counting, framing and retries in the library stay as they are.
//!
//! ```text
//! body ──stand-ins──> HTTP library ──slices──> SpliceStream::poll_write_vectored ── memory? ──> writev
//!   └──(file, offset, length)──> Spans ───────────────────┘                     └── stand-in? ─> sendfile
//! ```

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// Size of the stand-in. Its zeros are never written or read, so that they occupy no memory.
const STAND_IN: usize = 64 << 20;
/// Bytes sent on one connection before others have their turn.
const TURN: usize = 1 << 20;

fn memory() -> &'static [u8] {
    static MEMORY: OnceLock<&'static [u8]> = OnceLock::new();
    MEMORY.get_or_init(|| Box::leak(vec![0u8; STAND_IN].into_boxed_slice()))
}

/// Returns a stand-in for up to `len` bytes of a file.
pub fn stand_in(len: u64) -> Bytes {
    let len = usize::try_from(len).unwrap_or(STAND_IN).min(STAND_IN);
    Bytes::from_static(&memory()[..len])
}

fn is_stand_in(slice: &[u8]) -> bool {
    memory().as_ptr_range().contains(&slice.as_ptr())
}

/// Parts of files that a connection has yet to send, in order. The bodies and the stream of a connection share it.
#[derive(Clone, Default)]
pub struct Spans(Arc<Mutex<VecDeque<Span>>>);

struct Span {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Spans {
    /// Adds a part of a file, whose stand-in of `len` bytes the library gets next.
    pub fn push(&self, file: Arc<File>, offset: u64, len: u64) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push_back(Span { file, offset, left: len });
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).is_empty()
    }

    /// Sends up to `len` bytes of the first part to `socket`.
    fn send(&self, socket: &TcpStream, len: usize) -> io::Result<usize> {
        let mut spans = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(span) = spans.front_mut() else {
            return Err(io::Error::other("a stand-in without its file"));
        };
        let count = usize::try_from(span.left).unwrap_or(usize::MAX).min(len).min(TURN);
        let sent = rustix::fs::sendfile(socket, &span.file, Some(&mut span.offset), count)?;
        if sent == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent"));
        }
        span.left -= sent as u64;
        if span.left == 0 {
            spans.pop_front();
        }
        Ok(sent)
    }
}

/// A connection that sends files in place of stand-ins.
pub struct SpliceStream {
    stream: TcpStream,
    spans: Spans,
}

impl SpliceStream {
    /// Wraps a connection that sends the parts in `spans`.
    pub fn new(stream: TcpStream, spans: Spans) -> Self {
        Self { stream, spans }
    }
}

impl AsyncRead for SpliceStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

impl AsyncWrite for SpliceStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(first) = slices.iter().position(|slice| !slice.is_empty()) else { return Poll::Ready(Ok(0)) };
        let slices = &slices[first..];
        if !is_stand_in(&slices[0]) {
            let memory = slices.iter().position(|slice| is_stand_in(slice)).unwrap_or(slices.len());
            return Pin::new(&mut this.stream).poll_write_vectored(context, &slices[..memory]);
        }
        loop {
            std::task::ready!(this.stream.poll_write_ready(context))?;
            let sent = this.stream.try_io(Interest::WRITABLE, || this.spans.send(&this.stream, slices[0].len()));
            match sent {
                // No longer writable; the next iteration waits.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The library has written everything: a remaining part means that its stand-in was copied, and zeros were sent.
        if !self.spans.is_empty() {
            return Poll::Ready(Err(io::Error::other("a file's stand-in was sent in its place")));
        }
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
