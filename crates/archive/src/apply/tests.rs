//! What an entry becomes, and what is refused, case by case.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use strata_sys::xattr;
use tempfile::TempDir;

use super::*;
use crate::tar::{Header, Kind, Time, Writer};

const NOW: Time = Time { secs: 1_600_000_000, nanos: 123_456_789 };

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        strata_testkit::require::report_skip("needs root");
    }
    root
}

/// An entry owned by whoever runs the tests.
fn header(kind: Kind, name: &str) -> Header {
    let mut header = Header::new(kind, name);
    header.mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
    header.mtime = NOW;
    header.uid = rustix::process::geteuid().as_raw();
    header.gid = rustix::process::getegid().as_raw();
    header
}

#[derive(Default)]
struct Tar(Vec<(Header, Vec<u8>)>);

impl Tar {
    fn add(mut self, header: Header) -> Self {
        self.0.push((header, Vec::new()));
        self
    }

    fn with_content(mut self, mut header: Header, content: Vec<u8>) -> Self {
        header.size = content.len() as u64;
        self.0.push((header, content));
        self
    }

    fn dir(self, name: &str) -> Self {
        self.add(header(Kind::Dir, name))
    }

    fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let mut header = header(Kind::Regular, name);
        header.size = content.as_ref().len() as u64;
        self.0.push((header, content.as_ref().to_vec()));
        self
    }

    fn link(self, kind: Kind, name: &str, target: &str) -> Self {
        let mut header = header(kind, name);
        header.link = target.into();
        self.add(header)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (header, content) in &self.0 {
            writer.header(header).unwrap();
            writer.content(content).unwrap();
        }
        writer.finish().unwrap()
    }
}

struct Unpacked {
    temp: TempDir,
    result: Result<Applied, Error>,
    split: Vec<u8>,
}

impl Unpacked {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.temp.path().join("layer").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn ok(&self) -> &Applied {
        self.result.as_ref().unwrap()
    }

    fn refused(&self, entry: &str, reason: &str) {
        match &self.result {
            Err(Error::Refused { entry: found, reason: why }) => {
                assert_eq!(found, entry);
                assert!(why.contains(reason), "{why}");
            }
            other => panic!("{entry} should be refused, because {reason}: {other:?}"),
        }
    }
}

fn unpack_with(tar: &[u8], marks: Marks, limits: Limits, before: impl FnOnce(&Path)) -> Unpacked {
    let temp = tempfile::tempdir().unwrap();
    let layer = temp.path().join("layer");
    fs::create_dir(&layer).unwrap();
    fs::write(temp.path().join("outside"), "safe").unwrap();
    before(&layer);
    let mut split = Vec::new();
    let result = apply(tar, &layer, &mut split, &Options { marks, limits });
    assert_eq!(fs::read_to_string(temp.path().join("outside")).unwrap(), "safe");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2, "something was made beside the layer");
    Unpacked { temp, result, split }
}

fn unpack(tar: &Tar) -> Unpacked {
    unpack_with(&tar.bytes(), Marks::Overlay, Limits::default(), |_| {})
}

#[test]
fn files_of_all_sizes_arrive_and_the_tar_comes_back() {
    let big: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8 + 1).collect();
    let mut tar = Tar::default().dir("./").dir("d").file("d/empty", "").file("d/big", &big);
    for n in 0..3_000 {
        tar = tar.file(&format!("d/{}/{n}", n % 40), format!("content {n}"));
    }
    let tar = tar.file("d/edge", vec![7; batch::DATA]).file("d/over", vec![8; batch::DATA + 1]);
    let unpacked = unpack(&tar);
    let applied = unpacked.ok();
    assert!(fs::read(unpacked.path("d/big")).unwrap() == big);
    assert_eq!(unpacked.read("d/7/47"), "content 47");
    assert_eq!(fs::read(unpacked.path("d/over")).unwrap().len(), batch::DATA + 1);
    let sum: usize = tar.0.iter().map(|(_, content)| content.len()).sum();
    assert_eq!((applied.size, applied.entries), (sum as u64, tar.0.len() as u64));
    assert_eq!(applied.tar_bytes, tar.bytes().len() as u64);
    assert_eq!(applied.diff_id.digest(), strata_spec::Digest::sha256(tar.bytes()));
    let mut again = Vec::new();
    let id = crate::split::assemble(&unpacked.split[..], &unpacked.path(""), &mut again).unwrap();
    assert_eq!(id, applied.diff_id);
    assert!(again == tar.bytes());
}

