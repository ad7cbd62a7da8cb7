//! What every driver promises, asked of each that this build has.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use common::{Bench, every_driver, is_mounted, read};

use strata_archive::diff::{Change, ChangeKind};
use strata_graphdriver::{Access, Error, Parent, open};
use strata_spec::{CacheId, ErrorKind};

tests![
    a_layer_reads_as_its_parent_until_changed,
    a_folder_is_made_once_and_removed_wholly,
    users_share_a_mount_and_the_last_unmounts,
    an_adopted_layer_stands_on_its_parent,
    more_layers_than_dockers_where_the_kernel_can,
    overlay2_lies_as_docker_writes_it,
    overlay2_repairs_its_own_files,
    a_sweep_takes_only_what_is_dead,
];

fn a_layer_reads_as_its_parent_until_changed() {
    every_driver(|bench| {
        let driver = &bench.driver;
        let base = bench.layer(1, Parent::None, &[("etc/a", "base"), ("etc/b", "base"), ("etc/c", "base")]);
        let middle = bench.layer(2, Parent::Of(&base), &[("etc/b", "middle")]);
        let top = CacheId::from_random([3; 32]);
        driver.create(&top, Parent::Of(&middle), Access::ReadWrite).expect("create");
        let mounted = driver.mount(&top, Access::ReadWrite).expect("mount");
        assert_eq!(read(&mounted.path().join("etc/a")).as_deref(), Some("base"));
        assert_eq!(read(&mounted.path().join("etc/b")).as_deref(), Some("middle"));
        fs::write(mounted.path().join("etc/a"), "top").expect("write");
        fs::write(mounted.path().join("new"), "new").expect("write");
        fs::remove_file(mounted.path().join("etc/c")).expect("delete");
        let path = mounted.path().to_owned();
        drop(mounted);
        assert!(!is_mounted(&path) && path.exists() == bench.keeps_mount_point(), "{}", path.display());

        let mounted = driver.mount(&top, Access::ReadOnly).expect("mount again");
        assert_eq!(read(&mounted.path().join("etc/a")).as_deref(), Some("top"));
        assert_eq!(read(&mounted.path().join("etc/c")), None);
        drop(mounted);
        let below = driver.mount(&middle, Access::ReadOnly).expect("mount the layer below");
        assert_eq!(read(&below.path().join("etc/a")).as_deref(), Some("base"));
        drop(below);

        let change = |path: &str, kind| Change { path: path.into(), kind };
        assert_eq!(
            driver.changes(&top, Some(&middle)).expect("changes"),
            [
                change("/etc", ChangeKind::Modified),
                change("/etc/a", ChangeKind::Modified),
                change("/etc/c", ChangeKind::Deleted),
                change("/new", ChangeKind::Added),
            ]
        );
        assert_eq!(driver.diff_size(&top, Some(&middle)).expect("size"), 6);
    });
}

fn a_folder_is_made_once_and_removed_wholly() {
    every_driver(|bench| {
        let driver = &bench.driver;
        let before: BTreeSet<_> = walk(&bench.root);
        let base = bench.layer(1, Parent::None, &[("a", "1")]);
        let top = bench.layer(2, Parent::Of(&base), &[("a", "2")]);
        let again = driver.create(&top, Parent::None, Access::ReadWrite).expect_err("the ID is taken");
        assert!(matches!(again, Error::AlreadyExists(..)), "{again}");
        let lost = driver.create(
            &CacheId::from_random([9; 32]),
            Parent::Of(&CacheId::from_random([8; 32])),
            Access::ReadWrite,
        );
        assert_eq!(lost.expect_err("no such parent").kind(), ErrorKind::NotFound);
        assert_eq!(
            driver.list().expect("list").into_iter().collect::<BTreeSet<_>>(),
            [base.clone(), top.clone()].into()
        );
        // A copy does not know what it is a copy of.
        if bench.is_union() {
            assert_eq!(driver.parent(&top).expect("parent"), Some(base.clone()));
        }
        assert_eq!(driver.parent(&base).expect("parent"), None);

        // Somebody killed left it mounted.
        let path = driver.mount(&top, Access::ReadWrite).expect("mount").keep();
        driver.remove(&top).expect("remove");
        assert!(!is_mounted(&path));
        driver.remove(&base).expect("remove");
        driver.remove(&base).expect("removing what is not there is no error");
        assert!(!driver.exists(&base));
        assert_eq!(driver.folder(&base).expect_err("gone").kind(), ErrorKind::NotFound);
        let after = walk(&bench.root);
        let left: Vec<_> = after.difference(&before).filter(|path| !path.contains("/locks/")).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    });
}

