//! The power fails while files are copied up: each is there whole, above or below.
//!
//! The cut is the filesystem's own: `EXT4_IOC_SHUTDOWN` without a flush of the log, after which nothing reaches the disk any more. What was committed by then is
//! what the next mount finds.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

mod common;

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use common::View;
use strata_testkit::{LoopFs, require};
use strata_unionfs::*;

const FILES: usize = 600;
const CUTS: u64 = 12;

fn content(number: usize) -> Vec<u8> {
    vec![b'a' + (number % 26) as u8; 1 + number * 7_919 % 20_000]
}

fn config(base: &Path, dialect: Dialect, metacopy: Metacopy) -> Config {
    let branch = |name: &str, access| Branch { path: base.join(name), access };
    Config {
        branches: vec![branch("up", Access::ReadWrite), branch("low", Access::ReadOnlyWhiteouts)],
        dialect,
        work: Some(base.join("work")),
        options: Options { metacopy, ..Options::default() },
    }
}

/// No commit and no write reaches the filesystem's disk from here on.
fn cut_power(python: &Path, at: &Path) {
    let script = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
    let status = Command::new(python).args(["-c", script]).arg(at).status().unwrap();
    assert!(status.success(), "EXT4_IOC_SHUTDOWN: {status}");
}

/// Copies up one file after the other, while another thread has the journal committed all the time, until the power fails.
fn copy_until_it_fails(view: &View, base: &Path, python: &Path, after: Duration) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_usize.. {
                let committed = File::create(base.join("other")).and_then(|mut file| {
                    file.write_all(format!("{number}").as_bytes())?;
                    file.sync_all()
                });
                if committed.is_err() || over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        scope.spawn(|| {
            thread::sleep(after);
            cut_power(python, base);
        });
        for number in 0..FILES {
            let copied = view
                // With `metacopy` first without data, which the opening then fills in.
                .set(&format!("d/f{number}"), SetAttr { mode: Some(0o640), ..SetAttr::default() })
                .and_then(|()| view.node(&format!("d/f{number}")))
                .and_then(|node| view.union.open_file(node, OFlags::RDWR))
                .and_then(|handle| view.union.flush(&handle));
            if copied.is_err() {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// Cuts the power again and again; returns how many copies were found whole.
fn cut_again_and_again(dialect: Dialect, metacopy: Metacopy) -> Option<usize> {
    let python = require::program("python3")?;
    let mut disk = LoopFs::ext4(256 << 20)?;
    let mut found = 0;
    for round in 0..CUTS {
        let base = disk.join(format!("{round}"));
        for dir in ["up", "work", "low/d"] {
            fs::create_dir_all(base.join(dir)).unwrap();
        }
        for number in 0..FILES {
            fs::write(base.join(format!("low/d/f{number}")), content(number)).unwrap();
        }
        strata_sys::fs::sync_filesystem(&base).unwrap();
        let view = View::open(config(&base, dialect, metacopy));
        copy_until_it_fails(&view, &base, &python, Duration::from_millis(5 + round * 13 % 60));
        drop(view);
        disk.remount_anew();
        let view = View::open(config(&base, dialect, metacopy));
        for number in 0..FILES {
            let up = fs::metadata(base.join(format!("up/d/f{number}")));
            let is_up = up.is_ok_and(|up| up.blocks() > 0);
            found += usize::from(is_up);
            let read = view.read(&format!("d/f{number}")).unwrap();
            assert!(read == content(number), "cut {round}: f{number} has {} bytes, copied: {is_up}", read.len());
        }
    }
    Some(found)
}

fn expect_whole(dialect: Dialect, metacopy: Metacopy) {
    let Some(found) = cut_again_and_again(dialect, metacopy) else { return };
    println!("{found} copies outlived {CUTS} power cuts");
    assert!(found > 50, "{found} copies alone outlived {CUTS} power cuts");
}

#[test]
fn an_overlay_copy_is_there_whole_or_not_at_all() {
    expect_whole(Dialect::Overlay { xattrs: Xattrs::Trusted }, Metacopy::Follow);
}

#[test]
fn an_overlay_copy_that_had_attributes_alone_first_is_whole_or_as_before() {
    expect_whole(Dialect::Overlay { xattrs: Xattrs::Trusted }, Metacopy::Make);
}

#[test]
fn an_aufs_copy_is_there_whole_or_not_at_all() {
    expect_whole(Dialect::Aufs, Metacopy::Follow);
}