#[test]
fn bytes_after_the_end_belong_to_the_digest() {
    let mut bytes = Tar::default().file("a", "1").bytes();
    bytes.extend_from_slice(&[0; 10_000]);
    bytes.extend_from_slice(b"and more");
    let unpacked = unpack_with(&bytes, Marks::Overlay, Limits::default(), |_| {});
    assert_eq!(unpacked.ok().diff_id.digest(), strata_spec::Digest::sha256(&bytes));
}

#[test]
fn owner_mode_attributes_and_times_in_an_order_that_keeps_them() {
    if !is_root() {
        return;
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut set = header(Kind::Regular, "setuid");
    (set.mode, set.uid, set.gid) = (0o6755, 12, 34);
    set.xattrs = vec![(b"security.capability".to_vec(), capability.to_vec()), (b"user.note".to_vec(), b"\0x".to_vec())];
    let mut old = header(Kind::Regular, "old");
    old.mtime = Time { secs: -86_400, nanos: 5 };
    let mut link = header(Kind::Symlink, "link");
    (link.link, link.uid, link.gid) = (b"/nowhere".to_vec(), 56, 78);
    link.xattrs = vec![(b"user.no".to_vec(), b"1".to_vec()), (b"trusted.overlay.opaque".to_vec(), b"y".to_vec())];
    let mut dir = header(Kind::Dir, "dir/");
    (dir.mode, dir.uid, dir.gid) = (0o3777, 9, 9);
    let unpacked = unpack(&Tar::default().add(set).add(old).add(link).add(dir).file("dir/in", "x"));
    unpacked.ok();
    let stat = fs::metadata(unpacked.path("setuid")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o6755, 12, 34));
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (NOW.secs, NOW.nanos.into()));
    assert_eq!(xattr::get(unpacked.path("setuid"), "security.capability").unwrap().as_deref(), Some(&capability[..]));
    assert_eq!(xattr::get(unpacked.path("setuid"), "user.note").unwrap().as_deref(), Some(&b"\0x"[..]));
    let stat = fs::metadata(unpacked.path("old")).unwrap();
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (-86_400, 5));
    let stat = fs::symlink_metadata(unpacked.path("link")).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mtime()), (56, 78, NOW.secs));
    let stat = fs::metadata(unpacked.path("dir")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.mtime(), stat.mtime_nsec()), (0o3777, 9, NOW.secs, 123_456_789));
    assert_eq!(
        fs::metadata(unpacked.path("dir/in")).unwrap().gid(),
        0,
        "a set-group-ID directory gives its group to nobody"
    );
}

#[test]
fn acls_as_text_are_set_and_default_ones_not_passed_on() {
    if !is_root() {
        return;
    }
    let mut dir = header(Kind::Dir, "d/");
    dir.acl_default = Some(b"user::rwx,user:1000:rwx,group::r-x,mask::rwx,other::---".to_vec());
    let mut file = header(Kind::Regular, "f");
    file.acl_access = Some(b"user::rw-,user:1000:r--,group::r--,mask::r--,other::---".to_vec());
    // As an attribute, because the writer has no records for text.
    for (header, name, text) in [(&mut dir, acl::DEFAULT, None), (&mut file, acl::ACCESS, None)] {
        let text: Option<Vec<u8>> = text.or(header.acl_access.take()).or(header.acl_default.take());
        header.xattrs = vec![(name.into(), acl::from_text(&text.unwrap()).unwrap())];
    }
    let unpacked = unpack(&Tar::default().add(dir).file("d/in", "x").add(file));
    unpacked.ok();
    assert!(xattr::get(unpacked.path("d"), acl::DEFAULT).unwrap().is_some());
    assert_eq!(xattr::get(unpacked.path("d/in"), acl::ACCESS).unwrap(), None);
    assert!(xattr::get(unpacked.path("f"), acl::ACCESS).unwrap().is_some());
}

