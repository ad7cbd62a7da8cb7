//! A mounted union, as programs see it: its process is the small program of this crate.
//!
//! What the union does with branches and marks is tested without a mount; here it is what only the kernel can show.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use strata_testkit::{require, scratch, skip};
use strata_unionfs::mount::{self, State};

mod common;

use common::mounted::{Mounted, PROGRAM, can_mount, shell, unions};

fn some_files(dir: &Path) {
    fs::write(dir.join("lower1/file"), "lower\n").unwrap();
    fs::hard_link(dir.join("lower1/file"), dir.join("lower1/other-name")).unwrap();
    fs::write(dir.join("lower2/deep"), "deep\n").unwrap();
    fs::create_dir(dir.join("lower2/folder")).unwrap();
    fs::write(dir.join("lower2/folder/inner"), "inner\n").unwrap();
}

/// Every case in both dialects, and with the kernel reading by itself or not.
const VARIANTS: [(&str, &str); 4] = [
    ("aufs", ",awake=off"),
    ("overlay", ",awake=on"),
    ("aufs", ",passthrough=off"),
    ("overlay", ",passthrough=off,threads=1"),
];

#[test]
fn an_open_reader_sees_what_is_written_after_copy_up() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    for (words, more) in VARIANTS {
        let mounted = Mounted::new(words, more, some_files);
        let mut reader = File::open(mounted.at("file")).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        OpenOptions::new().append(true).open(mounted.at("other-name")).unwrap().write_all(b"more\n").unwrap();
        text.clear();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "more\n", "{words}{more}");
        assert_eq!(fs::read_to_string(mounted.at("file")).unwrap(), "lower\nmore\n");
        // Now a writer first, then a reader beside it.
        let writer = OpenOptions::new().write(true).open(mounted.at("deep")).unwrap();
        let reader = File::open(mounted.at("deep")).unwrap();
        writer.write_all_at(b"DEEP", 0).unwrap();
        let mut four = [0; 4];
        reader.read_exact_at(&mut four, 0).unwrap();
        assert_eq!(&four, b"DEEP", "{words}{more}");
        assert_eq!(fs::read_to_string(mounted.dir.join("lower2/deep")).unwrap(), "deep\n");
    }
}

/// Takes a file's pages out of the kernel's cache, so that the next read asks the union.
fn forget_pages(file: &File) {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

#[test]
fn a_small_file_that_was_handed_over_at_open_is_still_the_unions() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    for (words, more) in VARIANTS {
        let mounted = Mounted::new(words, more, |dir| {
            for name in ["gone", "moved", "written", "emptied"] {
                fs::write(dir.join("lower1").join(name), format!("{name} below")).unwrap();
            }
        });
        let read = |file: &mut File| {
            let mut bytes = [0; 100];
            let len = file.read_at(&mut bytes, 0).unwrap();
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        let mut files = ["gone", "moved", "written", "emptied"].map(|name| {
            // Once to hand it over, and once more when that is known.
            assert_eq!(fs::read_to_string(mounted.at(name)).unwrap(), format!("{name} below"));
            let file = File::open(mounted.at(name)).unwrap();
            forget_pages(&file);
            file
        });
        fs::remove_file(mounted.at("gone")).unwrap();
        fs::rename(mounted.at("moved"), mounted.at("moved2")).unwrap();
        OpenOptions::new().append(true).open(mounted.at("written")).unwrap().write_all(b", and above").unwrap();
        File::create(mounted.at("emptied")).unwrap();
        let wanted = ["gone below", "moved below", "written below, and above", ""];
        assert_eq!([0, 1, 2, 3].map(|at| read(&mut files[at])), wanted, "{words}{more}");
        assert_eq!(fs::read_to_string(mounted.at("written")).unwrap(), wanted[2], "{words}{more}");
        drop(files);
        assert_eq!(fs::read_to_string(mounted.at("written")).unwrap(), wanted[2], "{words}{more}");
        assert_eq!(fs::read_to_string(mounted.at("moved2")).unwrap(), wanted[1], "{words}{more}");
    }
}

#[test]
fn the_articles_steps() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    for (words, more) in VARIANTS {
        let mounted = Mounted::new(words, more, some_files);
        let shown = shell(
            &mounted,
            "cd $M; echo new > new; rm deep; mkdir folder/sub; echo x > folder/sub/x; mv file moved; rm -r folder; mkdir folder
             ln -s moved link; mkfifo pipe; chmod 600 moved; find . | sort | tr '\\n' ' '; cat link",
        );
        assert_eq!(shown, ". ./folder ./link ./moved ./new ./other-name ./pipe lower\n", "{words}{more}");
        let (one, two) = (fs::metadata(mounted.at("moved")).unwrap(), fs::metadata(mounted.at("other-name")).unwrap());
        assert_eq!((one.ino(), one.nlink()), (two.ino(), 2), "{words}{more}");
        assert_eq!(fs::read_to_string(mounted.dir.join("lower1/file")).unwrap(), "lower\n");
        // Mounted again, it shows the same.
        assert!(unions(&["umount", mounted.mnt().to_str().unwrap()]).status.success());
        mounted.mount(more);
        assert_eq!(shell(&mounted, "cd $M; find . | sort | tr '\\n' ' '; cat link"), shown);
    }
}

