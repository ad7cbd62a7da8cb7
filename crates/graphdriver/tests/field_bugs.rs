//! What users of today's systems suffer from, asked of every driver; each case is a bug that some engine has or had.

mod common;

use std::{
    fs,
    io::{Read, Write},
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
use strata_graphdriver::{Access, Mounted, Parent};
use strata_spec::CacheId;
use strata_sys::{
    tree::{Dir, Time},
    xattr,
};
use strata_testkit::{LoopFs, require};

tests![
    a_layers_tar_never_writes_into_the_files_of_the_layer_below,
    the_same_size_in_the_same_second_is_a_change,
    file_capabilities_outlive_copies_and_copy_up,
    what_was_deleted_or_replaced_stays_so_over_remounts_and_layers,
    hard_links_within_a_layer_are_one_file_in_copies,
    an_open_reader_sees_what_is_written_after_copy_up,
    hard_links_stay_one_file_after_copy_up,
    a_directory_of_a_lower_layer_is_renamed_or_mv_copies_it,
    what_is_deleted_made_anew_and_deleted_again_stays_deleted,
    a_file_named_like_a_whiteout_deletes_nothing,
    a_damaged_lower_id_is_told_with_the_way_out,
    past_the_limit_of_hard_links_a_layer_copies_and_goes_on,
    copies_share_blocks_where_the_filesystem_can,
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

/// A new container's root over `base`, mounted.
fn mounted(bench: &Bench, n: u8, over: &CacheId) -> (CacheId, Mounted) {
    let id = container(bench, n, over);
    let root = bench.driver.mount(&id, Access::ReadWrite).expect("mount");
    (id, root)
}

/// `tail -f`, package managers, databases: who has a file open for reading must see what others write to it.
/// The kernel's overlayfs left such a reader on the lower file until Linux 4.19.
fn an_open_reader_sees_what_is_written_after_copy_up() {
    every_driver(|bench| {
        let base = unpacked(bench, 1, Parent::None, &[("log", Kind::Regular, 0o644, "one\n")]);
        let (_, root) = mounted(bench, 2, &base);
        let at = root.path().join("log");
        let mut reader = fs::File::open(&at).expect("open");
        let mut read_on = || {
            let mut text = String::new();
            reader.read_to_string(&mut text).expect("read");
            text
        };
        assert_eq!(read_on(), "one\n");
        fs::OpenOptions::new().append(true).open(&at).expect("open").write_all(b"two\n").expect("write");
        assert_eq!(read_on(), "two\n", "{}", bench.driver.name());
        assert_eq!(fs::read_to_string(&at).expect("read"), "one\ntwo\n", "{}", bench.driver.name());
    });
}

/// The kernel's overlayfs parts them where `index` is off, which is how Docker mounts it: what keeps them together lies in the work folder,
/// which nobody knows who makes a layer of the container's folder. In a union of ours the other names become links when it goes.
fn hard_links_stay_one_file_after_copy_up() {
    every_driver(|bench| {
        let base = unpacked(
            bench,
            1,
            Parent::None,
            &[
                ("one", Kind::Regular, 0o644, "text"),
                ("d/", Kind::Dir, 0o755, ""),
                ("d/two", Kind::HardLink, 0o644, "one"),
            ],
        );
        let (top, root) = mounted(bench, 2, &base);
        fs::write(root.path().join("one"), "changed").expect("write");
        let parts = ["overlay2", "overlay"].contains(&bench.driver.name());
        let expected = if parts { ("text", false) } else { ("changed", true) };
        let seen = |root: &Mounted| {
            let inode = |name: &str| fs::metadata(root.path().join(name)).expect("stat").ino();
            (read(&root.path().join("d/two")).expect("read"), inode("one") == inode("d/two"))
        };
        let (text, same) = seen(&root);
        assert_eq!((text.as_str(), same), expected, "{}", bench.driver.name());
        drop(root);
        let root = bench.driver.mount(&top, Access::ReadWrite).expect("mount again");
        let (text, same) = seen(&root);
        assert_eq!((text.as_str(), same), expected, "{} mounted again", bench.driver.name());
        fs::write(root.path().join("d/two"), "again").expect("write");
        let first = if parts { "changed" } else { "again" };
        assert_eq!(read(&root.path().join("one")).as_deref(), Some(first), "{}", bench.driver.name());
    });
}

/// Where layers must stay readable for Docker and for the program fuse-overlayfs there are no redirects: the answer is `EXDEV`, as
/// from another filesystem, and `mv` copies.
fn a_directory_of_a_lower_layer_is_renamed_or_mv_copies_it() {
    every_driver(|bench| {
        let base = unpacked(
            bench,
            1,
            Parent::None,
            &[
                ("d/", Kind::Dir, 0o750, ""),
                ("d/sub/", Kind::Dir, 0o755, ""),
                ("d/sub/file", Kind::Regular, 0o644, "text"),
            ],
        );
        let (top, root) = mounted(bench, 2, &base);
        let at = |name: &str| root.path().join(name);
        let renamed = fs::rename(at("d"), at("e"));
        match bench.mounts() {
            true => assert_eq!(
                renamed.expect_err("no redirects").kind(),
                std::io::ErrorKind::CrossesDevices,
                "{}",
                bench.driver.name()
            ),
            false => renamed.and_then(|()| fs::rename(at("e"), at("d"))).expect("a folder of one filesystem"),
        }
        assert_eq!(read(&at("d/sub/file")).as_deref(), Some("text"), "what failed changed nothing");
        let moved = std::process::Command::new("mv").arg(at("d")).arg(at("e")).status().expect("mv runs");
        assert!(moved.success(), "{}", bench.driver.name());
        drop(root);
        assert_eq!(seen(bench, &top, "e/sub/file").as_deref(), Some("text"), "{}", bench.driver.name());
        assert_eq!(seen(bench, &top, "d/sub/file"), None, "{}", bench.driver.name());
        let changes = bench.driver.changes(&top, Some(&base)).expect("changes");
        for (path, kind) in [("/d", ChangeKind::Deleted), ("/e", ChangeKind::Added), ("/e/sub/file", ChangeKind::Added)]
        {
            let told = changes.iter().any(|change| change.path == Path::new(path) && change.kind == kind);
            assert!(told, "{}: {path} in {changes:?}", bench.driver.name());
        }
        // One of its own is renamed by a rename everywhere.
        let root = bench.driver.mount(&top, Access::ReadWrite).expect("mount");
        fs::create_dir(root.path().join("own")).expect("create");
        fs::rename(root.path().join("own"), root.path().join("renamed")).expect("rename");
    });
}

/// A mark on a mark: what a layer in between deleted must not come back when the container makes and deletes the name once more.
fn what_is_deleted_made_anew_and_deleted_again_stays_deleted() {
    every_driver(|bench| {
        let base = unpacked(
            bench,
            1,
            Parent::None,
            &[
                ("file", Kind::Regular, 0o644, "old"),
                ("d/", Kind::Dir, 0o755, ""),
                ("d/old", Kind::Regular, 0o644, "old"),
            ],
        );
        let middle = unpacked(
            bench,
            2,
            Parent::Of(&base),
            &[(".wh.file", Kind::Regular, 0o600, ""), (".wh.d", Kind::Regular, 0o600, "")],
        );
        let (top, root) = mounted(bench, 3, &middle);
        let names = |id: &CacheId| {
            let root = bench.driver.mount(id, Access::ReadOnly).expect("mount");
            fs::read_dir(root.path()).expect("list").count()
        };
        for round in 0..2 {
            assert!(!root.path().join("file").exists() && !root.path().join("d").exists(), "{}", bench.driver.name());
            // The one as the other, too.
            fs::create_dir(root.path().join("file")).expect("create");
            fs::create_dir(root.path().join("d")).expect("create");
            assert_eq!(
                fs::read_dir(root.path().join("d")).expect("list").count(),
                0,
                "{} {round}",
                bench.driver.name()
            );
            fs::write(root.path().join("d/old"), "new").expect("write");
            fs::remove_file(root.path().join("d/old")).expect("remove");
            fs::remove_dir(root.path().join("d")).expect("remove");
            fs::remove_dir(root.path().join("file")).expect("remove");
        }
        drop(root);
        assert_eq!((names(&middle), names(&top)), (0, 0), "{}", bench.driver.name());
        assert_eq!(bench.driver.changes(&top, Some(&middle)).expect("changes"), [], "{}", bench.driver.name());
    });
}

/// In a layer's tar `.wh.NAME` deletes NAME. Under Docker a container's own file of such a name becomes that, and a file is gone.
fn a_file_named_like_a_whiteout_deletes_nothing() {
    every_driver(|bench| {
        let base = unpacked(bench, 1, Parent::None, &[("kept", Kind::Regular, 0o644, "kept")]);
        let (top, root) = mounted(bench, 2, &base);
        let made = fs::write(root.path().join(".wh.kept"), "mine");
        drop(root);
        let mut tar = Vec::new();
        let written = bench.driver.diff(&top, Some(&base), &mut tar);
        match bench.driver.name() {
            // There it would be a mark at once. AUFS's own answer is EPERM.
            "aufs" => assert_eq!(made.expect_err("it would be a mark").kind(), std::io::ErrorKind::PermissionDenied),
            "fuse-overlayfs" => {
                assert_eq!(made.expect_err("it would be a mark").kind(), std::io::ErrorKind::InvalidInput)
            }
            name => {
                made.expect("any name is allowed");
                let error = written.expect_err("no layer can hold it").to_string();
                assert!(error.contains("/.wh.kept") && error.contains("give it another name"), "{name}: {error}");
            }
        }
        assert_eq!(seen(bench, &top, "kept").as_deref(), Some("kept"), "{}", bench.driver.name());
    });
}

fn a_damaged_lower_id_is_told_with_the_way_out() {
    let Some(bench) = Bench::new("overlay") else { return };
    let driver = &bench.driver;
    let base = unpacked(&bench, 1, Parent::None, &[("file", Kind::Regular, 0o644, "text")]);
    let other = unpacked(&bench, 3, Parent::None, &[("file", Kind::Regular, 0o644, "other")]);
    let top = container(&bench, 2, &base);
    let file = driver.home().join(top.as_str()).join("lower-id");
    let remove = || fs::remove_file(&file).expect("remove");
    let write = |text: &str| fs::write(&file, text).expect("write");
    type Damage<'a> = (&'a dyn Fn(), &'a str);
    let damages: [Damage<'_>; 4] = [
        (&remove, "the file is missing"),
        (&|| write(""), "empty, as after a power cut"),
        (&|| write("../../etc"), "does not hold a folder's name"),
        (&|| write(&"e".repeat(64)), "are missing"),
    ];
    for (damage, reason) in damages {
        damage();
        let error = driver.mount(&top, Access::ReadWrite).expect_err("nothing is mounted over a guess");
        assert_eq!(error.kind(), strata_spec::ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        let faults = driver.check(&top, Some(&base));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(driver.repair(&top, Some(&base)).expect("repair"), std::slice::from_ref(&file));
        assert_eq!(driver.check(&top, Some(&base)), []);
        assert_eq!(seen(&bench, &top, "file").as_deref(), Some("text"), "{reason}");
    }
    // One that leads to another layer mounts, and only who knows the container's parent can tell.
    write(other.as_str());
    assert!(driver.check(&top, Some(&base))[0].reason.contains("does not name the folder below"));
    driver.repair(&top, Some(&base)).expect("repair");
    assert_eq!(seen(&bench, &top, "file").as_deref(), Some("text"));
}

/// ext4 takes 65,000 names of a file: an image of many layers, in many images, comes to that.
fn past_the_limit_of_hard_links_a_layer_copies_and_goes_on() {
    let Some(bench) = require::overlay().and_then(|()| LoopFs::ext4(64 << 20)).and_then(|fs| Bench::on(fs, "overlay"))
    else {
        return;
    };
    let driver = &bench.driver;
    let entries = [
        ("full", Kind::Regular, 0o4755, "full"),
        ("twin", Kind::HardLink, 0o644, "full"),
        ("other", Kind::Regular, 0o644, "other"),
    ];
    let base = unpacked(&bench, 1, Parent::None, &entries);
    let root = |id: &CacheId| driver.folder(id).expect("folder").path;
    let stat = |id: &CacheId, name: &str| fs::metadata(root(id).join(name)).expect("stat");
    fs::create_dir(bench.root.join("names")).expect("create");
    for n in stat(&base, "full").nlink()..65_000 {
        fs::hard_link(root(&base).join("full"), bench.root.join(format!("names/{n}"))).expect("link");
    }
    fs::hard_link(root(&base).join("full"), bench.root.join("names/more"))
        .expect_err("it has all the names it can have");

    let second = unpacked(&bench, 2, Parent::Of(&base), &[("more", Kind::Regular, 0o644, "more")]);
    assert_eq!(stat(&second, "other").ino(), stat(&base, "other").ino(), "the rest is linked");
    assert_ne!(stat(&second, "full").ino(), stat(&base, "full").ino());
    assert_eq!(stat(&second, "full").ino(), stat(&second, "twin").ino(), "one file stays one file");
    assert_eq!((stat(&second, "full").mode() & 0o7777, stat(&base, "full").nlink()), (0o4755, 65_000));
    // From there links go on.
    let third = unpacked(&bench, 3, Parent::Of(&second), &[("most", Kind::Regular, 0o644, "most")]);
    assert_eq!(stat(&third, "twin").ino(), stat(&second, "full").ino());
    assert_eq!(stat(&third, "full").nlink(), 4);
    let top = container(&bench, 4, &third);
    for (name, text) in [("full", "full"), ("twin", "full"), ("other", "other"), ("more", "more"), ("most", "most")] {
        assert_eq!(seen(&bench, &top, name).as_deref(), Some(text), "{name}");
    }
    assert_eq!(driver.changes(&third, Some(&second)).expect("changes").len(), 1, "a copy is no change");
}

/// A layer under vfs takes the room of what it changes, on a filesystem that shares blocks.
fn copies_share_blocks_where_the_filesystem_can() {
    let Some(bench) = LoopFs::btrfs(256 << 20).and_then(|fs| Bench::on(fs, "vfs")) else { return };
    let probe = bench.driver.probe();
    assert!(probe.iter().any(|tried| tried.name == "reflinks" && tried.works), "{probe:?}");
    let big = "0123456789abcdef".repeat(4 << 16);
    let base = unpacked(&bench, 1, Parent::None, &[("big", Kind::Regular, 0o644, &big)]);
    bench.driver.sync().expect("sync");
    let before = strata_sys::fs::info(&bench.root).expect("info").free_bytes;
    let tops: Vec<CacheId> = (2..12).map(|n| container(&bench, n, &base)).collect();
    bench.driver.sync().expect("sync");
    let taken = before.saturating_sub(strata_sys::fs::info(&bench.root).expect("info").free_bytes);
    assert!(taken < big.len() as u64, "ten copies of {} bytes took {taken}", big.len());
    let file = |id: &CacheId| bench.driver.folder(id).expect("folder").path.join("big");
    let shared = |id: &CacheId| strata_sys::fs::shared_bytes(&fs::File::open(file(id)).expect("open")).expect("told");
    assert!(tops.iter().all(|id| shared(id) == big.len() as u64));
    // And what is written to one is its own.
    fs::write(file(&tops[0]), "changed").expect("write");
    assert_eq!(fs::read_to_string(file(&base)).expect("read"), big);
    assert_eq!(fs::read_to_string(file(&tops[1])).expect("read"), big);
}
