use std::{collections::BTreeMap, fs, io::Write};

use strata_durable as durable;

use super::*;

/// All files under a folder with their bytes; folders end in `/`.
fn listing(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, prefix: &str, all: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => {
                    walk(&entry.path(), &format!("{name}/"), all);
                    all.insert(format!("{name}/"), Vec::new());
                }
                kind if kind.is_file() => drop(all.insert(name, fs::read(entry.path()).unwrap())),
                _ => drop(all.insert(name, b"special".to_vec())),
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(root, "", &mut all);
    all
}

#[test]
fn a_rename_before_the_sync_is_caught() {
    let scratch = scratch();
    let run = record(scratch.path(), || {
        fs::write(scratch.join(".tmp-f"), b"bytes").unwrap();
        fs::rename(scratch.join(".tmp-f"), scratch.join("f")).unwrap();
        durable::sync_dir(scratch.path()).unwrap();
    });
    let found: Vec<Option<Vec<u8>>> = run.images().map(|disk| fs::read(disk.root().join("f")).ok()).collect();
    for wrong in [&b""[..], b"by"] {
        assert!(found.iter().any(|bytes| bytes.as_deref() == Some(wrong)), "{wrong:?} in {found:?}");
    }
}

#[test]
fn a_forgotten_sync_of_the_folder_is_caught() {
    let scratch = scratch();
    fs::create_dir(scratch.join("a")).unwrap();
    let run = record(scratch.path(), || {
        let mut file = fs::File::create(scratch.join("a/f")).unwrap();
        file.write_all(b"bytes").unwrap();
        file.sync_all().unwrap();
        mark(scratch.path(), "done");
    });
    assert!(run.images().any(|disk| disk.is_after("done") && !disk.root().join("a/f").exists()));
}

#[test]
fn content_is_lost_until_its_filesystem_is_synced() {
    let scratch = scratch();
    let run = record(scratch.path(), || {
        fs::create_dir_all(scratch.join("layer/usr")).unwrap();
        fs::write(scratch.join("layer/usr/big"), vec![7; 5000]).unwrap();
        durable::trace::content(&scratch.join("layer"));
        durable::sync_filesystem(&scratch.join("layer")).unwrap();
        mark(scratch.path(), "synced");
        durable::write(&scratch.join("names-it"), b"layer", 0o600).unwrap();
    });
    let mut lost = 0;
    for disk in run.images() {
        let whole = fs::read(disk.root().join("layer/usr/big")).is_ok_and(|bytes| bytes == vec![7; 5000]);
        assert!(whole || !disk.is_after("synced"), "after {disk}");
        assert!(whole || !disk.root().join("names-it").exists(), "after {disk}");
        lost += u32::from(!whole);
    }
    assert!(lost >= 2, "lost {lost} times");
}

#[test]
fn images_keep_modes_links_attributes_and_nodes() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let Some(()) = crate::require::device_nodes() else { return };
    let scratch = scratch();
    let Some(()) = crate::require::trusted_xattrs(scratch.path()) else { return };
    let dir = strata_sys::tree::Dir::open(scratch.path()).unwrap();
    dir.create_dir("d", 0o755).unwrap();
    dir.set_owner("d", 12, 34).unwrap();
    dir.set_mode("d", 0o2711).unwrap();
    strata_sys::xattr::set(scratch.join("d"), "trusted.overlay.opaque", b"y").unwrap();
    fs::write(scratch.join("d/f"), b"x").unwrap();
    fs::hard_link(scratch.join("d/f"), scratch.join("g")).unwrap();
    dir.symlink("nowhere", "s").unwrap();
    dir.create_node("white", strata_sys::tree::Kind::CharDevice, 0, Default::default()).unwrap();
    let run = record(scratch.path(), || durable::trace::content(scratch.path()));
    let images: Vec<Image> = run.images().collect();
    let [disk] = &images[..] else { panic!("nothing changed, yet there are {images:?}") };
    let of = |name: &str| fs::symlink_metadata(disk.root().join(name)).unwrap();
    assert_eq!((of("d").permissions().mode() & 0o7777, of("d").uid(), of("d").gid()), (0o2711, 12, 34));
    assert_eq!(strata_sys::xattr::get(disk.root().join("d"), "trusted.overlay.opaque").unwrap().unwrap(), b"y");
    assert_eq!(of("d/f").ino(), of("g").ino());
    assert_eq!(fs::read_link(disk.root().join("s")).unwrap(), Path::new("nowhere"));
    assert_eq!((of("white").rdev(), of("white").mode()), (0, 0o020_000));
}

