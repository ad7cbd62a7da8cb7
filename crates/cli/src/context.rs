//! What every command works with: the options that all take, and how they open a root.

use std::io::{self, Write};

use strata_engine::{Options, Purpose, Root};
use strata_spec::ErrorKind;

use crate::args::Global;

/// The global options.
pub struct Context {
    options: Options,
}

impl Context {
    pub fn new(global: &Global) -> Self {
        Self {
            options: Options {
                data_root: global.data_root.clone(),
                exec_root: global.exec_root.clone(),
                driver: global.storage_driver.clone(),
            },
        }
    }

    /// Opens the root, with all drivers in use or the one that was asked for, to look at it: works beside a live dockerd, on a read-only
    /// disk and without rights, as far as files can be read.
    pub fn read(&self) -> anyhow::Result<Root> {
        Ok(Root::open(&self.options, Purpose::Read)?)
    }

    /// The same for what reads the layers' own files: says of which drivers only the records can be read, and why.
    pub fn read_layers(&self) -> anyhow::Result<Root> {
        let root = self.read()?;
        for error in root.stores().iter().filter_map(|stores| stores.usable().err()) {
            eprintln!("WARNING: {error}; only its records are read");
        }
        Ok(root)
    }

    /// Opens the root to look at it for a while: what is read is held against removal, where the root allows that.
    pub fn hold(&self) -> anyhow::Result<Root> {
        match Root::open(&self.options, Purpose::Write) {
            Err(error)
                if matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::PermissionDenied | ErrorKind::NoSpace) =>
            {
                self.read()
            }
            result => Ok(result?),
        }
    }

    /// Opens the root to change it.
    pub fn write(&self) -> anyhow::Result<Root> {
        Ok(Root::open(&self.options, Purpose::Write)?)
    }
}

/// Writes to standard output; a reader that went away (`| head`) ends the program quietly, as it does others.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// The same for bytes that may not be UTF-8: names of files.
pub fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// Asks before something goes; `true` without asking when `force` is given. No terminal to answer means no.
pub fn confirm(warning: &str, force: bool) -> anyhow::Result<bool> {
    if force {
        return Ok(true);
    }
    print(&format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