#[test]
fn special_files_and_links() {
    if !is_root() {
        return;
    }
    let mut null = header(Kind::Char, "dev/null");
    (null.dev_major, null.dev_minor, null.mode) = (1, 3, 0o666);
    let mut disk = header(Kind::Block, "dev/disk");
    (disk.dev_major, disk.dev_minor) = (8, 1);
    let tar = Tar::default().add(null).add(disk).add(header(Kind::Fifo, "fifo")).file("a", "hello");
    let tar = tar.link(Kind::HardLink, "b", "./a").link(Kind::HardLink, "x/c", "/a").link(Kind::Symlink, "s", "a");
    let unpacked = unpack(&tar);
    assert_eq!(unpacked.ok().size, 5 + 1, "each inode once, and the text of links");
    let stat = fs::metadata(unpacked.path("dev/null")).unwrap();
    assert!(stat.file_type().is_char_device());
    assert_eq!((stat.rdev(), stat.mode() & 0o777), (0x103, 0o666));
    assert!(fs::metadata(unpacked.path("dev/disk")).unwrap().file_type().is_block_device());
    assert!(fs::metadata(unpacked.path("fifo")).unwrap().file_type().is_fifo());
    assert_eq!(fs::metadata(unpacked.path("a")).unwrap().nlink(), 3);
    assert_eq!(fs::metadata(unpacked.path("x")).unwrap().permissions().mode() & 0o7777, 0o755, "an implied directory");
}

#[test]
fn whiteouts_and_opaque_directories_for_overlay() {
    if !is_root() {
        return;
    }
    let tar = Tar::default().file(".wh.gone", "").dir("d").file("d/.wh..wh..opq", "").file("d/new", "1");
    let tar = tar.file("mine", "").file(".wh.mine", "").file(".wh.again", "").dir("again").file("again/x", "3");
    let tar = tar.file(".wh..wh.aufs", "").dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "kept in the record");
    let unpacked = unpack(&tar);
    unpacked.ok();
    let stat = fs::symlink_metadata(unpacked.path("gone")).unwrap();
    assert!(stat.file_type().is_char_device() && stat.rdev() == 0);
    assert!(fs::symlink_metadata(unpacked.path("mine")).unwrap().is_file());
    for name in ["d", "again"] {
        let opaque = xattr::get(unpacked.path(name), "trusted.overlay.opaque").unwrap();
        assert_eq!(opaque.as_deref(), Some(&b"y"[..]), "{name}");
    }
    let names: Vec<_> = fs::read_dir(unpacked.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    let mut again = Vec::new();
    crate::split::assemble(&unpacked.split[..], &unpacked.path(""), &mut again).unwrap();
    assert!(again == tar.bytes(), "what leaves no file is in the record");
}

#[test]
fn pseudo_links_of_aufs_become_hard_links() {
    let tar =
        Tar::default().dir(".wh..wh.plnk").file(".wh..wh.plnk/7.7", "several names").file(".wh..wh.plnk/8.8", "none");
    let tar =
        tar.dir("d").link(Kind::HardLink, "d/a", ".wh..wh.plnk/7.7").link(Kind::HardLink, "b", "/.wh..wh.plnk/7.7");
    for marks in [Marks::Overlay, Marks::Aufs, Marks::Mixed, Marks::None] {
        let unpacked = unpack_with(&tar.bytes(), marks, Limits::default(), |_| {});
        let applied = unpacked.ok();
        assert_eq!((unpacked.read("d/a"), unpacked.read("b")), ("several names".into(), "several names".into()));
        assert_eq!(fs::metadata(unpacked.path("b")).unwrap().nlink(), 2, "one file");
        assert!(!unpacked.path(".wh..wh.plnk").exists());
        if marks != Marks::None {
            assert_eq!(applied.size, "several names".len() as u64, "each file once, and none that is gone");
        }
        let mut again = Vec::new();
        crate::split::assemble(&unpacked.split[..], &unpacked.path(""), &mut again).unwrap();
        assert!(again == tar.bytes());
    }
    let lost = Tar::default().link(Kind::HardLink, "b", ".wh..wh.plnk/7.7");
    unpack(&lost).refused("b", "is not in the layer");
}

