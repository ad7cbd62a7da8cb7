//! What users of today's systems suffer from, asked of every driver; each case is a bug that some engine has or had.

mod common;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use common::{Bench, every_driver, read};
use strata_archive::{
    Limits,
    apply::{Options, apply},
    diff::ChangeKind,
    tar::{Header, Kind, Writer},
};
use strata_graphdriver::{Access, Parent};
use strata_spec::CacheId;
use strata_sys::{
    tree::{Dir, Time},
    xattr,
};

tests![
    a_layers_tar_never_writes_into_the_files_of_the_layer_below,
    the_same_size_in_the_same_second_is_a_change,
    file_capabilities_outlive_copies_and_copy_up,
    what_was_deleted_or_replaced_stays_so_over_remounts_and_layers,
    hard_links_within_a_layer_are_one_file_in_copies,
];

/// An entry of a tar: its name, kind, mode, and text or link target.
type Entry<'a> = (&'a str, Kind, u32, &'a str);

/// A layer over `parent`, unpacked from a tar as every layer is.
fn unpacked(bench: &Bench, n: u8, parent: Parent<'_>, entries: &[Entry<'_>]) -> CacheId {
    let mut tar = Writer::new(Vec::new());
    for (name, kind, mode, text) in entries {
        let mut header = Header { mode: *mode, ..Header::new(*kind, *name) };
        match kind {
            Kind::Regular => header.size = text.len() as u64,
            _ => header.link = text.as_bytes().to_vec(),
        }
        tar.header(&header).expect("header");
        if *kind == Kind::Regular {
            tar.content(text.as_bytes()).expect("content");
        }
    }
    let tar = tar.finish().expect("finish");
    let id = CacheId::from_random([n; 32]);
    bench.driver.create(&id, parent, Access::ReadOnly).expect("create");
    let folder = bench.driver.folder(&id).expect("folder");
    let options = Options { marks: folder.marks, limits: Limits::default() };
    apply(&tar[..], &folder.path, std::io::sink(), &options).expect("apply");
    id
}

fn container(bench: &Bench, n: u8, over: &CacheId) -> CacheId {
    let id = CacheId::from_random([n; 32]);
    bench.driver.create(&id, Parent::Of(over), Access::ReadWrite).expect("create");
    id
}

fn seen(bench: &Bench, id: &CacheId, path: &str) -> Option<String> {
    let root = bench.driver.mount(id, Access::ReadOnly).expect("mount");
    read(&root.path().join(path))
}

fn a_layers_tar_never_writes_into_the_files_of_the_layer_below() {
    every_driver(|bench| {
        let file = Kind::Regular;
        let base = unpacked(
            bench,
            1,
            Parent::None,
            &[
                ("d/", Kind::Dir, 0o755, ""),
                ("d/changed", file, 0o644, "below"),
                ("d/mode", file, 0o644, "below"),
                ("d/gone", file, 0o644, "below"),
                ("d/linked", file, 0o644, "below"),
                ("d/kept", file, 0o644, "below"),
            ],
        );
        let top = unpacked(
            bench,
            2,
            Parent::Of(&base),
            &[
                ("d/changed", file, 0o600, "above"),
                ("d/mode", file, 0o4755, "below"),
                ("d/.wh.gone", file, 0o600, ""),
                ("d/linked", file, 0o644, "above"),
                ("d/again", Kind::HardLink, 0o644, "d/linked"),
            ],
        );
        for (name, below, above) in [
            ("changed", Some("below"), Some("above")),
            ("mode", Some("below"), Some("below")),
            ("gone", Some("below"), None),
            ("linked", Some("below"), Some("above")),
            ("again", None, Some("above")),
            ("kept", Some("below"), Some("below")),
        ] {
            let path = format!("d/{name}");
            assert_eq!(seen(bench, &base, &path).as_deref(), below, "{} {name} below", bench.driver.name());
            assert_eq!(seen(bench, &top, &path).as_deref(), above, "{} {name} above", bench.driver.name());
        }
        let mode = |id: &CacheId| {
            let root = bench.driver.mount(id, Access::ReadOnly).expect("mount");
            fs::metadata(root.path().join("d/mode")).expect("stat").permissions().mode() & 0o7777
        };
        assert_eq!((mode(&base), mode(&top)), (0o644, 0o4755), "{}", bench.driver.name());
    });
}

