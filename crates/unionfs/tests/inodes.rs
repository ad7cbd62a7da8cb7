//! What belongs to an inode beside its content: its flags, and its number over copy-up and remount.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use common::{
    base::{Base, needs_root},
    mounted::{Mounted, can_mount, shell, unions},
};
use strata_testkit::skip;

/// Whether the filesystem of scratch directories has inode flags that we may set.
fn has_flags() -> bool {
    let temp = strata_testkit::scratch();
    let done = std::process::Command::new("chattr").args(["+i", "-i"]).arg(temp.path()).output();
    can_mount() && done.is_ok_and(|done| done.status.success())
}

fn remount(mounted: &Mounted) {
    unions(&["umount", mounted.mnt().to_str().unwrap()]);
    mounted.mount("");
}

#[test]
fn flags_are_shown_and_set_and_protect_what_lies_below() {
    if !has_flags() {
        skip!("needs root, /dev/fuse and a filesystem with inode flags");
    }
    for words in ["aufs", "overlay"] {
        let mounted = Mounted::new(words, "", |dir| {
            for name in ["plain", "fixed", "log"] {
                fs::write(dir.join("lower1").join(name), "below\n").unwrap();
            }
            fs::create_dir(dir.join("lower1/dir")).unwrap();
            shell_in(dir, "chattr +i lower1/fixed && chattr +a lower1/log");
        });
        let said = shell(&mounted, "cd $M; lsattr -d plain fixed log dir | cut -c 1-6");
        assert_eq!(said, "------\n----i-\n-----a\n------\n", "{words}");
        for command in [
            "echo >> $M/fixed",
            "rm -f $M/fixed",
            "mv $M/fixed $M/other",
            "ln $M/fixed $M/other",
            "chmod 600 $M/fixed",
            "echo > $M/log",
            "rm -f $M/log",
            "mv $M/plain $M/fixed",
        ] {
            let refused = shell(&mounted, &format!("({command}) 2>&1 && echo done || true"));
            assert!(refused.contains("not permitted") && !refused.contains("done"), "{words}: {command}: {refused}");
        }
        assert_eq!(
            shell(&mounted, "echo more >> $M/log; cat $M/log; lsattr $M/log | cut -c 6"),
            "below\nmore\na\n",
            "{words}"
        );
        assert!(shell(&mounted, "(echo > $M/log) 2>&1 || true").contains("not permitted"), "{words}");
        let set = "cd $M; chattr +di plain; chattr +A dir; lsattr -d plain dir | cut -c 1-8; (echo >> plain) 2>&1 || chattr -i plain; echo >> plain";
        let said = shell(&mounted, set);
        assert!(said.starts_with("----i-d-\n-------A\n") || said.contains("i-d"), "{words}: {said}");
        assert_eq!(fs::read_to_string(mounted.dir.join("lower1/plain")).unwrap(), "below\n");
        shell_in(mounted.dir.path(), "chattr -i lower1/fixed; chattr -a lower1/log upper/log");
    }
}

fn shell_in(dir: &Path, command: &str) {
    let done = std::process::Command::new("sh").args(["-ec", command]).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{command}: {done:?}");
}

#[test]
fn numbers_stay_over_copy_up_and_remount() {
    if !can_mount() || !common::base::root() {
        skip!("needs root and /dev/fuse");
    }
    let mounted = Mounted::new("overlay", "", |dir| {
        let low = dir.join("lower1");
        fs::create_dir_all(low.join("dir/inner")).unwrap();
        for name in ["single", "two", "dir/deep", "dir/inner/deeper"] {
            fs::write(low.join(name), "below\n").unwrap();
        }
        fs::hard_link(low.join("two"), low.join("dir/two-too")).unwrap();
        std::os::unix::fs::symlink("text", low.join("link")).unwrap();
    });
    let names = ["single", "two", "dir", "dir/deep", "dir/inner", "dir/inner/deeper", "dir/two-too", "link"];
    let numbers = |names: &[&str]| -> Vec<(String, u64)> {
        names.iter().map(|name| (name.to_string(), fs::symlink_metadata(mounted.at(name)).unwrap().ino())).collect()
    };
    let before = numbers(&names);
    shell(
        &mounted,
        "cd $M; for f in single two dir/deep dir/inner/deeper; do echo more >> $f; done; chown -h 1 link; ln single dir/linked; mv dir/deep moved",
    );
    let after = |old: &[(String, u64)]| {
        let mut all = old.to_vec();
        all.iter_mut().filter(|(name, _)| name == "dir/deep").for_each(|(name, _)| *name = "moved".into());
        let number = old[0].1;
        all.push(("dir/linked".into(), number));
        all
    };
    let wanted = after(&before);
    let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(numbers(&names), wanted, "after copy-up");
    remount(&mounted);
    assert_eq!(numbers(&names), wanted, "after a remount");
    // Listings tell the same numbers as `stat`, before anything was looked up too.
    remount(&mounted);
    let listed = shell(&mounted, "ls -iU1 $M $M/dir | grep -v : | awk 'NF {print $2, $1}' | sort");
    let mut told: Vec<String> = wanted
        .iter()
        .filter(|(name, _)| !name.contains("inner/"))
        .map(|(name, ino)| format!("{} {ino}\n", name.rsplit('/').next().unwrap()))
        .collect();
    told.sort();
    assert_eq!(listed, told.concat());
    if strata_testkit::require::overlay().is_some() {
        unions(&["umount", mounted.mnt().to_str().unwrap()]);
        let at = mounted.dir.path().display();
        shell_in(
            mounted.dir.path(),
            &format!("mount -t overlay -o index=on,lowerdir={at}/lower1:{at}/lower2,upperdir=upper,workdir=work o mnt"),
        );
        let kernels = numbers(&names);
        shell_in(mounted.dir.path(), "umount mnt");
        assert_eq!(kernels, wanted, "as the kernel's overlayfs tells them");
        mounted.mount("");
    }
}

#[test]
fn a_copy_whose_origin_is_gone_has_a_number_of_its_own() {
    if needs_root() {
        return;
    }
    let base = Base::new();
    base.write("low/file", "below");
    let view = base.open();
    let before = view.attr("file").unwrap().ino;
    view.union
        .set_attr(
            view.node("file").unwrap(),
            None,
            &strata_unionfs::SetAttr { mode: Some(0o600), ..common::base::change() },
        )
        .unwrap();
    assert_eq!(view.attr("file").unwrap().ino, before);
    drop(view);
    fs::remove_file(base.path("low/file")).unwrap();
    let upper = fs::metadata(base.path("up/file")).unwrap().ino();
    assert_eq!(base.open().attr("file").unwrap().ino, upper);
}
