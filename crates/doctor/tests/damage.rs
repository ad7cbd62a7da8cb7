//! Damage of every kind is found, named, and hides nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use common::*;
use proptest::prelude::*;
use strata_container::Container;
use strata_doctor::{
    Depth, Report, check,
    check::{Finding, Object, Severity},
    explain,
};
use strata_spec::{ChainId, ImageId, chain_ids};
use strata_testkit::require;

struct Made {
    root: Root,
    image: ImageId,
    container: Container,
    chains: Vec<ChainId>,
}

fn made() -> Made {
    let root = Root::new();
    let image = image(&root, "made:1", &three_layers());
    let container = container(&root, image, "box");
    let chains = chain_ids(root.images.get(image).unwrap().diff_ids()).collect();
    Made { root, image, container, chains }
}

impl Made {
    fn check(&self, depth: Depth) -> Report {
        check(&self.root.stores(), depth)
    }

    /// The findings, once `change` was made; the root is as before when this returns.
    fn after(&self, depth: Depth, path: &str, change: fn(&Path)) -> Vec<Finding> {
        let path = self.root.join(path);
        let aside = self.root.path().parent().unwrap().join("aside");
        let status = std::process::Command::new("cp").arg("-a").arg(&path).arg(&aside).status();
        assert!(status.is_ok_and(|status| status.success()), "{}", path.display());
        change(&path);
        let report = self.check(depth);
        remove(&path);
        let status = std::process::Command::new("mv").arg("-T").arg(&aside).arg(&path).status();
        assert!(status.is_ok_and(|status| status.success()));
        // Whatever is damaged, everything can still be explained, or says why not.
        report.findings
    }

    fn folder(&self, n: usize) -> String {
        format!("overlay2/{}", self.root.layers.get(self.chains[n]).unwrap().cache_id)
    }

    fn mount(&self) -> String {
        format!("overlay2/{}", self.root.layers.mount(&self.container.id).unwrap().mount_id)
    }

    fn link_of(&self, folder: &str) -> String {
        format!("overlay2/l/{}", fs::read_to_string(self.root.join(folder).join("link")).unwrap())
    }
}

