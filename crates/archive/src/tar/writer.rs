//! Writing a stream with headers as Go's `archive/tar` writes them when asked for PAX.

use std::{collections::BTreeMap, io::Write};

use base64::Engine as _;

use super::{
    Header, Kind, Time,
    block::{self, BLOCK, Block, field},
    path, pax,
};
use crate::Error;

const ZEROS: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Writes a tar.
///
/// Headers are ustar where that holds everything, else ustar after a PAX header: the bytes that Go's writer gives for `FormatPAX`.
/// Two things go beyond it: a PAX header may hold text ACLs, and an attribute whose name has a `=` is written as bsdtar writes
/// it (`LIBARCHIVE.xattr.*`), where Go's writer fails.
pub struct Writer<W> {
    out: W,
    /// Of the current entry, what is still to come.
    content: u64,
    padding: usize,
    name: String,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out, content: 0, padding: 0, name: String::new() }
    }

    /// Begins an entry; `header.size` bytes of content must follow, none where [`Kind::is_header_only`].
    ///
    /// `header.mode` is written as it is; the name too: a directory needs its slash.
    pub fn header(&mut self, header: &Header) -> Result<(), Error> {
        self.end_entry()?;
        self.name = String::from_utf8_lossy(&header.name).into_owned();
        let records = self.records(header)?;
        let fits_ustar = !records.keys().any(|key| !matches!(key.as_slice(), b"path"))
            && (!records.contains_key(&b"path"[..]) || split_path(&header.name).is_some());
        if fits_ustar {
            let (prefix, name) = split_path(&header.name).unwrap_or((&[], &header.name));
            let mut block = fields(header, name);
            block[field::PREFIX][..prefix.len()].copy_from_slice(prefix);
            self.write(&seal(block))?;
        } else {
            self.extended(&header.name, &records)?;
            self.write(&seal(fields(header, &header.name)))?;
        }
        self.content = if header.kind.is_header_only() { 0 } else { header.size };
        self.padding = (self.content.wrapping_neg() % BLOCK as u64) as usize;
        Ok(())
    }

    /// Writes a piece of the entry's content; more than its size is an error.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let left = self.content.checked_sub(bytes.len() as u64);
        self.content = left.ok_or_else(|| self.mismatch("its content is longer than its size"))?;
        self.write(bytes)
    }

    /// Writes the two zero blocks of the end, and returns the output, flushed.
    pub fn finish(mut self) -> Result<W, Error> {
        self.end_entry()?;
        self.write(&ZEROS)?;
        self.out.flush().map_err(|source| Error::Stream { action: "write the archive", source })?;
        Ok(self.out)
    }

    /// Pads the current entry's content.
    fn end_entry(&mut self) -> Result<(), Error> {
        if self.content > 0 {
            return Err(self.mismatch("its content is shorter than its size"));
        }
        let padding = std::mem::take(&mut self.padding);
        self.write(&ZEROS[..padding])
    }

    /// What does not fit the fields of a ustar header, by PAX key; Go sorts them as this map does.
    ///
    /// A long path is listed even where ustar can split it, as long as something else needs a PAX header.
    fn records(&self, header: &Header) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut records = BTreeMap::new();
        for (key, value, room) in [
            ("path", &header.name, field::NAME.len()),
            ("linkpath", &header.link, field::LINK.len()),
            ("uname", &header.uname, field::UNAME.len()),
            ("gname", &header.gname, field::GNAME.len()),
        ] {
            if value.contains(&0) {
                return Err(Error::Refused { entry: self.name.clone(), reason: format!("its {key} holds a NUL") });
            }
            if value.len() > room || !value.is_ascii() {
                records.insert(key.into(), value.clone());
            }
        }
        let size = if header.kind.is_header_only() { 0 } else { header.size };
        for (key, value, room) in [
            ("uid", u64::from(header.uid), field::UID.len()),
            ("gid", u64::from(header.gid), field::GID.len()),
            ("size", size, field::SIZE.len()),
        ] {
            if !fits_octal(room, value) {
                records.insert(key.into(), value.to_string().into());
            }
        }
        for device in [header.dev_major, header.dev_minor] {
            if !fits_octal(field::DEV_MAJOR.len(), device.into()) {
                let reason = format!("a tar has no room for the device number {device}");
                return Err(Error::Refused { entry: self.name.clone(), reason });
            }
        }
        let mtime = header.mtime;
        if mtime.nanos != 0 || !u64::try_from(mtime.secs).is_ok_and(|secs| fits_octal(field::MTIME.len(), secs)) {
            records.insert("mtime".into(), pax::format_time(mtime).into());
        }
        for (key, time) in [("atime", header.atime), ("ctime", header.ctime)] {
            records.extend(time.map(|time: Time| (key.into(), pax::format_time(time).into())));
        }
        for (key, acl) in [("SCHILY.acl.access", &header.acl_access), ("SCHILY.acl.default", &header.acl_default)] {
            records.extend(acl.as_ref().map(|text| (key.into(), text.clone())));
        }
        records.extend(header.xattrs.iter().map(|(name, value)| xattr_record(name, value)));
        Ok(records)
    }

    /// Writes a PAX header, named beside the entry.
    fn extended(&mut self, name: &[u8], records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), Error> {
        let mut payload = Vec::new();
        for (key, value) in records {
            pax::push_record(&mut payload, key, value);
        }
        let mut name: Vec<u8> = pax_name(name).into_iter().filter(|b| b.is_ascii() && *b != 0).collect();
        name.truncate(field::NAME.len());
        while name.last() == Some(&b'/') {
            name.pop();
        }
        let mut header = Header::new(Kind::Other(b'x'), name);
        header.size = payload.len() as u64;
        // The blank fields of this header stay blank in Go's: no owner names, no device numbers.
        let mut block = fields(&header, &header.name);
        block[field::DEV_MAJOR].fill(0);
        block[field::DEV_MINOR].fill(0);
        self.write(&seal(block))?;
        let padding = payload.len().wrapping_neg() % BLOCK;
        payload.resize(payload.len() + padding, 0);
        self.write(&payload)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|source| Error::Stream { action: "write the archive", source })
    }

    fn mismatch(&self, reason: &str) -> Error {
        Error::Mismatch { path: self.name.clone(), reason: reason.to_owned() }
    }
}

