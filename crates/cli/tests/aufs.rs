//! A data root that a dockerd wrote on the kernel's AUFS, used as it lies.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Root, root_at, tree};
use serde_json::{Value, json};
use strata_spec::Digest;
use strata_testkit::{Scratch, require, scratch};

/// The base layer's program, which the fixture has without its content.
const BUSYBOX: &str = "aufs/diff/02e88f7794a98e28504c61bed56bf5dcd249b9605070e7202c367e1102694015/bin/busybox";
const BUSYBOX_DIGEST: &str = "3d9f2889d6782537624a4e1a10e68a2ddd53e0ee8bac02676f27308f42ec6bf6";
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

/// A table's cells, row by row, the head first. How long ago something was is the one thing in it that changes: such a cell is `AGO`.
fn table(text: &str) -> Vec<Vec<String>> {
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let head = lines.next().expect("a head");
    let begins = |at: &usize| *at == 0 || head[..*at].ends_with("  ");
    let starts: Vec<usize> = (0..head.len()).filter(|at| !head[*at..].starts_with(' ')).filter(begins).collect();
    let cells = |line: &str| {
        let end = |n: usize| starts.get(n + 1).copied().unwrap_or(usize::MAX).min(line.len());
        let cell = |n: usize| line.get(starts[n]..end(n)).unwrap_or_default().trim();
        let ago = |cell: &str| match (cell.strip_suffix(" ago"), cell.split_once(") ")) {
            (Some(_), Some((status, _))) => format!("{status}) AGO"),
            (Some(_), None) => "AGO".to_owned(),
            (None, _) => cell.to_owned(),
        };
        (0..starts.len()).map(|n| ago(cell(n))).collect()
    };
    std::iter::once(head).chain(lines).map(cells).collect()
}

/// Of each image its name, and the recorded `history` and `inspect`.
fn recorded_images() -> Vec<(String, String, String)> {
    let text = text("images-inspect.txt");
    let images = text.split("IMAGE  ").skip(1).map(|part| part.split_once("\n[\n").expect("a table, then JSON"));
    images
        .map(|(table, json)| {
            let (table, json) = (format!("IMAGE  {table}"), format!("[\n{json}"));
            let inspected: Value = serde_json::from_str(&json).expect("JSON");
            (inspected[0]["RepoTags"][0].as_str().expect("a name").to_owned(), table, json)
        })
        .collect()
}

#[test]
fn lists_are_as_docker_printed_them() {
    let Some((root, _place)) = recorded() else { return };
    assert_eq!(table(&root.ok(&["images", "-a", "--no-trunc"])), table(&text("images.txt")));
    assert_eq!(table(&root.ok(&["ps", "-a", "--no-trunc"])), table(&text("ps.txt")));
    let images = recorded_images();
    assert_eq!(
        images.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(),
        ["busy:base", "busy:built", "busy:committed"]
    );
    for (name, history, _) in &images {
        assert_eq!(table(&root.ok(&["history", "--no-trunc", name])), table(history), "{name}");
    }
    assert_eq!(root.ok(&["diff", "c1"]), text("diff-c1.txt").trim());
    assert_eq!(root.ok(&["diff", "c2"]), "");
}

#[test]
fn inspect_prints_what_docker_printed() {
    let Some((root, _place)) = recorded() else { return };
    for (name, _, inspected) in recorded_images() {
        assert_eq!(root.ok(&["image", "inspect", &name]), inspected.trim(), "{name}");
    }
    // The paths too: they are the record's, of where Docker had its root.
    assert_eq!(root.ok(&["inspect", "c1", "c2"]), text("containers-inspect.txt").trim());
}

