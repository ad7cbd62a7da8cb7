//! The tar reader, the writer and tar-split against what real tools wrote, and against what nobody should write.

mod golden;
mod hostile;
mod properties;

use std::{
    collections::HashMap,
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
};

use strata_archive::{
    Error, Limits, compression,
    split::{self, Assembled, Check, Packer},
    tar::{Entry, Reader},
};

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let files = folder.read_dir().expect("fixtures").map(|file| file.expect("a file").path());
    let mut tars: Vec<_> = files.filter(|path| path.to_string_lossy().ends_with(".tar.gz")).collect();
    tars.sort();
    assert!(!tars.is_empty());
    tars
}

fn inflate(path: &Path) -> Vec<u8> {
    unpack(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).expect("inflates")
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let (mut reader, _) = compression::decompress(bytes, &Limits::default())?;
    let mut plain = Vec::new();
    match reader.read_to_end(&mut plain) {
        Ok(_) => Ok(plain),
        Err(error) => Err(error.downcast::<Error>().expect("an error of ours")),
    }
}

/// A tar, taken apart.
struct Taken {
    entries: Vec<(Entry, Vec<u8>)>,
    /// All bytes, in the order in which they were handed out.
    bytes: Vec<u8>,
    tar_split: Vec<u8>,
}

fn take_apart(tar: &[u8]) -> Result<Taken, Error> {
    let mut reader = Reader::new(tar, &Limits::default());
    let mut packer = Packer::new(Vec::new());
    let (mut entries, mut bytes) = (Vec::new(), Vec::new());
    while let Some(entry) = reader.next_entry()? {
        bytes.extend_from_slice(reader.raw());
        packer.entry(&entry, reader.raw())?;
        // By both ways in turn.
        let mut content = vec![0; usize::try_from(entry.stored.min(70_000)).expect("small") / 2];
        let half = reader.read_content(&mut content)?;
        content.truncate(half);
        loop {
            let piece = reader.content()?;
            if piece.is_empty() {
                break;
            }
            content.extend_from_slice(piece);
        }
        packer.content(&content)?;
        bytes.extend_from_slice(&content);
        entries.push((entry, content));
    }
    bytes.extend_from_slice(reader.raw());
    packer.end(reader.raw())?;
    loop {
        let piece = reader.trailing()?;
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(piece);
        packer.trailing(piece)?;
    }
    assert_eq!(reader.offset(), tar.len() as u64);
    Ok(Taken { entries, bytes, tar_split: packer.finish()? })
}

impl Taken {
    /// Rebuilds the tar from the record and the contents, as found by name.
    fn assemble(&self, tar_split: &[u8]) -> Result<(Vec<u8>, Assembled), Error> {
        let files: HashMap<&[u8], &[u8]> = self
            .entries
            .iter()
            .filter(|(entry, content)| entry.sparse.is_none() && !content.is_empty())
            .map(|(entry, content)| (entry.header.name.as_slice(), content.as_slice()))
            .collect();
        let open = |name: &[u8]| {
            files.get(name).map(|content| Cursor::new(*content)).ok_or(io::Error::from(io::ErrorKind::NotFound))
        };
        let mut tar = Vec::new();
        let assembled = split::assemble_from(tar_split, open, &mut tar, Check::Digest)?;
        Ok((tar, assembled))
    }
}