fn the_same_size_in_the_same_second_is_a_change() {
    every_driver(|bench| {
        // A tar's times have no nanoseconds.
        let base = unpacked(
            bench,
            1,
            Parent::None,
            &[("file", Kind::Regular, 0o644, "one"), ("same", Kind::Regular, 0o644, "one")],
        );
        let top = container(bench, 2, &base);
        let root = bench.driver.mount(&top, Access::ReadWrite).expect("mount");
        for (name, text) in [("file", "two"), ("same", "one")] {
            let was = fs::metadata(root.path().join(name)).expect("stat").mtime();
            fs::write(root.path().join(name), text).expect("write");
            let time = Time { secs: was, nanos: 5 };
            Dir::open(root.path()).expect("open").set_times(name, Some(time), Some(time)).expect("times");
        }
        drop(root);
        let changes = bench.driver.changes(&top, Some(&base)).expect("changes");
        assert!(
            changes.iter().any(|change| change.path == Path::new("/file") && change.kind == ChangeKind::Modified),
            "{}: {changes:?}",
            bench.driver.name()
        );
    });
}

fn file_capabilities_outlive_copies_and_copy_up() {
    every_driver(|bench| {
        let base = unpacked(
            bench,
            1,
            Parent::None,
            &[("ping", Kind::Regular, 0o755, "program"), ("other", Kind::Regular, 0o644, "x")],
        );
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let folder = bench.driver.folder(&base).expect("folder").path;
        xattr::set(folder.join("ping"), "security.capability", &capability).expect("set");
        let middle = unpacked(bench, 2, Parent::Of(&base), &[("more", Kind::Regular, 0o644, "y")]);
        let top = container(bench, 3, &middle);
        let root = bench.driver.mount(&top, Access::ReadWrite).expect("mount");
        let at = root.path().join("ping");
        assert_eq!(
            xattr::get(&at, "security.capability").expect("get").as_deref(),
            Some(&capability[..]),
            "{}",
            bench.driver.name()
        );
        // A change of attributes copies the file up with all it has.
        fs::set_permissions(&at, fs::Permissions::from_mode(0o750)).expect("mode");
        assert_eq!(
            xattr::get(&at, "security.capability").expect("get").as_deref(),
            Some(&capability[..]),
            "{}",
            bench.driver.name()
        );
    });
}

fn what_was_deleted_or_replaced_stays_so_over_remounts_and_layers() {
    every_driver(|bench| {
        let base = unpacked(
            bench,
            1,
            Parent::None,
            &[
                ("dir/", Kind::Dir, 0o755, ""),
                ("dir/old", Kind::Regular, 0o644, "old"),
                ("dir/sub/", Kind::Dir, 0o755, ""),
                ("dir/sub/older", Kind::Regular, 0o644, "older"),
                ("file", Kind::Regular, 0o644, "file"),
            ],
        );
        let top = container(bench, 2, &base);
        let root = bench.driver.mount(&top, Access::ReadWrite).expect("mount");
        fs::remove_dir_all(root.path().join("dir")).expect("remove");
        fs::create_dir(root.path().join("dir")).expect("create");
        fs::write(root.path().join("dir/new"), "new").expect("write");
        fs::remove_file(root.path().join("file")).expect("remove");
        drop(root);
        let names = |id: &CacheId| {
            let root = bench.driver.mount(id, Access::ReadOnly).expect("mount");
            let mut names: Vec<String> = fs::read_dir(root.path().join("dir"))
                .expect("list")
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            (names, root.path().join("file").exists())
        };
        assert_eq!(names(&top), (vec!["new".to_owned()], false), "{}", bench.driver.name());
        // The same as a layer, over the same.
        let mut tar = Vec::new();
        bench.driver.diff(&top, Some(&base), &mut tar).expect("diff");
        let layer = CacheId::from_random([3; 32]);
        bench.driver.create(&layer, Parent::Of(&base), Access::ReadOnly).expect("create");
        let folder = bench.driver.folder(&layer).expect("folder");
        let options = Options { marks: folder.marks, limits: Limits::default() };
        apply(&tar[..], &folder.path, std::io::sink(), &options).expect("apply");
        assert_eq!(names(&layer), names(&top), "{}", bench.driver.name());
        assert_eq!(seen(bench, &base, "dir/old").as_deref(), Some("old"));
    });
}

fn hard_links_within_a_layer_are_one_file_in_copies() {
    every_driver(|bench| {
        let base = unpacked(
            bench,
            1,
            Parent::None,
            &[("one", Kind::Regular, 0o644, "text"), ("two", Kind::HardLink, 0o644, "one")],
        );
        let middle = unpacked(bench, 2, Parent::Of(&base), &[("more", Kind::Regular, 0o644, "y")]);
        let root = bench.driver.mount(&middle, Access::ReadOnly).expect("mount");
        let inode = |name: &str| fs::metadata(root.path().join(name)).expect("stat").ino();
        assert_eq!(inode("one"), inode("two"), "{}", bench.driver.name());
    });
}
