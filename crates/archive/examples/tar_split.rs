//! Takes a layer's tar apart as Docker does, and puts it together again.
//!
//! ```text
//! tar_split list     < layer.tar                                  one line an entry
//! tar_split record   < layer.tar > tar-split.json.gz
//! tar_split assemble tar-split.json.gz FOLDER > layer.tar         prints the DiffID on stderr
//! tar_split rebuild  tar-split.json.gz FOLDER > layer.tar         the same without the DiffID, much faster
//! ```

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use strata_archive::{
    Error, Limits, compression,
    split::{self, Check, Files, Packer},
    tar::Reader,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => list()?,
        ["record"] => record(io::stdout().lock())?,
        ["assemble", tar_split, folder] => {
            let diff_id = split::assemble(File::open(tar_split)?, Path::new(folder), io::stdout().lock())?;
            eprintln!("{diff_id}");
        }
        ["rebuild", tar_split, folder] => {
            let (record, folder) = (File::open(tar_split)?, Files::open(Path::new(folder))?);
            split::assemble_from(record, folder, io::stdout().lock(), Check::Crc)?;
        }
        _ => return Err("usage: tar_split list | record | assemble TAR-SPLIT FOLDER | rebuild TAR-SPLIT FOLDER".into()),
    }
    Ok(())
}

fn list() -> Result<(), Error> {
    let limits = Limits::default();
    let (input, _) = compression::decompress(io::stdin(), &limits)?;
    let mut tar = Reader::new(input, &limits);
    while let Some(entry) = tar.next_entry()? {
        let header = &entry.header;
        let (kind, name) = (header.kind, entry.display_name());
        println!("{:06o} {:>5}:{:<5} {:>12} {kind:?} {name:?}", header.mode, header.uid, header.gid, header.size);
    }
    Ok(())
}

fn record<W: Write>(out: W) -> Result<(), Error> {
    let limits = Limits::default();
    let (input, _) = compression::decompress(io::stdin(), &limits)?;
    let mut tar = Reader::new(input, &limits);
    let mut packer = Packer::new(out);
    while let Some(entry) = tar.next_entry()? {
        packer.entry(&entry, tar.raw())?;
        loop {
            let piece = tar.content()?;
            if piece.is_empty() {
                break;
            }
            packer.content(piece)?;
        }
    }
    packer.end(tar.raw())?;
    loop {
        let piece = tar.trailing()?;
        if piece.is_empty() {
            break;
        }
        packer.trailing(piece)?;
    }
    packer.finish()?;
    Ok(())
}
