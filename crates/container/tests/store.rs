//! Containers are made, found, changed, committed, copied into and out of, and removed; nothing of them runs here.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use common::*;
use strata_archive::{diff::ChangeKind, tar::Reader};
use strata_container::{CommitRequest, CopyOptions, Error, RemoveOptions, Request};
use strata_graphdriver::Access;
use strata_spec::ErrorKind;

#[test]
fn a_container_is_made_found_and_removed() {
    let Some(bench) = bench() else { return };
    let store = &bench.stores.containers;
    let one = bench.stores.create(bench.image, &request("one", &["echo", "hi"])).unwrap();
    let two = bench.stores.create(bench.image, &Request { image: "small".into(), ..Request::default() }).unwrap();
    let id = one.id.as_str();
    for text in [id, &id[..12], &id[..30], "one", "/one"] {
        assert_eq!(store.get(text).unwrap(), one, "{text}");
    }
    assert!(two.name().contains('_') && two.record.network_settings.is_anonymous_endpoint);
    let listing = store.list().unwrap();
    assert_eq!((&listing.containers[0], &listing.containers[1]), (&two, &one), "the newest first");
    assert_eq!((one.record.path.as_str(), one.record.args.as_slice()), ("echo", &["hi".to_owned()][..]));

    let mut dir = bench.names(&format!("containers/{id}"));
    dir.sort();
    assert_eq!(dir, ["checkpoints", "config.v2.json", "hostconfig.json"]);
    use std::os::unix::fs::PermissionsExt;
    let mode =
        |path: &str| fs::metadata(bench.root().join("containers").join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(""), 0o710);
    assert_eq!((mode(id), mode(&format!("{id}/config.v2.json"))), (0o710, 0o600));
    assert_eq!(mode(&format!("{id}/hostconfig.json")), 0o644);

    for container in [one, two] {
        store.remove(&container.id, RemoveOptions::default()).unwrap();
        assert_eq!(store.get(container.id.as_str()).unwrap_err().kind(), ErrorKind::NotFound);
    }
    bench.assert_bare();
}

