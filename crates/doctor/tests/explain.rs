//! Explaining objects of a sound root.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::*;
use strata_doctor::{
    Error, Explanation, Explanation as E, explain,
    explain::{ContainerExplanation, FileExplanation, ImageExplanation, Owner, PathExplanation, Role, State, Why},
};
use strata_spec::chain_ids;
use strata_testkit::require;

fn image_of(explanation: Explanation) -> ImageExplanation {
    match explanation {
        E::Image(image) => image,
        other => panic!("not an image: {other:?}"),
    }
}

fn file_of(explanation: Explanation) -> FileExplanation {
    match explanation {
        E::File(file) => file,
        other => panic!("not a file: {other:?}"),
    }
}

fn path_of(explanation: Explanation) -> PathExplanation {
    match explanation {
        E::Path(path) => path,
        other => panic!("not a path: {other:?}"),
    }
}

fn container_of(explanation: Explanation) -> ContainerExplanation {
    match explanation {
        E::Container(container) => container,
        other => panic!("not a container: {other:?}"),
    }
}

#[test]
fn an_image_from_its_id_to_the_mount_line() {
    let Some(()) = require::device_nodes() else { return };
    let root = Root::new();
    let id = image(&root, "made:1", &three_layers());
    image(&root, "other:1", &three_layers()[..1]);
    let found = image_of(root.explain("made:1"));
    assert_eq!(found.id.value, Some(id));
    assert_eq!(found.names.value, Some(vec!["made:1".to_owned()]));
    assert_eq!(found.problems, []);
    let config = root.images.get(id).unwrap();
    let chains: Vec<_> = chain_ids(config.diff_ids()).collect();
    for (n, layer) in found.layers.iter().enumerate() {
        let stored = root.layers.get(chains[n]).unwrap();
        assert_eq!(layer.diff_id.value, Some(config.diff_ids()[n]));
        assert_eq!(layer.chain_id.value, Some(chains[n]));
        assert_eq!(layer.facts.cache_id.value.as_ref(), Some(&stored.cache_id));
        assert_eq!(layer.facts.size.value, Some(stored.size));
        assert_eq!(layer.created_by.as_deref(), Some(&*format!("step {} of made:1", n + 1)));
        let file = layer.facts.cache_id.file.as_deref().unwrap();
        assert_eq!(fs::read_to_string(root.join(file)).unwrap(), stored.cache_id.as_str());
        assert!(root.join(layer.facts.folder.as_deref().unwrap()).is_dir());
    }
    assert_eq!(found.layers[0].shared_with.len(), 1);
    assert_eq!(found.layers[0].shared_with[0].names, ["other:1"]);
    assert!(found.layers[1].shared_with.is_empty());
    let links: Vec<String> =
        found.layers.iter().rev().map(|layer| format!("l/{}", layer.facts.link.value.as_deref().unwrap())).collect();
    assert_eq!(found.mount.as_ref().expect("a mount").lowerdir[1..], links);
    let text = E::Image(found).to_string();
    assert!(text.lines().count() <= 40, "one screen:\n{text}");
    for wanted in [id.to_string(), chains[2].to_string(), "step 2 of made:1".into(), "other:1".into(), links[0].clone()]
    {
        assert!(text.contains(&wanted), "{wanted} in\n{text}");
    }
}

#[test]
fn an_image_of_many_layers_has_a_line_each() {
    let Some(()) = require::device_nodes() else { return };
    let root = Root::new();
    let tars: Vec<_> =
        (0..12).map(|n| tar(&[Entry::File(["a", "b", "c", "d"][n % 4], ["1", "2", "3"][n % 3])])).collect();
    image(&root, "deep:1", &tars);
    let text = root.explain("deep:1").to_string();
    assert!(text.lines().count() <= 35, "{text}");
    assert!(text.lines().filter(|line| line.contains("step ")).count() == 12, "{text}");
}

