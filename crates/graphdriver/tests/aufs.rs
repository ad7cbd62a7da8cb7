//! What every driver promises, of aufs. A program of its own, not a test harness's: the process behind a union is this program again.

mod common;

use std::{fs, path::Path};

use common::{Bench, is_mounted, read};
use strata_archive::{
    Limits,
    apply::{Options, apply},
    diff::{Change, ChangeKind},
};
use strata_graphdriver::{Access, GraphDriver, Parent, open};
use strata_spec::CacheId;

type Test = fn(&Bench);

fn main() {
    strata_unionfs::mount::init();
    // Listing tests is all that a harness may be asked for besides.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let tests: [(&str, Test); 4] = [
        ("a_container_reads_and_changes_what_lies_below", a_container_reads_and_changes_what_lies_below),
        ("users_share_a_union_and_the_last_unmounts", users_share_a_union_and_the_last_unmounts),
        ("a_union_whose_process_was_killed_is_mounted_anew", a_union_whose_process_was_killed_is_mounted_anew),
        ("aufs_lies_as_docker_writes_it_and_is_repaired", aufs_lies_as_docker_writes_it_and_is_repaired),
    ];
    for (name, test) in tests {
        let Some(bench) = Bench::with_union("aufs") else { return };
        test(&bench);
        println!("test {name} ... ok");
    }
}

fn id(n: u8) -> CacheId {
    CacheId::from_random([n; 32])
}

fn a_container_reads_and_changes_what_lies_below(bench: &Bench) {
    let driver = &bench.driver;
    let base = bench.layer(1, Parent::Later, &[("etc/a", "base"), ("etc/b", "base"), ("dir/old", "old")]);
    let middle = bench.layer(2, Parent::Later, &[("etc/b", "middle")]);
    driver.adopt(&base, None).expect("adopt");
    driver.adopt(&middle, Some(&base)).expect("adopt");
    driver.create(&id(3), Parent::Of(&middle), Access::ReadWrite).expect("create");
    let root = driver.mount(&id(3), Access::ReadWrite).expect("mount");
    let at = |name: &str| root.path().join(name);
    assert_eq!(read(&at("etc/a")).as_deref(), Some("base"));
    assert_eq!(read(&at("etc/b")).as_deref(), Some("middle"));
    fs::write(at("etc/a"), "top").expect("write");
    fs::remove_file(at("etc/b")).expect("remove");
    fs::remove_dir_all(at("dir")).expect("remove");
    fs::create_dir(at("dir")).expect("create");
    fs::write(at("dir/new"), "new").expect("write");
    drop(root);
    assert!(driver.home().join("mnt").join(id(3).as_str()).is_dir(), "Docker wants the mount point to stay");
    let change = |path: &str, kind| Change { path: path.into(), kind };
    assert_eq!(
        driver.changes(&id(3), Some(&middle)).expect("changes"),
        [
            change("/dir", ChangeKind::Modified),
            change("/dir/new", ChangeKind::Added),
            change("/dir/old", ChangeKind::Deleted),
            change("/etc", ChangeKind::Modified),
            change("/etc/a", ChangeKind::Modified),
            change("/etc/b", ChangeKind::Deleted),
        ]
    );
    // As a layer over the same it shows the same.
    let mut tar = Vec::new();
    driver.diff(&id(3), Some(&middle), &mut tar).expect("diff");
    driver.create(&id(4), Parent::Of(&middle), Access::ReadOnly).expect("create");
    let folder = driver.folder(&id(4)).expect("folder");
    let options = Options { marks: folder.marks, limits: Limits::default() };
    apply(&tar[..], &folder.path, std::io::sink(), &options).expect("apply");
    for layer in [id(3), id(4)] {
        let view = driver.mount(&layer, Access::ReadOnly).expect("mount");
        assert_eq!(read(&view.path().join("etc/a")).as_deref(), Some("top"));
        assert_eq!(read(&view.path().join("etc/b")), None);
        assert_eq!(read(&view.path().join("dir/old")), None);
        assert_eq!(read(&view.path().join("dir/new")).as_deref(), Some("new"));
    }
}

