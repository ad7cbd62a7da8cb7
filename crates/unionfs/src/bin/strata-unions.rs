//! Mounts unions without the rest of Strata: for tests, and to try the crate by hand.
//!
//! ```sh
//! strata-unions mount aufs dirs=top:bottom ./mnt
//! strata-unions mount aufs remount,append:more ./mnt
//! strata-unions umount ./mnt
//! ```

use std::{ffi::OsStr, path::Path, process::ExitCode};

use strata_unionfs::mount::{self, options, options::Request, options::Words};

fn main() -> ExitCode {
    mount::init();
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let arguments: Vec<&OsStr> = arguments.iter().map(|argument| argument.as_os_str()).collect();
    let result = match arguments.as_slice() {
        [command, words, text, target] if *command == "mount" => run(words, text, Path::new(target)),
        [command, target] if *command == "umount" => {
            mount::unmount(Path::new(target)).map_err(|error| error.to_string())
        }
        _ => Err("usage: strata-unions mount aufs|overlay OPTIONS TARGET | umount TARGET".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("strata-unions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &OsStr, text: &OsStr, target: &Path) -> Result<(), String> {
    let words = if words == "aufs" { Words::Aufs } else { Words::Overlay };
    match options::parse(Some(words), text, OsStr::new("strata")).map_err(|error| error.to_string())? {
        Request::Mount(union) => mount::spawn(&union, target).map(drop),
        Request::Remount(wanted) => mount::remount(target, &wanted),
    }
    .map_err(|error| error.to_string())
}
