//! One root, used in turns by this store and by a real dockerd.

mod common;

use std::{fs, path::Path, process::Command};

use common::*;
use strata_layer::{Depth, Store};
use strata_spec::ContainerId;
use strata_testkit::{Dockerd, Scratch, require, scratch};

/// What `docker inspect` says of a container's or image's driver data, as name and value.
fn graph(dockerd: &Dockerd, object: &str) -> Vec<(String, String)> {
    let format = "{{range $name, $value := .GraphDriver.Data}}{{$name}} {{$value}}\n{{end}}";
    let text = dockerd.docker(&["inspect", "-f", format, object]);
    text.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

/// An image of one program, imported.
fn import(dockerd: &Dockerd, scratch: &Scratch, busybox: &Path) {
    let root = scratch.join("busybox");
    fs::create_dir_all(root.join("bin")).expect("create");
    fs::create_dir_all(root.join("etc/old")).expect("create");
    fs::copy(busybox, root.join("bin/busybox")).expect("copy");
    let tar = scratch.join("busybox.tar").display().to_string();
    let packed = Command::new("tar").args(["-C"]).arg(&root).args(["-cf", &tar, "."]).status().expect("run tar");
    assert!(packed.success());
    dockerd.docker(&["import", &tar, "busybox:1"]);
}

const BUSYBOX: [&str; 3] = ["busybox:1", "/bin/busybox", "sh"];

fn with_container(args: &[&str], script: &str) -> Vec<String> {
    let mut all: Vec<String> = args.iter().chain(&BUSYBOX).map(|arg| arg.to_string()).collect();
    all.extend(["-c".to_owned(), script.to_owned()]);
    all
}

fn changes(store: &Store, id: &ContainerId) -> Vec<String> {
    let mount = store.mount(id).expect("look up");
    let letter = |kind| match kind {
        strata_archive::diff::ChangeKind::Modified => 'C',
        strata_archive::diff::ChangeKind::Added => 'A',
        strata_archive::diff::ChangeKind::Deleted => 'D',
    };
    let changes = mount.changes(store).expect("changes");
    let mut lines: Vec<_> = changes.iter().map(|c| format!("{} {}", letter(c.kind), c.path.display())).collect();
    lines.sort();
    lines
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_root_is_used_in_turns() {
    let Some(()) = require::root() else { return };
    let Some(()) = require::overlay() else { return };
    let Some(busybox) = require::program("busybox") else { return };
    let scratch = scratch();
    let root = scratch.join("root");

    // Docker writes.
    let Some(dockerd) = Dockerd::start(&root) else { return };
    import(&dockerd, &scratch, &busybox);
    let run = |args: &[&str], script: &str| {
        let args = with_container(args, script);
        dockerd.docker(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let created =
        run(&["create", "--network=none", "--name=created"], "echo $(/bin/busybox cat /etc/hostname-of-test) > /out");
    run(
        &["run", "--network=none", "--name=ran"],
        "echo 1 > /one; /bin/busybox rm -r /etc/old; /bin/busybox mkdir /etc/old",
    );
    let ran = dockerd.docker(&["inspect", "-f", "{{.Id}}", "ran"]);
    dockerd.docker(&["commit", "ran", "busybox:2"]);
    let [created, ran] = [created, ran].map(|id| id.parse::<ContainerId>().expect("an ID"));
    let docker_says = [graph(&dockerd, "created"), graph(&dockerd, "ran"), graph(&dockerd, "busybox:2")];
    let docker_diff = sorted(&dockerd.docker(&["diff", "ran"]));
    let size = dockerd.docker(&["inspect", "-s", "-f", "{{.SizeRw}}", "ran"]);
    drop(dockerd);

    // This store reads what Docker wrote, and writes in its place.
    let store = open(&root);
    assert_sound(&store, &"after dockerd");
    let mount = store.mount(&created).expect("look up");
    assert_eq!(store.driver().metadata(&mount.mount_id).expect("metadata"), docker_says[0]);
    assert_eq!(
        store.driver().metadata(&store.mount(&ran).expect("look up").mount_id).expect("metadata"),
        docker_says[1]
    );
    assert_eq!(changes(&store, &ran), docker_diff);
    assert_eq!(store.mount(&ran).expect("look up").size(&store).expect("size").to_string(), size);
    let top = store.list().expect("list").into_iter().find(|id| store.chain(*id).is_ok_and(|chain| chain.len() == 2));
    let top = store.get(top.expect("the committed image")).expect("get");
    assert_eq!(store.driver().metadata(&top.cache_id).expect("metadata"), docker_says[2]);

    store.remove_mount(&created).expect("remove");
    let init = |root: &Path| {
        strata_durable::write(&root.join("etc/hostname-of-test"), b"ours", 0o644)?;
        // What dockerd mounts over.
        for name in ["etc/hosts", "etc/hostname", "etc/resolv.conf", ".dockerenv"] {
            strata_durable::write(&root.join(name), b"", 0o755)?;
        }
        ["dev/pts", "dev/shm", "proc", "sys"]
            .iter()
            .try_for_each(|name| strata_durable::create_dir_all(&root.join(name), 0o755))
    };
    store.create_mount(&created, mount.parent, init).expect("create");
    let extra = add(&store, Some(top.chain_id), &[layer_tar(1)], |_| {}).expect("register");
    assert_sound(&store, &"after our turn");
    drop(store);

    // Docker uses what this store wrote.
    let Some(dockerd) = Dockerd::start(&root) else { panic!("dockerd starts no more") };
    dockerd.docker(&["start", "-a", "created"]);
    assert_eq!(dockerd.docker(&["diff", "created"]), "A /out");
    dockerd.docker(&["commit", "created", "busybox:3"]);
    assert_eq!(dockerd.docker(&["run", "--rm", "--network=none", "busybox:3", "/bin/busybox", "cat", "/out"]), "ours");
    dockerd.docker(&["rm", "ran", "created"]);
    dockerd.docker(&["rmi", "busybox:3"]);
    drop(dockerd);

    let store = open(&root);
    assert_eq!(store.list_mounts().expect("list"), []);
    assert_eq!(store.release(extra[0].chain_id, &|id| id != extra[0].chain_id).expect("release"), [extra[0].chain_id]);
    assert_sound(&store, &"after dockerd's second turn");
    assert_eq!(store.list().expect("list").len(), 2);
    assert!(store.verify(Depth::Metadata).is_empty());
}