fn remove(path: &Path) {
    let kind = path.symlink_metadata();
    match kind {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

fn empty(path: &Path) {
    fs::write(path, "").unwrap();
}

fn garbage(path: &Path) {
    fs::write(path, b"\xff\x00garbage").unwrap();
}

#[test]
fn a_sound_root_is_sound() {
    let Some(()) = require::device_nodes() else { return };
    let made = made();
    for depth in [Depth::Metadata, Depth::Contents] {
        let report = made.check(depth);
        assert_eq!(report.findings, [], "{report}");
        assert!(report.is_sound());
        assert_eq!((report.layers, report.images, report.containers), (3, 1, 1));
        assert!(report.to_string().ends_with("3 layers, 1 images, 1 containers: sound\n"), "{report}");
    }
    assert_eq!(check(&Root::new().stores(), Depth::Contents).findings, []);
}

#[test]
fn each_damaged_file_has_its_finding() {
    let Some(()) = require::device_nodes() else { return };
    let made = made();
    let (layer, image) = (Object::Layer(made.chains[1]), Object::Image(made.image));
    let container = Object::Container(made.container.id.clone());
    let (folder, mount) = (made.folder(1), made.mount());
    let init = format!("{mount}-init");
    let record = format!("image/overlay2/layerdb/sha256/{}", made.chains[1].hex());
    let mount_record = format!("image/overlay2/layerdb/mounts/{}", made.container.id);
    let config = format!("image/overlay2/imagedb/content/sha256/{}", made.image.hex());
    let containers = format!("containers/{}", made.container.id);
    let (link, mount_link) = (made.link_of(&folder), made.link_of(&mount));
    type Change = fn(&Path);
    let all: &[Change] = &[remove, empty, garbage];
    let written: &[Change] = &[empty, garbage];
    let cases: Vec<(String, &Object, &[Change])> = vec![
        (format!("{record}/diff"), &layer, all),
        (format!("{record}/cache-id"), &layer, all),
        (format!("{record}/size"), &layer, all),
        (format!("{record}/parent"), &layer, written),
        (format!("{record}/tar-split.json.gz"), &layer, &[remove, empty]),
        (format!("{folder}/link"), &layer, all),
        (format!("{folder}/lower"), &layer, all),
        (format!("{folder}/diff"), &layer, &[remove]),
        (format!("{folder}/work"), &layer, &[remove]),
        (folder.clone(), &layer, &[remove]),
        (link, &layer, &[remove]),
        (format!("{mount_record}/mount-id"), &container, all),
        (format!("{mount_record}/init-id"), &container, written),
        (format!("{mount_record}/parent"), &container, written),
        (mount_record, &container, &[remove]),
        (format!("{mount}/link"), &container, all),
        (format!("{mount}/lower"), &container, all),
        (format!("{init}/lower"), &container, all),
        (mount_link, &container, &[remove]),
        (mount, &container, &[remove]),
        (format!("{containers}/config.v2.json"), &container, all),
        (format!("{containers}/hostconfig.json"), &container, written),
        (config, &image, written),
        ("image/overlay2/repositories.json".into(), &Object::Names, written),
    ];
    for (path, object, changes) in cases {
        for (n, change) in changes.iter().enumerate() {
            let findings = made.after(Depth::Metadata, &path, *change);
            let errors: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
            // What stands on a damaged file may be found too; the file itself always, once, and as its object's.
            let own: Vec<_> =
                errors.iter().filter(|finding| finding.path == path).map(|finding| &finding.object).collect();
            assert_eq!(own, [object], "{path} changed by {n}: {findings:#?}");
            assert!(errors.iter().all(|finding| !finding.reason.is_empty() && !finding.remedy.is_empty()));
        }
    }
    assert_eq!(made.check(Depth::Contents).findings, [], "all was put back");
}

#[test]
fn a_lost_record_or_config_is_found_at_what_names_it() {
    let Some(()) = require::device_nodes() else { return };
    let made = made();
    let record = format!("image/overlay2/layerdb/sha256/{}", made.chains[1].hex());
    let findings = made.after(Depth::Metadata, &record, remove);
    let names: Vec<&Object> = findings.iter().map(|finding| &finding.object).collect();
    assert!(
        names.contains(&&Object::Layer(made.chains[2])) && names.contains(&&Object::Image(made.image)),
        "{findings:#?}"
    );
    let config = format!("image/overlay2/imagedb/content/sha256/{}", made.image.hex());
    let findings = made.after(Depth::Metadata, &config, remove);
    let names: Vec<&Object> = findings.iter().map(|finding| &finding.object).collect();
    assert_eq!(names, [&Object::Name("made:1".into()), &Object::Container(made.container.id.clone())], "{findings:#?}");
    assert_eq!(findings[1].severity, Severity::Warning);
}

#[test]
fn what_the_way_out_says_heals() {
    let Some(()) = require::device_nodes() else { return };
    let made = made();
    let (folder, mount) = (made.folder(1), made.mount());
    let paths = [format!("{folder}/link"), format!("{folder}/lower"), format!("{folder}/work"), made.link_of(&folder)];
    let more = [format!("{mount}/link"), format!("{mount}/lower"), format!("{mount}-init/lower"), made.link_of(&mount)];
    for path in paths.into_iter().chain(more) {
        let path = made.root.join(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            remove(&path);
        }
        let report = made.check(Depth::Metadata);
        let shown = path.strip_prefix(made.root.path()).unwrap().display().to_string();
        let finding = report.findings.iter().find(|finding| finding.path == shown).expect("it is found");
        let command = finding.remedy.strip_prefix("no content is lost: ");
        let command = command.unwrap_or_else(|| panic!("{report}"));
        let status = std::process::Command::new("sh").arg("-c").arg(command).status().unwrap();
        assert!(status.success(), "{command}");
        assert_eq!(made.check(Depth::Contents).findings, [], "after {command}");
    }
}

#[test]
fn changed_contents_are_named_file_by_file() {
    let Some(()) = require::device_nodes() else { return };
    let made = made();
    let folder = made.folder(0);
    for (path, change) in [
        ("diff/etc/passwd", remove as fn(&Path)),
        ("diff/etc/passwd", empty),
        ("diff/etc/passwd", garbage),
        ("diff/usr/bin/tool", |path| fs::write(path, "tool 2").unwrap()),
        ("diff/usr/bin/tool", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).unwrap()),
        ("diff/usr/bin/tool", |path| chown(path, Some(7), None).unwrap()),
        ("diff/bin", remove),
        ("diff/bin", |path| {
            remove(path);
            std::os::unix::fs::symlink("sbin", path).unwrap();
        }),
        ("diff/bin", |path| {
            remove(path);
            fs::create_dir(path).unwrap();
        }),
    ] {
        let path = format!("{folder}/{path}");
        assert_eq!(made.after(Depth::Metadata, &path, change), []);
        let findings = made.after(Depth::Contents, &path, change);
        let [finding] = &findings[..] else { panic!("{path}: {findings:#?}") };
        assert_eq!((&finding.path, &finding.object), (&path, &Object::Layer(made.chains[0])));
        assert_eq!(finding.affects, ["image made:1", "container box"]);
    }
    let folder = made.folder(1);
    for (path, reason, change) in [
        ("diff/etc/motd", "the whiteout is gone", remove as fn(&Path)),
        ("diff/opt/old", "not opaque", |path| strata_sys::xattr::remove(path, "trusted.overlay.opaque").unwrap()),
    ] {
        let path = format!("{folder}/{path}");
        let findings = made.after(Depth::Contents, &path, change);
        assert_eq!(findings.len(), 1, "{path}: {findings:#?}");
        assert!(findings[0].path == path && findings[0].reason.contains(reason), "{findings:#?}");
    }
    let path = format!("image/overlay2/layerdb/sha256/{}/tar-split.json.gz", made.chains[0].hex());
    let findings = made.after(Depth::Contents, &path, garbage);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].path, path);
}

