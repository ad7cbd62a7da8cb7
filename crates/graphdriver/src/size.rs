//! What a folder takes, as Docker counts.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use strata_durable::Context;
use strata_sys::tree::{Dir, Kind};

use crate::Error;

/// From here on a path is shortened by a directory that stays open: the kernel takes 4096 bytes, and a tree may be deeper.
const LONG: usize = 2048;

/// Returns the bytes of the files below `root`: lengths, hard links once, directories not at all.
///
/// Source: moby `pkg/directory/directory_unix.go`.
pub fn of_tree(root: &Path) -> Result<u64, Error> {
    let mut seen = HashSet::new();
    let mut total = 0;
    let mut left = vec![(Rc::new(Dir::open(root).context("open", root)?), PathBuf::from("."))];
    while let Some((base, path)) = left.pop() {
        let add = || -> io::Result<()> {
            let dir = Rc::new(base.dir_beneath(&path)?);
            for entry in dir.entries()? {
                if entry.kind == Kind::Dir {
                    left.push(match path.as_os_str().len() + entry.name.len() < LONG {
                        true => (base.clone(), path.join(entry.name)),
                        false => (dir.clone(), entry.name.into()),
                    });
                    continue;
                }
                match dir.stat(&entry.name) {
                    Ok(stat) if stat.size > 0 && seen.insert(stat.inode) => total += stat.size,
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        };
        // A running container's files come and go.
        match { add }() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.context("measure", root.join(&path))?,
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_links_count_once_and_no_tree_is_too_deep() {
        let scratch = strata_testkit::scratch();
        std::fs::write(scratch.join("a"), [0; 1000]).expect("write");
        std::fs::hard_link(scratch.join("a"), scratch.join("b")).expect("link");
        std::os::unix::fs::symlink("12345", scratch.join("c")).expect("link");
        let mut dir = Dir::open(scratch.path()).expect("open");
        for _ in 0..600 {
            let name = "d".repeat(20);
            dir.create_dir(&name, 0o755).expect("create");
            dir = dir.open_dir(&name).expect("open");
        }
        std::io::Write::write_all(&mut dir.create_file("deep", 0o644).expect("create"), b"123").expect("write");
        assert_eq!(of_tree(scratch.path()).expect("measure"), 1008);
    }
}