/// Fills in the fields that all entries have; what does not fit is cut or zero, a PAX record says it.
fn fields(header: &Header, name: &[u8]) -> Block {
    let mut block = [0; BLOCK];
    for (range, value) in
        [(field::NAME, name), (field::LINK, &header.link), (field::UNAME, &header.uname), (field::GNAME, &header.gname)]
    {
        put_text(&mut block[range], value);
    }
    let size = if header.kind.is_header_only() { 0 } else { header.size };
    for (range, value) in [
        (field::MODE, u64::from(header.mode)),
        (field::UID, u64::from(header.uid)),
        (field::GID, u64::from(header.gid)),
        (field::SIZE, size),
        (field::MTIME, u64::try_from(header.mtime.secs).unwrap_or(0)),
        (field::DEV_MAJOR, u64::from(header.dev_major)),
        (field::DEV_MINOR, u64::from(header.dev_minor)),
    ] {
        put_octal(&mut block[range], value);
    }
    block[field::TYPE] = header.kind.byte();
    block
}

/// Adds the magic and the checksum.
fn seal(mut block: Block) -> Block {
    block[field::MAGIC].copy_from_slice(b"ustar\0");
    block[field::VERSION].copy_from_slice(b"00");
    let (sum, _) = block::checksums(&block);
    let sum = u64::try_from(sum).expect("a sum of unsigned bytes");
    put_octal(&mut block[field::CHECKSUM][..7], sum);
    block[field::CHECKSUM][7] = b' ';
    block
}

/// Puts what of `value` is ASCII into `field`, cut to fit.
fn put_text(field: &mut [u8], value: &[u8]) {
    let ascii: Vec<u8> = value.iter().copied().filter(|b| b.is_ascii() && *b != 0).collect();
    let len = ascii.len().min(field.len());
    field[..len].copy_from_slice(&ascii[..len]);
    // A name cut right behind a slash would read as a directory's.
    if ascii.len() > field.len() && field.last() == Some(&b'/') {
        let bare = field.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
        field[bare] = 0;
    }
}

/// Puts zero-padded octal and a NUL into `field`; zero where it does not fit.
fn put_octal(field: &mut [u8], value: u64) {
    let mut value = if fits_octal(field.len(), value) { value } else { 0 };
    let digits = field.len() - 1;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// Says whether `value` fits a field of `room` bytes, the last of which is a NUL.
fn fits_octal(room: usize, value: u64) -> bool {
    value < 1 << ((room - 1) * 3)
}

/// Splits a path too long for the name field over prefix and name; `None` where it need not or cannot be split.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= field::NAME.len() || !path.is_ascii() {
        return None;
    }
    let most = field::PREFIX.len() + 1;
    let len = if path.len() > most { most } else { path.len() - usize::from(path.ends_with(b"/")) };
    let slash = path[..len].iter().rposition(|&b| b == b'/').filter(|&at| at > 0)?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (!name.is_empty() && name.len() <= field::NAME.len() && prefix.len() <= field::PREFIX.len())
        .then_some((prefix, name))
}

/// `<directory>/PaxHeaders.0/<name>`, cleaned lexically.
fn pax_name(name: &[u8]) -> Vec<u8> {
    let split = name.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let (dir, file) = name.split_at(split);
    let dir = if dir.is_empty() { &b"."[..] } else { dir };
    path::clean(&[dir, b"/PaxHeaders.0/", file].concat())
}

fn xattr_record(name: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    if !name.contains(&b'=') {
        return ([b"SCHILY.xattr.", name].concat(), value.to_vec());
    }
    let mut key = b"LIBARCHIVE.xattr.".to_vec();
    for &byte in name {
        match byte {
            b'=' | b'%' => key.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => key.push(byte),
        }
    }
    (key, base64::engine::general_purpose::STANDARD_NO_PAD.encode(value).into())
}
