//! A registry server of ours, as a process.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// Serves a folder on a port of its own; ends when this drops.
pub struct Served {
    child: Child,
    /// `127.0.0.1:<port>`
    pub host: String,
}

pub fn serve(folder: &Path) -> Served {
    let mut child = Command::new(super::STRATA)
        .args(["registry", "serve", "--addr", "127.0.0.1:0", "--root"])
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("strata starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("where it listens");
    let host = line.trim().strip_prefix("http://").expect("an address").to_owned();
    Served { child, host }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