#[test]
fn marks_stay_files_for_aufs_and_delete_where_there_are_none() {
    let tar = Tar::default().file(".wh.gone", "").file("d/kept", "1").file("d/.wh..wh..opq", "").file("d/new", "2");
    let aufs = unpack_with(&tar.bytes(), Marks::Aufs, Limits::default(), |_| {});
    aufs.ok();
    assert_eq!((aufs.read(".wh.gone"), aufs.read("d/.wh..wh..opq")), (String::new(), String::new()));
    let none = unpack_with(&tar.bytes(), Marks::None, Limits::default(), |layer| {
        fs::create_dir_all(layer.join("gone/below")).unwrap();
        fs::create_dir_all(layer.join("d/old/deep")).unwrap();
        fs::write(layer.join("d/old/deep/x"), "").unwrap();
        fs::write(layer.join("d/new"), "other").unwrap();
    });
    none.ok();
    assert!(!none.path("gone").exists() && !none.path("d/old").exists());
    assert_eq!((none.read("d/kept"), none.read("d/new")), ("1".into(), "2".into()));
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let link = |tar: Tar| tar.link(Kind::Symlink, "x", "elsewhere");
    let cases: [(&str, Tar); 6] = [
        ("file by link", link(Tar::default().file("x", ""))),
        ("directory by link", link(Tar::default().dir("x").file("x/a", "").file("x/b/c", ""))),
        ("link by directory", link(Tar::default()).dir("x").file("x/in", "")),
        ("link by file", link(Tar::default()).file("x", "")),
        ("directory by directory", Tar::default().dir("x").file("x/a", "1").dir("x").file("x/b", "2")),
        ("file by hard link", Tar::default().file("a", "1").file("x", "").link(Kind::HardLink, "x", "a")),
    ];
    for (what, tar) in cases {
        for _ in 0..5 {
            let unpacked = unpack(&tar);
            let applied = unpacked.ok();
            let stat = fs::symlink_metadata(unpacked.path("x")).unwrap();
            match what {
                "link by directory" => assert!(unpacked.path("x/in").exists() && stat.is_dir(), "{what}"),
                "link by file" => assert!(stat.is_file(), "{what}"),
                "directory by directory" => {
                    assert_eq!((unpacked.read("x/a"), unpacked.read("x/b")), ("1".into(), "2".into()), "{what}");
                }
                "file by hard link" => assert_eq!((stat.nlink(), applied.size), (2, 1), "{what}"),
                _ => assert!(stat.is_symlink() && applied.size == "elsewhere".len() as u64, "{what}: {applied:?}"),
            }
        }
    }
}

#[test]
fn a_whiteout_hides_nothing_of_its_own_layer() {
    if !is_root() {
        return;
    }
    let below = |layer: &Path| {
        for name in ["d/old", "implied/old", "f", "first/old"] {
            fs::create_dir_all(layer.join(name).parent().unwrap()).unwrap();
            fs::write(layer.join(name), "below").unwrap();
        }
    };
    let tar = Tar::default().dir("d").file("d/x", "x").file(".wh.d", "").file("implied/x", "x").file(".wh.implied", "");
    let tar = tar
        .file("f", "f")
        .file(".wh.f", "")
        .file(".wh.first", "")
        .file("first/deep/x", "x")
        .file(".wh.g", "")
        .file("g", "g");
    for marks in [Marks::Overlay, Marks::Aufs, Marks::Mixed, Marks::None] {
        let unpacked = unpack_with(&tar.bytes(), marks, Limits::default(), |layer| {
            if marks == Marks::None {
                below(layer);
            }
        });
        unpacked.ok();
        for (name, content) in [("d/x", "x"), ("implied/x", "x"), ("f", "f"), ("first/deep/x", "x"), ("g", "g")] {
            assert_eq!(unpacked.read(name), content, "{marks:?} {name}");
        }
        for dir in ["d", "implied", "first"] {
            let opaque = match marks {
                Marks::Overlay => xattr::get(unpacked.path(dir), "trusted.overlay.opaque").unwrap().is_some(),
                Marks::Aufs | Marks::Mixed => unpacked.path(&format!("{dir}/.wh..wh..opq")).exists(),
                Marks::None => !unpacked.path(&format!("{dir}/old")).exists(),
            };
            assert!(opaque, "{marks:?}: what lies below {dir} is hidden");
        }
        for mark in [".wh.d", ".wh.implied", ".wh.f", ".wh.first", ".wh.g"] {
            assert!(!unpacked.path(mark).exists(), "{marks:?}: {mark} would hide what this layer brings");
        }
        let mut again = Vec::new();
        crate::split::assemble(&unpacked.split[..], &unpacked.path(""), &mut again).unwrap();
        assert!(again == tar.bytes());
    }
}

