//! Reading a record, line by line.

use std::{
    borrow::Cow,
    io::{BufRead, BufReader, Read},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use crate::Error;

/// The longest line: Docker puts all that follows the end marker into one.
const LINE: u64 = 64 << 20;

/// One step of rebuilding a tar.
#[derive(Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Bytes of the tar as they stand.
    Segment(&'a [u8]),
    /// A file's content, unless its size is zero; else a name that the tar has.
    File(FileRecord<'a>),
}

/// What a record says of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct FileRecord<'a> {
    /// The name as in the tar, not made safe.
    pub name: Cow<'a, [u8]>,
    /// Bytes of content in the tar.
    pub size: u64,
    /// CRC-64/GO-ISO of the content; zero where there is none.
    pub crc: u64,
}

/// Reads `tar-split.json.gz`.
///
/// What is wrong with it is [`Error::Mismatch`] of the path `tar-split.json.gz`, but failing to read `R` is [`Error::Stream`].
pub struct Unpacker<R> {
    lines: BufReader<MultiGzDecoder<BufReader<R>>>,
    line: Vec<u8>,
    decoded: Vec<u8>,
    position: u64,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    name_raw: Option<Text<'a>>,
    #[serde(default)]
    size: i64,
    #[serde(borrow, default)]
    payload: Option<Text<'a>>,
    #[serde(default)]
    position: u64,
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<R: Read> Unpacker<R> {
    pub fn new(tar_split: R) -> Self {
        let inflate = MultiGzDecoder::new(BufReader::with_capacity(64 << 10, tar_split));
        Self { lines: BufReader::with_capacity(256 << 10, inflate), line: Vec::new(), decoded: Vec::new(), position: 0 }
    }

    /// Reads the rest of the record and returns the bytes of the tar that it gives; payloads are measured, not decoded.
    pub fn tar_size(mut self) -> Result<u64, Error> {
        let mut size = 0u64;
        while self.next_line()? {
            let at = self.position;
            let line = parse(&self.line, at)?;
            let bytes = match line.kind {
                1 => u64::try_from(line.size).map_err(|_| damaged(format!("gives a negative size at record {at}")))?,
                _ => line.payload.map_or(0, |payload| decoded_len(payload.0.as_bytes())),
            };
            size = size.saturating_add(bytes);
            self.position += 1;
        }
        Ok(size)
    }

    /// Reads one line that is not blank; `false` at the end.
    fn next_line(&mut self) -> Result<bool, Error> {
        self.line.clear();
        while self.line.trim_ascii().is_empty() {
            self.line.clear();
            let read = self.lines.by_ref().take(LINE).read_until(b'\n', &mut self.line);
            match read {
                Ok(0) => return Ok(false),
                Ok(len) if len as u64 == LINE => return Err(damaged("has a line of more than 64 MiB".into())),
                Ok(_) => {}
                Err(source) => return Err(reading(source)),
            }
        }
        Ok(true)
    }

    /// Returns the next record; `None` at the end.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, Error> {
        if !self.next_line()? {
            return Ok(None);
        }
        let at = self.position;
        let line = parse(&self.line, at)?;
        self.position += 1;
        self.decoded.clear();
        let base64 = |text: &Text<'_>, into: &mut Vec<u8>| {
            STANDARD
                .decode_vec(text.0.as_bytes(), into)
                .map_err(|e| damaged(format!("is not understood at record {at}: {e}")))
        };
        match line.kind {
            1 => {
                let name = match (&line.name_raw, line.name) {
                    (Some(raw), _) if !raw.0.is_empty() => {
                        base64(raw, &mut self.decoded)?;
                        Cow::Owned(std::mem::take(&mut self.decoded))
                    }
                    (_, Some(Text(Cow::Borrowed(name)))) => Cow::Borrowed(name.as_bytes()),
                    (_, Some(Text(Cow::Owned(name)))) => Cow::Owned(name.into_bytes()),
                    (_, None) => Cow::Borrowed(&b""[..]),
                };
                let size =
                    u64::try_from(line.size).map_err(|_| damaged(format!("gives a negative size at record {at}")))?;
                let mut crc = [0; 8];
                if let Some(payload) = line.payload.filter(|_| size > 0) {
                    base64(&payload, &mut self.decoded)?;
                    crc = self.decoded[..].try_into().map_err(|_| damaged(format!("has no CRC at record {at}")))?;
                }
                Ok(Some(Record::File(FileRecord { name, size, crc: u64::from_be_bytes(crc) })))
            }
            2 => {
                if let Some(payload) = &line.payload {
                    base64(payload, &mut self.decoded)?;
                }
                Ok(Some(Record::Segment(&self.decoded)))
            }
            other => Err(damaged(format!("has type {other} at record {at}, only 1 and 2 are known"))),
        }
    }
}

/// Reads the line of record `at`.
fn parse(line: &[u8], at: u64) -> Result<Line<'_>, Error> {
    let line: Line<'_> =
        serde_json::from_slice(line).map_err(|e| damaged(format!("is not understood at record {at}: {e}")))?;
    match line.position == at {
        true => Ok(line),
        false => Err(damaged(format!("has record {} where {at} is due", line.position))),
    }
}

/// Bytes that padded base64 holds.
fn decoded_len(text: &[u8]) -> u64 {
    let padding = text.iter().rev().take(2).filter(|byte| **byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding) as u64
}

pub(super) fn damaged(what: String) -> Error {
    Error::Mismatch { path: "tar-split.json.gz".into(), reason: format!("it {what}; pull or load the image again") }
}

/// An error of inflating is damage, any other one is of reading.
fn reading(source: std::io::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match source.kind() {
        UnexpectedEof => damaged("is cut off".into()),
        InvalidData | InvalidInput => damaged(format!("is not a good gzip stream ({source})")),
        _ => Error::Stream { action: "read tar-split.json.gz", source },
    }
}
