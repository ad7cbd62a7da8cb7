//! Files, folders and locks as other crates use them. What a crash leaves is shown in `testkit`, beside its recorder.
#![allow(clippy::unwrap_used)]

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use strata_durable::{self as durable, Lock, NewDir, NewFile, lock::Mode};
use strata_spec::ErrorKind;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn write_replaces_bytes_and_mode_and_leaves_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("repositories.json");
    for (bytes, bits) in [(&b"{}"[..], 0o600), (&[7; 100_000], 0o666), (b"", 0o640)] {
        durable::write(&path, bytes, bits).unwrap();
        assert_eq!((durable::read(&path).unwrap(), mode(&path)), (bytes.to_vec(), bits));
    }
    let long = temp.path().join("n".repeat(255));
    durable::write(&long, b"x", 0o600).unwrap();
    assert_eq!(names(temp.path()).len(), 2);
}

#[test]
fn failures_name_action_and_path_and_leave_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let missing = temp.path().join("none/f");
    let error = durable::write(&missing, b"", 0o600).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot create {}: No such file", missing.display())), "{text}");
    fs::create_dir(temp.path().join("folder")).unwrap();
    durable::write(&temp.path().join("folder"), b"", 0o600).unwrap_err();
    assert_eq!(names(temp.path()), ["folder"]);
    let error = durable::read_to_string(&missing).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("cannot read"), "{error}");
    fs::write(temp.path().join("bad"), b"\xff").unwrap();
    assert!(durable::read_to_string(&temp.path().join("bad")).is_err());
}

#[test]
fn a_streamed_file_counts_only_when_committed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("blob");
    let mut new = NewFile::begin(&path, 0o600).unwrap();
    new.write(b"half").unwrap();
    drop(new);
    assert_eq!(names(temp.path()), [""; 0]);
    let mut new = NewFile::begin(&path, 0o600).unwrap();
    io::copy(&mut &b"streamed"[..], new.file()).unwrap();
    new.commit().unwrap();
    assert_eq!((names(temp.path()), durable::read(&path).unwrap()), (vec!["blob".into()], b"streamed".to_vec()));
}

#[test]
fn several_files_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let (a, b) = (temp.path().join("a"), temp.path().join("b"));
    durable::write_many(&[(&a, b"1"), (&b, b"2"), (&a, b"3")], 0o644).unwrap();
    assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap(), mode(&b)), (b"3".to_vec(), b"2".to_vec(), 0o644));
    durable::write_many(&[(&a, b"4"), (&temp.path().join("none/c"), b"5")], 0o644).unwrap_err();
    assert_eq!(
        (fs::read(&a).unwrap(), names(temp.path()).len()),
        (b"3".to_vec(), 2),
        "none or all of what can fail early"
    );
    durable::write_many(&[], 0o600).unwrap();
}

#[test]
fn removing_and_linking_twice_is_fine() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("l");
    for target in ["../a/diff", "../b/diff", "../b/diff"] {
        durable::symlink(Path::new(target), &path).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new(target));
    }
    assert_eq!(names(temp.path()), ["l"]);
    durable::remove_file(&path).unwrap();
    durable::remove_file(&path).unwrap();
    assert_eq!(durable::remove_file(temp.path()).unwrap_err().path, temp.path());
}

/// Raises a flag when it drops, be it by a failed assertion: the threads that look at it end.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn writers_and_sweeps_get_on() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("f");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                durable::sweep_files(temp.path()).unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let _raise = Raise(&done);
        for n in 0..50 {
            durable::write(&path, n.to_string().as_bytes(), 0o600).unwrap();
            durable::symlink(Path::new(&n.to_string()), &temp.path().join("l")).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), n.to_string());
        }
    });
    fs::write(temp.path().join(".tmp-f-dead"), b"").unwrap();
    assert_eq!((durable::sweep_files(temp.path()).unwrap(), names(temp.path())), (1, vec!["f".into(), "l".into()]));
}

#[test]
fn a_folder_appears_whole_or_not_at_all() {
    let temp = tempfile::tempdir().unwrap();
    let (tmp, to) = (temp.path().join("tmp"), temp.path().join("layer"));
    durable::create_dir_all(&tmp, 0o700).unwrap();
    let fill = |text: &str| {
        let mut new = NewDir::begin(&tmp, 0o755).unwrap();
        new.write("diff", text.as_bytes(), 0o644).unwrap();
        new.create_dir("mounts", 0o711).unwrap();
        new.write("mounts/a", b"1", 0o600).unwrap();
        new
    };
    drop(fill("dropped"));
    assert_eq!(names(&tmp), [""; 0]);
    fill("one").commit(&to).unwrap();
    assert_eq!((mode(&to), mode(&to.join("diff")), mode(&to.join("mounts"))), (0o755, 0o644, 0o711));
    let error = fill("two").commit(&to).unwrap_err();
    assert_eq!((error.kind(), error.path.as_path()), (ErrorKind::AlreadyExists, to.as_path()));
    assert_eq!(fs::read_to_string(to.join("diff")).unwrap(), "one");
    assert_eq!(names(&tmp), [""; 0]);
    assert_eq!(NewDir::begin(&temp.path().join("none"), 0o700).unwrap_err().kind(), ErrorKind::NotFound);
    fs::create_dir(temp.path().join("empty")).unwrap();
    fill("three").commit(&temp.path().join("empty")).unwrap();
}

