//! What a walk of a large tree leaves in memory: alone in its program, so that nothing else counts.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

use std::{fs, path::Path, time::Instant};

use strata_unionfs::*;

/// As a tree of npm packages: 60,000 files, 117,000 entries.
const DIRS: usize = 19_000;

/// Resident bytes of this process.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

fn walk(union: &Union, dir: NodeId, seen: &mut usize) {
    let mut below = Vec::new();
    union
        .read_dir_plus(dir, 0, &mut |_, entry| {
            *seen += 1;
            let entry = entry.unwrap();
            if entry.attr.kind == Kind::Dir {
                below.push(entry.node);
            }
            Fill::Taken
        })
        .unwrap();
    below.into_iter().for_each(|node| walk(union, node, seen));
}

#[test]
fn a_walk_of_117_000_entries_fits_in_40_mib() {
    let memory = Path::new("/dev/shm");
    let temp = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let at = |path: &str| temp.path().join(path);
    for dir in ["up", "work", "low"] {
        fs::create_dir(at(dir)).unwrap();
    }
    let mut made = 0;
    for package in 0..DIRS {
        let dir = at(&format!("low/node_modules-{}/package-{package}/lib/dist", package % 100));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..3 {
            fs::write(dir.join(format!("module-{file}.d.ts")), "").unwrap();
        }
        made += 6;
    }
    made += 100;
    let branch = |name, access| Branch { path: at(name), access };
    let dialect = Dialect::Overlay { xattrs: Xattrs::User };
    let union = Union::open(Config {
        branches: vec![branch("up", Access::ReadWrite), branch("low", Access::ReadOnly)],
        dialect,
        work: Some(at("work")),
        options: Options::default(),
    })
    .unwrap();
    let (before, start) = (resident(), Instant::now());
    let mut seen = 0;
    walk(&union, NodeId::ROOT, &mut seen);
    let (first, used) = (start.elapsed(), resident().saturating_sub(before));
    assert_eq!((seen, union.known_nodes()), (made, made + 1));
    let start = Instant::now();
    walk(&union, NodeId::ROOT, &mut 0);
    println!("{seen} entries: {} KiB, {first:?}, again {:?}", used >> 10, start.elapsed());
    assert!(used < 40 << 20, "{} KiB", used >> 10);
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() < 1000);
}
