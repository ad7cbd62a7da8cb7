//! Telling which of a layer's files are no longer what they were.

use std::io::Read;

use strata_spec::{DiffId, digest::Hasher};

use super::{Files, Record, Unpacker, contents::Checked};
use strata_tree::Tree;

use crate::Error;

/// One file that does not match its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The name in the tar.
    pub name: Vec<u8>,
    pub reason: String,
}

/// The state of a layer's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Files with content.
    pub files: u64,
    /// Bytes of the tar.
    pub bytes: u64,
    /// The tar's digest, which must be the layer's DiffID; `None` where a file is damaged.
    pub diff_id: Option<DiffId>,
    pub damaged: Vec<Damage>,
}

/// Checks every file in the tree `files` against `tar_split` (gzip), and continues after one that does not match.
///
/// Fails only where the record itself cannot be read.
pub fn verify(tar_split: impl Read, files: &(impl Tree + ?Sized)) -> Result<Verified, Error> {
    let mut tree = Files::open(files)?;
    let mut unpacker = Unpacker::new(tar_split);
    let mut hasher = Hasher::sha256();
    let mut buffer = vec![0; 256 << 10];
    let mut found = Verified { files: 0, bytes: 0, diff_id: None, damaged: Vec::new() };
    while let Some(record) = unpacker.next_record()? {
        match record {
            Record::Segment(bytes) => {
                hasher.update(bytes);
                found.bytes += bytes.len() as u64;
            }
            Record::File(file) if file.size == 0 => {}
            Record::File(file) => {
                found.files += 1;
                found.bytes = found.bytes.saturating_add(file.size);
                let mut check = || -> Result<(), Error> {
                    let mut content = Checked::open(&file, &mut tree)?;
                    loop {
                        match content.read(&mut buffer)? {
                            0 => return Ok(()),
                            len => hasher.update(&buffer[..len]),
                        }
                    }
                };
                match check() {
                    Ok(()) => {}
                    Err(Error::Mismatch { reason, .. }) => {
                        found.damaged.push(Damage { name: file.name.into_owned(), reason })
                    }
                    Err(other) => return Err(other),
                }
            }
        }
    }
    found.diff_id = found.damaged.is_empty().then(|| DiffId::new(hasher.finish()));
    Ok(found)
}