fn users_share_a_mount_and_the_last_unmounts() {
    every_driver(|bench| {
        let driver = &bench.driver;
        if !bench.mounts() {
            return;
        }
        let base = bench.layer(1, Parent::None, &[("a", "1")]);
        let top = CacheId::from_random([2; 32]);
        driver.create(&top, Parent::Of(&base), Access::ReadWrite).expect("create");
        let other = open(driver.name(), &bench.root, Access::ReadWrite).expect("a second user opens the driver");
        let first = driver.mount(&top, Access::ReadWrite).expect("mount");
        let second = other.mount(&top, Access::ReadOnly).expect("mount");
        let path = first.path().to_owned();
        assert_eq!(second.path(), path);
        drop(first);
        assert!(is_mounted(&path), "the second still uses it");
        drop(second);
        assert!(!is_mounted(&path));

        let kept = driver.mount(&top, Access::ReadWrite).expect("mount").keep();
        drop(other.mount(&top, Access::ReadWrite).expect("mount"));
        assert!(is_mounted(&kept), "kept is kept");
        driver.unmount(&top).expect("unmount");
        driver.unmount(&top).expect("not mounted is no error");
        assert!(!is_mounted(&kept));
    });
}

fn an_adopted_layer_stands_on_its_parent() {
    every_driver(|bench| {
        let driver = &bench.driver;
        if !driver.is_independent() {
            return;
        }
        let top = bench.layer(3, Parent::Later, &[("etc/top", "3")]);
        let middle = bench.layer(2, Parent::Later, &[("etc/middle", "2")]);
        let base = bench.layer(1, Parent::Later, &[("etc/base", "1")]);
        driver.adopt(&base, None).expect("adopt");
        driver.adopt(&middle, Some(&base)).expect("adopt");
        driver.adopt(&top, Some(&middle)).expect("adopt");
        for id in [&base, &middle, &top] {
            driver.commit(id).expect("commit");
            assert_eq!(driver.check(id, driver.parent(id).expect("parent").as_ref()), []);
        }
        driver.sync().expect("sync");
        let mounted = driver.mount(&top, Access::ReadOnly).expect("mount");
        for (name, text) in [("base", "1"), ("middle", "2"), ("top", "3")] {
            assert_eq!(read(&mounted.path().join("etc").join(name)).as_deref(), Some(text), "{name}");
        }
    });
}

fn more_layers_than_dockers_where_the_kernel_can() {
    every_driver(|bench| {
        let driver = &bench.driver;
        let depth = driver.max_depth();
        if !bench.is_union() {
            return;
        }
        let id =
            |n: usize| CacheId::from_random(std::array::from_fn(|i| if i < 2 { n.to_be_bytes()[6 + i] } else { 7 }));
        driver.create(&id(0), Parent::None, Access::ReadOnly).expect("create");
        for n in 1..=depth {
            driver.create(&id(n), Parent::Of(&id(n - 1)), Access::ReadOnly).expect("create");
            fs::write(driver.folder(&id(n)).expect("folder").path.join(format!("f{n}")), "").expect("write");
        }
        let mounted = driver.mount(&id(depth), Access::ReadWrite).expect("mounts at the limit");
        assert_eq!(fs::read_dir(mounted.path()).expect("list").count(), depth);
        drop(mounted);
        let error =
            driver.create(&id(depth + 1), Parent::Of(&id(depth)), Access::ReadOnly).expect_err("beyond the limit");
        assert!(matches!(error, Error::TooDeep { .. }), "{error}");
        assert!(!driver.exists(&id(depth + 1)));
    });
}

