//! Hostile and unlucky input: each is refused with one clear error that names the object and the path, and leaves the store as it was.

mod common;

use std::{fs, path::Path, process::Command};

use common::{
    Root, STRATA, assert_clear, feed, root_with_image,
    tars::{self, Item, Layout, archive, archive_files, hex, layer, tar},
};
use strata_archive::tar::{Header, Kind};
use strata_testkit::require;

/// Loads an archive that must be refused, from a pipe and from a file.
#[track_caller]
fn load_refused(root: &Root, archive: &[u8], options: &[&str], says: &[&str]) {
    let before = root.listing();
    let file = root.file("bad.tar", archive);
    let piped = root.feed(&[&["load"], options].concat(), archive);
    assert_clear(&piped, 1, says, "load of a stream");
    let from_file = root.run(&[&["load", "-i", &file], options].concat());
    assert_clear(&from_file, 1, says, "load of a file");
    assert_eq!(root.listing(), before, "the store has changed");
    root.assert_sound(&"after a refusal");
    assert_eq!(root.lines(&["images", "-q"]).len(), 1);
}

/// Loads and imports a layer that must be refused: `entry` is named, and `why` said.
#[track_caller]
fn layer_refused(items: &[(&str, Item)], entry: &str, why: &str) {
    let Some(root) = root_with_image() else { return };
    let layer = tar(items);
    load_refused(&root, &archive(&[("bad:1", &[tars::layer(1, 1000), layer.clone()])]), &[], &[entry, why]);
    let before = root.listing();
    let done = root.feed(&["import", "-", "bad:1"], &layer);
    assert_clear(&done, 1, &[entry, why], "import");
    assert_eq!(root.listing(), before, "the store has changed");
    assert!(!root.scratch.join("escaped").exists());
}

fn raw(header: Header, zeros: usize) -> Item {
    Item::Raw(Box::new(header), zeros)
}

#[test]
fn a_name_with_dot_dot_is_refused() {
    layer_refused(&[("a/../../escaped", "x".into())], "a/../../escaped", "it leads out of the layer's root");
    layer_refused(&[("..", Item::Dir)], "..", "it leads out of the layer's root");
}

#[test]
fn an_absolute_name_stays_inside() {
    let Some(root) = root_with_image() else { return };
    let outside = root.scratch.join("escaped");
    let name = outside.to_str().expect("a path");
    root.import("abs:1", &tar(&[(name, "x".into())]));
    assert!(!outside.exists());
    root.ok(&["create", "--name", "see", "abs:1", "x"]);
    let copied = root.scratch.join("copied");
    root.ok(&["cp", &format!("see:{name}"), copied.to_str().expect("a path")]);
    assert_eq!(fs::read_to_string(copied).expect("it is in the image"), "x");
    root.assert_sound(&"afterwards");
}

#[test]
fn a_symlink_leads_nowhere_outside() {
    let Some(root) = root_with_image() else { return };
    // Links of the layer are followed inside it, as every peer does: the file is the layer's own, wherever the link points.
    for to in ["../../../../../../../../../..", "/", "/tmp"] {
        let outside = Path::new("/").join(to).join("strata-escaped");
        let archive = archive(&[(
            "inside:1",
            &[tar(&[("tmp/", Item::Dir), ("way", Item::Symlink(to)), ("way/strata-escaped", "x".into())])],
        )]);
        root.load(&archive);
        assert!(fs::symlink_metadata(&outside).is_err(), "{} was written", outside.display());
        assert!(root.ok(&["explain", "inside:1"]).contains("inside:1"));
        root.assert_sound(&format!("a link to {to}"));
        root.ok(&["rmi", "inside:1"]);
    }
}

#[test]
fn a_hard_link_leads_nowhere_outside() {
    layer_refused(&[("passwd", Item::Hard("../../../../../../../../etc/passwd"))], "passwd", "leads out");
    layer_refused(&[("passwd", Item::Hard("/etc/no such file"))], "passwd", "etc/no such file");
    layer_refused(&[("way", Item::Symlink("/etc")), ("passwd", Item::Hard("way/passwd"))], "passwd", "way/passwd");
}