#[test]
fn names_are_given_once() {
    let Some(bench) = bench() else { return };
    let store = &bench.stores.containers;
    let one = bench.stores.create(bench.image, &request("one", &[])).unwrap();
    let error = bench.stores.create(bench.image, &request("one", &[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Conflict. The container name \"/one\" is already in use by container \"{}\". You have to remove (or rename) \
             that container to be able to reuse that name.",
            one.id
        )
    );
    let error = bench.stores.create(bench.image, &request("a/b", &[])).unwrap_err();
    assert_eq!(error.to_string(), "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    assert_eq!(store.get("nobody").unwrap_err().to_string(), "No such container: nobody");
    assert_eq!(store.get("").unwrap_err().kind(), ErrorKind::NotFound);
    store.remove(&one.id, RemoveOptions::default()).unwrap();

    // Of many at once who want one name, one gets it.
    let wins = std::thread::scope(|scope| {
        let create = || bench.stores.create(bench.image, &request("many", &[])).is_ok();
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(create)).collect();
        threads.into_iter().filter(|_| true).map(|thread| thread.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(wins, 1);
    store.remove(&store.resolve("many").unwrap(), RemoveOptions::default()).unwrap();
    bench.assert_bare();
}

#[test]
fn an_id_that_begins_two_is_ambiguous() {
    let Some(bench) = bench() else { return };
    let mut first_digits = std::collections::HashSet::new();
    let mut count = 0;
    let twice = loop {
        let container =
            bench.stores.create(bench.image, &Request { image: "small".into(), ..Request::default() }).unwrap();
        count += 1;
        let digit = container.id.as_str()[..1].to_owned();
        if !first_digits.insert(digit.clone()) {
            break digit;
        }
    };
    assert!(count <= 17, "there are sixteen digits");
    let error = bench.stores.containers.get(&twice).unwrap_err();
    assert_eq!(error.to_string(), format!("Multiple IDs found with provided prefix: {twice}"));
}

#[test]
fn a_damaged_record_is_told_and_harms_no_other() {
    let Some(bench) = bench() else { return };
    let store = &bench.stores.containers;
    let good = bench.stores.create(bench.image, &request("good", &[])).unwrap();
    for (name, content) in [("empty", &b""[..]), ("torn", b"{\"ID\":"), ("other", b"{\"ID\":\"x\"}")] {
        let bad = bench.stores.create(bench.image, &request(name, &[])).unwrap();
        fs::write(store.layout().container(&bad.id).record(), content).unwrap();
        let listing = store.list().unwrap();
        assert_eq!(listing.containers, std::slice::from_ref(&good));
        assert_eq!(listing.damaged.len(), 1, "{name}");
        assert!(listing.damaged[0].path.ends_with("config.v2.json"), "{:?}", listing.damaged);
        assert_eq!(store.get("good").unwrap(), good);
        assert_eq!(store.get(bad.id.as_str()).unwrap_err().kind(), ErrorKind::Damaged);
        let error = store.remove(&bad.id, RemoveOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        store.remove(&bad.id, RemoveOptions { force: true, volumes: true }).unwrap();
    }
    store.remove(&good.id, RemoveOptions::default()).unwrap();
    bench.assert_bare();
}

#[test]
fn volumes_of_the_image_begin_with_what_it_has_there() {
    let Some(bench) = bench() else { return };
    let image =
        bench.stores.import(&bench.scratch.join("tree"), "vol", &["CMD [\"sh\"]", "VOLUME /data /new", "WORKDIR /w/x"]);
    let asked = Request { volumes: strings(&["/extra"]), ..request("vol", &[]) };
    let container = bench.stores.create(image, &asked).unwrap();
    let points = &container.record.mount_points;
    assert_eq!(points.keys().collect::<Vec<_>>(), ["/data", "/extra", "/new"]);
    let data = points["/data"].host_path(bench.stores.containers.layout());
    assert_eq!(fs::read(data.join("sub/seed")).unwrap(), b"seed\n");
    let layer = bench.stores.containers.mount(&container, Access::ReadOnly).unwrap();
    assert!(layer.path().join("w/x").is_dir(), "the working directory is made");
    drop(layer);
    assert_eq!(bench.names("volumes").len(), 3);
    let inspect = bench.stores.containers.inspect(&container, true).unwrap();
    assert_eq!(inspect.mounts[0].source, data.to_str().unwrap());
    assert!(inspect.size_root_fs.unwrap() >= inspect.size_rw.unwrap());
    bench.stores.containers.remove(&container.id, RemoveOptions { force: false, volumes: true }).unwrap();
    bench.assert_bare();
}

#[test]
fn a_failed_creation_leaves_nothing() {
    let Some(bench) = bench() else { return };
    let image = bench.stores.import(&bench.scratch.join("tree"), "bad", &["CMD [\"sh\"]", "VOLUME /data /file"]);
    let error = bench.stores.create(image, &request("bad", &[])).unwrap_err();
    assert!(error.to_string().contains("cannot mount volume over existing file"), "{error}");
    let asked = Request { working_dir: Some("/file/x".into()), ..request("bad", &[]) };
    let error = bench.stores.create(bench.image, &asked).unwrap_err();
    assert_eq!(error.to_string(), "Cannot mkdir: /file/x is not a directory");
    bench.assert_bare();
}

/// Changes the container: `/file` replaced, `/data` deleted, `/new` added.
fn change(bench: &Bench, container: &strata_container::Container) {
    let mounted = bench.stores.containers.mount(container, Access::ReadWrite).unwrap();
    fs::write(mounted.path().join("file"), "of the container\n").unwrap();
    fs::remove_dir_all(mounted.path().join("data")).unwrap();
    fs::create_dir(mounted.path().join("new")).unwrap();
    fs::write(mounted.path().join("new/n"), "n").unwrap();
}

#[test]
fn changes_are_told_and_committed_without_the_init_layer() {
    let Some(bench) = bench() else { return };
    let store = &bench.stores.containers;
    let container = bench.stores.create(bench.image, &request("one", &["echo", "a", "b"])).unwrap();
    assert!(store.changes(&container).unwrap().is_empty());
    let request = CommitRequest {
        author: "me".into(),
        comment: "why".into(),
        changes: strings(&["ENV B=2", "LABEL l=1", "CMD [\"other\"]"]),
        created: Some("2024-01-02T03:04:05Z".parse().unwrap()),
        name: None,
        ..CommitRequest::default()
    };
    // Nothing changed: no layer.
    let same = store.commit(&bench.stores.images, &container, &request).unwrap();
    let base = bench.stores.images.get(bench.image).unwrap();
    let config = bench.stores.images.get(same).unwrap();
    assert_eq!(config.diff_ids(), base.diff_ids());
    assert!(config.document().history.last().unwrap().empty_layer);

    change(&bench, &container);
    let changes: Vec<_> =
        store.changes(&container).unwrap().into_iter().map(|c| (c.path.to_str().unwrap().to_owned(), c.kind)).collect();
    assert_eq!(
        changes,
        [
            ("/data".to_owned(), ChangeKind::Deleted),
            ("/file".to_owned(), ChangeKind::Modified),
            ("/new".to_owned(), ChangeKind::Added),
            ("/new/n".to_owned(), ChangeKind::Added),
        ]
    );
    let id = store.commit(&bench.stores.images, &container, &request).unwrap();
    assert_eq!(store.commit(&bench.stores.images, &container, &request).unwrap(), id, "the same time, the same image");
    let config = bench.stores.images.get(id).unwrap();
    let document = config.document();
    assert_eq!(config.diff_ids().len(), 2);
    let last = document.history.last().unwrap();
    assert_eq!((last.created_by.as_str(), last.comment.as_str(), last.author.as_str()), ("echo a b", "why", "me"));
    let run = document.config.as_ref().unwrap();
    assert_eq!(run.env.as_deref().unwrap(), ["PATH=/bin", "A=1", "B=2"]);
    assert_eq!(run.cmd.as_deref().unwrap(), ["other"]);
    assert_eq!(document.container, container.id.as_str());
    assert_eq!(bench.stores.images.parent(id).unwrap(), Some(bench.image));

    let again = bench.stores.create(id, &Request { image: "x".into(), ..Request::default() }).unwrap();
    let mounted = store.mount(&again, Access::ReadOnly).unwrap();
    assert_eq!(fs::read(mounted.path().join("file")).unwrap(), b"of the container\n");
    assert!(!mounted.path().join("data").exists() && mounted.path().join("new/n").exists());
    drop(mounted);
    // The image's own hosts is not the init layer's.
    let layers = bench.stores.images.layers();
    let top = layers.chain(strata_spec::chain_id(config.diff_ids()).unwrap()).unwrap();
    let own = layers.driver().folder(&top[0].cache_id).unwrap().path;
    assert!(!own.join("etc").exists() && !own.join(".dockerenv").exists());
}

#[test]
fn an_export_is_the_whole_tree() {
    let Some(bench) = bench() else { return };
    let container = bench.stores.create(bench.image, &request("one", &[])).unwrap();
    change(&bench, &container);
    let mut tar = Vec::new();
    bench.stores.containers.export(&container, &mut tar).unwrap();
    let mut names = Vec::new();
    let mut reader = Reader::new(&tar[..], &strata_archive::Limits::default());
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(entry.display_name().into_owned());
    }
    for name in [".dockerenv", "etc/hosts", "etc/passwd", "file", "new/n", "proc/"] {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
    assert!(!names.iter().any(|n| n.starts_with("data")));
}

#[test]
fn files_are_copied_in_and_out() {
    let Some(bench) = bench() else { return };
    let store = &bench.stores.containers;
    let volume = bench.scratch.join("bound");
    fs::create_dir(&volume).unwrap();
    let bind = format!("{}:/mnt", volume.display());
    let container = bench.stores.create(bench.image, &Request { volumes: vec![bind], ..request("one", &[]) }).unwrap();
    let (from, to, options) = (bench.scratch.join("tree"), bench.scratch.join("out"), CopyOptions::default());

    store.copy_in(&from, &container, Path::new("/copy"), options).unwrap();
    store.copy_out(&container, Path::new("copy"), &to, options).unwrap();
    assert_eq!(fs::read(to.join("data/sub/seed")).unwrap(), b"seed\n");
    // What is bound into the container is what is written to, and read.
    store.copy_in(&from.join("file"), &container, Path::new("/mnt"), options).unwrap();
    assert_eq!(fs::read(volume.join("file")).unwrap(), b"of the image\n");
    let mut stream = Vec::new();
    store.copy_out_stream(&container, Path::new("/"), &mut stream, options).unwrap();
    let mut reader = Reader::new(&stream[..], &strata_archive::Limits::default());
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(entry.display_name().into_owned());
    }
    assert!(names.iter().any(|name| name.trim_start_matches("./") == "mnt/file"), "{names:?}");

    let mut stream = Vec::new();
    store.copy_out_stream(&container, Path::new("/copy/."), &mut stream, options).unwrap();
    store.copy_in_stream(&stream[..], &container, Path::new("/data"), options).unwrap();
    assert!(store.changes(&container).unwrap().iter().any(|c| c.path == Path::new("/data/data/sub/seed")));
    for (error, why) in [
        (
            store.copy_out(&container, Path::new("/none"), &to, options),
            "Could not find the file /none in container one",
        ),
        (
            store.copy_in_stream(&b""[..], &container, Path::new("/file"), options),
            "destination \"one:/file\" must be a directory",
        ),
        (store.copy_in(&from, &container, Path::new("/file"), options), "cannot copy directory"),
        (store.copy_in(&from, &container, Path::new("/no/dir"), options), "Could not find the file /no"),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(store.stat_path(&container, Path::new("/file")).unwrap().size, 13);

    let read_only =
        Request { read_only: true, volumes: vec![format!("{}:/mnt:ro", volume.display())], ..request("ro", &[]) };
    let container = bench.stores.create(bench.image, &read_only).unwrap();
    let error = store.copy_in(&from, &container, Path::new("/"), options).unwrap_err();
    assert!(matches!(error, Error::ReadOnlyRoot), "{error}");
    let error = store.copy_in(&from, &container, Path::new("/mnt"), options).unwrap_err();
    assert!(matches!(error, Error::VolumeReadOnly), "{error}");
}
