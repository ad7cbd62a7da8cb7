//! `strata mount` and `strata umount`, as a user gives them.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
};

use strata_testkit::{Scratch, require, scratch, skip};

const STRATA: &str = env!("CARGO_BIN_EXE_strata");

fn strata(dir: &Path, arguments: &str) -> Output {
    Command::new(STRATA).args(arguments.split_whitespace()).current_dir(dir).output().unwrap()
}

/// Runs a command that must succeed; returns standard output and error.
fn done(dir: &Path, arguments: &str) -> String {
    let output = strata(dir, arguments);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments}: {text}");
    text
}

fn failed(dir: &Path, arguments: &str) -> String {
    let output = strata(dir, arguments);
    assert!(!output.status.success(), "{arguments} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folders() -> Option<Scratch> {
    require::root()?;
    Path::new("/dev/fuse").exists().then_some(())?;
    let dir = scratch();
    for name in ["lower1", "lower2", "top", "upper", "work", "mnt"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    fs::write(dir.join("lower1/file"), "one\n").unwrap();
    fs::write(dir.join("lower2/file"), "two\n").unwrap();
    fs::write(dir.join("lower2/deep"), "deep\n").unwrap();
    Some(dir)
}

#[test]
fn aufs_by_hand() {
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    done(dir.path(), "mount -t aufs -o dirs=./top:./lower1 none ./mnt");
    assert_eq!(fs::read_to_string(dir.join("mnt/file")).unwrap(), "one\n");
    done(dir.path(), "mount -o remount,append:./lower2 ./mnt");
    assert_eq!(fs::read_to_string(dir.join("mnt/deep")).unwrap(), "deep\n");
    fs::remove_file(dir.join("mnt/deep")).unwrap();
    assert!(dir.join("top/.wh.deep").exists());
    let list = done(dir.path(), "mount --list");
    let top = format!("{}/top=rw", dir.path().display());
    assert!(list.contains(&top) && list.contains("/lower2=ro"), "{list}");
    let json = done(dir.path(), "mount --list --format json");
    assert!(json.contains("\"dialect\": \"aufs\"") && json.contains("\"access\": \"rw\""), "{json}");
    done(dir.path(), "umount ./mnt");
    assert!(!dir.join("mnt/file").exists());
    assert!(failed(dir.path(), "umount ./mnt").contains("no union of ours"));
}

#[test]
fn an_overlay_of_ours_mounts_in_the_kernel_and_the_reverse() {
    if require::overlay().is_none() {
        skip!("needs the kernel's overlayfs");
    }
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    let options = "-o lowerdir=lower1:lower2,upperdir=upper,workdir=work overlay ./mnt";
    done(dir.path(), &format!("mount -t overlay --fuse {options}"));
    fs::write(dir.join("mnt/file"), "ours\n").unwrap();
    fs::remove_file(dir.join("mnt/deep")).unwrap();
    done(dir.path(), "umount mnt");
    let said = done(dir.path(), &format!("mount -t overlay {options}"));
    assert!(said.contains("the kernel's overlayfs"), "{said}");
    let (file, deep) = (fs::read_to_string(dir.join("mnt/file")), dir.join("mnt/deep").exists());
    let written = fs::write(dir.join("mnt/by-kernel"), "kernel\n");
    done(dir.path(), "umount mnt");
    assert_eq!((file.unwrap().as_str(), deep), ("ours\n", false));
    written.unwrap();
    done(dir.path(), &format!("mount -t overlay --fuse {options}"));
    let by_kernel = fs::read_to_string(dir.join("mnt/by-kernel"));
    done(dir.path(), "umount mnt");
    assert_eq!(by_kernel.unwrap(), "kernel\n");
}

#[test]
fn a_mount_helper_by_name() {
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    let output = Command::new(STRATA)
        .arg0("/sbin/mount.fuse.strata")
        .args(["none", "mnt", "-o", "rw,lowerdir=lower1,upperdir=upper,workdir=work"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown = fs::read_to_string(dir.join("mnt/file"));
    done(dir.path(), "umount mnt");
    assert_eq!(shown.unwrap(), "one\n");
}

/// A mount namespace of its own, where `mount` finds the program as its helper.
const HELPED: &str = r#"
mount -t tmpfs none /sbin
ln -s "$STRATA" /sbin/mount.strata
ln -s "$STRATA" /sbin/mount.fuse.strata
here=$(pwd -P)
shown() { grep " $here/mnt " /proc/self/mountinfo; }
"#;

/// Runs a script in a mount namespace of its own with [`HELPED`]; returns what it says.
fn helped(dir: &Path, script: &str) -> String {
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-eu", "-c", &format!("{HELPED}{script}")])
        .current_dir(dir)
        .env("STRATA", STRATA)
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {text}");
    text
}

#[test]
fn mount_of_the_system_mounts_remounts_and_unmounts() {
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    let said = helped(
        dir.path(),
        r#"
mount -t fuse.strata none mnt -o lowerdir=$here/lower1:$here/lower2,upperdir=$here/upper,workdir=$here/work,nosuid
shown
cat mnt/file
mount -o remount,ro,noexec $here/mnt
shown
! touch mnt/new 2> /dev/null
mount -o remount,rw $here/mnt
touch mnt/new
umount mnt
test -e upper/new
! shown
"#,
    );
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains(" rw,nosuid,relatime ") && lines[0].contains(" fuse.strata none "), "{said}");
    assert_eq!(lines[1], "one", "{said}");
    assert!(lines[2].contains(" ro,nosuid,noexec,relatime "), "{said}");
    assert_eq!(lines.len(), 3, "{said}");
}

#[test]
fn fstab_names_unions() {
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    let said = helped(
        dir.path(),
        r#"
cat > fstab <<END
layers $here/mnt strata noauto,nofail,x-systemd.automount,nodev,noatime,dirs=$here/top:$here/lower1=ro 0 0
END
mount --fstab fstab mnt
shown
cat mnt/file
mount --fstab fstab -o remount,append:$here/lower2 mnt
cat mnt/deep
umount mnt
"#,
    );
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains(" rw,nodev,noatime ") && lines[0].contains(" fuse.strata layers "), "{said}");
    assert_eq!(lines[1..], ["one", "deep"], "{said}");
}

#[test]
fn flags_of_the_mount_go_to_the_kernel_whoever_serves_the_union() {
    if require::overlay().is_none() {
        skip!("needs the kernel's overlayfs");
    }
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    let shown = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = format!(" {}/mnt ", dir.path().canonicalize().unwrap().display());
        let line = table.lines().find(|line| line.contains(&place)).unwrap().to_owned();
        let rest = line.split_once(&place).unwrap().1.to_owned();
        rest.split(' ').next().unwrap().to_owned()
    };
    for by in ["", "--fuse "] {
        let union = "lowerdir=lower1,upperdir=upper,workdir=work";
        done(dir.path(), &format!("mount -t overlay {by}-o nosuid,noexec,noatime,{union} none mnt"));
        let first = shown();
        done(dir.path(), "mount -o remount,ro,exec,relatime mnt");
        let second = shown();
        let refused = failed(dir.path(), "mount -o remount,volatile mnt");
        done(dir.path(), "umount mnt");
        assert_eq!((first.as_str(), second.as_str()), ("rw,nosuid,noexec,noatime", "ro,nosuid,relatime"), "{by}");
        assert!(refused.contains("`volatile`") && refused.contains("mount it anew"), "{refused}");
    }
    let said = done(dir.path(), "mount -t overlay -o threads=2,lowerdir=lower1:lower2 none mnt");
    done(dir.path(), "umount mnt");
    assert!(said.contains("in user space") && said.contains("`threads=2`"), "{said}");
}

#[test]
fn branches_come_and_go_by_remount() {
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    for name in ["between", "new-top"] {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("file"), name).unwrap();
    }
    let file = || fs::read_to_string(dir.join("mnt/file")).unwrap();
    let list = || {
        let text = done(dir.path(), "mount --list");
        let root = format!("  {}/", dir.path().canonicalize().unwrap().display());
        text.lines().filter_map(|line| line.strip_prefix(&root)).map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    done(dir.path(), "mount -t aufs -o dirs=top:lower1:lower2 none mnt");
    let steps = [
        ("add:1:between=ro", "between", "top=rw between=ro lower1=ro lower2=ro"),
        ("del:between", "one\n", "top=rw lower1=ro lower2=ro"),
        ("mod:lower1=ro+wh", "one\n", "top=rw lower1=ro+wh lower2=ro"),
        ("del:lower1,append:lower1=ro", "two\n", "top=rw lower2=ro lower1=ro"),
        ("prepend:new-top=rw", "new-top", "new-top=rw top=rw lower2=ro lower1=ro"),
    ];
    for (change, content, branches) in steps {
        done(dir.path(), &format!("mount -o remount,{change} mnt"));
        assert_eq!((file().as_str(), list().as_str()), (content, branches), "{change}");
    }
    for (change, part) in [
        ("del:nowhere", "nowhere"),
        ("add:9:between", "9"),
        ("append:top", "top"),
        ("mod:lower2=maybe", "maybe"),
        ("dirs=between", "names a folder that is no branch"),
    ] {
        let said = failed(dir.path(), &format!("mount -t aufs -o remount,{change} mnt"));
        assert!(said.contains(part), "{change}: {said}");
    }
    assert_eq!(list(), steps[4].2, "what was refused changed nothing");
    done(dir.path(), "umount mnt");
}

#[test]
fn what_a_killed_process_leaves_is_listed_and_cleared() {
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    done(dir.path(), "mount -t aufs -o dirs=top:lower1 none mnt");
    let list = done(dir.path(), "mount --list --format json");
    let unions: serde_json::Value = serde_json::from_str(&list).unwrap();
    let place = dir.path().canonicalize().unwrap().join("mnt");
    let union = unions.as_array().unwrap().iter().find(|union| union["mountpoint"] == place.to_str().unwrap());
    let pid = union.unwrap()["pid"].as_i64().unwrap().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    // Its end is seen when the kernel has closed its descriptors.
    while fs::metadata(dir.join("mnt/file")).is_ok() {
        std::thread::yield_now();
    }
    let list = done(dir.path(), "mount --list");
    assert!(list.lines().any(|line| line.starts_with(place.to_str().unwrap()) && line.contains("dead")), "{list}");
    done(dir.path(), "umount mnt");
    done(dir.path(), "mount -t aufs -o dirs=top:lower1 none mnt");
    let again = fs::read_to_string(dir.join("mnt/file"));
    done(dir.path(), "umount mnt");
    assert_eq!(again.unwrap(), "one\n");
}

#[test]
fn in_the_foreground_it_stays_until_it_is_unmounted() {
    let Some(dir) = folders() else { skip!("needs root and /dev/fuse") };
    let arguments = ["mount", "-t", "overlay", "--foreground", "-o", "lowerdir=lower1:lower2", "none", "mnt"];
    let mut process = Command::new(STRATA).args(arguments).current_dir(dir.path()).spawn().unwrap();
    while !dir.join("mnt/file").exists() {
        assert!(process.try_wait().unwrap().is_none(), "it ended before it was mounted");
        std::thread::yield_now();
    }
    assert!(process.try_wait().unwrap().is_none());
    done(dir.path(), "umount mnt");
    assert!(process.wait().unwrap().success());
}

#[test]
fn what_is_not_honoured_is_refused() {
    let dir = scratch();
    fs::create_dir(dir.join("mnt")).unwrap();
    for (arguments, part) in [
        ("mount -t aufs -o dirs=a,cpup=tdp none mnt", "leftmost"),
        ("mount -t overlay --fuse -o lowerdir=a,nfs_export=on none mnt", "NFS"),
        ("mount -t overlay --fuse -o lowerdir=a,upperdir=b none mnt", "workdir"),
        ("mount -o ro none mnt", "lowerdir"),
        ("mount -t aufs -o dirs=nowhere none mnt", "nowhere"),
    ] {
        let said = failed(dir.path(), arguments);
        assert!(said.contains(part), "{arguments}: {said}");
    }
}