#[test]
fn what_is_left_over_is_a_warning() {
    let Some(()) = require::device_nodes() else { return };
    let made = made();
    let root = &made.root;
    let orphan = "ab".repeat(32);
    fs::create_dir_all(root.join("overlay2").join(&orphan).join("diff")).unwrap();
    std::os::unix::fs::symlink(format!("../{}/diff", "cd".repeat(32)), root.join("overlay2/l").join("A".repeat(26)))
        .unwrap();
    fs::write(root.join("strata/journal/0123"), "{\"op\":\"layer.unpack\"}\n").unwrap();
    fs::create_dir_all(root.join("image/overlay2/layerdb/tmp/write-set-1")).unwrap();
    fs::create_dir_all(root.join("strata/tmp/removed-x")).unwrap();
    fs::create_dir_all(root.join("containers/what")).unwrap();
    fs::create_dir_all(root.join("strata/damaged/x")).unwrap();
    let report = made.check(Depth::Contents);
    assert!(report.is_sound(), "{report}");
    let mut paths: Vec<&str> = report.findings.iter().map(|finding| finding.path.as_str()).collect();
    paths.sort_unstable();
    let mut wanted = vec![
        "containers/what".to_owned(),
        "image/overlay2/layerdb/tmp/write-set-1".to_owned(),
        format!("overlay2/{orphan}"),
        format!("overlay2/l/{}", "A".repeat(26)),
        "strata/damaged/x".to_owned(),
        "strata/journal/0123".to_owned(),
        "strata/tmp/removed-x".to_owned(),
    ];
    wanted.sort_unstable();
    assert_eq!(paths, wanted);
    assert!(report.to_string().contains("sound; 7 warnings"), "{report}");
}

#[test]
fn what_live_operations_hold_is_passed_over() {
    let Some(()) = require::device_nodes() else { return };
    let made = made();
    let journal = strata_durable::Journal::open(&made.root.join("strata/journal")).unwrap();
    let name = "ef".repeat(32);
    let intent = journal.begin(&serde_json::json!({"op": "container.create", "container": name})).unwrap();
    let folder = strata_durable::NewDir::begin(&made.root.join("image/overlay2/layerdb/tmp"), 0o700).unwrap();
    fs::create_dir_all(made.root.join("containers").join(&name)).unwrap();
    fs::write(made.root.join("containers").join(&name).join("config.v2.json"), made.container.record.to_bytes())
        .unwrap();
    let report = made.check(Depth::Metadata);
    // Its record is another's, which is told; that it has no layers yet is not.
    assert_eq!(report.findings.len(), 1, "{report}");
    assert!(report.findings[0].path.ends_with("config.v2.json"));
    drop((intent, folder));
}

