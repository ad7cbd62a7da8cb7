//! Branches full of random marks: whatever they say, the union shows names of its branches alone, answers, and does not panic.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

mod common;

use std::{collections::BTreeSet, fs, path::Path};

use common::View;
use proptest::{
    prelude::*,
    test_runner::{Config as Runs, TestRunner},
};
use rustix::fs::{CWD, FileType, Mode};
use strata_sys::xattr;
use strata_unionfs::*;

#[derive(Clone, Debug)]
enum Thing {
    File(Vec<u8>),
    Dir,
    Link(String),
    Device,
    Xattr(&'static str, Vec<u8>),
}

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "c",
        ".wh.a",
        ".wh.b",
        ".wh..wh..opq",
        ".wh..wh.plnk",
        ".wh..wh.orph",
        ".wh..wh.aufs",
        ".wh.",
    ]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn redirect() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        path().prop_map(|path| format!("/{path}").into_bytes()),
        prop::sample::select(vec![
            "a",
            "b",
            "..",
            "/..",
            "/../..",
            "/../secret",
            "../secret",
            "/",
            "",
            "//a",
            "/a/",
            "/a/../b",
            ".",
            "/./a",
            "/etc",
            "/a/b/../../../secret"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
        (0..6000_usize).prop_map(|len| [b"/".to_vec(), vec![b'a'; len]].concat()),
    ]
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Thing::File),
        4 => Just(Thing::Dir),
        1 => prop::sample::select(vec!["a", "../..", "/", "/etc", "../../secret", "b/c"]).prop_map(|to| Thing::Link(to.to_owned())),
        1 => Just(Thing::Device),
        3 => redirect().prop_map(|text| Thing::Xattr("redirect", text)),
        1 => prop::sample::select(vec!["y", "x", "", "n", "yy"]).prop_map(|text| Thing::Xattr("opaque", text.as_bytes().to_vec())),
        1 => prop::collection::vec(any::<u8>(), 0..30).prop_map(|text| Thing::Xattr("origin", text)),
        1 => prop::sample::select(vec!["U+1", "L-1", "U", "", "U+99999999999", "X"]).prop_map(|text| Thing::Xattr("nlink", text.as_bytes().to_vec())),
        1 => prop::collection::vec(any::<u8>(), 0..10).prop_map(|text| Thing::Xattr("metacopy", text)),
        1 => Just(Thing::Xattr("whiteout", b"y".to_vec())),
    ]
}

fn put(root: &Path, path: &str, thing: &Thing, namespace: &str) {
    let at = root.join(path);
    // Not through the links that were made here: they lead out.
    if at.ancestors().take_while(|above| *above != root).any(|above| above.is_symlink()) {
        return;
    }
    // What cannot be is left out: a file in a file, two things of one name.
    match thing {
        Thing::File(content) => _ = fs::create_dir_all(at.parent().unwrap()).and_then(|()| fs::write(&at, content)),
        Thing::Dir => _ = fs::create_dir_all(&at),
        Thing::Link(to) => _ = std::os::unix::fs::symlink(to, &at),
        Thing::Device => _ = rustix::fs::mknodat(CWD, &at, FileType::CharacterDevice, Mode::empty(), 0),
        Thing::Xattr(key, value) => _ = xattr::set(&at, format!("{namespace}.overlay.{key}"), value),
    }
}

/// Walks as far as the union lets it; collects contents.
fn walk(view: &View, path: &str, depth: usize, contents: &mut BTreeSet<Vec<u8>>) {
    let Ok(names) = view.list(path) else { return };
    assert!(names.len() <= 10, "more names than were made: {names:?}");
    for name in names {
        let path = common::join(path, &name);
        if let Ok(content) = view.read(&path) {
            contents.insert(content);
        }
        if depth < 12 {
            walk(view, &path, depth + 1, contents);
        }
    }
}

fn play(things: &[(u8, String, Thing)], dialect: Dialect) {
    let memory = Path::new("/dev/shm");
    let temp = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let base = temp.path();
    let namespace = if dialect == (Dialect::Overlay { xattrs: Xattrs::User }) { "user" } else { "trusted" };
    fs::create_dir(base.join("secret")).unwrap();
    fs::write(base.join("secret/a"), "secret").unwrap();
    let mut branches = Vec::new();
    for number in 0..4_u8 {
        let root = base.join(format!("b{number}"));
        fs::create_dir(&root).unwrap();
        for (_, path, thing) in things.iter().filter(|(branch, ..)| *branch == number) {
            put(&root, path, thing, namespace);
        }
        let access = if number == 0 { Access::ReadWrite } else { Access::ReadOnlyWhiteouts };
        branches.push(Branch { path: root, access });
    }
    let config = Config {
        branches,
        dialect,
        work: Some(base.join("work")),
        options: Options { durability: Durability::Volatile, ..Options::default() },
    };
    // A refusal is an answer.
    let Ok(union) = Union::open(config) else { return };
    let view = View { union };
    let mut contents = BTreeSet::new();
    walk(&view, "", 0, &mut contents);
    for path in ["a", "b", "a/b", "c/a/b"] {
        _ = view.write(path, b"new", OFlags::APPEND);
        _ = view.rename(path, "c", RenameFlags::empty());
        _ = view.mkdir(path, 0o755);
        _ = view.link(path, "b/l");
        _ = view.remove_all(path);
    }
    walk(&view, "", 0, &mut contents);
    assert!(!contents.contains(&b"secret"[..]), "a file outside the branches was shown");
    assert_eq!(fs::read(base.join("secret/a")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(base.join("secret")).unwrap().count(), 1);
}

fn run(dialect: Dialect) {
    if !rustix::process::geteuid().is_root() && dialect != (Dialect::Overlay { xattrs: Xattrs::User }) {
        strata_testkit::require::report_skip("needs root");
        return;
    }
    let cases = std::env::var("STRATA_UNION_MARKS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let mut runner = TestRunner::new(Runs { cases, failure_persistence: None, ..Runs::default() });
    let things = prop::collection::vec((0..4_u8, path(), thing()), 1..60);
    runner
        .run(&things, |things| {
            play(&things, dialect);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn random_marks_of_overlay_lead_nowhere_else() {
    run(Dialect::Overlay { xattrs: Xattrs::Trusted });
}

#[test]
fn random_marks_of_user_attributes_lead_nowhere_else() {
    run(Dialect::Overlay { xattrs: Xattrs::User });
}

#[test]
fn random_marks_of_aufs_lead_nowhere_else() {
    run(Dialect::Aufs);
}
