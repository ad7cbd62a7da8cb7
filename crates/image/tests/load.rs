//! Every kind of archive comes in whole, and the same whether it is a file or a stream.

mod common;

use common::*;
use strata_image::load::{Input, Options};
use strata_spec::manifest::Platform;

/// Loads `archive` from a file and from a stream, into a root each, and expects `name` with `layers`.
fn expect(archive: &[u8], name: &str, layers: &[Vec<u8>], what: &str) {
    let Some(first) = root() else { return };
    let Some(second) = root() else { return };
    for (root, by_stream) in [(first, false), (second, true)] {
        let what = format!("{what}, {}", if by_stream { "from a stream" } else { "from a file" });
        let loaded = if by_stream { root.load_stream(archive) } else { root.load(archive) };
        let loaded = loaded.unwrap_or_else(|error| panic!("{what}: {error}"));
        root.assert_sound(&what);
        let id = root.id_of(name);
        assert!(loaded.iter().any(|image| image.id == id), "{what}");
        let config = root.store.get(id).expect("get");
        let diffs: Vec<_> = layers.iter().map(|tar| diff_of(tar)).collect();
        assert_eq!(config.diff_ids(), diffs, "{what}");
        for (chain, tar) in strata_spec::chain_ids(&diffs).zip(layers) {
            let mut rebuilt = Vec::new();
            root.store.layers().write_tar(chain, &mut rebuilt).expect("rebuild");
            assert!(rebuilt == *tar, "{what}: a layer is not what it was");
        }
        assert!(entries(&root.scratch.join("strata/journal")).is_empty(), "{what}: the journal");
        // Once more: everything exists.
        let again = if by_stream { root.load_stream(archive) } else { root.load(archive) };
        assert_eq!(
            again.expect("load again").iter().map(|image| image.id).collect::<Vec<_>>(),
            loaded.iter().map(|image| image.id).collect::<Vec<_>>()
        );
        assert_eq!(root.store.layers().list().expect("list").len(), layers.len(), "{what}");
        root.assert_sound(&what);
    }
}

#[test]
fn docker_archives_come_in() {
    let layers = [layer(1), layer(2), layer(3)];
    let files = docker_files(&[("app:1", &layers)]);
    expect(&tar(&files), "app:1", &layers, "as 20.10 writes it");
    let mut first = files.clone();
    first.rotate_right(1);
    expect(&tar(&first), "app:1", &layers, "the manifest first");
    expect(&gzip(&tar(&files)), "app:1", &layers, "gzip around it");
    expect(&zstd(&tar(&files)), "app:1", &layers, "zstd around it");
    let mut packed = files.clone();
    for (at, (name, item)) in packed.iter_mut().enumerate() {
        if let (true, Item::File(bytes)) = (name.ends_with("layer.tar"), item) {
            *bytes = if at % 2 == 0 { gzip(bytes) } else { zstd(bytes) };
        }
    }
    expect(&tar(&packed), "app:1", &layers, "compressed layers");
    let dotted: Vec<_> = files.iter().map(|(name, item)| (format!("./{name}"), item.clone())).collect();
    expect(&tar(&dotted), "app:1", &layers, "names with ./ before them");
}

#[test]
fn a_layer_may_be_a_link_to_another() {
    let layers = [layer(1), layer(2), layer(1)];
    let mut files = docker_files(&[("app:1", &layers)]);
    let manifest = files.pop().expect("the manifest").1;
    let Item::File(manifest) = manifest else { panic!("a file") };
    let first = diff_of(&layers[0]).hex();
    let text = String::from_utf8(manifest).expect("UTF-8");
    // The third layer by another name, which is a link.
    let at = text.rfind(&first).expect("named twice");
    let text = format!("{}{}{}", &text[..at], "linked", &text[at + first.len()..]);
    let to: &'static str = Box::leak(format!("../{first}/layer.tar").into_boxed_str());
    files.push(("linked/layer.tar".into(), Item::Link(to)));
    files.push(("manifest.json".into(), text.as_str().into()));
    expect(&tar(&files), "app:1", &layers, "a link");
    files.rotate_right(1);
    expect(&tar(&files), "app:1", &layers, "a link, the manifest first");
}