#[test]
fn sizes_add_up_to_what_docker_told_of_each() {
    let Some((root, _place)) = recorded() else { return };
    let size = |n: usize| {
        let json: Value = serde_json::from_str(&recorded_images()[n].2).expect("JSON");
        json[0]["Size"].as_u64().expect("a number")
    };
    // Each image stands on the one before it: the last has all layers there are.
    let rows =
        table(&root.ok(&["system", "df", "--format", "table {{.Type}}\\t{{.TotalCount}}\\t{{.Active}}\\t{{.Size}}"]));
    let of =
        |kind: &str| rows.iter().find(|row| row[0] == kind).unwrap_or_else(|| panic!("{kind}: {rows:?}"))[1..].to_vec();
    assert_eq!((size(0), size(2)), (1_982_363, 1_982_415));
    // As Docker counts: untagged parents are not images.
    assert_eq!(of("Images"), ["3", "1", "1.982MB"]);
    // What c1 wrote is what was committed of it.
    let own = size(2) - size(1);
    assert_eq!(of("Containers"), ["2".to_owned(), "0".to_owned(), format!("{own}B")]);
    let sizes = root.lines(&["ps", "-a", "--size", "--format", "{{.Names}} {{.Size}}"]);
    assert_eq!(sizes, ["c2 0B (virtual 1.98MB)".to_owned(), format!("c1 {own}B (virtual 1.98MB)")]);
}

