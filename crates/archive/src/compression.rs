//! gzip, zstd, xz, bzip2 and plain input, recognised by content.

use std::{
    io::{self, BufReader, Cursor, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use crate::{Error, Limits, gzip};

/// Bytes of compressed input read at once.
const BUFFER: usize = 256 << 10;

/// Bytes out that are free of the limit on the ratio.
const FREE: u64 = 1 << 20;

/// Memory that an xz stream may ask for: twice what `xz -9` needs.
const XZ_MEMORY: u64 = 128 << 20;

/// What a stream is compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Compression {
    /// Recognises a stream by its first bytes (six are enough).
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            // The second is a skippable frame, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            _ => Self::Plain,
        }
    }

    /// The format of a stream that begins with `head` (six bytes are enough), if it is known and not supported.
    pub fn unsupported(head: &[u8]) -> Option<&'static str> {
        match head {
            [0x1f, 0x9d, ..] => Some("compress (.Z)"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Some("zip"),
            [b'L', b'Z', b'I', b'P', ..] => Some("lzip"),
            [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => Some("7z"),
            // The default properties, then the size of the dictionary, which is never zero: a tar whose first file is named "]" has zeros there.
            [0x5d, 0, 0, low, high, ..] if (*low, *high) != (0, 0) => Some("lzma"),
            _ => None,
        }
    }

    /// The name of the format, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// Returns the plain bytes of `input`, however it is compressed (several members or frames in a row too), and what it was.
///
/// Reading fails, with [`Error`] inside the `io::Error`, when `limits.ratio` is passed, the stream is damaged or it is cut off;
/// [`tar::Reader`](crate::tar::Reader) takes it out again. Errors of `input` pass through unchanged.
pub fn decompress<'a, R: Read + Send + 'a>(
    mut input: R,
    limits: &Limits,
) -> Result<(Box<dyn Read + Send + 'a>, Compression), Error> {
    let mut head = Vec::with_capacity(6);
    let reading = |source| unwrap_error(source, "read the archive");
    input.by_ref().take(6).read_to_end(&mut head).map_err(reading)?;
    if let Some(format) = Compression::unsupported(&head) {
        return Err(Error::Unsupported { format });
    }
    let compression = Compression::detect(&head);
    let whole = Cursor::new(head).chain(input);
    if compression == Compression::Plain {
        return Ok((Box::new(whole), compression));
    }
    let gauge = Arc::new(Gauge::default());
    let buffered = BufReader::with_capacity(BUFFER, Metered { input: whole, gauge: Arc::clone(&gauge) });
    let damaged = |source| Error::Compression { format: compression.name(), source };
    let inner: Box<dyn Read + Send + 'a> = match compression {
        Compression::Plain => unreachable!("returned above"),
        Compression::Gzip => Box::new(gzip::Decoder::new(buffered)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered).map_err(damaged)?),
        Compression::Xz => {
            let stream = xz2::stream::Stream::new_stream_decoder(XZ_MEMORY, xz2::stream::CONCATENATED);
            let stream = stream.map_err(|e| damaged(e.into()))?;
            Box::new(xz2::bufread::XzDecoder::new_stream(buffered, stream))
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered)),
    };
    Ok((Box::new(Decoder { inner, compression, gauge, produced: 0, ratio: limits.ratio }), compression))
}

/// Takes an [`Error`] that travelled inside an `io::Error` out again; what is none becomes [`Error::Stream`].
pub(crate) fn unwrap_error(source: io::Error, action: &'static str) -> Error {
    match source.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::Stream { action, source },
    }
}

/// How much compressed input was read, and whether reading it failed.
#[derive(Default)]
struct Gauge {
    bytes: AtomicU64,
    failed: AtomicBool,
}

struct Metered<R> {
    input: R,
    gauge: Arc<Gauge>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into);
        match &read {
            Ok(len) => drop(self.gauge.bytes.fetch_add(*len as u64, Relaxed)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.gauge.failed.store(true, Relaxed),
        }
        read
    }
}

/// Reads from a decoder, watches the ratio, and says what is wrong with the stream.
struct Decoder<'a> {
    inner: Box<dyn Read + Send + 'a>,
    compression: Compression,
    gauge: Arc<Gauge>,
    produced: u64,
    ratio: u64,
}

impl Read for Decoder<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(into).map_err(|error| self.explain(error))?;
        self.produced += len as u64;
        let consumed = self.gauge.bytes.load(Relaxed);
        if self.produced.saturating_sub(FREE) > consumed.saturating_mul(self.ratio) {
            let what = "the ratio of unpacked to compressed bytes";
            return Err(io::Error::other(Error::Limit { what, limit: self.ratio, entry: None }));
        }
        Ok(len)
    }
}

impl Decoder<'_> {
    fn explain(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::Interrupted || self.gauge.failed.load(Relaxed) {
            return error;
        }
        let format = self.compression.name();
        let offset = self.gauge.bytes.load(Relaxed);
        io::Error::other(match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Truncated { offset, what: format!("the {format} stream") },
            _ => Error::Compression { format, source: error },
        })
    }
}