#[test]
fn content_that_the_same_layer_replaces_is_refused() {
    let file = || Tar::default().dir("d").file("d/x", "content");
    unpack(&file().link(Kind::Symlink, "d", "e")).refused("d", "this same layer brings");
    unpack(&file().file("./d//x", "other")).refused("./d//x", "twice");
    let twice = file().link(Kind::Symlink, "s", "d").file("s/x", "other");
    unpack(&twice).refused("s/x", "this same layer brings");
}

#[test]
fn directories_of_incremental_archives_and_volume_labels_leave_the_tar_as_it_was() {
    let listing = |name: &str| {
        let mut header = header(Kind::Other(b'D'), name);
        header.mode = 0o750;
        (header, b"Yf\0Dsub\0\0".to_vec())
    };
    let tar = Tar::default().with_content(header(Kind::Other(b'V'), "label"), Vec::new());
    let (root, sub) = (listing("./"), listing("./sub/"));
    let tar = tar.with_content(root.0, root.1).with_content(sub.0, sub.1).file("./sub/f", "x");
    everywhere(&tar, |unpacked, _| {
        assert_eq!(unpacked.read("sub/f"), "x");
        assert_eq!(fs::metadata(unpacked.path("sub")).unwrap().mode() & 0o7777, 0o750);
        assert!(!unpacked.path("label").exists());
    });
}

#[test]
fn an_acl_that_the_kernel_refuses_is_left_out() {
    for text in ["user::rwx,user:77:r-x,group::r-x,other::r-x", "user::rwx"] {
        let mut file = header(Kind::Regular, "f");
        file.xattrs = vec![(acl::ACCESS.into(), acl::from_text(text.as_bytes()).unwrap())];
        let mut dir = header(Kind::Dir, "d/");
        dir.xattrs = vec![(acl::DEFAULT.into(), acl::from_text(text.as_bytes()).unwrap())];
        let unpacked = unpack(&Tar::default().add(file).add(dir));
        unpacked.ok();
        assert_eq!(xattr::get(unpacked.path("f"), acl::ACCESS).unwrap(), None, "{text}");
        assert_eq!(xattr::get(unpacked.path("d"), acl::DEFAULT).unwrap(), None, "{text}");
    }
}

#[test]
fn holes_are_made_of_long_zeros() {
    let mut content = vec![0; 8 << 20];
    content[3 << 20] = 1;
    let unpacked = unpack(&Tar::default().file("sparse", &content).file("zeros", vec![0; 1 << 20]));
    assert_eq!(unpacked.ok().size, 9 << 20);
    assert!(fs::read(unpacked.path("sparse")).unwrap() == content);
    assert!(fs::metadata(unpacked.path("sparse")).unwrap().blocks() < 4096, "it takes its room");
    assert_eq!(fs::metadata(unpacked.path("zeros")).unwrap().len(), 1 << 20);
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../outside", "a/../../outside", "/../outside", "..", "d/../../layer2/x"] {
        unpack(&Tar::default().dir("d").file(name, "evil")).refused(name, "leads out");
    }
}

#[test]
fn an_absolute_name_lies_inside() {
    let unpacked = unpack(&Tar::default().file("/etc/x", "1").file("d/../y", "2"));
    unpacked.ok();
    assert_eq!((unpacked.read("etc/x"), unpacked.read("y")), ("1".into(), "2".into()));
}

/// Unpacks `tar` under every kind of marks, and has the tar rebuilt from what lies there.
fn everywhere(tar: &Tar, check: impl Fn(&Unpacked, Marks)) {
    for marks in [Marks::Overlay, Marks::Aufs, Marks::Mixed, Marks::None] {
        let unpacked = unpack_with(&tar.bytes(), marks, Limits::default(), |_| {});
        unpacked.ok();
        check(&unpacked, marks);
        let mut again = Vec::new();
        crate::split::assemble(&unpacked.split[..], &unpacked.path(""), &mut again).unwrap();
        assert!(again == tar.bytes(), "{marks:?}: the tar comes back");
    }
}

