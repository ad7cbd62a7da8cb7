//! POSIX access control lists: the same steps, by the real tools, on the kernel's overlayfs and on our unions; what is said and
//! what is seen after each step is the same.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

use std::{fs, path::Path, process::Command};

use strata_testkit::{Scratch, require, scratch, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_strata-unions");

/// What each step is, and the commands of it; they run in the union's root.
const STEPS: [(&str, &str); 17] = [
    ("lower lists are seen", "getfacl -R ."),
    ("and count", "as 1001 cat named; as 1002 cat named; as 1003 cat named; as 1001 sh -c 'echo x >> named'"),
    ("a list on a lower file", "setfacl -m u:1002:rw,g:50:r plain; getfacl plain; stat -c %a plain"),
    (
        "its mask by mode",
        "chmod 640 plain; getfacl plain; as 1002 sh -c 'echo x >> plain'; chmod 664 plain; as 1002 sh -c 'echo y >> plain'; cat plain",
    ),
    (
        "its mode by mask",
        "setfacl -m m::r plain; stat -c %a plain; setfacl -m u::rwx,o::- plain; stat -c %a plain; getfacl plain",
    ),
    ("copied up with its list", "echo more >> named; getfacl named; as 1001 cat named; chown 7:8 named; getfacl named"),
    (
        "removed",
        "setfacl -x u:1001 named; getfacl named; as 1001 cat named; setfacl -b named; getfacl named; stat -c %a named",
    ),
    (
        "a folder's default list in a lower one",
        "umask 077; echo a > with/new; mkdir with/dir; mkfifo with/pipe; ln -s x with/link; getfacl -R with; stat -c '%a %n' with/*; umask 022",
    ),
    (
        "inherited further",
        "umask 077; mkdir -p with/dir/a/b; touch with/dir/a/b/c; getfacl -R with/dir; rm -r with/dir; umask 022",
    ),
    (
        "over a whiteout",
        "umask 027; rm with/old; echo b > with/old; rm -r with/sub; mkdir with/sub; touch with/sub/x; getfacl -R with; umask 022",
    ),
    (
        "of a new folder",
        "mkdir top; setfacl -d -m u:1002:rwx,o::- top; setfacl -m u:1002:rwx top; touch top/a; getfacl -R top; as 1002 sh -c 'echo 1 > top/b'; getfacl top/b; as 1003 ls top/zz",
    ),
    (
        "modes asked for",
        "umask 0; install -m 600 /dev/null top/i; install -m 4755 /dev/null top/s; mkdir -m 1777 top/t; getfacl top/i top/s top/t; umask 022",
    ),
    ("default lists go", "setfacl -k with; getfacl with; umask 027; touch with/plain; getfacl with/plain; umask 022"),
    (
        "renamed and linked",
        "mv plain moved; ln moved linked; setfacl -m u:1003:r linked; getfacl moved linked; mv with renamed; getfacl -R renamed",
    ),
    (
        "set-group-ID and folders",
        "mkdir group; chgrp 50 group; chmod 2775 group; setfacl -d -m g:60:rwx group; touch group/f; mkdir group/d; getfacl -R group; stat -c '%a %g' group/f group/d",
    ),
    (
        "set-group-ID goes with a stranger's list",
        "touch sg; chown 1001:50 sg; chmod 2775 sg; as 1001 setfacl -m u:1003:r sg; stat -c %a sg; chmod 2775 sg; setfacl -m u:1003:rw sg; stat -c %a sg; chmod 2775 sg; as 1001 chmod 2770 sg; stat -c %a sg",
    ),
    (
        "who may not",
        "as 1003 setfacl -m u:1003:rwx moved; as 1003 setfacl -b named; getfacl moved; setfacl -m u:1001:rwx link; getfacl moved; setfacl -d -m u:1:r moved; getfacl -R .",
    ),
];

const TOOLS: &str = "as() { user=$1; shift; setpriv --reuid $user --regid $user --clear-groups \"$@\" 2>&1 | sed 's/^sh: 1: //' || true; }
export LC_ALL=C; set +e\n";

/// Fills `lower1` and `lower2`.
const FILL: &str = "umask 022; cd lower1; echo named > named; setfacl -m u:1001:rw,g:1002:r,o::- named; echo plain > plain; ln -s plain link
mkdir with; setfacl -d -m u:1001:rwx,g:50:rx,m::rx with; setfacl -m u:1001:rx with; echo old > with/old; mkdir with/sub
cd ../lower2; mkdir -p with/below; setfacl -d -m u:1005:r with/below; echo x > with/below/x";

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Kernel,
    Aufs,
    Overlay,
}

