//! Everything that can be told of a file survives import, run, commit, save, load and export.

mod common;

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
};

use common::{Root, root, tars, tree};
use strata_sys::xattr;
use strata_testkit::require;

/// `cap_net_raw+ep`, as the kernel keeps it.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SPARSE: u64 = 64 << 20;

/// Runs a program of the machine; panics if it fails.
#[track_caller]
fn tool(name: &str, args: &[&str], paths: &[&Path]) {
    let output = Command::new(name).args(args).args(paths).output().expect("it starts");
    assert!(output.status.success(), "{name} {args:?} {paths:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set the mode");
}

/// A tree with everything in it, and busybox beside.
fn make_tree(root: &Path) {
    let data = root.join("data");
    for dir in ["lower/deep", "opaque/old", "moved/in", "empty", "sticky", "acl"] {
        fs::create_dir_all(data.join(dir)).expect("make a folder");
    }
    fs::set_permissions(data.join("sticky"), fs::Permissions::from_mode(0o3777)).expect("set the mode");
    write(&data.join("opaque/old/file"), "hidden later", 0o644);
    write(&data.join("opaque/other"), "hidden later", 0o644);
    write(&data.join("lower/deep/gone"), "deleted later", 0o600);
    write(&data.join("lower/changed"), "before", 0o644);
    write(&data.join("moved/in/file"), "moved later", 0o444);
    write(&data.join("setuid"), "#!/bin/sh\n", 0o6755);
    write(&data.join("no rights"), "secret", 0o000);
    write(&data.join("owned"), "x", 0o640);
    std::os::unix::fs::chown(data.join("owned"), Some(3_000_000), Some(70_000)).expect("chown");
    std::os::unix::fs::lchown(data.join("empty"), Some(33), Some(33)).expect("chown");
    // Names.
    let long = "n".repeat(101);
    let longest = data.join("d".repeat(120)).join("e".repeat(120)).join("f".repeat(120));
    fs::create_dir_all(&longest).expect("make folders");
    write(&longest.join("g".repeat(255)), "a long way", 0o644);
    write(&data.join(&long), "long", 0o644);
    write(&data.join(std::ffi::OsStr::from_bytes(b"caf\xe9 \xff\n\t\"=")), "not UTF-8", 0o644);
    write(&data.join("größe ✓"), "UTF-8", 0o644);
    symlink("x".repeat(150), data.join("long link")).expect("link");
    symlink("../lower/changed", data.join("empty/link")).expect("link");
    symlink("/nowhere", data.join("dangling")).expect("link");
    // Links.
    write(&data.join("one"), "two names", 0o644);
    fs::hard_link(data.join("one"), data.join("empty/two")).expect("link");
    fs::hard_link(data.join("one"), data.join("z-three")).expect("link");
    // What is no file.
    tool("mknod", &["-m", "640"], &[&data.join("null"), Path::new("c"), Path::new("1"), Path::new("3")]);
    tool("mknod", &["-m", "600"], &[&data.join("disk"), Path::new("b"), Path::new("259"), Path::new("70000")]);
    tool("mkfifo", &["-m", "622"], &[&data.join("fifo")]);
    // Holes: at the beginning, between, and at the end.
    let mut sparse = File::create(data.join("sparse")).expect("create");
    for offset in [1 << 20, 40 << 20] {
        sparse.seek(SeekFrom::Start(offset)).expect("seek");
        sparse.write_all(b"data between holes").expect("write");
    }
    sparse.set_len(SPARSE).expect("set the length");
    // Attributes of every kind.
    xattr::set(data.join("owned"), "user.text", b"value").expect("set");
    xattr::set(data.join("owned"), "user.binary", b"\0\xff=\n\0").expect("set");
    xattr::set(data.join("owned"), "user.empty", b"").expect("set");
    xattr::set(data.join("owned"), "trusted.thing", b"only for root").expect("set");
    xattr::set(data.join("acl"), "user.of a folder", &[7; 200]).expect("set");
    xattr::set(data.join("setuid"), "security.capability", CAPABILITY).expect("set");
    tool("setfacl", &["-m", "u:1234:r--,g:55:rwx,m::rx"], &[&data.join("owned")]);
    tool("setfacl", &["-m", "u:1234:rwx", "-m", "d:u:77:r-x,d:g::-"], &[&data.join("acl")]);
    // Times: before 1970, with nanoseconds, beyond eleven octal digits, of a link.
    tool(
        "touch",
        &["-h", "-d", "@-1234567.123456789"],
        &[&data.join("setuid"), &data.join("dangling"), &data.join("fifo")],
    );
    tool("touch", &["-d", "@9000000000.000000001"], &[&data.join("owned"), &data.join("one")]);
    tool("touch", &["-d", "@-1.5"], &[&data.join("lower/deep"), &data.join("null"), &data.join("moved/in/file")]);
    tool("touch", &["-d", "@1000000000.999999999"], &[&data.join("acl"), &data.join("sparse"), &data]);
}

