//! Makes a new layer's folder of a read-write one, as a commit does, without a tar on disk: `recommit UPPER FOLDER TAR-SPLIT [LOWER...]`.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use strata_archive::{
    Limits, Marks,
    apply::{Options, apply},
    diff::diff,
    pipe,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    let [upper, folder, tar_split, lower @ ..] = args.as_slice() else {
        return Err("usage: recommit UPPER FOLDER TAR-SPLIT [LOWER...]".into());
    };
    let began = Instant::now();
    std::fs::create_dir_all(folder)?;
    let split = BufWriter::new(File::create(tar_split)?);
    let options = Options { marks: Marks::Overlay, limits: Limits::default() };
    let (mut writer, reader) = pipe();
    let (written, applied) = thread::scope(|scope| {
        let writing = scope.spawn(move || -> Result<(), strata_archive::Error> {
            diff(Path::new(upper), lower, Marks::Overlay, &mut writer)?;
            let end = writer.flush().and_then(|()| writer.finish());
            end.map_err(|source| strata_archive::Error::Stream { action: "end the layer's tar", source })
        });
        let applied = apply(reader, folder, split, &options);
        (writing.join().expect("diff does not panic"), applied)
    });
    written?;
    println!("{:?} in {:?}", applied?, began.elapsed());
    Ok(())
}