#[test]
fn a_write_leaves_the_old_bytes_or_the_new() {
    let scratch = scratch();
    let path = scratch.join("f");
    fs::write(&path, b"old").unwrap();
    let run = record(scratch.path(), || {
        durable::write(&path, b"new one", 0o600).unwrap();
        mark(scratch.path(), "written");
    });
    let mut seen = std::collections::BTreeSet::new();
    for disk in run.images() {
        let found = fs::read(disk.root().join("f")).unwrap();
        assert!(found == b"new one" || found == b"old" && !disk.is_after("written"), "{found:?} after {disk}");
        durable::sweep_files(disk.root()).unwrap();
        assert_eq!(listing(disk.root()).len(), 1, "after {disk}");
        seen.insert(found);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_root_reached_through_a_link_is_recorded() {
    let scratch = scratch();
    fs::create_dir(scratch.join("real")).unwrap();
    std::os::unix::fs::symlink("real", scratch.join("link")).unwrap();
    let run = record(&scratch.join("link"), || {
        durable::write(&scratch.join("link/f"), b"1", 0o600).unwrap();
        durable::write(&scratch.join("real/g"), b"2", 0o600).unwrap();
        durable::write(&scratch.join("elsewhere"), b"3", 0o600).unwrap();
    });
    let renames: Vec<&str> = run.steps().filter(|step| step.starts_with("rename")).collect();
    assert_eq!((renames.len(), run.len()), (2, 2 + 2 * 5), "{renames:?}");
    assert!(renames[0].ends_with("→ f") && renames[1].ends_with("→ g"), "{renames:?}");
}

#[test]
fn writes_of_many_are_each_whole() {
    let scratch = scratch();
    fs::create_dir(scratch.join("d")).unwrap();
    let files = [scratch.join("a"), scratch.join("d/b"), scratch.join("d/c")];
    let run = record(scratch.path(), || {
        let files: Vec<(&Path, &[u8])> = files.iter().map(|path| (path.as_path(), &b"bytes"[..])).collect();
        durable::write_many(&files, 0o644).unwrap();
        mark(scratch.path(), "written");
    });
    for disk in run.images() {
        for name in ["a", "d/b", "d/c"] {
            match fs::read(disk.root().join(name)) {
                Ok(bytes) => assert_eq!(bytes, b"bytes", "{name} after {disk}"),
                Err(_) => assert!(!disk.is_after("written"), "{name} after {disk}"),
            }
        }
    }
}

#[test]
fn a_new_folder_is_whole_or_not_there() {
    let scratch = scratch();
    fs::create_dir(scratch.join("tmp")).unwrap();
    fs::create_dir(scratch.join("sha256")).unwrap();
    let run = record(scratch.path(), || {
        let mut new = durable::NewDir::begin(&scratch.join("tmp"), 0o755).unwrap();
        new.write("diff", b"sha256:12", 0o644).unwrap();
        new.create_dir("more", 0o700).unwrap();
        new.write("more/size", b"5", 0o644).unwrap();
        new.symlink(Path::new("diff"), "link").unwrap();
        new.create("tar-split.json.gz", 0o644).unwrap().write_all(&[3; 100]).unwrap();
        new.commit(&scratch.join("sha256/ab")).unwrap();
        mark(scratch.path(), "registered");
    });
    let whole = listing(&scratch.join("sha256/ab"));
    assert_eq!(whole.len(), 5);
    let mut images = 0;
    for disk in run.images() {
        match disk.root().join("sha256/ab") {
            layer if layer.exists() => assert_eq!(listing(&layer), whole, "after {disk}"),
            _ => assert!(!disk.is_after("registered"), "lost after {disk}"),
        }
        durable::sweep_tmp(&disk.root().join("tmp")).unwrap();
        assert_eq!(listing(&disk.root().join("tmp")).len(), 0, "after {disk}");
        images += 1;
    }
    assert!(images > 10, "{images}");
}

#[test]
fn a_removed_folder_is_whole_or_gone() {
    let scratch = scratch();
    fs::create_dir_all(scratch.join("layers/x/sub")).unwrap();
    fs::create_dir(scratch.join("tmp")).unwrap();
    fs::write(scratch.join("layers/x/sub/f"), b"bytes").unwrap();
    let run = record(scratch.path(), || {
        durable::remove_dir(&scratch.join("layers/x"), &scratch.join("tmp")).unwrap();
        mark(scratch.path(), "removed");
    });
    let (mut there, mut gone) = (0, 0);
    for disk in run.images() {
        match disk.root().join("layers/x") {
            x if x.exists() => {
                assert!(!disk.is_after("removed"), "after {disk}");
                assert_eq!(fs::read(x.join("sub/f")).unwrap(), b"bytes", "after {disk}");
                there += 1;
            }
            _ => gone += 1,
        }
        durable::sweep_tmp(&disk.root().join("tmp")).unwrap();
        assert_eq!(listing(&disk.root().join("tmp")).len(), 0, "after {disk}");
    }
    assert!(there > 0 && gone > 0);
}

#[test]
fn links_and_renames_are_old_or_new() {
    let scratch = scratch();
    for name in ["a", "b"] {
        fs::create_dir(scratch.join(name)).unwrap();
    }
    fs::write(scratch.join("a/f"), b"bytes").unwrap();
    durable::symlink(Path::new("one"), &scratch.join("l")).unwrap();
    let run = record(scratch.path(), || {
        durable::symlink(Path::new("two"), &scratch.join("l")).unwrap();
        mark(scratch.path(), "linked");
        durable::rename(&scratch.join("a/f"), &scratch.join("b/f")).unwrap();
        mark(scratch.path(), "renamed");
    });
    for disk in run.images() {
        let target = fs::read_link(disk.root().join("l")).unwrap();
        assert!(target == Path::new("two") || target == Path::new("one") && !disk.is_after("linked"), "after {disk}");
        let names = ["a/f", "b/f"].map(|name| fs::read(disk.root().join(name)).ok());
        let one = names.iter().flatten().collect::<Vec<_>>();
        assert_eq!(one, [b"bytes"], "after {disk}");
        assert!(names[1].is_some() || !disk.is_after("renamed"), "after {disk}");
    }
}

#[test]
fn each_note_is_there_before_what_it_announces() {
    let scratch = scratch();
    let root = scratch.path().to_owned();
    let run = record(&root, || {
        let journal = durable::Journal::open(&root.join("journal")).unwrap();
        let mut intent = journal.begin(&1).unwrap();
        durable::write(&root.join("one"), b"1", 0o600).unwrap();
        intent.note(&2).unwrap();
        durable::write(&root.join("two"), b"2", 0o600).unwrap();
        mark(&root, "all done");
        intent.done().unwrap();
        mark(&root, "ended");
    });
    let mut settled = std::collections::BTreeSet::new();
    for disk in run.images() {
        let journal = durable::Journal::open(&disk.root().join("journal")).unwrap();
        let mut found: Vec<Vec<u32>> = Vec::new();
        journal
            .settle(|notes: &[u32]| {
                found.push(notes.to_vec());
                Ok::<_, durable::Error>(())
            })
            .unwrap_or_else(|error| panic!("after {disk}: {error}"));
        let last = found.first().and_then(|notes| notes.last().copied()).unwrap_or(0);
        assert!(found.len() <= 1, "{found:?} after {disk}");
        if !disk.is_after("all done") {
            for (n, name) in [(1, "one"), (2, "two")] {
                assert!(last >= n || !disk.root().join(name).exists(), "{name} without its note after {disk}");
            }
        }
        assert!(!disk.is_after("ended") || found.is_empty(), "after {disk}");
        assert_eq!(listing(&disk.root().join("journal")).len(), 0, "after {disk}");
        settled.insert(last);
    }
    assert_eq!(settled.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
}
