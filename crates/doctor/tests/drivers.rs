//! What `explain` tells in each driver's own terms.

mod common;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use common::{Entry, Opened, Root, container, image, tar, three_layers, upper};
use strata_archive::diff::{Change, ChangeKind};
use strata_container::Container;
use strata_doctor::{
    Explanation,
    explain::{ContainerExplanation, DriverFact, LayerExplanation, PathExplanation},
};
use strata_graphdriver::Access;
use strata_spec::{CacheId, ImageId, chain_ids};
use strata_sys::xattr;
use strata_testkit::{LoopFs, require};

fn main() {
    strata_unionfs::mount::init();
    strata_testkit::named::run(&[
        ("branches_of_aufs_each_with_the_marks_on_it", branches_of_aufs_each_with_the_marks_on_it),
        ("marks_of_aufs_are_told_from_files", marks_of_aufs_are_told_from_files),
        (
            "hard_links_of_overlay_are_counted_against_the_layer_below",
            hard_links_of_overlay_are_counted_against_the_layer_below,
        ),
        ("a_container_of_overlay_by_its_lower_id", a_container_of_overlay_by_its_lower_id),
        ("subvolumes_as_the_program_btrfs_tells_them", subvolumes_as_the_program_btrfs_tells_them),
        ("the_limit_of_a_subvolume_by_file_and_by_kernel", the_limit_of_a_subvolume_by_file_and_by_kernel),
        ("copies_of_vfs_and_the_bytes_they_share", copies_of_vfs_and_the_bytes_they_share),
        ("links_and_marks_of_fuse_overlayfs", links_and_marks_of_fuse_overlayfs),
        (
            "an_opaque_directory_of_any_spelling_hides_the_layers_below",
            an_opaque_directory_of_any_spelling_hides_the_layers_below,
        ),
        ("marks_of_overlay2", marks_of_overlay2),
        ("text_and_json_tell_the_same", text_and_json_tell_the_same),
        ("what_the_way_out_says_heals_overlay_and_aufs_too", what_the_way_out_says_heals_overlay_and_aufs_too),
    ]);
}

/// A root under `driver`; `None`, with the reason printed, where that does not work.
fn root_of(driver: &'static str) -> Option<Root> {
    require::device_nodes()?;
    match driver {
        "btrfs" => return Some(Root::on(LoopFs::btrfs(256 << 20)?, driver)),
        "overlay" | "overlay2" => require::overlay()?,
        "aufs" | "fuse-overlayfs" if !Path::new("/dev/fuse").exists() => {
            require::report_skip("needs /dev/fuse");
            return None;
        }
        _ => {}
    }
    Some(Root::under(driver))
}

fn of_container(root: &Opened, name: &str) -> ContainerExplanation {
    match root.explain(name) {
        Explanation::Container(found) => found,
        other => panic!("not a container: {other:?}"),
    }
}

/// The `n`th layer of an image, from 1, the base.
fn of_layer(root: &Opened, image: ImageId, n: usize) -> LayerExplanation {
    let config = root.images.get(image).expect("a config");
    let chain = chain_ids(config.diff_ids()).nth(n - 1).expect("a layer");
    match root.explain(&chain.to_string()) {
        Explanation::Layer(found) => found,
        other => panic!("not a layer: {other:?}"),
    }
}

fn of_path(root: &Root, path: &str) -> PathExplanation {
    match root.explain(root.join(path).to_str().expect("text")) {
        Explanation::Path(found) => found,
        other => panic!("not a path: {other:?}"),
    }
}

/// Changes a container's root as its processes would.
fn within(root: &Opened, container: &Container, change: impl FnOnce(&Path)) {
    let mounted = root.containers.mount(container, Access::ReadWrite).expect("mount");
    change(mounted.path());
}

fn cache_ids(root: &Opened, image: ImageId) -> Vec<CacheId> {
    let config = root.images.get(image).expect("a config");
    chain_ids(config.diff_ids()).map(|chain| root.layers.get(chain).expect("a layer").cache_id).collect()
}