#[test]
fn mounts_that_nobody_needs_are_found() {
    let (Some(()), Some(())) = (require::device_nodes(), require::overlay()) else { return };
    let made = made();
    let mounted = made.root.containers.mount(&made.container, strata_graphdriver::Access::ReadWrite).unwrap();
    assert_eq!(made.check(Depth::Metadata).findings, [], "a command uses it");
    let target = mounted.keep();
    let findings = made.check(Depth::Metadata).findings;
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!((&findings[0].object, findings[0].severity), (&Object::Mount, Severity::Warning));
    strata_sys::mount::unmount(&target).unwrap();
}

#[test]
fn damage_is_part_of_what_is_explained() {
    let Some(()) = require::device_nodes() else { return };
    let made = made();
    let folder = made.folder(1);
    empty(&made.root.join(format!("{folder}/link")));
    let text = made.root.explain("made:1").to_string();
    assert!(text.contains("DAMAGED: the file is empty, as after a power cut"), "{text}");
    assert!(text.contains(&format!("{folder}/link: the file is empty")), "{text}");
    let config = made.root.join(format!("image/overlay2/imagedb/content/sha256/{}", made.image.hex()));
    garbage(&config);
    let text = made.root.explain("made:1").to_string();
    assert!(text.contains("Damage") && text.contains("imagedb/content"), "{text}");
    remove(&made.root.join(format!("containers/{}/config.v2.json", made.container.id)));
    let text = made.root.explain(made.container.id.short()).to_string();
    assert!(text.contains("config.v2.json: the file is missing"), "{text}");
    // Without the layer's record the driver's own files still tell where the container's files are.
    fs::remove_dir_all(made.root.join(format!("image/overlay2/layerdb/sha256/{}", made.chains[0].hex()))).unwrap();
    fs::write(made.root.join(format!("{folder}/link")), &made.link_of(&folder)["overlay2/l/".len()..]).unwrap();
    let text = made.root.explain(&format!("{}:/usr/bin/tool", made.container.id)).to_string();
    assert!(text.contains("comes from layer 5"), "{text}");
}

/// Every small file of the root.
fn small_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() || kind.is_symlink() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

#[derive(Clone, Debug)]
enum Mutation {
    Remove,
    Bytes(Vec<u8>),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Directory,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        Just(Mutation::Remove),
        prop::collection::vec(any::<u8>(), 0..80).prop_map(Mutation::Bytes),
        (any::<prop::sample::Index>(), 1_u8..).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        any::<prop::sample::Index>().prop_map(Mutation::Cut),
        Just(Mutation::Directory),
    ]
}

fn mutate(path: &Path, mutation: &Mutation) {
    let old = fs::read(path).unwrap_or_default();
    remove(path);
    match mutation {
        Mutation::Remove => {}
        Mutation::Bytes(bytes) => fs::write(path, bytes).unwrap(),
        Mutation::Flip(_, _) | Mutation::Cut(_) if old.is_empty() => fs::write(path, "x").unwrap(),
        Mutation::Flip(at, bits) => {
            let mut bytes = old;
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            fs::write(path, bytes).unwrap();
        }
        Mutation::Cut(at) => fs::write(path, &old[..at.index(old.len())]).unwrap(),
        Mutation::Directory => fs::create_dir(path).unwrap(),
    }
}

#[test]
fn no_damage_panics() {
    let Some(()) = require::device_nodes() else { return };
    let config = ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() };
    let strategy = prop::collection::vec((any::<prop::sample::Index>(), mutation()), 1..4);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let tried = runner.run(&strategy, |mutations| {
        let made = made();
        let files = small_files(made.root.path());
        for (which, mutation) in &mutations {
            mutate(&files[which.index(files.len())], mutation);
        }
        let stores = made.root.stores();
        let report = check(&stores, Depth::Contents);
        let _ = (report.to_string(), serde_json::to_string(&report).unwrap());
        let objects = ["made:1".to_owned(), "box".into(), "box:/etc/passwd".into(), made.chains[1].to_string()];
        let paths = files.iter().map(|path| path.display().to_string());
        for text in objects.into_iter().chain(paths) {
            if let Ok(found) = explain(&stores, &text) {
                let _ = (found.to_string(), serde_json::to_string(&found).unwrap());
            }
        }
        Ok(())
    });
    tried.unwrap();
}
