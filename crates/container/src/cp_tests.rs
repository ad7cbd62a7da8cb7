use std::fs;

use super::*;

fn strings(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut stack = vec![dir.to_owned()];
    while let Some(at) = stack.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                stack.push(path.clone());
            }
            found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// Copies between two folders as `docker cp` does between a container and the host.
fn copy(root: &Path, source: &str, to: &str, options: CopyOptions) -> Result<(), Error> {
    let view = View::new(Dir::open(root).unwrap(), []);
    let source = Source::find(&view, Path::new(source), options).context("copy", source)?;
    let destination = Destination::on_host(&view, Path::new(to))?;
    let (dir, name) = destination.place(&source)?;
    transfer(&view, &source, &name, &view, &view.resolve(&dir, true).unwrap(), Owner::Caller)
}

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    fs::create_dir_all(path.join("src/sub")).unwrap();
    fs::create_dir(path.join("dir")).unwrap();
    fs::write(path.join("src/sub/f"), "content").unwrap();
    fs::write(path.join("file"), "other").unwrap();
    std::os::unix::fs::symlink("src", path.join("link")).unwrap();
    std::os::unix::fs::symlink("/dir", path.join("dirlink")).unwrap();
    root
}

#[test]
fn every_row_of_the_table() {
    for (source, to, made) in [
        ("/file", "/new", &["new"][..]),
        ("/src/sub/f", "/file", &[]),
        ("/file", "/dir", &["dir/file"]),
        ("/file", "/dir/", &["dir/file"]),
        ("/file", "/dirlink", &["dir/file"]),
        ("/src", "/new", &["new", "new/sub", "new/sub/f"]),
        ("/src", "/new/", &["new", "new/sub", "new/sub/f"]),
        ("/src/.", "/new", &["new", "new/sub", "new/sub/f"]),
        ("/src", "/dir", &["dir/src", "dir/src/sub", "dir/src/sub/f"]),
        ("/src/.", "/dir", &["dir/sub", "dir/sub/f"]),
        ("/link", "/dir", &["dir/link"]),
        ("/link/", "/dir", &["dir/link", "dir/link/sub", "dir/link/sub/f"]),
        ("/link/.", "/dir", &["dir/sub", "dir/sub/f"]),
    ] {
        let root = root();
        let before = strings(root.path());
        copy(root.path(), source, to, CopyOptions::default()).unwrap_or_else(|e| panic!("{source} {to}: {e}"));
        let made_now: Vec<_> = strings(root.path()).into_iter().filter(|path| !before.contains(path)).collect();
        assert_eq!(made_now, made, "{source} {to}");
    }
    let root = root();
    copy(root.path(), "/src/sub/f", "/file", CopyOptions::default()).unwrap();
    assert_eq!(fs::read(root.path().join("file")).unwrap(), b"content");
    copy(root.path(), "/link", "/dir", CopyOptions { follow_link: true, archive: false }).unwrap();
    assert!(root.path().join("dir/link/sub/f").is_file());
}

#[test]
fn what_cannot_be_is_said_in_dockers_words() {
    for (source, to, why) in [
        ("/src", "/file", "cannot copy directory"),
        ("/file", "/new/", "no such directory"),
        ("/file/", "/new", "not a directory"),
        ("/file", "/none/such", "invalid output path: directory \"/none\" does not exist"),
        ("/gone", "/new", "No such file"),
    ] {
        let root = root();
        let error = copy(root.path(), source, to, CopyOptions::default()).unwrap_err().to_string();
        assert!(error.contains(why), "{source} {to}: {error}");
    }
    let root = root();
    fs::create_dir_all(root.path().join("dir/src")).unwrap();
    fs::write(root.path().join("dir/src/sub"), "").unwrap();
    let error = copy(root.path(), "/src", "/dir", CopyOptions::default()).unwrap_err().to_string();
    assert!(error.contains("cannot overwrite non-directory") && error.contains("with directory"), "{error}");
}

#[test]
fn what_a_file_is_comes_along() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let root = root();
    let path = root.path();
    fs::hard_link(path.join("src/sub/f"), path.join("src/g")).unwrap();
    fs::set_permissions(path.join("src/g"), PermissionsExt::from_mode(0o4751)).unwrap();
    let long = "x".repeat(200);
    fs::write(path.join("src").join(&long), vec![7; 300_000]).unwrap();
    let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(5, 7));
    fs::File::open(path.join("src")).unwrap().set_times(time).unwrap();
    copy(path, "/src", "/new", CopyOptions::default()).unwrap();
    let stat = |name: &str| fs::metadata(path.join(name)).unwrap();
    assert_eq!(stat("new/g").ino(), stat("new/sub/f").ino());
    assert_eq!(stat("new/g").mode() & 0o7777, 0o4751);
    assert_eq!((stat("new").mtime(), stat("new").mtime_nsec()), (5, 7));
    assert_eq!(fs::read(path.join("new").join(long)).unwrap(), vec![7; 300_000]);
}

#[test]
fn no_archive_leads_out() {
    use strata_archive::tar::{Header, Kind as EntryKind, Writer};
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    fs::create_dir_all(root.join("to")).unwrap();
    std::os::unix::fs::symlink("../../../..", root.join("to/up")).unwrap();
    let unpacked = |entries: &[(EntryKind, &str, &str)]| {
        let mut tar = Writer::new(Vec::new());
        for (kind, name, link) in entries {
            let mut header = Header::new(*kind, *name);
            (header.link, header.mode) = (link.as_bytes().to_vec(), 0o644);
            tar.header(&header).unwrap();
        }
        let bytes = tar.finish().unwrap();
        let view = View::new(Dir::open(&root).unwrap(), []);
        unpack(&bytes[..], &view, Path::new("/to"), Owner::Caller).map_err(|e| e.to_string())
    };
    for entries in [
        &[(EntryKind::Regular, "../x", "")][..],
        &[(EntryKind::Regular, "a/../../x", "")],
        &[(EntryKind::HardLink, "x", "../../y")],
    ] {
        assert!(unpacked(entries).unwrap_err().contains("leads out"), "{entries:?}");
    }
    // Links lead no higher than the root.
    unpacked(&[(EntryKind::Regular, "up/escaped", ""), (EntryKind::Regular, "/abs", "")]).unwrap();
    assert!(root.join("escaped").is_file() && root.join("to/abs").is_file());
    unpacked(&[(EntryKind::Symlink, "l", "/"), (EntryKind::Regular, "l/made", "")]).unwrap();
    assert!(root.join("made").is_file());
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
}
