//! What Docker says of a changed container, and real overlay mounts against what our tars make of them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use proptest::prelude::*;
use strata_sys::xattr;
use tempfile::TempDir;

use super::*;
use crate::{
    Limits,
    apply::{Options, apply},
    tar::{Kind, Reader},
};

/// A kernel overlay mount over folders of a temporary directory.
struct Overlay {
    temp: TempDir,
    mounted: Vec<PathBuf>,
}

impl Overlay {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "work", "merged", "again", "again-merged"] {
            fs::create_dir(temp.path().join(name)).unwrap();
        }
        Self { temp, mounted: Vec::new() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Mounts, or says why the test is skipped.
    fn mount(&mut self, options: &str, on: &str) -> bool {
        let path = self.at(on);
        let result = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o"])
            .arg(options.replace('@', &format!("{}/", self.temp.path().display())))
            .arg(&path)
            .output();
        match result {
            Ok(output) if output.status.success() => {
                self.mounted.push(path);
                true
            }
            Ok(output) => {
                strata_testkit::require::report_skip(&format!(
                    "cannot mount overlay: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                ));
                false
            }
            Err(error) => {
                strata_testkit::require::report_skip(&format!("no mount command: {error}"));
                false
            }
        }
    }

    fn mount_upper(&mut self, more: &str) -> bool {
        self.mount(&format!("lowerdir=@lower,upperdir=@upper,workdir=@work{more}"), "merged")
    }

    fn lower(&self) -> Vec<PathBuf> {
        vec![self.at("lower")]
    }

    fn run(&self, folder: &str, script: &str) {
        let output = Command::new("sh").args(["-ec", script]).current_dir(self.at(folder)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn changes(&self) -> Vec<String> {
        lines(&changes(&self.at("upper"), &self.lower(), Marks::Overlay).unwrap())
    }

    /// Writes the upper folder as a layer's tar, unpacks that, mounts it over the same lower folder, and compares the two views.
    fn check_round_trip(&mut self) {
        let mut tar = Vec::new();
        diff(&self.at("upper"), &self.lower(), Marks::Overlay, &mut tar).unwrap();
        let mut twice = Vec::new();
        diff(&self.at("upper"), &self.lower(), Marks::Overlay, &mut twice).unwrap();
        assert!(tar == twice, "the same folder gives the same bytes");
        let options = Options { marks: Marks::Overlay, limits: Limits::default() };
        let mut split = Vec::new();
        let applied = apply(&tar[..], &self.at("again"), &mut split, &options).unwrap();
        assert!(self.mount("lowerdir=@again:@lower", "again-merged"));
        let (expected, found) = (snapshot(&self.at("merged")), snapshot(&self.at("again-merged")));
        for (path, seen) in &expected {
            assert_eq!(Some(seen), found.get(path), "{}", path.display());
        }
        assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
        let mut again = Vec::new();
        assert_eq!(crate::split::assemble(&split[..], &self.at("again"), &mut again).unwrap(), applied.diff_id);
        assert!(again == tar, "the layer gives its tar back");
        let mut plain = Vec::new();
        diff(&self.at("again"), &self.lower(), Marks::Overlay, &mut plain).unwrap();
        assert!(plain == tar, "the unpacked layer is the same layer");
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        for path in self.mounted.drain(..).rev() {
            let _ = Command::new("umount").arg(path).status();
        }
    }
}

/// All of a file that a layer must carry.
#[derive(Debug, PartialEq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    rdev: u64,
    modified: (i64, i64),
    /// Digest of the content, or of a link's text.
    content: Option<strata_spec::Digest>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn snapshot(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut all = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let path = dir.join(entry.unwrap().file_name());
            let full = root.join(&path);
            let stat = fs::symlink_metadata(&full).unwrap();
            let kind = stat.file_type();
            let content = if kind.is_file() {
                Some(strata_spec::Digest::sha256(fs::read(&full).unwrap()))
            } else if kind.is_symlink() {
                Some(strata_spec::Digest::sha256(fs::read_link(&full).unwrap().as_os_str().as_bytes()))
            } else {
                None
            };
            let mut xattrs: Vec<_> = xattr::list(&full)
                .unwrap()
                .into_iter()
                .map(|name| {
                    let value = xattr::get(&full, &name).unwrap().unwrap();
                    (name.as_bytes().to_vec(), value)
                })
                .collect();
            xattrs.sort();
            if kind.is_dir() {
                pending.push(path.clone());
            }
            let rdev = if kind.is_char_device() || kind.is_block_device() { stat.rdev() } else { 0 };
            let seen = Seen {
                mode: stat.mode(),
                owner: (stat.uid(), stat.gid()),
                rdev,
                modified: (stat.mtime(), stat.mtime_nsec()),
                content,
                xattrs,
            };
            all.insert(path, seen);
        }
    }
    all
}

fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| format!("{} {}", change.kind.letter(), change.path.display())).collect()
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(tar, &Limits::default());
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let link = match entry.header.kind {
            Kind::HardLink => format!(" = {}", String::from_utf8_lossy(&entry.header.link)),
            _ => String::new(),
        };
        names.push(format!("{}{link}", entry.display_name()));
    }
    names
}

