//! Paths in a container's mounted root, which is their `/`: links lead nowhere else.

use std::{io, path::Path};

use strata_sys::tree::{Dir, Kind};

/// Links that are followed on the way to one path.
const MAX_LINKS: u32 = 40;

/// Opens the directory `path`, making what is missing of it with `mode`, owned by root.
///
/// A link on the way is followed inside the root; where it dangles, what it names is made. Fails with `NotADirectory` where
/// something else stands in the way.
pub(crate) fn make_dirs(root: &Dir, path: &Path, mode: u32) -> io::Result<Dir> {
    make_below(root, path, mode, MAX_LINKS)
}

fn make_below(root: &Dir, path: &Path, mode: u32, links: u32) -> io::Result<Dir> {
    if path.as_os_str().is_empty() {
        return root.open_dir(".");
    }
    match root.dir_in_root(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        // `..` or nothing at the end: the part before it is what can be missing.
        let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
        make_below(root, parent, mode, links)?;
        return root.dir_in_root(path);
    };
    let parent_dir = make_below(root, parent, mode, links)?;
    if parent_dir.stat(name).is_ok_and(|stat| stat.kind == Kind::Symlink) {
        let links = links.checked_sub(1).ok_or(rustix::io::Errno::LOOP)?;
        let target = parent_dir.read_link(name)?;
        return make_below(root, &parent.join(target), mode, links);
    }
    make_dir(&parent_dir, name, mode)
}

/// Makes the directory `name` in `parent`, owned by root, with just this `mode`; one that is there stays as it is.
pub(crate) fn make_dir(parent: &Dir, name: impl AsRef<Path>, mode: u32) -> io::Result<Dir> {
    let name = name.as_ref();
    match parent.create_dir(name, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return parent.open_dir(name),
        result => result?,
    }
    parent.set_mode(name, mode)?;
    parent.open_dir(name)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_is_missing_is_made_inside_the_root() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("root");
        fs::create_dir_all(path.join("real")).unwrap();
        symlink("/real", path.join("absolute")).unwrap();
        symlink("../../../out", path.join("climbs")).unwrap();
        symlink("loop", path.join("loop")).unwrap();
        fs::write(path.join("file"), "").unwrap();
        let root = Dir::open(&path).unwrap();
        for (asked, made) in [("/a/b", "a/b"), ("absolute/c", "real/c"), ("climbs/d", "out/d"), ("x/../y", "y")] {
            make_dirs(&root, Path::new(asked), 0o750).unwrap_or_else(|e| panic!("{asked}: {e}"));
            assert!(path.join(made).is_dir(), "{asked}");
        }
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(path.join("a")).unwrap().permissions().mode() & 0o7777, 0o750);
        assert!(!scratch.path().join("out").exists());
        let errno = |path: &str| make_dirs(&root, Path::new(path), 0o755).unwrap_err().raw_os_error();
        assert_eq!(errno("file"), Some(20));
        assert_eq!(errno("file/x"), Some(20));
        assert_eq!(errno("loop"), Some(40));
    }
}