#[test]
fn a_whiteout_of_dot_dot_is_refused() {
    for name in [".wh...", "a/.wh...", "a/.wh..", ".wh."] {
        layer_refused(&[("a/", Item::Dir), (name, "".into())], name, "whiteout");
    }
}

#[test]
fn a_device_without_the_right_to_make_it_is_refused() {
    let Some(root) = root_with_image() else { return };
    let Some(setpriv) = require::program("setpriv") else { return };
    let bad = archive(&[("bad:1", &[tar(&[("dev/", Item::Dir), ("dev/made", Item::Device(1, 3))])])]);
    let before = root.listing();
    let mut command = Command::new(setpriv);
    command.args(["--bounding-set=-mknod", "--inh-caps=-mknod", STRATA, "load"]);
    command.env("STRATA_DATA_ROOT", root.path());
    let done = feed(command, &bad);
    assert_clear(&done, 1, &["dev/made", "Operation not permitted"], "load");
    assert_eq!(root.listing(), before);
    root.assert_sound(&"after a refusal");
    // The same with the right.
    assert_eq!(root.load(&bad).code, 0);
}

#[test]
fn a_truncated_archive_is_refused() {
    let Some(root) = root_with_image() else { return };
    let whole = archive(&[("bad:1", &[layer(2, 30_000), layer(3, 30_000)])]);
    for part in [1, 2, 3, 5, 7, 9, 10] {
        let cut = &whole[..whole.len() * part / 11];
        load_refused(&root, cut, &[], &[]);
    }
    load_refused(&root, &whole[..700], &[], &["cut off at byte"]);
    load_refused(&root, b"", &[], &[]);
    let compressed = zstd::encode_all(&*whole, 1).expect("compress");
    load_refused(&root, &compressed[..compressed.len() / 2], &[], &["zstd"]);
    // A layer that is cut within a whole archive.
    let cut = &layer(4, 30_000)[..20_000];
    load_refused(&root, &archive(&[("bad:1", &[cut.to_vec()])]), &[], &["file-4"]);
}

#[test]
fn bad_checksums_are_refused() {
    let Some(root) = root_with_image() else { return };
    let whole = archive(&[("bad:1", &[layer(2, 3000)])]);
    // Of the archive's first header.
    let mut outer = whole.clone();
    outer[148] ^= 1;
    load_refused(&root, &outer, &[], &[]);
    // Of a header in a layer whose digest is right.
    let mut inner = layer(2, 3000);
    let second = inner.windows(5).position(|window| window == b"etc/\0").expect("a second header");
    inner[second + 148] ^= 1;
    load_refused(&root, &archive(&[("bad:1", &[inner])]), &[], &[&format!("damaged at byte {second}"), "checksum"]);
    let mut compressed = zstd::encode_all(&*whole, 1).expect("compress");
    let middle = compressed.len() / 2;
    compressed[middle] ^= 0x10;
    load_refused(&root, &compressed, &[], &[]);
}

/// An old GNU sparse header of a file with one byte at the end of a terabyte.
fn terabyte() -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"huge");
    put(100, b"0000644\0");
    put(124, b"00000001000\0");
    put(136, b"00000000000\0");
    put(156, b"S");
    put(257, b"ustar  \0");
    // Sizes of 8 GiB and more stand in binary.
    let big = |value: u64| {
        let mut field = [0; 12];
        field[4..].copy_from_slice(&value.to_be_bytes());
        field[0] = 0x80;
        field
    };
    put(386, &big((1 << 40) - 512));
    put(398, b"00000001000\0");
    put(483, &big(1 << 40));
    let sum: u32 =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend([b'x'; 512]);
    block.extend([0; 1024]);
    block
}

