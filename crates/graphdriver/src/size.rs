//! What a folder takes, as Docker counts.

use std::{collections::HashSet, path::Path};

use strata_sys::tree::Kind;

use crate::{
    Error,
    walk::{each_dir, if_there},
};

/// Returns the bytes of the files below `root`: lengths, hard links once, directories not at all.
///
/// Source: moby `pkg/directory/directory_unix.go`.
pub fn of_tree(root: &Path) -> Result<u64, Error> {
    let (mut seen, mut total) = (HashSet::new(), 0);
    each_dir(root, |dir, entries| {
        for entry in entries.iter().filter(|entry| entry.kind != Kind::Dir) {
            if let Some(stat) = if_there(dir.stat(&entry.name))?
                && stat.size > 0
                && seen.insert(stat.inode)
            {
                total += stat.size;
            }
        }
        Ok(())
    })?;
    Ok(total)
}

#[cfg(test)]
mod tests {
    use strata_sys::tree::Dir;

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