const LOWER: &str = "mkdir -p d1/sub d2 d3 d4/x
    echo 1 >d1/f1; echo 2 >d1/f2; echo 3 >d1/sub/g; echo 4 >d2/h; echo 5 >d3/i; echo 6 >d4/x/y
    echo 7 >same; echo x >mod; echo l >todir; ln mod modlink";

/// What was done in a container of Docker 20.10.24 on overlay2, with native diff.
const DONE: &str = "rm d1/f1; rm -rf d2; mkdir d2; echo n >d2/new; chmod 700 d3
    cp -a d4 d5; rm -r d4
    cat same >x1; cp same x2; touch -r same x2; chmod 600 same; chmod 644 same; echo y >>mod; rm todir; mkdir todir; echo z >todir/q
    ln d3/i d3/j; mkfifo ff; ln -s /nowhere sym; mkdir emp; mkdir -p a/b/c; echo q >a-b; echo >a/b/c/f
    rm -rf d1/sub; echo file >d1/sub; mknod wh c 1 3";

#[test]
fn changes_are_what_docker_diff_says() {
    let mut overlay = Overlay::new();
    overlay.run("lower", LOWER);
    if !overlay.mount_upper("") {
        return;
    }
    overlay.run("merged", DONE);
    // Sorted: `docker diff` itself prints the names of a directory in random order.
    let docker = "A /a\nA /a/b\nA /a/b/c\nA /a/b/c/f\nA /a-b\nC /d1\nD /d1/f1\nC /d1/sub\nC /d2\nD /d2/h\nA /d2/new\nC /d3\nA /d3/j\n\
        D /d4\nA /d5\nA /d5/x\nA /d5/x/y\nA /emp\nA /ff\nC /mod\nA /sym\nC /todir\nA /todir/q\nA /wh\nA /x1\nA /x2";
    assert_eq!(overlay.changes().join("\n"), docker);
}

#[test]
fn a_diff_has_the_entries_of_dockers_in_its_order() {
    let mut overlay = Overlay::new();
    overlay.run("lower", LOWER);
    if !overlay.mount_upper("") {
        return;
    }
    overlay.run("merged", DONE);
    let mut tar = Vec::new();
    diff(&overlay.at("upper"), &overlay.lower(), Marks::Overlay, &mut tar).unwrap();
    // Docker puts a deletion where the deleted name stands, and the mark of an opaque directory behind its entry.
    let docker = "a/ a/b/ a/b/c/ a/b/c/f a-b d1/ d1/.wh.f1 d1/sub d2/ d2/.wh..wh..opq d2/new d3/ d3/i d3/j=d3/i .wh.d4 d5/ d5/x/ d5/x/y \
        emp/ ff mod same sym todir/ todir/.wh..wh..opq todir/q wh x1 x2";
    assert_eq!(names(&tar).iter().map(|name| name.replace(' ', "")).collect::<Vec<_>>().join(" "), docker);
    overlay.check_round_trip();
}