#[test]
fn a_container_by_name_and_id_has_the_kernels_mount_line() {
    let (Some(()), Some(())) = (require::device_nodes(), require::overlay()) else { return };
    let root = Root::new();
    let id = image(&root, "made:1", &three_layers());
    let made = container(&root, id, "box");
    fs::write(upper(&root, &made).join("new"), "12345").unwrap();
    let found = container_of(root.explain("box"));
    assert_eq!(found, container_of(root.explain(&made.id.as_str()[..10])));
    assert_eq!(found.problems, []);
    assert_eq!(found.size, Some(5));
    assert_eq!(found.state.as_deref(), Some("created"));
    assert_eq!(found.image.as_ref().unwrap().names, ["made:1"]);
    let roles: Vec<Role> = found.layers.iter().map(|layer| layer.role).collect();
    assert_eq!(roles, [Role::ReadWrite, Role::Init, Role::Image, Role::Image, Role::Image]);
    let line = found.mount.clone().unwrap();
    assert!(!line.mounted && line.lowerdir.len() == 4, "{line:?}");
    let data = root.layers.driver().metadata(found.mount_id.value.as_ref().unwrap()).unwrap();
    let resolved: Vec<String> = line
        .lowerdir
        .iter()
        .map(|link| root.join("overlay2").join(link).canonicalize().unwrap().display().to_string())
        .collect();
    let lower = &data.iter().find(|(name, _)| name == "LowerDir").unwrap().1;
    assert_eq!(&resolved.join(":"), lower);
    let mounted = root.containers.mount(&made, strata_graphdriver::Access::ReadWrite).unwrap();
    let live = container_of(root.explain("box")).mount.unwrap();
    assert!(live.mounted && live.line.contains(mounted.path().to_str().unwrap()), "{live:?}");
    assert_eq!(live.lowerdir.len(), 4, "{live:?}");
    drop(mounted);
    let text = E::Container(found).to_string();
    assert!(text.contains("/etc/hosts") && text.contains("read-write") && text.contains("lowerdir=l/"), "{text}");
}

