//! A process with a union is killed in the middle of changes, again and again: the branches open, nothing is half a copy, no name is
//! both there and gone.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use common::View;
use strata_unionfs::*;

/// Where the process that is to be killed finds its branches, and its dialect.
const VICTIM: &str = "STRATA_UNION_VICTIM";

/// Bytes of every file: a copy cut short shows.
const SIZE: usize = 300_000;

fn config(base: &Path, dialect: Dialect) -> Config {
    let branch = |name: &str, access| Branch { path: base.join(name), access };
    Config {
        branches: vec![branch("up", Access::ReadWrite), branch("low", Access::ReadOnlyWhiteouts)],
        dialect,
        work: Some(base.join("work")),
        options: Options { durability: Durability::Volatile, ..Options::default() },
    }
}

/// Changes without end: copy-ups, whiteouts, what replaces them, renames, directories.
fn change_for_ever(base: PathBuf, dialect: Dialect) {
    let view = View::open(config(&base, dialect));
    // Whatever the last one left, it goes on from there; an answer that something is there or not is fine.
    for round in 0_usize.. {
        let (f, g) = (format!("d/f{}", round % 20), format!("e/f{}", (round * 7 + round / 20) % 20));
        match round % 6 {
            0 => _ = view.set(&f, SetAttr { mode: Some(0o600), ..SetAttr::default() }),
            1 => _ = view.rename(&f, &g, RenameFlags::empty()),
            2 => _ = view.unlink(&g),
            3 => _ = view.symlink("text", &g),
            4 => {
                _ = view.remove_all("e/sub");
                _ = view.mkdir("e/sub", 0o755);
            }
            _ => _ = view.link(&f, &format!("e/l{}", round % 20)),
        }
    }
}

#[test]
fn victim() {
    if let Ok(text) = std::env::var(VICTIM) {
        let (dialect, base) = text.split_once(':').unwrap();
        let dialect = if dialect == "aufs" { Dialect::Aufs } else { Dialect::Overlay { xattrs: Xattrs::User } };
        change_for_ever(base.into(), dialect);
    }
}

fn kill_again_and_again(name: &str, dialect: Dialect) {
    let memory = Path::new("/dev/shm");
    let temp = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let base = temp.path();
    for dir in ["up", "work", "low/d", "low/e/sub"] {
        fs::create_dir_all(base.join(dir)).unwrap();
    }
    for number in 0..20 {
        fs::write(base.join(format!("low/d/f{number}")), vec![b'l'; SIZE]).unwrap();
        fs::write(base.join(format!("low/e/f{number}")), vec![b'l'; SIZE]).unwrap();
    }
    fs::write(base.join("low/e/sub/x"), vec![b'l'; SIZE]).unwrap();
    let mut changed = 0;
    for round in 0..30_u64 {
        if round % 3 == 0 {
            // From the start: there is always something left to copy up.
            changed += usize::from(base.join("up/e").exists());
            fs::remove_dir_all(base.join("up")).unwrap();
            fs::create_dir(base.join("up")).unwrap();
        }
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["victim", "--exact"])
            .env(VICTIM, format!("{name}:{}", base.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(15 + round * 7 % 41));
        assert!(victim.try_wait().unwrap().is_none(), "it ended by itself");
        victim.kill().unwrap();
        victim.wait().unwrap();
        let view = View::open(config(base, dialect));
        let tree = view.tree().unwrap();
        for dir in ["", "d", "e", "e/sub"] {
            for name in view.list(dir).unwrap_or_default() {
                let path = common::join(dir, &name);
                let item = tree.get(&path).unwrap_or_else(|| panic!("{path} is listed and cannot be looked up"));
                let whole = item.kind != Kind::File || item.content == vec![b'l'; SIZE];
                assert!(whole, "{path} has {} bytes", item.content.len());
            }
        }
    }
    assert!(changed > 4, "changed something {changed} times of 9 alone");
}

#[test]
fn a_killed_overlay_union_leaves_nothing_torn() {
    kill_again_and_again("overlay", Dialect::Overlay { xattrs: Xattrs::User });
}

#[test]
fn a_killed_aufs_union_leaves_nothing_torn() {
    kill_again_and_again("aufs", Dialect::Aufs);
}