#[test]
fn find_du_and_rsync_agree() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    for (words, more) in VARIANTS {
        let mounted = Mounted::new(words, more, |dir| {
            some_files(dir);
            for number in 0..300 {
                fs::write(dir.join(format!("lower2/folder/{number}")), vec![b'x'; number]).unwrap();
            }
        });
        let by_entry = shell(&mounted, "ls -i -f -a $M/folder | awk '$2 != \".\" && $2 != \"..\"' | sort");
        let by_stat = shell(&mounted, "cd $M/folder; stat -c '%i %n' * | sort");
        let squeeze = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(squeeze(&by_entry), squeeze(&by_stat), "{words}{more}");
        assert_eq!(by_stat.lines().count(), 301);
        if require::program("rsync").is_some() {
            shell(&mounted, "mkdir $M/../copy; rsync -aH $M/ $M/../copy/; diff -r $M $M/../copy");
            let copy = fs::metadata(mounted.dir.join("copy/file")).unwrap();
            assert_eq!(copy.nlink(), 2, "{words}{more}: rsync -H keeps the links");
        }
        // Deleting while the directory is read, and a number that a later file gets again.
        shell(
            &mounted,
            "cd $M/folder; rm -rf ./*; test -z \"$(ls -A)\"; for i in 1 2 3 4 5; do echo $i > f; cat f; rm f; done",
        );
    }
}

#[test]
fn maps_direct_io_locks_and_holes() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    for (words, more) in VARIANTS {
        let mounted = Mounted::new(words, more, some_files);
        let direct = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_DIRECT)
            .open(mounted.at("direct"))
            .unwrap();
        // On a page's boundary, as O_DIRECT wants it.
        let buffer = vec![7u8; 3 * 4096];
        let skew = buffer.as_ptr().align_offset(4096);
        direct.write_all_at(&buffer[skew..skew + 4096], 4096).unwrap();
        assert_eq!(fs::metadata(mounted.at("direct")).unwrap().len(), 8192);
        let read = fs::read(mounted.at("direct")).unwrap();
        assert!(read[..4096].iter().all(|&byte| byte == 0) && read[4096..].iter().all(|&byte| byte == 7));
        // Mapped memory, by a program that maps: python's mmap where there is one.
        if require::program("python3").is_some() {
            let shown = shell(
                &mounted,
                "python3 -c 'import mmap,os,sys
f=open(sys.argv[1],\"r+b\"); m=mmap.mmap(f.fileno(),0); m[0:2]=b\"LO\"; m.flush(); print(os.pread(f.fileno(),5,0).decode())' $M/file",
            );
            assert_eq!(shown, "LOwer\n", "{words}{more}");
            assert_eq!(fs::read_to_string(mounted.at("other-name")).unwrap(), "LOwer\n");
        }
        let (first, second) = (File::open(mounted.at("deep")).unwrap(), File::open(mounted.at("deep")).unwrap());
        first.lock().unwrap();
        assert!(second.try_lock().is_err());
        drop(first);
        assert!(second.try_lock().is_ok());
    }
}

#[test]
fn set_user_id_goes_when_somebody_else_writes() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    if require::program("setpriv").is_none() {
        skip!("needs setpriv");
    }
    for (words, more) in VARIANTS {
        let mounted = Mounted::new(words, more, some_files);
        shell(
            &mounted,
            "chmod 755 $M/.. $M; echo a > $M/s; chown 0:0 $M/s; chmod 6777 $M/s
             setpriv --reuid 1000 --regid 1000 --clear-groups sh -c 'echo b >> $M/s'",
        );
        let mode = fs::metadata(mounted.at("s")).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o777, "{words}{more}");
    }
}

#[test]
fn branches_change_while_mounted() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    let mounted = Mounted::new("aufs", "", some_files);
    let more = mounted.dir.join("more");
    fs::create_dir(&more).unwrap();
    fs::write(more.join("from-more"), "more\n").unwrap();
    assert!(!mounted.at("from-more").exists());
    assert_eq!(fs::read_dir(mounted.mnt()).unwrap().count(), 4);
    let change = |text: String| {
        let done = unions(&["mount", "aufs", &format!("remount,{text}"), mounted.mnt().to_str().unwrap()]);
        assert!(done.status.success(), "{done:?}");
    };
    change(format!("append:{}", more.display()));
    assert_eq!(fs::read_to_string(mounted.at("from-more")).unwrap(), "more\n");
    assert_eq!(fs::read_dir(mounted.mnt()).unwrap().count(), 5);
    change(format!("del:{}", more.display()));
    assert!(!mounted.at("from-more").exists());
    let refused = unions(&["mount", "aufs", "remount,del:/nowhere", mounted.mnt().to_str().unwrap()]);
    assert!(!refused.status.success());
}