#[test]
fn a_sparse_claim_of_a_terabyte_is_refused() {
    let Some(root) = root_with_image() else { return };
    let bad = archive(&[("bad:1", &[terabyte()])]);
    load_refused(&root, &bad, &[], &["huge", "over the limit of"]);
    // Within a limit that allows it, it takes no room.
    let done = root.feed(&["load", "--max-bytes", "2000000000000"], &bad);
    assert!(done.code == 0 || done.err.contains("huge"), "{}", done.err);
    // So does a claim with no bytes behind it.
    let claim = Header { size: 1 << 50, ..Header::new(Kind::Regular, "huge") };
    let mut cut = Vec::new();
    let mut writer = strata_archive::tar::Writer::new(&mut cut);
    writer.header(&claim).expect("header");
    drop(writer);
    let done = root.feed(&["import", "-", "bad:2"], &cut);
    assert_clear(&done, 1, &["huge"], "import");
}

#[test]
fn bombs_are_refused_at_limits_that_can_be_set() {
    let Some(root) = root_with_image() else { return };
    let many: Vec<(String, Item)> = (0..50).map(|n| (format!("f{n}"), Item::from(""))).collect();
    let many = archive(&[("bad:1", &[tar(&many)])]);
    load_refused(&root, &many, &["--max-entries", "20"], &["over the limit of 20", "f20"]);
    let big = archive(&[("bad:1", &[layer(2, 100_000)])]);
    load_refused(&root, &big, &["--max-bytes", "50000"], &["over the limit of 50000"]);
    let zeros = archive(&[("bad:1", &[tar(&[("zeros", Item::from(vec![0; 20 << 20]))])])]);
    let bomb = zstd::encode_all(&*zeros, 1).expect("compress");
    assert!(bomb.len() * 2000 < zeros.len(), "{}", bomb.len());
    load_refused(&root, &bomb, &[], &["over the limit of 2000"]);
    load_refused(&root, &bomb, &["--max-ratio", "10"], &["over the limit of 10"]);
    let done = root.feed(&["import", "--max-entries", "1", "-", "bad:1"], &layer(1, 10));
    assert_clear(&done, 1, &["over the limit of 1"], "import");
    // None of them is in the way of what is meant.
    assert_eq!(root.feed(&["load", "--max-ratio", "100000"], &bomb).code, 0);
    assert_eq!(root.feed(&["load", "--max-entries", "50"], &many).code, 0);
}

/// The files of an archive, one of them changed.
fn changed(name: &str, change: impl Fn(&str) -> String) -> Vec<u8> {
    let mut files = archive_files(&[("bad:1", &[layer(2, 300), layer(3, 300)])]);
    let (_, item) = files.iter_mut().find(|(found, _)| found.ends_with(name)).expect("the file");
    let Item::File(bytes) = item else { panic!("no file") };
    *bytes = change(std::str::from_utf8(bytes).expect("text")).into_bytes();
    tar(&files)
}

