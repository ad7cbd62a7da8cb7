//! `strata mount` and `strata umount`, as a user gives them.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

use std::{
    collections::BTreeSet,
    fs,
    ops::Deref,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
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

/// Directories to mount, and the right to do so alone: a mount namespace that another test makes holds the mounts of all, and a process that
/// it forks what is open in them.
struct Directories {
    dir: Scratch,
    _alone: MutexGuard<'static, ()>,
}

impl Deref for Directories {
    type Target = Scratch;
    fn deref(&self) -> &Scratch {
        &self.dir
    }
}

fn directories() -> Option<Directories> {
    static ALONE: Mutex<()> = Mutex::new(());
    require::root()?;
    Path::new("/dev/fuse").exists().then_some(())?;
    let dir = scratch();
    for name in ["lower1", "lower2", "top", "upper", "work", "mnt"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    fs::write(dir.join("lower1/file"), "one\n").unwrap();
    fs::write(dir.join("lower2/file"), "two\n").unwrap();
    fs::write(dir.join("lower2/deep"), "deep\n").unwrap();
    Some(Directories { dir, _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner) })
}

#[test]
fn aufs_by_hand() {
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
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
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
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
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
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
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
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
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
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
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
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
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
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
        ("dirs=between", "names a directory that is no branch"),
    ] {
        let said = failed(dir.path(), &format!("mount -t aufs -o remount,{change} mnt"));
        assert!(said.contains(part), "{change}: {said}");
    }
    assert_eq!(list(), steps[4].2, "what was refused changed nothing");
    done(dir.path(), "umount mnt");
}

#[test]
fn names_of_one_file_stay_names_of_one_file_when_aufs_is_mounted_again() {
    let Some(dir) = furnished() else { skip!("needs root and /dev/fuse") };
    let mount = || done(dir.path(), "mount -t aufs -o br=top:lower1 none mnt");
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    mount();
    fs::write(dir.join("mnt/two"), "changed").unwrap();
    let time = fs::metadata(dir.join("mnt/d")).unwrap().modified().unwrap();
    done(dir.path(), "umount mnt");
    // In the branch too, so that whoever reads it sees so; AUFS's own notes of it are gone.
    assert_eq!(fs::metadata(dir.join("top/d/one")).unwrap().ino(), fs::metadata(dir.join("top/two")).unwrap().ino());
    assert_eq!(fs::read_dir(dir.join("top/.wh..wh.plnk")).unwrap().count(), 0);
    mount();
    let seen = (read("mnt/d/one"), inode(dir.path(), "d/one") == inode(dir.path(), "two"));
    let same_time = fs::metadata(dir.join("mnt/d")).unwrap().modified().unwrap() == time;
    done(dir.path(), "umount mnt");
    assert_eq!((seen, same_time), (("changed".to_owned(), true), true));
    assert_eq!(read("lower1/d/one"), "one");
}