fn over_base(bench: &Bench) -> CacheId {
    let base = bench.layer(1, Parent::None, &[("a", "1")]);
    bench.driver.create(&id(2), Parent::Of(&base), Access::ReadWrite).expect("create");
    id(2)
}

fn users_share_a_union_and_the_last_unmounts(bench: &Bench) {
    let (driver, top) = (&bench.driver, over_base(bench));
    let other = open("aufs", &bench.root, Access::ReadWrite).expect("a second user opens the driver");
    let first = driver.mount(&top, Access::ReadWrite).expect("mount");
    let second = other.mount(&top, Access::ReadOnly).expect("mount");
    let path = first.path().to_owned();
    assert_eq!(second.path(), path);
    drop(first);
    assert!(is_mounted(&path), "the second still uses it");
    drop(second);
    assert!(!is_mounted(&path));
    let kept = driver.mount(&top, Access::ReadWrite).expect("mounts again at once").keep();
    assert!(is_mounted(&kept));
    driver.remove(&top).expect("remove");
    assert!(!is_mounted(&kept) && !kept.exists() && !driver.exists(&top));
}

fn a_union_whose_process_was_killed_is_mounted_anew(bench: &Bench) {
    let (driver, top) = (&bench.driver, over_base(bench));
    let path = driver.mount(&top, Access::ReadWrite).expect("mount").keep();
    fs::write(path.join("b"), "2").expect("write");
    let found = strata_unionfs::mount::find(&path).expect("the mounts").expect("is mounted");
    let strata_unionfs::mount::State::Alive { pid, .. } = found.state else { panic!("{found:?}") };
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill runs");
    assert!(killed.success());
    while fs::metadata(path.join("a")).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let root = driver.mount(&top, Access::ReadWrite).expect("mounts anew");
    assert_eq!(read(&root.path().join("a")).as_deref(), Some("1"));
    assert_eq!(read(&root.path().join("b")).as_deref(), Some("2"));
}

fn aufs_lies_as_docker_writes_it_and_is_repaired(bench: &Bench) {
    use std::os::unix::fs::PermissionsExt;
    let driver = &bench.driver;
    let base = bench.layer(1, Parent::None, &[]);
    let middle = bench.layer(2, Parent::Of(&base), &[]);
    let top = bench.layer(3, Parent::Of(&middle), &[]);
    let mode = |path: String| fs::metadata(driver.home().join(path)).expect("stat").permissions().mode() & 0o7777;
    for (path, expected) in [
        (String::new(), 0o710),
        ("diff".into(), 0o710),
        ("layers".into(), 0o710),
        ("mnt".into(), 0o710),
        (format!("diff/{top}"), 0o755),
        (format!("layers/{top}"), 0o644),
        (format!("mnt/{top}"), 0o755),
    ] {
        assert_eq!(mode(path.clone()), expected, "{path}");
    }
    let layers = |id: &CacheId| driver.home().join("layers").join(id.as_str());
    let text = |path: &Path| fs::read_to_string(path).expect("read");
    assert_eq!(text(&layers(&base)), "");
    assert_eq!(text(&layers(&top)), format!("{middle}\n{base}\n"));
    assert_eq!(driver.parent(&top).expect("parent"), Some(middle.clone()));

    fs::write(layers(&top), "").expect("truncate");
    fs::remove_dir(driver.home().join("mnt").join(middle.as_str())).expect("remove");
    let folders = [(&base, None), (&middle, Some(&base)), (&top, Some(&middle))];
    let faults = |driver: &dyn GraphDriver| -> usize {
        folders.iter().map(|(id, parent)| driver.check(id, *parent).len()).sum()
    };
    assert_eq!(faults(&**driver), 2);
    for (id, parent) in folders {
        driver.repair(id, parent).expect("repair");
    }
    assert_eq!(faults(&**driver), 0);
    assert_eq!(text(&layers(&top)), format!("{middle}\n{base}\n"));

    fs::write(layers(&id(9)), "").expect("write");
    assert_eq!(driver.strays().expect("strays").len(), 1);
    driver.tidy().expect("tidy");
    assert_eq!(driver.strays().expect("strays"), []);
}
