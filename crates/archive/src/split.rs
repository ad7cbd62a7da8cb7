//! tar-split: what rebuilds a layer's tar byte for byte from its unpacked files.
//!
//! `tar-split.json.gz` is a gzip stream of JSON objects, one a line, numbered by `position`:
//!
//! ```text
//! {"type":2,"payload":"<base64 of raw header or padding bytes>","position":0}             a segment
//! {"type":1,"name":"etc/hosts","size":12,"payload":"<base64 of its CRC>","position":1}    a file's content
//! {"type":1,"name":"etc/","payload":null,"position":3}                                    an entry without content
//! {"type":1,"name_raw":"<base64>","payload":null,"position":5}                            a name that is not UTF-8
//! ```
//!
//! The CRC is CRC-64/GO-ISO in eight bytes, the high one first. The tar is all segments and files, one after the other.
//! No name stands twice, however it is spelled: Docker refuses to read such a record.
//!
//! A sparse file is stored in a tar without its holes, and Docker's record of it gives them back as zeros, which is another tar.
//! Here its stored bytes are segments, and the file follows with size zero: a record from which Docker too rebuilds the exact tar.
//!
//! Source: vbatts/tar-split, `tar/storage/entry.go`, `tar/asm`.

mod assemble;
mod contents;
mod packer;
mod unpacker;
mod verify;

pub use assemble::{Assembled, Check, assemble, assemble_from};
pub use contents::{Contents, Files};
pub use packer::Packer;
pub use unpacker::{FileRecord, Record, Unpacker};
pub use verify::{Damage, Verified, verify};

/// A CRC as Docker's record has it.
fn crc() -> crc_fast::Digest {
    crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64GoIso)
}