#[test]
fn attributes_of_all_kinds_survive() {
    let mut overlay = Overlay::new();
    overlay.run("lower", "mkdir d; echo x >d/f");
    if !overlay.mount_upper("") {
        return;
    }
    overlay.run(
        "merged",
        "echo 1 >caps; chown 5:6 caps; chmod 4711 caps; touch -d '1969-12-31 23:00:00.123456789 UTC' caps
         mkdir -m 2775 shared; chown 7:8 shared; echo 1 >shared/in; ln -s far link; chown -h 9:9 link; ln caps hard
         truncate -s 9M holes; printf x >>holes; mknod -m 600 disk b 8 0; echo 1 >d/f
         name=$(printf 'n\\377n'); echo odd >$name; echo long >$(printf '%0200d' 1); mkdir -p $(printf '%0150d/%0150d' 1 2)",
    );
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    xattr::set(overlay.at("merged/caps"), "security.capability", &capability).unwrap();
    xattr::set(overlay.at("merged/caps"), "user.bytes", b"\0=\n\xff").unwrap();
    let acl = [
        2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0, 232, 3, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16, 0, 5,
        0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255,
    ];
    xattr::set(overlay.at("merged/d"), "system.posix_acl_default", &acl).unwrap();
    overlay.run("merged", "touch -d '2001-02-03 04:05:06.7 UTC' d shared");
    overlay.check_round_trip();
    assert_eq!(fs::metadata(overlay.at("again/caps")).unwrap().nlink(), 2);
    assert!(fs::metadata(overlay.at("again/holes")).unwrap().blocks() < 1024, "the hole is one again");
}

#[test]
fn renamed_directories_and_metadata_only_copies_are_written_whole() {
    let mut overlay = Overlay::new();
    overlay.run(
        "lower",
        "mkdir -p a/b/c top; echo 1 >a/one; echo 2 >a/b/two; echo 3 >a/b/c/three; seq 99999 >big; ln -s x a/link",
    );
    if !overlay.mount_upper(",redirect_dir=on,metacopy=on") {
        return;
    }
    overlay.run(
        "merged",
        "mv a moved; rm moved/one; mv moved/b moved/beside; echo new >moved/beside/new; mv moved/beside/c top/c
         chmod 600 big; mv big top/big; mkdir a; echo other >a/one",
    );
    assert!(
        xattr::get(overlay.at("upper/moved"), "trusted.overlay.redirect").unwrap().is_some(),
        "the kernel redirects"
    );
    assert!(xattr::get(overlay.at("upper/top/big"), "trusted.overlay.metacopy").unwrap().is_some());
    assert_eq!(
        overlay.changes().join("\n"),
        "C /a\nD /a/b\nD /a/link\nC /a/one\nD /big\nA /moved\nA /moved/beside\nA /moved/beside/new\nA /moved/beside/two\nA /moved/link\n\
         C /top\nA /top/big\nA /top/c\nA /top/c/three"
    );
    overlay.check_round_trip();
}