#[test]
fn a_layer_by_each_of_its_names() {
    let Some(()) = require::device_nodes() else { return };
    let root = Root::new();
    let id = image(&root, "made:1", &three_layers());
    container(&root, id, "box");
    let config = root.images.get(id).unwrap();
    let chain = chain_ids(config.diff_ids()).nth(1).unwrap();
    let layer = root.layers.get(chain).unwrap();
    let cache = layer.cache_id.as_str();
    let link = fs::read_to_string(root.join("overlay2").join(cache).join("link")).unwrap();
    let names = [chain.to_string(), chain.hex(), chain.hex()[..12].to_owned(), layer.diff_id.to_string()];
    let more = [layer.diff_id.hex()[..12].to_owned(), cache.to_owned(), cache[..8].to_owned(), link];
    for name in names.into_iter().chain(more) {
        match root.explain(&name) {
            E::Layer(found) => {
                assert_eq!(found.facts.chain_id.value, Some(chain), "{name}");
                assert_eq!((found.depth, found.entries.value), (2, Some(7)), "{name}");
                assert_eq!(found.images[0].names, ["made:1"]);
                assert_eq!(found.containers[0].name.as_deref(), Some("box"));
                assert_eq!(found.problems, []);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn what_is_not_there_says_what_was_tried() {
    let root = Root::new();
    for text in ["nothing", "abcdef012345", "sha256:zz", "", "/", "..", "NO:/etc", "l/x", "\u{0}", "-"] {
        let error = explain(&root.stores(), text).expect_err(text);
        assert!(matches!(error, Error::NotFound { .. } | Error::Outside { .. }), "{text}: {error}");
    }
    let error = explain(&root.stores(), "nothing").unwrap_err().to_string();
    assert!(error.contains("container") && error.contains("DiffID") && error.contains("\"nothing\""), "{error}");
    let error = explain(&root.stores(), "/etc/passwd").unwrap_err().to_string();
    assert!(error.contains("not under the data root"), "{error}");
}

#[test]
fn paths_say_whose_they_are() {
    let Some(()) = require::device_nodes() else { return };
    let root = Root::new();
    let id = image(&root, "made:1", &three_layers());
    let made = container(&root, id, "box");
    let config = root.images.get(id).unwrap();
    let base = root.layers.get(chain_ids(config.diff_ids()).next().unwrap()).unwrap();
    let second = root.layers.get(chain_ids(config.diff_ids()).nth(1).unwrap()).unwrap();
    let mount = root.layers.mount(&made.id).unwrap();
    let (cache, chain) = (base.cache_id.as_str(), base.chain_id.hex());
    let link = fs::read_to_string(root.join("overlay2").join(cache).join("link")).unwrap();
    let orphan = "ab".repeat(32);
    fs::create_dir_all(root.join("overlay2").join(&orphan).join("diff")).unwrap();
    let cases = [
        ("", "the data root", None),
        (&*format!("overlay2/{cache}/diff/etc/passwd"), "a file of layer", Some("/etc/passwd")),
        (&*format!("overlay2/l/{link}/usr/bin/tool"), "a file of layer", Some("/usr/bin/tool")),
        (&*format!("overlay2/l/{link}"), "the short name of the folder", None),
        (&*format!("overlay2/{cache}"), "the folder of layer", None),
        (&*format!("overlay2/{cache}/link"), "the name in l/ of layer", None),
        (
            &*format!("overlay2/{}/diff/etc/motd", second.cache_id),
            "a whiteout, which deletes /etc/motd",
            Some("/etc/motd"),
        ),
        (&*format!("overlay2/{}/diff", mount.mount_id), "the files of the read-write layer of container box", None),
        (&*format!("overlay2/{}/lower", mount.mount_id.init()), "of the init layer of container box", None),
        (&*format!("overlay2/{orphan}/diff/x"), "an orphan: no layer and no container names this folder", Some("/x")),
        (&*format!("image/overlay2/layerdb/sha256/{chain}/size"), "bytes of a layer's files", None),
        (&*format!("image/overlay2/layerdb/mounts/{}/mount-id", made.id), "read-write layer", None),
        (&*format!("image/overlay2/imagedb/content/sha256/{}", id.hex()), "the config of an image", None),
        ("image/overlay2/repositories.json", "what images are called", None),
        (&*format!("containers/{}/hosts", made.id), "bound over /etc/hosts", Some("/etc/hosts")),
        ("strata/journal", "what running operations intend", None),
        ("network/files", "Docker's networks", None),
        ("what/is/that", "nothing that Docker or Strata is known to write", None),
    ];
    for (path, what, inside) in cases {
        let found = path_of(root.explain(root.join(path).to_str().unwrap()));
        assert!(found.what.contains(what), "{path}: {}", found.what);
        assert_eq!(found.inside.as_deref(), inside, "{path}");
        assert_eq!(found.problems, [], "{path}");
        assert!(E::Path(found).to_string().starts_with("Path "));
    }
    let found = path_of(root.explain(root.join(format!("overlay2/{cache}/diff/etc/passwd")).to_str().unwrap()));
    assert!(matches!(&found.owner, Owner::Layer { chain_id, .. } if *chain_id == base.chain_id));
    assert_eq!(found.images[0].names, ["made:1"]);
    assert_eq!(found.containers[0].name.as_deref(), Some("box"));
    let orphan = path_of(root.explain(&orphan));
    assert_eq!(orphan.owner, Owner::Orphan);
    // Relative to the root, and through a link that leads into it.
    assert_eq!(path_of(root.explain("image/overlay2/repositories.json")).path, "image/overlay2/repositories.json");
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root.join("image"), outside.path().join("i")).unwrap();
    let through = outside.path().join("i/overlay2/repositories.json");
    assert_eq!(path_of(root.explain(through.to_str().unwrap())).path, "image/overlay2/repositories.json");
}

#[test]
fn a_file_of_a_container_and_what_hides_it() {
    let Some(()) = require::device_nodes() else { return };
    let root = Root::new();
    let id = image(&root, "made:1", &three_layers());
    let made = container(&root, id, "box");
    let upper = upper(&root, &made);
    // Layers from the top: 1 read-write, 2 init, 3 to 5 the image's.
    let changed = file_of(root.explain("box:/etc/passwd"));
    assert_eq!((changed.provided_by, changed.problems.len()), (Some(4), 0), "{changed:#?}");
    assert_eq!(changed.layers[4].state, State::Hidden);
    let hidden = changed.layers[4].hidden.clone().unwrap();
    assert_eq!((hidden.by, hidden.why, &*hidden.at), (4, Why::File, "/etc/passwd"));

    let deleted = file_of(root.explain("box:/etc/motd"));
    assert_eq!(deleted.provided_by, None);
    assert_eq!((deleted.layers[3].state, deleted.layers[4].state), (State::Whiteout, State::Hidden));
    assert_eq!(deleted.verdict, "deleted by layer 4; layer 5 still has it (8 bytes)");

    let replaced = file_of(root.explain("box:/opt/old/a"));
    assert_eq!(replaced.layers[4].hidden.clone().unwrap().why, Why::Opaque);
    assert_eq!(replaced.verdict, "gone: layer 4 replaces the directory /opt/old; layer 5 still has it (1 bytes)");

    let linked = file_of(root.explain("box:/bin/tool"));
    assert_eq!((&*linked.resolved, linked.provided_by), ("/usr/bin/tool", Some(5)));
    assert_eq!((&*linked.hops[0].link, &*linked.hops[0].target), ("/bin", "usr/bin"));
    assert_eq!(file_of(root.explain("box:/bin/../bin/./tool")).resolved, "/usr/bin/tool");
    assert_eq!(file_of(root.explain("box:/../../etc/passwd")).resolved, "/etc/passwd");
    let link = file_of(root.explain("box:/bin"));
    assert_eq!(link.layers[4].file.as_ref().unwrap().target.as_deref(), Some("usr/bin"));

    let merged = file_of(root.explain("box:/etc"));
    let states: Vec<State> = merged.layers.iter().map(|says| says.state).collect();
    assert_eq!(merged.provided_by, Some(2), "{states:?}");
    assert!(states[2..].iter().filter(|state| **state == State::Merged).count() == 2, "{states:?}");
    assert_eq!(file_of(root.explain("box:/")).provided_by, Some(1));

    assert_eq!(file_of(root.explain("box:/nowhere/at/all")).verdict, "is in no layer");
    assert_eq!(file_of(root.explain("box:/etc/passwd/x")).verdict, "is in no layer");
    assert!(file_of(root.explain("box:/etc/hosts")).cover.unwrap().source.ends_with("/hosts"));
    assert_eq!(file_of(root.explain("box:/proc/1")).cover.unwrap().source, "proc");

    // Copied up without a change of content, and with one.
    fs::create_dir_all(upper.join("usr/bin")).unwrap();
    fs::write(upper.join("usr/bin/tool"), "tool 1").unwrap();
    let copied = file_of(root.explain("box:/usr/bin/tool"));
    assert_eq!((copied.provided_by, copied.same_content_as), (Some(1), Some(5)), "{copied:#?}");
    assert!(copied.verdict.contains("copied up from layer 5"), "{}", copied.verdict);
    fs::write(upper.join("usr/bin/tool"), "tool 2").unwrap();
    assert_eq!(file_of(root.explain("box:/usr/bin/tool")).same_content_as, None);

    let of_image = file_of(root.explain("made:1:/etc/passwd"));
    assert_eq!((of_image.provided_by, of_image.layers.len()), (Some(2), 3));
    let error = explain(&root.stores(), "nobody:/etc/passwd").unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let text = E::File(deleted).to_string();
    assert!(text.contains("deletes") && text.contains("hidden"), "{text}");
}

#[test]
fn links_that_go_in_circles_end() {
    let Some(()) = require::device_nodes() else { return };
    let root = Root::new();
    let layer = tar(&[Entry::Link("a", "b"), Entry::Link("b", "/a"), Entry::Link("out", "../../../etc")]);
    let id = image(&root, "round:1", &[layer]);
    container(&root, id, "box");
    let error = explain(&root.stores(), "box:/a/x").unwrap_err().to_string();
    assert!(error.contains("symbolic links"), "{error}");
    assert_eq!(file_of(root.explain("box:/out/hosts")).resolved, "/etc/hosts");
}

#[test]
fn renamed_directories_and_copies_without_content_are_understood() {
    let Some(()) = require::device_nodes() else { return };
    let root = Root::new();
    if require::trusted_xattrs(root.path()).is_none() {
        return;
    }
    let id = image(&root, "made:1", &three_layers());
    let made = container(&root, id, "box");
    let upper = upper(&root, &made);
    let set =
        |path: &str, name: &str, value: &str| strata_sys::xattr::set(upper.join(path), name, value.as_bytes()).unwrap();
    // mv /usr /moved, with redirect_dir=on
    fs::create_dir_all(upper.join("moved")).unwrap();
    set("moved", "trusted.overlay.redirect", "/usr");
    let moved = file_of(root.explain("box:/moved/bin/tool"));
    assert_eq!((moved.provided_by, &*moved.layers[4].at), (Some(5), "/usr/bin/tool"), "{moved:#?}");
    // chmod /srv/data, with metacopy=on
    fs::create_dir_all(upper.join("srv")).unwrap();
    fs::File::create(upper.join("srv/data")).unwrap().set_len(4).unwrap();
    set("srv/data", "trusted.overlay.metacopy", "");
    let copied = file_of(root.explain("box:/srv/data"));
    assert_eq!((copied.provided_by, copied.content_from), (Some(1), Some(3)), "{copied:#?}");
    assert!(copied.verdict.contains("(content)"), "{}", copied.verdict);
}

#[test]
fn the_json_is_stable() {
    let Some(()) = require::device_nodes() else { return };
    let root = Root::new();
    let id = image(&root, "made:1", &three_layers()[..1]);
    container(&root, id, "box");
    let keys = |text: &str| {
        let value = serde_json::to_value(root.explain(text)).unwrap();
        let object = value.as_object().unwrap().clone();
        (object["kind"].as_str().unwrap().to_owned(), object.keys().skip(1).cloned().collect::<Vec<_>>().join(" "))
    };
    let image = "id names created platform size layers mount containers problems";
    assert_eq!(keys("made:1"), ("image".into(), image.into()));
    let container = "id name state exit_code created image image_id mount_id init_id parent layers mount driver bound size image_size problems";
    assert_eq!(keys("box"), ("container".into(), container.into()));
    let file = "object path resolved hops provided_by verdict layers problems";
    assert_eq!(keys("box:/etc/passwd"), ("file".into(), file.into()));
    assert_eq!(keys("image"), ("path".into(), "path what owner file images containers problems".into()));
    let layer = root.images.get(id).unwrap().diff_ids()[0].to_string();
    let layer_keys = "facts depth driver entries same_diff_id images containers problems";
    assert_eq!(keys(&layer), ("layer".into(), layer_keys.into()));
    let value = serde_json::to_value(root.explain("made:1")).unwrap();
    let cache = &value["layers"][0]["facts"]["cache_id"];
    assert_eq!(cache["how"], "the file's text");
    assert!(cache["file"].as_str().unwrap().ends_with("/cache-id") && cache["value"].is_string());
}