#[test]
fn the_same_layer_may_come_several_times() {
    let layers = [layer(1), layer(1), layer(2), layer(1)];
    expect(&docker_archive(&[("app:1", &layers)]), "app:1", &layers, "a layer three times");
}

#[test]
fn images_of_one_archive_share_layers() {
    let Some(root) = root() else { return };
    let (one, two) = ([layer(1), layer(2)], [layer(1), layer(3)]);
    let archive = docker_archive(&[("one:1", &one), ("two:1", &two)]);
    let loaded = root.load(&archive).expect("load");
    assert_eq!(loaded.len(), 2);
    assert_eq!(root.store.layers().list().expect("list").len(), 3);
    assert_eq!(loaded[0].lines(), ["Loaded image: one:1"]);
    root.assert_sound(&"shared");
}

#[test]
fn oci_layouts_come_in_from_a_folder_and_a_tar() {
    let layers = [layer(1), layer(2)];
    for (pack, what) in [(plain as fn(&[u8]) -> _, "plain"), (gzipped, "gzip")] {
        let mut layout = Layout::default();
        let mut image = layout.image("a", &layers, pack);
        image["annotations"] = serde_json::json!({"io.containerd.image.name": "docker.io/library/app:1"});
        let files = layout.finish(&[image]);
        expect(&tar(&files), "app:1", &layers, what);
        expect(&gzip(&tar(&files)), "app:1", &layers, what);
        let Some(root) = root() else { return };
        let dir = root.scratch.join("layout");
        write_dir(&dir, &files);
        root.store.load(Input::Dir(dir), &Options::default()).expect("load the folder");
        root.assert_sound(&what);
        root.id_of("app:1");
    }
}