#[test]
fn aufs_marks_are_told_and_written() {
    let temp = tempfile::tempdir().unwrap();
    let run = |script: &str| {
        assert!(Command::new("sh").args(["-ec", script]).current_dir(temp.path()).status().unwrap().success())
    };
    run("mkdir -p lower/d lower/o upper/d upper/o upper/.wh..wh.plnk; echo 1 >lower/gone; echo 2 >lower/d/f; echo 3 >lower/o/old
         touch -r lower/d upper/d; touch upper/.wh..wh.aufs; ln upper/.wh..wh.aufs upper/.wh.gone; echo 4 >upper/d/f
         touch upper/o/.wh..wh..opq; echo 5 >upper/o/new");
    let (upper, lower) = (temp.path().join("upper"), [temp.path().join("lower")]);
    let found = lines(&changes(&upper, &lower, Marks::Aufs).unwrap());
    assert_eq!(found.join(" "), "C /d C /d/f D /gone C /o A /o/new D /o/old");
    let mut tar = Vec::new();
    diff(&upper, &lower, Marks::Aufs, &mut tar).unwrap();
    assert_eq!(names(&tar).join(" "), ".wh.gone d/ d/f o/ o/.wh..wh..opq o/new");
}

#[test]
fn whole_folders_are_compared_where_there_are_no_marks() {
    let temp = tempfile::tempdir().unwrap();
    let run = |script: &str| {
        assert!(Command::new("sh").args(["-ec", script]).current_dir(temp.path()).status().unwrap().success())
    };
    run(
        "mkdir -p lower/d/e lower/k; echo 1 >lower/d/gone; echo 2 >lower/d/e/f; echo 3 >lower/k/same; cp -a lower upper
         rm upper/d/gone; echo more >>upper/d/e/f; mkdir upper/n; echo 4 >upper/n/x",
    );
    let (upper, lower) = (temp.path().join("upper"), [temp.path().join("lower")]);
    let found = lines(&changes(&upper, &lower, Marks::None).unwrap());
    assert_eq!(found.join(" "), "C /d C /d/e C /d/e/f D /d/gone A /n A /n/x");
    let mut tar = Vec::new();
    diff(&upper, &lower, Marks::None, &mut tar).unwrap();
    assert_eq!(names(&tar).join(" "), "d/ d/e/ d/e/f d/.wh.gone n/ n/x");
    // Unpacked over a copy of the lower folder, it gives the upper one.
    run("cp -a lower copy");
    let options = Options { marks: Marks::None, limits: Limits::default() };
    apply(&tar[..], &temp.path().join("copy"), Vec::new(), &options).unwrap();
    assert_eq!(snapshot(&upper), snapshot(&temp.path().join("copy")));
    let mut all = Vec::new();
    tree(&upper, &mut all).unwrap();
    assert_eq!(names(&all).join(" "), "d/ d/e/ d/e/f k/ k/same n/ n/x");
}

/// A time before 1970 has no fraction here: bsdtar reads one to the wrong side.
#[test]
fn gnu_tar_and_bsdtar_read_what_is_written() {
    let overlay = Overlay::new();
    overlay.run(
        "upper",
        "mkdir -p d/$(printf '%0120d' 7); echo 1 >d/f; ln d/f d/g; ln -s f d/s; mkfifo d/p
         touch -d '1960-01-01 00:00:00 UTC' d/f; echo long >d/$(printf '%0120d' 7)/$(printf '%0120d' 8); truncate -s 3M d/holes",
    );
    let mut tar = Vec::new();
    tree(&overlay.at("upper"), &mut tar).unwrap();
    let archive = overlay.at("x.tar");
    fs::write(&archive, &tar).unwrap();
    for program in ["tar", "bsdtar"] {
        let to = overlay.at(program);
        fs::create_dir(&to).unwrap();
        let done = Command::new(program).args(["--numeric-owner", "-xpf"]).arg(&archive).arg("-C").arg(&to).output();
        let Ok(output) = done else {
            strata_testkit::require::report_skip(&format!("no {program}"));
            continue;
        };
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(snapshot(&overlay.at("upper")), snapshot(&to), "{program}");
        assert_eq!(fs::metadata(to.join("d/f")).unwrap().nlink(), 2, "{program}");
    }
}

/// One change to a view, by numbers that pick names from a small set, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Write(u8, u16),
    Mkdir(u8),
    Remove(u8),
    Rename(u8, u8),
    Link(u8, u8),
    Symlink(u8),
    Chmod(u8, u8),
    Fifo(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u8>(), any::<u16>()).prop_map(|(path, len)| Step::Write(path, len)),
        3 => any::<u8>().prop_map(Step::Mkdir),
        3 => any::<u8>().prop_map(Step::Remove),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Step::Link(from, to)),
        1 => any::<u8>().prop_map(Step::Symlink),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(path, mode)| Step::Chmod(path, mode)),
        1 => any::<u8>().prop_map(Step::Fifo),
    ]
}

