//! Mounts that lie below a union's branches, and branches that lie in each other: as the kernel's overlayfs has them.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::mounted::{Mounted, can_mount, shell, unions};
use rustix::mount::{MountFlags, UnmountFlags};
use strata_testkit::skip;
use strata_unionfs::mount::{self, Change};
use strata_unionfs::{Access, Branch};

/// A mount that the test makes; detached at the end.
struct Extra(PathBuf);

impl Extra {
    fn tmpfs(at: PathBuf) -> Self {
        rustix::mount::mount("none", &at, "tmpfs", MountFlags::empty(), None).unwrap();
        Self(at)
    }

    fn bind(from: &Path, at: PathBuf) -> Self {
        rustix::mount::mount_bind(from, &at).unwrap();
        Self(at)
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Waits for a program that might hang; kills it then.
fn finishes(mut child: Child) -> bool {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    false
}

fn quiet(command: &str, dir: &Path) -> Child {
    Command::new("sh").args(["-c", command]).current_dir(dir).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn what_is_mounted_below_a_branch_does_not_show() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    for words in ["aufs", "overlay"] {
        let mut before = None;
        let mounted = Mounted::new(words, "", |dir| {
            for name in ["lower1/before", "lower1/later"] {
                fs::create_dir(dir.join(name)).unwrap();
                fs::write(dir.join(name).join("below"), "").unwrap();
            }
            fs::write(dir.join("lower1/file"), "below\n").unwrap();
            fs::write(dir.join("other"), "above\n").unwrap();
            before = Some(Extra::tmpfs(dir.join("lower1/before")));
        });
        let later = Extra::tmpfs(mounted.dir.join("lower1/later"));
        fs::write(mounted.dir.join("lower1/later/above"), "").unwrap();
        let file = Extra::bind(&mounted.dir.join("other"), mounted.dir.join("lower1/file"));
        let shown = shell(&mounted, "cd $M; ls before later; cat file");
        assert_eq!(shown, "before:\nbelow\n\nlater:\nbelow\nbelow\n", "{words}");
        drop((before, later, file));
    }
}

#[test]
fn a_union_below_its_own_branch_does_not_wait_for_itself() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    for (words, more) in [("aufs", ""), ("overlay", ""), ("overlay", ",threads=1"), ("aufs", ",threads=1")] {
        let mounted = Mounted::new(words, more, |dir| fs::create_dir(dir.join("lower1/own")).unwrap());
        let own = Extra::bind(&mounted.mnt(), mounted.dir.join("lower1/own"));
        let walk = "find . -ls && find lower1/own -ls && touch mnt/own/new lower1/own/newer && rm -r mnt/own";
        assert!(finishes(quiet(walk, mounted.dir.path())), "{words}{more}");
        drop(own);
        let program = env!("CARGO_BIN_EXE_strata-unions");
        let unmount = Command::new(program).arg("umount").arg(mounted.mnt()).spawn().unwrap();
        assert!(finishes(unmount), "{words}{more}");
    }
}

#[test]
fn a_lower_branch_may_hold_the_writable_one_and_the_mount_point() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    let mounted = Mounted::new("overlay", "", |dir| fs::write(dir.join("file"), "lower\n").unwrap());
    unions(&["umount", mounted.mnt().to_str().unwrap()]);
    let at = mounted.dir.path().display();
    let options = format!("lowerdir={at},upperdir={at}/upper,workdir={at}/work");
    let done = unions(&["mount", "overlay", &options, mounted.mnt().to_str().unwrap()]);
    assert!(done.status.success(), "{done:?}");
    let walk = "echo more >> mnt/file; find mnt -ls; cat mnt/file; test -e upper/file";
    assert!(finishes(quiet(walk, mounted.dir.path())));
    assert_eq!(fs::read_to_string(mounted.dir.join("file")).unwrap(), "lower\n");
    // The branches themselves are listed, and cannot be entered: what they show would change under the reader.
    let names = shell(&mounted, "ls $M");
    assert!(names.contains("upper\n") && names.contains("work\n"), "{names}");
    for name in ["upper", "work"] {
        let error = fs::metadata(mounted.at(name)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{name}");
    }
}

#[test]
fn a_branch_in_the_union_itself_is_refused() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    let mounted = Mounted::new("aufs", "", |dir| fs::create_dir(dir.join("lower1/sub")).unwrap());
    let branch = Branch { path: mounted.at("sub"), access: Access::ReadOnly };
    let refused = mount::change(&mounted.mnt(), &[Change::Append { branch }]).unwrap_err().to_string();
    assert!(refused.contains("lies in this union itself"), "{refused}");
    assert!(fs::metadata(mounted.at("sub")).unwrap().is_dir());
}

#[test]
fn a_union_that_hangs_can_be_unmounted() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    let mounted = Mounted::new("overlay", "", |dir| fs::write(dir.join("lower1/file"), "").unwrap());
    let pid = rustix::process::Pid::from_raw(mounted.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let mut waits = quiet("exec cat mnt/file", mounted.dir.path());
    std::thread::sleep(Duration::from_millis(100));
    let started = Instant::now();
    let unmounted = std::thread::spawn({
        let target = mounted.mnt();
        move || mount::unmount(&target)
    });
    // What waits is freed by the connection's end; the process ends when it runs again.
    waits.wait().unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    unmounted.join().unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(25));
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_eq!(device(&mounted.mnt()), device(mounted.dir.path()));
}