#[test]
fn an_entry_under_a_symbolic_link_lies_where_the_link_leads_inside_the_layer() {
    for (target, real) in
        [("usr/lib", "usr/lib"), ("/usr/lib", "usr/lib"), ("../../../usr/lib", "usr/lib"), ("/", ""), ("none", "none")]
    {
        let tar = Tar::default().dir("usr").dir("usr/lib").link(Kind::Symlink, "lib", target);
        let tar = tar.file("lib/libfoo.so", "foo").dir("lib/x").file("lib/x/y", "y").file("lib/deep/er/z", "z");
        let tar = tar.file("lib/big", vec![7; 600_000]).link(Kind::HardLink, "lib/hard", "lib/x/y");
        let tar = tar.link(Kind::HardLink, "plain", "lib/libfoo.so").link(Kind::Symlink, "lib/soft", "big");
        everywhere(&tar, |unpacked, _| {
            let at = |name: &str| format!("{real}/{name}").trim_start_matches('/').to_owned();
            assert!(fs::symlink_metadata(unpacked.path("lib")).unwrap().is_symlink(), "{target}: the link stays");
            for (name, content) in [("libfoo.so", "foo"), ("x/y", "y"), ("deep/er/z", "z"), ("hard", "y")] {
                assert_eq!(unpacked.read(&at(name)), content, "{target} {name}");
            }
            assert_eq!(unpacked.read("plain"), "foo");
            assert_eq!(fs::read_link(unpacked.path(&at("soft"))).unwrap(), Path::new("big"));
        });
    }
}

#[test]
fn links_of_links_and_links_that_come_late_are_followed() {
    let tar = Tar::default().link(Kind::Symlink, "a", "b/c").dir("b").link(Kind::Symlink, "b/c", "/d").dir("d");
    let tar =
        tar.file("a/one", "1").link(Kind::Symlink, "d/up", "../e").file("a/up/two", "2").file("b/c/up/../three", "3");
    everywhere(&tar, |unpacked, _| {
        assert_eq!(
            (unpacked.read("d/one"), unpacked.read("e/two"), unpacked.read("d/three")),
            ("1".into(), "2".into(), "3".into())
        );
    });
    for _ in 0..20 {
        // The link is still with a worker when the entry below it comes.
        unpack(&Tar::default().dir("d").link(Kind::Symlink, "s", "d").file("s/x", "x")).ok();
    }
    let circle = Tar::default().link(Kind::Symlink, "x", "y").link(Kind::Symlink, "y", "x").file("x/in", "1");
    unpack(&circle).refused("x/in", "too many symbolic links");
    unpack(&Tar::default().file("f", "").file("f/x", "")).refused("f/x", "under the file \"f\"");
}

#[test]
fn a_target_goes_up_from_directories_that_are_there_as_the_kernel_goes() {
    // Content would be written where nobody finds it again.
    let reason = "goes up from what is no directory";
    unpack(&Tar::default().dir("y").link(Kind::Symlink, "l", "none/../y").file("l/f", "x")).refused("l/f", reason);
    let over_a_file = Tar::default().dir("y").file("none", "").link(Kind::Symlink, "l", "none/../y").file("l/f", "x");
    unpack(&over_a_file).refused("l/f", reason);
    let tar = Tar::default().dir("d/e").dir("d/y").dir("y").link(Kind::Symlink, "l", "x/../y").file("a", "1");
    let tar = tar.link(Kind::HardLink, "b", "a").link(Kind::Symlink, "x", "d/e").file("l/f", "content");
    for _ in 0..20 {
        // The link in the middle is still with a worker when the entry below it comes.
        everywhere(&tar, |unpacked, _| assert_eq!(unpacked.read("d/y/f"), "content"));
    }
}