#[test]
fn a_sweep_takes_what_is_dead_alone() {
    let temp = tempfile::tempdir().unwrap();
    let mut alive = NewDir::begin(temp.path(), 0o755).unwrap();
    alive.write("f", b"", 0o600).unwrap();
    fs::create_dir_all(temp.path().join("write-set-dead/sub")).unwrap();
    fs::write(temp.path().join("removed-x"), b"").unwrap();
    assert_eq!(durable::sweep_tmp(temp.path()).unwrap(), 2);
    assert!(alive.path().join("f").exists() && names(temp.path()).len() == 1);
    drop(alive);
    assert_eq!(durable::sweep_tmp(&temp.path().join("none")).unwrap(), 0);
}

#[test]
fn folders_begin_beside_sweeps() {
    let temp = tempfile::tempdir().unwrap();
    let tmp = temp.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                durable::sweep_tmp(&tmp).unwrap();
            }
        });
        let _raise = Raise(&done);
        for n in 0..40 {
            let mut new = NewDir::begin(&tmp, 0o755).unwrap();
            new.write("f", b"x", 0o600).unwrap();
            new.commit(&temp.path().join(n.to_string())).unwrap();
        }
    });
    for n in 0..40 {
        assert!(temp.path().join(format!("{n}/f")).exists());
    }
}

#[test]
fn folders_are_made_with_parents_and_removed_with_all() {
    let temp = tempfile::tempdir().unwrap();
    let (deep, tmp) = (temp.path().join("a/b/c"), temp.path().join("tmp"));
    durable::create_dir_all(&deep, 0o710).unwrap();
    durable::create_dir_all(&deep, 0o700).unwrap();
    assert_eq!((mode(&temp.path().join("a")), mode(&deep)), (0o710, 0o710));
    fs::write(deep.join("f"), b"").unwrap();
    assert!(durable::create_dir_all(&deep.join("f/g"), 0o700).is_err());
    assert!(durable::create_dir_all(&deep.join("f"), 0o700).is_err());
    let error = durable::remove_dir(&temp.path().join("a"), &tmp).unwrap_err();
    assert_eq!((error.kind(), temp.path().join("a").exists()), (ErrorKind::NotFound, true), "{error}");
    durable::create_dir_all(&tmp, 0o700).unwrap();
    durable::remove_dir(&temp.path().join("a"), &tmp).unwrap();
    durable::remove_dir(&temp.path().join("a"), &tmp).unwrap();
    assert_eq!((names(temp.path()), names(&tmp)), (vec!["tmp".to_owned()], vec![]));
}

#[test]
fn renames_keep_the_file() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("d")).unwrap();
    fs::write(temp.path().join("f"), b"x").unwrap();
    let inode = fs::metadata(temp.path().join("f")).unwrap().ino();
    durable::rename(&temp.path().join("f"), &temp.path().join("d/g")).unwrap();
    assert_eq!(fs::metadata(temp.path().join("d/g")).unwrap().ino(), inode);
    durable::sync_dir(temp.path()).unwrap();
    durable::sync_filesystem(temp.path()).unwrap();
}

#[test]
fn locks_exclude_share_and_survive_removal() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("lock");
    let first = Lock::acquire(&path, Mode::Shared).unwrap();
    let second = Lock::try_acquire(&path, Mode::Shared).unwrap().expect("shared with the first");
    assert!(Lock::try_acquire(&path, Mode::Exclusive).unwrap().is_none());
    drop((first, second));
    let held = Lock::try_acquire(&path, Mode::Exclusive).unwrap().expect("free");
    assert!(Lock::try_acquire(&path, Mode::Shared).unwrap().is_none());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Lock::acquire(&path, Mode::Exclusive).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        held.remove().unwrap();
        let got = waiting.join().unwrap();
        assert!(path.exists(), "the lock is on a new file");
        assert!(Lock::try_acquire(&path, Mode::Exclusive).unwrap().is_none());
        drop(got);
    });
    assert!(Lock::acquire(&temp.path().join("none/lock"), Mode::Shared).unwrap_err().is_not_found());
}

#[test]
fn one_holder_at_a_time_even_when_the_file_goes() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("lock");
    let inside = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (path, inside) = (&path, &inside);
            scope.spawn(move || {
                for n in 0..50 {
                    let lock = Lock::acquire(path, Mode::Exclusive).unwrap();
                    assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                    inside.store(false, Ordering::SeqCst);
                    if (n + thread) % 3 == 0 {
                        lock.remove().unwrap();
                    }
                }
            });
        }
    });
}