fn fact(name: &str, value: impl Into<String>, counts: &[(&'static str, u64)]) -> DriverFact {
    DriverFact { name: name.to_owned(), value: value.into(), counts: counts.iter().copied().collect() }
}

fn counts(facts: &[DriverFact], name: &str) -> BTreeMap<&'static str, u64> {
    facts.iter().find(|fact| fact.name == name).unwrap_or_else(|| panic!("{name}: {facts:?}")).counts.clone()
}

fn value<'a>(facts: &'a [DriverFact], name: &str) -> &'a str {
    &facts.iter().find(|fact| fact.name == name).unwrap_or_else(|| panic!("{name}: {facts:?}")).value
}

fn branches_of_aufs_each_with_the_marks_on_it() {
    let Some(root) = root_of("aufs") else { return };
    let id = image(&root, "made:1", &three_layers());
    let made = container(&root, id, "box");
    let (mount, caches) = (root.layers.mount(&made.id).expect("its layers"), cache_ids(&root, id));
    within(&root, &made, |at| fs::remove_file(at.join("etc/passwd")).expect("remove"));
    // As AUFS leaves them: a file of several names that was copied up, and one that was deleted while it was open.
    for own in [".wh..wh.plnk/1.2", ".wh..wh.plnk/3.4", ".wh..wh.orph/5"] {
        let path = upper(&root, &made).join(own);
        fs::create_dir_all(path.parent().expect("a folder")).expect("create");
        fs::write(path, "").expect("write");
    }
    let marks = |whiteouts, opaque, links, orphans| {
        [("whiteouts", whiteouts), ("opaque_directories", opaque), ("pseudo_links", links), ("orphans", orphans)]
    };
    let branch = |id: &CacheId, access: &str, marks: &[_]| fact("branch", format!("diff/{id}={access}"), marks);
    let init = mount.init_id.expect("an init layer");
    let mut expected = vec![
        branch(&mount.mount_id, "rw", &marks(1, 0, 2, 1)),
        branch(&init, "ro+wh", &marks(0, 0, 0, 0)),
        branch(&caches[2], "ro+wh", &marks(0, 0, 0, 0)),
        branch(&caches[1], "ro+wh", &marks(1, 1, 0, 0)),
        branch(&caches[0], "ro+wh", &marks(0, 0, 0, 0)),
        fact("mount point", format!("mnt/{}, not mounted", mount.mount_id), &[]),
    ];
    let found = of_container(&root, "box");
    assert_eq!((&found.driver, &found.problems), (&expected, &Vec::new()));
    let told = root.explain("box").to_string();
    assert!(told.contains("opaque directories 1, whiteouts 1"), "{told}");
    assert_eq!(told.matches("=ro+wh").count(), 4, "each branch once: {told}");

    within(&root, &made, |_| {
        let found = of_container(&root, "box");
        expected[5].value = format!("mnt/{}, mounted", mount.mount_id);
        // What nobody has open goes when the union is mounted.
        expected[0] = branch(&mount.mount_id, "rw", &marks(1, 0, 2, 0));
        assert_eq!(found.driver, expected);
        assert!(found.mount.expect("a mount").mounted);
    });
    // A layer is never written to.
    let layer = of_layer(&root, id, 2);
    assert_eq!(
        layer.driver[..2],
        [branch(&caches[1], "ro+wh", &marks(1, 1, 0, 0)), branch(&caches[0], "ro+wh", &marks(0, 0, 0, 0))]
    );

    fs::write(root.join(format!("aufs/layers/{}", mount.mount_id)), "").expect("truncate");
    let found = of_container(&root, "box");
    assert!(found.problems.iter().any(|problem| problem.path.starts_with("aufs/layers/")), "{:?}", found.problems);
}

fn marks_of_aufs_are_told_from_files() {
    let Some(root) = root_of("aufs") else { return };
    let id = image(&root, "made:1", &three_layers());
    let layer = &cache_ids(&root, id)[1];
    for (path, what, inside) in [
        ("etc/.wh.motd", "a whiteout, which deletes /etc/motd of the layers below", Some("/etc/motd")),
        (
            "opt/old/.wh..wh..opq",
            "an opaque mark, which hides what the layers below have in /opt/old",
            Some("/opt/old"),
        ),
        (".wh..wh.plnk", "AUFS's own bookkeeping", None),
        ("etc/passwd", "a file of layer", Some("/etc/passwd")),
    ] {
        let found = of_path(&root, &format!("aufs/diff/{layer}/{path}"));
        assert!(found.what.starts_with(what), "{path}: {}", found.what);
        assert_eq!(found.inside.as_deref(), inside, "{path}");
    }
}