#[test]
fn what_a_killed_process_leaves_is_listed_and_cleared() {
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
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
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
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

/// What `--list` tells of the union on `mnt`.
fn listed(dir: &Path) -> Value {
    let all: Value = serde_json::from_str(&done(dir, "mount --list --format json")).unwrap();
    let place = dir.canonicalize().unwrap().join("mnt");
    all.as_array().unwrap().iter().find(|union| union["mountpoint"] == place.to_str().unwrap()).unwrap().clone()
}

/// An option, what `--list` shows of it, and what it must do to the mounted directories.
type Honoured<'a> = (&'a str, &'a [(&'a str, &'a str)], fn(&Path));

/// Lower directories with a directory, a file of two names, and a file.
fn furnished() -> Option<Directories> {
    let dir = directories()?;
    fs::create_dir(dir.join("lower1/d")).unwrap();
    fs::write(dir.join("lower1/d/one"), "one").unwrap();
    fs::hard_link(dir.join("lower1/d/one"), dir.join("lower1/two")).unwrap();
    Some(dir)
}

fn attribute(dir: &Path, path: &str, name: &str) -> Option<String> {
    let value = strata_sys::xattr::get(dir.join(path), name).unwrap();
    value.map(|value| String::from_utf8_lossy(&value).into_owned())
}

fn renames(dir: &Path, works: bool) {
    let renamed = fs::rename(dir.join("mnt/d"), dir.join("mnt/e"));
    match works {
        true => assert_eq!(fs::read_to_string(dir.join("mnt/e/one")).unwrap(), "one", "{renamed:?}"),
        false => assert_eq!(renamed.unwrap_err().kind(), std::io::ErrorKind::CrossesDevices),
    }
}

fn keeps_links(dir: &Path, works: bool) {
    fs::write(dir.join("mnt/two"), "new").unwrap();
    assert_eq!(fs::read_to_string(dir.join("mnt/d/one")).unwrap() == "new", works);
}

fn copies_data(dir: &Path, works: bool) {
    fs::set_permissions(dir.join("mnt/file"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(attribute(dir, "upper/file", "trusted.overlay.metacopy").is_none(), works);
    assert_eq!(fs::read_to_string(dir.join("mnt/file")).unwrap(), "one\n");
}

const HONOURED: &[Honoured<'_>] = &[
    ("redirect_dir=on", &[("redirect_dir", "on")], |dir| {
        renames(dir, true);
        assert_eq!(attribute(dir, "upper/e", "trusted.overlay.redirect").as_deref(), Some("d"));
    }),
    ("redirect_dir=off", &[("redirect_dir", "follow")], |dir| renames(dir, false)),
    ("redirect_dir=follow", &[("redirect_dir", "follow")], |dir| renames(dir, false)),
    ("redirect_dir=nofollow", &[("redirect_dir", "nofollow")], |dir| renames(dir, false)),
    ("redirect_dir=on,metacopy=on", &[("metacopy", "on"), ("redirect_dir", "on")], |dir| copies_data(dir, false)),
    ("metacopy=off", &[("metacopy", "off")], |dir| copies_data(dir, true)),
    ("index=on", &[("index", "on")], |dir| keeps_links(dir, true)),
    ("index=off", &[("index", "off")], |dir| keeps_links(dir, false)),
    ("volatile", &[("volatile", "on")], |dir| fs::write(dir.join("mnt/new"), "").unwrap()),
    ("xino=on", &[("volatile", "off")], |dir| {
        let numbers: BTreeSet<u64> = ["file", "deep", "two", "d"].iter().map(|name| inode(dir, name)).collect();
        assert_eq!(numbers.len(), 4);
        assert_eq!(inode(dir, "two"), inode(dir, "d/one"));
    }),
    ("xino=auto", &[], |dir| assert_eq!(inode(dir, "two"), inode(dir, "d/one"))),
    ("xino=off", &[], |dir| assert_eq!(inode(dir, "two"), inode(dir, "d/one"))),
    ("userxattr", &[], |dir| {
        fs::remove_dir_all(dir.join("mnt/d")).unwrap();
        fs::create_dir(dir.join("mnt/d")).unwrap();
        assert_eq!(attribute(dir, "upper/d", "user.overlay.opaque").as_deref(), Some("y"));
        assert_eq!(attribute(dir, "upper/d", "trusted.overlay.opaque"), None);
    }),
    ("nfs_export=off", &[], |dir| assert_eq!(fs::read_to_string(dir.join("mnt/deep")).unwrap(), "deep\n")),
];

fn inode(dir: &Path, name: &str) -> u64 {
    fs::metadata(dir.join("mnt").join(name)).unwrap().ino()
}

#[test]
fn each_option_of_overlay_is_honoured_and_shown() {
    for (options, shown, does) in HONOURED {
        let Some(dir) = furnished() else { skip!("needs root and /dev/fuse") };
        let union = format!("lowerdir=lower1:lower2,upperdir=upper,workdir=work,{options}");
        done(dir.path(), &format!("mount -t overlay --fuse -o {union} overlay mnt"));
        let told = listed(dir.path());
        for (name, value) in *shown {
            assert_eq!(told["choices"][name], *value, "{options}: {told:#}");
            assert!(done(dir.path(), "mount --list").contains(&format!("{name}={value}")), "{options}");
        }
        let place = dir.path().canonicalize().unwrap();
        let at = |name: &str, access: &str| json!({"path": place.join(name).to_str(), "access": access});
        assert_eq!(told["branches"], json!([at("upper", "rw"), at("lower1", "ro"), at("lower2", "ro")]), "{options}");
        assert_eq!(told["workdir"], json!(place.join("work").to_str()), "{options}");
        let marks = if *options == "userxattr" { "overlay,userxattr" } else { "overlay" };
        assert_eq!(told["dialect"], marks, "{options}");
        let result = std::panic::catch_unwind(|| does(dir.path()));
        done(dir.path(), "umount mnt");
        if let Err(panic) = result {
            eprintln!("with {options}:");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn the_kernel_gets_each_option_as_it_is_given() {
    if require::overlay().is_none() {
        skip!("needs the kernel's overlayfs");
    }
    for option in [
        "redirect_dir=on",
        "redirect_dir=nofollow",
        "index=on",
        "index=off",
        "metacopy=on",
        "xino=on",
        "nfs_export=on",
        "volatile",
        "userxattr",
    ] {
        let Some(dir) = furnished() else { skip!("needs root and /dev/fuse") };
        let union = format!("lowerdir=lower1:lower2,upperdir=upper,workdir=work,{option}");
        let said = done(dir.path(), &format!("mount -t overlay -o {union} overlay mnt"));
        let place = dir.path().canonicalize().unwrap().join("mnt");
        let mounts = strata_sys::mount::mounts_under(&place).unwrap();
        let shown = mounts.iter().map(|mount| mount.super_options.clone()).collect::<String>();
        done(dir.path(), "umount mnt");
        assert!(said.contains("mounted by the kernel's overlayfs"), "{option}: {said}");
        // What is its default, or of no use where all lies on one filesystem, it takes and does not show.
        let is_default = ["index=off", "redirect_dir=nofollow", "xino=on"].contains(&option);
        assert!(is_default || shown.split(',').any(|word| word.ends_with(option)), "{option}: {shown}");
    }
}

#[test]
fn lower_directories_are_named_in_a_list_or_one_by_one() {
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
    for (options, file) in [
        ("lowerdir=lower1:lower2", "one\n"),
        ("lowerdir+=lower1,lowerdir+=lower2", "one\n"),
        ("lowerdir+=lower2,lowerdir+=lower1", "two\n"),
        ("lowerdir=lower2,lowerdir+=lower1", "two\n"),
    ] {
        done(dir.path(), &format!("mount -t overlay --fuse -o {options} overlay mnt"));
        let seen = fs::read_to_string(dir.join("mnt/file")).unwrap();
        let written = fs::write(dir.join("mnt/new"), "");
        done(dir.path(), "umount mnt");
        assert_eq!(seen, file, "{options}");
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem, "nothing is writable");
    }
}

#[test]
fn branches_of_aufs_are_as_writable_as_they_are_named() {
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
    fs::write(dir.join("lower1/.wh.deep"), "").unwrap();
    for (options, shown, deep, writable) in [
        ("br=top:lower1:lower2", "rw ro ro", true, true),
        ("dirs=top=rw:lower1=ro:lower2=ro", "rw ro ro", true, true),
        // Whiteouts of a read-only branch count where it says so.
        ("br:top=rw:lower1=ro+wh:lower2=ro,xino=/dev/shm/aufs.xino", "rw ro+wh ro", false, true),
        ("br=top=ro:lower2=ro,noxino,dirperm1,udba=reval", "ro ro", true, false),
    ] {
        done(dir.path(), &format!("mount -t aufs -o {options} none mnt"));
        let branches = listed(dir.path())["branches"].clone();
        let access: Vec<&str> = branches.as_array().unwrap().iter().map(|b| b["access"].as_str().unwrap()).collect();
        let (there, written) = (dir.join("mnt/deep").exists(), fs::write(dir.join("mnt/new"), ""));
        done(dir.path(), "umount mnt");
        assert_eq!((access.join(" ").as_str(), there, written.is_ok()), (shown, deep, writable), "{options}");
        let _ = fs::remove_file(dir.join("top/new"));
    }
}

#[test]
fn what_is_not_honoured_is_refused() {
    let dir = scratch();
    fs::create_dir(dir.join("mnt")).unwrap();
    for (arguments, part) in [
        ("mount -t aufs -o dirs=a,cpup=tdp none mnt", "leftmost"),
        ("mount -t aufs -o dirs=a,create=mfs none mnt", "leftmost"),
        ("mount -t aufs -o dirs=a,noplink none mnt", "`noplink`"),
        ("mount -t aufs -o dirs=a,udba=notify none mnt", "`udba=notify`"),
        ("mount -t aufs -o dirs=a=rw+nolwh none mnt", "rw+nolwh"),
        ("mount -t aufs -o dirs=a,lowerdir=b none mnt", "`lowerdir=b`"),
        ("mount -t overlay --fuse -o lowerdir=a,nfs_export=on none mnt", "NFS"),
        ("mount -t overlay --fuse -o lowerdir=a,upperdir=b none mnt", "workdir"),
        ("mount -t overlay --fuse -o lowerdir=a::b none mnt", "data-only layers"),
        ("mount -t overlay --fuse -o lowerdir=a,datadir+=b none mnt", "data-only layers"),
        ("mount -t overlay --fuse -o lowerdir=a,redirect_dir=maybe none mnt", "takes on, off, follow or nofollow"),
        ("mount -t overlay --fuse -o lowerdir=a,metacopy=on,redirect_dir=off none mnt", "needs redirect_dir=on"),
        ("mount -t overlay --fuse -o lowerdir=a,metacopy=on,userxattr none mnt", "users could forge"),
        ("mount -t overlay --fuse -o lowerdir=a,index=maybe none mnt", "`index` takes `on` or `off`"),
        ("mount -t overlay --fuse -o lowerdir=a,xino=maybe none mnt", "`xino=maybe`"),
        ("mount -t overlay --fuse -o lowerdir=a,verity=require none mnt", "digests are not checked"),
        ("mount -t overlay --fuse -o lowerdir=a,uuid=on none mnt", "no UUID"),
        ("mount -t overlay --fuse -o lowerdir=a,nonsense none mnt", "`nonsense`"),
        ("mount -o ro none mnt", "lowerdir"),
        ("mount -t aufs -o dirs=nowhere none mnt", "nowhere"),
    ] {
        let said = failed(dir.path(), arguments);
        assert!(said.contains(part), "{arguments}: {said}");
    }
}

/// Runs `strata` with these arguments by a command line that takes a right or a device away.
fn without(dir: &Path, command: &[&str], arguments: &str) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{arguments} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_the_device_or_the_right_to_mount_the_way_out_is_told() {
    let Some(dir) = directories() else { skip!("needs root and /dev/fuse") };
    let no_device = ["unshare", "--mount", "sh", "-euc", "mount -t tmpfs none /dev; exec \"$@\"", "sh", STRATA];
    for union in
        ["mount -t aufs -o br=top:lower1 none mnt", "mount -t overlay --fuse -o lowerdir=lower1:lower2 none mnt"]
    {
        let said = without(dir.path(), &no_device, union);
        assert!(said.contains("cannot open /dev/fuse") && said.contains("modprobe fuse"), "{said}");
    }
    // Anybody may have the directories, and run the program.
    for name in ["", "lower1", "lower2", "top", "mnt", "upper", "work"] {
        std::os::unix::fs::chown(dir.join(name), Some(65_534), Some(65_534)).unwrap();
    }
    let program = dir.join("strata");
    fs::copy(STRATA, &program).unwrap();
    let no_right =
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", program.to_str().unwrap()];
    for union in ["mount -t aufs -o br=top:lower1 none mnt", "mount -t overlay -o lowerdir=lower1:lower2 none mnt"] {
        let said = without(dir.path(), &no_right, union);
        assert!(said.contains("only root may mount, or the owner of a user namespace (`unshare -Urm`)"), "{said}");
    }
    assert!(without(dir.path(), &no_right, "umount mnt").contains("no union of ours is mounted"));
}