#[test]
fn everything_in_a_root_of_aufs_is_explained_and_saved() {
    let Some((root, _place)) = recorded() else { return };
    // Docker's lines of the driver, by their names: the root was empty then.
    let status = |text: &str| {
        let lines = text.lines().map(|line| line.trim_end().to_owned());
        let after = lines.skip_while(|line| !line.trim_start().starts_with("Storage Driver:"));
        let names = after.map(|line| line.trim_start().split(": ").next().unwrap_or_default().to_owned());
        names.take(5).collect::<Vec<_>>()
    };
    assert_eq!(status(&root.ok(&["info"])), status(&text("info.txt")));
    assert!(root.ok(&["info"]).contains("Storage Driver: aufs"));
    for name in ["busy:base", "busy:built", "busy:committed", "c1", "c2"] {
        let told = root.ok(&["explain", name]);
        assert!(told.contains("diff/") && told.contains("=ro+wh"), "{name}: {told}");
    }
    // What the kernel's AUFS left on the branch: two whiteouts, and the two folders of its own.
    let told: Value = serde_json::from_str(&root.ok(&["explain", "--format", "json", "c1"])).expect("JSON");
    let branch = &told["driver"][0];
    assert_eq!(branch["value"], format!("diff/{C1_FOLDER}=rw"));
    assert_eq!(branch["counts"], json!({"whiteouts": 2, "opaque_directories": 0, "pseudo_links": 0, "orphans": 0}));
    assert_eq!(told["driver"].as_array().map(Vec::len), Some(7), "six branches and the mount point: {told:#}");
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
    let manifest = |text: &str| serde_json::from_str::<Value>(text).expect("JSON")[0].take();
    let theirs = manifest(&text("manifest.json"));
    let ours = manifest(&fs::read_to_string(dir.join("manifest.json")).expect("a manifest"));
    // Ours lies in folders of the newer form; the name is the image ID either way.
    let id = |config: &Value| {
        let name = config.as_str().expect("text").trim_end_matches(".json");
        name.rsplit('/').next().map(str::to_owned)
    };
    assert_eq!(id(&ours["Config"]), id(&theirs["Config"]), "the image ID is the config's digest");
    assert_eq!(ours["RepoTags"], theirs["RepoTags"]);
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
    let digest = |name: &Value| {
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

/// Unpacks a tar, whose owners are numbers, into a new folder.
fn unpack(place: &Scratch, name: &str, tar: &[u8]) -> PathBuf {
    let dir = place.join(name);
    fs::create_dir(&dir).expect("create");
    let mut command = Command::new("tar");
    command.args(["--numeric-owner", "-xp", "-C"]).arg(&dir);
    let done = common::feed(command, tar);
    assert_eq!(done.code, 0, "{name}: {}", done.err);
    dir
}

#[test]
fn an_export_of_a_container_is_the_image_that_docker_committed_of_it() {
    let Some((root, place)) = recorded() else { return };
    if no_union(&root) {
        return;
    }
    let export = |container: &str| {
        let output = root.command(&["export", container]).output().expect("strata runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        tree::describe(&unpack(&place, &format!("export-{container}"), &output.stdout))
    };
    root.ok(&["create", "--name", "of-committed", "busy:committed"]);
    let (mut ours, mut theirs) = (export("c1"), export("of-committed"));
    for tree in [&mut ours, &mut theirs] {
        // Each container's own: made when it was created, or bound over while it ran.
        let own = ["./.dockerenv", "./dev", "./etc/hostname", "./etc/hosts", "./etc/resolv.conf", "./etc/mtab", "."];
        tree.retain(|path, _| !own.iter().any(|own| path == own.as_bytes() || (path.starts_with(b"./dev/"))));
        // A commit by Docker has whole seconds, and what its init layer made newer is a folder's time.
        for (path, text) in tree.iter_mut() {
            let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            words[2] = match path == b"./etc" {
                true => "init".to_owned(),
                false => words[2].split('.').next().unwrap_or_default().to_owned(),
            };
            *text = words.join(" ");
        }
    }
    assert!(ours.len() > 20 && ours.contains_key(&b"./etc/pw2"[..]) && !ours.contains_key(&b"./aa"[..]));
    tree::assert_same(&ours, &theirs, "export and commit");
}

/// Names, kinds, modes, sizes, whole seconds and links of a layer's tar. Whiteouts have their name alone: ours are written alike
/// wherever they come from, Docker's are what AUFS made them, hard links of one file.
fn layer_entries(tar: &[u8]) -> Vec<String> {
    let mut command = Command::new("tar");
    command.args(["--numeric-owner", "--utc", "--full-time", "-tv"]);
    let listed = common::feed(command, tar);
    assert_eq!(listed.code, 0, "{}", listed.err);
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let whole = words[4].split('.').next().unwrap_or_default();
        match words[5] {
            name if name.contains(".wh.") => name.to_owned(),
            _ => [&words[..4], &[whole], &words[5..]].concat().join(" "),
        }
    };
    listed.out.lines().map(entry).collect()
}

#[test]
fn a_commit_makes_the_image_that_docker_made() {
    let Some((root, place)) = recorded() else { return };
    root.ok(&["commit", "c1", "busy:again"]);
    let inspected = |name: &str| {
        let mut json = root.inspect(name);
        // What differs: when and by which program it was made, and what is computed from that.
        for field in ["Id", "RepoTags", "Created", "DockerVersion", "Metadata"] {
            json[field] = Value::Null;
        }
        let layers = json["RootFS"]["Layers"].as_array_mut().expect("a list");
        let top = layers.pop().expect("a layer");
        (json, top.as_str().expect("a digest").to_owned())
    };
    let ((ours, our_top), (theirs, their_top)) = (inspected("busy:again"), inspected("busy:committed"));
    assert_eq!(ours, theirs);
    let top = |name: &str, top: &str| {
        let dir = unpack(&place, &name.replace(':', "-"), &root.save(&[name]));
        layer_entries(&fs::read(dir.join("blobs/sha256").join(top.trim_start_matches("sha256:"))).expect("the layer"))
    };
    let entries = top("busy:again", &our_top);
    assert_eq!(entries, top("busy:committed", &their_top));
    assert!(entries.contains(&".wh.aa".to_owned()) && entries.len() == 9, "{entries:?}");
}

/// Permissions, links, owner, size and name of what `ls -l` lists, by folder. What is the machine's or the moment's is left out:
/// times, the blocks in all, what is mounted or bound over, and of folders the links (a merged one has 1, as with overlayfs; AUFS added
/// those of the branches up) and the size.
fn long_list(text: &str) -> Vec<String> {
    let own = ["dev", "proc", "sys", "hostname", "hosts", "mtab", "resolv.conf"];
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["total", _] => None,
            [mode, links, owner, group, size, _, _, _, name @ ..] => {
                let (links, size) = if mode.starts_with('d') { ("-", "-") } else { (*links, *size) };
                (!own.contains(&name[0])).then(|| [mode, links, owner, group, size, &name.join(" ")].join(" "))
            }
            _ => Some(line.to_owned()),
        }
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn a_container_sees_what_it_saw_under_docker() {
    let Some((root, _place)) = recorded() else { return };
    if no_union(&root) {
        return;
    }
    let seen = root.ok(&["run", "--rm", "busy:committed", "-c", "ls -l / /etc /opt; cat /test4"]);
    assert_eq!(long_list(&seen), long_list(text("run.txt").trim()));
}

fn no_union(root: &Root) -> bool {
    let none = !root.ok(&["info"]).contains(" aufs: works");
    if none {
        require::report_skip("no union in user space here");
    }
    none
}

#[test]
fn containers_of_a_root_of_aufs_run_and_are_committed() {
    let Some((root, _place)) = recorded() else { return };
    if no_union(&root) {
        return;
    }
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
