//! Where file contents come from.

use std::{ffi::OsStr, io, io::Read, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc};

use strata_tree::tree::{Directory, File, Tree};

use super::FileRecord;
use crate::Error;

/// Gives the content of a layer's files by name.
pub trait Contents {
    type File: Read;

    /// Opens the file `name`, a name out of a tar: it may be absolute or hold `..`.
    fn open(&mut self, name: &[u8]) -> io::Result<Self::File>;
}

impl<F, R: Read> Contents for F
where
    F: FnMut(&[u8]) -> io::Result<R>,
{
    type File = R;

    fn open(&mut self, name: &[u8]) -> io::Result<R> {
        self(name)
    }
}

/// The files of a layer's tree. No name leads out of it, and only regular files are opened.
pub struct Files(Arc<dyn Directory>);

impl Files {
    /// Opens the root of `tree`, which must live as long as its files are read.
    pub fn open(tree: &(impl Tree + ?Sized)) -> Result<Self, Error> {
        tree.root().map(Self).map_err(|source| Error::Entry {
            action: "open the layer's directory",
            entry: tree.path().display().to_string(),
            source,
        })
    }
}

impl Contents for Files {
    type File = Box<dyn File>;

    fn open(&mut self, name: &[u8]) -> io::Result<Self::File> {
        // `..` is undone by name, as when the file was made: the part before it may be a symbolic link.
        self.0.open_in_root(Path::new(OsStr::from_bytes(&crate::tar::path::clean(name))))
    }
}

/// The content of one file while it is checked against its record.
pub(super) struct Checked<'a, R> {
    record: &'a FileRecord<'a>,
    file: R,
    left: u64,
    crc: crc_fast::Digest,
}

impl<'a, R: Read> Checked<'a, R> {
    pub(super) fn open(
        record: &'a FileRecord<'a>,
        contents: &mut impl Contents<File = R>,
    ) -> Result<Checked<'a, R>, Error> {
        let file = contents.open(&record.name).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => mismatch(record, "the file is gone".into()),
            _ => mismatch(record, format!("the file cannot be opened: {source}")),
        })?;
        Ok(Self { record, file, left: record.size, crc: super::crc() })
    }

    /// Fills a part of `into`, never empty, and returns how much; zero once all is there and right.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        if self.left == 0 {
            return self.at_end().map(|()| 0);
        }
        let wanted = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
        let len = read(&mut self.file, &mut into[..wanted], self.record)?;
        if len == 0 {
            let found = self.record.size - self.left;
            return Err(mismatch(self.record, format!("it has {found} bytes, the record says {}", self.record.size)));
        }
        self.crc.update(&into[..len]);
        self.left -= len as u64;
        Ok(len)
    }

    fn at_end(&mut self) -> Result<(), Error> {
        if read(&mut self.file, &mut [0], self.record)? > 0 {
            return Err(mismatch(
                self.record,
                format!("it is longer than the {} bytes of the record", self.record.size),
            ));
        }
        if self.crc.finalize() != self.record.crc {
            return Err(mismatch(self.record, "its content was changed".into()));
        }
        Ok(())
    }
}

fn read(file: &mut impl Read, into: &mut [u8], record: &FileRecord<'_>) -> Result<usize, Error> {
    loop {
        match file.read(into) {
            Ok(len) => return Ok(len),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(mismatch(record, format!("the file cannot be read: {source}"))),
        }
    }
}

fn mismatch(record: &FileRecord<'_>, reason: String) -> Error {
    Error::Mismatch { path: String::from_utf8_lossy(&record.name).into_owned(), reason }
}
