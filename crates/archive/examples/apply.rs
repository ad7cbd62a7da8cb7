//! Unpacks a layer's tar, compressed or not, into an empty folder: `apply TAR FOLDER TAR-SPLIT`.

use std::{fs::File, io::BufWriter, path::Path, time::Instant};

use strata_archive::{
    Limits, Marks,
    apply::{Options, apply},
    compression::decompress,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, tar, folder, tar_split] = args.as_slice() else {
        return Err("usage: apply TAR FOLDER TAR-SPLIT".into());
    };
    let began = Instant::now();
    std::fs::create_dir_all(folder)?;
    let limits = Limits::default();
    let (input, compression) = decompress(File::open(tar)?, &limits)?;
    let options = Options { marks: Marks::Overlay, limits };
    let applied = apply(input, Path::new(folder), BufWriter::new(File::create(tar_split)?), &options)?;
    println!("{compression:?} {applied:?} in {:?}", began.elapsed());
    Ok(())
}
