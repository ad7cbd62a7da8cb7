//! Reading ahead of who reads a tree from a disk.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::fs::{Advice, fadvise};
use strata_testkit::{require, skip};
use strata_unionfs::*;

const FOLDERS: usize = 8;
const FILES: usize = 40;

fn make(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, [7; 3000]).unwrap();
}

fn evict(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

/// Which of these files have their first page in memory. Asked without a read: also one that may not wait lets the kernel begin to
/// read.
fn in_memory(paths: &[PathBuf]) -> Vec<bool> {
    let output =
        Command::new("fincore").args(["--raw", "--noheadings", "--output", "PAGES"]).args(paths).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pages: Vec<bool> = String::from_utf8(output.stdout).unwrap().lines().map(|pages| pages.trim() != "0").collect();
    assert_eq!(pages.len(), paths.len());
    pages
}

fn is_in_memory(path: PathBuf) -> bool {
    in_memory(&[path])[0]
}

/// Opens a file as the front does, to hand all of it over.
fn read(union: &Union, folder: &str, file: &str) {
    let folder = union.lookup(NodeId::ROOT, folder.as_ref()).unwrap().node;
    let file = union.lookup(folder, file.as_ref()).unwrap().node;
    union.open_kept(file, OFlags::RDONLY, &|_| true).unwrap();
}

#[test]
fn what_a_reader_comes_to_is_in_memory_and_what_marks_hide_is_not() {
    let Some(_) = require::program("fincore") else { return };
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    let mut all = Vec::new();
    for folder in 0..FOLDERS {
        for file in 0..FILES {
            all.push((format!("d{folder}"), format!("f{file:02}")));
            make(&at(&format!("low/d{folder}/f{file:02}")));
        }
    }
    fs::create_dir_all(at("up/d3/.wh.f05")).unwrap();
    fs::write(at("up/.wh.d5"), "").unwrap();
    let is_hidden = |folder: &str, file: &str| folder == "d5" || (folder, file) == ("d3", "f05");
    let below = |folder: &str, file: &str| at(&format!("low/{folder}/{file}"));
    all.iter().for_each(|(folder, file)| evict(&below(folder, file)));
    let paths: Vec<PathBuf> = all.iter().map(|(folder, file)| below(folder, file)).collect();
    if in_memory(&paths).contains(&true) {
        skip!("the filesystem of temporary files keeps them in memory");
    }
    let branch = |name, access| Branch { path: at(name), access };
    let union = Union::open(Config {
        branches: vec![branch("up", Access::ReadWrite), branch("low", Access::ReadOnly)],
        dialect: Dialect::Aufs,
        work: None,
        options: Options::default(),
    })
    .unwrap();
    let (mut found, mut wants) = (0, false);
    std::thread::scope(|scope| {
        scope.spawn(|| union.read_ahead());
        for (number, (folder, file)) in all.iter().enumerate().filter(|(_, (folder, file))| !is_hidden(folder, file)) {
            if number == 20 {
                // It goes on by itself as far as it trusts the reader.
                let start = Instant::now();
                while !is_in_memory(below(folder, file)) && start.elapsed() < Duration::from_secs(20) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                wants = union.wants_ahead();
            }
            found += usize::from(is_in_memory(below(folder, file)));
            read(&union, folder, file);
        }
        union.stop_reading_ahead();
    });
    assert!(wants && found > 0, "nothing was read ahead");
    for (folder, file) in all.iter().filter(|(folder, file)| is_hidden(folder, file)) {
        assert!(!is_in_memory(below(folder, file)), "{folder}/{file}");
    }
    assert_eq!(union.lookup(NodeId::ROOT, &OsString::from("d5")).unwrap_err(), Errno::NOENT);
}
