//! Archives that lie, or are broken: each ends in one clear error, and leaves nothing in the store.

mod common;

use common::*;
use proptest::prelude::*;

/// Loads `files` as a file and as a stream, and expects an error with `word` and an empty store.
fn refused(root: &Root, files: &[(String, Item)], word: &str, what: &str) {
    refused_bytes(root, &tar(files), word, what);
}

fn refused_bytes(root: &Root, archive: &[u8], word: &str, what: &str) {
    for by_stream in [false, true] {
        let how = if by_stream { "from a stream" } else { "from a file" };
        let result = if by_stream { root.load_stream(archive) } else { root.load(archive) };
        let error = match result {
            Ok(loaded) => panic!("{what}, {how}: loaded {loaded:?}"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(word), "{what}, {how}: {error}");
        root.assert_empty(&format_args!("{what}, {how}"));
    }
}

fn text(item: &Item) -> String {
    match item {
        Item::File(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Item::Link(_) => panic!("not a file"),
    }
}

/// The files of a good archive after `change` of the one named `name`.
fn changed(files: &[(String, Item)], name: &str, change: impl Fn(&str) -> String) -> Vec<(String, Item)> {
    let mut files = files.to_vec();
    let (_, item) = files.iter_mut().find(|(there, _)| there.ends_with(name)).expect("there is such a file");
    *item = change(&text(item)).as_str().into();
    files
}

#[test]
fn docker_archives_that_lie_are_refused() {
    let Some(root) = root() else { return };
    let layers = [layer(1), layer(2)];
    let good = docker_files(&[("app:1", &layers)]);
    let manifest = |change: &dyn Fn(&str) -> String| changed(&good, "manifest.json", change);
    let config_name = good.iter().find(|(name, _)| name.len() == 69).expect("the config").0.clone();

    refused(&root, &manifest(&|_| "[]".into()), "name no image", "no images");
    refused(&root, &manifest(&|_| "{".into()), "manifest.json", "broken JSON");
    refused(
        &root,
        &manifest(&|_| r#"[{"Config":"../../etc/passwd","Layers":[]}]"#.into()),
        "inside the archive",
        "a path outside",
    );
    refused(
        &root,
        &manifest(&|_| r#"[{"Config":"/etc/passwd","Layers":[]}]"#.into()),
        "does not have it",
        "an absolute path, of which the archive is the root",
    );
    refused(&root, &manifest(&|text| text.replace(&config_name, "nosuch.json")), "does not have it", "no config");
    refused(&root, &manifest(&|text| text.replace("/layer.tar\"]", "/nosuch.tar\"]")), "does not have it", "no layer");
    refused(&root, &manifest(&|text| text.replace("app:1", "UPPER:1")), "invalid tag", "a name outside the grammar");
    refused(&root, &manifest(&|text| text.replace("app:1", "app")), "invalid tag", "a name without a tag");
    let one = format!("\"{}/layer.tar\",", diff_of(&layers[0]).hex());
    refused(
        &root,
        &manifest(&|text| text.replace(&one, "")),
        "layers length mismatch: expected 1, got 2",
        "a layer too few",
    );

    let swapped: Vec<_> = good
        .iter()
        .map(|(name, item)| match name.contains(&diff_of(&layers[1]).hex()) {
            true => (name.clone(), layer(9).into()),
            false => (name.clone(), item.clone()),
        })
        .collect();
    refused(&root, &swapped, "invalid diffID for layer 1: expected sha256:", "another layer");

    let renamed = format!("{}.json", "0".repeat(64));
    let mut lies = manifest(&|text| text.replace(&config_name, &renamed));
    lies.iter_mut().filter(|(name, _)| *name == config_name).for_each(|(name, _)| *name = renamed.clone());
    refused(&root, &lies, "its digest is", "a config that is not what it is named by");

    let mut twice = good.clone();
    twice.insert(0, (config_name.clone(), config(&layers, "another").into()));
    refused(&root, &twice, "twice in the archive", "two configs for one ID");

    let mut circle: Vec<_> = good.iter().filter(|(name, _)| !name.ends_with("layer.tar")).cloned().collect();
    for tar in &layers {
        let name = diff_of(tar).hex();
        let to: &'static str = Box::leak(format!("../{name}/layer.tar").into_boxed_str());
        circle.insert(0, (format!("{name}/layer.tar"), Item::Link(to)));
    }
    refused(&root, &circle, "circle", "links in a circle");
    let mut outside = circle.clone();
    outside.iter_mut().for_each(|(_, item)| {
        if let Item::Link(to) = item {
            *to = "../../../etc/passwd"
        }
    });
    refused(&root, &outside, "does not have it", "links that lead out, and so to the archive's own /etc/passwd");
}

#[test]
fn configs_that_cannot_be_are_refused() {
    let Some(root) = root() else { return };
    let layers = [layer(1)];
    let good = docker_files(&[("app:1", &layers)]);
    let config_name = good.iter().find(|(name, _)| name.len() == 69).expect("the config").0.clone();
    let with = |change: &dyn Fn(&str) -> String| -> Vec<(String, Item)> {
        let mut files = changed(&good, &config_name, change);
        let id = files
            .iter()
            .find(|(name, _)| *name == config_name)
            .map(|(_, item)| strata_spec::Digest::sha256(text(item)));
        let new = format!("{}.json", id.expect("it is there").hex());
        files.iter_mut().filter(|(name, _)| *name == config_name).for_each(|(name, _)| *name = new.clone());
        changed(&files, "manifest.json", |text| text.replace(&config_name, &new))
    };
    refused(&root, &with(&|_| "{}".into()), "rootfs", "an empty config");
    refused(&root, &with(&|_| "[1]".into()), "config", "a list");
    refused(
        &root,
        &with(&|text| text.replace("\"linux\"", "\"windows\"")),
        "cannot load windows image on linux",
        "Windows",
    );
    refused(
        &root,
        &with(&|text| text.replace("\"history\":[", "\"history\":[{},{},")),
        "too many non-empty layers",
        "history",
    );
    refused(&root, &with(&|text| text.replace("sha256:", "md5:")), "config", "a DiffID of another kind");
}

#[test]
fn layouts_that_lie_are_refused() {
    let Some(root) = root() else { return };
    let layers = [layer(1), layer(2)];
    let make = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut layout = Layout::default();
        let mut image = layout.image("a", &layers, gzipped);
        change(&mut image);
        layout.finish(&[image])
    };
    let good = make(&|_| {});
    refused(&root, &make(&|image| image["size"] = 1.into()), "bytes, index.json says 1", "a wrong size");
    refused(
        &root,
        &make(&|image| image["mediaType"] = "application/vnd.example".into()),
        "is no image",
        "a media type",
    );
    refused(
        &root,
        &make(&|image| image["digest"] = format!("sha256:{}", "0".repeat(64)).into()),
        "does not have it",
        "no manifest",
    );
    refused(&root, &make(&|image| image["digest"] = "sha256:../../x".into()), "index.json", "a digest that is a path");
    refused(
        &root,
        &make(&|image| image["annotations"] = serde_json::json!({"io.containerd.image.name": "A B"})),
        "A B",
        "a name",
    );
    refused(
        &root,
        &changed(&good, "oci-layout", |_| r#"{"imageLayoutVersion":"2.0.0"}"#.into()),
        "not 1.x",
        "a newer layout",
    );
}

#[test]
fn blobs_that_are_others_are_refused() {
    let Some(root) = root() else { return };
    let layers = [layer(1), layer(2)];
    let mut layout = Layout::default();
    let image = layout.image("a", &layers, gzipped);
    let good = layout.finish(&[image]);
    let blob = format!("blobs/sha256/{}", strata_spec::Digest::sha256(gzip(&layers[0])).hex());
    let mut other = good.clone();
    other.iter_mut().filter(|(name, _)| *name == blob).for_each(|(_, item)| *item = gzip(&layer(9)).into());
    // Either its size or its digest gives it away.
    refused(&root, &other, "cannot load blobs/sha256/", "another blob");

    // The right files, compressed otherwise: the DiffID holds, the blob's digest does not.
    let mut recompressed = Layout::default();
    let mut image = recompressed.image("a", &layers, |tar| ("application/vnd.oci.image.layer.v1.tar+gzip", gzip(tar)));
    image["annotations"] = serde_json::json!({});
    let mut files = recompressed.finish(&[image]);
    files.iter_mut().filter(|(name, _)| *name == blob).for_each(|(_, item)| {
        if let Item::File(bytes) = item {
            // The header's time: another stream of the same length and content.
            bytes[4] ^= 1;
        }
    });
    refused(&root, &files, "its digest is", "a blob compressed otherwise");
}

#[test]
fn layouts_of_something_else_are_refused() {
    let Some(root) = root() else { return };
    let layers = [layer(1), layer(2)];
    let artifact = |config_type: &str, layer_type: &'static str| {
        let mut layout = Layout::default();
        let config = layout.blob(config_type, config(&layers[..1], "a"));
        let layer = layout.blob(layer_type, layers[0].clone());
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let manifest = layout.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().into_bytes());
        layout.finish(&[manifest])
    };
    let (config, layer) = ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar");
    refused(&root, &artifact("application/vnd.cncf.helm.config.v1+json", layer), "artifact, not an image", "a chart");
    refused(
        &root,
        &artifact(config, "application/vnd.example.layer"),
        "no layer of an image",
        "a layer of no known type",
    );

    let mut layout = Layout::default();
    let mut nested = layout.image("a", &layers, plain);
    nested["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
    for _ in 0..6 {
        nested = layout.index(&[nested]);
    }
    refused(&root, &layout.finish(&[nested]), "nested", "indexes in indexes");
}

#[test]
fn streams_that_are_broken_are_refused() {
    let Some(root) = root() else { return };
    let good = docker_archive(&[("app:1", &[layer(1), layer(2)])]);
    refused_bytes(&root, b"", "neither manifest.json", "nothing");
    refused_bytes(&root, &[0; 4096], "neither manifest.json", "zeros");
    refused_bytes(
        &root,
        &tar(&[("etc/passwd", Item::from("root"))]),
        "for the tar of a root filesystem use `import`",
        "a root filesystem",
    );
    refused_bytes(&root, &b"some text that is no archive ".repeat(40), "damaged", "text");
    for at in [600, 1500, 3000] {
        refused_bytes(&root, &good[..at], "", "cut off");
        let packed = gzip(&good);
        refused_bytes(&root, &packed[..packed.len() * at / 4000], "", "cut off in gzip");
    }
    let mut broken = good.clone();
    broken[148] ^= 1;
    refused_bytes(&root, &broken, "damaged", "a wrong checksum");
    // A layer within that is a bomb of holes or paths is for the layer store to refuse; the archive around it goes too.
    let evil = tar(&[("../../../etc/cron.d/x", Item::from("x"))]);
    refused_bytes(&root, &docker_archive(&[("evil:1", &[layer(1), evil])]), "..", "a layer that climbs out");
}

#[test]
fn a_claim_of_a_huge_document_is_refused() {
    let Some(root) = root() else { return };
    let mut files = docker_files(&[("app:1", &[layer(1)])]);
    files.pop();
    let mut huge = b"[".to_vec();
    huge.resize(9 << 20, b' ');
    files.push(("manifest.json".into(), huge.into()));
    refused(&root, &files, "", "a manifest of 9 MiB");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to an archive's bytes: it loads whole, or not at all.
    #[test]
    fn flipped_bytes_load_whole_or_not_at_all(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        packed in any::<bool>(),
        by_stream in any::<bool>(),
    ) {
        let Some(root) = root() else { return Ok(()) };
        let mut archive = docker_archive(&[("app:1", &[layer(1), layer(2)])]);
        if packed {
            archive = gzip(&archive);
        }
        let at = at.index(archive.len());
        archive[at] = byte;
        let result = if by_stream { root.load_stream(&archive) } else { root.load(&archive) };
        match result {
            Ok(_) => root.assert_sound(&"loaded"),
            Err(_) => root.assert_empty(&"refused"),
        }
    }

    /// Any JSON where the documents stand.
    #[test]
    fn any_document_is_refused_or_loaded(name in r"(manifest\.json|index\.json|repositories|oci-layout)", json in json()) {
        let Some(root) = root() else { return Ok(()) };
        let files: Vec<_> = docker_files(&[("app:1", &[layer(1)])]).into_iter().filter(|(there, _)| there != "manifest.json").collect();
        let mut files = files;
        files.push((name, json.as_str().into()));
        for by_stream in [false, true] {
            let archive = tar(&files);
            let result = if by_stream { root.load_stream(&archive) } else { root.load(&archive) };
            if result.is_err() {
                root.assert_empty(&"refused");
            }
        }
    }
}

/// JSON with the words that matter.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[a-z0-9:/.]{0,12}".prop_map(Into::into),
        Just(format!("sha256:{}", "0".repeat(64)).into()),
    ];
    let key = prop_oneof![
        Just("Config"),
        Just("Layers"),
        Just("RepoTags"),
        Just("manifests"),
        Just("schemaVersion"),
        Just("digest"),
        Just("size"),
        Just("mediaType"),
        Just("platform"),
        Just("annotations"),
        Just("app"),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((key.clone(), inner), 0..5).prop_map(|fields| serde_json::Value::Object(
                fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
    .prop_map(|value| value.to_string())
}