#[test]
fn a_killed_union_is_cleared_and_mounted_again() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    for (words, more) in VARIANTS {
        let mounted = Mounted::new(words, more, some_files);
        let mut file = File::create(mounted.at("synced")).unwrap();
        file.write_all(b"safe").unwrap();
        file.sync_all().unwrap();
        let pid = mounted.pid();
        let writer = Command::new("sh")
            .args(["-c", "cd $M && for i in $(seq 100000); do echo $i > w$i; echo $i >> file; rm w$i || exit 0; done"])
            .env("M", mounted.mnt())
            .stderr(std::process::Stdio::null())
            .spawn();
        std::thread::sleep(Duration::from_millis(200));
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid as i32).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        let mut writer = writer.unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while !matches!(mount::find(&mounted.mnt()).unwrap().unwrap().state, State::Dead) {
            assert!(Instant::now() < end, "{words}{more}: still alive");
            std::thread::sleep(Duration::from_millis(5));
        }
        _ = writer.kill();
        writer.wait().unwrap();
        drop(file);
        assert!(unions(&["umount", mounted.mnt().to_str().unwrap()]).status.success());
        assert!(mount::find(&mounted.mnt()).unwrap().is_none());
        mounted.mount(more);
        assert_eq!(fs::read(mounted.at("synced")).unwrap(), b"safe");
        shell(&mounted, "find $M -type f -exec cat {} + > /dev/null");
    }
}

#[test]
fn a_thousand_layers() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    let dir = scratch();
    let mut list = vec![dir.join("upper")];
    for number in 0..1000 {
        let layer = dir.join(format!("l{number}"));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("file{number}")), number.to_string()).unwrap();
        list.push(layer);
    }
    for name in ["upper", "mnt"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    let list: Vec<&str> = list.iter().map(|path| path.to_str().unwrap()).collect();
    let mnt = dir.join("mnt");
    let done = unions(&["mount", "aufs", &format!("dirs={}", list.join(":")), mnt.to_str().unwrap()]);
    assert!(done.status.success(), "{done:?}");
    let names = fs::read_dir(&mnt).unwrap().count();
    let last = fs::read_to_string(mnt.join("file999"));
    let found = mount::find(&mnt).unwrap().unwrap();
    assert!(unions(&["umount", mnt.to_str().unwrap()]).status.success());
    assert_eq!((names, last.unwrap().as_str()), (1000, "999"));
    assert!(matches!(found.state, State::Alive { branches, .. } if branches.len() == 1001));
}

#[test]
fn without_root_in_a_user_namespace() {
    if !can_mount() || require::program("setpriv").is_none() {
        skip!("needs root to become a user, /dev/fuse and setpriv");
    }
    let dir = scratch();
    for name in ["lower1", "lower2", "upper", "work", "mnt"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    some_files(dir.path());
    let script = format!(
        "cd $D; unshare -Urm sh -ec '{PROGRAM} mount overlay userxattr,lowerdir=lower1:lower2,upperdir=upper,workdir=work mnt
         cd mnt; echo more >> file; rm -r folder; mkdir folder; ls -A folder; cat other-name; cd ..; {PROGRAM} umount mnt'"
    );
    let setup = "chown -R 1000:1000 $D && chmod 666 /dev/fuse && setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Urm true";
    let ready = Command::new("sh").args(["-c", setup]).env("D", dir.path()).status().unwrap();
    let reachable = Command::new("setpriv")
        .args(["--reuid", "1000", "--regid", "1000", "--clear-groups", "test", "-x", PROGRAM])
        .status()
        .unwrap();
    if !ready.success() || !reachable.success() {
        skip!("a user can make no user namespace here, or not reach this crate's program");
    }
    let done = Command::new("setpriv")
        .args(["--reuid", "1000", "--regid", "1000", "--clear-groups", "sh", "-ec", &script])
        .env("D", dir.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(String::from_utf8_lossy(&done.stdout), "lower\nmore\n");
    assert_eq!(fs::read_to_string(dir.join("upper/file")).unwrap(), "lower\nmore\n");
}

#[test]
fn what_cannot_be_mounted_says_why() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    let mounted = Mounted::new("overlay", "", some_files);
    let at = mounted.dir.path().display().to_string();
    let mnt = format!("{at}/lower2");
    for (words, options, part) in [
        ("aufs", format!("dirs={at}/nowhere"), "nowhere"),
        ("aufs", format!("dirs={at}/lower1:{at}/lower1"), "twice"),
        ("overlay", format!("lowerdir={at}/lower1,upperdir={at}/upper,workdir={at}/work"), "in use"),
        ("overlay", format!("lowerdir={at}/lower1/file"), "not a directory"),
    ] {
        let done = unions(&["mount", words, &options, &mnt]);
        let message = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && message.contains(part), "{options}: {message}");
    }
    assert!(!unions(&["umount", &mnt]).status.success());
}