#[test]
fn the_platform_chooses_in_an_index() {
    let (ours, other) = ([layer(1)], [layer(2)]);
    let layout = || {
        let mut layout = Layout::default();
        let mut images = Vec::new();
        for (layers, label, platform) in [(&other, "other", "s390x"), (&ours, "ours", "amd64")] {
            let mut image = layout.image(label, layers, gzipped);
            image["platform"] = serde_json::json!({"os": "linux", "architecture": platform});
            images.push(image);
        }
        let mut attestation = layout.blob("application/vnd.oci.image.manifest.v1+json", b"{}".to_vec());
        attestation["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
        images.push(attestation);
        (layout, images)
    };
    let nested = {
        let (mut layout, images) = layout();
        let mut index = layout.index(&images);
        index["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "app:1"});
        tar(&layout.finish(&[index]))
    };
    let flat = {
        let (layout, images) = layout();
        tar(&layout.finish(&images))
    };
    for (archive, what) in [(nested, "nested"), (flat, "flat")] {
        let Some(root) = root() else { return };
        for (platform, id) in
            [("linux/amd64", id_of(&config(&ours, "ours"))), ("linux/s390x", id_of(&config(&other, "other")))]
        {
            let options = Options { platform: Some(platform.parse().expect("a platform")), ..Options::default() };
            let loaded = root.store.load(file(&archive), &options).expect("load");
            assert_eq!(loaded.len(), 1, "{what}");
            assert_eq!(loaded[0].id, id, "{what}");
        }
        let options = Options { platform: Some(Platform::new("linux", "riscv64", "")), ..Options::default() };
        let error = root.store.load(file(&archive), &options).expect_err("no such platform").to_string();
        assert!(error.contains("no matching manifest for linux/riscv64"), "{error}");
        assert!(error.contains("linux/s390x"), "{error}");
    }
}

#[test]
fn archives_before_manifest_json_come_in_with_their_ancestors() {
    let layers = [layer(1), layer(2)];
    let ids = ["a".repeat(64), "b".repeat(64)];
    let json = |at: usize| {
        let parent = if at > 0 { format!(r#""parent":"{}","#, ids[at - 1]) } else { String::new() };
        format!(
            r#"{{"id":"{}",{parent}"created":"2016-01-02T03:04:05.600Z","container_config":{{"Cmd":["/bin/sh","-c","step {at}"]}},"docker_version":"1.9.1","config":{{"Cmd":["sh"]}},"architecture":"amd64","os":"linux","Size":12}}"#,
            ids[at]
        )
    };
    let mut files = Vec::new();
    for (at, tar) in layers.iter().enumerate() {
        files.push((format!("{}/VERSION", ids[at]), "1.0".into()));
        files.push((format!("{}/json", ids[at]), json(at).as_str().into()));
        files.push((format!("{}/layer.tar", ids[at]), tar.clone().into()));
    }
    files.push(("repositories".into(), format!(r#"{{"old":{{"1":"{}"}}}}"#, ids[1]).as_str().into()));
    expect(&tar(&files), "old:1", &layers, "before 1.10");
    let Some(root) = root() else { return };
    root.load(&tar(&files)).expect("load");
    let id = root.id_of("old:1");
    let history = root.store.history(id).expect("history");
    let steps: Vec<_> = history.iter().map(|step| (step.created_by.as_str(), step.id.is_some())).collect();
    assert_eq!(steps, [("/bin/sh -c step 1", true), ("/bin/sh -c step 0", true)]);
    // What dockerd 20.10.24 makes of the same archive.
    let raw = root.store.get(id).expect("get");
    let text = String::from_utf8(raw.raw().to_vec()).expect("UTF-8");
    assert!(
        text.starts_with(r#"{"architecture":"amd64","config":{"Cmd":["sh"]},"container_config":{"Cmd":["#),
        "{text}"
    );
    assert!(!text.contains("\"id\"") && !text.contains("Size"), "{text}");
}

#[test]
fn a_tag_moves_and_says_so() {
    let Some(root) = root() else { return };
    root.load(&docker_archive(&[("app:1", &[layer(1)])])).expect("load");
    let old = root.id_of("app:1");
    let loaded = root.load(&docker_archive(&[("app:1", &[layer(2)])])).expect("load");
    let line = format!("The image app:1 already exists, renaming the old one with ID {old} to empty string");
    assert_eq!(loaded[0].lines(), [line.as_str(), "Loaded image: app:1"]);
    assert!(root.store.contains(old), "the old image stays");
}

#[test]
fn an_image_without_a_name_is_told_by_its_id() {
    let Some(root) = root() else { return };
    let layers = [layer(1)];
    let mut layout = Layout::default();
    let mut image = layout.image("a", &layers, plain);
    image["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "latest"});
    let loaded = root.load(&tar(&layout.finish(&[image]))).expect("load");
    assert_eq!(loaded[0].lines(), [format!("Loaded image ID: {}", id_of(&config(&layers, "a")))]);
}

#[test]
fn what_the_store_has_is_not_read_again() {
    let Some(root) = root() else { return };
    let layers = [layer(1), layer(2)];
    root.load(&docker_archive(&[("app:1", &layers)])).expect("load");
    // The layers of this one are missing: with documents first, nobody asks for them.
    let files: Vec<_> =
        docker_files(&[("app:1", &layers)]).into_iter().filter(|(name, _)| name.ends_with(".json")).collect();
    root.load(&tar(&files)).expect("load without layers");
    root.load_stream(&tar(&files)).expect("load without layers");
}

#[test]
fn ten_loads_at_once_leave_one_of_each_layer() {
    let Some(root) = root() else { return };
    let base = [layer(1), layer(2)];
    let archives: Vec<_> = (0..10)
        .map(|n| {
            let layers = [base[0].clone(), base[1].clone(), layer(10 + n % 3)];
            docker_archive(&[(&format!("app:{n}"), &layers)])
        })
        .collect();
    std::thread::scope(|scope| {
        for (n, archive) in archives.iter().enumerate() {
            let root = &root;
            scope.spawn(move || {
                // A store each, as processes have.
                let store = open(root.scratch.path());
                let input = if n % 2 == 0 { file(archive) } else { Input::Stream(Box::new(&archive[..])) };
                store.load(input, &Options::default()).unwrap_or_else(|error| panic!("load {n}: {error}"));
            });
        }
    });
    root.assert_sound(&"ten loads");
    assert_eq!(root.store.layers().list().expect("list").len(), 5);
    assert_eq!(root.store.tags().read().expect("read").all().len(), 10);
    assert!(entries(&root.scratch.join("strata/journal")).is_empty());
}
