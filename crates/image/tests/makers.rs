//! Archives of other makers than Docker come in as Docker, containerd or the specification take them.

mod common;

use common::*;
use serde_json::json;
use strata_image::load::{Input, Options};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Loads `archive` from a file, a stream and, if it is a layout, from a directory, into a root each; `check` sees each root after.
fn everywhere(files: &[(String, Item)], what: &str, check: impl Fn(&Root)) {
    let archive = tar(files);
    for way in ["file", "stream", "directory"] {
        let Some(root) = root() else { return };
        let loaded = match way {
            "file" => root.load(&archive),
            "stream" => root.load_stream(&archive),
            _ => {
                let dir = root.scratch.join("layout");
                write_dir(&dir, files);
                root.store.load(Input::Dir(dir), &Options::default())
            }
        };
        loaded.unwrap_or_else(|error| panic!("{what}, from a {way}: {error}"));
        root.assert_sound(&what);
        check(&root);
    }
}

fn named(mut image: serde_json::Value, name: &str) -> serde_json::Value {
    image["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    image
}

/// What stands beside an image in layouts of `oras copy -r`, `cosign save` and others, as entries of the index.
fn others(layout: &mut Layout, image: &serde_json::Value) -> Vec<(&'static str, serde_json::Value)> {
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let sbom = layout.blob("application/spdx+json", br#"{"spdxVersion":"SPDX-2.3"}"#.to_vec());
    let artifact = |kind: Option<&str>, config: &serde_json::Value, layer: &serde_json::Value| {
        let mut manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "subject": image});
        if let Some(kind) = kind {
            manifest["artifactType"] = kind.into();
        }
        manifest.to_string().into_bytes()
    };
    let typed = layout.blob(MANIFEST, artifact(Some("application/spdx+json"), &empty, &sbom));
    let mut told = layout.blob(MANIFEST, artifact(None, &empty, &sbom));
    told["artifactType"] = "application/spdx+json".into();
    let signature = layout.blob("application/vnd.dev.cosign.simplesigning.v1+json", br#"{"critical":{}}"#.to_vec());
    let config = layout.blob(CONFIG, config(&[], "a signature"));
    let signed = layout.blob(MANIFEST, artifact(None, &config, &signature));
    // A blob that looks like a compressed layer, and is none.
    let packed = layout.blob("application/gzip", gzip(b"no tar at all"));
    let zipped = layout.blob("application/zip", b"PK\x03\x04 and so on".to_vec());
    let xml = layout.blob("application/xml", b"<sbom/>".to_vec());
    let index = layout.index(std::slice::from_ref(&typed));
    vec![
        ("a manifest with an artifact type", typed),
        ("a descriptor with an artifact type", told),
        ("a signature", signed),
        ("XML", xml),
        ("gzip", packed),
        ("zip", zipped),
        ("an index of artifacts", index),
    ]
}

#[test]
fn entries_that_are_no_images_are_passed_over() {
    let layers = [layer(1)];
    for at in 0..7 {
        let mut layout = Layout::default();
        let image = layout.image("a", &layers, plain);
        let (what, other) = others(&mut layout, &image).swap_remove(at);
        let files = layout.finish(&[other.clone(), named(image, "example.org/app:1"), other]);
        everywhere(&files, what, |root| {
            root.id_of("example.org/app:1");
        });
    }
    let mut layout = Layout::default();
    let image = layout.image("a", &layers, plain);
    let mut all: Vec<_> = others(&mut layout, &image).into_iter().map(|(_, entry)| entry).collect();
    all.push(named(image, "example.org/app:1"));
    everywhere(&layout.finish(&all), "all of them", |root| {
        assert_eq!(root.store.list().expect("list").len(), 1);
    });
}

#[test]
fn a_layout_without_an_image_says_what_it_has() {
    for at in 0..7 {
        let mut layout = Layout::default();
        let image = layout.image("a", &[layer(1)], plain);
        let (what, other) = others(&mut layout, &image).swap_remove(at);
        let Some(root) = root() else { return };
        let error = root.load(&tar(&layout.finish(&[other]))).expect_err(what).to_string();
        assert!(error.contains("image") && error.contains("blobs/sha256/"), "{what}: {error}");
        root.assert_empty(&what);
    }
}

#[test]
fn an_index_within_gives_its_image_and_not_its_artifacts() {
    let layers = [layer(1)];
    let mut layout = Layout::default();
    let image = layout.image("a", &layers, plain);
    let mut entries: Vec<_> = others(&mut layout, &image).into_iter().map(|(_, entry)| entry).collect();
    entries.push(image);
    let index = layout.index(&entries);
    let files = layout.finish(&[named(index, "example.org/app:1")]);
    everywhere(&files, "an index with artifacts", |root| {
        root.id_of("example.org/app:1");
    });
}

/// The parts of a Docker archive with one image of `layers`, whose files have the names that `path` gives.
fn docker(layers: &[Vec<u8>], path: impl Fn(usize) -> String) -> (String, Vec<String>, Vec<u8>) {
    let config = config(layers, "made elsewhere");
    let name = format!("{}.json", strata_spec::Digest::sha256(&config).hex());
    (name, (0..layers.len()).map(path).collect(), config)
}

fn archive(layers: &[Vec<u8>], path: impl Fn(usize) -> String, named: impl Fn(&str) -> String) -> Vec<(String, Item)> {
    let (name, paths, config) = docker(layers, path);
    let wanted: Vec<_> = paths.iter().map(|path| named(path)).collect();
    let manifest = json!([{"Config": named(&name), "RepoTags": ["app:1"], "Layers": wanted}]);
    let mut files: Vec<(String, Item)> =
        paths.into_iter().zip(layers).map(|(path, tar)| (path, tar.clone().into())).collect();
    files.extend([(name, config.into()), ("manifest.json".to_owned(), manifest.to_string().into_bytes().into())]);
    files
}

#[test]
fn the_archive_is_the_root_of_the_paths_in_it() {
    let layers = [layer(1), layer(2)];
    let path = |n: usize| format!("layers/{n}.tar");
    for (what, named) in [
        ("absolute", (|path| format!("/{path}")) as fn(&str) -> String),
        ("with a dot", |path| format!("./{path}")),
        ("up and down", |path| format!("x/../{path}")),
    ] {
        everywhere(&archive(&layers, path, named), what, |root| {
            root.id_of("app:1");
        });
    }
    let mut linked = archive(&layers, path, str::to_owned);
    linked[0].0 = "elsewhere/0.tar".to_owned();
    linked.insert(1, ("layers/0.tar".to_owned(), Item::Link("/elsewhere/0.tar")));
    for tar in [tar(&linked), gzip(&tar(&linked))] {
        let Some(root) = root() else { return };
        root.load(&tar).expect("an absolute link");
        root.id_of("app:1");
    }
}

#[test]
fn layers_without_a_path_must_be_in_the_store() {
    let layers = [layer(1), layer(2)];
    let base = tar(&archive(&layers[..1], |n| format!("{n}.tar"), str::to_owned));
    let mut files =
        archive(&layers, |n| format!("{n}.tar"), |path| if path == "0.tar" { String::new() } else { path.to_owned() });
    files.remove(0);
    for by_stream in [false, true] {
        let Some(root) = root() else { return };
        let load = |archive: &[u8]| if by_stream { root.load_stream(archive) } else { root.load(archive) };
        let error = load(&tar(&files)).expect_err("the base is not there").to_string();
        assert!(error.contains("leaves this layer out") && error.contains(&diff_of(&layers[0]).to_string()), "{error}");
        root.assert_empty(&"a layer that is nowhere");
        load(&base).expect("the base");
        load(&tar(&files)).expect("over the base");
        root.assert_sound(&"over the base");
        assert_eq!(root.store.get(root.id_of("app:1")).expect("get").diff_ids().len(), 2);
    }
}

#[test]
fn the_case_of_keys_does_not_count() {
    let layers = [layer(1)];
    let mut files = archive(&layers, |n| format!("{n}.tar"), str::to_owned);
    let Item::File(manifest) = &files[2].1 else { panic!("a file") };
    let text = String::from_utf8(manifest.clone()).expect("UTF-8");
    for (config, tags, layers) in [("config", "repotags", "layers"), ("CONFIG", "repoTags", "lAYERS")] {
        let text = text.replace("\"Config\"", &format!("\"{config}\""));
        let text = text.replace("\"RepoTags\"", &format!("\"{tags}\"")).replace("\"Layers\"", &format!("\"{layers}\""));
        files[2].1 = text.into_bytes().into();
        everywhere(&files, config, |root| {
            root.id_of("app:1");
        });
    }
}

#[test]
fn formats_that_are_not_supported_are_named() {
    let Some(root) = root() else { return };
    let heads: [(&str, &[u8]); 6] = [
        ("compress (.Z)", b"\x1f\x9d\x90\x61\x00"),
        ("lzma", b"\x5d\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00"),
        ("lz4", b"\x04\x22\x4d\x18\x64\x40"),
        ("zip", b"PK\x03\x04\x14\x00"),
        ("lzip", b"LZIP\x01\x0c"),
        ("7z", b"7z\xbc\xaf\x27\x1c"),
    ];
    for (format, head) in heads {
        let bytes = [head, &[0; 2_000]].concat();
        let expected = format!("the archive has the format {format}, which is not supported");
        for (error, way) in [
            (root.load(&bytes).expect_err(format), "a file"),
            (root.load_stream(&bytes).expect_err(format), "a stream"),
            (
                root.store.import(&bytes[..], Default::default()).map(|_| Vec::<()>::new()).expect_err(format),
                "an import",
            ),
        ] {
            assert!(error.to_string().contains(&expected), "{way}: {error}");
        }
        let layers = [layer(1)];
        let mut files = archive(&layers, |n| format!("{n}.tar"), str::to_owned);
        files[0].1 = bytes.into();
        for (error, way) in [
            (root.load(&tar(&files)).expect_err(format), "a file"),
            (root.load_stream(&tar(&files)).expect_err(format), "a stream"),
        ] {
            assert!(error.to_string().contains(&expected), "a layer, {way}: {error}");
        }
        root.assert_empty(&format);
    }
    // A tar may begin with the same letter.
    root.store.import(&tar(&[("]", Item::from("x"))])[..], Default::default()).expect("a file named ]");
}
