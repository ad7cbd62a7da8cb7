//! What a folder takes, as Docker counts.

use std::{collections::HashSet, path::Path};

use strata_durable::Context;
use strata_sys::tree::{Dir, Kind};

use crate::Error;

/// Returns the bytes of the files below `root`: lengths, hard links once, directories not at all.
///
/// Source: moby `pkg/directory/directory_unix.go`.
pub fn of_tree(root: &Path) -> Result<u64, Error> {
    let mut seen = HashSet::new();
    let mut total = 0;
    let top = Dir::open(root).context("open", root)?;
    add(&top, &mut seen, &mut total).context("measure", root)?;
    Ok(total)
}

fn add(dir: &Dir, seen: &mut HashSet<u64>, total: &mut u64) -> std::io::Result<()> {
    for entry in dir.entries()? {
        let stat = match dir.stat(&entry.name) {
            // A running container's files come and go.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            result => result?,
        };
        match stat.kind {
            Kind::Dir => match dir.open_dir(&entry.name) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                below => add(&below?, seen, total)?,
            },
            _ if stat.size > 0 && seen.insert(stat.inode) => *total += stat.size,
            _ => {}
        }
    }
    Ok(())
}