#[test]
fn a_layer_that_replaces_a_link_of_a_whole_view_is_not_led_by_it() {
    let below = |layer: &Path| {
        fs::create_dir_all(layer.join("a")).unwrap();
        fs::create_dir_all(layer.join("b")).unwrap();
        symlink("a", layer.join("lib")).unwrap();
    };
    let relink = Tar::default().link(Kind::Symlink, "lib", "b").file("lib/f", "content");
    let unpacked = unpack_with(&relink.bytes(), Marks::None, Limits::default(), below);
    unpacked.ok();
    assert!(unpacked.read("b/f") == "content" && !unpacked.path("a/f").exists());
    let replaced = Tar::default().file("lib/f", "content").dir("lib").file("lib/g", "more");
    unpack_with(&replaced.bytes(), Marks::None, Limits::default(), below).refused("lib", "through which");
}

#[test]
fn whiteouts_under_a_symbolic_link_are_where_it_leads() {
    if !is_root() {
        return;
    }
    let tar = Tar::default().dir("d").link(Kind::Symlink, "s", "/d").file("s/.wh.gone", "").file("s/.wh..wh..opq", "");
    let overlay = unpack(&tar);
    overlay.ok();
    assert!(fs::symlink_metadata(overlay.path("d/gone")).unwrap().file_type().is_char_device());
    assert_eq!(xattr::get(overlay.path("d"), "trusted.overlay.opaque").unwrap().as_deref(), Some(&b"y"[..]));
    let aufs = unpack_with(&tar.bytes(), Marks::Aufs, Limits::default(), |_| {});
    aufs.ok();
    assert!(aufs.path("d/.wh.gone").exists() && aufs.path("d/.wh..wh..opq").exists());
    let none = unpack_with(&tar.bytes(), Marks::None, Limits::default(), |layer| {
        fs::create_dir_all(layer.join("d/gone/below")).unwrap();
    });
    none.ok();
    assert!(none.path("d").exists() && !none.path("d/gone").exists());
}

#[test]
fn a_link_that_leads_to_content_stays() {
    let through = || Tar::default().dir("usr").link(Kind::Symlink, "lib", "usr").file("lib/x", "content");
    let reason = "through which this same layer brings files";
    for tar in [through().dir("lib"), through().file("lib", ""), through().link(Kind::Symlink, "lib", "elsewhere")] {
        unpack(&tar).refused("lib", reason);
    }
    everywhere(&through().link(Kind::Symlink, "lib", "usr").file("lib/y", "more"), |unpacked, _| {
        assert_eq!(unpacked.read("usr/y"), "more", "the same link once more changes nothing");
    });
    // Nothing has to be found by this name again.
    let empty = Tar::default().dir("usr").link(Kind::Symlink, "lib", "usr").dir("lib/x").dir("lib").file("lib/y", "1");
    everywhere(&empty, |unpacked, _| assert_eq!(unpacked.read("lib/y"), "1"));
    let below = Tar::default().link(Kind::Symlink, "d/lib", "/usr").file("d/lib/x", "content");
    unpack(&below.link(Kind::Symlink, "d", "e")).refused("d", "through which");
    let none = unpack_with(
        &Tar::default().file("lib/x", "1").file(".wh.lib", "").bytes(),
        Marks::None,
        Limits::default(),
        |layer| {
            fs::create_dir(layer.join("usr")).unwrap();
            symlink("usr", layer.join("lib")).unwrap();
        },
    );
    none.refused(".wh.lib", "through which");
}

#[test]
fn a_symbolic_link_may_point_anywhere_and_leads_nowhere() {
    let unpacked = unpack(&Tar::default().link(Kind::Symlink, "s", "../../outside").file("s", ""));
    unpacked.ok();
    assert!(fs::symlink_metadata(unpacked.path("s")).unwrap().is_file());
}

#[test]
fn hard_links_that_lead_out_are_refused() {
    for (target, reason) in [
        ("../outside", "leads out"),
        ("/../outside", "leads out"),
        ("s/outside", "is not in the layer"),
        ("f/x", "under the file"),
        ("none", "is not in the layer"),
        ("none/x", "is not in the layer"),
        ("d", "is a directory"),
        (".", "a directory"),
    ] {
        let tar =
            Tar::default().dir("d").file("f", "").link(Kind::Symlink, "s", "..").link(Kind::HardLink, "h", target);
        unpack(&tar).refused("h", reason);
    }
    let unpacked = unpack(&Tar::default().link(Kind::Symlink, "s", "/etc/passwd").link(Kind::HardLink, "h", "s"));
    unpacked.ok();
    assert!(fs::symlink_metadata(unpacked.path("h")).unwrap().is_symlink(), "the link itself, not what it points to");
}