fn hard_links_of_overlay_are_counted_against_the_layer_below() {
    let Some(root) = root_of("overlay") else { return };
    let id = image(&root, "made:1", &three_layers());
    let caches = cache_ids(&root, id);
    // The second layer writes one file anew, deletes one and replaces a folder of one: one of its three is the base layer's.
    let linked = |n: usize, files, linked, shared: Option<u64>| {
        let mut counts = vec![("files", files), ("linked", linked)];
        counts.extend(shared.map(|shared| ("shared_with_layer_below", shared)));
        fact("hard links", format!("{}/root", caches[n - 1]), &counts)
    };
    assert_eq!(of_layer(&root, id, 1).driver, [linked(1, 4, 1, None)]);
    assert_eq!(of_layer(&root, id, 2).driver, [linked(2, 3, 3, Some(1))]);
    assert_eq!(of_layer(&root, id, 3).driver, [linked(3, 4, 3, Some(3))]);
    let told = Explanation::Layer(of_layer(&root, id, 3)).to_string();
    assert!(told.contains("files 4, linked 3, shared with layer below 3"), "{told}");
}

fn a_container_of_overlay_by_its_lower_id() {
    let Some(root) = root_of("overlay") else { return };
    let id = image(&root, "made:1", &three_layers());
    let made = container(&root, id, "box");
    let mount = root.layers.mount(&made.id).expect("its layers").mount_id;
    within(&root, &made, |at| {
        fs::remove_file(at.join("etc/passwd")).expect("remove");
        fs::remove_dir_all(at.join("usr/bin")).expect("remove");
        fs::create_dir(at.join("usr/bin")).expect("create");
    });
    let marks = [("whiteouts", 1), ("opaque_directories", 1), ("redirects", 0), ("metadata_only", 0)];
    let expected = [
        fact("lower-id", cache_ids(&root, id)[2].as_str(), &[]),
        fact("upper", format!("{mount}/upper"), &marks),
        fact("work", format!("{mount}/work"), &[]),
        fact("merged", format!("{mount}/merged, not mounted"), &[]),
    ];
    let found = of_container(&root, "box");
    assert_eq!((&found.driver[..], &found.problems[..]), (&expected[..], &[][..]));
    within(&root, &made, |_| {
        assert_eq!(value(&of_container(&root, "box").driver, "merged"), format!("{mount}/merged, mounted"));
    });
    let file = root.join(format!("overlay/{mount}/lower-id"));
    for (damage, reason) in [("", "empty, as after a power cut"), ("nonsense", "does not hold a folder's name")] {
        fs::write(&file, damage).expect("damage");
        let found = of_container(&root, "box");
        assert!(value(&found.driver, "lower-id").contains(reason), "{:?}", found.driver);
        let problem = found.problems.iter().find(|problem| problem.path.ends_with("/lower-id")).expect("a problem");
        assert!(
            problem.reason.contains(reason) && problem.reason.contains("tells how to write it anew"),
            "{problem:?}"
        );
    }
}

/// `Name: value` lines of the program `btrfs`.
fn told_by_btrfs(path: &Path) -> Option<BTreeMap<String, String>> {
    let output = Command::new(require::program("btrfs")?).args(["subvolume", "show"]).arg(path).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    Some(text.lines().filter_map(pair).collect())
}

fn subvolumes_as_the_program_btrfs_tells_them() {
    let Some(root) = root_of("btrfs") else { return };
    let id = image(&root, "made:1", &three_layers());
    let made = container(&root, id, "box");
    let caches = cache_ids(&root, id);
    let mount = root.layers.mount(&made.id).expect("its layers");
    let folder = upper(&root, &made);
    let Some(before) = told_by_btrfs(&folder) else { return };
    let found = of_container(&root, "box").driver;
    assert_eq!(value(&found, "subvolume"), before["Subvolume ID"]);
    assert_eq!(value(&found, "generation"), before["Generation"]);
    assert_eq!(value(&found, "parent subvolume"), mount.init_id.expect("an init layer").as_str());
    assert_eq!(value(&found, "limit"), "none");
    fs::write(folder.join("new"), "new").expect("write");
    root.layers.driver().sync().expect("sync");
    let generation = |facts: &[DriverFact]| value(facts, "generation").parse::<u64>().expect("a number");
    let later = of_container(&root, "box").driver;
    assert!(generation(&later) > generation(&found), "{later:?}");
    assert_eq!(value(&later, "generation"), told_by_btrfs(&folder).expect("again")["Generation"]);

    assert_eq!(value(&of_layer(&root, id, 3).driver, "parent subvolume"), caches[1].as_str());
    assert_eq!(value(&of_layer(&root, id, 1).driver, "parent subvolume"), "none: it began empty");
    let ids: Vec<String> = (1..=3).map(|n| value(&of_layer(&root, id, n).driver, "subvolume").to_owned()).collect();
    for (cache, id) in caches.iter().zip(&ids) {
        let path = root.join(format!("btrfs/subvolumes/{cache}"));
        assert_eq!(&told_by_btrfs(&path).expect("told")["Subvolume ID"], id);
    }
}