struct Mounted {
    dir: Scratch,
    by: By,
}

impl Mounted {
    fn new(by: By) -> Self {
        let dir = scratch();
        for name in ["lower1", "lower2", "upper", "work", "mnt"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        let mounted = Self { dir, by };
        shell(mounted.dir.path(), "chmod 755 .");
        shell(mounted.dir.path(), FILL);
        mounted.mount();
        mounted
    }

    fn mount(&self) {
        let overlay = "lowerdir=lower1:lower2,upperdir=upper,workdir=work";
        let command = match self.by {
            By::Kernel => format!("mount -t overlay -o {overlay},redirect_dir=on,metacopy=off overlay mnt"),
            By::Overlay => format!("{PROGRAM} mount overlay {overlay} mnt"),
            By::Aufs => format!("{PROGRAM} mount aufs dirs=upper:lower1=ro+wh:lower2=ro+wh mnt"),
        };
        shell(self.dir.path(), &command);
    }

    fn unmount(&self) {
        shell(self.dir.path(), "umount mnt");
    }
}

fn shell(dir: &Path, command: &str) -> String {
    let done = Command::new("sh").args(["-ec", command]).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command}: {said}");
    said
}

/// Runs one step; AUFS renames no merged directory, so `mv` copies there, as it does on AUFS.
fn step(mounted: &Mounted, commands: &str) -> Vec<String> {
    let script = format!("{TOOLS}( {commands} ) 2>&1; true");
    let mut said: Vec<String> = shell(&mounted.dir.join("mnt"), &script).lines().map(str::to_owned).collect();
    if commands.contains("-R") {
        // In whichever order a directory is read.
        let text = said.join("\n");
        said = text.trim_end().split("\n\n").map(str::to_owned).collect();
        said.sort();
    }
    said
}

#[test]
fn lists_are_as_on_the_kernels_overlayfs() {
    if require::root().is_none() || require::overlay().is_none() || !Path::new("/dev/fuse").exists() {
        skip!("needs root, the kernel's overlayfs and /dev/fuse");
    }
    for program in ["setfacl", "getfacl", "setpriv"] {
        if require::program(program).is_none() {
            return;
        }
    }
    let mounts = [By::Kernel, By::Aufs, By::Overlay].map(Mounted::new);
    let mut seen = Vec::new();
    for (name, commands) in STEPS {
        let said = mounts.each_ref().map(|mounted| step(mounted, commands));
        for (mounted, ours) in mounts.iter().zip(&said).skip(1) {
            assert_eq!(ours, &said[0], "{name}: {:?} and the kernel", mounted.by);
        }
        seen.extend(said[0].clone());
    }
    // What was checked, and not that nothing works anywhere.
    let seen = seen.join("\n");
    for part in ["default:user:1001:rwx", "#effective:r--", "Permission denied", "user:1002:rw-"] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    // On disk too, and after the next mount.
    for mounted in &mounts {
        mounted.unmount();
        mounted.mount();
    }
    let again = mounts.each_ref().map(|mounted| step(mounted, "getfacl -R ."));
    assert_eq!(again[0], again[1]);
    assert_eq!(again[0], again[2]);
    for mounted in &mounts {
        mounted.unmount();
    }
}

#[test]
fn a_default_list_where_the_work_directory_lies_does_not_get_into_files() {
    if require::root().is_none() || !Path::new("/dev/fuse").exists() || require::program("setfacl").is_none() {
        skip!("needs root, /dev/fuse and setfacl");
    }
    for by in [By::Aufs, By::Overlay] {
        let mounted = Mounted::new(by);
        mounted.unmount();
        shell(mounted.dir.path(), "setfacl -d -m u:1009:rwx . upper work; rm -rf work/* upper/.wh*");
        mounted.mount();
        let said = shell(
            &mounted.dir.join("mnt"),
            "echo x >> plain; echo y >> with/below/x; rm with/old; echo > with/old; getfacl -R plain with",
        );
        mounted.unmount();
        assert!(!said.contains("1009"), "{by:?}: {said}");
    }
}
