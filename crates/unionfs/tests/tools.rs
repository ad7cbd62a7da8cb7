//! The tools that people look at trees with agree on a mounted union: `find`, `du`, `git`, `rsync`, in both dialects, before and after copy-up, and mounted anew.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

use std::{path::Path, process::Command};

use strata_testkit::{Scratch, require, scratch, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_strata-unions");

/// The union's dialect, and what mounts it; `$D` is the directory of them all.
const DIALECTS: [(&str, &str); 2] = [
    ("overlay", "lowerdir=$D/two:$D/one,upperdir=$D/upper,workdir=$D/work"),
    ("aufs", "dirs=$D/upper:$D/two=ro+wh:$D/one=ro+wh"),
];

/// Two branches: a repository and links in the lower, a directory of both.
const BRANCHES: &str = r#"
mkdir -p one/both one/deep/er two/both upper work mnt
for n in $(seq 40); do head -c $((n * 997)) /dev/zero | tr '\0' "$(printf %c $n)" > one/deep/f$n; done
echo text > one/links-a; ln one/links-a one/links-b; ln one/links-a one/deep/links-c
ln -s ../links-a one/deep/symbolic; mkfifo one/fifo
truncate -s 1M one/sparse; echo tail >> one/sparse
echo one > one/both/one; echo two > two/both/two; echo upper > two/both/three
git init -q one/repository
cd one/repository
for n in $(seq 30); do mkdir -p d$((n % 5)); echo $n > d$((n % 5))/f$n; done
git add -A; git -c user.name=n -c user.email=e commit -q -m first
"#;

/// What is changed on the union: copy-ups of data and of attributes, a link, renames, a deletion, new files.
const CHANGES: &str = r#"
cd $M
echo more >> links-b; chmod 600 deep/f3; touch -d @1000000000 deep/f4
ln deep/f5 deep/f5-again; mv deep/f6 both/moved; rm deep/f7; mkdir new; echo new > new/file
echo changed > repository/d1/f1; mv repository/d2 repository/renamed
"#;

fn can() -> bool {
    let programs = ["git", "rsync", "find", "du", "cp"].iter().all(|name| require::program(name).is_some());
    programs && require::root().is_some() && Path::new("/dev/fuse").exists()
}

struct Union {
    dir: Scratch,
    mount: (&'static str, &'static str),
}

impl Union {
    fn new(mount: (&'static str, &'static str)) -> Self {
        let dir = scratch();
        let union = Self { dir, mount };
        union.sh(&format!("cd $D; {BRANCHES}"));
        union.mount();
        union
    }

    /// Runs a shell's commands with `$D` and `$M` as the directory of them all and the mount point; returns what they printed.
    fn sh(&self, commands: &str) -> String {
        let at = self.dir.path();
        let mut command = Command::new("sh");
        command.args(["-ec", commands]).env("D", at).env("M", at.join("mnt")).env("LC_ALL", "C").current_dir("/");
        // What git takes for its own is whose it is; no configuration of whoever runs the test.
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("TZ", "UTC");
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{}: {commands}: {said}", self.mount.0);
        String::from_utf8(done.stdout).unwrap()
    }

    fn mount(&self) {
        let (words, options) = self.mount;
        self.sh(&format!("{PROGRAM} mount {words} {options} $M"));
    }

    fn unmount(&self) {
        self.sh(&format!("{PROGRAM} umount $M"));
    }
}

impl Drop for Union {
    fn drop(&mut self) {
        let _ = Command::new(PROGRAM).arg("umount").arg(self.dir.join("mnt")).output();
    }
}

/// Each file's links as `find` sees them: the names of one inode in a line.
const LINKS: &str = "cd $M; find . -path ./repository -prune -o -type f -links +1 -printf '%i %p\\n' | sort -k2 | \
                     awk '{ names[$1] = names[$1] \" \" $2 } END { for (i in names) print names[i] }' | sort";

/// Inode numbers of all names, as a listing tells them (`%i` asks `stat`, `ls -i` of a whole directory the listing).
fn inodes(union: &Union) -> String {
    let by_stat = union.sh("cd $M; find . -mindepth 1 -printf '%i %p\\n' | sort -k2");
    let by_listing = union.sh(
        "cd $M; find . -mindepth 1 -type d -o -print > /dev/null; find . -mindepth 1 | sort | xargs -d '\\n' ls -di --",
    );
    let squeeze = |text: &str| {
        text.lines()
            .map(|line| line.trim().split_once(' ').map(|(ino, name)| format!("{ino} {}", name.trim())).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(squeeze(&by_stat), squeeze(&by_listing), "{}", union.mount.0);
    by_stat
}

/// What has to be so at any time.
fn all_agree(union: &Union, when: &str) {
    let dialect = union.mount.0;
    // A copy into a plain directory, hard links and all; rsync finds nothing to do, by content and attributes.
    union.sh("rm -rf $D/copy; mkdir $D/copy; rsync -aHAX $M/ $D/copy/");
    assert_eq!(union.sh("rsync -naHAXi --checksum --delete $M/ $D/copy/"), "", "{dialect} {when}: rsync");
    // And cp's, by another way through the tree.
    union.sh("rm -rf $D/other; cp -a $M $D/other; diff -r --no-dereference $D/copy/deep $D/other/deep");
    // du counts each inode once, and as much as the copies have.
    let sizes = |at: &str| {
        union.sh(&format!(
            "cd {at}; find . -mindepth 1 ! -type d -print0 | sort -z | du --apparent-size -b --files0-from=- | sort -k2"
        ))
    };
    assert_eq!(sizes("$M"), sizes("$D/copy"), "{dialect} {when}: du");
    let total = |at: &str| {
        union.sh(&format!("cd {at}; find . ! -type d -print0 | du -cb --apparent-size --files0-from=- | tail -1"))
    };
    assert_eq!(total("$M"), total("$D/other"), "{dialect} {when}: du in all");
    // The names of one file are those of one file in the copies.
    assert_eq!(union.sh(LINKS), union.sh(&LINKS.replace("$M", "$D/copy")), "{dialect} {when}: links");
    let same = union.sh("cd $M; find . -samefile links-a | sort");
    assert_eq!(same, "./deep/links-c\n./links-a\n./links-b\n", "{dialect} {when}: find -samefile");
}

#[test]
fn find_du_git_and_rsync_agree() {
    if !can() {
        skip!("needs root, /dev/fuse, git and rsync");
    }
    for mount in DIALECTS {
        let union = Union::new(mount);
        let status = "cd $M/repository; git status --porcelain";
        let before = inodes(&union);
        all_agree(&union, "at first");
        assert_eq!(union.sh(status), "", "{}: a repository that nobody touched", mount.0);
        union.sh(CHANGES);
        let after = inodes(&union);
        all_agree(&union, "after changes");
        // Numbers stay over copy-up, of files and of directories, for as long as the union is mounted.
        let number = |list: &str, name: &str| {
            list.lines().find_map(|line| line.strip_suffix(&format!(" ./{name}")).map(str::to_owned)).unwrap()
        };
        for name in ["links-a", "links-b", "deep", "deep/f3", "deep/f4", "deep/f5", "both", "repository/d1/f1"] {
            assert_eq!(number(&before, name), number(&after, name), "{}: {name}", mount.0);
        }
        assert_eq!(number(&before, "deep/f6"), number(&after, "both/moved"), "{}: a file that was moved", mount.0);
        // AUFS refuses to move a lower directory (EXDEV), so that `mv` makes another one; overlay redirects it.
        let is_moved = number(&before, "repository/d2") == number(&after, "repository/renamed");
        assert_eq!(is_moved, mount.0 == "overlay", "{}: a folder that was moved", mount.0);
        let changed = " M d1/f1\n";
        assert!(union.sh(status).starts_with(changed), "{}: {}", mount.0, union.sh(status));
        let git = "cd $M/repository; git -c user.name=n -c user.email=e";
        union.sh(&format!(
            "{git} checkout -q -b more; git add -A; {git} commit -q -m second; git gc -q; git checkout -q -"
        ));
        assert_eq!(union.sh(status), "", "{}: checked out", mount.0);
        union.unmount();
        union.mount();
        all_agree(&union, "mounted anew");
        assert_eq!(union.sh(status), "", "{}: mounted anew", mount.0);
        assert_eq!(
            union.sh("cd $M/repository; git fsck --strict 2>&1; git log --oneline more | wc -l"),
            "2\n",
            "{}",
            mount.0
        );
    }
}