/// A path of one to three components, each of three names.
fn path_of(number: u8) -> PathBuf {
    let names = ["a", "b", "a-b"];
    let mut path = PathBuf::from(names[number as usize % 3]);
    for shift in [9, 27] {
        if number as usize / shift % 2 == 1 {
            path.push(names[number as usize / shift % 3]);
        }
    }
    path
}

/// Does what can be done; a step that the filesystem refuses is none.
fn perform(root: &Path, steps: &[Step]) {
    for step in steps {
        let at = |number: &u8| root.join(path_of(*number));
        let _ = match step {
            // Opening a FIFO would wait for a reader.
            Step::Write(path, _) if fs::metadata(at(path)).is_ok_and(|stat| !stat.is_file()) => Ok(()),
            Step::Write(path, len) => fs::write(at(path), vec![*len as u8; *len as usize]),
            Step::Mkdir(path) => fs::create_dir(at(path)),
            Step::Remove(path) => fs::remove_file(at(path)).or_else(|_| fs::remove_dir_all(at(path))),
            Step::Rename(from, to) => fs::rename(at(from), at(to)),
            Step::Link(from, to) => fs::hard_link(at(from), at(to)),
            Step::Symlink(path) => std::os::unix::fs::symlink("../a", at(path)),
            Step::Chmod(path, mode) => {
                use std::os::unix::fs::PermissionsExt;
                match fs::symlink_metadata(at(path)) {
                    Ok(stat) if !stat.is_symlink() => {
                        fs::set_permissions(at(path), fs::Permissions::from_mode(0o400 | u32::from(*mode)))
                    }
                    _ => Ok(()),
                }
            }
            Step::Fifo(path) => {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mkfifoat(rustix::fs::CWD, at(path), mode).map_err(Into::into)
            }
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_shows_what_the_container_showed(
        below in prop::collection::vec(step(), 0..25),
        above in prop::collection::vec(step(), 0..25),
        redirect in any::<bool>(),
    ) {
        let mut overlay = Overlay::new();
        perform(&overlay.at("lower"), &below);
        if !overlay.mount_upper(if redirect { ",redirect_dir=on,metacopy=on" } else { "" }) {
            return Ok(());
        }
        let before = snapshot(&overlay.at("lower"));
        perform(&overlay.at("merged"), &above);
        overlay.check_round_trip();
        // And what is told as changed is what differs, by path.
        let after = snapshot(&overlay.at("merged"));
        let told = changes(&overlay.at("upper"), &overlay.lower(), Marks::Overlay).unwrap();
        let told: BTreeMap<_, _> = told.iter().map(|c| (c.path.strip_prefix("/").unwrap().to_owned(), c.kind)).collect();
        for (path, seen) in &after {
            match before.get(path) {
                None => prop_assert_eq!(told.get(path), Some(&ChangeKind::Added), "{}", path.display()),
                Some(old) if old.mode != seen.mode || old.content != seen.content => {
                    prop_assert_eq!(told.get(path), Some(&ChangeKind::Modified), "{}", path.display());
                }
                Some(_) => prop_assert!(!matches!(told.get(path), Some(ChangeKind::Added | ChangeKind::Deleted))),
            }
        }
        for path in before.keys().filter(|path| !after.contains_key(*path)) {
            // A directory that is gone, or no longer one, stands for all below it.
            prop_assert!(
                path.ancestors().any(|p| told.get(p) == Some(&ChangeKind::Deleted)
                    || p != *path && told.get(p) == Some(&ChangeKind::Modified) && (after[p].mode & 0o170_000) != 0o040_000),
                "{} is gone and not told", path.display()
            );
        }
    }
}