fn overlay2_lies_as_docker_writes_it() {
    let Some(bench) = Bench::new("overlay2") else { return };
    let driver = &bench.driver;
    let base = bench.layer(1, Parent::None, &[]);
    let middle = bench.layer(2, Parent::Of(&base), &[]);
    let top = bench.layer(3, Parent::Of(&middle), &[]);
    let home = driver.home();
    let mode = |path: String| fs::symlink_metadata(home.join(path)).map(|m| m.permissions().mode() & 0o7777).ok();
    for (path, expected) in [
        (String::new(), Some(0o710)),
        ("l".into(), Some(0o700)),
        (format!("{base}"), Some(0o710)),
        (format!("{base}/diff"), Some(0o755)),
        (format!("{base}/link"), Some(0o644)),
        (format!("{base}/committed"), Some(0o600)),
        (format!("{base}/work"), None),
        (format!("{base}/lower"), None),
        (format!("{middle}/lower"), Some(0o644)),
        (format!("{middle}/work"), Some(0o700)),
        (format!("{middle}/committed"), Some(0o600)),
        (format!("{top}/committed"), None),
        (format!("{top}/merged"), None),
    ] {
        assert_eq!(mode(path.clone()), expected, "{path}");
    }
    let text = |path: String| fs::read_to_string(home.join(path)).expect("read");
    let [base_link, middle_link] = [&base, &middle].map(|id| text(format!("{id}/link")));
    assert_eq!(text(format!("{middle}/lower")), format!("l/{base_link}"));
    assert_eq!(text(format!("{top}/lower")), format!("l/{middle_link}:l/{base_link}"));
    assert_eq!(fs::read_link(home.join("l").join(&base_link)).expect("link"), Path::new(&format!("../{base}/diff")));

    let at = |id: &CacheId, name: &str| home.join(id.as_str()).join(name).display().to_string();
    let data = |pairs: &[(&str, String)]| pairs.iter().map(|(k, v)| (k.to_string(), v.clone())).collect::<Vec<_>>();
    assert_eq!(
        driver.metadata(&top).expect("metadata"),
        data(&[
            ("LowerDir", format!("{}:{}", at(&middle, "diff"), at(&base, "diff"))),
            ("MergedDir", at(&top, "merged")),
            ("UpperDir", at(&top, "diff")),
            ("WorkDir", at(&top, "work")),
        ])
    );
    assert_eq!(driver.metadata(&base).expect("metadata").len(), 3);
    let names: Vec<_> = driver.status().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Backing Filesystem", "Supports d_type", "Native Overlay Diff", "userxattr"]);
}

fn overlay2_repairs_its_own_files() {
    let Some(bench) = Bench::new("overlay2") else { return };
    let driver = &bench.driver;
    let base = bench.layer(1, Parent::None, &[("a", "1")]);
    let middle = bench.layer(2, Parent::Of(&base), &[("b", "2")]);
    let top = bench.layer(3, Parent::Of(&middle), &[]);
    let folders = [(&base, None), (&middle, Some(&base)), (&top, Some(&middle))];
    let sound = || folders.iter().all(|(id, parent)| driver.check(id, *parent).is_empty());
    let home = driver.home();
    let link = fs::read_to_string(home.join(format!("{middle}/link"))).expect("read");
    assert!(sound());

    type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let truncate = |path: String| fs::write(home.join(path), "").expect("truncate");
    let damages: Vec<Damage<'_>> = vec![
        ("an empty link", Box::new(|| truncate(format!("{middle}/link")))),
        ("an empty lower", Box::new(|| truncate(format!("{top}/lower")))),
        ("a missing lower", Box::new(|| fs::remove_file(home.join(format!("{middle}/lower"))).expect("remove"))),
        ("a missing name in l/", Box::new(|| fs::remove_file(home.join("l").join(&link)).expect("remove"))),
        (
            "both gone",
            Box::new(|| {
                fs::remove_file(home.join("l").join(&link)).expect("remove");
                truncate(format!("{middle}/link"));
            }),
        ),
    ];
    for (what, damage) in damages {
        damage();
        assert!(!sound(), "{what} is found");
        for (id, parent) in folders {
            driver.repair(id, parent).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        let faults: Vec<_> = folders.iter().flat_map(|(id, parent)| driver.check(id, *parent)).collect();
        assert_eq!(faults, [], "{what}");
        let mounted = driver.mount(&top, Access::ReadOnly).expect("mount");
        assert_eq!(read(&mounted.path().join("b")).as_deref(), Some("2"), "{what}");
        if what == "both gone" {
            break;
        }
    }
    assert_eq!(driver.strays().expect("strays"), []);
}

fn a_sweep_takes_only_what_is_dead() {
    let Some(bench) = Bench::new("overlay2") else { return };
    let driver = &bench.driver;
    let base = bench.layer(1, Parent::None, &[]);
    let links = driver.home().join("l");
    std::os::unix::fs::symlink("../".to_owned() + &"f".repeat(64) + "/diff", links.join("A".repeat(26))).expect("link");
    let trash = &bench.root.join("strata/tmp/overlay2/removed-x");
    fs::create_dir_all(trash.join("diff")).expect("create");
    assert_eq!(driver.strays().expect("strays").len(), 1);
    driver.sweep().expect("sweep");
    driver.tidy().expect("tidy");
    assert_eq!(driver.strays().expect("strays"), []);
    assert!(!trash.exists());
    assert_eq!(driver.check(&base, None), []);
}

/// Every path below `root`, with its kind.
fn walk(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("list").flatten() {
            let meta = entry.path().symlink_metadata().expect("stat");
            found.insert(format!("{} {:o}", entry.path().display(), meta.mode()));
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    found
}