fn the_limit_of_a_subvolume_by_file_and_by_kernel() {
    let Some(root) = root_of("btrfs") else { return };
    let id = image(&root, "made:1", &three_layers());
    let made = container(&root, id, "box");
    let mount = root.layers.mount(&made.id).expect("its layers").mount_id;
    let driver = root.layers.driver();
    driver.limit(&mount, 64 << 20).expect("limit");
    fs::write(upper(&root, &made).join("new"), [7; 100_000]).expect("write");
    driver.sync().expect("sync");
    let limit = || of_container(&root, "box").driver.iter().find(|fact| fact.name == "limit").expect("told").clone();
    let (found, file) = (limit(), root.join(format!("btrfs/quotas/{mount}")));
    assert_eq!(found.value, format!("67108864 bytes (quotas/{mount})"));
    let exclusive = found.counts["bytes_exclusive"];
    assert!((100_000..1 << 20).contains(&exclusive), "its own file and what the kernel keeps of it: {exclusive}");
    assert!(found.counts["bytes_referenced"] >= exclusive);
    // As the program tells it.
    let Some(btrfs) = require::program("btrfs") else { return };
    let output = Command::new(btrfs).args(["qgroup", "show", "-r", "--raw"]).arg(root.path()).output().expect("runs");
    let group = format!("0/{}", value(&of_container(&root, "box").driver, "subvolume"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.trim_start().starts_with(&group)).expect("its group");
    let numbers = format!("{} {} 67108864", found.counts["bytes_referenced"], exclusive);
    assert!(line.split_whitespace().collect::<Vec<_>>().join(" ").contains(&numbers), "{line}: {numbers}");

    fs::write(&file, "1048576").expect("write");
    assert_eq!(limit().value, format!("1048576 bytes (quotas/{mount}); until it is mounted 67108864"));
    fs::write(&file, "many").expect("write");
    assert!(limit().value.contains("does not hold a number of bytes"), "{}", limit().value);
    fs::remove_file(&file).expect("remove");
    let subvolume = group.trim_start_matches("0/");
    assert_eq!(limit().value, format!("67108864 bytes, by quota group 0/{subvolume} alone"));
}

fn copies_of_vfs_and_the_bytes_they_share() {
    let big: &'static str = Box::leak("0123456789abcdef".repeat(65536).into_boxed_str());
    let layers = [tar(&[Entry::File("big", big), Entry::File("small", "12345")]), tar(&[Entry::File("more", "123")])];
    // Where files share blocks.
    if let Some(fs) = require::device_nodes().and_then(|()| LoopFs::btrfs(256 << 20)) {
        let root = Root::on(fs, "vfs");
        let id = image(&root, "made:1", &layers);
        let made = container(&root, id, "box");
        root.layers.driver().sync().expect("sync");
        let shared = |facts: &[DriverFact]| counts(facts, "plain folder")["bytes_shared"];
        let layer = of_layer(&root, id, 2);
        let expected = [("bytes", (1 << 20) + 8), ("bytes_shared", 1 << 20), ("files", 3)];
        assert_eq!(layer.driver, [fact("plain folder", format!("dir/{}", cache_ids(&root, id)[1]), &expected)]);
        assert_eq!(shared(&of_container(&root, "box").driver), 1 << 20);
        within(&root, &made, |at| fs::write(at.join("big"), big).expect("write"));
        root.layers.driver().sync().expect("sync");
        assert_eq!(shared(&of_container(&root, "box").driver), 0, "written anew");
        assert_eq!(shared(&layer.driver), 1 << 20);
    }
    let Some(fs) = require::device_nodes().and_then(|()| LoopFs::ext4(64 << 20)) else { return };
    let root = Root::on(fs, "vfs");
    let id = image(&root, "made:1", &layers);
    root.layers.driver().sync().expect("sync");
    let expected = [("bytes", (1 << 20) + 8), ("bytes_shared", 0), ("files", 3)];
    assert_eq!(counts(&of_layer(&root, id, 2).driver, "plain folder"), expected.into());
    let told = Explanation::Layer(of_layer(&root, id, 2)).to_string();
    assert!(told.contains("bytes 1048584, bytes shared 0, files 3"), "{told}");
}

fn links_and_marks_of_fuse_overlayfs() {
    let Some(root) = root_of("fuse-overlayfs") else { return };
    let id = image(&root, "made:1", &three_layers());
    let made = container(&root, id, "box");
    let mount = root.layers.mount(&made.id).expect("its layers").mount_id;
    within(&root, &made, |at| {
        fs::remove_file(at.join("etc/passwd")).expect("remove");
        fs::remove_dir_all(at.join("usr")).expect("remove");
        fs::create_dir(at.join("usr")).expect("create");
    });
    let found = of_container(&root, "box");
    let marks = |whiteouts, opaque| {
        [("whiteouts", whiteouts), ("opaque_directories", opaque), ("redirects", 0), ("metadata_only", 0)]
    };
    let expected = [
        fact("upper", format!("{mount}/diff"), &marks(1, 1)),
        fact("work", format!("{mount}/work"), &[]),
        fact("merged", format!("{mount}/merged, not mounted"), &[]),
    ];
    assert_eq!((&found.driver[..], &found.problems[..]), (&expected[..], &[][..]));
    // Layers have AUFS's marks.
    let layer = of_layer(&root, id, 2);
    assert_eq!(layer.driver, [fact("marks", format!("{}/diff", cache_ids(&root, id)[1]), &marks(1, 1))]);
    let link = fs::read_to_string(root.join(format!("fuse-overlayfs/{}/link", cache_ids(&root, id)[1]))).expect("read");
    assert_eq!(layer.facts.link.value.as_deref(), Some(&*link));
    let line = found.mount.expect("a mount");
    assert!(
        line.line.starts_with("fuse-overlayfs -o lowerdir=l/") && line.lowerdir.contains(&format!("l/{link}")),
        "{line:?}"
    );
    within(&root, &made, |_| {
        let live = of_container(&root, "box").mount.expect("a mount");
        assert!(live.mounted && live.lowerdir == line.lowerdir, "{live:?}");
    });
    let mark = of_path(&root, &format!("fuse-overlayfs/{}/diff/etc/.wh.motd", cache_ids(&root, id)[1]));
    assert!(mark.what.starts_with("a whiteout, which deletes /etc/motd"), "{}", mark.what);
}

/// The program fuse-overlayfs writes one of these marks, by its version and rights; `diff` and `export` see all of them.
fn an_opaque_directory_of_any_spelling_hides_the_layers_below() {
    let Some(root) = root_of("fuse-overlayfs") else { return };
    let id = image(&root, "made:1", &three_layers());
    let attributes = ["trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"];
    let marks = attributes.into_iter().chain([".wh..wh..opq", ".wh..opq"]);
    for (number, mark) in marks.enumerate() {
        let name = format!("box{number}");
        let made = container(&root, id, &name);
        let usr = upper(&root, &made).join("usr");
        fs::create_dir(&usr).expect("create");
        match attributes.contains(&mark) {
            true => xattr::set(&usr, mark, b"y").expect("mark"),
            false => fs::write(usr.join(mark), "").expect("mark"),
        }
        let Explanation::File(found) = root.explain(&format!("{name}:/usr/bin/tool")) else { panic!("not a file") };
        assert_eq!(found.provided_by, None, "{mark}: {}", found.verdict);
        let below = found.layers.last().and_then(|says| says.hidden.as_ref()).expect("hidden");
        assert_eq!((below.by, below.at.as_str()), (1, "/usr"), "{mark}");
        let changes = root.containers.changes(&made).expect("changes");
        let deleted = |change: &&Change| change.kind == ChangeKind::Deleted && change.path == Path::new("/usr/bin");
        assert!(changes.iter().any(|change| deleted(&change)), "{mark}: {changes:?}");
    }
}

fn marks_of_overlay2() {
    let Some(root) = root_of("overlay2") else { return };
    let id = image(&root, "made:1", &three_layers());
    let made = container(&root, id, "box");
    let own = upper(&root, &made);
    // As a kernel writes them whose mounts allow it.
    fs::create_dir(own.join("moved")).expect("create");
    strata_sys::xattr::set(own.join("moved"), "trusted.overlay.redirect", b"/usr").expect("set");
    fs::write(own.join("changed"), "").expect("write");
    strata_sys::xattr::set(own.join("changed"), "trusted.overlay.metacopy", b"").expect("set");
    let marks = |whiteouts, opaque, redirects, metadata_only| {
        [
            ("whiteouts", whiteouts),
            ("opaque_directories", opaque),
            ("redirects", redirects),
            ("metadata_only", metadata_only),
        ]
    };
    assert_eq!(counts(&of_container(&root, "box").driver, "upper"), marks(0, 0, 1, 1).into());
    let layer = of_layer(&root, id, 2);
    assert_eq!(layer.driver, [fact("marks", format!("{}/diff", cache_ids(&root, id)[1]), &marks(1, 1, 0, 0))]);
}

fn text_and_json_tell_the_same() {
    for driver in strata_graphdriver::DRIVERS {
        let Some(root) = root_of(driver) else { continue };
        let id = image(&root, "made:1", &three_layers());
        container(&root, id, "box");
        let layer = of_layer(&root, id, 2).facts.chain_id.value.expect("known").to_string();
        for name in ["box", &layer] {
            let explanation = root.explain(name);
            let (text, json) = (explanation.to_string(), serde_json::to_value(&explanation).expect("JSON"));
            let facts = json["driver"].as_array().unwrap_or_else(|| panic!("{driver} tells nothing of {name}"));
            for fact in facts {
                let (name, value) = (fact["name"].as_str().expect("text"), fact["value"].as_str().expect("text"));
                let tells = |line: &&str| line.trim_start().starts_with(name) && line.contains(value);
                let line = text.lines().find(tells).unwrap_or_else(|| panic!("{driver}: {name} {value} in {text}"));
                for (name, count) in fact["counts"].as_object().into_iter().flatten().filter(|(_, n)| **n != 0) {
                    assert!(line.contains(&format!("{} {count}", name.replace('_', " "))), "{name} {count}: {line}");
                }
            }
        }
    }
}

fn what_the_way_out_says_heals_overlay_and_aufs_too() {
    for driver in ["overlay", "aufs"] {
        let Some(root) = root_of(driver) else { continue };
        let id = image(&root, "made:1", &three_layers());
        let made = container(&root, id, "box");
        let (mount, caches) = (root.layers.mount(&made.id).expect("its layers"), cache_ids(&root, id));
        let (own, init) = (mount.mount_id, mount.init_id.expect("an init layer"));
        let files = match driver {
            "overlay" => vec![format!("{own}/lower-id"), format!("{init}/lower-id"), format!("{own}/work")],
            _ => [&own, &init, &caches[2], &caches[0]].iter().map(|id| format!("layers/{id}")).collect(),
        };
        let findings = || strata_doctor::check(&root.stores(), strata_doctor::Depth::Contents).findings;
        assert_eq!(findings(), [], "{driver}");
        for file in files {
            let path = root.join(driver).join(&file);
            match path.is_dir() {
                true => fs::remove_dir_all(&path).expect("remove"),
                false => fs::write(&path, "\u{1}damage\n").expect("damage"),
            }
            let found = findings();
            let shown = format!("{driver}/{file}");
            let finding =
                found.iter().find(|finding| finding.path == shown).unwrap_or_else(|| panic!("{shown}: {found:#?}"));
            let command = finding.remedy.strip_prefix("no content is lost: ").unwrap_or_else(|| panic!("{finding:#?}"));
            let status = Command::new("sh").arg("-c").arg(command).status().expect("sh runs");
            assert!(status.success(), "{command}");
            assert_eq!(findings(), [], "after {command}");
        }
        within(&root, &made, |at| assert!(at.join("srv/data").exists(), "{driver}"));
    }
}