#[test]
fn a_lying_config_is_refused() {
    let Some(root) = root_with_image() else { return };
    let config = format!("{}.json", hex(&tars::config(&[layer(2, 300), layer(3, 300)], "bad:1")));
    load_refused(&root, &changed(&config, |text| text.replace("2024", "2025")), &[], &[&config, "its digest is"]);
    // Under a name that claims nothing.
    let edit = |from: &str, to: &str| {
        let mut files = archive_files(&[("bad:1", &[layer(2, 300), layer(3, 300)])]);
        for (name, item) in &mut files {
            let Item::File(bytes) = item else { continue };
            let Ok(text) = std::str::from_utf8(bytes) else { continue };
            if *name == config {
                *bytes = text.replace(from, to).into_bytes();
                *name = "some.json".to_owned();
            } else if name == "manifest.json" {
                *bytes = text.replace(&config, "some.json").into_bytes();
            }
        }
        tar(&files)
    };
    load_refused(&root, &edit("{", "["), &[], &["some.json"]);
    load_refused(&root, &edit("rootfs", "ruutfs"), &[], &["some.json"]);
    load_refused(&root, &edit(r#""linux""#, r#""windows""#), &[], &["cannot load windows image on linux"]);
    load_refused(&root, &edit("sha256:", "sha256:../../"), &[], &["some.json"]);
    load_refused(&root, &edit(r#""diff_ids":["#, r#""diff_ids":[17,"#), &[], &["some.json"]);
    // More steps of history that made a layer than there are layers.
    load_refused(&root, &edit(r#""history":["#, r#""history":[{},"#), &[], &["History"]);
    // A manifest that names no file, or none inside.
    let name = |to: &str| changed("manifest.json", |text| text.replace(&config, to));
    load_refused(&root, &name("gone.json"), &[], &["gone.json"]);
    load_refused(&root, &name("../../../etc/passwd"), &[], &["../../../etc/passwd"]);
    load_refused(&root, &changed("manifest.json", |text| text.replace("bad:1", "Not A Name")), &[], &["Not A Name"]);
    load_refused(&root, &changed("manifest.json", |_| "{".repeat(100_000)), &[], &["manifest.json"]);
}

#[test]
fn lying_diff_ids_are_refused() {
    let Some(root) = root_with_image() else { return };
    let (two, three) = (layer(2, 300), layer(3, 300));
    let name = format!("{}/layer.tar", hex(&three));
    let mut files = archive_files(&[("bad:1", &[two.clone(), three.clone()])]);
    files.iter_mut().find(|(found, _)| *found == name).expect("the layer").1 = layer(4, 300).into();
    load_refused(
        &root,
        &tar(&files),
        &[],
        &["invalid diffID for layer 1", &tars::digest(&three), &tars::digest(&layer(4, 300))],
    );
    let mut files = archive_files(&[("bad:1", &[two, three])]);
    files.retain(|(found, _)| *found != name);
    load_refused(&root, &tar(&files), &[], &[&name]);
}

#[test]
fn lying_digests_are_refused() {
    let Some(root) = root_with_image() else { return };
    let mut layout = Layout::new(&[layer(2, 300)], "bad:1");
    layout.digests = Some(vec![format!("sha256:{}", "0".repeat(64))]);
    load_refused(&root, &layout.tar(), &[], &[&"0".repeat(64)]);
    layout.digests = Some(vec!["sha256:../../../../../../etc/passwd".to_owned()]);
    load_refused(&root, &layout.tar(), &[], &["../../../../../../etc/passwd"]);
}

#[test]
fn two_configs_for_one_id_are_refused() {
    let Some(root) = root_with_image() else { return };
    let layers = [layer(2, 300)];
    let mut files = archive_files(&[("bad:1", &layers)]);
    let config = format!("{}.json", hex(&tars::config(&layers, "bad:1")));
    let other: Item = tars::config(&layers, "another").into();
    // The name tells the digest of the first; what stands there is another.
    let place = files.iter().position(|(name, _)| *name == config).expect("the config");
    let mut lying = files.clone();
    lying[place].1 = other.clone();
    load_refused(&root, &tar(&lying), &[], &[&config]);
    // Both stand there: the last counts, or the archive is refused; never half of each.
    files.insert(0, (config, other));
    let done = root.load(&tar(&files));
    assert!(done.code == 1 || done.out.contains("bad:1"), "{}{}", done.out, done.err);
    root.assert_sound(&"two of a name");
}

#[test]
fn unknown_media_types_are_refused() {
    let Some(root) = root_with_image() else { return };
    let mut layout = Layout::new(&[layer(2, 300)], "bad:1");
    layout.layer_type = "application/vnd.example.layer";
    load_refused(&root, &layout.tar(), &[], &["application/vnd.example.layer"]);
    let mut layout = Layout::new(&[layer(2, 300)], "bad:1");
    layout.manifest_type = "application/vnd.example.manifest";
    load_refused(&root, &layout.tar(), &[], &["application/vnd.example.manifest"]);
}

#[test]
fn an_image_of_another_architecture_is_warned_of() {
    let Some(root) = common::root_with_busybox() else { return };
    let host = strata_spec::Platform::host().architecture;
    let other = if host == "arm64" { "linux/s390x" } else { "linux/arm64" };
    let busybox = tars::busybox().expect("busybox");
    let done = root.feed(&["import", "--platform", other, "-", "other:1"], &busybox);
    assert_eq!(done.code, 0, "{}", done.err);
    let before = root.listing();
    let done = root.run(&["run", "--rm", "other:1", "echo", "works"]);
    if done.code == 0 {
        // There is an emulator: Docker's warning.
        assert!(done.err.contains("WARNING: The requested image's platform (linux/"), "{}", done.err);
        assert!(done.err.contains("does not match the detected host platform (linux/"), "{}", done.err);
    } else {
        let host = format!("linux/{host}");
        assert_clear(&done, 125, &["other:1", other, &host, "--platform"], "run");
        assert_clear(&root.run(&["create", "other:1"]), 1, &["other:1", other, &host], "create");
    }
    assert_eq!(root.listing(), before);
    // Asked for by name, it is tried; this one only says that it is of another architecture.
    let quiet = root.run(&["run", "--rm", "--platform", other, "other:1", "echo", "works"]);
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (0, "works\n", ""));
    let done = root.run(&["run", "--rm", "--platform", "linux/riscv64", "other:1", "echo", "works"]);
    assert_clear(&done, 125, &["does not match the specified platform", "linux/riscv64", other], "run");
}

#[test]
fn names_and_tags_outside_the_grammar_are_refused() {
    let Some(root) = root_with_image() else { return };
    // The first container over a layer marks it as committed, as Docker does.
    let container = root.ok(&["create", "keep:1", "x"]);
    root.ok(&["rm", container.trim()]);
    let before = root.listing();
    let long = "a".repeat(260);
    let tag = format!("a:{}", "t".repeat(129));
    for (name, says) in [
        ("Keep", "repository name must be lowercase"),
        ("keep:", "invalid reference format"),
        (":1", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("../a", "invalid reference format"),
        ("a:.x", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("", "invalid reference format"),
        (&long, "repository name must not be more than 255 characters"),
        (&tag, "invalid reference format"),
    ] {
        assert_clear(&root.run(&["tag", "keep:1", name]), 1, &[says], name);
        assert_clear(&root.feed(&["import", "-", name], &layer(1, 10)), 1, &[says], name);
        assert_clear(&root.run(&["run", name, "x"]), 125, &[says], name);
    }
    assert_clear(&root.run(&["tag", "keep:1", &"0".repeat(64)]), 1, &["64-byte hexadecimal"], "an ID as a name");
    assert_clear(
        &root.run(&["tag", "keep:1", &format!("a@sha256:{}", "0".repeat(64))]),
        1,
        &["digest reference"],
        "a digest",
    );
    assert_clear(&root.run(&["tag", "keep:1", "sha256:abc"]), 1, &["digest algorithm"], "an algorithm");
    assert_clear(&root.run(&["tag", "gone:1", "x"]), 1, &["No such image: gone:1"], "nothing");
    for name in ["../box", "a", ".box", "b/x", ""] {
        let done = root.run(&["create", "--name", name, "keep:1", "x"]);
        if !name.is_empty() {
            assert_clear(&done, 1, &["Invalid container name", "are allowed"], name);
        }
    }
    let made = root.lines(&["ps", "-aq"]);
    assert_eq!(made.len(), 1, "an empty name is none");
    root.ok(&["rm", &made[0]]);
    assert_eq!(root.listing(), before);
}

#[test]
fn a_header_that_claims_too_much_is_refused() {
    let huge = Header { name: "x".repeat(2 << 20).into_bytes(), ..Header::new(Kind::Regular, "") };
    layer_refused(&[("ignored", raw(huge, 0))], "", "limit");
}

#[test]
fn a_whiteout_of_what_its_own_layer_brings_is_no_damage() {
    let Some(root) = root_with_image() else { return };
    for items in [
        &[("f", "x".into()), (".wh.f", "".into())][..],
        &[(".wh.f", "".into()), ("f", "x".into())],
        &[("d/", Item::Dir), ("d/f", "x".into()), (".wh.d", "".into())],
        &[("d/f", "x".into()), ("w", Item::Symlink("d")), ("w/.wh.f", "".into())],
    ] {
        root.import("own", &tar(items));
        root.assert_sound(&"an image that was just imported");
        root.ok(&["rmi", "own"]);
    }
}