#[test]
fn whiteouts_of_nothing_dot_and_dotdot_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh...", "d/.wh."] {
        unpack(&Tar::default().dir("d").file(name, "")).refused(name, "whiteout");
    }
    unpack(&Tar::default().file(".wh.d/x", "")).refused(".wh.d/x", "under a whiteout");
}

#[test]
fn a_device_without_the_right_to_make_it_names_the_entry() {
    if !is_root() {
        return;
    }
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    let mut null = header(Kind::Char, "dev/null");
    (null.dev_major, null.dev_minor) = (1, 3);
    let bytes = Tar::default().add(null).bytes();
    // Capabilities belong to a thread, and new threads take them from it.
    let result = std::thread::spawn(move || {
        let have = capabilities(None).unwrap();
        let without = have.effective.difference(CapabilitySet::MKNOD);
        set_capabilities(None, CapabilitySets { effective: without, ..have }).unwrap();
        unpack_with(&bytes, Marks::Overlay, Limits::default(), |_| {}).result
    });
    match result.join().unwrap() {
        Err(error @ Error::Entry { .. }) => {
            assert_eq!(error.kind(), strata_spec::ErrorKind::PermissionDenied);
            assert!(error.to_string().contains("make the device \"dev/null\""), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tar_cut_anywhere_is_said_to_be() {
    let bytes = Tar::default().file("a", vec![1; 2_000]).file("b", vec![2; 600_000]).bytes();
    for at in [100, 512, 1_000, 2_600, 4_000, 300_000] {
        let unpacked = unpack_with(&bytes[..at], Marks::Overlay, Limits::default(), |_| {});
        // Between entries a tar may end without its marker.
        assert!(
            matches!(unpacked.result, Err(Error::Truncated { .. } | Error::Malformed { .. })),
            "{at}: {:?}",
            unpacked.result
        );
    }
}

#[test]
fn a_wrong_checksum_is_said_to_be() {
    let mut bytes = Tar::default().file("a", "1").file("b", "2").bytes();
    bytes[1024 + 3] ^= 1;
    let unpacked = unpack_with(&bytes, Marks::Overlay, Limits::default(), |_| {});
    assert!(matches!(unpacked.result, Err(Error::Malformed { offset: 1024, .. })), "{:?}", unpacked.result);
}

#[test]
fn claims_and_bombs_meet_their_limits() {
    let many = (0..100).fold(Tar::default(), |tar, n| tar.file(&format!("f{n}"), ""));
    let limits = Limits { entries: 99, ..Limits::default() };
    let unpacked = unpack_with(&many.bytes(), Marks::Overlay, limits, |_| {});
    assert!(matches!(unpacked.result, Err(Error::Limit { limit: 99, .. })), "{:?}", unpacked.result);

    let limits = Limits { bytes: 1_000, ..Limits::default() };
    let unpacked = unpack_with(&Tar::default().file("a", [0; 1_001]).bytes(), Marks::Overlay, limits, |_| {});
    assert!(matches!(unpacked.result, Err(Error::Limit { limit: 1_000, .. })), "{:?}", unpacked.result);
}

#[test]
fn an_input_that_fails_is_the_error() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 3 {
                return Err(std::io::Error::other(Error::Limit { what: "ratio", limit: 5, entry: None }));
            }
            into[..512].copy_from_slice(&Tar::default().file("a", vec![3; 100_000]).bytes()[..512]);
            Ok(512)
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let options = Options { marks: Marks::Overlay, limits: Limits::default() };
    let result = apply(Broken(0), temp.path(), Vec::new(), &options);
    assert!(matches!(result, Err(Error::Limit { limit: 5, .. })), "{result:?}");
}

#[test]
fn unknown_types_are_refused_and_global_headers_not() {
    unpack(&Tar::default().add(header(Kind::Other(b'Z'), "strange"))).refused("strange", "type 'Z'");
}
