//! Creating, naming, finding, listing, importing and removing images, in Docker's words and on Docker's paths.

mod common;

use std::{fs, os::unix::fs::PermissionsExt};

use common::*;
use strata_image::{import, tags::Previous, verify::Object};
use strata_spec::{ErrorKind, ImageConfig, config::RunConfig};

const TWO: &str = "app:2";

fn loaded() -> Option<Root> {
    let root = root()?;
    root.load(&docker_archive(&[("app:1", &[layer(1)]), (TWO, &[layer(1), layer(2)])])).expect("load");
    Some(root)
}

#[test]
fn files_have_dockers_names_and_modes() {
    let Some(root) = loaded() else { return };
    let id = root.id_of("app:1");
    root.store.set_parent(root.id_of(TWO), Some(id)).expect("set");
    root.store.set_last_updated(id).expect("set");
    let image = root.scratch.join("image/overlay2");
    for (path, mode) in [
        ("".to_owned(), 0o700),
        ("imagedb".into(), 0o700),
        ("imagedb/content/sha256".into(), 0o700),
        (format!("imagedb/content/sha256/{}", id.hex()), 0o600),
        (format!("imagedb/metadata/sha256/{}", id.hex()), 0o700),
        (format!("imagedb/metadata/sha256/{}/lastUpdated", id.hex()), 0o600),
        ("repositories.json".into(), 0o600),
    ] {
        let found = fs::metadata(image.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{path}");
    }
    let parent = fs::read_to_string(root.store.layout().parent(root.id_of(TWO))).expect("read");
    assert_eq!(parent, id.to_string());
    let names = fs::read_to_string(image.join("repositories.json")).expect("read");
    let two = root.id_of(TWO);
    assert_eq!(names, format!(r#"{{"Repositories":{{"app":{{"app:1":"{id}","app:2":"{two}"}}}}}}"#));
}

#[test]
fn a_name_is_found_as_docker_finds_it() {
    let Some(root) = loaded() else { return };
    let (one, two) = (root.id_of("app:1"), root.id_of(TWO));
    let digest = format!("app@{}", strata_spec::Digest::sha256("a manifest"));
    root.store.tags().set(&reference(&digest), two, false).expect("set");
    // A name that could be an ID goes before the ID.
    let hex: String = one.hex().chars().take(4).collect();
    root.store.tags().set(&reference(&hex), two, false).expect("set");
    for (name, id) in [
        ("app:1".to_owned(), one),
        ("docker.io/library/app:1".into(), one),
        (digest.clone(), two),
        (one.hex(), one),
        (one.to_string(), one),
        (one.short(), one),
        (format!("sha256:{}", one.short()), one),
        (hex, two),
    ] {
        assert_eq!(root.store.resolve(&name).unwrap_or_else(|error| panic!("{name}: {error}")), id, "{name}");
    }
    for (name, text) in [
        ("app", "No such image: app:latest".to_owned()),
        ("nosuch:1", "No such image: nosuch:1".into()),
        ("sha256:0000", "No such image: sha256:0000".into()),
        (&"0".repeat(64), format!("No such image: sha256:{}", "0".repeat(64))),
    ] {
        let error = root.store.resolve(name).expect_err(name);
        assert_eq!(error.to_string(), text);
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    let error = root.store.resolve("A B").expect_err("no reference");
    assert!(error.to_string().contains("invalid reference format"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn the_beginning_of_two_ids_says_so() {
    let Some(root) = root() else { return };
    // More images than hexadecimal digits: two begin alike.
    let files: Vec<_> = (0..17).map(|n| (format!("app:{n}"), [layer(1), layer(10 + n)])).collect();
    let images: Vec<_> = files.iter().map(|(tag, layers)| (tag.as_str(), &layers[..])).collect();
    root.load(&docker_archive(&images)).expect("load");
    let ids = root.store.list().expect("list");
    let digit =
        (0..16).map(|n| format!("{n:x}")).find(|digit| ids.iter().filter(|id| id.hex().starts_with(digit)).count() > 1);
    let digit = digit.expect("17 images, 16 digits");
    let error = root.store.resolve(&digit).expect_err("ambiguous").to_string();
    assert!(error.starts_with(&format!("No such image: {digit}:latest")) && error.contains("more digits"), "{error}");
}

#[test]
fn tags_move_only_by_force_and_digests_never() {
    let Some(root) = loaded() else { return };
    let (one, two) = (root.id_of("app:1"), root.id_of(TWO));
    let tags = root.store.tags();
    let name = reference("app:1");
    assert_eq!(tags.set(&name, one, false).expect("set"), Previous::Same);
    let error = tags.set(&name, two, false).expect_err("taken");
    assert!(error.to_string().starts_with("Conflict: Tag app:1 is already set to image sha256:"), "{error}");
    assert_eq!(tags.set(&name, two, true).expect("set"), Previous::Moved(one));
    let digest = reference(&format!("app@{}", strata_spec::Digest::sha256("a manifest")));
    tags.set(&digest, one, false).expect("set");
    assert_eq!(tags.set(&digest, two, true).expect_err("taken").kind(), ErrorKind::Conflict);
    assert!(tags.set(&reference("sha256:1"), one, true).is_err());
    assert_eq!(tags.remove(&reference("nosuch")).expect("remove"), None);
    assert_eq!(tags.remove(&digest).expect("remove"), Some(one));
    assert_eq!(tags.remove_all(two).expect("remove").len(), 2);
    let left = fs::read_to_string(root.store.layout().repositories()).expect("read");
    assert_eq!(left, r#"{"Repositories":{}}"#);
}

#[test]
fn a_damaged_names_file_is_reported_and_kept() {
    let Some(root) = loaded() else { return };
    let path = root.store.layout().repositories();
    for content in
        ["", "{\"Repositories\":{\"a", "[]", "{\"Repositories\":{},\"Newer\":1}", "{\"Repositories\":{\"a\":[]}}"]
    {
        fs::write(&path, content).expect("damage it");
        for error in [
            root.store.tags().read().expect_err(content),
            root.store.tags().set(&reference("x"), root.store.list().expect("list")[0], true).expect_err(content),
            root.store.resolve("app:1").expect_err(content),
        ] {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{content:?}");
            assert!(
                error.to_string().contains("repositories.json") && error.to_string().contains("move the file away")
            );
        }
        assert_eq!(fs::read_to_string(&path).expect("read"), content, "it is never written over");
        assert!(root.store.verify().iter().any(|finding| finding.object == Object::Names));
    }
    // What dockerd writes when there is nothing.
    for content in ["{\"Repositories\":null}", "{\"Repositories\":{}}"] {
        fs::write(&path, content).expect("write");
        assert!(root.store.tags().read().expect("read").all().is_empty());
    }
}

#[test]
fn the_list_is_right_with_and_without_its_cache() {
    let Some(root) = loaded() else { return };
    let (one, two) = (root.id_of("app:1"), root.id_of(TWO));
    let cache = root.scratch.join("strata/cache/images-overlay2");
    let first = root.store.images().expect("list");
    assert!(cache.exists());
    assert_eq!(first.images.iter().map(|image| image.id).collect::<Vec<_>>(), root.store.list().expect("list"));
    let of = |id| first.images.iter().find(|image| image.id == id).expect("listed").clone();
    assert_eq!(of(one).labels["name"], "app:1");
    assert!(of(two).size > of(one).size && of(one).size > 0);
    assert_eq!(of(two).parent, None);
    for damage in ["", "strata-images 1 0\n{}", "\n", "garbage"] {
        fs::write(&cache, damage).expect("damage it");
        assert_eq!(root.store.images().expect("list").images, first.images, "{damage:?}");
    }
    // A parent is seen though the image is in the cache; so is an image that went, and one whose config is damaged.
    root.store.set_parent(two, Some(one)).expect("set");
    let listing = root.store.images().expect("list");
    assert_eq!(listing.images.iter().find(|image| image.id == two).expect("listed").parent, Some(one));
    assert_eq!(root.store.children(one).expect("children"), [two]);
    let path = root.store.layout().content(one);
    let bytes = fs::read(&path).expect("read");
    fs::remove_file(&path).expect("remove");
    fs::write(root.scratch.join("x"), "").expect("another inode");
    fs::write(&path, "").expect("a torn file");
    let listing = root.store.images().expect("list");
    assert_eq!(listing.images.len() + listing.damaged.len(), 2);
    if let [damage] = listing.damaged.as_slice() {
        assert_eq!((damage.id, &damage.path), (one, &path));
        assert!(damage.reason.contains("empty"), "{}", damage.reason);
    }
    assert_eq!(root.store.get(one).expect_err("damaged").kind(), ErrorKind::Damaged);
    assert!(root.store.verify().iter().any(|finding| finding.object == Object::Image(one)));
    // Loading it again heals it.
    root.store.create(&ImageConfig::parse(bytes).expect("a config"), None).expect("create");
    root.assert_sound(&"healed");
    root.store.delete(two).expect("delete");
    assert_eq!(root.store.images().expect("list").images.len(), 1);
    assert!(!root.store.layout().metadata(two).exists());
}

#[test]
fn an_image_is_created_only_over_layers_that_are_there() {
    let Some(root) = loaded() else { return };
    let missing = ImageConfig::parse(config(&[layer(7)], "x")).expect("a config");
    let error = root.store.create(&missing, None).expect_err("no layer");
    assert!(error.to_string().contains("which is not in the store"), "{error}");
    let long = String::from_utf8(config(&[layer(1)], "x")).expect("UTF-8");
    let long = long.replace(r#""history":["#, r#""history":[{"created_by":"one more"},"#);
    let error = root.store.create(&ImageConfig::parse(long).expect("a config"), None).expect_err("history").to_string();
    assert!(error.contains("too many non-empty layers in History section"), "{error}");
    let windows = String::from_utf8(config(&[layer(1)], "x")).expect("UTF-8").replace("\"linux\"", "\"windows\"");
    let error = root.store.create(&ImageConfig::parse(windows).expect("a config"), None).expect_err("os").to_string();
    assert_eq!(error, "cannot load windows image on linux");
}

#[test]
fn history_names_the_images_that_are_there() {
    let Some(root) = loaded() else { return };
    let (one, two) = (root.id_of("app:1"), root.id_of(TWO));
    let history = root.store.history(two).expect("history");
    assert_eq!(history.iter().map(|step| step.id).collect::<Vec<_>>(), [Some(two), None]);
    assert_eq!(history[0].tags, [TWO]);
    assert!(history.iter().all(|step| step.size > 0));
    root.store.set_parent(two, Some(one)).expect("set");
    let history = root.store.history(two).expect("history");
    assert_eq!(history.iter().map(|step| step.id).collect::<Vec<_>>(), [Some(two), Some(one)]);
    assert_eq!(history[1].tags, ["app:1"]);
}

#[test]
fn an_imported_image_is_dockers() {
    let Some(root) = root() else { return };
    let tar = layer(1);
    for (archive, message) in [(tar.clone(), None), (gzip(&tar), Some("hello".to_owned()))] {
        let options = import::Options {
            config: RunConfig { cmd: Some(vec!["sh".into()]), ..RunConfig::default() },
            message: message.clone(),
            created: Some("2026-11-22T03:13:27.880067678Z".into()),
            ..import::Options::default()
        };
        let id = root.store.import(&archive[..], options).expect("import");
        let config = root.store.get(id).expect("get");
        let text = String::from_utf8(config.raw().to_vec()).expect("UTF-8");
        // As dockerd 20.10.24 writes it, but for its version.
        let run = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":CMD,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#;
        let comment = message.unwrap_or_else(|| "Imported from -".into());
        let expected = format!(
            r#"{{"architecture":"amd64","comment":"{comment}","config":{},"container_config":{},"created":"2026-11-22T03:13:27.880067678Z","history":[{{"created":"2026-11-22T03:13:27.880067678Z","comment":"{comment}"}}],"os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            run.replace("CMD", r#"["sh"]"#),
            run.replace("CMD", "null"),
            diff_of(&tar)
        );
        if cfg!(target_arch = "x86_64") {
            assert_eq!(text, expected);
        }
    }
    root.assert_sound(&"imported");
    assert!(
        root.store
            .import(&b"not a tar at all, but some text that is longer than nothing"[..], import::Options::default())
            .is_err()
    );
}

#[test]
fn tagging_marks_the_image_and_sweeping_spares_what_lives() {
    let Some(root) = loaded() else { return };
    let (one, two) = (root.id_of("app:1"), root.id_of(TWO));
    assert_eq!(root.store.last_updated(two).expect("read"), None);
    assert_eq!(root.store.tag(two, &reference("app:1")).expect("tag"), Previous::Moved(one));
    assert!(root.store.last_updated(two).expect("read").is_some_and(|time| time.ends_with('Z')));
    let digest = reference(&format!("app@{}", strata_spec::Digest::sha256("a manifest")));
    assert_eq!(
        root.store.tag(two, &digest).expect_err("a digest").to_string(),
        "refusing to create a tag with a digest reference"
    );
    let dead = root.store.layout().contents().join(".tmp-x123");
    fs::write(&dead, "torn").expect("write");
    assert!(root.store.verify().iter().any(|finding| finding.path == dead && finding.object == Object::Stray));
    root.store.sweep().expect("sweep");
    assert!(!dead.exists());
    root.assert_sound(&"swept");
}

#[test]
fn names_of_images_that_are_not_there_are_found() {
    let Some(root) = loaded() else { return };
    let two = root.id_of(TWO);
    root.store.delete(two).expect("delete");
    let findings = root.store.verify();
    assert!(findings.iter().any(|finding| finding.object == Object::Name(TWO.into())), "{findings:?}");
    let needed = root.store.needed().expect("needed");
    assert_eq!(needed.tops.len(), 1);
    assert!(needed.damaged.is_empty());
}

#[test]
fn two_thousand_images_are_listed_without_reading_their_configs_again() {
    let Some(root) = loaded() else { return };
    // Written as files, as durable writes of so many would take their time: what is read is the same.
    let contents = root.store.layout().contents();
    let mut ids = Vec::new();
    for n in 0..2000 {
        let config = config(&[layer(1), layer(2)], &format!("image {n}"));
        let id = id_of(&config);
        fs::write(contents.join(id.hex()), config).expect("write");
        ids.push(id);
    }
    let count = || {
        let listing = root.store.images().expect("list");
        (listing.images.len(), listing.damaged.len())
    };
    assert_eq!(count(), (2002, 0));
    // The same files with other bytes: whoever reads one finds it damaged.
    for id in ids {
        fs::write(contents.join(id.hex()), "read").expect("write over");
    }
    assert_eq!(count(), (2002, 0));
}