/// The folder as GNU tar packs it.
fn pack(root: &Path, tar: &Path) {
    let flags = ["--format=pax", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--sparse", "-cf"];
    tool("tar", &flags, &[tar, Path::new("-C"), root, Path::new(".")]);
}

/// The folder `data` of a container, exported and unpacked by GNU tar.
fn export(root: &Root, container: &str) -> PathBuf {
    let (tar, to) = (root.scratch.join(format!("{container}.tar")), root.scratch.join(format!("{container}-out")));
    root.ok(&["export", "-o", &tar.to_string_lossy(), container]);
    fs::create_dir(&to).expect("a folder");
    // ACLs are among the attributes; --acls would look for them elsewhere.
    let flags = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-permissions", "-xf"];
    tool("tar", &flags, &[&tar, Path::new("-C"), &to, Path::new("data")]);
    to.join("data")
}

/// What a container does to the tree. Attributes are set by the machine's own tools, mounted at `/host`.
const CHANGES: &str = r#"
set -e
cd /data
rm lower/deep/gone
rm -r opaque; mkdir opaque; echo fresh > opaque/file
echo after >> lower/changed
mv moved elsewhere
ln one fourth
chmod 4711 setuid
chown 4000000:12 owned
touch -d @-99 empty
mknod made c 5 1; mkfifo -m 600 made-fifo
dd if=/dev/zero of=holes bs=1 count=1 seek=8388607 2>/dev/null
echo x > "$(printf 'new \377')"
tool() { /host/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path /host/lib/x86_64-linux-gnu /host/bin/"$@"; }
tool setfattr -n user.late -v late lower/changed
tool setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 lower/changed
tool setfacl -m u:99:rw lower/changed
tool setfattr -x user.text owned
"#;

#[test]
fn everything_survives_the_whole_way() {
    let (Some(here), Some(there)) = (root(), root()) else { return };
    let Some(busybox) = tars::busybox() else { return };
    for name in ["tar", "setfacl", "setfattr", "mknod", "mkfifo", "touch"] {
        if require::program(name).is_none() {
            return;
        }
    }
    if require::device_nodes().is_none() || require::trusted_xattrs(here.scratch.path()).is_none() {
        return;
    }
    let source = here.scratch.join("source");
    fs::create_dir(&source).expect("a folder");
    let bb = here.file("bb.tar", &busybox);
    tool("tar", &["-xf", &bb, "-C"], &[&source]);
    make_tree(&source);
    let original = tree::describe(&source.join("data"));
    let tar = here.scratch.join("source.tar");
    pack(&source, &tar);

    // In and out again.
    let first = here.ok(&["import", &tar.to_string_lossy(), "tree:1"]);
    here.ok(&["create", "--name", "imported", "tree:1", "true"]);
    tree::assert_same(&original, &tree::describe(&export(&here, "imported")), "import and export");
    let upper = here.inspect("tree:1")["GraphDriver"]["Data"]["UpperDir"].as_str().expect("a path").to_owned();
    let blocks = fs::metadata(Path::new(&upper).join("data/sparse")).expect("it is there").blocks();
    assert!(blocks * 512 < 1 << 20, "{blocks} blocks: the holes are filled");

    // Changed by a container, committed.
    let machine = ["/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "/usr/bin/setfacl", "/usr/bin/setfattr"];
    let changes = match machine.iter().all(|path| Path::new(path).exists()) {
        true => CHANGES.to_owned(),
        false => CHANGES.lines().filter(|line| !line.starts_with("tool")).collect::<Vec<_>>().join("\n"),
    };
    here.ok(&["run", "--name", "changed", "-v", "/usr:/host:ro", "tree:1", "sh", "-c", &changes]);
    let expected = tree::describe(&export(&here, "changed"));
    let text = |path: &str| expected.get(path.as_bytes()).map_or("", String::as_str);
    assert_eq!((text("./lower/deep/gone"), text("./opaque/other"), text("./moved")), ("", "", ""));
    assert!(text("./opaque/file").starts_with("100644"));
    assert!(text("./setuid").starts_with("104711"), "{}", text("./setuid"));
    assert!(
        text("./owned").contains(" 4000000:12 ") && text("./owned").contains("trusted.thing="),
        "{}",
        text("./owned")
    );
    assert!(text("./elsewhere/in/file").starts_with("100444"), "{}", text("./elsewhere/in/file"));
    assert!(text("./empty").contains(" -99.000000000"), "{}", text("./empty"));
    assert!(text("./fourth").ends_with(" ./fourth") && text("./one").ends_with(" ./fourth"), "{}", text("./fourth"));
    let second = here.ok(&["commit", "changed", "tree:2"]);
    here.ok(&["create", "--name", "committed", "tree:2", "true"]);
    tree::assert_same(&expected, &tree::describe(&export(&here, "committed")), "commit");

    // Through an archive, to another root, and back to the same archive.
    let archive = here.save(&["tree:1", "tree:2"]);
    assert!(archive == here.save(&["tree:1", "tree:2"]), "saved twice, it differs");
    let loaded = there.load(&archive);
    assert_eq!(loaded.code, 0, "{}", loaded.err);
    let lines: std::collections::BTreeSet<_> = loaded.out.lines().collect();
    assert_eq!(lines, ["Loaded image: tree:1", "Loaded image: tree:2"].into());
    assert_eq!([&there.inspect("tree:1")["Id"], &there.inspect("tree:2")["Id"]], [first.as_str(), second.as_str()]);
    assert!(archive == there.save(&["tree:1", "tree:2"]), "saved after a load, it differs");
    for (image, name, expected) in [("tree:1", "first", &original), ("tree:2", "second", &expected)] {
        there.ok(&["create", "--name", name, image, "true"]);
        tree::assert_same(expected, &tree::describe(&export(&there, name)), image);
    }
    here.assert_sound(&"the first root");
    there.assert_sound(&"the second root");
}

#[test]
fn the_same_container_commits_to_the_same_image() {
    let Some(root) = common::root_with_busybox() else { return };
    root.ok(&["run", "--name", "box", "bb", "sh", "-c", "mkdir /a /b; echo 1 > /b/x; echo 2 > /a/y; rm /bin/dd"]);
    let commit = || {
        let output =
            root.command(&["commit", "box"]).env("SOURCE_DATE_EPOCH", "1700000000").output().expect("strata runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let (one, other) = (commit(), commit());
    assert!(one.starts_with("sha256:"), "{one}");
    assert_eq!(one, other);
    assert_eq!(root.inspect(&one)["Created"], "2023-11-14T22:13:20Z");
}
