//! A data root that a dockerd wrote on the kernel's AUFS, used as it lies.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Root, root_at};
use strata_spec::Digest;
use strata_testkit::{Scratch, require, scratch};

/// The base layer's program, which the fixture has without its content.
const BUSYBOX: &str = "aufs/diff/02e88f7794a98e28504c61bed56bf5dcd249b9605070e7202c367e1102694015/bin/busybox";
const BUSYBOX_DIGEST: &str = "3d9f2889d6782537624a4e1a10e68a2ddd53e0ee8bac02676f27308f42ec6bf6";
const C1: &str = "a10a3612ca80d219578cb2f8a59c95d081e09d2f7a9f25dabcdd57155c691485";
const C1_FOLDER: &str = "6c125c9174f036aa04f88396a189a0ae9ac3bf0361c5fbd23157e77e44da78a7";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/aufs-root").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(fixture(name)).expect("a fixture")
}

/// The recorded root, with the program put back; and whether that is the one it was recorded with.
fn recorded() -> Option<(Root, Scratch)> {
    require::root()?;
    require::device_nodes()?;
    let busybox = fs::read(require::program("busybox")?).expect("busybox");
    if Digest::sha256(&busybox).hex() != BUSYBOX_DIGEST {
        require::report_skip("busybox is another build than the recorded root has");
        return None;
    }
    let place = scratch();
    let path = place.join("docker");
    fs::create_dir(&path).expect("create");
    let unpacked = Command::new("tar")
        .args(["--numeric-owner", "-xzpf"])
        .args([fixture("root.tar.gz").as_path(), Path::new("-C"), &path])
        .status()
        .expect("tar runs");
    assert!(unpacked.success());
    fs::write(path.join(BUSYBOX), busybox).expect("write");
    Some((root_at(&path)?, place))
}

/// IDs in the third column of a recorded `docker images`.
fn recorded_images() -> BTreeSet<(String, String, String)> {
    let parts = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some((words.next()?, words.next()?, words.next()?))
    };
    text("images.txt").lines().skip(1).filter_map(parts).collect()
}

#[test]
fn everything_in_a_root_of_aufs_is_listed_explained_and_saved() {
    let Some((root, _place)) = recorded() else { return };
    assert!(root.ok(&["info"]).contains("Storage Driver: aufs"));
    let listed: BTreeSet<_> = root
        .lines(&["images", "-a", "--no-trunc", "--format", "{{.Repository}} {{.Tag}} {{.ID}}"])
        .iter()
        .filter_map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            Some((words.next()?, words.next()?, words.next()?))
        })
        .collect();
    assert_eq!(listed, recorded_images());
    let containers = root.ok(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Image}} {{.Names}}"]);
    assert!(containers.contains(&format!("{C1} busy:built c1")) && containers.lines().count() == 2, "{containers}");

    let mut diff = root.lines(&["diff", "c1"]);
    diff.sort();
    let mut recorded: Vec<String> = text("diff-c1.txt").lines().map(str::to_owned).collect();
    recorded.sort();
    assert_eq!(diff, recorded);
    assert_eq!(root.ok(&["diff", "c2"]), "");

    for name in ["busy:base", "busy:built", "busy:committed", "c1", "c2"] {
        let told = root.ok(&["explain", name]);
        assert!(told.contains("diff/") && told.contains("=ro+wh"), "{name}: {told}");
    }
    let told = root.ok(&["explain", C1_FOLDER]);
    assert!(told.contains("c1"), "{told}");
    root.ok(&["fsck", "--contents"]);
    saved_is_as_docker_saved(&root);
}

/// The same images, by the same layers, byte for byte.
fn saved_is_as_docker_saved(root: &Root) {
    let archive = root.save(&["busy:committed"]);
    let dir = root.scratch.join("saved");
    fs::create_dir(&dir).expect("create");
    let mut tar = common::feed(
        {
            let mut command = Command::new("tar");
            command.args(["-x", "-C"]).arg(&dir);
            command
        },
        &archive,
    );
    assert_eq!(tar.code, 0, "{}", std::mem::take(&mut tar.err));
    let manifest = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON")[0].take();
    let theirs = manifest(&text("manifest.json"));
    let ours = manifest(&fs::read_to_string(dir.join("manifest.json")).expect("a manifest"));
    // Ours lies in folders of the newer form; the name is the image ID either way.
    let id = |config: &serde_json::Value| {
        let name = config.as_str().expect("text").trim_end_matches(".json");
        name.rsplit('/').next().map(str::to_owned)
    };
    assert_eq!(id(&ours["Config"]), id(&theirs["Config"]), "the image ID is the config's digest");
    let digests: BTreeMap<String, String> = text("layers.txt")
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(name, digest)| (name.to_owned(), digest.to_owned())))
        .collect();
    let theirs: Vec<&String> = theirs["Layers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|name| &digests[name.as_str().expect("text")])
        .collect();
    let digest = |name: &serde_json::Value| {
        let mut bytes = Vec::new();
        let path = dir.join(name.as_str().expect("text"));
        fs::File::open(path).expect("a layer").read_to_end(&mut bytes).expect("read");
        Digest::sha256(&bytes).hex()
    };
    let ours: Vec<String> = ours["Layers"].as_array().expect("a list").iter().map(digest).collect();
    assert_eq!(ours.iter().collect::<Vec<_>>(), theirs);
}

#[test]
fn damage_to_layers_of_aufs_is_found_and_named() {
    let Some((root, _place)) = recorded() else { return };
    let layers = root.join("aufs/layers").join(C1_FOLDER);
    let whole = fs::read_to_string(&layers).expect("read");
    for (text, reason) in
        [("", "does not name the folders below its parent"), ("nonsense\n", "does not hold folders' names")]
    {
        fs::write(&layers, text).expect("write");
        let found = root.run(&["fsck"]);
        assert!(found.code != 0 && found.out.contains(reason), "{}{}", found.out, found.err);
    }
    fs::write(&layers, whole).expect("write");
    let mark = root.join("aufs/diff/ca9c21eae743a71c8394f62b439ba08308060c8407b2fdce1e53c8eb7a900cbf/bin/.wh.wget");
    fs::remove_file(mark).expect("remove");
    let found = root.run(&["fsck", "--contents"]);
    assert!(found.code != 0 && found.out.contains("what it deleted shows again"), "{}{}", found.out, found.err);
}

#[test]
fn containers_of_a_root_of_aufs_run_and_are_committed() {
    let Some((root, _place)) = recorded() else { return };
    if !root.ok(&["info"]).contains(" aufs: works") {
        require::report_skip("no union in user space here");
        return;
    }
    let seen = root.ok(&[
        "run",
        "--rm",
        "--entrypoint",
        "/bin/sh",
        "busy:committed",
        "-c",
        "cat /test4; ls /opt; ls /aa /bin/wget || true",
    ]);
    assert_eq!(seen, "hahaha\nrenamed");
    // Its script finds done what it did when it was recorded; the one change that can be made again is.
    let started = root.run(&["start", "-a", "c1"]);
    assert!(started.code == 1 && started.err.contains("/etc/pw2: File exists"), "{}{}", started.out, started.err);
    root.ok(&["commit", "c1", "busy:again"]);
    let seen = root.ok(&[
        "run",
        "--rm",
        "--entrypoint",
        "/bin/sh",
        "busy:again",
        "-c",
        "/bin/busybox grep -c more /etc/passwd",
    ]);
    assert_eq!(seen, "2");
    root.ok(&["rm", "c1", "c2"]);
    root.ok(&["rmi", "busy:again", "busy:committed"]);
    root.ok(&["fsck", "--contents"]);
}
